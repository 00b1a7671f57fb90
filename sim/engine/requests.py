"""The request table: what is asked, and what became of it, one column each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from sim.trace import Trace

WAITING, COMPLETED, REJECTED = 0, 1, 2


Prefixes = tuple[list[int], list[int], int]  # block ids, where each request's begin, tokens of a block


def _missing(size: int) -> array[float]:
    return array("d", np.full(size, np.nan).tobytes())


class Requests:
    """Columns over all requests of a run, indexed by arrival order; times in seconds since the run's start.

    `energy_j`, `busy_s` and `gram_j` (joules times g/kWh) are what the steps gave each request, filled in by
    `sim.engine.charge`; `produced` counts its output tokens so far, `weight` what the router thinks it brings (prompt
    plus predicted output tokens).
    """

    def __init__(self, trace: Trace, priorities: Sequence[int] = (0,)) -> None:
        size = trace.requests
        self.size = size
        self.arrival_s: list[float] = trace.arrival_s.tolist()
        self.queued_s = self.arrival_s  # when it came to the instance it is at: a retry or a deferred one comes later
        self.prompt: list[int] = trace.prompt_tokens.tolist()
        self.output: list[int] = trace.output_tokens.tolist()
        self.status = bytearray(size)
        self.instance = array("l", bytes(8 * size))
        self.prefiller: array[int] | None = None  # 1 + the instance that handed it over; 0 where none did
        self.weight = array("l", bytes(8 * size))
        self.produced = array("l", bytes(8 * size))
        self.cached = array("l", bytes(8 * size))
        self.start_s = _missing(size)
        self.first_token_s = _missing(size)
        self.finish_s = _missing(size)
        self.model: list[int] | None = None if trace.model is None else trace.model.tolist()
        self.prefixes: Prefixes | None = None
        if trace.hash_ids is not None and trace.hash_offsets is not None:
            self.prefixes = trace.hash_ids.tolist(), trace.hash_offsets.tolist(), trace.hash_tokens
        self.slo_class: list[int] | None = None if trace.slo_class is None else trace.slo_class.tolist()
        self.priority: list[int] | None = None  # of each request, the lower first; None when all are alike
        if self.slo_class is not None and len(set(priorities)) > 1:
            self.priority = [priorities[place] for place in self.slo_class]
        self.retries = 0
        self.energy_j, self.busy_s, self.gram_j = np.zeros(size), np.zeros(size), np.zeros(size)
        self.preemptions = 0

    def queue_at(self, index: int, time_s: float) -> None:
        """A request comes to an instance later than it arrived."""
        if self.queued_s is self.arrival_s:
            self.queued_s = self.arrival_s.copy()
        self.queued_s[index] = time_s
