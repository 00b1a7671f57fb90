"""The main path: arrivals are sent to instances on one SimPy clock until nothing is left to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sim.columns import Spool
from sim.control.start import Controls, start
from sim.control.world import World
from sim.engine.batching import POLICIES
from sim.engine.charge import Owned
from sim.engine.clock import Clock
from sim.engine.counted import Counted
from sim.engine.dispatch import Dispatch, lanes
from sim.engine.instance import Instance
from sim.engine.interrupt import Interrupt
from sim.engine.ledger import Ledger
from sim.engine.lockstep import Group, Rank
from sim.engine.memory import Kv, PagedKv, StatedHits, WholeRequestKv
from sim.engine.past import LOOK_EVERY, Past
from sim.engine.prefix import PrefixKv
from sim.engine.quick import Quick
from sim.engine.requests import Prefixes, Requests
from sim.engine.roles import Paired
from sim.scenario import Scenario
from sim.trace import Trace

if TYPE_CHECKING:
    from sim.fleet import LivePool


@dataclass(slots=True, eq=False)
class Played:
    """What the engine leaves: the request table, the instances with their ledgers, and the seconds the loop took.

    `pasts` are the pools' sums over their ledgers, `gaps` the gaps between tokens that no ledger holds any more.
    `stopped_s` is the run time at which somebody stopped it; None when it came to its end.
    """

    requests: Requests
    instances: list[Instance]
    pasts: list[Past]
    gaps: Spool
    loop_s: float
    stopped_s: float | None = None
    controls: Controls | None = None

    @property
    def owned(self) -> list[Owned]:
        """What each pool's steps gave each request."""
        return [past.owned for past in self.pasts]


def play(
    scenario: Scenario,
    trace: Trace,
    pools: list[LivePool],
    *,
    leaping: bool = True,
    start_s: float = 0.0,
    horizon_s: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    interrupt: Interrupt | None = None,
    scratch: str | Path | None = None,
) -> Played:
    """Replay a trace on the pools.

    Args:
        start_s: UTC epoch seconds of run time 0.
        horizon_s: the books' end, until which controls go on even when nothing is left to do.
        leaping: jump over decode steps with an unchanged batch; False visits every step (the oracle).
        progress: called with (arrivals so far, all arrivals) now and then.
        interrupt: lets somebody end it early; what was booked until then is kept.
        scratch: folder for the temporary files of a long run; default: the system's.

    Raises:
        OutputError: the temporary files do not fit the disk.
    """
    requests, clock = Requests(trace, [each.priority for each in scenario.slo_classes], scratch), Clock()
    dispatch = Dispatch(scenario, requests, clock, *lanes(scenario, pools, requests, start_s))
    instances = _instances(dispatch, pools, leaping)
    dispatch.bind(instances)
    controls = _controls(scenario, dispatch, pools, max(horizon_s, trace.span_s))
    send = controls.send if controls else dispatch.send
    for instance in instances:
        if isinstance(instance, Quick):
            instance.alone = not controls
    gaps = Spool("d", 4, scratch)
    pasts = _pasts(requests, instances, pools, horizon_s, gaps)
    if interrupt is not None:
        interrupt.bind(clock)
    began = perf_counter()
    _drive(dispatch, send, pasts if requests.shelf.on_disk else [], progress)
    loop_s = perf_counter() - began
    stopped = interrupt is not None and interrupt.asked
    if stopped:
        for instance in instances:
            instance.abandon()
    if controls:
        controls.world.switch.close_books(math.inf)
    requests.close()
    for past in pasts:
        past.close()
    return Played(requests, instances, pasts, gaps, loop_s, clock.now if stopped else None, controls)


def _pasts(
    requests: Requests, instances: list[Instance], pools: list[LivePool], horizon_s: float, gaps: Spool
) -> list[Past]:
    """Each pool's sums over what its instances do."""
    made = []
    for pool in pools:
        mine = [instances[number] for number in pool.numbers]
        made.append(Past(mine, pool.site.window, horizon_s, requests.shelf, gaps))
    requests.owned = [past.owned for past in made]
    return made


