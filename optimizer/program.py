"""The integer program every question is put to: whole units bought, divisible traffic dispatched.

    minimise   sum_o cost_o n_o + sum_k cost_k x_k + sum_gp running_gp k_gp
    subject to sum of x_k over the columns of demand d        = 1        every demand d
               sum of load_k x_k over columns of group g in slice t <= k_gp   every group g, slice t of period p
               k_gp <= sum of n_o over the options of group g that are there in period p
               sum of use_co n_o                              <= limit_c every cap c
               n_o, k_gp integer >= 0,  0 <= x_k <= 1 (or in steps of 1/S)

k is how many units are kept on; without running costs all that are there are on. An option is a purchase: the same
unit bought in another year is another option of the same group. Loads are in units: the share of safe capacity is
already divided out. What an option, a demand or a cap means (hosts and grams, or Mélange's GPUs and dollars) is the
caller's business; names here are positions, so two names a solver would rewrite to the same word cannot collide.
This is F0e of docs/optimize.md, or F1 where a group's columns are of several configurations.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from profiles.inputs import CarbonfleetError

# rounded: proved, but for the units kept on, which were rounded up; the gap tells what that cost
Status = Literal["optimal", "rounded", "time_limit", "infeasible", "no_solution"]
MOST_WHOLE_ON = 100  # (group, period) pairs whose units on are whole in the program itself
_WHOLE = 1e-5  # a unit count further than this from a whole number is a solver failure


class SolverError(CarbonfleetError):
    """The solver ended in a state that is neither a plan nor a proof that there is none."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something bought or kept in whole units; `cost` is the objective of one unit over the whole horizon."""

    cost: float
    max_units: int | None = None
    group: int | None = None  # whose capacity it adds to; default: a group of its own position
    periods: frozenset[int] | None = None  # when it is there; default: always


@dataclass(frozen=True, slots=True)
class Column:
    """Demand `demand` served by group `option`: taking all of it occupies `load` units and costs `cost`."""

    demand: int
    option: int
    load: float
    cost: float


@dataclass(frozen=True, slots=True)
class Cap:
    """`sum(use[o] * units of o) <= limit`. A miss is worth `weight` per unit of limit in an elastic solve."""

    limit: float
    use: dict[int, float]
    weight: float = 1.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """Options, columns and caps; demand d stands in slice `slice_of[d]` and shares capacity only within it."""

    options: list[Option]
    columns: list[Column]
    slice_of: list[int]
    caps: list[Cap]
    steps: int | None = None  # traffic moves in steps of 1/steps of a demand; None: freely divisible
    period_of: tuple[int, ...] | None = None  # of each slice; None: one period
    running: tuple[tuple[float, ...], ...] | None = None  # cost of a unit kept on, by group and period; None: always on

    def period(self, slice_: int) -> int:
        """The period a slice lies in."""
        return self.period_of[slice_] if self.period_of is not None else 0

    def members(self, group: int, period: int) -> list[int]:
        """The options that add to a group's capacity in a period."""
        return [
            o
            for o, option in enumerate(self.options)
            if (o if option.group is None else option.group) == group
            and (option.periods is None or period in option.periods)
        ]

    def unserved(self) -> list[int]:
        """Demands that no column serves, or none of a group that has an option in their period."""
        there: dict[tuple[int, int], bool] = {}
        served = set()
        for column in self.columns:
            key = column.option, self.period(self.slice_of[column.demand])
            if key not in there:
                there[key] = bool(self.members(*key))
            if there[key]:
                served.add(column.demand)
        return [demand for demand in range(len(self.slice_of)) if demand not in served]


