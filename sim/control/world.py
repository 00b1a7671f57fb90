"""What controls see and touch: the fleet, its load, what is believed of the grid, and a tick that ends with the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sim.control.clocks import Clocks
from sim.control.forecast import DAY_S, Believed
from sim.control.switch import OPEN, Switch, instances
from sim.engine.clock import Alarm, Clock, Place
from sim.engine.dispatch import Dispatch
from sim.engine.instance import IDLE, Instance
from sim.engine.memory import Kv

if TYPE_CHECKING:
    from sim.fleet import LivePool

PATIENCE_S = 2 * DAY_S  # every forecast and every load has come round in that time
_MOST_CONTROLS = 1000


class World:
    """The running fleet; see the module's text.

    Args:
        fresh_memory: empty KV memory for an instance.
        forecasts: what is believed of each site's grid, by its name.
        host_power: whether hosts are billed, and so count under a cap.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        pools: list[LivePool],
        horizon_s: float,
        fresh_memory: Callable[[int], Kv],
        forecasts: dict[str, Believed],
        host_power: bool,
    ) -> None:
        self.dispatch, self.pools, self.horizon_s = dispatch, pools, horizon_s
        self.clock: Clock = dispatch.clock
        self.instances: list[Instance] = dispatch.instances
        self.fresh_memory, self.forecasts, self.host_power = fresh_memory, forecasts, host_power
        self.load = dispatch.count_load()
        self.switch, self.clocks = Switch(self), Clocks(self)

    def engines(self, number: int) -> range:
        """The engines that are switched as one: an instance's ranks in lockstep, by the first of them."""
        return range(number, number + self.dispatch.pool_of[number].spec.ranks)

    def busy(self, number: int) -> bool:
        """Whether an instance has work, or some is on its way to it."""
        return any(self.load[n] != 0 or self.instances[n].state != IDLE for n in self.engines(number))

    def loaded(self, number: int) -> int:
        """Outstanding tokens of an instance."""
        return sum(self.load[n] for n in self.engines(number))

    def chosen(self, names: list[str] | None) -> list[LivePool]:
        """The pools of these names; all when none is given."""
        return [pool for pool in self.pools if names is None or pool.spec.name in names]

    def full_instances(self, pool: LivePool) -> float:
        """The pool's outstanding tokens, in instances as full as its SLO allows."""
        held = self.dispatch.held_tokens(pool.numbers.start)
        limit = pool.token_limit * pool.spec.ranks
        return (sum(self.load[number] for number in pool.numbers) + held) / limit

    def fullness(self, pool: LivePool) -> float:
        """Outstanding tokens of the open instances, as a share of what these serve within the SLO."""
        numbers = [number for number in instances(pool) if self.switch.state[number] == OPEN]
        limit = pool.token_limit * pool.spec.ranks * len(numbers)
        return sum(map(self.loaded, numbers)) / limit if numbers else 1.0

    def every(self, tick_s: float, order: int, act: Callable[[float], None]) -> None:
        """Call `act` with the time every `tick_s`, from 0 on, until the horizon is over and every request has ended.

        Past the horizon it gives up when nothing has moved for `PATIENCE_S`: requests that wait for an instance which
        no control will open again are unfinished.
        """
        times, moved_s, seen = 0, 0.0, self._moves()

        def tick() -> None:
            nonlocal times, moved_s, seen
            now_s = times * tick_s
            self.switch.settle(now_s)
            act(now_s)
            times += 1
            if times * tick_s < self.horizon_s:
                moved_s = now_s
            elif self.dispatch.ended == self.dispatch.requests.size:
                return
            elif any(self.load) or seen != (seen := self._moves()):
                moved_s = now_s
            if now_s - moved_s < PATIENCE_S:
                alarm.set(times * tick_s)

        alarm = Alarm(self.clock, Place.CONTROL.of(order, _MOST_CONTROLS), tick)
        alarm.set(0.0)

    def _moves(self) -> tuple[int, int, int]:
        """What changes whenever something happens beside the ticks."""
        return self.dispatch.ended, self.switch.boots, self.switch.failures

    def once(self, time_s: float, order: int, act: Callable[[float], None]) -> None:
        """Call `act` at a time of the run."""
        Alarm(self.clock, Place.CONTROL.of(order, _MOST_CONTROLS), lambda: act(time_s)).set(time_s)
