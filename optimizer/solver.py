"""Solves optimizer/program.py's program with HiGHS through PuLP; the same calls pass PuLP 3.3 and 4."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from optimizer.program import Cap, Level, Program, Total, objective_of, relative_gap, size_of, trimmed
from profiles.inputs import CarbonfleetError

# rounded: proved, but for the units kept on, which were rounded up; the gap tells what that cost
Status = Literal["optimal", "rounded", "time_limit", "infeasible", "no_solution"]
MANY = 100_000  # columns from which branch and price pays
MOST_AT_ONCE = 500_000  # columns that HiGHS takes in at once within a minute
_WEAK = 0.01  # a gap that branching closes slowly: units are few, and cuts tell more
MOST_WHOLE_ON = 100  # (group, period) pairs whose units on are whole in the program itself
_SAME = 1e-6  # relative: what the solver's tolerances leave open
_READ_S = 1.5e-6  # to read the answer of a column
_READING = 0.5  # what reading the answer takes, of handing the program over
_WHOLE = 1e-5  # a unit count further than this from a whole number is a solver failure
Terms = list[tuple[Any, float]]


class SolverError(CarbonfleetError):
    """The solver ended in a state that is neither a plan nor a proof that there is none."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What the solver proved: units per option, share per column, objective, bound, relative gap, true status.

    `missing` is filled by `shortfall` only: how much is lacking of the limit of each cap, then of each total, of
    each level that has one, and of each option's own.
    """

    status: Status
    objective: float | None
    bound: float | None
    gap: float | None
    units: list[int]
    shares: list[float]
    missing: list[float]
    wall_s: float
    kept_on: list[list[int]] | None = None  # units on by group and period, where running costs


def solve_program(program: Program, *, time_limit_s: float = 60.0, gap_rel: float = 1e-4) -> Solution:
    """The cheapest plan within `gap_rel`, or the best one found when the time is up.

    Raises:
        SolverError: the solver failed (not: infeasible, which is a status).
    """
    if program.unserved():
        return Solution("infeasible", None, None, None, [], [], [], 0.0)
    return _solve(program, False, time_limit_s, gap_rel)


def shortfall(program: Program, *, time_limit_s: float = 30.0) -> Solution:
    """The smallest weighted loosening of the limits that lets every demand be served (elastic solve)."""
    return _solve(program, True, time_limit_s, 1e-3)


def _solve(program: Program, elastic: bool, time_limit_s: float, gap_rel: float) -> Solution:
    """Building and reading count against the time limit."""
    began = time.perf_counter()
    until_s = began + time_limit_s
    if not elastic and _suits(program):
        solution = _sifted(program, until_s, gap_rel)
    else:
        solution = _Model(program, elastic).solve(until_s, gap_rel)
    return replace(solution, wall_s=time.perf_counter() - began)


def _sifted(program: Program, until_s: float, gap_rel: float) -> Solution:
    """By branch and price, and HiGHS's own search: on the columns looked at where the bound is near, else on all."""
    from optimizer.sifted import Plan, sifted

    def seek(gap: float, columns: list[int], soon_s: float) -> tuple[Plan | None, float]:
        whole = gap > _WEAK and len(program.columns) <= MOST_AT_ONCE
        found = _Model(program, False, None if whole else columns).solve(until_s if whole else soon_s, gap_rel)
        plan = None if found.objective is None else (found.units, found.shares, found.kept_on)
        return plan, found.bound if whole and found.bound is not None else -math.inf

    found = sifted(program, until_s - _READ_S * len(program.columns), max(0.99 * gap_rel, 0.5 * _SAME), seek)
    if found is None and time.perf_counter() >= until_s:
        return Solution("no_solution", None, None, None, [], [], [], 0.0)
    if found is None:  # perhaps there is no plan: the whole program tells
        return _Model(program, False).solve(until_s, gap_rel)
    best = _told(program, "time_limit", found[1], *found[0])
    return replace(best, status="optimal") if best.gap is not None and best.gap <= gap_rel + _SAME else best


