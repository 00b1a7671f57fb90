"""What a solution means: which units stand where in which configuration, what they carry, and the books by year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimizer.choices import Amount
from optimizer.columns import Market
from optimizer.demand import Load
from optimizer.solver import Solution


@dataclass(frozen=True, slots=True)
class Placement:
    """Units of one kind in one configuration at one site, and what they carry.

    Utilisation is the share of full-load instance time that is asked for (mean over the horizon, and in the peak
    slice); `energy_j` is over the horizon with PUE, of it `dynamic_j` from requests; `share` is of all requests.
    """

    pool: str
    site: str
    host: str
    gpu: str
    units: int
    owned: bool
    tp: int
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
    on: list[int]  # units kept on in each year (one figure where years are not told apart)
    years: list[dict[str, float]]  # energy_j, dynamic_j and operational_g of each of them


def units_on(market: Market, solution: Solution) -> list[list[int]]:
    """Units of each group kept on in each year."""
    if solution.kept_on is not None:
        return solution.kept_on
    found = [[0] * len(row) for row in market.on]
    for o, count in enumerate(solution.units):
        found[market.group_of[o]] = [n + count for n in found[market.group_of[o]]]
    return found


def fleet(load: Load, market: Market, solution: Solution) -> tuple[list[Placement], list[dict[str, Any]]]:
    """Every placement, and the dispatch: the share of each class in each slice by pool."""
    slices, shares = market.slices, solution.shares
    units: dict[int, dict[int, int]] = {}  # group -> year -> units bought
    for o, count in enumerate(solution.units):
        if count:
            units.setdefault(market.group_of[o], {})[market.bought[o]] = count
    used = sorted(units)
    names = {g: f"{market.lead(g).host.name}-{market.lead(g).site.name}-{i + 1}" for i, g in enumerate(used)}
    carried = {g: _Carried(len(slices)) for g in used}
    dispatch = []
    for k, column in enumerate(market.program.columns):
        g = column.option
        if shares[k] <= 1e-9 or g not in carried:
            continue
        c, t = divmod(column.demand, len(slices))
        requests = shares[k] * load.classes[c].share * slices[t].rate_per_s * slices[t].seconds
        carried[g].add(
            market.choice_of[k], t, slices[t].year, market.priced[k].times(shares[k]), requests, column.load * shares[k]
        )
        row = {"class": c, "slice": slices[t].name, "pool": names[g], "share": shares[k]}
        if len(market.groups[g]) > 1:
            choice = market.choices[market.choice_of[k]]
            row |= {"tp": choice.tp, "max_batch": choice.max_batch}
        dispatch.append(row)
    rows = [_placement(market, solution, g, names[g], units[g], carried[g], load.requests) for g in used]
    return rows, dispatch


def years(load: Load, market: Market, solution: Solution, rows: list[Placement]) -> list[dict[str, float]]:
    """Of each year (one entry where they are not told apart): seconds, requests, units on, joules, grams.

    Embodied grams are the avoidable ones, whole in the year of purchase.
    """
    found = []
    for year in range(len(market.on[0])):
        mine = [part for part in load.slices if part.year == year]
        options = zip(market.bought, market.purchase, solution.units, strict=True)
        embodied_g = sum(amount.embodied_g * count for when, amount, count in options if when == year)
        found.append(
            {
                "year": year,
                "seconds": sum(part.seconds for part in mine),
                "requests": sum(part.seconds * part.rate_per_s for part in mine),
                "units_on": sum(row.on[year] for row in rows),
                "energy_j": sum(row.years[year]["energy_j"] for row in rows),
                "operational_g": sum(row.years[year]["operational_g"] for row in rows),
                "embodied_g": embodied_g,
            }
        )
    return found


class _Carried:
    """What a group serves: amounts and requests in all, loads by slice, and by configuration."""

    def __init__(self, slices: int) -> None:
        self.amount, self.requests = Amount(), 0.0
        self.loads = [0.0] * slices
        self.by_year: dict[int, Amount] = {}
        self.by_choice: dict[int, float] = {}

    def add(self, choice: int, slice_: int, year: int, amount: Amount, requests: float, load: float) -> None:
        self.amount += amount
        self.by_year[year] = self.by_year.get(year, Amount()) + amount
        self.requests += requests
        self.loads[slice_] += load
        self.by_choice[choice] = self.by_choice.get(choice, 0.0) + load


def _placement(
    market: Market,
    solution: Solution,
    group: int,
    name: str,
    bought: dict[int, int],
    carried: _Carried,
    requests: float,
) -> Placement:
    slices, units = market.slices, sum(bought.values())
    most = max(carried.by_choice, key=lambda c: carried.by_choice[c], default=market.groups[group][0])
    choice = market.choices[most]
    on = units_on(market, solution)[group]
    whole = sum((each.times(n) for each, n in zip(market.on[group], on, strict=True)), carried.amount)
    for o, count in enumerate(solution.units):
        if count and market.group_of[o] == group:
            whole += market.purchase[o].times(count)
    years = [
        _year(each.times(n), carried.by_year.get(year, Amount()))
        for year, (each, n) in enumerate(zip(market.on[group], on, strict=True))
    ]
    unit_s = sum(part.seconds * on[part.year] for part in slices)
    safe = market.safe_utilisation
    mean = (
        sum(x * part.seconds for x, part in zip(carried.loads, slices, strict=True)) / unit_s * safe if unit_s else 0.0
    )
    peaks = [x / on[part.year] for x, part in zip(carried.loads, slices, strict=True) if on[part.year]]
    return Placement(
        pool=name,
        site=choice.site.name,
        host=choice.host.name,
        gpu=choice.gpu,
        units=units,
        owned=choice.owned,
        tp=choice.tp,
        max_batch=choice.max_batch,
        instances=units * choice.instances,
        gpus=units * choice.host.gpus,
        tier=choice.profile.provenance.tier,
        share=carried.requests / requests,
        utilisation=mean,
        peak_utilisation=max(peaks, default=0.0) * safe,
        energy_j=whole.energy_j,
        dynamic_j=carried.amount.energy_j,
        operational_g=whole.operational_g,
        embodied_g=whole.embodied_g,
        usd=whole.usd,
        bought={str(year): count for year, count in sorted(bought.items())},
        on=on,
        years=years,
    )


def _year(powered: Amount, dynamic: Amount) -> dict[str, float]:
    both = powered + dynamic
    return {"energy_j": both.energy_j, "dynamic_j": dynamic.energy_j, "operational_g": both.operational_g}
