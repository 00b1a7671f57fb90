"""Routers that look at instances alone, whatever pool they are of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING

from sim.routing.base import CLOSED, LeastLoaded, all_numbers

if TYPE_CHECKING:
    from sim.engine.counted import Counted
    from sim.fleet import LivePool

_SHARE = 1 << 40  # KV shares are counted in whole parts, so that what is added can be taken away exactly


class RoundRobin:
    """Instances in turn."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        self._open = [number for pool in pools for number in pool.numbers]
        self._turn = cycle(self._open)

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The next instance in order."""
        return next(self._turn)

    def close(self, number: int) -> None:
        """Pass it over; the turn begins anew. When none is open, the last to close is named."""
        self._open.remove(number)
        self._turn = cycle(self._open or [number])

    def open(self, number: int) -> None:
        """Take it into the turn again, which begins anew."""
        self._open = sorted({*self._open, number})
        self._turn = cycle(self._open)

    def assigned(self, number: int, tokens: int) -> None:
        """Round robin keeps no count."""

    def completed(self, number: int, tokens: int) -> None:
        """Round robin keeps no count."""


class LeastOutstandingTokens(LeastLoaded):
    """The instance with the fewest outstanding tokens, whatever its GPU."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(all_numbers(pools))

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The least loaded instance of the fleet."""
        return self.least()

    assigned = LeastLoaded.add
    completed = LeastLoaded.take


class LeastOutstandingRequests(LeastLoaded):
    """The instance with the fewest outstanding requests, however long they are."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(all_numbers(pools))

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The instance with the fewest requests."""
        return self.least()

    def assigned(self, number: int, tokens: int) -> None:
        """One more."""
        self.add(number, 1)

    def completed(self, number: int, tokens: int) -> None:
        """One less."""
        self.take(number, 1)


class LeastKv(LeastLoaded):
    """The instance whose KV memory is promised away the least, as a share of what it has."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(all_numbers(pools))
        self._unit = {n: max(1, _SHARE // pool.model.kv_capacity_tokens) for pool in pools for n in pool.numbers}

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The instance with the smallest share."""
        return self.least()

    def assigned(self, number: int, tokens: int) -> None:
        """Tokens in, as a share of this instance's memory."""
        self.add(number, tokens * self._unit[number])

    def completed(self, number: int, tokens: int) -> None:
        """Tokens out."""
        self.take(number, tokens * self._unit[number])


class LeastPrefillBacklog:
    """The instance with the fewest prompt tokens still to be prefilled, every request there counting one more.

    What splitwise-sim calls token_jsq: it looks at what stands before a first token, not at what decodes.
    """

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        self._instances: Sequence[Counted] = ()
        self._shut: list[Counted] = []

    def bind(self, instances: Sequence[Counted]) -> None:
        """The engine shows its instances; only their backlog and batch are read."""
        self._instances = instances

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The one with the least before it; the lower number wins a tie."""
        return min(self._instances, key=_before).number

    def close(self, number: int) -> None:
        """Leave it out while another is open."""
        if len(self._instances) > 1:
            self._shut += [instance for instance in self._instances if instance.number == number]
            self._instances = [instance for instance in self._instances if instance.number != number]

    def open(self, number: int) -> None:
        """Count it in again."""
        back = [instance for instance in self._shut if instance.number == number]
        self._shut = [instance for instance in self._shut if instance.number != number]
        self._instances = sorted([*self._instances, *back], key=lambda instance: instance.number)

    def assigned(self, number: int, tokens: int) -> None:
        """The instance itself keeps count."""

    def completed(self, number: int, tokens: int) -> None:
        """The instance itself keeps count."""


def _before(instance: Counted) -> int:
    return instance.pending


class PowerOfTwoChoices:
    """Two instances drawn at random; the one with fewer outstanding tokens. Needs no view of the whole fleet."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        numbers = all_numbers(pools)
        self._first, self._load = numbers.start, [0] * len(numbers)
        self._random = Random(f"power of two {seed}")

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The better of two; the first drawn wins a tie."""
        draw, load = self._random.random, self._load
        one, two = int(draw() * len(load)), int(draw() * len(load))
        best = two if load[two] < load[one] else one
        return self._first + (best if load[best] < CLOSED else load.index(min(load)))

    def close(self, number: int) -> None:
        """Lose every comparison; when two closed ones are drawn, the least loaded of all is taken."""
        self._load[number - self._first] += CLOSED

    def open(self, number: int) -> None:
        """Compare it again."""
        self._load[number - self._first] -= CLOSED

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self._load[number - self._first] += tokens

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self._load[number - self._first] -= tokens
