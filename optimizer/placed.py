"""What a solution means: which units stand where in which configuration, what they carry, and the books by year."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from optimizer.amount import Amount
from optimizer.choices import Choice
from optimizer.demand import HOURS
from optimizer.limits import Bought
from optimizer.market import Market
from optimizer.program import level_of
from optimizer.solver import Solution

_LEAST_SHARE = 1e-9  # of a demand: less is the solver's tolerance


@dataclass(frozen=True, slots=True)
class Placement:
    """Units of one kind in one configuration at one site, and what they carry.

    Utilisation is the share of full-load instance time that is asked for (mean over the horizon, and in the peak
    slice); `energy_j` is over the horizon with PUE, of it `dynamic_j` from requests; `share` is of all requests.
    Of units rented by the hour there are as many as the busiest slice needs; their idle power is in `dynamic_j`.
    """

    pool: str
    site: str
    host: str
    gpu: str
    units: int
    owned: bool
    tenure: str
    model: str
    tp: int
    precision: str
    clock: float
    role: str
    max_batch: int
    instances: int
    gpus: int
    tier: str
    share: float
    utilisation: float
    peak_utilisation: float
    energy_j: float
    dynamic_j: float
    operational_g: float
    embodied_g: float
    usd: float
    bought: dict[str, int]  # year of the study -> units
    sold: dict[str, int]  # year of the study, first without them -> units sold before their life ended
    on: list[int]  # units kept on in each year (one figure where years are not told apart)
    by_hour: list[int]  # whole units rented in each hour of the first year's days, the peak at its crest; else empty
    years: list[dict[str, float]]  # energy_j, dynamic_j, operational_g, embodied_g and usd of each of them


def units_on(market: Market, solution: Solution) -> list[list[int]]:
    """Units of each group kept on in each year."""
    if solution.kept_on is not None:
        return solution.kept_on
    found = [[0] * len(row) for row in market.on]
    for bought, count in zip(market.bought, solution.units, strict=True):
        found[bought.group] = [n + count for n in found[bought.group]]
    return found


@dataclass(slots=True)
class _Group:
    """What came of a group: units by purchase, units on by year, and what its columns carry."""

    name: str
    taken: list[tuple[Bought, int]]
    on: list[int]
    loads: list[float]  # of each slice
    by_year: list[Amount]
    requests: float = 0.0
    by_choice: dict[int, float] = field(default_factory=dict)


def fleet(market: Market, solution: Solution) -> tuple[list[Placement], list[dict[str, Any]]]:
    """Every placement, and the dispatch: the share of each class in each slice by pool."""
    groups = _groups(market, solution)
    dispatch = []
    for k, column in enumerate(market.program.columns):
        if solution.shares[k] <= _LEAST_SHARE or column.option not in groups:
            continue
        mine, choice = groups[column.option], market.choices[market.choice_of[k]]
        _carry(market, mine, k, solution.shares[k])
        c, t = market.spot(column.demand)
        row = {"class": c, "slice": market.slices[t].name, "pool": mine.name, "share": solution.shares[k]}
        row["energy_j"] = market.priced[k].energy_j * solution.shares[k]
        if len(market.groups[column.option]) > 1:
            row |= {"tp": choice.config.tp, "max_batch": choice.config.max_batch}
        if choice.config.role != "both":
            row["role"] = choice.config.role
        dispatch.append(row)
    return [_placement(market, g, mine) for g, mine in groups.items()], dispatch


def _groups(market: Market, solution: Solution) -> dict[int, _Group]:
    """The groups that have units, or that are rented by the hour and serve something."""
    on = units_on(market, solution)
    taken: dict[int, list[tuple[Bought, int]]] = {}
    for bought, count in zip(market.bought, solution.units, strict=True):
        if count:
            taken.setdefault(bought.group, []).append((bought, count))
    for k, share in enumerate(solution.shares):
        group = market.program.columns[k].option
        if share > _LEAST_SHARE and group in market.program.hourly:
            taken.setdefault(group, [])
    names = {g: f"{market.lead(g).host.name}-{market.lead(g).site.name}-{i + 1}" for i, g in enumerate(sorted(taken))}
    empty = [0.0] * len(market.slices)
    return {g: _Group(names[g], taken[g], on[g], [*empty], [Amount()] * market.years) for g in sorted(taken)}


def _carry(market: Market, mine: _Group, k: int, share: float) -> None:
    """Add what column k carries at a share of its demand."""
    column, load = market.program.columns[k], market.load
    c, t = market.spot(column.demand)
    part = market.slices[t]
    mine.by_year[part.year] += market.priced[k].times(share)
    mine.loads[t] += column.load * share
    choice = market.choice_of[k]
    mine.by_choice[choice] = mine.by_choice.get(choice, 0.0) + column.load * share
    if market.choices[choice].config.role != "decode":  # a request is counted where it is prefilled
        mine.requests += share * part.rate(load.classes[c]) * part.seconds


def _placement(market: Market, group: int, mine: _Group) -> Placement:
    most = max(mine.by_choice, key=lambda c: mine.by_choice[c], default=market.groups[group][0])
    choice, config = market.choices[most], market.choices[most].config
    if choice.hourly:
        mine.on = [_busiest(market, mine, year) for year in range(market.years)]
    paid = [Amount()] * market.years
    for bought, count in mine.taken:
        paid[bought.purchase.year] += bought.purchase.amount.times(count)
    powered = [each.times(n) for each, n in zip(market.on[group], mine.on, strict=True)]
    whole = [a + b + c for a, b, c in zip(powered, mine.by_year, paid, strict=True)]
    total = sum(whole, Amount())
    units = _units(market, mine, choice)
    return Placement(
        pool=mine.name,
        site=choice.site.name,
        host=choice.host.name,
        gpu=choice.gpu,
        units=units,
        owned=choice.owned,
        tenure=choice.tenure,
        model=config.model,
        tp=config.tp,
        precision=config.precision,
        clock=config.clock,
        role=config.role,
        max_batch=config.max_batch,
        instances=units * choice.instances,
        gpus=units * choice.host.gpus,
        tier=choice.profile.provenance.tier,
        share=mine.requests / market.load.requests,
        **_utilisation(market, mine, choice),
        energy_j=total.energy_j,
        dynamic_j=sum(each.energy_j for each in mine.by_year),
        operational_g=total.operational_g,
        embodied_g=total.embodied_g,
        usd=total.usd,
        bought=_by_year([(bought.purchase.year, count) for bought, count in mine.taken]),
        sold=_by_year([(bought.purchase.until, count) for bought, count in mine.taken if bought.purchase.sold]),
        on=mine.on,
        by_hour=_by_hour(market, mine) if choice.hourly else [],
        years=[
            {
                "energy_j": each.energy_j,
                "dynamic_j": carried.energy_j,
                "operational_g": each.operational_g,
                "embodied_g": each.embodied_g,
                "usd": each.usd,
            }
            for each, carried in zip(whole, mine.by_year, strict=True)
        ],
    )


def _busiest(market: Market, mine: _Group, year: int, lost: bool = False) -> int:
    """Whole units that a year's busiest slice needs; with `lost` also of those in which a site is lost."""
    parts = zip(mine.loads, market.slices, strict=True)
    loads = (load for load, part in parts if part.year == year and (lost or part.lost is None))
    return math.ceil(max(loads) - 1e-6)