@dataclass(frozen=True, slots=True)
class Solution:
    """What the solver proved: units per option, share per column, objective, bound, relative gap, true status.

    `missing` is filled by `shortfall` only: how much of each cap's limit is lacking.
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
    """The smallest weighted loosening of the caps that lets every demand be served (elastic solve)."""
    return _solve(program, True, time_limit_s, 1e-3)


def _solve(program: Program, elastic: bool, time_limit_s: float, gap_rel: float) -> Solution:
    """Building counts against the time limit."""
    began = time.perf_counter()
    model = _Model(program, elastic)
    left = max(0.05, time_limit_s - (time.perf_counter() - began))
    return replace(model.solve(left, gap_rel), wall_s=time.perf_counter() - began)


def restricted(program: Program, keep: set[int]) -> Program:
    """The same question with only some of the options (positions in `keep`)."""
    place = {old: new for new, old in enumerate(sorted(keep))}
    groups = {o if program.options[o].group is None else program.options[o].group for o in keep}
    own = all(option.group is None for option in program.options)
    return replace(
        program,
        options=[program.options[old] for old in sorted(keep)],
        columns=[
            replace(c, option=place[c.option] if own else c.option) for c in program.columns if c.option in groups
        ],
        caps=[replace(cap, use={place[o]: u for o, u in cap.use.items() if o in keep}) for cap in program.caps],
    )


class _Model:
    """One PuLP problem; the same calls pass PuLP 3.3 and 4."""

    def __init__(self, program: Program, elastic: bool) -> None:
        import pulp

        self.program = program
        # many units on in many periods: let them be fractions and round them up, which costs less than a unit each
        self._many_on = sum(map(len, program.running or ())) > MOST_WHOLE_ON
        self._linear: Any = getattr(pulp.LpAffineExpression, "from_list", pulp.LpAffineExpression)
        self._problem = pulp.LpProblem("carbonfleet", pulp.LpMinimize)
        new, whole, real = self._problem.add_variable, pulp.LpInteger, pulp.LpContinuous
        steps = program.steps or 1
        kind = whole if program.steps else real
        self._units = [
            new(f"n{i}", 0, None if elastic else option.max_units, whole) for i, option in enumerate(program.options)
        ]
        self._shares = [new(f"x{k}", 0, steps, kind) for k in range(len(program.columns))]
        self._on = [
            [new(f"k{g}_{p}", 0, None, real if elastic or self._many_on else whole) for p in range(len(costs))]
            for g, costs in enumerate(program.running or ())
        ]
        self._caps = self._all_caps(elastic)
        self._slack = [
            new(f"s{i}", 0, None, whole if cap.whole else real) for i, cap in enumerate(self._caps) if elastic
        ]
        costs = [cap.weight for cap in self._caps] if elastic else []
        self._scale = self._state_objective(elastic, costs, steps)
        self._state_rows(steps)

    def _all_caps(self, elastic: bool) -> list[Cap]:
        """The caps; in an elastic solve every option's own limit becomes one, so that it can be loosened too."""
        own = [
            Cap(float(option.max_units), {i: 1.0}, whole=True)
            for i, option in enumerate(self.program.options)
            if elastic and option.max_units is not None
        ]
        return [*self.program.caps, *own]

    def _state_objective(self, elastic: bool, weights: list[float], steps: int) -> float:
        terms = list(zip(self._slack, weights, strict=True))
        if not elastic:
            terms = [(n, o.cost) for n, o in zip(self._units, self.program.options, strict=True)]
            terms += [(x, c.cost / steps) for x, c in zip(self._shares, self.program.columns, strict=True)]
            for row, costs in zip(self._on, self.program.running or (), strict=True):
                terms += list(zip(row, costs, strict=True))
        sizes = [abs(cost) for _, cost in terms if cost]
        scale = statistics.median(sizes) if sizes else 1.0  # keeps grams of 1e9 within the solver's tolerances
        self._problem.setObjective(self._linear([(variable, cost / scale) for variable, cost in terms]))
        return scale

    def _state_rows(self, steps: int) -> None:
        program = self.program
        serving: list[list[tuple[Any, float]]] = [[] for _ in program.slice_of]
        loading: dict[tuple[int, int], list[tuple[Any, float]]] = {}
        for x, column in zip(self._shares, program.columns, strict=True):
            serving[column.demand].append((x, 1.0))
            if column.load:
                key = (column.option, program.slice_of[column.demand])
                loading.setdefault(key, []).append((x, column.load / steps))
        for terms in serving:
            self._problem += self._linear(terms) == steps
        there: dict[tuple[int, int], list[tuple[Any, float]]] = {}
        for (group, slice_), terms in loading.items():
            key = group, program.period(slice_)
            if key not in there:
                there[key] = [(self._units[o], -1.0) for o in program.members(*key)]
            room = [(self._on[group][key[1]], -1.0)] if self._on else there[key]
            self._problem += self._linear([*terms, *room]) <= 0
        for (group, period), units in there.items():
            if self._on:
                self._problem += self._linear([(self._on[group][period], 1.0), *units]) <= 0
        for i, cap in enumerate(self._caps):
            terms = [(self._units[o], use) for o, use in cap.use.items()]
            if terms:
                slack = [(self._slack[i], -1.0)] if self._slack else []
                self._problem += self._linear([*terms, *slack]) <= cap.limit

    def solve(self, time_limit_s: float, gap_rel: float) -> Solution:
        """Run HiGHS and read its own status and bound: PuLP calls a plan found at a time limit optimal."""
        import pulp

        solver = pulp.HiGHS(msg=False, timeLimit=time_limit_s, gapRel=gap_rel)
        try:
            self._problem.solve(solver)
            model = self._problem.solverModel
            word = model.modelStatusToString(model.getModelStatus())
            bound = float(model.getInfo().mip_dual_bound) * self._scale
        except (pulp.PulpError, AttributeError) as error:
            raise SolverError(f"the solver failed ({error or type(error).__name__}); try another time limit") from error
        values = [variable.varValue for variable in self._units]
        if word in ("Infeasible", "Primal infeasible or unbounded"):
            return Solution("infeasible", None, None, None, [], [], [], 0.0)
        known = math.isfinite(bound)
        if word not in ("Optimal", "Time limit reached"):
            raise SolverError(f"the solver ended with {word!r}; report it with the study that led here")
        if not math.isfinite(model.getInfo().objective_function_value) or not self._whole(values):
            return Solution("no_solution", None, bound if known else None, None, [], [], [], 0.0)
        return self._read(word, bound)

    def _whole(self, values: list[Any]) -> bool:
        return all(v is not None and abs(v - round(v)) <= _WHOLE * max(1.0, abs(v)) for v in values)

    def _read(self, word: str, bound: float) -> Solution:
        """The answer, its objective added up again from whole units and shares rather than taken from the solver."""
        program = self.program
        steps = program.steps or 1
        units = [round(variable.varValue) for variable in self._units]
        shares = [min(1.0, max(0.0, float(x.varValue) / steps)) for x in self._shares]
        if program.steps:
            shares = [round(share * steps) / steps for share in shares]
        missing = [float(s.varValue) for s in self._slack]
        kept_on = [[_up(k.varValue) for k in row] for row in self._on] if self._on and not self._slack else None
        if self._slack:
            objective = sum(cap.weight * lacks for cap, lacks in zip(self._caps, missing, strict=True))
        else:
            objective = objective_of(program, units, shares, kept_on)
        bound = min(bound, objective) if math.isfinite(bound) else -math.inf
        gap = relative_gap(objective, bound)
        proved: Status = "rounded" if self._many_on and self._on else "optimal"
        status: Status = proved if word == "Optimal" else "time_limit"
        known = bound if math.isfinite(bound) else None
        return Solution(status, objective, known, gap, units, shares, missing, 0.0, kept_on)


def _up(value: float) -> int:
    """The next whole number, a solver's tolerance aside."""
    return math.ceil(value - _WHOLE * max(1.0, value))


def objective_of(
    program: Program, units: list[int], shares: list[float], kept_on: list[list[int]] | None = None
) -> float:
    """The objective of given units, shares, and units kept on."""
    total = sum(option.cost * n for option, n in zip(program.options, units, strict=True))
    total += sum(column.cost * x for column, x in zip(program.columns, shares, strict=True))
    for costs, row in zip(program.running or (), kept_on or (), strict=True):
        total += sum(cost * n for cost, n in zip(costs, row, strict=True))
    return total


def relative_gap(objective: float, bound: float) -> float | None:
    """(objective - bound) / |objective|; None without a bound, 0 when both are zero."""
    if not math.isfinite(bound):
        return None
    return max(0.0, objective - bound) / abs(objective) if objective else (0.0 if bound >= 0 else None)
