"""From a study to the program and back: the market has the program and what its positions mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer import limits
from optimizer.amount import Amount, worth
from optimizer.choices import Choice, Kind, Setting, choices
from optimizer.columns import Columns
from optimizer.demand import Load, Slice
from optimizer.grids import Place, merged, place
from optimizer.limits import Bought, Charge
from optimizer.program import Option, Program
from optimizer.pruned import undominated
from optimizer.purchase import purchases
from optimizer.study import Infeasible, Study
from profiles import catalog, grid


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """The program and what its positions mean.

    Group g is of `groups[g]`'s choices (one, or with `reconfigure` all configurations of a unit at a site), option o is
    the purchase `bought[o]`. `priced[k]` is column k's amount when it takes all of its demand, in the configuration
    `choice_of[k]`. `shortage[i]` says what one unit of limit i is, for people; `charges[l]` what level l is (those of
    power come first).
    """

    program: Program
    load: Load
    choices: list[Choice]
    groups: list[list[int]]
    bought: list[Bought]
    choice_of: list[int]
    slices: list[Slice]
    priced: list[Amount]
    on: list[list[Amount]]  # of one unit of each group kept on through each year; nothing for hourly ones
    shortage: list[str]
    charges: list[Charge]
    intensity: dict[str, list[float]]  # site -> g/kWh of each slice
    safe_utilisation: float
    notes: list[str]
    kind_of_intensity: str  # the same at all sites, such as "average, lifecycle"

    def lead(self, group: int) -> Choice:
        """A group's choice; with several configurations the first, which tells unit and site."""
        return self.choices[self.groups[group][0]]

    def spot(self, demand: int) -> tuple[int, int]:
        """Class and slice of a demand (its prefill, or where roles are apart its decode)."""
        return divmod(demand % (len(self.load.classes) * len(self.slices)), len(self.slices))

    @property
    def years(self) -> int:
        """How many years the program tells apart."""
        return max(part.year for part in self.slices) + 1


def build(
    study: Study,
    load: Load,
    seen: dict[Kind, float] | None = None,
    factors: dict[Setting, float] | None = None,
    offered: list[Choice] | None = None,
) -> Market:
    """The program of a study.

    Args:
        study, load: the question.
        seen: utilisation found by an earlier round for kinds of unit; others are priced at `operating_point`.
        factors: what replays found a request's joules to be in a configuration, over what was priced.
        offered: the choices of an earlier market, as they are or changed, instead of the study's own.

    Raises:
        InputError: unknown GPU, host, model or zone; no profile; a price is needed and missing.
        Infeasible: a class of requests fits no configuration.
    """
    for name in study.models:
        catalog.llm(name)  # an unknown model is named before any missing profile
    places = [place(study, site) for site in study.sites]
    grid.check_alike({each.site.name: each.signal for each in places})
    seen_at = {p.site.name: [p.at(part, study.ways[part.future]) for part in load.slices] for p in places}
    charged = any(site.demand_charge_usd_per_kw_month for site in study.sites)
    slices, intensity = merged(load.slices, seen_at, by_season=charged)
    kept = undominated(list(choices(study, load, seen or {}, factors or {}))) if offered is None else offered
    groups = _groups(kept, study.reconfigure)
    leads = [kept[group[0]] for group in groups]
    table = Columns(study, load, slices, intensity, kept, groups)
    years = max(part.year for part in slices) + 1
    on = [_on(study, kept[min(group, key=lambda c: kept[c].idle_w)], slices, intensity, years) for group in groups]
    bought = [Bought(g, lead, each) for g, lead in enumerate(leads) for each in purchases(study, lead)]
    apart = study.years_apart
    switched = apart or study.reserve.lose_site  # units may be off
    paid = [b.purchase.amount if switched else sum(on[b.group], b.purchase.amount) for b in bought]
    options = [
        Option(worth(study, amount), group=b.group, periods=b.purchase.years if apart else None)
        for b, amount in zip(bought, paid, strict=True)
    ]
    sites = [kept[c].site.name for c in table.choice_of]
    books = limits.Books(slices, leads, paid, table.columns, table.priced, on, sites, table.watts)
    bounds = limits.bounds(study, bought, books)
    program = Program(
        options,
        table.columns,
        [*range(len(slices))] * len(load.classes) * (1 + study.apart_by_role),
        bounds.caps,
        period_of=tuple(part.year for part in slices) if apart else None,
        running=tuple(tuple(worth(study, each) for each in row) for row in on) if switched else None,
        levels=bounds.levels,
        totals=bounds.totals,
        links=table.links(),
        hourly=frozenset(g for g, lead in enumerate(leads) if lead.hourly),
        cold=frozenset(t for t, part in enumerate(slices) if part.lost is not None),
        spare={g: study.reserve.spare_units for g, lead in enumerate(leads) if study.reserve.spare_units},
    )
    market = Market(
        program=program,
        load=load,
        choices=kept,
        groups=groups,
        bought=bought,
        choice_of=table.choice_of,
        slices=slices,
        priced=table.priced,
        on=on,
        shortage=bounds.words,
        charges=bounds.charges,
        intensity=intensity,
        safe_utilisation=study.safe_utilisation,
        notes=[*_grid_notes(places), *_left_out(study, kept)],
        kind_of_intensity=f"{places[0].signal.kind}, {places[0].signal.scope}",
    )
    _all_served(market)
    return market


