"""Sets a scenario's controls going on a fleet; what they did is told in the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiles.inputs import InputError, near_miss
from sim.control import clocks, events, scale
from sim.control.specs import Defer, Failures, Governor, PowerCap, PowerOff, Scale, Schedule
from sim.control.world import World

if TYPE_CHECKING:
    from sim.scenario import Scenario

Send = Callable[[int, float, float], None]


@dataclass(slots=True, eq=False)
class Controls:
    """The controls of a run while it runs: `send` takes the place of the dispatcher's."""

    world: World
    send: Send
    deferral: events.Deferral | None = None

    def told(self) -> dict[str, Any]:
        """What they did."""
        switch, world = self.world.switch, self.world
        return {
            "boots": switch.boots,
            "failures": switch.failures,
            "retries": world.dispatch.requests.retries,
            "clock_changes": world.clocks.made,
            "deferred": self.deferral.deferred if self.deferral else 0,
            "mean_deferral_h": self.deferral.hours / self.deferral.deferred
            if self.deferral and self.deferral.deferred
            else 0.0,
        }


def start(scenario: Scenario, world: World) -> Controls:
    """Set every control of the scenario going.

    Raises:
        InputError: a pool or site that is not there, a router that cannot leave an instance out, no class to defer.
    """
    made = Controls(world, world.dispatch.send)
    for order, spec in enumerate(scenario.controls):
        if isinstance(spec, Defer):
            deadlines = [each.deadline_s for each in scenario.slo_classes]
            if not any(deadlines):
                mend = "give classes with deadline_s, and streams of such a class"
                raise InputError("no class of requests may wait", field="controls.defer", mend=mend)
            made.deferral = events.Deferral(world, spec, deadlines)
            made.send = made.deferral.send
        elif isinstance(spec, PowerCap):
            _known(spec.site, {pool.spec.site for pool in world.pools}, "site")
            _may_switch(world)
            clocks.power_cap(world, spec, order)
        else:
            _of_pools(scenario, world, spec, order)
    return made


def _of_pools(
    scenario: Scenario, world: World, spec: PowerOff | Scale | Schedule | Governor | Failures, order: int
) -> None:
    for name in spec.pools or []:
        _known(name, {pool.spec.name for pool in world.pools}, "pool")
    for pool in world.chosen(spec.pools):
        if isinstance(spec, Governor):
            clocks.governor(world, spec, pool, order)
            continue
        _may_switch(world)
        if isinstance(spec, PowerOff):
            scale.power_off(world, spec, pool, order)
        elif isinstance(spec, Scale):
            scale.scale(world, spec, pool, order)
        elif isinstance(spec, Schedule):
            scale.schedule(world, spec, pool, order)
        else:
            events.failures(world, spec, pool, scenario.seed, order)


def _known(name: str, known: set[str], what: str) -> None:
    if name not in known:
        raise InputError(f"unknown {what} {name!r}", field="controls", mend=near_miss(name, known))


def _may_switch(world: World) -> None:
    for lane in world.dispatch.all_lanes:
        if not hasattr(lane.router, "close"):
            what = f"{lane.name} cannot leave an instance out, so none can be switched off or fail"
            raise InputError(what, field="routing", mend="use another router, or give yours close and open")
