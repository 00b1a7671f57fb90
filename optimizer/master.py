"""The linear program of a few of a program's columns, and the price of all the others (see optimizer/sifted.py).

Rows: demands, capacity (group by slice), units on (group by period), caps, links. Columns: options, units on, unserved
demands, then the program's own as they join. Unserved demand, at a price beyond any fleet's, keeps it solvable while
columns are missing. Costs are in units of the median one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from optimizer.program import Program, size_of

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
_START, _MORE = 3, 2  # columns of a demand to begin with, and those that may join in a round
_ROUNDS = 50  # of pricing
_COUNTS = 1e-7  # of a reduced cost: the solver's tolerance
_NEAR = 1e-6  # of the value: where bound and value are alike
_WHOLE = 1e-6  # of whole variables, and of what must be served
_DEAR = 10.0  # unserved demand over what serving it with units of its own costs


@dataclass(frozen=True, slots=True)
class Taken:
    """Whole variables (options, then units on by group and period) and the shares of some columns."""

    whole: Floats
    columns: Places
    shares: Floats


class Master:
    """Solves for any bounds on the whole variables; what was found last is in `value`, `whole`, `served`, `solved`.

    Attributes:
        low, high: bounds of the whole variables in the program itself.
        value, whole: of the last linear program, in the objective's unit; `solved`: whether there was one.
        served: whether it serves every demand.
    """

    def __init__(self, program: Program) -> None:
        self._program, self._periods = program, program.periods
        self._slice_of, self._slices = np.array(program.slice_of), max(program.slice_of) + 1
        self._ids = np.array(program.alive)
        columns = [program.columns[k] for k in self._ids]
        self._demand, group = np.array([c.demand for c in columns]), np.array([c.option for c in columns])
        self._cost = np.array([c.cost for c in columns], dtype=float)
        load = np.array([c.load for c in columns], dtype=float)
        load[np.isin(group, list(program.hourly))] = 0.0
        adds_to = [o if each.group is None else each.group for o, each in enumerate(program.options)]
        self._groups = max([int(group.max()) + 1, *(g + 1 for g in adds_to), len(program.running or ())])
        self._period = np.array([program.period(t) for t in range(self._slices)])
        self._cell = group * self._slices + self._slice_of[self._demand]
        also = [(c.also, k) for k, c in enumerate(columns) if c.also is not None]
        self._matrix = self._of_columns(load, also)
        self._scale = float(np.median(np.abs(self._cost[self._cost != 0.0]))) if self._cost.any() else 1.0
        self._cost /= self._scale
        self.low = np.zeros(len(program.options) + sum(map(len, program.running or ())))
        self.high = np.full(len(self.low), math.inf)
        for o, option in enumerate(program.options):
            if option.max_units is not None:
                self.high[o] = option.max_units
        self._held = np.zeros(len(self._ids), dtype=bool)
        self._order = np.zeros(0, dtype=np.int64)  # of the columns that have joined
        self._highs = self._begun(load, also)
        self.value, self.whole, self.served, self.solved = math.inf, self.low, False, False

    def solve(self, low: Floats, high: Floats, enough: float, until_s: float) -> float:
        """The bound of the whole program with the whole variables between `low` and `high`; inf: there is nothing.

        Ends as soon as the bound is `enough`, or at `until_s` (of time.perf_counter).
        """
        bound, count = -math.inf, len(low)
        self.solved = False
        self._highs.changeColsBounds(count, np.arange(count, dtype=np.int32), low, high)
        for _ in range(_ROUNDS):
            word = self._run(until_s)
            if word != highspy.HighsModelStatus.kOptimal:
                return math.inf if word == highspy.HighsModelStatus.kInfeasible else bound
            solution, value = self._highs.getSolution(), self._highs.getInfo().objective_function_value
            reduced = self._cost - self._matrix.T @ np.array(solution.row_dual)
            worst, saving = np.zeros(len(self._slice_of)), np.flatnonzero(reduced < 0.0)
            np.minimum.at(worst, self._demand[saving], reduced[saving])
            bound = max(bound, (value + worst.sum()) * self._scale)
            saving = saving[(reduced[saving] < -_COUNTS) & ~self._held[saving]]
            if bound >= enough or not len(saving) or -worst.sum() <= _NEAR * abs(value):
                break
            self._join(saving[self._best(saving, reduced[saving], _MORE)])
        taken = np.array(solution.col_value)
        self.value, self.whole, self.solved = value * self._scale, taken[:count], True
        self._shares = taken[count + len(self._slice_of) :]
        self.served = bool(taken[count : count + len(self._slice_of)].max() <= _WHOLE)
        return bound

    def fraction(self) -> int | None:
        """The whole variable that is furthest from a whole number, of the options first; None: all are whole."""
        off = np.abs(self.whole - np.round(self.whole))
        off[off <= _WHOLE * np.maximum(1.0, self.whole)] = 0.0
        for part in (off[: len(self._program.options)], off):
            if part.any():
                return int(part.argmax())
        return None

    def taken(self) -> Taken:
        """What the last linear program takes."""
        return Taken(self.whole, self._ids[self._order], self._shares)

    @property
    def joined(self) -> list[int]:
        """The program's columns that have joined so far."""
        return [int(k) for k in self._ids[self._order]]

    def _run(self, until_s: float) -> Any:
        """Solve from where the last one ended; once more from nothing where that goes wrong."""
        for _ in range(2):
            left = max(0.05, until_s - time.perf_counter())
            self._highs.setOptionValue("time_limit", self._highs.getRunTime() + left)
            self._highs.run()
            status = self._highs.getModelStatus()
            if status != highspy.HighsModelStatus.kUnknown:
                break
            self._highs.clearSolver()
        return status

    def _best(self, which: Places, reduced: Floats, most: int) -> Places:
        """Positions in `which` of the least reduced costs, at most so many of a demand."""
        demand = self._demand[which]
        order = np.lexsort((reduced, demand))
        starts = np.flatnonzero(np.diff(demand[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        return order[rank < most]

    def _join(self, columns: Places) -> None:
        part = self._matrix[:, columns]
        none, most = np.zeros(len(columns)), np.full(len(columns), highspy.kHighsInf)
        starts, rows = part.indptr[:-1].astype(np.int32), part.indices.astype(np.int32)
        self._highs.addCols(len(columns), self._cost[columns], none, most, part.nnz, starts, rows, part.data)
        self._held[columns] = True
        self._order = np.concatenate([self._order, columns])

    def _begun(self, load: Floats, also: list[tuple[int, int]]) -> highspy.Highs:
        """HiGHS with the fixed columns and those that seem cheapest for a demand, with capacity at an even price."""
        units, costs = self._of_units()
        demands, rows = len(self._slice_of), units.shape[0]
        price = np.array([[self._price(g, p) for p in range(self._periods)] for g in range(self._groups)])
        spent = price[:, self._period].ravel()[self._cell] * load
        even = np.bincount(self._period)[self._period][self._slice_of[self._demand]]
        dear = np.full(demands, math.inf)
        np.minimum.at(dear, self._demand, self._cost + spent)
        for other, k in also:
            dear[other] = min(dear[other], self._cost[k] + spent[k])
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(costs) + demands, rows
        lp.col_cost_ = np.concatenate([costs, _DEAR * np.maximum(dear, 1.0)])
        lp.col_lower_, lp.col_upper_ = np.zeros(lp.num_col_), np.concatenate([self.high, np.ones(demands)])
        limits = [cap.limit / size_of(cap.use.values()) for cap in self._program.caps]
        served, none = np.ones(demands), np.zeros(len(self._program.links))
        free = np.full(rows - demands - len(none), -highspy.kHighsInf)
        lp.row_lower_ = np.concatenate([served, free, none])
        lp.row_upper_ = np.concatenate([served, np.zeros(len(free) - len(limits)), limits, none])
        whole = sparse.hstack([units, sparse.eye(rows, demands)], format="csc")
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = whole.indptr, whole.indices, whole.data
        highs = self._highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.passModel(lp)
        every = np.arange(len(self._ids))
        self._join(self._best(every, self._cost + spent / even, _START))
        return highs

    def _price(self, group: int, period: int) -> float:
        """One more unit of a group, whole, kept on through a period."""
        own = [self._program.options[o].cost for o in self._program.members(group, period)]
        on = self._program.running[group][period] if self._program.running else 0.0
        return (min(own, default=0.0) + on) / self._scale

    def _of_columns(self, load: Floats, also: list[tuple[int, int]]) -> sparse.csc_matrix:
        """Rows of the program's columns."""
        every, demands = np.arange(len(self._ids)), len(self._slice_of)
        rows, places, values = [self._demand, demands + self._cell], [every, every], [np.ones(len(every)), load]
        if also:
            rows, places = [*rows, np.array([d for d, _ in also])], [*places, np.array([k for _, k in also])]
            values.append(np.ones(len(also)))
        position = dict(zip(self._ids.tolist(), every, strict=True)) if self._program.links else {}
        first = self._row_of_caps() + len(self._program.caps)
        for row, link in enumerate(self._program.links, first):
            mine = [k for k in link if k in position]
            rows.append(np.full(len(mine), row))
            places.append(np.array([position[k] for k in mine], dtype=np.int64))
            values.append(np.array([link[k] for k in mine]))
        return _matrix(rows, places, values, (first + len(self._program.links), len(every)))

    def _row_of_caps(self) -> int:
        on = self._groups * self._periods if self._program.running else 0
        return len(self._slice_of) + self._groups * self._slices + on

    def _of_units(self) -> tuple[sparse.csc_matrix, Floats]:
        """Rows and costs of the whole variables."""
        program, options = self._program, len(self._program.options)
        entries: list[tuple[int, int, float]] = []
        first = len(self._slice_of) + self._groups * self._slices
        for g in range(self._groups):
            there = [[(o, -1.0) for o in program.members(g, p)] for p in range(self._periods)]
            on = [[(options + g * self._periods + p, -1.0)] for p in range(self._periods)] if program.running else there
            for t, p in enumerate(self._period):
                row = len(self._slice_of) + g * self._slices + t
                entries += [(row, place, use) for place, use in (there if t in program.cold else on)[p]]
            if program.running:
                for p in range(self._periods):
                    row = first + g * self._periods + p
                    entries += [(row, place, use) for place, use in [(on[p][0][0], 1.0), *there[p]]]
        for row, cap in enumerate(program.caps, self._row_of_caps()):
            entries += [(row, o, use / size_of(cap.use.values())) for o, use in cap.use.items()]
        costs = [each.cost for each in program.options] + [cost for row in program.running or () for cost in row]
        shape = self._row_of_caps() + len(program.caps) + len(program.links), len(costs)
        rows, places, values = np.array(entries, dtype=float).reshape(-1, 3).T
        return _matrix([rows], [places], [values], shape), np.array(costs, dtype=float) / self._scale


def _matrix(rows: list[Any], places: list[Any], values: list[Floats], shape: tuple[int, int]) -> sparse.csc_matrix:
    whole = (np.concatenate(rows).astype(np.int32), np.concatenate(places).astype(np.int32))
    return sparse.csc_matrix((np.concatenate(values), whole), shape=shape)
