"""What the optimizer is worth: its fleet's grams beside three plainer rules', in a clean and a dirty grid.

    .venv/bin/python -m benchmarks.studies --anew worth-it

Needs the Azure 2023 conversation trace beside the checkout (shared/data/traces). Rivals carry the same demand under the
same promises on the same profiles. Each difference is taken again under what both sides share: embodied presets, grids
half or twice as dirty, a life of 3 or 8 years. Fleets and dispatch stay; the page says which of these turn the sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import bars, items, table
from carbonfleet.reproduce.result import rounded
from carbonfleet.text import percent
from optimizer.beside import Rival, rivals
from optimizer.plan import solve
from optimizer.study import Study
from profiles import catalog
from profiles.embodied import gpu_embodied, host_embodied

TRACE = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces" / "azure_2023_conv.csv"
# Dollars an hour of a host, made from a list price of its GPU; no price ships, these are the study's own.
PRICES = {"h100-sxm-80gb": 4.0, "a100-sxm-80gb": 2.0, "l4": 0.7}
FASTEST = "h100-sxm-80gb"
GRIDS = ("CA-QC", "US-CAL-CISO", "US-NW-PACE")
RATE_PER_S = 40.0
YEARS = 5.0
OWNED = 4  # hosts of four A100s that are there already


def study(zone: str) -> Study:
    """The question on one grid."""
    return Study.model_validate(
        {
            "demand": {"model": "llama-3.1-8b", "trace": str(TRACE), "rate_per_s": RATE_PER_S, "shape": "diurnal"},
            "slo": {"ttft_s": 3.0, "tpot_s": 0.12},
            "sites": [{"name": "here", "grid": zone, "price_usd_per_kwh": 0.1}],
            "catalogue": [{"gpu": gpu} for gpu in PRICES],
            "owned": [{"gpu": "a100-sxm-80gb", "host": "hgx-a100-80gb-4", "site": "here", "units": OWNED}],
            "accounting": {"gpu_price_usd_per_h": PRICES},
            "horizon_years": YEARS,
        }
    )


def embodied_g(rival: Rival, preset: str, boundary: str, life_years: float) -> float:
    """Avoidable embodied grams of a fleet under other rules."""
    total = 0.0
    for name, count in rival.fleet.items():
        if name.endswith("(owned)"):
            continue
        host = catalog.host(name.partition(" at ")[0])
        kg = gpu_embodied(catalog.gpu(host.gpu), preset).mid_kg * host.gpus * min(1.0, YEARS / life_years)
        kg += host_embodied(host).mid_kg * min(1.0, YEARS / (life_years + 1.0)) if boundary == "server" else 0.0
        total += 1000.0 * kg * count
    return total


def views(rival: Rival) -> Iterator[tuple[str, float]]:
    """A fleet's grams under each shared assumption."""
    operational, embodied = rival.operational_g or 0.0, rival.embodied_g or 0.0
    yield "as assumed", operational + embodied
    for preset in ("act", "boavizta"):
        yield f"preset {preset}", operational + embodied_g(rival, preset, "server", YEARS)
    yield "cards alone", operational + embodied_g(rival, "pcf-card", "card", YEARS)
    for life in (3.0, 8.0):
        yield f"a life of {life:g} years", operational + embodied_g(rival, "pcf-card", "server", life)
    for factor, word in ((0.5, "half"), (2.0, "twice")):
        yield f"a grid {word} as dirty", factor * operational + embodied


def rows(zone: str) -> Iterator[dict[str, Any]]:
    """The plan and each rival, with what turns the sign of their difference."""
    asked = study(zone)
    plan = solve(asked)
    found = rivals(asked, plan)
    mine = dict(views(found[0]))
    wanted = {f"{FASTEST} alone, new": "fastest type alone", "all new": "all new"}
    wanted |= {
        "least cost": "least cost",
        "least energy": "least energy",
        "what is owned, nothing bought": "today's alone",
    }
    for rival in found:
        name = "this plan" if rival is found[0] else wanted.get(rival.name)
        if name is None or rival.carbon_g is None:
            continue
        more = rival.carbon_g / mine["as assumed"] - 1.0
        yield {
            "grid": zone,
            "by": name,
            "fleet": {host.replace(" at here", ""): count for host, count in rival.fleet.items()},
            "carbon_g": rival.carbon_g,
            "embodied_share": (rival.embodied_g or 0.0) / rival.carbon_g,
            "more_than_plan": more,
            "solved": plan.status,
            "same_fleet": rival.fleet == found[0].fleet,
            "turned_by": [view for view, grams in views(rival) if (grams < mine[view]) != (more < 0.0) and more],
        }


