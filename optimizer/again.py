"""The plan's program put once more with something changed: other limits, other figures, a fleet held as it is.

Every analysis of a plan rests on this: joules of a request stay priced as in the plan, so that two objectives differ
by what was changed and by their gaps, and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from optimizer import market as markets
from optimizer.choices import Choice
from optimizer.demand import Load
from optimizer.market import Market
from optimizer.plan import Answer
from optimizer.program import Cap, Program, restricted
from optimizer.solver import Solution, solve_program
from optimizer.study import Infeasible, Study

Tell = Callable[[str], None]


class Unit(NamedTuple):
    """What a fleet is counted in: a host with its GPUs at a site, owned, or bought or leased in a year."""

    host: str
    gpu: str
    site: str
    tenure: str
    year: int

    @property
    def owned(self) -> bool:
        """Whether it was bought before the study."""
        return self.tenure == "owned"


Fleet = dict[Unit, int]


@dataclass(frozen=True, slots=True)
class Best:
    """The best fleet of a changed question; `objective` None: nothing found, `status` says whether there is nothing."""

    fleet: Fleet
    objective: float | None
    bound: float | None
    gap: float | None
    status: str


def again(
    answer: Answer, *, study: Study | None = None, load: Load | None = None, offered: list[Choice] | None = None
) -> Market:
    """The plan's market with another study, demand or choices; what is left out stays as in the plan.

    Raises:
        Infeasible: a class of requests fits nothing that is offered.
    """
    asked = study or answer.study
    kept = answer.market.choices if offered is None else offered
    return markets.build(asked, load or answer.load, answer.seen, answer.factors, kept)


def recounted(answer: Answer, study: Study) -> Market:
    """The plan's market under a study whose accounting differs: the choices are made anew, joules priced as they were.

    Raises:
        InputError: a figure the accounting needs is not known.
    """
    return markets.build(study, answer.load, answer.seen, answer.factors)


def altered(
    choices: Iterable[Choice], which: Callable[[Choice], bool], change: Callable[[Choice], dict[str, Any]]
) -> list[Choice]:
    """The choices, some of them with other figures."""
    return [replace(choice, **change(choice)) if which(choice) else choice for choice in choices]


def found(answer: Answer, market: Market, program: Program | None = None) -> Solution:
    """Solve a market's program (or one made from it) with the study's time limit and gap."""
    asked = answer.study
    return solve_program(program or market.program, time_limit_s=asked.time_limit_s, gap_rel=asked.gap)


def best(answer: Answer, market: Market) -> Best:
    """The best fleet of a market."""
    solution = found(answer, market)
    fleet = fleet_of(market, solution.units) if solution.units else {}
    return Best(fleet, solution.objective, solution.bound, solution.gap, solution.status)


def unit_of(market: Market, option: int) -> Unit:
    """What an option buys or keeps one of."""
    choice, purchase = market.bought[option].choice, market.bought[option].purchase
    year = 0 if choice.owned else purchase.year
    return Unit(choice.host.name, choice.gpu, choice.site.name, choice.tenure, year)


def fleet_of(market: Market, units: list[int]) -> Fleet:
    """Units by what they are, whatever their configuration."""
    counts: Fleet = {}
    for option in range(len(market.bought)):
        if units[option]:
            unit = unit_of(market, option)
            counts[unit] = counts.get(unit, 0) + units[option]
    return counts


def decided(market: Market, fleet: Fleet) -> Fleet:
    """What is decided at purchase: with years apart, owned units go on and off as the demand needs."""
    return {unit: n for unit, n in fleet.items() if n and not (unit.owned and market.program.running)}


def holding(answer: Answer, market: Market, fleet: Fleet) -> Solution:
    """The best dispatch (and configurations) of a fleet that is held as it is."""
    if not fleet.keys() <= {unit_of(market, option) for option in range(len(market.bought))}:
        return Solution("infeasible", None, None, None, [], [], [], 0.0)
    return found(answer, market, pinned(market, fleet, free=market.program.running is not None))


def pinned(market: Market, fleet: Fleet, free: bool = False) -> Program:
    """The program of a fleet's units alone, as many as there are, and of what is rented by the hour.

    With `free`, owned units come and go as the demand needs.
    """
    mine: dict[Unit, list[int]] = {}
    for option in range(len(market.bought)):
        unit = unit_of(market, option)
        if unit in fleet or (free and unit.owned):
            mine.setdefault(unit, []).append(option)
    caps = list(market.program.caps)
    for unit, options in mine.items():
        if not (free and unit.owned):
            count = float(fleet[unit])
            caps += [Cap(count, dict.fromkeys(options, 1.0)), Cap(-count, dict.fromkeys(options, -1.0))]
    keep = {option for options in mine.values() for option in options}
    program = restricted(replace(market.program, caps=caps), keep)
    return replace(program, hourly=market.program.hourly)


def held(answer: Answer, market: Market, fleet: Fleet) -> float | None:
    """What a fleet comes to in a market; None where it cannot carry the demand."""
    return holding(answer, market, fleet).objective


def better(answer: Answer, mine: float | None, other: float | None) -> bool:
    """Whether `other` is below `mine` by more than the gaps allow; nothing found is worse than anything."""
    if other is None or mine is None:
        return other is not None and mine is None
    return other < mine - slack(answer) * abs(mine)


def slack(answer: Answer) -> float:
    """The relative difference of objectives that says nothing: the gap asked for, or the plan's own."""
    return max(answer.study.gap, answer.plan.gap or 0.0)


def sure(answer: Answer, one: Best | Solution) -> bool:
    """Whether a solve is proved: nothing can be had, or what was found lies within the slack of its bound."""
    return one.status == "infeasible" or (one.gap is not None and one.gap <= slack(answer))


def market_or_none(make: Callable[[], Market]) -> Market | None:
    """A market, or None where nothing in it carries the demand."""
    try:
        return make()
    except Infeasible:
        return None


def words(fleet: Fleet) -> str:
    """A fleet for people: '3 x l4-server-8 at quebec (owned), 1 x hgx-h100-8 at quebec in year 2'."""
    parts = []
    for unit, count in sorted(fleet.items()):
        when = f" in year {unit.year}" if unit.year else ""
        had = f" ({unit.tenure})" if unit.tenure != "buy" else ""
        parts.append(f"{count} x {unit.host} at {unit.site}{had}{when}")
    return ", ".join(parts) or "nothing"


def step_of(limit: float, most: float, whole: bool) -> float:
    """By how much a limit is moved: one unit of the largest kind, or the power of ten below it, at most a million."""
    if whole or limit <= 0.0:
        return math.ceil(most)
    return max(float(math.ceil(most)), min(1e6, 10.0 ** math.floor(math.log10(limit))))
