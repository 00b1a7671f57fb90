"""Which instance a request goes to. A router is one small class; it sees what is known now, never future truth.

Output lengths are predicted: by the running mean of what has completed (from a prior), or by the oracle where the
scenario says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import cycle
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sim.fleet import LivePool

PRIOR_OUTPUT_TOKENS = 256  # what a router believes before anything has completed


class Predictor:
    """Predicted output tokens: the rounded mean of completed requests, with a prior that counts as one."""

    def __init__(self) -> None:
        self.mean = PRIOR_OUTPUT_TOKENS
        self._tokens = PRIOR_OUTPUT_TOKENS
        self._seen = 1

    def learn(self, tokens: int) -> None:
        """A request of so many output tokens has completed."""
        self._tokens += tokens
        self._seen += 1
        self.mean = round(self._tokens / self._seen)


class LeastLoaded:
    """Instances by outstanding tokens (assigned and not completed); the lower number wins a tie.

    A short fleet is scanned; a long one keeps a heap with stale entries, so that an answer costs its logarithm.
    """

    SCAN = 48

    def __init__(self, numbers: range) -> None:
        self._first = numbers.start
        self._load = [0] * len(numbers)
        self._heap: list[tuple[int, int]] | None = None
        if len(numbers) > self.SCAN:
            self._heap = [(0, place) for place in range(len(numbers))]

    def least(self) -> int:
        """The instance with the fewest outstanding tokens."""
        heap, load = self._heap, self._load
        if heap is None:
            return self._first + load.index(min(load))
        while load[heap[0][1]] != heap[0][0]:
            heappop(heap)
        return self._first + heap[0][1]

    def least_tokens(self) -> int:
        """How many tokens that instance has outstanding."""
        return self._load[self.least() - self._first]

    def add(self, number: int, tokens: int) -> None:
        """Tokens were assigned to an instance."""
        place = number - self._first
        self._load[place] += tokens
        if self._heap is not None:
            heappush(self._heap, (self._load[place], place))

    def take(self, number: int, tokens: int) -> None:
        """Tokens were taken off an instance."""
        place = number - self._first
        self._load[place] -= tokens
        if self._heap is not None:
            heappush(self._heap, (self._load[place], place))


class Router(Protocol):
    """Chooses an instance for each arrival and hears of completions."""

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The number of the instance for a request of `prompt` tokens and a predicted `output`."""

    def assigned(self, number: int, tokens: int) -> None:
        """A request of `tokens` (prompt plus predicted output) went to an instance."""

    def completed(self, number: int, tokens: int) -> None:
        """That request has completed."""


class RoundRobin:
    """Instances in turn."""

    def __init__(self, pools: Sequence[LivePool]) -> None:
        self._turn = cycle([number for pool in pools for number in pool.numbers])

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The next instance in order."""
        return next(self._turn)

    def assigned(self, number: int, tokens: int) -> None:
        """Round robin keeps no count."""

    def completed(self, number: int, tokens: int) -> None:
        """Round robin keeps no count."""


class LeastOutstandingTokens(LeastLoaded):
    """The instance with the fewest outstanding tokens, whatever its GPU."""

    def __init__(self, pools: Sequence[LivePool]) -> None:
        super().__init__(range(pools[0].numbers.start, pools[-1].numbers.stop))

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance of the fleet."""
        return self.least()

    assigned = LeastLoaded.add
    completed = LeastLoaded.take


class LeastAddedCarbon:
    """The pool to which the request adds the fewest grams now, among those that still keep the SLO.

    Added grams are the request's busy joules at the pool's full batch times the site's present intensity and PUE.
    A pool keeps the SLO while its least loaded instance holds fewer tokens than it can serve at that batch; when none
    does, the pool that is least loaded for its size takes the request. In a pool the least loaded instance is taken.
    """

    def __init__(self, pools: Sequence[LivePool]) -> None:
        self._pools = pools
        self._index = [LeastLoaded(pool.numbers) for pool in pools]
        self._pool_of = {number: k for k, pool in enumerate(pools) for number in pool.numbers}

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance of the pool that adds the least carbon."""
        best, best_key = 0, (True, float("inf"))
        for k, pool in enumerate(self._pools):
            index = self._index[k]
            share = index.least_tokens() / pool.token_limit
            full = share >= 1.0
            grams = (pool.prompt_j * prompt + pool.output_j * output) * pool.intensity_now(now_s) * pool.pue
            key = (full, share if full else grams)
            if key < best_key:
                best, best_key = k, key
        return self._index[best].least()

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self._index[self._pool_of[number]].add(number, tokens)

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self._index[self._pool_of[number]].take(number, tokens)


ROUTERS: dict[str, type[RoundRobin] | type[LeastOutstandingTokens] | type[LeastAddedCarbon]] = {
    "round-robin": RoundRobin,
    "least-outstanding-tokens": LeastOutstandingTokens,
    "least-added-carbon": LeastAddedCarbon,
}
