"""Routers that follow something given: an optimizer's plan of shares, or where a prompt's prefix was seen last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from profiles.inputs import InputError, near_miss
from profiles.units import SECONDS_PER_HOUR
from sim.routing.base import CLOSED, LeastLoaded, all_numbers
from sim.routing.by_pool import ByPool

if TYPE_CHECKING:
    from sim.engine.requests import Requests
    from sim.fleet import LivePool
    from sim.plan import RoutingPlan
    from sim.scenario import Scenario

HOURS_OF_WEEK = 168
_MONDAY = 72  # hours from a Monday 0 h to 1970's first hour, a Thursday's


class Planned(ByPool):
    """Each bucket of requests to pools by the shares its plan has for the hour; in a pool the least loaded instance.

    Shares are met by largest credit: every request gives each pool its share, the pool that has the most takes it.
    A pool without an open instance is passed over.
    """

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(pools, seed)
        self._credit: dict[tuple[int, int], list[float]] = {}

    def know(self, requests: Requests, scenario: Scenario, start_s: float) -> None:
        """The plan, and when the run starts.

        Raises:
            InputError: no plan, an hour no slice covers, or a share of an unknown pool.
        """
        plan = scenario.plan
        if plan is None:
            raise InputError("routing planned follows a plan", field="plan", mend="give plan, or another routing")
        self._start_h = start_s / SECONDS_PER_HOUR + _MONDAY
        self._slices = slices_of_week(plan)
        names = {pool.spec.name: k for k, pool in enumerate(self._pools)}
        everywhere = {pool.name for pool in scenario.pools}
        self._limits = [(b.max_prompt_tokens or CLOSED, b.max_output_tokens or CLOSED) for b in plan.buckets]
        self._shares: list[list[list[float]]] = []
        for part in plan.slices:
            rows = []
            for shares in part.shares:
                wrong = set(shares) - everywhere
                if wrong:
                    name = min(wrong)
                    raise InputError(
                        f"a share of unknown pool {name!r}", field="plan", mend=near_miss(name, everywhere)
                    )
                whole = sum(shares.get(name, 0.0) for name in names) or 1.0
                rows.append([shares.get(name, 0.0) / whole for name in names])
            self._shares.append(rows)

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The least loaded instance of the pool whose turn it is."""
        part = self._slices[int(self._start_h + now_s / SECONDS_PER_HOUR) % HOURS_OF_WEEK]
        bucket = next(
            (k for k, (p, o) in enumerate(self._limits) if prompt <= p and output <= o), len(self._limits) - 1
        )
        shares = self._shares[part][bucket]
        credit = self._credit.setdefault((part, bucket), [0.0] * len(shares))
        open_ = [k for k in range(len(shares)) if self._index[k].least_tokens() < CLOSED]
        for k in open_ or range(len(shares)):
            credit[k] += shares[k]
        best = max(open_ or range(len(shares)), key=lambda k: (credit[k], -k))
        credit[best] -= 1.0
        return self._index[best].least()


def slices_of_week(plan: RoutingPlan) -> list[int]:
    """The slice of each hour of the week, from Monday 0 h UTC.

    Raises:
        InputError: an hour that no slice covers.
    """
    found = []
    for hour in range(HOURS_OF_WEEK):
        day = "weekend" if hour >= 5 * 24 else "weekday"
        covers = (k for k, part in enumerate(plan.slices) if hour % 24 in part.hours and part.days in ("all", day))
        part = next(covers, None)
        if part is None:
            raise InputError(f"no slice covers {hour % 24} h of a {day}", field="plan.slices", mend="cover every hour")
        found.append(part)
    return found


class PrefixAffine(LeastLoaded):
    """Where the longest part of a prompt was seen last, unless that instance is too far behind; else the least loaded.

    Too far: it has more outstanding tokens than the least loaded by over SLACK tokens and what its cache would save.
    """

    SLACK = 4096
    REMEMBERED = 1 << 20  # block ids

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(all_numbers(pools))
        self._where: dict[int, int] = {}
        self._prefixes: tuple[Sequence[int], Sequence[int], int] | None = None

    def know(self, requests: Requests, scenario: Scenario, start_s: float) -> None:
        """The prompts' blocks, where the trace names them."""
        self._prefixes = requests.prefixes

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The holder of the longest prefix, or the least loaded."""
        best = self.least()
        if self._prefixes is None:
            return best
        ids, offsets, span = self._prefixes
        first, last = offsets[index], offsets[index + 1]
        for place in range(last - 1, first - 1, -1):
            holder = self._where.get(ids[place])
            if holder is not None:
                saved = (place + 1 - first) * span
                if self._load[holder - self._first] <= self._load[best - self._first] + saved + self.SLACK:
                    best = holder
                break
        where = self._where
        for place in range(first, last):
            where.pop(ids[place], None)
            where[ids[place]] = best
        while len(where) > self.REMEMBERED:
            del where[next(iter(where))]
        return best

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self.add(number, tokens)

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self.take(number, tokens)
