"""What happens to requests and instances from outside: deferral of flexible requests, failures with repair."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from profiles.units import SECONDS_PER_HOUR
from sim.control.specs import Defer, Failures
from sim.control.switch import instances
from sim.engine.clock import Alarm, Place

if TYPE_CHECKING:
    from sim.control.world import World
    from sim.fleet import LivePool


class Deferral:
    """Sends flexible requests later, by whole hours, to the hour that is believed greenest before their deadline.

    Whole hours keep the arrivals as spread out as they came. The greenest is over the sites that serve the request's
    model, by intensity times PUE.
    """

    def __init__(self, world: World, spec: Defer, deadlines_s: list[float | None]) -> None:
        self._world, self._spec, self._deadlines_s = world, spec, deadlines_s
        self._sites = [{pool.spec.site: pool.pue for pool in lane.pools} for lane in world.dispatch.first]
        self._chosen: dict[tuple[int, int, int], int] = {}  # (model, hour now, hours of room) -> hours to wait
        self.deferred = 0
        self.hours = 0.0

    def send(self, index: int, now_s: float, next_s: float) -> None:
        """In the place of `Dispatch.send`: now, or later."""
        requests = self._world.dispatch.requests
        place = requests.slo_class[index] if requests.slo_class is not None else 0
        deadline_s = self._deadlines_s[place]
        hours = 0
        if deadline_s is not None:
            room = int(max(0.0, deadline_s - self._spec.margin_s) // SECONDS_PER_HOUR)
            model = requests.model[index] if requests.model is not None else 0
            hours = self._wait(model, now_s, room)
        if not hours:
            self._world.dispatch.send(index, now_s, next_s)
            return
        self.deferred += 1
        self.hours += hours
        later_s = now_s + hours * SECONDS_PER_HOUR
        first = Place.RELEASED.of(index, requests.size)
        Alarm(self._world.clock, first, lambda: self._world.dispatch.send(index, later_s, later_s)).set(later_s)

    def _wait(self, model: int, now_s: float, room: int) -> int:
        """Whole hours to wait for the least intensity; the earliest of equals."""
        key = (model, int(now_s // SECONDS_PER_HOUR), room)
        if key not in self._chosen:
            sites = self._sites[model]

            def believed(hours: int) -> float:
                then_s = now_s + hours * SECONDS_PER_HOUR
                return min(self._world.forecasts[name].at(now_s, then_s) * pue for name, pue in sites.items())

            last_s = self._world.horizon_s - SECONDS_PER_HOUR  # what lies beyond the books is nobody's gain
            hours = range(min(room, int(max(0.0, last_s - now_s) // SECONDS_PER_HOUR)) + 1)
            self._chosen[key] = min(hours, key=lambda k: (believed(k), k))
        return self._chosen[key]


def failures(world: World, spec: Failures, pool: LivePool, seed: int, order: int) -> None:
    """Draw when each instance of a pool fails and for how long; the same for the same seed."""
    for number in instances(pool):
        draw = Random(f"failures {seed} {pool.spec.name} {number - pool.numbers.start}")
        time_s = 0.0
        while True:
            time_s += draw.expovariate(1.0 / spec.mtbf_h) * SECONDS_PER_HOUR
            repair_s = draw.expovariate(1.0 / spec.repair_h) * SECONDS_PER_HOUR
            if time_s >= world.horizon_s:
                break
            world.once(time_s, order, _failing(world, number, repair_s))
            time_s += repair_s


def _failing(world: World, number: int, repair_s: float) -> Callable[[float], None]:
    return lambda now_s: world.switch.fail(number, now_s, repair_s)
