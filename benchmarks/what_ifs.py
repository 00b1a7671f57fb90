"""What each control saves on one load and fleet, alone and together: the table of docs/studies/what-ifs.md.

    .venv/bin/python -m benchmarks.studies --anew what-ifs

Each row is one `simulate docs/studies/what-ifs.yaml --set ...` and can be had alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import bars, items, table
from carbonfleet.reproduce.result import rounded
from carbonfleet.text import percent
from sim import scenario
from sim.run import run
from sim.scenario import Scenario

STUDY = Path(__file__).resolve().parents[1] / "docs" / "studies" / "what-ifs.yaml"
POWER_OFF = {"kind": "power-off", "idle_s": 300, "wake": 0.5}
SCALE = {"kind": "scale", "target": 0.5}
DEFER = {"kind": "defer"}
CLOCK = {"kind": "clock", "clocks": [0.6, 0.8, 1.0], "low": 0.2, "high": 0.6}
KEPT = 0.99
GREEN = "least-added-carbon"
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "power-off": {"controls": [POWER_OFF]},
    "scale to load": {"controls": [SCALE]},
    "deferral (30 % of the requests, 8 h)": {"controls": [DEFER]},
    "carbon-aware routing": {"routing": GREEN},
    "clock governor": {"controls": [CLOCK]},
    "carbon-aware routing and power-off": {"routing": GREEN, "controls": [POWER_OFF]},
    "all of them (scale, deferral, routing, clock)": {"routing": GREEN, "controls": [SCALE, DEFER, CLOCK]},
}


def compute() -> dict[str, Any]:
    """Every case simulated."""
    base = scenario.read(STUDY).model_dump(mode="json", exclude_none=True)
    rows = []
    for name, changes in CASES.items():
        s = run(Scenario.model_validate(base | changes)).summary
        told = s["controls"] or {"boots": 0, "deferred": 0}
        rows.append(
            {
                "case": name,
                "change": changes,
                "carbon_g": {key: s["carbon_g"][key] for key in ("total", "operational", "embodied")},
                "energy_j": {key: s["energy_j"][key] for key in ("total", "gpu_busy", "gpu_idle", "host")},
                "attainment": s["slo"]["attainment"],
                "worst_hour": s["slo"]["worst_hour"],
                "boots": told["boots"],
                "deferred": told["deferred"],
                "regret_g": s["regret"]["carbon_g"] if s["regret"] else None,
                "requests": s["requests"]["total"],
            }
        )
    return rounded({"hours": s["horizon_s"] / 3600.0, "rows": rows})  # type: ignore[no-any-return]


def render(d: dict[str, Any], runtime: str, picture: str) -> str:
    """The page."""
    head = (
        "",
        "kg CO2e",
        "of which operational",
        "against nothing",
        "SLO kept (worst hour)",
        "boots",
        "deferred",
        "regret",
    )
    first = d["rows"][0]["carbon_g"]["total"]
    cells = [
        [
            row["case"],
            *(f"{row['carbon_g'][key] / 1e3:.1f}" for key in ("total", "operational")),
            f"{100 * (row['carbon_g']['total'] / first - 1):+.1f} %",
            f"{percent(row['attainment'], 2)} ({percent(row['worst_hour'], 2)})",
            *(f"{row['boots']:,}", f"{row['deferred']:,}"),
            "-" if row["regret_g"] is None else f"{row['regret_g'] / 1e3:+.2f} kg",
        ]
        for row in d["rows"]
    ]
    top = HEAD.format(hours=d["hours"], requests=d["rows"][0]["requests"], runtime=runtime, picture=picture)
    changes = [[row["case"], _told(row["change"])] for row in d["rows"]]
    return "\n".join(
        [top, table(head, cells), table(("row", "change"), changes, 2), "## Reading it\n", items(reading(d)), END]
    )


def _told(change: dict[str, Any]) -> str:
    told = [f"`--routing {change['routing']}`"] if "routing" in change else []
    if "controls" in change:
        rules = ", ".join(f"{{{', '.join(f'{k}: {v}' for k, v in rule.items())}}}" for rule in change["controls"])
        told.append(f"`--set 'controls=[{rules}]'`")
    return " ".join(told) or "-"


def reading(d: dict[str, Any]) -> Iterator[str]:
    """Sentences computed from the rows."""
    nothing, *others = d["rows"]
    saved = {row["case"]: 1.0 - row["carbon_g"]["total"] / nothing["carbon_g"]["total"] for row in others}
    e = nothing["energy_j"]
    yield (
        f"With no control {percent(e['gpu_idle'] / e['total'])} of the joules are idle GPUs' and "
        f"{percent(e['host'] / e['total'])} the hosts': what is off emits nothing."
    )
    alone = [row for row in others if " and " not in row["case"] and not row["case"].startswith("all")]
    order = sorted(alone, key=lambda row: -saved[row["case"]])
    yield "Alone, by what they save: " + ", ".join(f"{r['case']} {percent(saved[r['case']])}" for r in order) + "."
    for row in others:
        if row["deferred"] and row in alone:
            share = row["deferred"] / row["requests"]
            yield (
                f"Deferral alone moves {percent(share)} of the requests and saves {percent(saved[row['case']])}: "
                "their own joules move to a greener hour, what hosts and waiting GPUs draw does not."
            )
    best = max(others, key=lambda row: saved[row["case"]])
    word = "and breaks the promise" if best["worst_hour"] < KEPT else "and keeps the promise"
    yield (
        f"Most is saved by {best['case']}, {percent(saved[best['case']])}, {word}: its worst hour keeps "
        f"{percent(best['worst_hour'], 1)} of the requests."
    )
    kept = [row for row in others if row["worst_hour"] >= KEPT]
    if best not in kept and kept:
        good = max(kept, key=lambda row: saved[row["case"]])
        most = percent(saved[good["case"]])
        yield f"Of what keeps every hour above {percent(KEPT)}, {good['case']} saves most: {most}."
    boots = [row["case"] for row in others if row["boots"]]
    yield f"Instances are booted again by: {', '.join(boots) or 'none'}."
    embodied = {round(row["carbon_g"]["embodied"]) for row in d["rows"]}
    yield (
        "Embodied carbon is the same in every row: the hardware is there, on or off."
        if len(embodied) == 1
        else ("Embodied carbon differs between the rows.")
    )


def picture(d: dict[str, Any]) -> dict[str, Any]:
    """Kilograms of every case."""
    values = [
        {"y": row["case"], "by": part, "x": row["carbon_g"][part] / 1e3}
        for row in d["rows"] for part in ("operational", "embodied")
    ]  # fmt: skip
    return bars(values, "kg CO2e")


HEAD = """# What four controls save, alone and together

A generated load of {hours:g} hours ({requests:,} requests of conversation length, two thirds of them interactive,
the rest due within eight hours, diurnal) on six instances of Llama-3.1-70B, four H100 each, three in California and
three in Texas: several times what it needs. Equal horizons, equal requests; every row is `simulate
docs/studies/what-ifs.yaml` with the change named beside it.

    python -m benchmarks.studies --anew what-ifs

{runtime} This page is written from docs/studies/what-ifs.json by `python -m benchmarks.studies`.

![Carbon of every case]({picture})
"""
END = """
Yesterday is believed of tomorrow; on typical-year series that is wrong only where a month ends, and the regret is
what perfect forecasts would have saved. Clocks are modelled, not measured (profiles/dvfs.py); profiles are imported
(H100), the grids typical years, the load generated.
"""
