"""A fleet as a row of the board's page: its books year by year.

Grams are those of the decision: operational, and new units' avoidable embodied carbon whole in the year of purchase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimizer import placed
from optimizer.again import fleet_of, words
from optimizer.market import Market
from optimizer.placed import Placement
from optimizer.plan import Answer, missing
from optimizer.solver import Solution
from profiles.units import SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Standing:
    """One fleet of the page; what cannot be has a reason in `why` and no years.

    `years`: year, seconds, operational_g, embodied_g, usd (None without any price), energy_j, mean_kw (with PUE) and
    nameplate_kw (GPUs at TDP plus hosts of the units that are on; None where a TDP is not known).
    """

    name: str
    fleet: str
    status: str
    gap: float | None
    why: str
    operational_g: float | None
    embodied_g: float | None
    usd: float | None
    years: list[dict[str, Any]]

    @property
    def carbon_g(self) -> float | None:
        """Operational and embodied grams over the horizon."""
        return None if self.operational_g is None else self.operational_g + (self.embodied_g or 0.0)


def standing(answer: Answer, name: str, market: Market, solution: Solution) -> Standing:
    """A solution as a row of the page."""
    if solution.objective is None:
        if solution.status == "infeasible":
            if market.program.unserved():
                return none(name, "it does not carry the demand: some requests find nothing that serves them")
            lacks = missing(market, answer.study.time_limit_s).removeprefix("infeasible").lstrip(":, ")
            return none(name, f"it does not carry the demand: {lacks.partition(';')[0]}")
        return none(name, "the time ran out before any such fleet was found", solution.status)
    placements, _ = placed.fleet(market, solution)
    years = placed.years(market, placements, placed.charges(market, solution))
    priced = any(row["usd"] for row in years)
    bought = fleet_of(market, solution.units)
    rented = [f"{row.units} x {row.host} at {row.site} by the hour" for row in placements if row.by_hour]
    fleet = ", ".join([*([words(bought)] if bought or not rented else []), *rented])
    rows: list[dict[str, Any]] = []
    for year, row in enumerate(years):
        kw = {
            "mean_kw": row["energy_j"] / row["seconds"] / 1e3,
            "nameplate_kw": _nameplate_kw(market, placements, year),
        }
        rows.append({**row, "usd": row["usd"] if priced else None, **kw})
    return Standing(
        name,
        fleet,
        solution.status,
        solution.gap,
        "",
        sum(row.operational_g for row in placements),
        sum(row.embodied_g for row in placements),
        sum(row["usd"] for row in years) if priced else None,
        [year for row in rows for year in _apart(answer, row)],
    )


def none(name: str, why: str, status: str = "infeasible") -> Standing:
    """A fleet that cannot be, or was not found."""
    return Standing(name, "", status, None, why, None, None, None, [])


def _apart(answer: Answer, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of a whole horizon whose years are alike as one row a year; embodied grams all in the first."""
    length = row["seconds"] / SECONDS_PER_YEAR
    if answer.study.years_apart or length <= 1.0:
        return [row]
    rows: list[dict[str, Any]] = []
    first = 0.0
    while first < length - 1e-9:
        part = min(1.0, length - first) / length
        scaled = {key: row[key] * part for key in ("seconds", "requests", "energy_j", "operational_g")}
        usd = None if row["usd"] is None else row["usd"] * part
        rows.append(row | scaled | {"year": len(rows), "usd": usd, "embodied_g": 0.0 if rows else row["embodied_g"]})
        first += 1.0
    return rows


def _nameplate_kw(market: Market, placements: list[Placement], year: int) -> float | None:
    known = {(c.host.name, c.owned): c.nameplate_w for c in market.choices}
    watts = [known[row.host, row.owned] for row in placements]
    if any(each is None for each in watts):
        return None
    return sum((each or 0.0) * row.on[year] for each, row in zip(watts, placements, strict=True)) / 1e3
