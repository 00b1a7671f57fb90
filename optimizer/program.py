"""The integer program every question is put to: whole units bought, divisible traffic dispatched.

    minimise   sum_o cost_o n_o + sum_k cost_k x_k + sum_gp running_gp k_gp + sum_l cost_l v_l
    subject to sum of x_k over the columns of demand d        = 1        every demand d
               sum of load_k x_k over columns of group g in slice t + spare_g w_gp <= k_gp   every g, t of period p
               k_gp <= sum of n_o over the options of group g that are there in period p
               k_gp <= most_gp w_gp                           groups with spare units: w tells whether they are used
               sum of use_co n_o                              <= limit_c every cap c
               sum of on_lg k_gp + sum of units_lo n_o
                   + sum of use_lk x_k in slice t             <= v_l     every level l, its slices
               v_l                                            <= limit_l
               sum of everything's use of total m             <= limit_m every total m
               sum of coefficient_jk x_k                      = 0        every link j
               n_o, k_gp integer >= 0,  w_gp in {0, 1},  0 <= x_k <= 1 (or in steps of 1/S)

k is how many units are kept on; without running costs all that are there are on. An option is a purchase: the same
unit bought in another year is another option of the same group. A group in `hourly` is rented by the slice: it has no
options and nothing but levels limits its load. In a cold slice (a site is lost) all units that are there may serve,
kept on or not. A level is the highest of some slices (watts, for a demand charge or a cap on what is drawn; units
bought and rented together, for room); a total runs over everything (dollars, grams). A link ties columns (prefill here
is decoded there). Loads are in units: the share of safe capacity is already divided out. What an option, a demand or a
cap means (hosts and grams, or Mélange's GPUs and dollars) is the caller's business; names here are positions, so two
names a solver would rewrite to the same word cannot collide.
This is F0e of docs/optimize.md, or F1 where a group's columns are of several configurations. optimizer/solver.py
solves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

_TINY = 1e-5  # of a unit: less is the solver's tolerance


@dataclass(frozen=True, slots=True)
class Option:
    """Something bought or kept in whole units; `cost` is the objective of one unit over the whole horizon."""

    cost: float
    max_units: int | None = None
    group: int | None = None  # whose capacity it adds to; default: a group of its own position
    periods: frozenset[int] | None = None  # when it is there; default: always


@dataclass(frozen=True, slots=True)
class Column:
    """Demand `demand` served by group `option`: taking all of it occupies `load` units and costs `cost`.

    `also` is a second demand that the same column serves (the decode of what it prefilled).
    """

    demand: int
    option: int
    load: float
    cost: float
    also: int | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """`sum(use[o] * units of o) <= limit`. A miss is worth `weight` per unit of limit in an elastic solve."""

    limit: float
    use: dict[int, float]
    weight: float = 1.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """The largest over some slices of what units on (by group), options and columns (taking all of a demand) take."""

    slices: tuple[int, ...]  # all of one period
    on: dict[int, float]
    columns: dict[int, float]
    cost: float = 0.0
    limit: float | None = None
    weight: float = 1.0
    units: dict[int, float] = field(default_factory=dict)  # by option, on or off
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """`limit` on a sum over options, columns (taking all), units kept on by (group, period), and levels."""

    limit: float
    options: dict[int, float] = field(default_factory=dict)
    columns: dict[int, float] = field(default_factory=dict)
    running: dict[tuple[int, int], float] = field(default_factory=dict)
    levels: dict[int, float] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class Program:
    """Options, columns and rows; demand d stands in slice `slice_of[d]` and shares capacity only within it."""

    options: list[Option]
    columns: list[Column]
    slice_of: list[int]
    caps: list[Cap]
    steps: int | None = None  # traffic moves in steps of 1/steps of a demand; None: freely divisible
    period_of: tuple[int, ...] | None = None  # of each slice; None: one period
    running: tuple[tuple[float, ...], ...] | None = None  # cost of a unit kept on, by group and period; None: always on
    levels: list[Level] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)
    links: list[dict[int, float]] = field(default_factory=list)
    hourly: frozenset[int] = frozenset()  # groups that are rented by the slice
    spare: dict[int, int] = field(default_factory=dict)  # group -> units beyond the load wherever it is used
    cold: frozenset[int] = frozenset()  # slices in which what is there counts, whether it is kept on or not

    def period(self, slice_: int) -> int:
        """The period a slice lies in."""
        return self.period_of[slice_] if self.period_of is not None else 0

    @property
    def periods(self) -> int:
        """How many there are."""
        return max(self.period_of, default=0) + 1 if self.period_of is not None else 1

    @cached_property
    def _members(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for o, option in enumerate(self.options):
            if option.max_units != 0:
                found.setdefault(o if option.group is None else option.group, []).append(o)
        return found

    def members(self, group: int, period: int) -> list[int]:
        """The options that add to a group's capacity in a period."""
        there = ((o, self.options[o].periods) for o in self._members.get(group, ()))
        return [o for o, periods in there if periods is None or period in periods]

    @cached_property
    def alive(self) -> tuple[int, ...]:
        """The columns whose group can have capacity in their period; the others are never used."""
        groups = self.hourly | {column.option for column in self.columns}
        there = {(g, p) for g in groups for p in range(self.periods) if g in self.hourly or self.members(g, p)}
        at = [self.period(slice_) for slice_ in self.slice_of]
        return tuple(k for k, column in enumerate(self.columns) if (column.option, at[column.demand]) in there)

    def unserved(self) -> list[int]:
        """Demands that no column serves, or none of a group that has an option in their period."""
        served: set[int | None] = set()
        for k in self.alive:
            served |= {self.columns[k].demand, self.columns[k].also}
        return [demand for demand in range(len(self.slice_of)) if demand not in served]