def _grid_notes(places: list[Place]) -> list[str]:
    return list(dict.fromkeys(f"{each.site.name}: {each.note}" for each in places if each.note))


def _left_out(study: Study, kept: list[Choice]) -> list[str]:
    """Models that a GPU is not offered for, since it has no profile of them."""
    runs = {(choice.gpu, choice.config.model) for choice in kept}
    gpus = dict.fromkeys(choice.gpu for choice in kept)
    names = [catalog.llm(name).name for name in study.models]
    return [
        f"{gpu} is not offered for {name}: there is no profile of it"
        for gpu in gpus
        for name in names
        if (gpu, name) not in runs
    ]


def _groups(kept: list[Choice], reconfigure: bool) -> list[list[int]]:
    """Choices whose units are one capacity: each by itself, or every tp and batch of what a unit at a site does."""
    if not reconfigure:
        return [[c] for c in range(len(kept))]
    found: dict[tuple[object, ...], list[int]] = {}
    for c, choice in enumerate(kept):
        does = choice.config.model, choice.config.precision, choice.config.clock, choice.config.role
        found.setdefault((choice.host.name, choice.owned, choice.source, choice.site.name, *does), []).append(c)
    return list(found.values())


def _on(
    study: Study, choice: Choice, slices: list[Slice], intensity: dict[str, list[float]], years: int
) -> list[Amount]:
    """What one unit draws that is on, year by year; an hourly one is on with its load (see columns)."""
    if choice.hourly:
        return [Amount()] * years
    values = intensity[choice.site.name]
    seconds, gkwh_s = np.zeros(years), np.zeros(years)
    for part, value in zip(slices, values, strict=True):
        seconds[part.year] += part.seconds
        gkwh_s[part.year] += part.seconds * value
    return [
        choice.kept_on(float(gkwh_s[y]), float(seconds[y]), y).dollars(study.usd_factor(y + 0.5)) for y in range(years)
    ]


def _all_served(market: Market) -> None:
    """Whether something serves every class in every slice.

    Raises:
        Infeasible: it does not; the message says what each GPU lacks.
    """
    for demand in market.program.unserved():
        number, t = market.spot(demand)
        part = market.slices[t]
        if any(market.spot(column.demand)[0] == number for column in market.program.columns):
            if part.lost is not None:
                raise Infeasible(f"without {part.lost} nothing serves every request; offer units at another site")
            mend = "offer units earlier, raise usable_years, or buy in an earlier year (purchase_years)"
            raise Infeasible(f"in year {part.year} nothing that serves every request is there any more or yet; {mend}")
        raise Infeasible(_why_unserved(market.load, market.choices, number))


def _why_unserved(load: Load, kept: list[Choice], number: int) -> str:
    """One line on a class that fits nowhere: it, and what each GPU lacks at its smallest batch."""
    each = load.classes[number]
    lacks: dict[str, str] = {}
    for choice in sorted(kept, key=lambda c: (c.config.max_batch, -c.config.tp)):
        reason, own = choice.served[number], choice.config
        if isinstance(reason, str) and own.model == each.model:
            lacks.setdefault(choice.gpu, f"{choice.gpu} tp{own.tp} batch {own.max_batch}: {reason}")
    return (
        f"no configuration serves requests of {each.prompt_tokens} tokens in and {each.output_tokens} out "
        f"({100 * each.share:.3g} % of them) within the limits ({'; '.join(lacks.values())}); "
        "allow smaller max_batch or more tp, add a faster GPU, or loosen slo"
    )
