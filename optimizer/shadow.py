"""What loosening each limit is worth: the plan's program solved again with that limit moved, not a dual.

A dual holds for a vanishing change of a relaxed program; units are whole, so one more of them is worth something else.
The difference of two solves is what an auditor can repeat; it is known up to both gaps, and they are printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from optimizer.again import Tell, better, fleet_of, found, step_of, words
from optimizer.plan import Answer
from optimizer.program import Program
from optimizer.solver import Solution

_WATTS = "W "
_NOISE = 1e-9  # of the objective: what two sums of the same amounts may differ by


@dataclass(frozen=True, slots=True)
class Shadow:
    """One limit moved by `step` (in its own units): what is saved over the horizon, in the plan's objective unit.

    The true saving lies between `at_least` and `at_most` (None: no bound was proved). `per_year` is `saved` over the
    horizon's years, `fleet` what would be bought then.
    """

    limit: str
    step: float
    saved: float
    at_least: float
    at_most: float | None
    per_year: float
    status: str
    fleet: str


def shadow_prices(answer: Answer, tell: Tell | None = None) -> list[Shadow]:
    """Every limit moved by one step, the others as they are.

    A limit stands in several rows where years are told apart (a site's room in each year): they are moved together.
    Where loosening all limits at once saves nothing beyond the gap, none is solved by itself.
    """
    groups: dict[str, list[int]] = {}
    for place, word in enumerate(answer.market.shortage):
        groups.setdefault(word.partition(" in year ")[0], []).append(place)
    if not groups:
        return []
    steps = {word: _step(answer.market.program, places) for word, places in groups.items()}
    if tell is not None:
        tell("all limits loosened at once")
    every = _moved(answer, {place: steps[word] for word, places in groups.items() for place in places})
    rows = []
    for word, places in groups.items():
        solution = every
        if every.objective is None or better(answer, answer.plan.objective, every.objective):
            if tell is not None:
                tell(amount(steps[word], word))
            solution = _moved(answer, dict.fromkeys(places, steps[word]))
        rows.append(_row(answer, word, steps[word], solution))
    return sorted(rows, key=lambda row: -row.saved)


def _step(program: Program, places: list[int]) -> float:
    limits = list(_limits(program))
    limit, most, whole = limits[places[0]]
    return step_of(limit, max(most, *(limits[place][1] for place in places)), whole)


def _limits(program: Program) -> Iterator[tuple[float, float, bool]]:
    """Caps, then totals, then levels that have one, as `shortage` names them: limit, largest use of a unit, whole."""
    for cap in program.caps:
        yield cap.limit, max(cap.use.values(), default=1.0), cap.whole
    for total in program.totals:
        yield total.limit, 1.0, False
    for level in program.levels:
        if level.limit is not None:
            yield level.limit, max([*level.on.values(), *level.units.values()], default=1.0), level.whole


def _moved(answer: Answer, steps: dict[int, float]) -> Solution:
    program, place = answer.market.program, count()
    caps = [replace(cap, limit=cap.limit + steps.get(next(place), 0.0)) for cap in program.caps]
    totals = [replace(total, limit=total.limit + steps.get(next(place), 0.0)) for total in program.totals]
    levels = [
        level if level.limit is None else replace(level, limit=level.limit + steps.get(next(place), 0.0))
        for level in program.levels
    ]
    return found(answer, answer.market, replace(program, caps=caps, totals=totals, levels=levels))


def _row(answer: Answer, word: str, step: float, solution: Solution) -> Shadow:
    """The plan stays possible when a limit is loosened, so that a worse solve does not count against it."""
    mine, bound, objective = answer.plan.objective, answer.plan.bound, answer.plan.objective
    gained = better(answer, mine, solution.objective)
    if gained and solution.objective is not None:
        objective = solution.objective
    at_least = 0.0 if bound is None else max(0.0, bound - objective)
    at_most = None if solution.bound is None else max(0.0, mine - solution.bound)
    if at_most is not None and at_most <= _NOISE * abs(mine):
        at_most = 0.0
    saved = mine - objective
    fleet = words(fleet_of(answer.market, solution.units)) if gained else ""
    years = answer.study.horizon_years
    return Shadow(amount(step, word), step, saved, at_least, at_most, saved / years, solution.status, fleet)


def amount(step: float, word: str) -> str:
    """A step of a limit in words, watts as kW or MW: '1 MW more power at quebec', '8 more GPUs of room at quebec'."""
    if word.startswith(_WATTS):
        size, unit = (1e6, "MW") if step >= 1e6 else (1e3, "kW")
        return f"{step / size:g} {unit} more {word.removeprefix(_WATTS).removeprefix('of ')}"
    return f"{step:,.0f} more {word}"
