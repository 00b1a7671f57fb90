"""What binds a plan: stock, availability, room, power, dollars and grams, each with the words for one missing unit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from optimizer.amount import Amount, worth
from optimizer.choices import Choice
from optimizer.demand import Slice
from optimizer.offers import Offer
from optimizer.program import Cap, Column, Level, Total
from optimizer.purchase import Purchase
from optimizer.study import Study, StudySite
from profiles.inputs import InputError
from profiles.units import SECONDS_PER_HOUR

# What a unit of a limit that is missed weighs beside a missing GPU in the elastic solve.
_PER_WATT, _PER_USD, _PER_GRAM = 1e-3, 1e-5, 1e-6
_HOURS_A_MONTH = 730.0


@dataclass(frozen=True, slots=True)
class Bought:
    """An option of the program: a purchase of a unit of a group's choice."""

    group: int
    choice: Choice
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class Charge:
    """What a level is: of which site and year, dollars for each of its watts, the words for one that is missing."""

    site: str
    year: int
    usd: float = 0.0
    word: str = ""


@dataclass(slots=True)
class Bounds:
    """The rows of the program that bind, and for each limit, in the solver's order, what one unit of it is."""

    caps: list[Cap] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)  # of each level
    words: list[str] = field(default_factory=list)

    def cap(self, limit: float | None, use: dict[int, float], weight: float, word: str, whole: bool = True) -> None:
        """A cap on units, where there is a limit and something that uses it."""
        if limit is not None and use:
            self.caps.append(Cap(float(limit), use, weight, whole))
            self.words.append(word)


def caps(study: Study, bought: list[Bought]) -> Bounds:
    """Stock and availability per entry, room and nameplate power per site and year, and units in all."""
    found = Bounds()
    for i, offer in enumerate(study.catalogue):
        _availability(found, offer, {o: b for o, b in enumerate(bought) if not b.choice.owned and b.choice.source == i})
    for i, stock in enumerate(study.owned):
        use = {o: b for o, b in enumerate(bought) if b.choice.owned and b.choice.source == i}
        host = next((b.choice.host for b in use.values()), None)
        word = f"{host.name} ({stock.gpu}) at {stock.site}" if host else ""
        found.cap(stock.units, dict.fromkeys(use, 1.0), host.gpus if host else 1, word)
    years = range(int(study.horizon_years)) if study.years_apart else [None]
    for site, year in itertools.product(study.sites, years):
        here = {
            o: b.choice
            for o, b in enumerate(bought)
            if b.choice.site.name == site.name and (year is None or year in b.purchase.years)
        }
        when = "" if year is None else f" in year {year}"
        gpus = {o: float(c.host.gpus) for o, c in here.items()}
        found.cap(site.max_gpus, gpus, 1.0, f"GPUs of room at {site.name}{when}")
        found.cap(site.max_units, dict.fromkeys(here, 1.0), 8.0, f"hosts of room at {site.name}{when}")
        if site.max_power_w is not None:
            power = {o: _nameplate_w(c) for o, c in here.items()}
            found.cap(site.max_power_w, power, _PER_WATT, f"W of power at {site.name}{when}", whole=False)
    new = {o: 1.0 for o, b in enumerate(bought) if not b.choice.owned}
    found.cap(study.limits.units, new, 8.0, "units that may be bought")
    return found


def _availability(found: Bounds, offer: Offer, mine: dict[int, Bought]) -> None:
    hosts = sorted({b.choice.host.name for b in mine.values()})
    gpus = max((b.choice.host.gpus for b in mine.values()), default=1)
    word = f"{' or '.join(hosts)} ({offer.gpu})"
    by_year: dict[int, dict[int, float]] = {}
    for o, b in mine.items():
        by_year.setdefault(b.purchase.year, {})[o] = 1.0
    if offer.tenure == "lease":  # a lease ends with its year
        for year, use in by_year.items():
            found.cap(offer.max_units, use, gpus, f"{word} in year {year}")
    else:
        found.cap(offer.max_units, dict.fromkeys(mine, 1.0), gpus, word)
    for year, most in enumerate(offer.units_by_year or []):
        found.cap(most, by_year.get(year, {}), gpus, f"{word} in year {year}")


