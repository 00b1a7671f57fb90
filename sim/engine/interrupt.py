"""A way to end a simulation early and keep what it did: asked for from outside, obeyed between two events."""

from __future__ import annotations

from sim.engine.clock import Clock


class Interrupt:
    """Ask a running simulation to stop, from a signal handler or another thread.

    `asked` tells whether somebody did. Asked before the simulation began, it is the caller's to obey.
    """

    def __init__(self) -> None:
        self.asked = False
        self.playing = False
        self._clock: Clock | None = None

    def bind(self, clock: Clock) -> None:
        """The clock to stop; one that was asked for already stops at once."""
        self._clock, self.playing = clock, True
        if self.asked:
            clock.stop()

    def ask(self) -> None:
        """Stop at the next event."""
        self.asked = True
        if self._clock is not None:
            self._clock.stop()
