"""The next best fleets: the plan's program solved again with every fleet found so far ruled out.

A fleet is ruled out by whole numbers alone: for each kind of unit a switch u says "one more than in that fleet at
least" and a switch l "one fewer at most", and one of the switches must be on. Fleets that differ in configuration only
are one fleet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from optimizer.again import Fleet, Tell, Unit, decided, fleet_of, found, sure, unit_of, words
from optimizer.market import Market
from optimizer.plan import Answer
from optimizer.program import Cap, Option, Program
from optimizer.solver import Solution

WITHIN = 0.01  # of the plan's objective
MOST = 5  # fleets that are looked for


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A fleet other than the plan's and those before it, with its own bound and gap.

    `proved`: no other fleet than the ones before it is better by more than `gap`. `more` is its objective over the
    plan's, minus one; below zero by no more than the plan's own gap.
    """

    fleet: str
    units: Fleet
    objective: float
    bound: float | None
    gap: float | None
    status: str
    proved: bool
    more: float


@dataclass(frozen=True, slots=True)
class RunnersUp:
    """The fleets found, best first, and in words whether there may be others within WITHIN."""

    fleets: list[RunnerUp]
    complete: bool
    note: str


def runners_up(answer: Answer, most: int = MOST, tell: Tell | None = None) -> RunnersUp:
    """Up to `most` other fleets, as long as they lie within WITHIN; the first of them wherever it lies."""
    market, mine = answer.market, answer.plan.objective
    ruled_out = [decided(market, fleet_of(market, answer.solution.units))]
    within, limit = f"within {100 * WITHIN:g} %", mine + WITHIN * abs(mine)
    rows: list[RunnerUp] = []
    while len(rows) < most:
        if tell is not None:
            tell(f"runner-up {len(rows) + 1}")
        solution = found(answer, market, without(market, ruled_out))
        if solution.status == "infeasible":
            return RunnersUp(rows, True, "proved: there is no other fleet within the limits")
        if solution.objective is None:
            return RunnersUp(rows, False, f"the time ran out; there may be others {within}")
        beyond = solution.objective > limit
        if not (beyond and rows):
            fleet = fleet_of(market, solution.units[: len(market.bought)])
            ruled_out.append(decided(market, fleet))
            rows.append(_row(answer, fleet, solution.objective, solution))
        if beyond and solution.bound is not None and solution.bound >= limit:
            return RunnersUp(rows, True, f"proved: no other fleet lies {within}")
        if beyond:
            return RunnersUp(rows, False, f"no other fleet was found {within}; that there is none is not proved")
    return RunnersUp(rows, False, f"not looked further than {most}; there may be others {within}")


def _row(answer: Answer, fleet: Fleet, objective: float, solution: Solution) -> RunnerUp:
    more = objective / answer.plan.objective - 1.0 if answer.plan.objective else 0.0
    known = solution.bound, solution.gap, solution.status, sure(answer, solution)
    return RunnerUp(words(fleet), fleet, objective, *known, more)


def without(market: Market, fleets: list[Fleet]) -> Program:
    """The program with some fleets ruled out; switches are appended as options that cost and carry nothing."""
    program = market.program
    mine: dict[Unit, list[int]] = {}
    for option in range(len(market.bought)):
        mine.setdefault(unit_of(market, option), []).append(option)
    mine = {unit: options for unit, options in mine.items() if decided(market, {unit: 1})}
    most = _most(market)
    options, caps = list(program.options), list(program.caps)
    for fleet in fleets:
        switches = []
        for unit, own in mine.items():
            has = fleet.get(unit, 0)
            use = dict.fromkeys(own, 1.0)
            up = len(options)
            options.append(Option(0.0, 1, group=-1))
            caps.append(Cap(0.0, dict.fromkeys(own, -1.0) | {up: has + 1.0}))  # on: at least one more
            switches.append(up)
            if has:
                down, room = len(options), max(has, sum(most[option] for option in own)) + 1
                options.append(Option(0.0, 1, group=-1))
                caps.append(Cap(float(room), use | {down: room - has + 1.0}))  # on: at least one fewer
                switches.append(down)
        caps.append(Cap(-1.0, dict.fromkeys(switches, -1.0)))
    return replace(program, options=options, caps=caps)


def _most(market: Market) -> list[int]:
    """How many units of each option could carry everything alone; no fleet needs more of them."""
    slices = len(market.slices)
    loads: dict[int, dict[int, float]] = {}
    for column in market.program.columns:
        mine = loads.setdefault(column.option, {})
        t = column.demand % slices
        mine[t] = mine.get(t, 0.0) + column.load
    alone = {group: math.ceil(max(mine.values())) for group, mine in loads.items()}
    return [alone.get(bought.group, 0) + market.program.spare.get(bought.group, 0) for bought in market.bought]