def compute() -> dict[str, Any]:
    """Every grid's plan beside its rivals."""
    found = [row for zone in GRIDS for row in rows(zone)]
    known = {row["by"] for row in found}
    return rounded({"rows": found, "without_answer": [] if "today's alone" in known else ["today's alone"]})  # type: ignore[no-any-return]


def render(d: dict[str, Any], runtime: str, picture: str) -> str:
    """The page."""
    head = ("grid", "fleet by", "units", "t CO2e", "embodied", "more than the plan", "sign turned by")
    cells = [
        [
            *(row["grid"], row["by"], _fleet(row), f"{row['carbon_g'] / 1e6:.2f}", percent(row["embodied_share"])),
            "" if row["by"] == "this plan" else f"{100 * row['more_than_plan']:+.1f} %",
            "" if row["same_fleet"] else ", ".join(row["turned_by"]) or "nothing",
        ]
        for row in d["rows"]
    ]
    parts = [HEAD.format(runtime=runtime, picture=picture), table(head, cells, 3), "## Reading it\n", items(reading(d))]
    return "\n".join(parts)


def reading(d: dict[str, Any]) -> Iterator[str]:
    """Sentences computed from the rows."""
    for zone in dict.fromkeys(row["grid"] for row in d["rows"]):
        plan, *others = [row for row in d["rows"] if row["grid"] == zone]
        same = [row["by"] for row in others if row["same_fleet"]]
        equal = f", which {' and '.join(same)} would buy too" if same else ", which no plainer rule would buy"
        mixed = any("(owned)" in host for host in plan["fleet"]) and any("(owned)" not in h for h in plan["fleet"])
        yield (
            f"{zone}: the plan is {_fleet(plan)}{' (old and new mixed)' if mixed else ''}{equal}; "
            f"{percent(plan['embodied_share'])} of its carbon is embodied. The program is solved: {plan['solved']}."
        )
    by: dict[str, list[float]] = {}
    for row in d["rows"]:
        by.setdefault(row["by"], []).append(row["more_than_plan"])
    for name, more in by.items():
        if name != "this plan":
            yield f"The fleet by {name} emits {100 * min(more):.0f} to {100 * max(more):.0f} % more than the plan."
    turned = [f"{row['by']} in {row['grid']} ({', '.join(row['turned_by'])})" for row in d["rows"] if row["turned_by"]]
    yield f"Signs that a shared assumption turns: {'; '.join(turned) or 'none'}."
    if d["without_answer"]:
        yield f"What cannot carry this load in any of the grids: {', '.join(d['without_answer'])}."


def picture(d: dict[str, Any]) -> dict[str, Any]:
    """Tonnes of every fleet against its plan's."""
    base = {row["grid"]: row["carbon_g"] for row in d["rows"] if row["by"] == "this plan"}
    values = [{"y": row["by"], "by": row["grid"], "x": row["carbon_g"] / base[row["grid"]]} for row in d["rows"]]
    return bars(values, "carbon, multiple of the plan's", offset=True)


def _fleet(row: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {host}" for host, count in row["fleet"].items())


HEAD = """# What the optimizer is worth

Llama-3.1-8B, the mix of a public trace (Azure 2023 conversation) at {rate:g} requests/s with the shipped shape of a
day, TTFT 3 s and TPOT 0.12 s, {years:g} years. H100, A100 and L4 are on offer at prices made for this study
({prices} $/h a GPU, electricity 0.1 $/kWh); {owned} hosts of four A100s are there already. Beside the plan stand:
H100s alone, all new, the fleet of least cost and the one of least energy, both priced in carbon, and what is owned
alone.

    python -m benchmarks.studies --anew worth-it        # needs the trace

{{runtime}} This page is written from docs/studies/worth-it.json by `python -m benchmarks.studies`.

![Carbon of every fleet against the plan's]({{picture}})

Each difference was taken again under what both sides share, fleets and dispatch as they are: presets act and
boavizta, cards alone, a life of 3 or 8 years, a grid half or twice as dirty; the last column names those that turn
its sign round. Profiles are of tier cfg (H100) and T2 (A100, L4); the difference between two fleets of the same
profile is surer than their bands.
""".format(rate=RATE_PER_S, years=YEARS, owned=OWNED, prices="/".join(f"{p:g}" for p in PRICES.values()))