def restricted(program: Program, keep: set[int]) -> Program:
    """The same question with only some of the options (positions in `keep`), and nothing rented by the hour."""
    options = [
        option if o in keep else replace(option, max_units=0, group=o if option.group is None else option.group)
        for o, option in enumerate(program.options)
    ]
    return replace(program, options=options, hourly=frozenset())


def trimmed(
    program: Program, units: list[int], shares: list[float], kept_on: list[list[int]] | None
) -> tuple[list[int], list[list[int]] | None]:
    """The same plan without what costs nothing and serves nobody: no more is kept on than the load asks for.

    What a cap asks for at least stays.
    """
    need: dict[tuple[int, int], int] = {}
    there: dict[tuple[int, int], int] = {}
    for (group, slice_), load in loads_of(program, shares).items():
        key = group, program.period(slice_)
        count = math.ceil(load - _TINY) + (program.spare.get(group, 0) if load > _TINY else 0)
        there[key] = max(there.get(key, 0), count)
        if slice_ not in program.cold:
            need[key] = max(need.get(key, 0), count)
    if kept_on is not None:
        kept_on = [[min(n, need.get((g, p), 0)) for p, n in enumerate(row)] for g, row in enumerate(kept_on)]
    asked = {o for cap in program.caps for o, use in cap.use.items() if use < 0.0}
    units = list(units)
    for o, option in enumerate(program.options):
        group = o if option.group is None else option.group
        if not option.cost and units[o] and o not in asked:
            periods = option.periods if option.periods is not None else range(program.periods)
            had = {p: sum(units[each] for each in program.members(group, p)) for p in periods}
            units[o] -= max(0, min(units[o], *(had[p] - there.get((group, p), 0) for p in periods)))
    return units, kept_on


def loads_of(program: Program, shares: list[float]) -> dict[tuple[int, int], float]:
    """Units that the columns of each group ask for in each slice."""
    found: dict[tuple[int, int], float] = {}
    for k, share in enumerate(shares):
        column = program.columns[k]
        if share and column.load:
            key = column.option, program.slice_of[column.demand]
            found[key] = found.get(key, 0.0) + column.load * share
    return found


def objective_of(
    program: Program, units: list[int], shares: list[float], kept_on: list[list[int]] | None = None
) -> float:
    """The objective of given units, shares, and units kept on; levels are what these draw."""
    total = sum(option.cost * n for option, n in zip(program.options, units, strict=True))
    total += sum(column.cost * x for column, x in zip(program.columns, shares, strict=True))
    for costs, row in zip(program.running or (), kept_on or (), strict=True):
        total += sum(cost * n for cost, n in zip(costs, row, strict=True))
    levels = (level for level in program.levels if level.cost)
    return total + sum(level.cost * level_of(program, level, units, shares, kept_on) for level in levels)


def level_of(
    program: Program, level: Level, units: list[int], shares: list[float], kept_on: list[list[int]] | None = None
) -> float:
    """What a level comes to under given units, shares, and units kept on."""
    period = program.period(level.slices[0])
    on = sum(use * units[o] for o, use in level.units.items())
    for group, use in level.on.items():
        count = kept_on[group][period] if kept_on else sum(units[o] for o in program.members(group, period))
        on += use * count
    drawn = dict.fromkeys(level.slices, on)
    for k, use in level.columns.items():
        drawn[program.slice_of[program.columns[k].demand]] += use * shares[k]
    return max(drawn.values())


def size_of(values: Iterable[float]) -> float:
    """The largest of some coefficients, to divide their row by; 1 where all are zero."""
    return max(map(abs, values), default=1.0) or 1.0


def relative_gap(objective: float, bound: float) -> float | None:
    """(objective - bound) / |objective|; None without a bound, 0 when both are zero."""
    if not math.isfinite(bound):
        return None
    return max(0.0, objective - bound) / abs(objective) if objective else (0.0 if bound >= 0 else None)
