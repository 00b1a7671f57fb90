"""Paged KV whose blocks are found again: a pool of blocks in least-recently-used order, as vLLM's prefix cache.

A block's id names its tokens and all tokens before it, so equal ids are equal content. Blocks in use are shared; those
of sequences that left stay findable until room is needed, the longest unused first and a sequence's last blocks before
its first. Room only shrinks between two touches of the pool, so that it is enough to evict when it is touched.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import count

from sim.engine.ledger import Mark
from sim.engine.memory import WATERMARK, PagedKv

_OUTPUT_BLOCKS = 1 << 24  # more than one request can generate; keeps the ids of generated blocks apart


class PrefixKv(PagedKv):
    """Blocks of `block` tokens, found again by the ids of the trace.

    Args:
        ids, offsets: request i's prompt is ids[offsets[i]:offsets[i + 1]], one id for `span` tokens.
    """

    remembers = True

    def __init__(self, capacity_tokens: int, block: int, ids: Sequence[int], offsets: Sequence[int], span: int) -> None:
        super().__init__(capacity_tokens, block)
        self._physical = self.blocks
        self._ids, self._offsets, self._span = ids, offsets, span
        self._weight = -(-span // block)
        self._used: dict[int, int] = {}  # id -> sequences that hold it
        self._free: OrderedDict[int, int] = OrderedDict()  # id -> blocks, the longest unused first
        self._free_blocks = 0
        self._held: dict[int, list[int]] = {}  # the blocks of each sequence here
        self._nameless = count(-(1 << 62))

    def take(
        self, index: int, tokens: int, output: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> int:
        """Take the blocks of a prompt if they fit; how many of its tokens were found, or -1 without room.

        At least one token is left to compute, as in vLLM.
        """
        chain = self._chain(index, tokens)
        found, shared = 0, 0
        for name in chain[: (tokens - 1) // self._span]:
            if name in self._used:
                shared += self._weight
            elif name not in self._free:
                break
            found += 1
        self._share(shared)
        if super().take(index, tokens, output, batch, total, running, counter) < 0:
            self._share(-shared)
            return -1
        for name in chain[:found]:
            self._free_blocks -= self._free.pop(name, 0)
            self._used[name] = self._used.get(name, 0) + 1
        self._evict(batch, total, running, counter)
        for place in range(found, len(chain)):
            if chain[place] in self._used or chain[place] in self._free:  # known, but computed again: a copy
                chain[place] = next(self._nameless)
            self._used[chain[place]] = 1
        self._held[index] = chain
        return found * self._span

    def leave(
        self, index: int, tokens: int, computed: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> None:
        """Let go of a sequence of `tokens`, of which the first `computed` can be found again; `batch` is what stays."""
        held = self._held.pop(index)
        names = held + self._chain(index, tokens)[len(held) :]
        rest = -(-tokens // self.block) - len(names) * self._weight
        if rest > 0:
            self._unused(next(self._nameless), rest)
        whole = computed // self._span
        for place in range(len(names) - 1, -1, -1):
            name = names[place]
            holders = self._used.pop(name, 1) - 1
            if holders:
                self._used[name] = holders
                self._share(-self._weight)
            else:
                self._unused(name if place < whole else next(self._nameless), self._weight)
        self._evict(batch, total, running, counter)

    def _unused(self, name: int, blocks: int) -> None:
        """The latest of the unused; what is already findable is not kept twice."""
        self._free_blocks += blocks - self._free.pop(name, 0)
        self._free[name] = blocks

    def _chain(self, index: int, tokens: int) -> list[int]:
        """Ids of the whole spans of a sequence: the trace's for its prompt, its own for what it generated."""
        whole = tokens // self._span
        first, last = self._offsets[index], self._offsets[index + 1]
        chain = list(self._ids[first : min(last, first + whole)])
        return chain + [-1 - index * _OUTPUT_BLOCKS - k for k in range(len(chain), whole)]

    def _share(self, blocks: int) -> None:
        """Blocks held twice take no room: the pool seems larger by them."""
        self.blocks += blocks
        shared = self.blocks - self._physical
        self._roomy = int(self._physical * (1.0 - WATERMARK)) + shared
        self.roomy_tokens = (self.blocks - self.reserved) * self.block

    def _evict(self, batch: int, total: int, running: Mapping[int, Mark], counter: int) -> None:
        """Forget the longest unused blocks until what is unused fits what is free."""
        if (total + batch * (self.block - 1)) // self.block + self.reserved + self._free_blocks <= self.blocks:
            return
        held = sum(-(-(mark[0] + counter) // self.block) for mark in running.values())
        room = max(0, self.blocks - self.reserved - held)
        while self._free_blocks > room:
            _, blocks = self._free.popitem(last=False)
            self._free_blocks -= blocks
