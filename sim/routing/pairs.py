"""A router that chooses both who prefills and who decodes: Splitwise's pools with a mixed one between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.engine.roles import Paired
    from sim.fleet import LivePool

LONG_QUEUE_TOKENS = 8192  # splitwise-sim's prompt_max_pending_batch_tokens


class MixedPool:
    """splitwise-sim's mixed_pool (Splitwise, ISCA 2024): prompts to one pool, tokens to the other, while there is room.

    Prompts go where the fewest tokens are pending, tokens where the least KV memory is promised. When the prompt queue
    is long a decode instance is taken into the mixed pool and prefills too; when decode memory is full a prefill
    instance is. An instance leaves the mixed pool as soon as it has nothing to do.
    """

    pairs = True

    def __init__(self, pools: Sequence[LivePool], seed: int = 0) -> None:
        numbers = [number for pool in pools for number in pool.numbers]
        self._prefill = [n for pool in pools if pool.spec.role == "prefill" for n in pool.numbers]
        self._decode = [n for pool in pools if pool.spec.role != "prefill" for n in pool.numbers]
        self._mixed: list[int] = []
        self._home = {n: self._prefill if n in self._prefill else self._decode for n in numbers}
        self._room = {n: pool.model.kv_capacity_tokens for pool in pools for n in pool.numbers}
        self._pending = dict.fromkeys(numbers, 0)  # prompt tokens before their first token, and 1 for each that decodes
        self._memory = dict.fromkeys(numbers, 0)  # KV tokens promised away
        self._promised: dict[int, tuple[int, int, int, int]] = {}  # who prefills, who decodes, prompt, output tokens
        self._moved: set[int] = set()
        self._instances: dict[int, Paired] = {}

    def bind(self, instances: Sequence[Paired]) -> None:
        """The engine shows its instances; only the length of their queues is read."""
        self._instances = {instance.number: instance for instance in instances}
        for instance in instances:
            instance.went_idle = self._idle

    def route_pair(self, now_s: float, prompt: int, output: int, index: int) -> tuple[int, int]:
        """Who prefills and who decodes; the same number when one does both."""
        first, last = self._prompt_taker(prompt), self._token_taker(prompt + output)
        if first is None and self._decode:
            first = self._lend(self._decode, self._pending)
        if last is None and self._prefill:
            last = self._lend(self._prefill, self._memory)
        if first is None or last is None:
            first = last = min([*self._prefill, *self._mixed, *self._decode], key=self._pending.__getitem__)
        self._pending[first] += prompt
        self._pending[last] += 1
        if first != last:
            self._memory[first] += prompt + 1
        self._memory[last] += prompt + output
        self._promised[index] = first, last, prompt, output
        return first, last

    def _prompt_taker(self, prompt: int) -> int | None:
        """The least loaded of the prefill pool, else of the mixed one, unless its queue is long."""
        for numbers in (self._prefill, self._mixed):
            best = min(numbers, key=self._pending.__getitem__, default=None)
            if best is not None:
                busy = self._instances[best].queued
                if not busy or self._pending[best] + prompt <= LONG_QUEUE_TOKENS:
                    return best
        return None

    def _token_taker(self, tokens: int) -> int | None:
        """The one with the least memory promised in the decode pool, else in the mixed one, unless that is full."""
        for numbers in (self._decode, self._mixed):
            best = min(numbers, key=self._memory.__getitem__, default=None)
            if best is not None and self._memory[best] + tokens < self._room[best]:
                return best
        return None

    def _lend(self, pool: list[int], load: dict[int, int]) -> int:
        """The least loaded of a pool moves to the mixed one."""
        number = min(pool, key=load.__getitem__)
        pool.remove(number)
        self._mixed.append(number)
        return number

    def _idle(self, number: int) -> None:
        """An instance of the mixed pool that has nothing to do goes home."""
        if number in self._mixed:
            self._mixed.remove(number)
            self._home[number].append(number)

    def prefilled(self, index: int) -> None:
        """A request's first token is made."""
        first, _, prompt, _ = self._promised[index]
        self._pending[first] -= prompt

    def moved(self, index: int) -> None:
        """A request's KV cache has left the instance that prefilled it."""
        first, _, prompt, _ = self._promised[index]
        self._memory[first] -= prompt + 1
        self._moved.add(index)

    def ended(self, index: int) -> None:
        """A request has made its last token."""
        first, last, prompt, output = self._promised.pop(index)
        self._pending[last] -= 1
        self._memory[last] -= prompt + output
        if first != last and index not in self._moved:  # it ended with its first token, where it was prefilled
            self._memory[first] -= prompt + 1
        self._moved.discard(index)

    def route(self, now_s: float, prompt: int, output: int, index: int) -> int:
        """Never asked: it chooses pairs."""
        raise NotImplementedError

    def assigned(self, number: int, tokens: int) -> None:
        """It keeps its own count."""

    def completed(self, number: int, tokens: int) -> None:
        """It keeps its own count."""
