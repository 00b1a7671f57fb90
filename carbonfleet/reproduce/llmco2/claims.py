"""What the paper states beside ours, each with error and verdict; nothing here is fitted to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from carbonfleet.reproduce.llmco2.paper import CARDS, GAIN
from carbonfleet.reproduce.llmco2.requests import die_kg
from carbonfleet.reproduce.result import worded
from profiles import catalog
from profiles.embodied import gpu_embodied
from profiles.predict.equations import EFFICIENCY

DIFFERENT = 2.0  # from this factor on two figures are called different, a range variable
Rows = list[dict[str, Any]]


def claims(d: dict[str, Any]) -> Rows:
    """Inputs, then results; a result that needs rows which are not there has no figure of ours."""
    return [*_inputs(), *_gains(d["released"]), *_statements(d)]


def _row(name: str, kind: str, what: str, paper: float | None, ours: float | None, verdict: str) -> dict[str, Any]:
    error = None if paper is None or ours is None else ours / paper - 1.0
    return {"id": name, "kind": kind, "what": what, "paper": paper, "ours": ours, "error": error, "verdict": verdict}


def _inputs() -> Iterable[dict[str, Any]]:
    """The repository's cards beside the catalogue's, and LLMCarbon's dies beside ACT's chips."""
    for n, card in enumerate(CARDS):
        gpu = catalog.gpu(card.gpu)
        pairs = (
            ("bandwidth, GB/s", card.bandwidth_bytes_per_s / 1e9, gpu.bandwidth_bytes_per_s / 1e9),
            ("fp16, TFLOPS", card.flops_fp16 / 1e12, gpu.flops_bf16 / 1e12),
            ("embodied, kg: their die, our chip by ACT", die_kg(card), gpu_embodied(gpu, "act").mid_kg),
        )
        for k, (what, paper, ours) in enumerate(pairs):
            verdict = "equal" if abs(ours / paper - 1.0) < 5e-4 else worded(ours / paper - 1.0, True)
            yield _row(f"i{3 * n + k + 1}", "input", f"{card.gpu}: {what}", paper, ours, verdict)


def _gains(released: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
    """How much smaller the networks' error is than the forest's: forest / networks - 1, least and most."""
    gains = [] if released is None else list(_gain(released["table"]))
    for k, (word, paper) in enumerate(zip(("least", "most"), GAIN, strict=True)):
        ours = (min, max)[k](gains) if gains else None
        verdict = "not computed" if ours is None else worded(ours / paper - 1.0, ours > 0.0)
        yield _row(f"r{k + 1}", "result", f"networks' gain over a random forest, {word}", paper, ours, verdict)


def _gain(table: Rows) -> Iterable[float]:
    by = {(row["of"], row["predictor"]): row for row in table}
    for split in ("released", "longest"):
        if (split, "forest") in by and (split, "networks") in by:
            for key in ("prefill_mape", "decode_mape"):
                yield by[split, "forest"][key] / by[split, "networks"][key] - 1.0


def _statements(d: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """What the abstract says in words: 'lower and highly variable' use of FLOPS, wrong equations, distinct phases."""
    fit = [row for row in d["requests"] if not row["no_room"]]
    shares = [row["flops_utilization"] for row in fit]
    text = f"share of peak operations below the equations' {EFFICIENCY:g}, and variable: largest"
    low = max(shares) < EFFICIENCY and max(shares) / min(shares) >= DIFFERENT
    yield _row("r3", "result", text, None, max(shares), _holds(low))
    yield _row("r4", "result", "the same, smallest", None, min(shares), _holds(low))
    ratio = [row["decode_j_per_token"] / row["prefill_j_per_token"] for row in fit]
    text = "prefill and decode differ: joules of a decoded over a prompt token, least"
    yield _row("r5", "result", text, None, min(ratio), _holds(min(ratio) >= DIFFERENT))
    pairs = [(row["mape"], row["equations_mape"]) for row in d["measured"] or [] if row["tier"] != "cfg"]
    worse = sum(theirs > ours for ours, theirs in pairs) / len(pairs) if pairs else None
    text = "equations are inaccurate: share of withheld cells where they err more than the form"
    yield _row("r6", "result", text, None, worse, "not computed" if worse is None else _holds(worse > 0.5))


def _holds(fact: bool) -> str:
    return "holds" if fact else "miss"
