"""Which instance a request goes to. A router is one small class; it sees what is known now, never future truth.

Output lengths are predicted: by the running mean of what has completed (from a prior), or by the oracle where the
scenario says so. A policy of one's own is a class like these, put into ROUTERS under a name (docs/scenario.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sim.engine.counted import Counted
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
    """Chooses an instance for each arrival and hears of completions.

    One that also has `bind(instances)` is shown the engine's instances (sim.engine.counted) before the first arrival.
    """

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The number of the instance for a request of `prompt` tokens and a predicted `output`."""

    def assigned(self, number: int, tokens: int) -> None:
        """A request of `tokens` (prompt plus predicted output) went to an instance."""

    def completed(self, number: int, tokens: int) -> None:
        """That request has completed."""


class RoundRobin:
    """Instances in turn."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
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

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(_all(pools))

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance of the fleet."""
        return self.least()

    assigned = LeastLoaded.add
    completed = LeastLoaded.take


class LeastOutstandingRequests(LeastLoaded):
    """The instance with the fewest outstanding requests, however long they are."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(_all(pools))

    def route(self, now_s: float, prompt: int, output: int) -> int:
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
        super().__init__(_all(pools))
        self._unit = {n: max(1, _SHARE // pool.model.kv_capacity_tokens) for pool in pools for n in pool.numbers}

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The instance with the smallest share."""
        return self.least()

    def assigned(self, number: int, tokens: int) -> None:
        """Tokens in, as a share of this instance's memory."""
        self.add(number, tokens * self._unit[number])

    def completed(self, number: int, tokens: int) -> None:
        """Tokens out."""
        self.take(number, tokens * self._unit[number])


class LeastPrefillBacklog:
    """The instance with the fewest prompt tokens still to be prefilled, running requests counting one each.

    What splitwise-sim calls token_jsq: it looks at what stands before a first token, not at what decodes.
    """

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        self._instances: Sequence[Counted] = ()

    def bind(self, instances: Sequence[Counted]) -> None:
        """The engine shows its instances; only their backlog and batch are read."""
        self._instances = instances

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The one with the least before it; the lower number wins a tie."""
        return min(self._instances, key=_before).number

    def assigned(self, number: int, tokens: int) -> None:
        """The instance itself keeps count."""

    def completed(self, number: int, tokens: int) -> None:
        """The instance itself keeps count."""


def _before(instance: Counted) -> int:
    return instance.backlog + instance.batch


class PowerOfTwoChoices:
    """Two instances drawn at random; the one with fewer outstanding tokens. Needs no view of the whole fleet."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        numbers = _all(pools)
        self._first, self._load = numbers.start, [0] * len(numbers)
        self._random = Random(f"power of two {seed}")

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The better of two; the first drawn wins a tie."""
        draw, load = self._random.random, self._load
        one, two = int(draw() * len(load)), int(draw() * len(load))
        return self._first + (two if load[two] < load[one] else one)

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self._load[number - self._first] += tokens

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self._load[number - self._first] -= tokens


class _ByPool:
    """What routers share that choose a pool first: the least loaded instance of each."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        self._pools = pools
        self._index = [LeastLoaded(pool.numbers) for pool in pools]
        self._pool_of = {number: k for k, pool in enumerate(pools) for number in pool.numbers}

    def fullness(self, k: int) -> float:
        """Outstanding tokens of a pool's least loaded instance, as a share of what it serves within the SLO."""
        return self._index[k].least_tokens() / self._pools[k].token_limit

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self._index[self._pool_of[number]].add(number, tokens)

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self._index[self._pool_of[number]].take(number, tokens)


class LeastAddedCarbon(_ByPool):
    """The pool to which the request adds the fewest grams now, among those that still keep the SLO.

    Added grams are the request's busy joules at the pool's full batch times the site's present intensity and PUE.
    A pool keeps the SLO while its least loaded instance holds fewer tokens than it can serve at that batch; when none
    does, the pool that is least loaded for its size takes the request. In a pool the least loaded instance is taken.
    """

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance of the pool that adds the least carbon."""
        best, best_key = 0, (True, float("inf"))
        for k, pool in enumerate(self._pools):
            share = self.fullness(k)
            full = share >= 1.0
            grams = (pool.prompt_j * prompt + pool.output_j * output) * pool.intensity_now(now_s) * pool.pue
            key = (full, share if full else grams)
            if key < best_key:
                best, best_key = k, key
        return self._index[best].least()


class SpillOver(_ByPool):
    """The first pool in the scenario's order that still keeps the SLO: home first, the next region when it is full.

    When all are full, the pool that is least loaded for its size.
    """

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance of the first pool with room."""
        shares = []
        for k in range(len(self._pools)):
            share = self.fullness(k)
            if share < 1.0:
                return self._index[k].least()
            shares.append(share)
        return self._index[shares.index(min(shares))].least()


class ByLength(_ByPool):
    """The pool made for the prompt's length: of those whose `max_prompt_tokens` covers it, the smallest such limit.

    Pools with the same limit (or none, which covers all) share: the one that is least loaded for its size. A prompt
    longer than every limit goes to the pools with the largest one.
    """

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(pools, seed)
        limits = [pool.spec.max_prompt_tokens or _UNLIMITED for pool in pools]
        self._groups = [(limit, [k for k, own in enumerate(limits) if own == limit]) for limit in sorted(set(limits))]

    def route(self, now_s: float, prompt: int, output: int) -> int:
        """The least loaded instance among the pools of the prompt's class."""
        group = next((pools for limit, pools in self._groups if prompt <= limit), self._groups[-1][1])
        return self._index[min(group, key=self.fullness)].least()


def _all(pools: Sequence[LivePool]) -> range:
    return range(pools[0].numbers.start, pools[-1].numbers.stop)


_SHARE = 1 << 40  # KV shares are counted in whole parts, so that what is added can be taken away exactly
_UNLIMITED = 1 << 62
ROUTERS: dict[str, Callable[..., Router]] = {
    "round-robin": RoundRobin,
    "least-outstanding-requests": LeastOutstandingRequests,
    "least-outstanding-tokens": LeastOutstandingTokens,
    "least-kv": LeastKv,
    "power-of-two-choices": PowerOfTwoChoices,
    "least-prefill-backlog": LeastPrefillBacklog,
    "by-length": ByLength,
    "spill-over": SpillOver,
    "least-added-carbon": LeastAddedCarbon,
}