def _by_hour(market: Market, mine: _Group) -> list[int]:
    """Whole units that each hour of the first year's days needs; what the peak needs in the busiest hour."""
    found, rates = [0.0] * HOURS, [0.0] * HOURS
    for load, part in zip(mine.loads, market.slices, strict=True):
        for hour in part.hours if part.year == 0 else ():
            found[hour], rates[hour] = max(found[hour], load), max(rates[hour], part.rate_per_s)
    crest = rates.index(max(rates))
    found[crest] = max(found[crest], float(_busiest(market, mine, 0)))
    return [math.ceil(load - 1e-6) for load in found]


def _units(market: Market, mine: _Group, choice: Choice) -> int:
    """Units bought in all; of those leased or rented, the most at once."""
    if choice.hourly:
        return max(_busiest(market, mine, year, lost=True) for year in range(market.years))
    if choice.tenure == "lease":
        return max(*mine.on, *(_there(mine, year) for year in range(len(mine.on))))
    return sum(count for _, count in mine.taken)


def _there(mine: _Group, year: int) -> int:
    """Units that are there in a year, on or off."""
    return sum(count for bought, count in mine.taken if len(mine.on) == 1 or year in bought.purchase.years)


def _utilisation(market: Market, mine: _Group, choice: Choice) -> dict[str, float]:
    """Full-load time asked for, as a share of the time units are on: over the horizon, and in the fullest slice."""
    safe, slices = market.safe_utilisation, market.slices
    if choice.hourly:  # on as its load asks for it
        return {"utilisation": safe, "peak_utilisation": safe}
    unit_s = sum(part.seconds * mine.on[part.year] for part in slices)
    asked = sum(load * part.seconds for load, part in zip(mine.loads, slices, strict=True))
    rooms = [_there(mine, part.year) if part.lost is not None else mine.on[part.year] for part in slices]
    peaks = [load / room for load, room in zip(mine.loads, rooms, strict=True) if room]
    return {
        "utilisation": asked / unit_s * safe if unit_s else 0.0,
        "peak_utilisation": max(peaks, default=0.0) * safe,
    }


def _by_year(counts: list[tuple[int, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for year, count in sorted(counts):
        found[str(year)] = found.get(str(year), 0) + count
    return found


def charges(market: Market, solution: Solution) -> list[dict[str, Any]]:
    """What demand charges and drawn-power caps saw: the level of each in kW, and what is paid for it."""
    found = []
    for level, charge in zip(market.program.levels, market.charges, strict=False):  # levels of power come first
        watts = level_of(market.program, level, solution.units, solution.shares, solution.kept_on)
        row = {"site": charge.site, "year": charge.year, "kw": watts / 1000.0, "usd": watts * charge.usd}
        found.append(row | {"limit_kw": None if level.limit is None else level.limit / 1000.0})
    return found


def years(market: Market, rows: list[Placement], paid: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Of each year (one entry where they are not told apart): seconds, requests, units on, joules, grams, dollars.

    Embodied grams are the avoidable ones, whole in the year of purchase.
    """
    found = []
    for year in range(market.years):
        mine = [part for part in market.slices if part.year == year]
        books = {key: sum(row.years[year][key] for row in rows) for key in ("energy_j", "operational_g", "embodied_g")}
        found.append(
            {
                "year": year,
                "seconds": sum(part.seconds for part in mine),
                "requests": sum(part.seconds * part.rate_per_s for part in mine),
                "units_on": sum(row.on[year] for row in rows),
                **books,
                "usd": sum(row.years[year]["usd"] for row in rows)
                + sum(each["usd"] for each in paid if each["year"] == year),
            }
        )
    return found
