"""What a fleet should be in each hour of a load: tp, instances and clock of fewest watts that keep the promise.

The plan knows the load of an hour, not its requests: the steady state must keep the promise at HEADROOM times the load.
Watts are those of GPUs, idle instances and the hosts that are on, which hold as many instances as they can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from carbonfleet.reproduce.greener.paper import TBT_LIMIT_S
from carbonfleet.reproduce.greener.server import Gear, Server, clocks
from profiles.inputs import InputError
from sim.trace.model import Floats

TTFT_LIMIT_S = 1.0
HEADROOM = 1.25
MEAN_TO_LIMIT = 0.5  # a mean TTFT above half the limit leaves no room for the slow ones
PUE = 1.2


@dataclass(frozen=True, slots=True)
class Choice:
    """How the fleet is run in an hour, its watts with hosts and PUE, and the GPUs' alone."""

    tp: int
    instances: int
    clock: float
    power_w: float
    gpu_power_w: float
    batch: float  # of an instance


@dataclass(frozen=True, slots=True)
class Reach:
    """What a policy may change from hour to hour; the rest stands as in the static fleet, at full clock."""

    name: str
    tp: bool = False
    instances: bool = False
    clock: bool = False
    once: bool = False  # tp, where it may change, is chosen once for the week


STATIC = Reach("static")
ALL = Reach("all", tp=True, instances=True, clock=True)
REACHES = (
    STATIC,
    Reach("clock", clock=True),
    Reach("tp", tp=True, once=True),
    Reach("instances", instances=True),
    Reach("instances and clock", instances=True, clock=True),
    ALL,
)


class Planner:
    """Hourly choices for a load; `prompt` and `output` are the mean lengths of its requests."""

    def __init__(self, server: Server, prompt: int, output: int) -> None:
        self._server, self._prompt, self._output = server, prompt, output
        self._at = lru_cache(maxsize=None)(self._choice)

    def standing(self, tp: int, peak_per_s: float, reserve: float = 1.0) -> int:
        """The fewest instances of a tp that keep the promise at the peak at full clock."""
        count = 1
        while self._kept(Gear(tp, 1.0, 1.0, count), peak_per_s * reserve) is None:
            count += 1
            if count > 4096:
                return 0
        return count

    def plan(self, reach: Reach, rates: Floats, reserve: float = 1.0) -> list[Choice]:
        """One choice an hour.

        Raises:
            InputError: no fleet keeps the promise.
        """
        base = self._server.baseline.tp
        peak = float(rates.max())
        tps = self._server.tps if reach.tp else [base]
        stands = {tp: self.standing(tp, peak, reserve) for tp in tps}
        if not any(stands.values()):
            what = f"no fleet keeps a TTFT of {TTFT_LIMIT_S:g} s and a TPOT of {TBT_LIMIT_S:g} s over the week"
            raise InputError(what, field="--gpu", mend="a faster GPU or a smaller model")
        if reach.once:  # the one that takes least over the week
            total = {tp: sum(self._hour(tp, n, reach, r).power_w for r in rates) for tp, n in stands.items() if n}
            tps = [min(total, key=total.__getitem__)]
        made = []
        for rate in rates:
            found = [self._hour(tp, stands[tp], reach, float(rate)) for tp in tps if stands[tp]]
            made.append(min(found, key=lambda one: one.power_w))
        return made

    def _hour(self, tp: int, stands: int, reach: Reach, rate: float) -> Choice:
        counts = range(1, stands + 1) if reach.instances else [stands]
        found = [
            choice
            for count in counts
            for clock in (clocks(0.1) if reach.clock else [1.0])
            if (choice := self._at(tp, count, clock, round(rate, 9)))
        ]
        return min(found, key=lambda one: one.power_w)

    def _choice(self, tp: int, count: int, clock: float, rate: float) -> Choice | None:
        gear = Gear(tp, clock, clock, count)
        if self._kept(gear, rate) is None:
            return None
        point = self._server.point(gear, self._prompt, self._output, rate)
        assert point is not None
        host = self._server.host
        units = -(-count // self._server.instances(tp))
        gpus_w = point.power_w + self._server.idle_w[tp] * (units - 1)
        return Choice(tp, count, clock, PUE * (gpus_w + units * host.power_w), gpus_w, point.batch)

    def _kept(self, gear: Gear, rate: float) -> object | None:
        point = self._server.point(gear, self._prompt, self._output, HEADROOM * rate)
        if point is None or point.ttft_s > MEAN_TO_LIMIT * TTFT_LIMIT_S or point.tbt_s > TBT_LIMIT_S:
            return None
        return point
