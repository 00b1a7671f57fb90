"""What physics demands of our figures, and what the papers found beside what we find; each with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from statistics import median
from typing import Any

from carbonfleet.reproduce.greener.knobs import LOADS, SINGLE
from carbonfleet.reproduce.greener.paper import DECODE_LOCKED, HEADLINE_SAVING, WEEK_CARBON, WEEK_ENERGY

Document = dict[str, Any]
Check = tuple[str, bool, str]
SLOWS, HARDLY = 1.5, 1.05  # times as long at half clock
SMALL_BATCH = 64
MANY = 0.5  # of the cells
NEAR = 0.05  # points of a share
AGREES = 0.05  # median of |steady state / replay - 1|


def physics(d: Document) -> list[dict[str, Any]]:
    """What must hold whatever the profiles are."""
    return [
        {"check": text, "holds": holds, "evidence": evidence}
        for check in (_prefill_slows, _decode_hardly, _batch_saves, _interior, _from_idle, _order, _slower, _replayed)
        for text, holds, evidence in check(d)
    ]


def _curves(d: Document, phase: str, keep: Callable[[Document], bool] = lambda _: True) -> list[Document]:
    return [row for row in d["phases"] if row["phase"] == phase and keep(row)]


def _prefill_slows(d: Document) -> Iterable[Check]:
    rows = _curves(d, "prefill")
    if rows:
        least = min(row["time_at_half_clock"] for row in rows)
        yield (
            "prefill slows with the clock",
            least >= SLOWS,
            f"a long prompt takes {least:.2f} times or more at half clock",
        )


def _decode_hardly(d: Document) -> Iterable[Check]:
    rows = _curves(d, "decode", lambda row: row["size"] <= SMALL_BATCH)
    if rows:
        most = max(row["time_at_half_clock"] for row in rows)
        text = f"a step takes {most:.2f} times or less at half clock, up to batch {SMALL_BATCH}"
        yield "decode hardly slows", most <= HARDLY, text


def _batch_saves(d: Document) -> Iterable[Check]:
    rows = [[j for j in row["j_per_output_token"] if j is not None] for row in d["maps"]]
    falling = sum(all(a > b for a, b in pairwise(row)) for row in rows)
    yield "J/token falls with batch", falling == len(rows), f"in {falling} of {len(rows)} maps, at every step"


def _interior(d: Document) -> Iterable[Check]:
    rows = _curves(d, "prefill")
    inside = [row["interior"] for row in rows]
    text = ", ".join(f"tp{row['tp']} at {row['best_clock']:.2f}" for row in rows)
    if rows:
        yield "prefill takes least energy at a clock between the ends", all(inside), text


def _from_idle(d: Document) -> Iterable[Check]:
    best = [row["best_clock"] for row in d["optimum_by_idle"]]
    text = ", ".join(f"{row['best_clock']:.2f} at {row['idle_factor']:g} times" for row in d["optimum_by_idle"])
    rises = all(a < b for a, b in pairwise(best))
    yield "that clock comes out of idle against dynamic joules: it rises with idle power", rises, text


def _order(d: Document) -> Iterable[Check]:
    for prompt in _curves(d, "prefill"):
        every = _curves(d, "decode", lambda row: row["size"] <= SMALL_BATCH)
        steps = [row for row in every if row["tp"] == prompt["tp"]]
        if steps:
            text = ", ".join(f"{row['best_clock']:.2f} at batch {row['size']}" for row in steps)
            below = all(row["best_clock"] < prompt["best_clock"] for row in steps)
            yield f"tp{prompt['tp']}: decode's best clock lies below prefill's {prompt['best_clock']:.2f}", below, text


def _slower(d: Document) -> Iterable[Check]:
    """No latency falls and no watt rises with a lower clock."""
    groups: dict[tuple[str, int], list[Document]] = {}
    for row in d["maps"]:
        groups.setdefault((row["class"], row["tp"]), []).append(row)
    pairs = [(low, high) for rows in groups.values() for low, high in pairwise(rows)]
    kept = 0
    for low, high in pairs:
        at = [k for k, value in enumerate(low["ttft_s"]) if value is not None]
        slower = all(low[name][k] >= high[name][k] * (1 - 1e-9) for name in ("ttft_s", "tbt_s") for k in at)
        kept += slower and all(low["power_w"][k] <= high["power_w"][k] * (1 + 1e-9) for k in at)
    yield "a lower clock never shortens a latency or draws more", kept == len(pairs), f"{kept} of {len(pairs)} pairs"


def _replayed(d: Document) -> Iterable[Check]:
    rows = [row["baseline"] for row in d["knobs"] if row["baseline"]]
    if rows:
        off = [abs(row["power_w"] / row["replay"]["power_w"] - 1.0) for row in rows]
        text = f"baseline power: median {100 * median(off):.1f} %, worst {100 * max(off):.1f} % apart"
        yield "steady state and simulator agree", median(off) <= AGREES, text


def savings(d: Document, knob: str, load: str | None = None) -> list[float]:
    """Replayed savings of a knob, over all classes; "harmless" are those at steady state."""
    rows = [row for row in d["knobs"] if row["baseline"] and load in (None, row["load"])]
    return [row["harmless"]["saving"] if knob == "harmless" else row["knobs"][knob]["saving"] for row in rows]


def findings(d: Document) -> list[dict[str, Any]]:
    """Statements of the papers beside ours, with a verdict."""
    single = [max(values) for values in zip(*(savings(d, knob) for knob in SINGLE), strict=True)]
    cells = len(single)
    made = [
        _many("one knob within the limits", single, cells),
        _many("the clock alone within the limits", savings(d, "clock"), cells),
        _many("all knobs within the limits", savings(d, "all"), cells),
        _many("no mean latency up by more than 5 %", savings(d, "harmless"), cells),
        _winners(d),
        _by_load(d),
        _locked(d),
    ]
    last = d["week"]["policies"][-1]
    made.append(_beside("w1", "energy saved over a week, GPUs alone", WEEK_ENERGY, last["gpu_energy_j_saving"]))
    made.append(_beside("w2", "energy saved over a week, hosts and PUE too", WEEK_ENERGY, last["energy_j_saving"]))
    made.append(_beside("w3", "operational carbon saved over a week", WEEK_CARBON, last["operational_g_saving"]))
    return [{"id": row.get("id", f"g{k}")} | row for k, row in enumerate(made, 1)]


def _many(what: str, values: list[float], cells: int) -> dict[str, Any]:
    reached = sum(value >= HEADLINE_SAVING for value in values)
    verdict = "in many cases" if cells and reached / cells >= MANY else "in some cases" if reached else "in no case"
    return {
        "what": f"about 20 % of energy in many cases: {what}",
        "paper": HEADLINE_SAVING,
        "ours": median(values) if values else None,
        "unit": "share, median",
        "verdict": f"{verdict}: at least 20 % in {reached} of {cells}",
    }


def _winners(d: Document) -> dict[str, Any]:
    won: dict[str, int] = {}
    for row in d["knobs"]:
        if row["best"]:
            won[row["best"]] = won.get(row["best"], 0) + 1
    text = ", ".join(f"{name} {count}" for name, count in sorted(won.items(), key=lambda item: -item[1]))
    verdict = f"{'holds' if len(won) > 1 else 'does not hold'}: best knob by cells: {text or 'none'}"
    return {
        "what": "which knob saves most depends on lengths and load",
        "paper": None,
        "ours": None,
        "unit": "",
        "verdict": verdict,
    }


def _by_load(d: Document) -> dict[str, Any]:
    medians = {load: median(values) for load in LOADS if (values := savings(d, "all", load))}
    falls = all(a >= b for a, b in pairwise(medians.values()))
    text = ", ".join(f"{load} {100 * value:.0f} %" for load, value in medians.items())
    verdict = f"{'holds' if falls else 'does not hold'}: medians of all knobs: {text}"
    return {
        "what": "slack at low load leaves more to save",
        "paper": None,
        "ours": None,
        "unit": "",
        "verdict": verdict,
    }


def _locked(d: Document) -> dict[str, Any]:
    """Most decode energy saved at a clock that costs at most 5 % of a step's time."""
    saved = 0.0
    for row in _curves(d, "decode"):
        at = zip(row["time"], row["energy"], strict=True)
        saved = max(saved, 1.0 - min(energy for time, energy in at if time <= HARDLY))
    return _beside(
        "g7",
        "most decode energy a locked clock saves at hardly any time (H200, arXiv 2605.11999)",
        DECODE_LOCKED,
        saved,
    )


def _beside(name: str, what: str, paper: float, ours: float) -> dict[str, Any]:
    apart = ours - paper
    verdict = "near" if abs(apart) <= NEAR else "more" if apart > 0 else "less"
    verdict = f"{verdict}: {100 * apart:+.0f} points"
    return {"id": name, "what": what, "paper": paper, "ours": ours, "unit": "share", "verdict": verdict}
