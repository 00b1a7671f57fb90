"""Results as short plain text for people: figures with fitting units, and aligned tables, without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiles.units import GRAMS_PER_KG, SECONDS_PER_HOUR, kwh

_LIMITS = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("done within", "deadline_s"))
_METRICS = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("TBT", "tbt_s"), ("E2E", "e2e_s"), ("queue", "queue_s"))
_SPARKS = "▁▂▃▄▅▆▇█"
FIRST_ASSUMPTIONS = 6


def figure(value: float | None, digits: int = 3) -> str:
    """A number with about `digits` significant ones and thousands separated; '-' where there is none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 10 ** (digits - 1) or value == 0:
        return f"{value:,.0f}"
    places = next(p for p in range(digits - 1, 12) if size * 10**p >= 10 ** (digits - 1) or p == 11)
    return f"{value:.{places}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share in per cent; '-' where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def grams(value_g: float | None) -> str:
    """Carbon in mg, g, kg or t CO2e, whichever reads best."""
    if value_g is None:
        return "-"
    for limit, scale, unit in ((1.0, 1e-3, "mg"), (GRAMS_PER_KG, 1.0, "g"), (1e6, GRAMS_PER_KG, "kg")):
        if abs(value_g) < limit and value_g:
            return f"{figure(value_g / scale)} {unit}"
    return f"{figure(value_g / 1e6)} t" if value_g else "0 g"


def energy(value_j: float | None) -> str:
    """Energy in Wh, kWh or MWh."""
    if value_j is None:
        return "-"
    used = kwh(value_j)
    if abs(used) < 1.0:
        return f"{figure(used * 1000)} Wh"
    return f"{figure(used)} kWh" if abs(used) < 10_000 else f"{figure(used / 1000)} MWh"


def share(part: float, whole: float) -> str:
    """A part in per cent of the whole."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> list[str]:
    """Aligned lines: the first `text_columns` to the left, figures to the right, two blanks between."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(_cell(row, i, widths, text_columns) for i in range(len(row))).rstrip() for row in cells]


def _cell(row: list[str], i: int, widths: list[int], text_columns: int) -> str:
    return row[i].ljust(widths[i]) if i < text_columns else row[i].rjust(widths[i])


def sparkline(values: Sequence[float]) -> str:
    """One block a value, from the lowest to the highest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_SPARKS[min(7, int(8 * (value - low) / span))] for value in values)


def run_report(summary: dict[str, Any]) -> str:
    """What a run came to, on one screen: latency against the limits, energy, carbon, pools, sites, assumptions."""
    blocks = [_requests(summary), _latency(summary), _books(summary), _controls(summary)]
    blocks += [_pools(summary), _sites(summary)]
    assumed = [_assumption(item) for item in summary["assumptions"]]
    lines = [f"  {text}" for text in assumed[:FIRST_ASSUMPTIONS]]
    if len(assumed) > FIRST_ASSUMPTIONS:
        lines.append(f"  ... and {len(assumed) - FIRST_ASSUMPTIONS} more in --json or summary.json")
    return "\n\n".join("\n".join(block) for block in (*blocks, ["assumed:", *lines] if lines else []) if block)


def _requests(s: dict[str, Any]) -> list[str]:
    r, tokens = s["requests"], s["tokens"]
    hours = s["horizon_s"] / SECONDS_PER_HOUR
    return [
        f"requests  {r['total']:,}: {r['completed']:,} completed, {r['rejected']:,} rejected, "
        f"{r['unfinished']:,} unfinished; horizon {figure(hours)} h",
        f"tokens    {tokens['prompt']:,} prompt, {tokens['output']:,} output",
    ]


def _latency(s: dict[str, Any]) -> list[str]:
    slo = s["slo"]
    rows = []
    for label, key in _METRICS:
        stats = s.get(key) or {}
        cells = [figure(stats.get(q)) for q in ("p50", "p90", "p99", "mean")]
        rows.append([f"{label} s", *cells, figure(slo[key]) if slo.get(key) else ""])
    lines = table(["", "p50", "p90", "p99", "mean", "limit"], rows)
    lines += _classes(slo.get("classes", []))
    if slo.get("ttft_s") or slo.get("tpot_s") or slo.get("classes"):
        worst = "" if slo.get("worst_hour") is None else f" (worst hour {100 * slo['worst_hour']:.2f} %)"
        met = "-" if slo["attainment"] is None else f"{100 * slo['attainment']:.2f} %"
        lines.append(f"SLO met by {met} of all arrivals{worst}")
    return lines


def _classes(classes: list[dict[str, Any]]) -> list[str]:
    """How each class's promises were kept."""
    lines = []
    for each in classes:
        limits = [f"{name} {figure(each[key])} s" for name, key in _LIMITS if each.get(key) is not None]
        kept = "-" if each["attainment"] is None else f"{100 * each['attainment']:.2f} %"
        lines.append(f"{each['name']} ({', '.join(limits) or 'no limit'}): kept by {kept} of {each['requests']:,}")
    return lines


