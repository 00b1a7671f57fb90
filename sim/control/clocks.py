"""Clocks by load, by intensity and under a site's power cap. A clock acts at an instance's next step boundary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from profiles import dvfs
from profiles.inputs import InputError
from profiles.step import StepModel
from sim.control.specs import Governor, PowerCap
from sim.control.switch import BOOTING, DRAINING, OPEN, instances

if TYPE_CHECKING:
    from sim.control.world import World
    from sim.fleet import LivePool


class Gears:
    """The step models of a pool at some clocks, made when they are first needed, and what each draws at most."""

    def __init__(self, pool: LivePool, clocks: list[float]) -> None:
        self.clocks = sorted(set(clocks))
        self._pool = pool
        self._models: dict[float, StepModel] = {1.0: pool.model}
        for clock in self.clocks:
            self.model(clock)

    def model(self, clock: float) -> StepModel:
        """The step model at a clock."""
        if clock not in self._models:
            self._models[clock] = StepModel(dvfs.at_clock(self._pool.profile, clock))
        return self._models[clock]

    def most_w(self, clock: float) -> float:
        """The most an instance draws at a clock: the largest power of its profile's points, on every rank."""
        profile = self.model(clock).profile
        return self._pool.spec.ranks * max(*profile.prefill.power_w, *profile.decode.power_w, profile.idle.loaded_w)


class Clocks:
    """The clock of every instance: the lowest anybody asks for holds (a governor may save, a cap must)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[str, dict[int, float]] = {}
        self.now = [1.0] * len(world.instances)
        self.changes: list[tuple[float, int, float]] = []  # time, engine, clock: for the timeline
        self.made = 0  # changes, of whole instances

    def ask(self, who: str, number: int, clock: float, gears: Gears, now_s: float) -> None:
        """Somebody wants an instance at a clock."""
        self._asked.setdefault(who, {})[number] = clock
        wanted = min(asked.get(number, 1.0) for asked in self._asked.values())
        if wanted != self.now[number]:
            self.now[number] = wanted
            self.made += 1
            self.changes += [(now_s, engine, wanted) for engine in self._world.engines(number)]
            self._world.instances[number].retune(now_s, gears.model(wanted))


def governor(world: World, spec: Governor, pool: LivePool, order: int) -> None:
    """The lowest clock at which the load fits, between two marks of fullness."""
    gears = Gears(pool, [*spec.clocks, 1.0])

    def act(now_s: float) -> None:
        if spec.intensity and not _dirty(world, pool, now_s):
            share = 1.0
        else:
            share = (world.fullness(pool) - spec.low) / max(1e-9, spec.high - spec.low)
        place = math.ceil(min(1.0, max(0.0, share)) * (len(gears.clocks) - 1))
        for number in instances(pool):
            world.clocks.ask("governor", number, gears.clocks[place], gears, now_s)

    world.every(spec.tick_s, order, act)


def _dirty(world: World, pool: LivePool, now_s: float) -> bool:
    day = world.forecasts[pool.spec.site].day(now_s)
    return day[0] > sum(day) / len(day)


def power_cap(world: World, spec: PowerCap, order: int) -> None:
    """What the site could draw at most never exceeds the cap: the highest common clock that fits, else fewer instances.

    Raises:
        InputError: the cap does not even leave room for the hosts and one idle fleet.
    """
    pools = [pool for pool in world.pools if pool.spec.site == spec.site]
    gears = [Gears(pool, spec.clocks) for pool in pools]

    draws = {clock: [each.most_w(clock) for each in gears] for clock in spec.clocks}  # of an instance of each pool

    def most_w(clock: float, on: list[int]) -> float:
        gpus = sum(n * watts for n, watts in zip(on, draws[clock], strict=True))
        spare = sum(pool.spare_gpus * pool.model.idle_w / pool.spec.tp for pool in pools)
        hosts = sum(pool.units * pool.host.power_w for pool in pools) if world.host_power else 0.0
        return (gpus + spare + hosts) * pools[0].pue

    lowest = min(spec.clocks)
    if most_w(lowest, [0] * len(pools)) > spec.watts:
        what = f"the hosts of {spec.site} alone draw {most_w(lowest, [0] * len(pools)):,.0f} W"
        raise InputError(what, field="controls.power-cap.watts", mend="raise the cap or take units away")

    def act(now_s: float) -> None:
        on = [world.switch.count(pool, OPEN, DRAINING, BOOTING) for pool in pools]
        clock = next((c for c in sorted(spec.clocks, reverse=True) if most_w(c, on) <= spec.watts), lowest)
        while most_w(clock, on) > spec.watts:
            closable = [k for k, pool in enumerate(pools) if world.switch.count(pool, OPEN)]
            if not closable:
                break  # the rest drains or boots: it is closed at a later tick
            place = max(closable, key=lambda k: on[k] * draws[clock][k])
            number = max(n for n in instances(pools[place]) if world.switch.state[n] == OPEN)
            world.switch.off(number, now_s, 0.0)
            on[place] -= 1
        for pool, gear in zip(pools, gears, strict=True):
            for number in instances(pool):
                world.clocks.ask("power-cap", number, clock, gear, now_s)

    world.every(60.0, order, act)
