"""Other ways to count, one at a time: which fleet is best under each, and what the recommended one costs beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optimizer import demand
from optimizer.again import Tell, again, best, better, decided, fleet_of, held, recounted, slack, sure, words
from optimizer.amount import Amount, worth
from optimizer.market import Market
from optimizer.plan import Answer
from optimizer.study import Study
from profiles.inputs import InputError


@dataclass(frozen=True, slots=True)
class Case:
    """Another way to count: the fleet that is best under it, and what the recommended one costs beyond it."""

    what: str
    same: bool
    fleet: str
    regret: float | None
    status: str
    words: str


def cases(answer: Answer, tell: Tell | None = None) -> list[Case]:
    """Other presets, boundaries and host power, and grids that get cleaner: the best fleet under each."""
    rows = []
    for name, study, load in _cases(answer):
        if tell is not None:
            tell(name)
        try:
            market = recounted(answer, study) if load is None else again(answer, study=study, load=load)
        except InputError as error:
            rows.append(Case(name, False, "", None, "unknown", f"not known: {error}"))
            continue
        rows.append(_case(answer, name, market))
    return rows


def _cases(answer: Answer) -> Iterator[tuple[str, Study, demand.Load | None]]:
    study, rules = answer.study, answer.study.accounting

    def of(**changes: Any) -> Study:
        return study.model_copy(update={"accounting": rules.model_copy(update=changes)})

    if worth(study, Amount(embodied_g=1.0)):
        for preset in ("pcf-card", "act", "boavizta", "hotcarbon24"):
            if preset != rules.preset:
                yield f"embodied preset {preset}", of(preset=preset), None
        for boundary in ("server", "card", "chip"):
            if boundary != rules.boundary:
                yield f"embodied boundary {boundary}", of(boundary=boundary), None
    word = "left out" if rules.host_power else "counted"
    yield f"host power {word}", of(host_power=not rules.host_power), None
    whole = study.horizon_years == int(study.horizon_years) and study.by_year is not False
    if whole and study.horizon_years > 1 and worth(study, Amount(operational_g=1.0)):
        for trend in (-0.03, -0.07):
            sites = [site.model_copy(update={"intensity_trend_per_year": trend}) for site in study.sites]
            if any(site.intensity_trend_per_year != trend for site in study.sites):
                moved = study.model_copy(update={"sites": sites})
                yield f"all grids {100 * trend:g} % a year", moved, demand.build(moved)


def _case(answer: Answer, name: str, market: Market) -> Case:
    one = best(answer, market)
    if one.objective is None:
        return Case(name, False, "", None, one.status, "no fleet was found")
    fleet = fleet_of(answer.market, answer.solution.units)
    mine = held(answer, market, decided(market, fleet))
    same = decided(market, one.fleet) == decided(market, fleet) or not better(answer, mine, one.objective)
    regret = None if mine is None or not one.objective else max(0.0, mine / one.objective - 1.0)
    doubt = "" if sure(answer, one) else "; not proved"
    if same:
        told = f"the same fleet, within {100 * slack(answer):.2g} %"
        return Case(name, True, words(fleet), regret, one.status, told + doubt)
    more = "the plan's cannot be had" if regret is None else f"the plan's comes to {100 * regret:.1f} % more"
    return Case(name, False, words(one.fleet), regret, one.status, f"{words(one.fleet)}; {more}{doubt}")
