"""Instances switched off and on: closed to new requests, drained, off, booting, open again; all of it written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sim.engine.clock import Alarm, Place
from sim.engine.ledger import pack_off

if TYPE_CHECKING:
    from sim.control.world import World
    from sim.fleet import LivePool

OPEN, DRAINING, OFF, BOOTING, FAILED = range(5)


def instances(pool: LivePool) -> range:
    """What is switched as one in a pool, by its first engine: ranks in lockstep boot, stop and fail together."""
    return pool.numbers[:: pool.spec.ranks]


class Switch:
    """The state of every instance of a run (by its first engine), and the only hand that changes it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.state = [OPEN] * len(world.instances)
        self._since = [0.0] * len(world.instances)  # when it went off or began to boot
        self._watts = [0.0] * len(world.instances)  # what it draws meanwhile
        self.boots = self.failures = 0
        self._draining: dict[int, float] = {}  # instance -> watts once it is off

    def count(self, pool: LivePool, *states: int) -> int:
        """Instances of a pool in any of these states."""
        return sum(self.state[number] in states for number in instances(pool))

    def off(self, number: int, now_s: float, off_w: float) -> None:
        """No new requests; off as soon as what it has is done."""
        if self.state[number] != OPEN:
            return
        self._close(number)
        self.state[number] = DRAINING
        self._draining[number] = off_w
        self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Switch off what has drained by now."""
        for number, off_w in list(self._draining.items()):
            if not self._world.busy(number):
                del self._draining[number]
                self.state[number], self._since[number], self._watts[number] = OFF, now_s, off_w

    def on(self, number: int, now_s: float, boot_s: float, boot_w: float) -> None:
        """Open it again: at once when it only drains, after a boot when it is off."""
        if self.state[number] == DRAINING:
            del self._draining[number]
            self._open(number, now_s)
        elif self.state[number] == OFF:
            self._written(number, now_s)
            self.state[number], self._since[number], self._watts[number] = BOOTING, now_s, boot_w
            self.boots += 1
            self._ring(now_s + boot_s, number, partial(self._booted, number, now_s + boot_s))

    def fail(self, number: int, now_s: float, repair_s: float) -> None:
        """It breaks: what it does is lost at its next boundary, and it is gone until it is repaired."""
        if self.state[number] not in (OPEN, DRAINING):
            return
        self.failures += 1
        self._draining.pop(number, None)
        self._close(number)
        self.state[number] = FAILED
        self._world.dispatch.failed.update(self._world.engines(number))
        self._since[number], self._watts[number] = math.inf, 0.0  # since its next boundary, not known yet
        instance = self._world.instances[number]
        instance.intervene(now_s, partial(self._broken, number))
        self._ring(now_s + repair_s, number, partial(self._repaired, number, now_s + repair_s))

    def _broken(self, number: int) -> None:
        """At the boundary: everything it held is sent again."""
        now_s = max(self._world.instances[number].next_s, self._world.clock.now)
        self._since[number] = now_s
        for engine in self._world.engines(number):
            self._world.dispatch.lose(engine, self._world.fresh_memory(engine), now_s)

    def _repaired(self, number: int, now_s: float) -> None:
        if self._since[number] > now_s:  # its last boundary has not even come: the repair waits for it
            later_s = self._world.instances[number].next_s + 1.0
            self._ring(later_s, number, partial(self._repaired, number, later_s))
        else:
            self._booted(number, now_s)

    def _booted(self, number: int, now_s: float) -> None:
        self._written(number, now_s)
        self._world.dispatch.failed.difference_update(self._world.engines(number))
        self._open(number, now_s)

    def _open(self, number: int, now_s: float) -> None:
        self.state[number] = OPEN
        for engine in self._world.engines(number):
            self._world.dispatch.open(engine, now_s)

    def _close(self, number: int) -> None:
        for engine in self._world.engines(number):
            self._world.dispatch.close(engine)

    def _ring(self, time_s: float, number: int, callback: Callable[[], None]) -> None:
        Alarm(self._world.clock, Place.SWITCHED.of(number, len(self.state)), callback).set(time_s)

    def _written(self, number: int, now_s: float) -> None:
        """What it drew since it went off or began to boot."""
        begun_s = self._since[number]
        if now_s > begun_s:
            off, engines = float(self.state[number] != BOOTING), self._world.engines(number)
            for engine in engines:
                ledger = self._world.instances[engine].ledger
                ledger.off += pack_off(begun_s, now_s, self._watts[number] / len(engines), off)

    def close_books(self, end_s: float) -> None:
        """The run is over at `end_s`: write down what is still off."""
        for number, state in enumerate(self.state):
            if state in (OFF, BOOTING, FAILED):
                self._written(number, end_s)
