"""Large programs by branch and price: few columns at a time, all of them priced, the bound that of the whole program.

Of a million columns some thousands carry traffic. A linear program of the best few of every demand is solved; its row
prices tell what each other column would save (reduced cost), those that would save most join it, until none is left
(sifting, optimizer/master.py). With r_d < 0 the least reduced cost of demand d's columns, lowering d's price by -r_d
makes the prices feasible for the whole program: value + sum of r_d bounds it from below at every step. Units are made
whole by branching on them; a node's bound is found the same way, from where the last one ended.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from optimizer.master import Floats, Master, Taken
from optimizer.program import Program, objective_of

Plan = tuple[list[int], list[float], list[list[int]] | None]  # units, shares, units kept on
Seek = Callable[[float, list[int], float], tuple[Plan | None, float]]
_FIRST, _SEEKING = 0.15, 0.6  # of the time: branching alone, until a better plan has been sought
_FEW = 20  # units: of fewer, cuts tell more than branching, which is not tried first


@dataclass(frozen=True, order=True, slots=True)
class _Node:
    """Whole variables between `low` and `high`; `place` is the one to branch on, now at `at`."""

    bound: float
    number: int
    low: Floats = field(compare=False)
    high: Floats = field(compare=False)
    place: int = field(compare=False)
    at: float = field(compare=False)


def sifted(program: Program, until_s: float, gap_rel: float, seek: Seek) -> tuple[Plan, float] | None:
    """The best plan within `gap_rel`, or until `until_s` (of time.perf_counter), and the bound of the whole program.

    Args:
        seek: asked, where branching alone is not quick: given the gap so far, the columns looked at and a time, it
            returns a plan and a bound of the whole program (-inf: none).

    Returns:
        None where not even fractions of units serve every demand, or no plan was found.
    """
    began, options = time.perf_counter(), len(program.options)
    left, master = until_s - began, Master(program)
    tree = _Tree(master, until_s, gap_rel)
    if master.whole[:options].sum() >= _FEW:
        tree.search(began + _FIRST * left)
    if tree.open:
        other, tree.floor = seek(tree.gap, master.joined, began + _SEEKING * left)
        if other is not None:
            tree.offer(objective_of(program, *other), other)
        tree.search(until_s)
    found = tree.found
    return None if found is None else (_plan(program, found) if isinstance(found, Taken) else found, tree.bound)


def _plan(program: Program, taken: Taken) -> Plan:
    options, periods = len(program.options), program.periods
    shares = [0.0] * len(program.columns)
    for k, share in zip(taken.columns.tolist(), taken.shares.tolist(), strict=True):
        shares[k] = min(1.0, max(0.0, share))
    whole = [round(value) for value in taken.whole]
    kept_on = [whole[i : i + periods] for i in range(options, len(whole), periods)] if program.running else None
    return whole[:options], shares, kept_on


class _Tree:
    """Depth first to a whole plan, then on from the node of the lowest bound.

    Attributes:
        found: the best plan.
        open: nodes that may hold a better one.
        floor: a bound that is known from elsewhere.
    """

    def __init__(self, master: Master, until_s: float, gap_rel: float) -> None:
        self._master, self._until_s, self._gap = master, until_s, gap_rel
        self._best, self._closed = math.inf, math.inf  # what the best plan comes to, the lowest bound of closed nodes
        self.found: Plan | Taken | None = None
        self.floor = -math.inf
        self._visited = 0
        root = self._visit(-math.inf, master.low, master.high)
        self.open = [root] if root is not None and master.served else []

    @property
    def bound(self) -> float:
        """What no plan is below."""
        lowest = min(self._closed, *(node.bound for node in self.open), math.inf)
        return min(self._best, max(self.floor, lowest))

    @property
    def gap(self) -> float:
        """Relative, of the best plan; inf where there is none."""
        return (self._best - self.bound) / abs(self._best) if math.isfinite(self._best) and self._best else math.inf

    def offer(self, value: float, plan: Plan | Taken) -> None:
        """A plan that may be the best one."""
        if value < self._best:
            self._best, self.found = value, plan

    def search(self, until_s: float) -> None:
        """Until the lowest bound is near enough, or the time is up."""
        node = None
        while (node is not None or self.open) and time.perf_counter() < until_s and self.floor < self._enough():
            if node is None:
                node = heapq.heappop(self.open)
            if node.bound < self._enough():
                node = self._branch(node)
            else:
                self._closed, node = min(self._closed, node.bound), None
        if node is not None:
            heapq.heappush(self.open, node)

    def _enough(self) -> float:
        """The bound at which the best plan is near enough."""
        return self._best - self._gap * abs(self._best) if math.isfinite(self._best) else math.inf

    def _branch(self, node: _Node) -> _Node | None:
        """The nearer side of a node, to go on with; the other waits."""
        high, low = node.high.copy(), node.low.copy()
        high[node.place], low[node.place] = math.floor(node.at), math.ceil(node.at)
        sides = [(low, node.high), (node.low, high)]
        if node.at % 1.0 < 0.5:
            sides.reverse()
        nearer, other = (self._visit(node.bound, *side) for side in sides)
        if other is not None:
            heapq.heappush(self.open, other)
        return nearer

    def _visit(self, above: float, low: Floats, high: Floats) -> _Node | None:
        """A node that is worth branching; None where it is closed: whole, no better than what is known, or nothing."""
        master = self._master
        bound = max(above, master.solve(low, high, self._enough(), self._until_s))
        if master.solved and bound < self._enough():
            place, self._visited = master.fraction(), self._visited + 1
            if place is not None:
                return _Node(bound, self._visited, low, high, place, float(master.whole[place]))
            if master.served:
                self.offer(master.value, master.taken())
        self._closed = min(self._closed, bound)
        return None