def _suits(program: Program) -> bool:
    """Whether a program is large, and has only rows that branch and price knows."""
    plain = not (program.levels or program.totals or program.steps or program.spare)
    return plain and len(program.columns) >= MANY


def _told(
    program: Program,
    status: Status,
    bound: float,
    units: list[int],
    shares: list[float],
    kept_on: list[list[int]] | None,
) -> Solution:
    """A plan with nothing idle in it that costs nothing, its objective added up rather than taken from the solver."""
    units, kept_on = trimmed(program, units, shares, kept_on)
    objective = objective_of(program, units, shares, kept_on)
    known = min(bound, objective) if math.isfinite(bound) else None
    gap = None if known is None else relative_gap(objective, known)
    return Solution(status, objective, known, gap, units, shares, [], 0.0, kept_on)


class _Model:
    """One PuLP problem. With `elastic` every limit may be missed at its weight, and nothing else costs.

    With `columns` only these are offered: a plan of theirs is one of the program, but their bound is not its own.
    """

    def __init__(self, program: Program, elastic: bool, columns: list[int] | None = None) -> None:
        import pulp

        self.program, self._elastic = program, elastic
        self._columns = program.alive if columns is None else columns
        # Many units on in many periods: let them be fractions and round them up, which costs less than a unit each.
        # Not where that could break a limit on what runs.
        limited = program.totals or any(level.limit is not None for level in program.levels)
        self._many_on = sum(map(len, program.running or ())) > MOST_WHOLE_ON and not limited
        self._free_on = self._many_on or (elastic and not limited)
        self._linear: Any = getattr(pulp.LpAffineExpression, "from_list", pulp.LpAffineExpression)
        self._problem = pulp.LpProblem("carbonfleet", pulp.LpMinimize)
        self._new, self._int, self._real = self._problem.add_variable, pulp.LpInteger, pulp.LpContinuous
        self._steps = program.steps or 1
        self._slack: list[tuple[Any, float, float]] = []  # one a limit: what is missed, its weight, its size
        self._sizes = [size_of([*v.on.values(), *v.units.values(), *v.columns.values()]) for v in program.levels]
        self._variables()
        self._rows()
        self._scale = self._objective()

    def _variables(self) -> None:
        program, new, whole, real = self.program, self._new, self._int, self._real
        self._units = [
            new(f"n{i}", 0, None if self._elastic and option.max_units else option.max_units, whole)
            for i, option in enumerate(program.options)
        ]
        kind = whole if program.steps else real
        self._shares = {k: new(f"x{k}", 0, self._steps, kind) for k in self._columns}
        self._on = [
            [new(f"k{g}_{p}", 0, None, real if self._free_on else whole) for p in range(len(costs))]
            for g, costs in enumerate(program.running or ())
        ]
        self._levels = [new(f"v{i}", 0, None, real) for i in range(len(program.levels))]

    def _rows(self) -> None:
        self._serve()
        self._fill()
        for link in self.program.links:
            self._row([(self._shares[k], c) for k, c in link.items() if k in self._shares], "==")
        self._keep(self.program.caps)
        for total in self.program.totals:
            self._limit(self._of_total(total), total.limit, total.weight)
        for variable, level, size in zip(self._levels, self.program.levels, self._sizes, strict=True):
            self._state_level(variable, level, size)
        if self._elastic:  # every option's own limit can be loosened too, but for what is not on offer at all
            own = ((i, option.max_units) for i, option in enumerate(self.program.options))
            self._keep([Cap(float(most), {i: 1.0}, whole=True) for i, most in own if most])

    def _keep(self, caps: list[Cap]) -> None:
        for cap in caps:
            self._limit([(self._units[o], use) for o, use in cap.use.items()], cap.limit, cap.weight, cap.whole)

    def _row(self, terms: Terms, sense: str, right: float = 0.0) -> None:
        if terms:
            left = self._linear(terms)
            self._problem += left == right if sense == "==" else left <= right

    def _limit(self, terms: Terms, limit: float, weight: float, whole: bool = False) -> None:
        """A row that an elastic solve may miss; grams of 1e9 are brought to the size of the solver's tolerances."""
        size = 1.0 if whole else size_of(c for _, c in terms)
        terms = [(variable, c / size) for variable, c in terms]
        if self._elastic:
            kind = self._int if whole else self._real
            missed = self._new(f"s{len(self._slack)}", 0, None, kind)
            self._slack.append((missed, weight, size))
            terms = [*terms, (missed, -1.0)] if terms else []
        self._row(terms, "<=", limit / size)

    def _serve(self) -> None:
        serving: list[Terms] = [[] for _ in self.program.slice_of]
        for k, x in self._shares.items():
            column = self.program.columns[k]
            serving[column.demand].append((x, 1.0))
            if column.also is not None:
                serving[column.also].append((x, 1.0))
        for terms in serving:
            self._problem += self._linear(terms) == self._steps

    def _fill(self) -> None:
        """Capacity: of what is on, of what is there, and with the units that are to spare."""
        program = self.program
        loading: dict[tuple[int, int], Terms] = {}
        for k, x in self._shares.items():
            column = program.columns[k]
            if column.load:
                key = column.option, program.slice_of[column.demand]
                loading.setdefault(key, []).append((x, column.load / self._steps))
        most: dict[tuple[int, int], float] = {}  # the load of a group if it took everything
        for (group, slice_), terms in loading.items():
            key = group, program.period(slice_)
            most[key] = max(most.get(key, 0.0), sum(load for _, load in terms) * self._steps)
        used = {key: self._used(*key, load) for key, load in most.items() if program.spare.get(key[0])}
        for (group, slice_), terms in loading.items():
            if group in program.hourly:
                continue
            key = group, program.period(slice_)
            spare = [(used[key], float(program.spare[group]))] if key in used else []
            room = self._there(*key) if slice_ in program.cold else self._room(*key)
            self._row([*terms, *spare, *((n, -1.0) for n in room)], "<=")
        if self._on:
            for group, period in most:
                there = [(n, -1.0) for n in self._there(group, period)]
                if group not in program.hourly:
                    self._row([(self._on[group][period], 1.0), *there], "<=")

    def _room(self, group: int, period: int) -> list[Any]:
        """The variables whose sum is a group's units on."""
        if self._on:
            return [self._on[group][period]]
        return self._there(group, period)

    def _there(self, group: int, period: int) -> list[Any]:
        """The variables whose sum is a group's units, on or off."""
        return [self._units[o] for o in self.program.members(group, period)]

    def _used(self, group: int, period: int, load: float) -> Any:
        """A switch that must be on where any unit of the group is, so that its spare units are there too."""
        switch = self._new(f"w{group}_{period}", 0, 1, self._int)
        most = math.ceil(load) + self.program.spare[group]
        self._row([*((n, 1.0) for n in self._room(group, period)), (switch, -float(most))], "<=")
        return switch

    def _state_level(self, variable: Any, level: Level, size: float) -> None:
        """The level, in units of `size`, is at least what every slice draws; an elastic solve may miss its limit."""
        program = self.program
        period = program.period(level.slices[0])
        on = [(n, use) for group, use in level.on.items() for n in self._room(group, period)]
        on += [(self._units[o], use) for o, use in level.units.items()]
        drawn: dict[int, Terms] = {slice_: [] for slice_ in level.slices}
        for k, use in level.columns.items():
            if k in self._shares:
                drawn[program.slice_of[program.columns[k].demand]].append((self._shares[k], use / self._steps))
        for terms in drawn.values():
            self._row([*((n, use / size) for n, use in [*on, *terms]), (variable, -1.0)], "<=")
        if level.limit is not None:
            self._limit([(variable, size)], level.limit, level.weight, level.whole)

    def _of_total(self, total: Total) -> Terms:
        terms = [(self._units[o], use) for o, use in total.options.items()]
        terms += [(self._shares[k], use / self._steps) for k, use in total.columns.items() if k in self._shares]
        terms += [(n, use) for (g, p), use in total.running.items() for n in self._room(g, p)]
        return terms + [(self._levels[i], use * self._sizes[i]) for i, use in total.levels.items()]

    def _objective(self) -> float:
        program = self.program
        terms = [(missed, weight * size) for missed, weight, size in self._slack]
        if not self._elastic:
            terms = [(n, o.cost) for n, o in zip(self._units, program.options, strict=True)]
            terms += [(x, program.columns[k].cost / self._steps) for k, x in self._shares.items()]
            levels = zip(self._levels, program.levels, self._sizes, strict=True)
            terms += [(v, level.cost * size) for v, level, size in levels]
            for row, costs in zip(self._on, program.running or (), strict=True):
                terms += list(zip(row, costs, strict=True))
        sizes = [abs(cost) for _, cost in terms if cost]
        scale = statistics.median(sizes) if sizes else 1.0  # keeps grams of 1e9 within the solver's tolerances
        self._problem.setObjective(self._linear([(variable, cost / scale) for variable, cost in terms]))
        return scale

    def solve(self, until_s: float, gap_rel: float) -> Solution:
        """Run HiGHS and read its own status and bound: PuLP calls a plan found at a time limit optimal."""
        import pulp

        class Until(pulp.HiGHS):  # type: ignore[misc]
            """Time for handing the program over, and for reading the answer, is the solver's less."""

            def callSolver(self, lp: Any) -> None:  # noqa: N802 - PuLP's name
                now = time.perf_counter()
                left = until_s - now - _READING * (now - began)
                lp.solverModel.setOptionValue("time_limit", max(0.05, left))
                super().callSolver(lp)

        solver, began = Until(msg=False, gapRel=gap_rel), time.perf_counter()
        try:
            self._problem.solve(solver)
            model = self._problem.solverModel
            word = model.modelStatusToString(model.getModelStatus())
            info = model.getInfo()
            bound = float(info.mip_dual_bound) * self._scale
            if info.mip_node_count < 0:  # nothing is whole (all is rented): the optimum is its own bound
                bound = float(info.objective_function_value) * self._scale if word == "Optimal" else -math.inf
        except (pulp.PulpError, AttributeError) as error:
            raise SolverError(f"the solver failed ({error or type(error).__name__}); try another time limit") from error
        values = [v.varValue for v in self._units if v.varValue is not None]  # none where it stands in no row
        blank = bool(self._units) and not values
        if word in ("Infeasible", "Primal infeasible or unbounded"):
            return Solution("infeasible", None, None, None, [], [], [], 0.0)
        known = math.isfinite(bound)
        if word not in ("Optimal", "Time limit reached"):
            raise SolverError(f"the solver ended with {word!r}; report it with the study that led here")
        if not math.isfinite(info.objective_function_value) or blank or not self._whole(values):
            return Solution("no_solution", None, bound if known else None, None, [], [], [], 0.0)
        return self._read(word, bound)

    def _whole(self, values: list[Any]) -> bool:
        return all(abs(v - round(v)) <= _WHOLE * max(1.0, abs(v)) for v in values)

    def _read(self, word: str, bound: float) -> Solution:
        """The answer, its objective added up again from whole units and shares rather than taken from the solver."""
        program, steps = self.program, self._steps
        units = [round(variable.varValue or 0.0) for variable in self._units]
        shares = [0.0] * len(program.columns)
        for k, x in self._shares.items():
            share = min(1.0, max(0.0, float(x.varValue) / steps))
            shares[k] = round(share * steps) / steps if program.steps else share
        missing = [float(missed.varValue) * size for missed, _, size in self._slack]
        kept_on = (
            [[_up(k.varValue or 0.0) for k in row] for row in self._on] if self._on and not self._elastic else None
        )
        proved: Status = "rounded" if self._many_on and self._on else "optimal"
        status: Status = proved if word == "Optimal" else "time_limit"
        if not self._elastic:
            return _told(program, status, bound, units, shares, kept_on)
        weights = [weight for _, weight, _ in self._slack]
        objective = sum(weight * lacks for weight, lacks in zip(weights, missing, strict=True))
        known = min(bound, objective) if math.isfinite(bound) else None
        return Solution(status, objective, known, relative_gap(objective, bound), units, shares, missing, 0.0)


def _up(value: float) -> int:
    """The next whole number, a solver's tolerance aside."""
    return math.ceil(value - _WHOLE * max(1.0, value))
