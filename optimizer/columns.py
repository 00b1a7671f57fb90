"""From choices to the program: demands, columns priced in the objective, caps, and the words for what is missing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from optimizer.choices import Amount, Choice, Kind, Setting, choices, electricity, hull, undominated
from optimizer.demand import HOURS, Load, Slice
from optimizer.program import Cap, Column, Option, Program
from optimizer.study import Future, Infeasible, Study, StudySite
from profiles import catalog, grid
from profiles.inputs import InputError
from profiles.units import JOULES_PER_KWH, SECONDS_PER_HOUR

_WATTS_PER_GPU = 1000.0  # what a missing kilowatt weighs against a missing GPU in the elastic solve


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """The program and what its positions mean.

    Group g is of `groups[g]`'s choices (one, or with `reconfigure` all configurations of a unit at a site), option o is
    a purchase in `bought[o]` for the group `group_of[o]`. `priced[k]` is column k's amount when it takes all of its
    demand, in the configuration `choice_of[k]`; demand d is (class, slice) = divmod(d, slices). `shortage[i]` says what
    one unit of cap i is, for people.
    """

    program: Program
    choices: list[Choice]
    groups: list[list[int]]
    group_of: list[int]
    bought: list[int]
    choice_of: list[int]
    slices: list[Slice]
    priced: list[Amount]
    purchase: list[Amount]  # of one unit of each option
    on: list[list[Amount]]  # of one unit of each group kept on through each year
    shortage: list[str]
    intensity: dict[str, list[float]]  # site -> g/kWh of each slice
    safe_utilisation: float
    notes: list[str]
    kind_of_intensity: str  # the same at all sites, such as "average, lifecycle"

    def lead(self, group: int) -> Choice:
        """A group's choice; with several configurations the first, which tells unit and site."""
        return self.choices[self.groups[group][0]]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A site with its intensity: g/kWh of each hour of each day of the year, from 1 January."""

    site: StudySite
    year: np.ndarray
    month: np.ndarray  # 0 to 11, of each day
    weekend: np.ndarray
    note: str
    signal: grid.Signal

    def at(self, part: Slice, way: Future) -> float:
        """Mean intensity of a slice, moved by the site's trend and the future's factor; 0 in the peak."""
        if part.hour is None:
            return 0.0
        days = np.ones(self.month.size, dtype=bool)
        if part.season is not None:
            days &= (self.month + 1) % 12 // 3 == part.season
        if part.weekend is not None:
            days &= self.weekend == part.weekend
        moved = way.intensity * (1.0 + self.site.intensity_trend_per_year) ** part.year
        return float(self.year[days, part.hour].mean()) * moved


def build(
    study: Study, load: Load, seen: dict[Kind, float] | None = None, factors: dict[Setting, float] | None = None
) -> Market:
    """The program of a study.

    Args:
        study, load: the question.
        seen: utilisation found by an earlier round for kinds of unit; others are priced at `operating_point`.
        factors: what replays found a request's joules to be in a configuration, over what was priced.

    Raises:
        InputError: unknown GPU, host, model or zone; no profile; a price is needed and missing.
        Infeasible: a class of requests fits no configuration.
    """
    catalog.llm(study.demand.model)  # an unknown model is named before any missing profile
    places = [place(study, site) for site in study.sites]
    grid.check_alike({place.site.name: place.signal for place in places})
    seen_at = {p.site.name: [p.at(part, study.ways[part.future]) for part in load.slices] for p in places}
    slices, intensity = merged(load.slices, seen_at)
    kept = undominated(list(choices(study, load, seen or {}, factors or {})))
    groups = _groups(kept, study.reconfigure)
    columns, priced, choice_of = _columns(study, load, slices, intensity, kept, groups)
    on = [_on(kept[min(group, key=lambda c: kept[c].idle_w)], slices, intensity) for group in groups]
    apart = study.years_apart
    options, group_of, bought, purchase = [], [], [], []
    for g, group in enumerate(groups):
        choice = kept[group[0]]
        for year in [0] if choice.owned else [y for y in study.purchase_years if y >= choice.from_year]:
            amount = choice.bought(study, year)
            whole = amount if apart else sum(on[g], amount)
            last = min(len(on[g]), year + (choice.usable_years or len(on[g])))
            there = frozenset(range(year, last)) if apart else None
            options.append(Option(worth(study, whole), group=g, periods=there))
            group_of.append(g)
            bought.append(year)
            purchase.append(amount)
    owners = [kept[groups[g][0]] for g in group_of]
    caps, shortage = _caps(study, owners, [option.periods for option in options])
    demands = [t for _ in load.classes for t in range(len(slices))]
    running = tuple(tuple(worth(study, each) for each in row) for row in on) if apart else None
    period_of = tuple(part.year for part in slices) if apart else None
    program = Program(options, columns, demands, caps, period_of=period_of, running=running)
    for demand in program.unserved():
        year = slices[demand % len(slices)].year
        if any(column.demand == demand for column in columns):
            mend = "offer units earlier, raise usable_years, or buy in an earlier year (purchase_years)"
            raise Infeasible(f"in year {year} nothing that serves every request is there any more or yet; {mend}")
        raise Infeasible(_why_unserved(study, load, kept, demand // len(slices)))
    notes = list(dict.fromkeys(f"{place.site.name}: {place.note}" for place in places if place.note))
    kind = f"{places[0].signal.kind}, {places[0].signal.scope}"
    names = (program, kept, groups, group_of, bought, choice_of, slices, priced, purchase, on, shortage, intensity)
    return Market(*names, study.safe_utilisation, notes, kind)


def _groups(kept: list[Choice], reconfigure: bool) -> list[list[int]]:
    """Choices whose units are one capacity: each by itself, or all configurations of a unit at a site."""
    if not reconfigure:
        return [[c] for c in range(len(kept))]
    found: dict[tuple[object, ...], list[int]] = {}
    for c, choice in enumerate(kept):
        found.setdefault((choice.host.name, choice.owned, choice.source, choice.site.name), []).append(c)
    return list(found.values())


def _on(choice: Choice, slices: list[Slice], intensity: dict[str, list[float]]) -> list[Amount]:
    """What one unit draws that is on, year by year."""
    values = intensity[choice.site.name]
    years = max(part.year for part in slices) + 1
    seconds, gkwh_s = np.zeros(years), np.zeros(years)
    for part, value in zip(slices, values, strict=True):
        seconds[part.year] += part.seconds
        gkwh_s[part.year] += part.seconds * value
    return [choice.kept_on(float(g), float(s)) for g, s in zip(gkwh_s, seconds, strict=True)]


def worth(study: Study, amount: Amount) -> float:
    """The objective: grams, joules, or dollars plus grams at the carbon price."""
    if study.objective == "carbon":
        return amount.carbon_g
    if study.objective == "energy":
        return amount.energy_j
    return amount.usd + amount.carbon_g * study.carbon_price_usd_per_t / 1e6


def merged(slices: list[Slice], hours: dict[str, list[float]]) -> tuple[list[Slice], dict[str, list[float]]]:
    """Slices of equal rate and intensity at every site joined into one: the program stays exact and gets smaller."""
    groups: dict[tuple[float, ...], list[Slice]] = {}
    for t, part in enumerate(slices):
        at = [values[t] for values in hours.values()]
        key = (part.rate_per_s, float(part.hour is None), float(part.year), float(part.future), *at)
        groups.setdefault(key, []).append(part)
    joined = [
        replace(parts[0], name="+".join(part.name for part in parts), seconds=sum(part.seconds for part in parts))
        for parts in groups.values()
    ]
    return joined, {name: [key[4 + i] for key in groups] for i, name in enumerate(hours)}


def place(study: Study, site: StudySite) -> _Place:
    """Intensity of every hour (UTC) of the year that begins at the study's start."""
    year = timedelta(days=365).total_seconds()
    signal = grid.load(site.grid, scope=site.scope, kind=site.kind)
    start = study.start.replace(hour=0, minute=0, second=0, microsecond=0)
    window = signal.window(start.timestamp(), year, align=study.align)
    integral = np.array([window.integral(SECONDS_PER_HOUR * i) for i in range(365 * HOURS + 1)])
    hourly = (np.diff(integral) / SECONDS_PER_HOUR).reshape(365, HOURS)
    days = [start + timedelta(days=k) for k in range(365)]
    months = np.array([day.month - 1 for day in days])
    return _Place(site, hourly, months, np.array([day.weekday() >= 5 for day in days]), window.note, signal)


