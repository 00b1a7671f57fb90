"""SimPy's environment with events at exact instants.

`Environment.schedule` adds a delay to the present, which rounds; both engines must queue a boundary at the very same
float, so events are queued at their absolute time. At equal times arrivals come first, which are not queued, then what
`Place` lists, boundaries of instances last (1 + index): ties never depend on the order of scheduling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

from simpy import Environment
from simpy.events import Event

# An arrival within this of a boundary is at it: boundaries are queued this much later than they are.
TIE_S = 1e-9


class Place(IntEnum):
    """What happens at one instant, in this order: after arrivals and before boundaries."""

    RELEASED = 0  # a deferred request is sent
    SWITCHED = 1  # an instance has booted or is repaired
    CONTROL = 2  # a control looks and acts
    LANDED = 3  # a KV cache has come over its link
    RETRIED = 4  # what a failed instance held is sent again

    def of(self, order: int, size: int) -> float:
        """The priority of the one numbered `order` among `size` events of this kind; below 1."""
        return (self + order / size) / len(Place)


class Alarm(Event):
    """A bare event that is set again and again; an earlier setting that is still queued is passed over."""

    def __init__(self, clock: Clock, priority: float, callback: Callable[[], None]) -> None:
        self.callbacks = []  # never SimPy's way: `Clock.run_to` calls `callback`
        self.callback = callback
        self.due_s = -1.0
        self.priority = priority
        self.pending, self.ids = clock.pending, clock.ids

    def set(self, time_s: float) -> None:
        """Ring at `time_s`, which must not lie before now, nor be the time this alarm is still queued for."""
        self.due_s = time_s
        heappush(self.pending, (time_s, self.priority, next(self.ids), self))


_STOP = object()


class Clock(Environment):
    """A SimPy environment whose alarms ring at absolute times."""

    @property
    def pending(self) -> list[Any]:
        """SimPy's queue: (time, priority, number, event)."""
        return self._queue

    @property
    def ids(self) -> Iterator[int]:
        """SimPy's event numbers."""
        return self._eid

    def stop(self) -> None:
        """End `run_to` before its next event; safe to call from a signal handler."""
        heappush(self.pending, (-1.0, 0, next(self.ids), _STOP))

    def run_to(self, end_s: float) -> bool:
        """Run what is queued before `end_s`, which is now then: SimPy's own loop, with a short way for alarms.

        Returns:
            False when somebody stopped it.
        """
        pending = self.pending
        while pending and pending[0][0] < end_s:
            time_s, _, _, alarm = entry = heappop(pending)
            if type(alarm) is not Alarm:
                if alarm is _STOP:
                    return False
                heappush(pending, entry)
                self.step()
            elif alarm.due_s == time_s:
                self._now = time_s
                alarm.callback()
        if end_s < math.inf:
            self._now = end_s
        return True
