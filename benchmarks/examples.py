"""Pages of docs/studies for the studies of examples/, from their committed results alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.markdown import bars, items, table
from carbonfleet.report.charts import sources
from carbonfleet.text import figure, grams, percent
from optimizer.study import read

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAIRS = {"keep-the-old": "buy-the-new"}  # halves of one question: one page
KINDS = {"summary": "simulate", "plan": "optimize", "points": "carbonfleet sweep"}
KEPT = 0.99
PARTS = ("gpu_busy", "gpu_idle", "host", "overhead")


def names() -> list[str]:
    """Every example with a page of its own."""
    found = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    return [name for name in found if name not in PAIRS.values()]


def kind(name: str) -> str:
    """summary, plan or points."""
    return next(each for each in KINDS if (EXAMPLES / f"{name}.{each}.json").is_file())


def committed(name: str) -> Any:
    """The committed result of an example."""
    return json.loads((EXAMPLES / f"{name}.{kind(name)}.json").read_text(encoding="utf-8"))


def command(name: str) -> str:
    """What makes it."""
    return f"{KINDS[kind(name)]} examples/{name}.yaml"


def render(name: str, result: Any, runtime: str, picture: str) -> str:
    """The page."""
    other = PAIRS.get(name)
    title, *more = _comment(name)
    commands = [command(each) for each in (name, other) if each]
    parts = [
        f"# {title}\n",
        *([" ".join(more) + "\n"] if more else []),
        "\n".join(f"    {line}" for line in commands) + "\n",
        f"{runtime} This page is written from examples/{name}.{kind(name)}.json by `python -m benchmarks.studies`.\n",
        f"![{title}]({picture})\n",
    ]
    if kind(name) == "plan":
        years = read(EXAMPLES / f"{name}.yaml").horizon_years
        return "\n".join([*parts, *_plan(result, years)])
    body = {"summary": _run, "points": _points}[kind(name)]
    return "\n".join([*parts, *body(result)] + ([*_pair(result, committed(other))] if other else []))


def _comment(name: str) -> list[str]:
    """The file's own words: its question, then sentences; commands and what follows them are told here anew."""
    lines = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    words = []
    for line in lines:
        if not line.startswith("# ") or line.startswith("#  "):
            break
        words.append(line.removeprefix("# "))
    text = " ".join(words)
    cut = next((k for mark in ("? ", ". ", ": ") if (k := text.find(mark)) > 0), len(text) - 1)
    first, rest = text[: cut + 1].rstrip(":."), text[cut + 1 :].strip()
    return [first, rest[:1].upper() + rest[1:]] if rest else [first]


