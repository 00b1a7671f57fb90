"""What binds a plan: stock, availability, room, power, dollars and grams, each with the words for one missing unit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

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
    """What a level of power is: its site and year, dollars for each of its watts, the words for one that is missing."""

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
    charges: list[Charge] = field(default_factory=list)  # of the first levels, those of power
    words: list[str] = field(default_factory=list)

    def cap(self, limit: float | None, use: dict[int, float], weight: float, word: str, whole: bool = True) -> None:
        """A cap on units, where there is a limit and something that uses it."""
        if limit is not None and use:
            self.caps.append(Cap(float(limit), use, weight, whole))
            self.words.append(word)

    def level(self, level: Level, word: str) -> None:
        """A level; it has a word where it has a limit."""
        self.levels.append(level)
        if level.limit is not None:
            self.words.append(word)


@dataclass(frozen=True)
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

    def slice_of(self, k: int) -> int:
        """The slice of column k."""
        return self.columns[k].demand % len(self.slices)

    @cached_property
    def by_hour(self) -> list[tuple[int, Choice, int]]:
        """The columns of units by the hour, each with its choice and year."""
        if not any(lead.hourly for lead in self.leads):
            return []
        every = ((k, self.leads[column.option]) for k, column in enumerate(self.columns))
        return [(k, lead, self.slices[self.slice_of(k)].year) for k, lead in every if lead.hourly]


def bounds(study: Study, bought: list[Bought], books: Books) -> Bounds:
    """Every row that binds a study's plan: caps, then totals, then levels, each with its words in that order."""
    found = Bounds()
    _stock(study, found, bought)
    rooms = list(_rooms(study, bought, books))
    for limit, use, rented, weight, word in rooms:
        if not rented:
            found.cap(limit, use, weight, word, whole=weight >= 1.0)
    power = list(_power(study, books))
    for _, charge in power:
        found.charges.append(charge)
    for total, word in _totals(study, books, found.charges):
        found.totals.append(total)
        found.words.append(word)
    for level, charge in power:
        found.level(level, charge.word)
    for limit, use, rented, weight, word in [*rooms, *_rents(study, books)]:
        if rented:
            slices = tuple(sorted({books.slice_of(k) for k in rented}))
            found.level(Level(slices, {}, rented, 0.0, float(limit), weight, use, weight >= 1.0), word)
    return found


def _stock(study: Study, found: Bounds, bought: list[Bought]) -> None:
    """Stock and availability per entry, and units bought in all."""
    for i, offer in enumerate(study.catalogue):
        _availability(found, offer, {o: b for o, b in enumerate(bought) if not b.choice.owned and b.choice.source == i})
    for i, stock in enumerate(study.owned):
        use = {o: b for o, b in enumerate(bought) if b.choice.owned and b.choice.source == i}
        host = next((b.choice.host for b in use.values()), None)
        word = f"{host.name} ({stock.gpu}) at {stock.site}" if host else ""
        found.cap(stock.units, dict.fromkeys(use, 1.0), host.gpus if host else 1, word)
    new = {o: 1.0 for o, b in enumerate(bought) if b.choice.tenure == "buy"}
    found.cap(study.limits.units, new, 8.0, "units that may be bought")


Limited = tuple[float, dict[int, float], dict[int, float], float, str]  # limit, use by option, by column, weight, word


def _rooms(study: Study, bought: list[Bought], books: Books) -> Iterator[Limited]:
    """Room and nameplate power of each site and year: what stands there, and what is rented there by the hour."""
    for site, year in itertools.product(study.sites, range(int(study.horizon_years)) if study.years_apart else [None]):
        when = "" if year is None else f" in year {year}"
        here = {
            o: b.choice
            for o, b in enumerate(bought)
            if b.choice.site.name == site.name and (year is None or year in b.purchase.years)
        }
        by_hour = {k: c for k, c, y in books.by_hour if c.site.name == site.name and year in (None, y)}
        limits: list[tuple[float | None, Callable[[Choice], float], float, str]] = [
            (site.max_gpus, lambda choice: float(choice.host.gpus), 1.0, "GPUs of room"),
            (site.max_units, lambda _: 1.0, 8.0, "hosts of room"),
            (site.max_power_w, _nameplate_w, _PER_WATT, "W of power"),
        ]
        for limit, size, weight, word in limits:
            if limit is not None:
                use = {o: size(choice) for o, choice in here.items()}
                rented = {k: size(choice) * books.columns[k].load for k, choice in by_hour.items()}
                yield float(limit), use, rented, weight, f"{word} at {site.name}{when}"


def _rents(study: Study, books: Books) -> Iterator[Limited]:
    """How much of each entry can be rented at once, over all sites and configurations."""
    for i, offer in enumerate(study.catalogue):
        if offer.tenure != "on-demand" or (offer.max_units is None and offer.units_by_year is None):
            continue
        for year in sorted({part.year for part in books.slices}):
            mine = {k: choice for k, choice, y in books.by_hour if choice.source == i and y == year}
            limits = [offer.max_units, offer.units_by_year[year] if offer.units_by_year is not None else None]
            most = min(limit for limit in limits if limit is not None)
            hosts = " or ".join(sorted({choice.host.name for choice in mine.values()}))
            gpus = max((choice.host.gpus for choice in mine.values()), default=1)
            use = {k: books.columns[k].load for k in mine}
            yield float(most), {}, use, gpus, f"{hosts} ({offer.gpu}) by the hour in year {year}"


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


def _power(study: Study, books: Books) -> Iterator[tuple[Level, Charge]]:
    """Demand charges and caps on drawn power."""
    for site in study.sites:
        if site.max_drawn_w is None and not site.demand_charge_usd_per_kw_month:
            continue
        on = {g: c.idle_w * site.pue for g, c in enumerate(books.leads) if c.site.name == site.name and not c.hourly}
        drawn: dict[int, dict[int, float]] = {}
        for k, name in enumerate(books.site_of):
            if name == site.name:
                drawn.setdefault(books.slice_of(k), {})[k] = books.watts(k)
        for mine, charge, limit in [*_capped(site, books.slices), *_charged(study, site, books.slices)]:
            columns = {k: watts for t in mine for k, watts in drawn.get(t, {}).items()}
            if books.slices[mine[0]].lost is not None:  # only what serves needs to be on, or must
                idle = {k: on.get(books.columns[k].option, 0.0) * books.columns[k].load for k in columns}
                level = Level(mine, {}, {k: columns[k] + idle[k] for k in columns}, 0.0, limit, _PER_WATT)
            else:
                level = Level(mine, on, columns, worth(study, Amount(usd=charge.usd)), limit, _PER_WATT)
            yield level, charge


def _capped(site: StudySite, slices: list[Slice]) -> Iterator[tuple[tuple[int, ...], Charge, float | None]]:
    """A level for what is drawn in each year, peaks included, under the site's limit; with another site lost, apart."""
    if site.max_drawn_w is not None:
        for year, lost in sorted({(part.year, part.lost is not None) for part in slices}):
            mine = tuple(t for t, part in enumerate(slices) if (part.year, part.lost is not None) == (year, lost))
            word = f"W drawn at {site.name} in year {year}{' when a site is lost' if lost else ''}"
            yield mine, Charge(site.name, year, word=word), site.max_drawn_w


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
