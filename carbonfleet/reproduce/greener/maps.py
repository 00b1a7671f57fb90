"""Every figure of a full instance over lengths, batch, tp and clock."""

from __future__ import annotations

from typing import Any

from carbonfleet.reproduce.greener.paper import CLASSES, TBT_LIMIT_S, Lengths
from carbonfleet.reproduce.greener.server import MAX_NUM_SEQS, Gear, Server
from profiles.serve import kv_batch, serve

BATCHES = (1, 4, 16, 64, 256)
CLOCKS = (0.4, 0.6, 0.8, 1.0)


def rows(server: Server) -> list[dict[str, Any]]:
    """One a class, tp and clock, with a list over the batch; None where its KV does not fit."""
    return [
        _row(server, lengths, Gear(tp, clock, clock, server.instances(tp)))
        for lengths in CLASSES
        for tp in server.tps
        for clock in CLOCKS
    ]


def _row(server: Server, lengths: Lengths, gear: Gear) -> dict[str, Any]:
    """TTFT is a prompt's prefill and half a step, without a queue; watts and tokens are the whole server's."""
    columns: dict[str, list[float | None]] = {
        name: [] for name in ("ttft_s", "tbt_s", "output_tokens_per_s", "power_w", "j_per_output_token")
    }
    model = server.model(gear)
    fits = min(MAX_NUM_SEQS, kv_batch(model, lengths.prompt, lengths.output))
    for batch in BATCHES:
        one = serve(model, lengths.prompt, lengths.output, batch) if batch <= fits else None
        made: tuple[float | None, ...] = (None,) * len(columns)
        if one is not None:
            tokens_per_s = gear.used * one.requests_per_s * lengths.output
            power_w = gear.used * one.energy_j / one.instance_s
            made = (one.prefill_s + 0.5 * one.step_s, one.tpot_s, tokens_per_s, power_w, power_w / tokens_per_s)
        for column, value in zip(columns.values(), made, strict=True):
            column.append(value)
    full = server.full(gear, lengths.prompt, lengths.output)
    return {
        "class": lengths.name,
        "tp": gear.tp,
        "clock": gear.decode_clock,
        "largest_batch": fits,
        "largest_batch_in_tbt_limit": full.batch if full else 0,
        "j_per_output_token_there": full.energy_j / lengths.output if full else None,
        **columns,
    }


def batch_rows(server: Server) -> list[dict[str, Any]]:
    """What a full batch saves against one of 1 and of 8 at full clock, by class and tp."""
    found = []
    for lengths in CLASSES:
        for tp in server.tps:
            gear = Gear(tp, 1.0, 1.0, server.instances(tp))
            full = server.full(gear, lengths.prompt, lengths.output)
            if full is None:
                continue
            at = {b: serve(server.model(gear), lengths.prompt, lengths.output, b) for b in (1, 8)}
            row = {"class": lengths.name, "tp": tp, "batch": full.batch, "tbt_limit_s": TBT_LIMIT_S}
            joules = {b: one.energy_j / lengths.output if one and one.batch == b else None for b, one in at.items()}
            row |= {f"j_per_output_token_at_{b}": value for b, value in joules.items()}
            found.append(row | {"j_per_output_token": full.energy_j / lengths.output})
    return found
