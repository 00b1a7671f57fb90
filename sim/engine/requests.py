"""The request table: what is asked, and what became of it, one column each."""

from __future__ import annotations

import math
from collections.abc import MutableSequence, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.columns import Code, Floats, Shelf
from sim.trace import Trace

if TYPE_CHECKING:
    from sim.engine.charge import Owned

WAITING, COMPLETED, REJECTED = 0, 1, 2


Prefixes = tuple[Sequence[int], Sequence[int], int]  # block ids, where each request's begin, tokens of a block


_OWN: dict[str, Code] = {
    "status": "B",
    **dict.fromkeys(("instance",), "q"),
    **dict.fromkeys(("weight", "produced", "cached"), "i"),
    **dict.fromkeys(("start_s", "first_token_s", "finish_s"), "d"),
}


class Requests:
    """Columns over all requests of a run, indexed by arrival order; times in seconds since the run's start.

    `produced` counts the output tokens of a request that is in no batch, `weight` what the router thinks it brings
    (prompt plus predicted output tokens); what is asked stands in `trace` as arrays too. Long runs keep the columns in
    files (sim.columns).

    Args:
        priorities: of each SLO class.
        scratch: folder for those files; default: the system's temporary one.
    """

    def __init__(self, trace: Trace, priorities: Sequence[int] = (0,), scratch: str | Path | None = None) -> None:
        size = trace.requests
        self.trace, self.size = trace, size
        self.shelf = shelf = Shelf(size, scratch)
        shelf.maps += trace.maps
        self.arrival_s: Sequence[float] = self._given(trace.arrival_s)
        self.queued_s = self.arrival_s  # when it came to the instance it is at: a retry or a deferred one comes later
        self._queued: MutableSequence[float] | None = None
        self.prompt: Sequence[int] = self._given(trace.prompt_tokens)
        self.output: Sequence[int] = self._given(trace.output_tokens)
        self.status: MutableSequence[int] = self._own("B")
        self.instance: MutableSequence[int] = self._own("q")
        self.prefiller: MutableSequence[int] | None = None  # 1 + the instance that handed it over; 0 where none did
        self.weight: MutableSequence[int] = self._own("i")
        self.produced: MutableSequence[int] = self._own("i")
        self.cached: MutableSequence[int] = self._own("i")
        self.start_s: MutableSequence[float] = self._own("d", math.nan)
        self.first_token_s: MutableSequence[float] = self._own("d", math.nan)
        self.finish_s: MutableSequence[float] = self._own("d", math.nan)
        self.model: Sequence[int] | None = None if trace.model is None else self._given(trace.model)
        self.prefixes: Prefixes | None = None
        if trace.hash_ids is not None and trace.hash_offsets is not None:
            self.prefixes = self._given(trace.hash_ids), self._given(trace.hash_offsets), trace.hash_tokens
        self.slo_class: Sequence[int] | None = None if trace.slo_class is None else self._given(trace.slo_class)
        self.priority: Sequence[int] | None = None  # of each request, the lower first; None when all are alike
        if trace.slo_class is not None and len(set(priorities)) > 1:
            self.priority = self._given(np.array(priorities, np.int32)[trace.slo_class])
        self.retries = 0
        self.preemptions = 0
        self.owned: list[Owned] = []  # by pool, what its steps gave each request

    def _given(self, column: Any) -> Any:
        """A column of the trace: lists are quickest to look into, but take ten times the room."""
        return memoryview(column) if self.shelf.on_disk else column.tolist()

    def _own(self, code: Code, fill: float = 0) -> Any:
        """A column of the run: a list while a short run goes on."""
        return self.shelf.column(code, fill) if self.shelf.on_disk else [fill] * self.size

    def close(self) -> None:
        """Nothing is written any more: from now on every column of the run is an array to numpy."""
        for name, code in _OWN.items():
            column = getattr(self, name)
            if isinstance(column, list):
                setattr(self, name, np.array(column, code).data)

    def queue_at(self, index: int, time_s: float) -> None:
        """A request comes to an instance later than it arrived."""
        if self._queued is None:
            column: MutableSequence[float] = self.shelf.column("d")
            for part in self.shelf.rows():
                np.asarray(column)[part] = self.trace.arrival_s[part]
            self.queued_s = self._queued = column
        self._queued[index] = time_s

    @property
    def energy_j(self) -> Floats:
        """Joules that the steps of all pools gave each request."""
        return self._total("energy_j")

    @property
    def busy_s(self) -> Floats:
        """Seconds that the steps of all pools gave each request."""
        return self._total("busy_s")

    @property
    def gram_j(self) -> Floats:
        """Joules times g/kWh that the steps of all pools gave each request."""
        return self._total("gram_j")

    def _total(self, name: str) -> Floats:
        total = np.zeros(self.size)
        for owned in self.owned:
            total += getattr(owned, name)
        return total
