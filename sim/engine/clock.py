"""SimPy's environment with events at exact instants.

`Environment.schedule` adds a delay to the present, which rounds; both engines must queue a boundary at the very same
float, so events are queued at their absolute time. At equal times the lower priority number comes first: arrivals (0)
before the boundaries of instances (1 + index), so that ties never depend on the order of scheduling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any

from simpy import Environment
from simpy.events import Event

# An arrival within this of a boundary is at it: boundaries are queued this much later than they are.
TIE_S = 1e-9


class Alarm(Event):
    """A bare event that is set again and again; an earlier setting that is still queued is passed over."""

    def __init__(self, clock: Clock, priority: float, callback: Callable[[], None]) -> None:
        self.callbacks = []  # never SimPy's way: `Clock.play` calls `callback`
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
        """End `play` before its next event; safe to call from a signal handler."""
        heappush(self.pending, (-1.0, 0, next(self.ids), _STOP))

    def play(self) -> None:
        """Run until nothing is queued or somebody stops it: SimPy's own loop, with a short way for alarms."""
        pending = self.pending
        while pending:
            time_s, _, _, alarm = entry = heappop(pending)
            if type(alarm) is not Alarm:
                if alarm is _STOP:
                    return
                heappush(pending, entry)
                self.step()
            elif alarm.due_s == time_s:
                self._now = time_s
                alarm.callback()
