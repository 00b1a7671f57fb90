"""KV memory of one instance: what fits, and for how many more decode steps.

A running sequence holds `mark.offset + counter` tokens (its context with the token being made). Token bounds answer
nearly always; only near the limit are the sequences counted, so a roomy memory costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sim.engine.ledger import Mark

WATERMARK = 0.01  # share of the blocks kept free when admitting beside others, as vLLM does, against thrashing


class PagedKv:
    """Blocks of `block` tokens; a sequence takes a block when it needs one and may be preempted when none is left."""

    remembers = False  # whether it must hear of a sequence that leaves

    def leave(
        self, index: int, tokens: int, computed: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> None:
        """A sequence leaves; nothing is kept of it."""

    def __init__(self, capacity_tokens: int, block: int) -> None:
        self.block = block
        self.blocks = capacity_tokens // block
        self.reserved = 0  # blocks of prompts that are being prefilled
        self.longest = self.blocks * block  # tokens of the longest request that could be served alone
        self.roomy_tokens: float = self.longest  # below this bound nothing need be counted
        self._roomy = int(self.blocks * (1.0 - WATERMARK))
        # a prompt, the sequences and a block more for each fit for certain below this, nothing being reserved
        self.ample_tokens = min(0.98 * self.longest, (self._roomy - 1) * block)

    def take(
        self, index: int, tokens: int, output: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> int:
        """Take the blocks of a prompt of `tokens` if they fit beside `batch` sequences that hold `total` tokens.

        Returns:
            how many of the prompt's tokens are there already (none here), or -1 without room.
        """
        need = -(-tokens // self.block)
        alone = batch == 0 and self.reserved == 0
        limit = self.blocks if alone else self._roomy
        if (total + batch * (self.block - 1)) // self.block + self.reserved + need > limit:
            held = sum(-(-(mark[0] + counter) // self.block) for mark in running.values())
            if held + self.reserved + need > limit:
                return -1
        self.reserved += need
        self.roomy_tokens = (self.blocks - self.reserved) * self.block
        return 0

    def release(self, tokens: int) -> None:
        """Give back what `take` took: the sequence runs now and is counted by its context, or is gone."""
        self.reserved -= -(-tokens // self.block)
        self.roomy_tokens = (self.blocks - self.reserved) * self.block

    def steps(self, want: int, batch: int, total: int, running: Mapping[int, Mark], counter: int) -> int:
        """How many of `want` decode steps fit, from `counter` on, each adding one token to each sequence."""
        block = self.block
        top = total + batch * (want - 1 + block - 1) + self.reserved * block
        if top <= self.blocks * block:
            return want
        lengths = [mark[0] + counter for mark in running.values()]
        free = self.blocks - self.reserved - sum(-(-length // block) for length in lengths)
        if free < 0:
            return 0
        room = [0] * block  # sequences by how many more steps their last block takes
        for length in lengths:
            room[-length % block] += 1
        rounds, free = divmod(free, batch)
        for ahead in range(block):
            if room[ahead] > free:
                return min(want, rounds * block + ahead + 1)
            free -= room[ahead]
        return want


class StatedHits(PagedKv):
    """Paged memory where a stated share of every prompt's tokens is found in the cache, of a trace that names none.

    Found tokens need no computing, but their blocks are held like all others; at least one token is computed.
    """

    def __init__(self, capacity_tokens: int, block: int, share: float) -> None:
        super().__init__(capacity_tokens, block)
        self._share = share

    def take(
        self, index: int, tokens: int, output: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> int:
        """As PagedKv's; the whole blocks of the stated share are found."""
        if super().take(index, tokens, output, batch, total, running, counter) < 0:
            return -1
        return min(int(tokens * self._share), tokens - 1) // self.block * self.block


class WholeRequestKv:
    """Prompt and all output tokens are reserved at admission; nothing is ever preempted."""

    remembers = True
    block = 1
    roomy_tokens = math.inf

    def __init__(self, capacity_tokens: int, block: int) -> None:
        self.longest = self.capacity = capacity_tokens
        self.reserved = 0

    def take(
        self, index: int, tokens: int, output: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> int:
        """Take prompt and output tokens if they fit beside what is reserved; -1 when they do not, else 0."""
        if self.reserved + tokens + output > self.capacity:
            return -1
        self.reserved += tokens + output
        return 0

    def release(self, tokens: int) -> None:
        """The prompt is prefilled; its reservation stays until it finishes."""

    def leave(
        self, index: int, tokens: int, computed: int, batch: int, total: int, running: Mapping[int, Mark], counter: int
    ) -> None:
        """Give back prompt and output tokens, which are the `tokens` of a finished sequence."""
        self.reserved -= tokens

    def steps(self, want: int, batch: int, total: int, running: Mapping[int, Mark], counter: int) -> int:
        """All of them: growth was reserved."""
        return want


Kv = PagedKv | WholeRequestKv  # and PagedKv's child, PrefixKv
