"""Monotonic clocks: the real one, and a virtual one on which hours of sensor readings pass in milliseconds."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never run back."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class RealClock:
    """time.perf_counter: wall clocks may be set back, this one may not."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)


class VirtualClock:
    """A clock that only moves when someone sleeps on it."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Virtual seconds since the clock was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the clock on by `seconds`."""
        self._now += max(0.0, seconds)