def _controls(s: dict[str, Any]) -> list[str]:
    """What controls did, and what wrong forecasts cost."""
    told, regret = s.get("controls"), s.get("regret")
    lines = []
    if told:
        did = [
            f"{told[key]:,} {words}"
            for key, words in (("boots", "boots"), ("failures", "failures"), ("retries", "requests sent again"))
            if told[key]
        ]
        did += [f"{told['clock_changes']:,} changes of clock"] if told["clock_changes"] else []
        if told["deferred"]:
            did.append(f"{told['deferred']:,} requests deferred by {told['mean_deferral_h']:.1f} h on average")
        lines.append(f"controls  {', '.join(did) or 'nothing to do'}")
    if regret:
        more = f"{100 * regret['share']:+.2f} %"
        lines.append(f"regret    {grams(regret['carbon_g'])} ({more}) against the same rules with perfect forecasts")
    return lines


def _books(s: dict[str, Any]) -> list[str]:
    e, c = s["energy_j"], s["carbon_g"]
    named = (("gpu_busy", "GPUs at work"), ("gpu_idle", "GPUs idle"), ("host", "hosts"), ("overhead", "PUE overhead"))
    split = ", ".join(f"{label} {share(e[key], e['total'])}" for key, label in named)
    per_1k = s["carbon_g_per_1k_output_tokens"]
    lines = [
        f"energy    {energy(e['total'])}: {split}",
        f"carbon    {grams(c['total'])} CO2e ({grams(c['low'])} to {grams(c['high'])}): "
        f"operational {grams(c['operational'])} ({share(c['operational'], c['total'])}), "
        f"embodied {grams(c['embodied'])} ({share(c['embodied'], c['total'])})",
        f"          {figure(per_1k)} g CO2e per 1k output tokens",
    ]
    if s.get("cost_usd") is not None:
        lines.append(f"cost      {figure(s['cost_usd'])} USD")
    return lines


def _pools(s: dict[str, Any]) -> list[str]:
    rows = [
        [p["name"], p["tier"] or "-", f"{p['instances']:,}", f"{p['gpus']:,}", f"{p['requests']:,}",
         f"{100 * p['utilisation']:.0f} %", energy(_total(p["energy_j"])), grams(_total(p["carbon_g"]))]
        for p in s["pools"]
    ]  # fmt: skip
    return table(["pool", "tier", "instances", "GPUs", "requests", "busy", "energy", "carbon"], rows, 2)


def _total(value: Any) -> float | None:
    """A figure, or the total of a split of it."""
    return value.get("total") if isinstance(value, dict) else value


def _sites(s: dict[str, Any]) -> list[str]:
    rows = []
    for site in s["sites"]:
        i = site["intensity"]
        rows.append([site["name"], f"{i['kind']}, {i['scope']}", f"{figure(i['mean_g_per_kwh'], 4)} g/kWh"])
    return table(["site", "intensity", "mean"], rows, 2)


def _assumption(item: Any) -> str:
    """An assumption as one line, whether it is a sentence or a record."""
    if not isinstance(item, dict):
        return str(item)
    head = " = ".join(str(item[key]) for key in ("name", "value") if key in item)
    return "; ".join(part for part in (head, str(item.get("reason") or item.get("source") or "")) if part)


