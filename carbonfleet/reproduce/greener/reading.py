"""What the figures say, each statement computed from the document, and so are its limits."""

from __future__ import annotations

from statistics import median
from typing import Any

from carbonfleet.reproduce.greener import checks
from carbonfleet.reproduce.greener.knobs import LOADS, SINGLE
from carbonfleet.reproduce.greener.paper import HEADLINE_SAVING
from carbonfleet.reproduce.greener.words import shifted
from carbonfleet.text import percent

Document = dict[str, Any]


def lines(d: Document) -> list[str]:
    """One statement each."""
    found = [_headline(d), _knobs(d), _tp(d), _loads(d), _optimum(d), _week(d), _increments(d), _once(d)]
    return [text for text in [*found, shifted(d), _load_shape(d), _doubts(d), _band(d)] if text]


def _many(d: Document, knob: str) -> str:
    values = checks.savings(d, knob)
    return f"{sum(v >= HEADLINE_SAVING for v in values)} of {len(values)}"


def _headline(d: Document) -> str:
    return (
        f"If harm means a broken limit, the clock alone saves 20 % or more in {_many(d, 'clock')} cells (a class at a "
        f"load). If no mean latency may grow by more than 5 %, all knobs do so in {_many(d, 'harmless')}: less clock "
        "slows prefill, and so TTFT, at once."
    )


def _knobs(d: Document) -> str:
    medians = {name: median(checks.savings(d, name)) for name in SINGLE}
    text = ", ".join(f"{name} {percent(value)}" for name, value in sorted(medians.items(), key=lambda item: -item[1]))
    return f"Medians of single knobs: {text}; all together {percent(median(checks.savings(d, 'all')))}."


def _tp(d: Document) -> str:
    alone, filled = (sum(v > 0.01 for v in checks.savings(d, knob)) for knob in ("tp", "tp and batch"))
    cells = len(checks.savings(d, "tp"))
    return (
        f"A smaller tp alone saves in {alone} of {cells} cells, with fewer instances in use in {filled}: what saves is "
        "the fuller batch on fewer GPUs, not the smaller tp."
    )


def _loads(d: Document) -> str:
    text = []
    for load in LOADS:
        won: dict[str, int] = {}
        for row in d["knobs"]:
            if row["load"] == load and row["best"]:
                won[row["best"]] = won.get(row["best"], 0) + 1
        if won:
            best = max(won, key=won.__getitem__)
            text.append(f"{load} {best} ({won[best]} of {sum(won.values())})")
    return f"Best single knob by load: {'; '.join(text)}." if text else ""


def _optimum(d: Document) -> str:
    prefill = [row for row in d["phases"] if row["phase"] == "prefill"]
    edge = [row for row in d["phases"] if row["phase"] == "decode" and not row["interior"]]
    if not prefill:
        return ""
    best = ", ".join(f"{row['best_clock']:.2f} (tp{row['tp']})" for row in prefill)
    sizes = ", ".join(f"batch {row['size']} at tp{row['tp']}" for row in edge)
    limit = (
        f" Decode of {sizes} has its least at the lowest clock modelled: nothing in the model slows it." if edge else ""
    )
    return f"Prefill takes least energy at a clock of {best}.{limit}"


def _week(d: Document) -> str:
    policies = d["week"]["policies"]
    best = policies[-1]
    return (
        f"Over the week all knobs save {percent(best['gpu_energy_j_saving'])} of GPU energy beside a published "
        f"{percent(d['week']['published']['energy_saving'])}, and {percent(best['operational_g_saving'])} of "
        f"operational carbon beside {percent(d['week']['published']['operational_saving'])}; "
        f"{percent(best['attainment'], 1)} of requests keep both limits, on the static fleet "
        f"{percent(policies[0]['attainment'], 1)}."
    )


def _increments(d: Document) -> str:
    named = [f"{row['policy']} {percent(row['gpu_energy_j_saving'])}" for row in d["week"]["policies"][1:]]
    best, planned = d["week"]["policies"][-1], _case(d, "as simulated")
    gpus, all_ = ("gpu_energy", "energy")
    expected = [percent(planned[f"{name}_saving"], 1) for name in (gpus, all_)]
    simulated = [percent(best[f"{name}_j_saving"], 1) for name in (gpus, all_)]
    return (
        f"GPU energy saved over the week by what may change: {', '.join(named)}. Of all knobs the plan expected "
        f"{expected[0]} of GPU energy and {expected[1]} with hosts, simulated are {simulated[0]} and {simulated[1]}: "
        "the plan packs instances on the fewest hosts, a fleet that shrinks leaves some on hosts of their own."
    )


def _case(d: Document, name: str) -> dict[str, Any]:
    return next(row for row in d["week"]["what_ifs"] if row["case"].startswith(name))


def _once(d: Document) -> str:
    every, once = _case(d, "as simulated"), _case(d, "tp chosen once")
    more = 100 * (every["energy_saving"] - once["energy_saving"])
    return f"Changing tp from hour to hour adds {more:.1f} points of all energy to one tp for the week (planned)."


def _load_shape(d: Document) -> str:
    same, steep, spare = (
        _case(d, "as simulated"),
        _case(d, "a load of 1.9"),
        _case(d, "a static fleet bought for twice"),
    )
    ten = _case(d, "ten times")
    every = [row["gpu_energy_saving"] for row in d["week"]["what_ifs"]]
    return (
        "Why ours differs from DynamoLLM's: its load and its static fleet are not ours. Planned, all energy saved is "
        f"{percent(same['energy_saving'])} here, {percent(steep['energy_saving'])} under a steeper day and week, "
        f"{percent(spare['energy_saving'])} against a fleet bought for twice the peak, "
        f"{percent(ten['energy_saving'])} at ten times the load. Its pools by length and its measured profiles are not "
        f"ours either. Over these cases the GPU energy saved runs from {percent(min(every))} to {percent(max(every))}: "
        "how near ours comes to the published figure says more of the loads than of the method."
    )


def _doubts(d: Document) -> str:
    usual, key = d["doubts"][0], "clock_cells_at_headline"
    low, high = (pick(d["doubts"], key=lambda row: row[key]) for pick in (min, max))
    steady = ", ".join(
        f"{percent(row['clock_median'])} if {row['case']}" for row in d["doubts"] if row["case"].startswith("voltage")
    )
    return (
        f"What would change it: at steady state the clock alone reaches 20 % in {usual[key]} of {usual['cells']} cells "
        f"as taken, in {low[key]} at worst ({low['case']}), in {high[key]} at best ({high['case']}). Its median, "
        f"{percent(usual['clock_median'])}, is {steady}."
    )


def _band(d: Document) -> str:
    first = d["profiles"][0]
    text = (
        f"Absolute seconds and watts carry the band of their tier ({first['tier']}: x/{first['time_band']:g} and "
        f"x/{first['power_band']:g}). Savings are ratios on one profile, so that much of what is wrong cancels; what "
        "rests on the clock's law does not."
    )
    rows = d["beside_measured"]
    if rows:
        time, power = (max(abs(row[key] - 1.0) for row in rows) for key in ("time_ratio", "power_ratio"))
        text += " Shipped steps of the same network, fitted to measurements, lie within "
        text += f"{percent(time)} in time and {percent(power)} in power."
    return text