def _nameplate_w(choice: Choice) -> float:
    if choice.nameplate_w is None:
        raise InputError(f"no TDP is known for {choice.gpu}, so max_power_w cannot be held", field=choice.site.name)
    return choice.nameplate_w


@dataclass(frozen=True, slots=True)
class Books:
    """What a program's parts cost, as optimizer/market.py has them: for rows that run over dollars, grams and watts.

    `watts(k)` is what column k draws from the grid while its slice lasts, when it takes all of its demand.
    """

    slices: list[Slice]
    leads: list[Choice]  # of each group
    options: list[Amount]  # of each option, with what it draws where units cannot be off
    columns: list[Column]
    priced: list[Amount]
    on: list[list[Amount]]
    site_of: list[str]  # of each column
    watts: Callable[[int], float]


def rows(study: Study, found: Bounds, books: Books) -> None:
    """Add demand charges and drawn-power caps (levels) and budgets on dollars and grams (totals)."""
    for site in study.sites:
        on = {g: c.idle_w * site.pue for g, c in enumerate(books.leads) if c.site.name == site.name and not c.hourly}
        drawn: dict[int, dict[int, float]] = {}
        if site.max_drawn_w is not None or site.demand_charge_usd_per_kw_month:
            for k, column in enumerate(books.columns):
                if books.site_of[k] == site.name:
                    drawn.setdefault(column.demand % len(books.slices), {})[k] = books.watts(k)
        for mine, charge, limit in [*_capped(site, books.slices), *_charged(study, site, books.slices)]:
            columns = {k: watts for t in mine for k, watts in drawn.get(t, {}).items()}
            cost = worth(study, Amount(usd=charge.usd))
            found.levels.append(Level(mine, on, columns, cost, limit, _PER_WATT))
            found.charges.append(charge)
    for total, word in _totals(study, books, found.charges):
        found.totals.append(total)
        found.words.append(word)
    found.words += [charge.word for charge in found.charges if charge.word]


def _capped(site: StudySite, slices: list[Slice]) -> Iterator[tuple[tuple[int, ...], Charge, float | None]]:
    """A level for what is drawn in each year, peaks included, under the site's limit."""
    if site.max_drawn_w is not None:
        for year in sorted({part.year for part in slices}):
            mine = tuple(t for t, part in enumerate(slices) if part.year == year)
            yield mine, Charge(site.name, year, word=f"W drawn at {site.name} in year {year}"), site.max_drawn_w


def _charged(
    study: Study, site: StudySite, slices: list[Slice]
) -> Iterator[tuple[tuple[int, ...], Charge, float | None]]:
    """A level for the highest hour of each year, future and season that the site's demand charge is paid on."""
    parts: dict[tuple[int, int, int | None], list[int]] = {}
    for t, part in enumerate(slices):
        if part.hour is not None and site.demand_charge_usd_per_kw_month:
            parts.setdefault((part.year, part.future, part.season), []).append(t)
    for (year, _, _), mine in parts.items():
        months = sum(slices[t].seconds for t in mine) / SECONDS_PER_HOUR / _HOURS_A_MONTH
        usd = site.demand_charge_usd_per_kw_month * months / 1000.0 * study.usd_factor(year + 0.5)
        yield tuple(mine), Charge(site.name, year, usd), None


def _totals(study: Study, books: Books, charges: list[Charge]) -> Iterator[tuple[Total, str]]:
    """Dollars and grams over the horizon."""
    switched = study.years_apart or study.reserve.lose_site

    def total(limit: float, of: Callable[[Amount], float], weight: float, paid: dict[int, float]) -> Total:
        running = {
            (g, year): of(amount)
            for g, years in enumerate(books.on)
            for year, amount in enumerate(years)
            if switched and of(amount)
        }
        options = {o: of(amount) for o, amount in enumerate(books.options) if of(amount)}
        columns = {k: of(amount) for k, amount in enumerate(books.priced) if of(amount)}
        return Total(limit, options, columns, running, paid, weight)

    limits = study.limits
    if limits.budget_usd is not None:
        paid = {i: charge.usd for i, charge in enumerate(charges) if charge.usd}
        yield total(limits.budget_usd, lambda amount: amount.usd, _PER_USD, paid), "dollars of budget"
    if limits.carbon_t is not None:
        yield total(limits.carbon_t * 1e6, lambda amount: amount.carbon_g, _PER_GRAM, {}), "grams of carbon"
