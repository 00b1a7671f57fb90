"""The main path: arrivals are routed to instances on one SimPy clock until nothing is left to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from sim.engine.batching import POLICIES
from sim.engine.charge import charge
from sim.engine.clock import Alarm, Clock
from sim.engine.counted import Counted
from sim.engine.instance import FOREVER, Instance
from sim.engine.interrupt import Interrupt
from sim.engine.ledger import Ledger
from sim.engine.memory import Kv, PagedKv, WholeRequestKv
from sim.engine.prefix import PrefixKv
from sim.engine.requests import REJECTED, Requests
from sim.routing import ROUTERS, Predictor
from sim.scenario import Scenario
from sim.trace import Trace

if TYPE_CHECKING:
    from sim.fleet import LivePool

Prefixes = tuple[list[int], list[int], int]  # block ids, where each request's begin, tokens of a block
_PROGRESS_EVERY = 20_000  # arrivals between two reports


@dataclass(slots=True, eq=False)
class Played:
    """What the engine leaves: the request table, the instances with their ledgers, and the seconds the loop took.

    `stopped_s` is the run time at which somebody stopped it; None when it came to its end.
    """

    requests: Requests
    instances: list[Instance]
    loop_s: float
    stopped_s: float | None = None


def play(
    scenario: Scenario,
    trace: Trace,
    pools: list[LivePool],
    *,
    leaping: bool = True,
    progress: Callable[[int, int], None] | None = None,
    interrupt: Interrupt | None = None,
) -> Played:
    """Replay a trace on the pools.

    Args:
        leaping: jump over decode steps with an unchanged batch; False visits every step (the oracle).
        progress: called with (arrivals so far, all arrivals) now and then.
        interrupt: lets somebody end it early; what was booked until then is kept.
    """
    requests = Requests(trace)
    clock = Clock()
    prefixes = _prefixes(trace)
    predictor, oracle = Predictor(), scenario.output_predictor == "oracle"
    router = ROUTERS[scenario.routing](pools, scenario.seed)
    route, assigned, completed, learn = router.route, router.assigned, router.completed, predictor.learn
    arrival_s, prompts, outputs = requests.arrival_s, requests.prompt, requests.output
    weight, instance_of, size = requests.weight, requests.instance, requests.size

    def on_finish(number: int, index: int) -> None:
        completed(number, weight[index])
        learn(outputs[index])

    bind = getattr(router, "bind", None)  # a router that asks to see the instances; others do not pay for counting
    kind = Instance if bind is None else Counted
    instances = [
        _instance(kind, pool, number, clock, requests, prefixes, leaping, on_finish)
        for pool in pools
        for number in pool.numbers
    ]
    if bind is not None:
        bind(instances)
    join = [instance.arrive for instance in instances]
    longest = [
        min(pool.spec.max_model_len or FOREVER, instances[number].kv.longest)
        for pool in pools
        for number in pool.numbers
    ]
    turn = iter(range(size))

    def arrive() -> None:
        index = next(turn)
        following = index + 1
        next_s = arrival_s[following] if following < size else math.inf
        if following < size:
            arrivals.set(next_s)
        prompt, now_s = prompts[index], arrival_s[index]
        predicted = outputs[index] if oracle else predictor.mean
        instance_of[index] = number = route(now_s, prompt, predicted)
        if prompt + outputs[index] > longest[number]:
            requests.status[index] = REJECTED
            return
        weight[index] = tokens = prompt + predicted
        assigned(number, tokens)
        join[number](index, now_s, next_s)
        if progress is not None and following % _PROGRESS_EVERY == 0:
            progress(following, size)

    arrivals = Alarm(clock, 0, arrive)
    arrivals.set(arrival_s[0])
    if interrupt is not None:
        interrupt.bind(clock)
    began = perf_counter()
    clock.play()
    loop_s = perf_counter() - began
    stopped = interrupt is not None and interrupt.asked
    if stopped:
        for instance in instances:
            instance.abandon()
    charge(requests, [instance.ledger for instance in instances])
    return Played(requests, instances, loop_s, clock.now if stopped else None)


def _instance(
    kind: type[Instance],
    pool: LivePool,
    number: int,
    clock: Clock,
    requests: Requests,
    prefixes: Prefixes | None,
    leaping: bool,
    on_finish: Callable[[int, int], None],
) -> Instance:
    spec = pool.spec
    return kind(
        number,
        clock,
        requests,
        pool.model,
        POLICIES[spec.batching](),
        _memory(pool, prefixes),
        Ledger(pool.site.window),
        max_seqs=spec.max_num_seqs,
        max_tokens=spec.max_num_batched_tokens,
        leaping=leaping,
        on_finish=on_finish,
    )


def _prefixes(trace: Trace) -> Prefixes | None:
    if trace.hash_ids is None or trace.hash_offsets is None:
        return None
    return trace.hash_ids.tolist(), trace.hash_offsets.tolist(), trace.hash_tokens


def _memory(pool: LivePool, prefixes: Prefixes | None) -> Kv:
    spec, capacity = pool.spec, pool.model.kv_capacity_tokens
    if spec.kv == "whole-request":
        return WholeRequestKv(capacity, spec.block_tokens)
    if spec.prefix_cache and prefixes is not None:
        return PrefixKv(capacity, spec.block_tokens, *prefixes)
    return PagedKv(capacity, spec.block_tokens)