def _run(s: dict[str, Any]) -> list[str]:
    c, e, total = s["carbon_g"], s["energy_j"], s["energy_j"]["total"]
    slo, r = s["slo"], s["requests"]
    promises = [f"{label} {slo[key]:g} s" for label, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")) if slo.get(key)]
    pools = [
        [
            *(pool["name"], pool["site"], f"{pool['gpus']} x {pool['gpu']}", f"{pool['tier']}, {pool['kind']}"),
            *(f"{pool['requests']:,}", percent(pool["utilisation"]), grams(pool["carbon_g"])),
            *(percent(pool["embodied_g"] / pool["carbon_g"]), _per_1k(pool)),
        ]
        for pool in s["pools"]
    ]
    head = ("pool", "site", "GPUs", "profile", "requests", "in use", "CO2e", "embodied", "g per 1,000 tokens")
    parts = ", ".join(
        f"{percent(e[key] / total)} {word}"
        for key, word in zip(PARTS, ("GPUs at work", "GPUs idle", "hosts", "cooling and losses"), strict=True)
    )
    reading = [
        f"{r['completed']:,} of {r['total']:,} requests are completed; "
        + (
            f"{' and '.join(promises)} are kept by {percent(slo['attainment'], 2)}, in the worst hour by "
            f"{percent(slo['worst_hour'], 2)}."
            if promises
            else "nothing is promised."
        ),
        f"{grams(c['total'])} CO2e ({grams(c['low'])} to {grams(c['high'])} by the range of the embodied figures), "
        f"{percent(c['embodied'] / c['total'])} of it embodied; {figure(s['carbon_g_per_1k_output_tokens'])} g for "
        "1,000 output tokens.",
        f"Of {figure(total / 3.6e6)} kWh: {parts}.",
    ]
    if len(pools) > 1:
        by = {pool["name"]: pool["carbon_g"] / pool["output_tokens"] for pool in s["pools"] if pool["output_tokens"]}
        low, high = min(by, key=by.__getitem__), max(by, key=by.__getitem__)
        reading.append(f"A token of {high} carries {figure(by[high] / by[low])} times the carbon of one of {low}.")
        most = max(s["pools"], key=lambda pool: pool["requests"])
        reading.append(f"{most['name']} serves {percent(most['requests'] / r['total'])} of the requests.")
    lat = [
        [label, *(figure(s[key][q]) for q in ("mean", "p50", "p90", "p99"))]
        for label, key in (("TTFT s", "ttft_s"), ("TPOT s", "tpot_s"), ("E2E s", "e2e_s"))
    ]
    return [
        "## Reading it\n", items(reading), table(head, pools, 4),
        table(("", "mean", "P50", "P90", "P99"), lat),
        *(["What the run says of itself:\n", items(s["warnings"])] if s["warnings"] else []),
        "## Assumptions\n",
        table(("what", "value", "given by", "why"),
              [[str(row[key]) for key in ("name", "value", "source", "reason")] for row in s["assumptions"]], 4),
    ]  # fmt: skip


def _per_1k(pool: dict[str, Any]) -> str:
    return figure(1000 * pool["carbon_g"] / pool["output_tokens"]) if pool["output_tokens"] else "-"


def _pair(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Two halves of a question: by the books, and where what stands already is made already."""
    totals = {s["name"]: s["carbon_g"] for s in (old, new)}
    (mine, a), (other, b) = totals.items()
    books, decided = b["total"] - a["total"], b["total"] - a["operational"]
    fewer = [f"{other if gap < 0 else mine} emits less, by {grams(abs(gap))}" for gap in (books, decided)]
    turned = "the answer turns" if books * decided < 0 else "the answer stays"
    return [
        f"## Beside {other}\n",
        table(("", "CO2e", "operational", "embodied", "requests kept"),
              [[s["name"], *(grams(s["carbon_g"][k]) for k in ("total", "operational", "embodied")),
                percent(s["slo"]["attainment"], 1)] for s in (old, new)]),
        items([
            f"By the books {fewer[0]}.",
            f"With what {mine} bought before counted as made already, {fewer[1]}: {turned}.",
        ]),
    ]  # fmt: skip


def _bought(row: dict[str, Any]) -> str:
    return ", ".join(f"{n} in year {y}" for y, n in row["bought"].items()) or "-"


def _plan(p: dict[str, Any], years: float) -> list[str]:
    fleet = p["fleet"]
    if "carbon_g" not in p:  # the first study keeps less
        rows = [[row["host"], row["site"], str(row["units"]), str(row["tp"])] for row in fleet]
        return [
            "## Reading it\n",
            items([f"The plan is {p['status']}: {grams(p['objective_g'])} CO2e over {years:g} years.", _sites(fleet)]),
            table(("host", "site", "units", "tp"), rows, 2),
        ]
    rows = [
        [
            *(row["host"], row["site"], "owned" if row["owned"] else row["tenure"], row["role"], row["tier"]),
            *(str(row["units"]), str(row["tp"]), f"{row['clock']:g}"),
            *("/".join(map(str, row["on"])), "-" if row["owned"] else _bought(row)),
        ]
        for row in fleet
    ]
    least = "money" if p["objective_unit"] == "usd" else "carbon"
    head = ("host", "site", "how", "role", "tier", "units", "tp", "clock", "on by year", "bought")
    reading = [
        f"{grams(p['carbon_g'])} CO2e over {years:g} years"
        + (f" and {p['usd']:,.0f} $; {least} is least." if p["usd"] else "."),
        _sites([row for row in fleet if any(row["on"])]),
    ]
    off = [f"{row['units']} x {row['host']} at {row['site']}" for row in fleet if not any(row["on"])]
    if off:
        reading.append(f"Standing by and off: {', '.join(off)}.")
    limited = [row for row in p["charges"] if row["limit_kw"]]
    if limited:
        top = max(limited, key=lambda row: row["kw"] / row["limit_kw"])
        most = f"{figure(top['kw'])} of its {figure(top['limit_kw'])} kW, in year {top['year']}"
        idle = not any(any(row["on"]) for row in fleet if row["site"] == top["site"])
        reading.append(f"{top['site']} {'would draw, called upon,' if idle else 'draws'} at most {most}.")
    return ["## Reading it\n", items(reading), table(head, rows, 5)]


def _sites(rows: list[dict[str, Any]]) -> str:
    at: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        at[row["site"]].append(f"{row['units']} x {row['host']}")
    return "What runs: " + "; ".join(f"{', '.join(hosts)} at {site}" for site, hosts in at.items()) + "."


def _points(rows: list[dict[str, Any]]) -> list[str]:
    keys = [key for key in rows[0] if key.startswith("set.")]
    study = "fleet" in rows[0]
    figures = ("fleet", "carbon_g", "embodied_g") if study else (
        "carbon_g.total", "carbon_g.embodied", "ttft_s.p99", "tpot_s.p50", "slo.attainment")  # fmt: skip
    cells = [
        [*(str(row[key]) for key in keys), *(_cell(key, row.get(key)) for key in figures),
         *([] if study else ["yes" if row["pareto"] else ""])] for row in rows
    ]  # fmt: skip
    head = [key.removeprefix("set.") for key in keys] + [*figures, *([] if study else ["no other beats it"])]
    reading = list((_of_studies if study else _of_runs)(rows, keys))
    return ["## Reading it\n", items(reading), table(head, cells, len(keys) + study)]


def _cell(key: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if key.endswith("_g") or key.startswith("carbon_g"):
        return grams(value)
    return percent(value, 2) if key.startswith("slo") else figure(value)


def _name(row: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(str(row[key]) for key in keys if not key.endswith(".grid"))


def _of_runs(rows: list[dict[str, Any]], keys: list[str]) -> Any:
    """Per grid: the least carbon of what keeps the promise, and of all; how much the grid weighs."""
    grid = next(key for key in keys if key.endswith(".grid"))
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by[row[grid]].append(row)
    for zone, own in by.items():
        kept = [row for row in own if row["slo.attainment"] >= KEPT]
        least = min(own, key=lambda row: row["carbon_g.total"])
        if kept:
            best = min(kept, key=lambda row: row["carbon_g.total"])
            yield f"{zone}: of what keeps the promise for {percent(KEPT)}, {_name(best, keys)} emits least, " + (
                f"{grams(best['carbon_g.total'])}."
            )
        if least not in kept:
            yield f"{zone}: {_name(least, keys)} emits less still, {grams(least['carbon_g.total'])}, and keeps " + (
                f"{percent(least['slo.attainment'], 1)}."
            )
    lost = sorted({_name(row, keys) for row in rows if row["slo.attainment"] < KEPT})
    yield f"The promise is broken by: {'; '.join(lost) or 'none'}."
    zones = list(by)
    factors = [b["carbon_g.total"] / a["carbon_g.total"] for a, b in zip(by[zones[0]], by[zones[-1]], strict=True)]
    yield f"{zones[-1]} emits {min(factors):.1f} to {max(factors):.1f} times what {zones[0]} does."


def _of_studies(rows: list[dict[str, Any]], keys: list[str]) -> Any:
    """Where there are several studies a grid: each against the first; else what each grid's fleet is."""
    grid = next(key for key in keys if key.endswith(".grid"))
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        base = first.setdefault(row[grid], row)
        if base is not row:
            change = row["carbon_g"] / base["carbon_g"] - 1.0
            told = "changes nothing" if abs(change) < 5e-4 else f"{100 * change:+.1f} %"
            yield f"{row[grid]}, {_name(row, keys)}: {told} against {_name(base, keys)}."
    if len(first) == len(rows):
        for row in rows:
            share = percent(row["embodied_g"] / row["carbon_g"])
            yield f"{row[grid]}: {row['fleet']}; {grams(row['carbon_g'])}, {share} of it embodied."


def picture(name: str, result: Any) -> dict[str, Any]:
    """What people would rather look at: grams by part and pool, units by site, or grams by point."""
    if kind(name) == "summary":
        both = [result, committed(PAIRS[name])] if name in PAIRS else [result]
        pools = [pool | ({"name": s["name"]} if len(both) > 1 else {}) for s in both for pool in s["pools"]]
        return sources(SimpleNamespace(summary={"pools": pools}))  # type: ignore[arg-type]
    if kind(name) == "plan":
        rows = [{"y": f"{row['host']}, {row['site']}", "x": row["units"], "by": _state(row)} for row in result["fleet"]]
        return bars(rows, "units")
    keys = [key for key in result[0] if key.startswith("set.")]
    key = "carbon_g" if "carbon_g" in result[0] else "carbon_g.total"
    grid = next(each for each in keys if each.endswith(".grid"))
    alone = len(keys) == 1
    rows = [
        {"y": row[grid] if alone else _name(row, keys), "x": row[key] / 1e6 if "fleet" in row else row[key],
         "by": row[grid]} for row in result
    ]  # fmt: skip
    unit = "t CO2e" if "fleet" in result[0] else "g CO2e"
    return bars(rows, f"{unit}, logarithmic", log=True, offset=not alone)


def _state(row: dict[str, Any]) -> str:
    return "in use" if any(row.get("on", [1])) else "standing by"
