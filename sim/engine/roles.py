"""Instances of which one prefills and hands the KV cache over, and another decodes what it is handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.engine.clock import TIE_S
from sim.engine.counted import Counted
from sim.engine.instance import Chunk, Prompt
from sim.engine.ledger import pack_transfer
from sim.engine.stepper import DECODING, IDLE, WAKING


class Paired(Counted):
    """Hands over the requests that `leaving` says decode elsewhere, and adopts those that arrive with their KV cache.

    KV memory is free as soon as a request is handed over. One that is preempted after it was adopted is prefilled
    again here.
    """

    __slots__ = ("hand_over", "leaving", "prefilled", "went_idle")

    pairs = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.leaving: dict[int, tuple[int, int]] = {}
        self.hand_over: Callable[[int, float], tuple[float, float]] = _nobody
        self.prefilled: Callable[[int], None] | None = None
        self.went_idle: Callable[[int], None] | None = None

    @property
    def queued(self) -> int:
        """Requests that wait here, with or without their KV cache."""
        return len(self.waiting) + len(self.arriving)

    def decodes(self, index: int) -> bool:
        """Whether a request's output tokens are made here."""
        return index not in self.leaving

    def _join(self, prompt: Prompt, now_s: float) -> int:
        index, requests = prompt.index, self.requests
        if self.prefilled is not None and not requests.produced[index]:
            self.prefilled(index)
        if index not in self.leaving:
            return super()._join(prompt, now_s)
        self.backlog -= prompt.total
        self.kv.release(prompt.total)
        if self.kv.remembers:
            self._forget(index, prompt.total, prompt.total)
        requests.produced[index] = 1
        requests.first_token_s[index] = now_s
        seconds, joules = self.hand_over(index, now_s)
        self.ledger.transfers += pack_transfer(index, now_s, now_s + seconds, joules)
        return 0

    def adopt(self, index: int, now_s: float) -> None:
        """A request comes with its KV cache; it joins the batch at the next boundary that has room."""
        self.requests.finish_s[index] = self.requests.first_token_s[index]  # when its last token was made, so far
        self.arriving.append((index, now_s))
        if self.state == IDLE:
            self.state, self.alarm_s = WAKING, now_s
            self.alarm.set(now_s + TIE_S)
        elif self.state == DECODING and self.target - self.steps > 1 and self.batch < self.max_seqs:
            self._cut(now_s, self.ahead)

    def _plan(self) -> list[Chunk]:
        """Adopt what came and fits, then as the batching policy says."""
        if self.arriving:
            self._take_in()
        return super()._plan()

    def _take_in(self) -> None:
        requests, arriving, kv = self.requests, self.arriving, self.kv
        while arriving and self.batch + len(self.prefilling) < self.max_seqs:
            index, came_s = arriving[0]
            batch = self.batch
            if self.ahead and came_s > self.seen_s and (batch or self.prefilling):
                return
            produced = requests.produced[index]
            tokens, left = requests.prompt[index] + produced, requests.output[index] - produced
            counter = self.counter + self.steps
            if kv.take(index, tokens, left, batch, self.offsets + batch * counter, self.running, counter) < 0:
                return
            kv.release(tokens)
            arriving.popleft()
            self._settle_decode()
            if batch and not self.stalled:
                self.stalled.append((batch, self.alarm_s))
            self.stalled.append((1, requests.finish_s[index]))
            self.late[index] = requests.finish_s[index]
            self._enter(index, produced)
            self.line = None

    def furthest(self, limit: int) -> int:
        """One step where a request has come whose KV cache is not seen yet."""
        if self.ahead and self.arriving and self.arriving[0][1] > self.seen_s:
            return self.steps + 1
        return super().furthest(limit)

    def _boundary(self) -> None:
        super()._boundary()
        if self.state == IDLE and self.went_idle is not None:
            self.went_idle(self.number)


def _nobody(index: int, now_s: float) -> tuple[float, float]:
    raise AssertionError("an instance that hands over to nobody")