def _controls(scenario: Scenario, dispatch: Dispatch, pools: list[LivePool], horizon_s: float) -> Controls | None:
    """The scenario's controls, set going; None where it has none."""
    if not scenario.controls:
        return None
    prefixes = dispatch.requests.prefixes

    def fresh(number: int) -> Kv:
        return _memory(dispatch.pool_of[number], prefixes)

    forecasts = {pool.spec.site: pool.site.believed for pool in pools}
    host_power = scenario.accounting.host_power
    return start(scenario, World(dispatch, pools, horizon_s, fresh, forecasts, host_power))


def _drive(
    dispatch: Dispatch,
    send: Callable[[int, float, float], None],
    pasts: list[Past],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Send the arrivals, each when it comes, and let everything end; now and then, have `pasts` let go."""
    requests, run_to = dispatch.requests, dispatch.clock.run_to
    arrival_s, size = requests.arrival_s, requests.size
    for first in range(0, size, LOOK_EVERY):
        following = first + LOOK_EVERY
        next_s = chain(arrival_s[first + 1 : following + 1], [math.inf])
        for index, now_s, then_s in zip(range(first, size), arrival_s[first:following], next_s, strict=False):
            if not run_to(now_s):
                return
            send(index, now_s, then_s)
        if following <= size:
            for past in pasts:
                past.let_go()
            requests.shelf.release()
            if progress is not None:
                progress(following, size)
    run_to(math.inf)


def _instances(dispatch: Dispatch, pools: list[LivePool], leaping: bool) -> list[Instance]:
    """Every engine of every pool, in the order of their numbers; ranks in lockstep are tied together."""
    prefixes = dispatch.requests.prefixes
    counted = {pool.spec.name for lane in dispatch.first if lane.counts for pool in lane.pools}
    made: list[Instance] = []
    for pool in pools:
        kind: type[Instance] = Counted if pool.spec.name in counted else Instance
        if kind is Instance and leaping and _quick(pool, dispatch):
            kind = Quick
        kind = Rank if pool.spec.ep else Paired if pool.spec.role != "both" else kind
        mine: list[Any] = [_instance(kind, dispatch, pool, number, prefixes, leaping) for number in pool.numbers]
        if pool.spec.ep:
            for first in range(0, len(mine), pool.spec.ranks):
                Group(dispatch.clock, mine[first : first + pool.spec.ranks])
        made += mine
    return made


def _quick(pool: LivePool, dispatch: Dispatch) -> bool:
    """Whether a pool's instances are of the common kind, for which there is a quicker way."""
    spec, requests = pool.spec, dispatch.requests
    plain_memory = spec.kv == "paged" and spec.prefix_hit_rate is None
    named = spec.prefix_cache and requests.prefixes is not None
    plain_steps = spec.batching == "chunked" and not pool.ahead and pool.model.skew is None
    return plain_steps and plain_memory and not named and requests.priority is None


def _instance(
    kind: type[Instance], dispatch: Dispatch, pool: LivePool, number: int, prefixes: Prefixes | None, leaping: bool
) -> Instance:
    spec = pool.spec
    return kind(
        number,
        dispatch.clock,
        dispatch.requests,
        pool.model,
        POLICIES[spec.batching](),
        _memory(pool, prefixes),
        Ledger(pool.site.window),
        max_seqs=spec.max_num_seqs,
        max_tokens=spec.max_num_batched_tokens,
        leaping=leaping,
        ahead=pool.ahead,
        on_finish=dispatch.finished,
    )


def _memory(pool: LivePool, prefixes: Prefixes | None) -> Kv:
    spec, capacity = pool.spec, pool.model.kv_capacity_tokens
    if spec.kv == "whole-request":
        return WholeRequestKv(capacity, spec.block_tokens)
    if spec.prefix_hit_rate is not None:
        return StatedHits(capacity, spec.block_tokens, spec.prefix_hit_rate)
    if spec.prefix_cache and prefixes is not None:
        return PrefixKv(capacity, spec.block_tokens, *prefixes)
    return PagedKv(capacity, spec.block_tokens)
