"""Routers that choose a pool first, then its least loaded instance: by carbon, by order, by length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.routing.base import LeastLoaded

if TYPE_CHECKING:
    from sim.fleet import LivePool

_UNLIMITED = 1 << 62


class ByPool:
    """What routers share that choose a pool first: the least loaded instance of each."""

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        self._pools = pools
        self._index = [LeastLoaded(pool.numbers) for pool in pools]
        self._pool_of = {number: k for k, pool in enumerate(pools) for number in pool.numbers}

    def fullness(self, k: int) -> float:
        """Outstanding tokens of a pool's least loaded instance, as a share of what it serves within the SLO."""
        return self._index[k].least_tokens() / self._pools[k].token_limit

    def close(self, number: int) -> None:
        """Leave an instance out."""
        self._index[self._pool_of[number]].close(number)

    def open(self, number: int) -> None:
        """Count it in again."""
        self._index[self._pool_of[number]].open(number)

    def assigned(self, number: int, tokens: int) -> None:
        """Count the tokens in."""
        self._index[self._pool_of[number]].add(number, tokens)

    def completed(self, number: int, tokens: int) -> None:
        """Count the tokens out."""
        self._index[self._pool_of[number]].take(number, tokens)


class LeastAddedCarbon(ByPool):
    """The pool to which the request adds the fewest grams now, among those that still keep the SLO.

    Added grams are the request's busy joules at the pool's full batch times the site's present intensity and PUE.
    A pool keeps the SLO while its least loaded instance holds fewer tokens than it can serve at that batch; when none
    does, the pool that is least loaded for its size takes the request. In a pool the least loaded instance is taken.
    """

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
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


class SpillOver(ByPool):
    """The first pool in the scenario's order that still keeps the SLO: home first, the next region when it is full.

    When all are full, the pool that is least loaded for its size.
    """

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The least loaded instance of the first pool with room."""
        shares = []
        for k in range(len(self._pools)):
            share = self.fullness(k)
            if share < 1.0:
                return self._index[k].least()
            shares.append(share)
        return self._index[shares.index(min(shares))].least()


class ByLength(ByPool):
    """The pool made for the prompt's length: of those whose `max_prompt_tokens` covers it, the smallest such limit.

    Pools with the same limit (or none, which covers all) share: the one that is least loaded for its size. A prompt
    longer than every limit goes to the pools with the largest one.
    """

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        super().__init__(pools, seed)
        limits = [pool.spec.max_prompt_tokens or _UNLIMITED for pool in pools]
        self._groups = [(limit, [k for k, own in enumerate(limits) if own == limit]) for limit in sorted(set(limits))]

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """The least loaded instance among the pools of the prompt's class."""
        group = next((pools for limit, pools in self._groups if prompt <= limit), self._groups[-1][1])
        return self._index[min(group, key=self.fullness)].least()
