"""A Profile of a configuration that nobody measured, from the default predictor, for simulate and optimize.

Points are the serving form's plain prefill and decode steps, without the share of each other that serving averages
hold; the correction learned for a measured cell scales them alike. Tier and bands are those of the prediction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from profiles.inputs import InputError
from profiles.points import BATCHES, CHUNKS, CONTEXTS, PAST_CHUNKS, POWER_CONTEXT, digits
from profiles.predict import form
from profiles.predict.columns import Cell, Columns, Floats
from profiles.predict.predictor import TIERS
from profiles.predict.serving import Fitted, Serving, family
from profiles.profile import Band, DecodePoints, EngineTerm, Idle, Memory, PrefillPoints, Profile, Provenance

IDLE_SHARE = 0.174  # of the limit with weights loaded: the H100 SXM's 121.7 of 700 W (arXiv 2605.23918)
_NOTHING = 1e-6  # output tokens: only plain steps are asked for
_TYPICAL_OUTPUT = 512.0  # where the correction is read


def step_profile(model: Serving, cell: Cell) -> Profile:
    """The predicted profile of a configuration.

    Raises:
        InputError: the weights leave no room for KV, or prefill is served elsewhere.
    """
    if cell.apart:
        raise InputError("a profile holds both phases", field="apart", mend="ask for a configuration that serves both")
    fitted = model.families[family(cell)]
    asked = Columns.of([cell], [1.0], [1.0], [1.0])
    room = int(asked.work.capacity_tokens[0])
    weights, per_token = float(asked.work.weights_bytes[0]), cell.llm.kv_bytes_per_token(cell.kv)
    if room < CHUNKS[0]:
        raise InputError(
            f"{weights / 1e9:.0f} GB of weights leave no room for KV on {cell.world} x {cell.gpu.memory_gb:.0f} GB",
            mend="use more GPUs (tp) or a smaller precision",
        )
    p = fitted.parameters.columns(asked)
    step_s = float((p["host_s"] + p["layer_s"] * asked.work.layers + p["expert_layer_s"] * asked.work.expert_layers)[0])
    term = EngineTerm(step_s=digits(step_s), sequence_s=digits(float(p["sequence_s"][0])))
    times, watts = (TIERS[fitted.tier(cell, figure)] for figure in ("tpot", "power"))
    limit_w = float(asked.work.tdp_w[0]) * cell.world
    idle_w = (cell.gpu.idle_w or 0.0) * cell.world or None
    time, power = (fitted.band(name, cell) for name in ("tpot", "power"))
    return Profile(
        gpu=cell.gpu.name, model=cell.llm.name, tp=cell.world, precision=cell.linear, engine=cell.engine,
        layer="kernels",
        provenance=Provenance(
            kind="predicted", tier=max(times, watts, key=TIERS.index), source=model.source,
            licence="fitted figures only", date=datetime.now(UTC).strftime("%Y-%m-%d"),
            notes=[
                "predicted by the serving roofline; steps are split from serving averages by the fitted form",
                f"times {times}, watts {watts}",
                f"loaded idle: {IDLE_SHARE:.1%} of the limit, the H100 SXM's share; not measured on this GPU",
                "decode watts are those at a context of 1,024 tokens",
            ],
        ),
        band=Band(time=time, power=power),
        memory=Memory(weights_bytes=weights, kv_bytes_per_token=per_token, kv_capacity_tokens=room),
        idle=Idle(no_context_w=idle_w, loaded_w=digits(max(IDLE_SHARE * limit_w, idle_w or 0.0))),
        prefill=_prefill(fitted, cell, term, room), decode=_decode(fitted, cell, term, room), engine_term=term,
    )  # fmt: skip


def _decode(fitted: Fitted, cell: Cell, term: EngineTerm, room: int) -> DecodePoints:
    """The grid that fits memory; at least the smallest batch and context."""
    grid = [(b, c) for b in BATCHES for c in CONTEXTS if b * c <= room] or [(1, room)]
    batch, context = (np.array(x, dtype=float) for x in zip(*grid, strict=True))
    seconds, _ = _steps(fitted, _columns(cell, batch, context))
    _, watts = _steps(fitted, _columns(cell, batch, np.minimum(POWER_CONTEXT, room / batch)))
    host = term.step_s + term.sequence_s * batch
    return DecodePoints(
        batch=[b for b, _ in grid], kv_tokens=[b * c for b, c in grid], power_w=[digits(w) for w in watts],
        time_s=[digits(max(t - h, 0.1 * t)) for t, h in zip(seconds, host, strict=True)],
    )  # fmt: skip


def _prefill(fitted: Fitted, cell: Cell, term: EngineTerm, room: int) -> PrefillPoints:
    """First chunks that fit memory, and two with a past: the pairs they attend beside their own."""
    asked = [(n, 0) for n in CHUNKS if n <= room] + [(n, past) for n, past in PAST_CHUNKS if n + past <= room]
    new = np.array([n for n, _ in asked], dtype=float)
    past = np.array([b for _, b in asked], dtype=float)
    c = _columns(cell, np.ones(len(asked)), new)
    p = fitted.parameters.columns(c)
    w = c.work
    alone = form.prefill_s(c, p) + p["prompt_s"]
    alone += new * past * w.prompt_pair_flops / (w.base_peak * w.world * p["attention"])
    done = form.flops(c, new, new * (past + 0.5 * new))
    watts = form.watts(c, p, alone + term.step_s, 0.0 * new, done, form.weights_bytes(c, new), 0.0 * new)
    scale, draw = _corrections(fitted, c)
    return PrefillPoints(
        new_tokens=[n for n, _ in asked], past_tokens=[b for _, b in asked], sequences=[1] * len(asked),
        time_s=[digits(t) for t in alone * scale], power_w=[digits(x) for x in _capped(cell, watts * draw)],
    )  # fmt: skip


def _columns(cell: Cell, batch: Floats, context: Floats) -> Columns:
    return Columns((cell,), np.zeros(len(batch), dtype=np.int64), batch, context, np.full(len(batch), _NOTHING))


def _steps(fitted: Fitted, c: Columns) -> tuple[Floats, Floats]:
    """Seconds and watts of plain decode steps."""
    p = fitted.parameters.columns(c)
    t = form.times(c, p)
    w = c.work
    host = p["host_s"] + p["layer_s"] * w.layers + p["expert_layer_s"] * w.expert_layers + p["sequence_s"] * c.batch
    kv = form.kv_bytes(c, c.batch, c.prompt)
    done = form.flops(c, c.batch, c.batch * c.prompt)
    watts = form.watts(c, p, t.step_s, host, done, form.weights_bytes(c, c.batch), kv)
    scale, draw = _corrections(fitted, c)
    return t.step_s * scale, _capped(c.cells[0], watts * draw)


def _corrections(fitted: Fitted, c: Columns) -> tuple[Floats, Floats]:
    """Factors of time and watts at the middle of the batch axis: one a profile, so that its points stay in order."""
    usual = replace(
        c, batch=np.full(len(c), 32.0), prompt=np.full(len(c), 1024.0), output=np.full(len(c), _TYPICAL_OUTPUT)
    )
    return fitted.factor("tpot", usual), fitted.factor("power", usual)


def _capped(cell: Cell, watts: Floats) -> Floats:
    return np.asarray(np.minimum(watts, cell.world * (cell.gpu.tdp_w or np.inf)))
