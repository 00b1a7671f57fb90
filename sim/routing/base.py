"""What every router builds on: the predictor of output lengths, the count of what is outstanding, the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
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


CLOSED = 1 << 60  # tokens that keep an instance out of every comparison


class LeastLoaded:
    """Instances by outstanding tokens (assigned and not completed); the lower number wins a tie.

    A short fleet is scanned; a long one keeps a heap with stale entries, so that an answer costs its logarithm. When
    these are many the heap is made anew.
    """

    SCAN = 48
    STALE = 16  # entries an instance

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
        if len(heap) > self.STALE * len(load):
            heap[:] = [(tokens, place) for place, tokens in enumerate(load)]
            heapify(heap)
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

    def close(self, number: int) -> None:
        """Choose an instance no more while another is open."""
        self.add(number, CLOSED)

    def open(self, number: int) -> None:
        """Choose it again."""
        self.take(number, CLOSED)

    def take(self, number: int, tokens: int) -> None:
        """Tokens were taken off an instance."""
        place = number - self._first
        self._load[place] -= tokens
        if self._heap is not None:
            heappush(self._heap, (self._load[place], place))


class Router(Protocol):
    """Chooses an instance for each arrival and hears of completions.

    One that has `close(number)` and `open(number)` can leave instances out, which controls that switch them need. One
    that has `bind(instances)` is shown the engine's instances (sim.engine.counted) before the first arrival, one with
    `know(requests, scenario, start_s)` what the run is (of which it should read no output lengths).
    """

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The number of the instance for a request of `prompt` tokens and a predicted `output`."""

    def assigned(self, number: int, tokens: int) -> None:
        """A request of `tokens` (prompt plus predicted output) went to an instance."""

    def completed(self, number: int, tokens: int) -> None:
        """That request has completed."""


def all_numbers(pools: Sequence[LivePool]) -> range:
    """The instances of pools that lie beside each other."""
    return range(pools[0].numbers.start, pools[-1].numbers.stop)
