"""SimPy's environment with events at exact instants.

`Environment.schedule` adds a delay to the present, which rounds; both engines must queue a boundary at the very same
float, so events are queued at their absolute time. At equal times the lower priority number comes first: arrivals (0)
before the boundaries of instances (1 + index), so that ties never depend on the order of scheduling.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

from simpy import Environment
from simpy.events import Event

# An arrival within this of a boundary is at it: boundaries are queued this much later than they are.
TIE_S = 1e-9


class Alarm(Event):
    """A bare event that calls `callbacks` when its time comes; `generation` tells a superseded one."""

    _ok = True
    _value = None

    def __init__(self, callbacks: list[Callable[[Any], None]], generation: int) -> None:
        self.callbacks = callbacks
        self.generation = generation


class Clock(Environment):
    """A SimPy environment that can queue an event at an absolute time."""

    def at(self, time_s: float, priority: int, event: Event) -> None:
        """Queue `event` at `time_s`, which must not lie before now."""
        self._queue: list[Any]
        heappush(self._queue, (time_s, priority, next(self._eid), event))