def against_table(found: dict[str, Any]) -> str:
    """Simulated against measured latencies, as `sim.against.compare` found them."""
    names = ("mean", "p50", "p90", "p99")
    rows = []
    for key, title in (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("e2e_s", "E2E")):
        part = found[key]
        for kind in ("measured", "simulated"):
            rows.append([f"{title} {kind} s", *(figure(part[kind][name]) for name in names)])
        rows.append([f"{title} error", *(_percent(part["error"][name]) for name in names)])
    rows.append(["each request's |E2E error|", *(_percent(found["request_e2e_error"][name]) for name in names)])
    first = f"first {found['left_out']} |E2E error|"
    rows.append([first, *(_percent(found["first_requests_e2e_error"][name]) for name in names)])
    title = f"against {found['log']} ({found['requests']:,} requests, the first {found['left_out']} apart)"
    return "\n".join([title, *table(["", *names], rows)])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.2f} %"


RUNS_HEAD = (
    "run",
    "carbon",
    "range",
    "per 1k tokens",
    "operational",
    "embodied",
    "energy",
    "SLO",
    "TTFT p99",
    "TPOT p99",
)
PAIR_HEAD = ("under the assumption", "base", "other", "difference", "")


def runs_rows(found: dict[str, Any]) -> list[list[str]]:
    """One row of cells for each run of a comparison."""
    return [
        [r["run"], grams(r["carbon_g"]), f"{grams(r['low_g'])} to {grams(r['high_g'])}",
         grams(r["carbon_g_per_1k_output_tokens"]), grams(r["operational_g"]), grams(r["embodied_g"]),
         energy(r["energy_j"]), share(r["slo_attainment"] or 0.0, 1.0), f"{figure(r['ttft_p99_s'])} s",
         f"{figure(r['tpot_p99_s'])} s"]
        for r in found["runs"]
    ]  # fmt: skip


def runs_table(found: dict[str, Any]) -> list[str]:
    """The runs of a comparison, and which of them no other beats at everything."""
    return [*table(RUNS_HEAD, runs_rows(found)), f"not beaten at everything: {', '.join(found['pareto'])}"]


def pair_intro(pair: dict[str, Any]) -> list[str]:
    """What differs between two runs, by how much, and what turns that round."""
    differs = pair["differs_in"]
    what = "nothing differs in their scenarios" if not differs else f"they differ in {'; '.join(differs)}"
    if len(differs) == 1:
        what = f"they differ only in {differs[0]}"
    change = "" if pair["difference_rel"] is None else f" ({100 * pair['difference_rel']:+.1f} %)"
    more = (
        "emits the same as"
        if not pair["difference_g"]
        else "emits more than"
        if pair["difference_g"] > 0
        else "saves against"
    )
    lines = [
        what,
        f"{pair['other']} {more} {pair['base']}: {grams(abs(pair['difference_g']))}{change}, {pair['basis']}",
    ]
    flips = pair["flips_under"]
    lines.append(f"the answer turns round under: {'; '.join(flips)}" if flips else "no assumption below turns it round")
    if pair["flips_at_intensity_factor"] is not None:
        lines.append(f"it turns round where every grid is {figure(pair['flips_at_intensity_factor'])} times as intense")
    return lines


def pair_rows(pair: dict[str, Any]) -> list[list[str]]:
    """The difference of two runs under each assumption."""
    return [
        [w["assumption"], grams(w["base_g"]), grams(w["other_g"]),
         "-" if w["difference_rel"] is None else f"{100 * w['difference_rel']:+.1f} %",
         "turns round" if w["assumption"] in pair["flips_under"] else ""]
        for w in pair["under"]
    ]  # fmt: skip


def pair_lines(pair: dict[str, Any]) -> list[str]:
    """One pair of a comparison as text."""
    return [*pair_intro(pair), *(f"  {line}" for line in table(PAIR_HEAD, pair_rows(pair)))]