def _columns(
    study: Study,
    load: Load,
    slices: list[Slice],
    intensity: dict[str, list[float]],
    kept: list[Choice],
    groups: list[list[int]],
) -> tuple[list[Column], list[Amount], list[int]]:
    """Every class in every slice on every group that serves it: with several configurations, those of the hull."""
    columns, priced, choice_of = [], [], []
    for g, group in enumerate(groups):
        values = intensity[kept[group[0]].site.name]
        for c, each in enumerate(load.classes):
            points = []
            for o in group:
                served = kept[o].served[c]
                if not isinstance(served, str):
                    busy_s = served.instance_s / (kept[o].instances * study.safe_utilisation)
                    points.append((busy_s, kept[o].joules[c] * kept[o].site.pue, o))
            chosen = set(hull(points)) if len(points) > 1 else {o for _, _, o in points}
            for busy_s, grid_j, o in points:
                if o not in chosen:
                    continue
                for t, part in enumerate(slices):
                    rate = part.rate_per_s * each.share
                    energy_j = grid_j * rate * part.seconds
                    amount = Amount(energy_j / JOULES_PER_KWH * values[t], 0.0, 0.0, energy_j)
                    amount += electricity(kept[o].site, energy_j)
                    columns.append(Column(c * len(slices) + t, g, rate * busy_s, worth(study, amount)))
                    priced.append(amount)
                    choice_of.append(o)
    return columns, priced, choice_of


