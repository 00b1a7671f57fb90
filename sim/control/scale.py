"""How many instances of a pool are on: by idleness, by load (and forecast), or by schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.control.specs import PowerOff, Scale, Schedule
from sim.control.switch import BOOTING, DRAINING, OFF, OPEN, instances

if TYPE_CHECKING:
    from sim.control.world import World
    from sim.fleet import LivePool


class Sizer:
    """Brings a pool to a wanted number of instances: opens what drains first, boots then; drains the least loaded."""

    def __init__(self, world: World, spec: PowerOff | Scale | Schedule, pool: LivePool) -> None:
        self.world, self.spec, self.pool = world, spec, pool
        self._boot_w = pool.model.idle_w * pool.spec.ranks if spec.boot_w is None else spec.boot_w

    def bring_to(self, wanted: int, now_s: float) -> None:
        """Switch on or off until so many are on or on their way (never fewer than `keep`)."""
        switch, numbers = self.world.switch, instances(self.pool)
        wanted = max(self.spec.keep, min(wanted, len(numbers)))
        have = switch.count(self.pool, OPEN, BOOTING)
        for state in (DRAINING, OFF):
            for number in numbers:
                if have < wanted and switch.state[number] == state:
                    switch.on(number, now_s, self.spec.boot_s, self._boot_w)
                    have += 1
        if have > wanted:
            spare = sorted((n for n in numbers if switch.state[n] == OPEN), key=lambda n: (self.world.loaded(n), -n))
            for number in spare[: have - wanted]:
                switch.off(number, now_s, self.spec.off_w)


def power_off(world: World, spec: PowerOff, pool: LivePool, order: int) -> None:
    """Off after a time without work; one more on when those that are on fill up."""
    sizer, switch = Sizer(world, spec, pool), world.switch
    idle_since: dict[int, float] = {}

    def act(now_s: float) -> None:
        for number in instances(pool):
            if world.busy(number) or switch.state[number] != OPEN:
                idle_since.pop(number, None)
            else:
                idle_since.setdefault(number, now_s)
        on = switch.count(pool, OPEN, BOOTING)
        need = math.ceil(world.full_instances(pool) / spec.wake)
        if need > on:
            sizer.bring_to(need, now_s)
        for number, since_s in sorted(idle_since.items(), reverse=True):  # routers prefer the lower number
            if now_s - since_s >= spec.idle_s and on > max(spec.keep, need):
                switch.off(number, now_s, spec.off_w)
                on -= 1

    world.every(spec.tick_s, order, act)


def scale(world: World, spec: Scale, pool: LivePool, order: int) -> None:
    """As many as the load needs at the target; fewer only when that held for a while."""
    sizer = Sizer(world, spec, pool)
    calm_since: float | None = None

    def target(now_s: float) -> float:
        if spec.clean_target is None:
            return spec.target
        day = world.forecasts[pool.spec.site].day(now_s)
        low, high = min(day), max(day)
        dirty = (day[0] - low) / (high - low) if high > low else 0.0
        return spec.clean_target + (spec.target - spec.clean_target) * dirty

    def act(now_s: float) -> None:
        nonlocal calm_since
        wanted = math.ceil(world.full_instances(pool) / target(now_s))
        have = world.switch.count(pool, OPEN, BOOTING)
        if wanted >= have:
            calm_since = None
            sizer.bring_to(wanted, now_s)
        elif calm_since is None:
            calm_since = now_s
        elif now_s - calm_since >= spec.calm_s:
            sizer.bring_to(wanted, now_s)

    world.every(spec.tick_s, order, act)


def schedule(world: World, spec: Schedule, pool: LivePool, order: int) -> None:
    """So many from each time on; what boots begins early enough."""
    sizer = Sizer(world, spec, pool)
    period = spec.every_s or math.inf
    begin_s = 0.0
    while begin_s < world.horizon_s:
        for at_s, count in spec.at:
            due_s = begin_s + at_s
            if due_s < world.horizon_s:
                _change(world, sizer, due_s, count, order)
        begin_s += period


def _change(world: World, sizer: Sizer, due_s: float, count: int, order: int) -> None:
    """Boot what is missing beforehand, drop what is too much when it is due."""

    def ahead(now_s: float) -> None:
        if count > world.switch.count(sizer.pool, OPEN, BOOTING):
            sizer.bring_to(count, now_s)

    def due(now_s: float) -> None:
        sizer.bring_to(count, now_s)
        if count < len(instances(sizer.pool)):
            _drained(world, now_s, order)

    early_s = due_s - sizer.spec.boot_s
    if early_s > 0.0:
        world.once(early_s, order, ahead)
    world.once(due_s, order, due)


def _drained(world: World, now_s: float, order: int) -> None:
    """Look every minute whether what was closed has drained, until it has."""

    def look(at_s: float) -> None:
        world.switch.settle(at_s)
        if DRAINING in world.switch.state:
            world.once(at_s + 60.0, order, look)

    world.once(now_s + 60.0, order, look)