def _caps(study: Study, kept: list[Choice], there: list[frozenset[int] | None]) -> tuple[list[Cap], list[str]]:
    """Stock and availability per entry, room and power per site and year; with the words for one missing unit of each.

    Args:
        kept: the choice behind each option; there: the years in which its units are (None: always).
    """
    caps: list[Cap] = []
    words: list[str] = []

    def add(limit: float | None, use: dict[int, float], weight: float, word: str, whole: bool = True) -> None:
        if limit is not None and use:
            caps.append(Cap(float(limit), use, weight, whole))
            words.append(word)

    def of(owned: bool, source: int) -> dict[int, float]:
        return {o: 1.0 for o, c in enumerate(kept) if c.owned == owned and c.source == source}

    for i, offer in enumerate(study.catalogue):
        use = of(False, i)
        hosts = sorted({kept[o].host.name for o in use})
        gpus = max((kept[o].host.gpus for o in use), default=1)
        add(offer.max_units, use, gpus, f"{' or '.join(hosts)} ({offer.gpu})")
    for i, stock in enumerate(study.owned):
        use = of(True, i)
        gpus = max((kept[o].host.gpus for o in use), default=1)
        add(stock.units, use, gpus, f"{kept[next(iter(use))].host.name} ({stock.gpu}) at {stock.site}" if use else "")
    years: list[int | None] = [*sorted({year for each in there for year in each or ()})]
    for site, year in itertools.product(study.sites, years or [None]):
        here = {
            o: c
            for o, (c, periods) in enumerate(zip(kept, there, strict=True))
            if c.site.name == site.name and (year is None or periods is None or year in periods)
        }
        when = "" if year is None else f" in year {year}"
        add(site.max_gpus, {o: float(c.host.gpus) for o, c in here.items()}, 1.0, f"GPUs of room at {site.name}{when}")
        if site.max_power_w is None:
            continue
        power = {o: _nameplate_w(c) for o, c in here.items()}
        add(site.max_power_w, power, 1.0 / _WATTS_PER_GPU, f"W of power at {site.name}{when}", whole=False)
    return caps, words


def _nameplate_w(choice: Choice) -> float:
    if choice.nameplate_w is None:
        raise InputError(f"no TDP is known for {choice.gpu}, so max_power_w cannot be held", field=choice.site.name)
    return choice.nameplate_w


def _why_unserved(study: Study, load: Load, kept: list[Choice], number: int) -> str:
    """One line on a class that fits nowhere: it, and what each GPU lacks at its smallest batch."""
    each = load.classes[number]
    lacks: dict[str, str] = {}
    for choice in sorted(kept, key=lambda c: (c.max_batch, -c.tp)):
        reason = choice.served[number]
        if isinstance(reason, str):
            lacks.setdefault(choice.gpu, f"{choice.gpu} tp{choice.tp} batch {choice.max_batch}: {reason}")
    return (
        f"no configuration serves requests of {each.prompt_tokens} tokens in and {each.output_tokens} out "
        f"({100 * each.share:.2g} % of them) within the limits ({'; '.join(lacks.values())}); "
        "allow smaller max_batch or more tp, add a faster GPU, or loosen slo"
    )
