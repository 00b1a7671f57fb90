"""Sends requests to instances: which router decides, who decodes what is prefilled elsewhere, what happens at the end.

A lane is the pools that may serve a request of one model, with the router that chooses among them and the predictor of
output lengths the router sees. Where prompts are prefilled apart, a second lane chooses who decodes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from profiles.inputs import InputError
from sim.engine.clock import TIE_S, Alarm, Clock, Place
from sim.engine.counted import Counted
from sim.engine.instance import FOREVER, Instance
from sim.engine.memory import Kv
from sim.engine.requests import REJECTED, Requests
from sim.engine.roles import Paired
from sim.routing import ROUTERS, Predictor, Router
from sim.scenario import KvTransfer, Scenario

if TYPE_CHECKING:
    from sim.fleet import LivePool


Send = Callable[[int, float, float], None]


class Lane:
    """Pools of one model and role, with the router that chooses among them and the lengths it has seen."""

    def __init__(
        self, router: str, pools: list[LivePool], requests: Requests, scenario: Scenario, start_s: float
    ) -> None:
        self.pools, self.name = pools, router
        self.router: Router = ROUTERS[router](pools, scenario.seed)
        self.predictor = Predictor()
        self.numbers = range(pools[0].numbers.start, pools[-1].numbers.stop)
        self.closed: set[int] = set()
        self.held: deque[int] = deque()  # requests for which no instance is open
        know: Any = getattr(self.router, "know", None)
        if know is not None:
            know(requests, scenario, start_s)

        self.pairs: Any = self.router if getattr(self.router, "pairs", False) else None

    @property
    def counts(self) -> bool:
        """Whether the router looks into instances."""
        return hasattr(self.router, "bind")

    def show(self, instances: list[Instance]) -> None:
        """Show the lane's instances to a router that asks for them.

        Raises:
            InputError: they keep no count of what it looks at.
        """
        bind: Any = getattr(self.router, "bind", None)
        if bind is None:
            return
        mine = [instances[number] for number in self.numbers]
        if not all(isinstance(instance, Counted) for instance in mine):
            what = f"{self.name} looks into instances, not into ranks in lockstep"
            raise InputError(what, field="routing", mend="use another router, like least-outstanding-tokens")
        bind(mine)


def lanes(
    scenario: Scenario, pools: list[LivePool], requests: Requests, start_s: float
) -> tuple[list[Lane], list[Lane | None]]:
    """By model, in order of first appearance: who takes its requests, and who decodes them where that is apart."""
    first: list[Lane] = []
    last: list[Lane | None] = []
    for name in dict.fromkeys(pool.llm.name for pool in pools):
        mine = [pool for pool in pools if pool.llm.name == name]
        pairs = getattr(ROUTERS[scenario.routing], "pairs", False)  # one router chooses for both roles
        decoders = [pool for pool in mine if pool.spec.role == "decode" and not pairs]
        takers = [pool for pool in mine if pool.spec.role != "decode" or pairs]
        first.append(Lane(scenario.routing, takers, requests, scenario, start_s))
        last.append(Lane(scenario.decode_routing, decoders, requests, scenario, start_s) if decoders else None)
    return first, last


class Dispatch:
    """Where every request goes.

    `send(index, now_s, next_s)`, there once instances are bound, routes a request that has arrived (or comes again) and
    puts it into an instance's queue; the rest is called when something else happens to it.
    """

    send: Send

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        clock: Clock,
        first: list[Lane],
        last: list[Lane | None],
    ) -> None:
        self.requests, self.clock = requests, clock
        self.first, self.last = first, last
        self.instances: list[Instance] = []
        self.ended = 0  # completed or rejected
        self.failed: set[int] = set()  # instances that cannot even take what is on its way to them
        self.load: list[int] | None = None  # outstanding tokens by instance, where somebody looks
        self._oracle = scenario.output_predictor == "oracle"
        self._transfer = scenario.kv_transfer or KvTransfer(gb_per_s=1.0)
        if any(pool.spec.role != "both" for lane in first for pool in lane.pools):
            requests.prefiller = requests.shelf.column("i")
        self._decoder: dict[int, tuple[int, int]] = {}  # who will decode what is prefilled elsewhere, and its tokens

    def bind(self, instances: list[Instance]) -> None:
        """The instances, by number."""
        self.instances = instances
        both = self.all_lanes
        lane_of = {number: lane for lane in both for number in lane.numbers}
        pool_of = {number: pool for lane in both for pool in lane.pools for number in pool.numbers}
        self.lane_of = [lane_of[number] for number in range(len(instances))]
        self.pool_of = [pool_of[number] for number in range(len(instances))]
        self._longest = [
            min(pool.spec.max_model_len or FOREVER, instance.kv.longest)
            for pool, instance in zip(self.pool_of, instances, strict=True)
        ]
        self._fit_both()
        self._senders = [self._sender(lane, last) for lane, last in zip(self.first, self.last, strict=True)]
        self.send = self._senders[0] if len(self._senders) == 1 else self._by_model
        for lane in both:
            lane.show(instances)
        for instance in instances:
            if isinstance(instance, Paired):
                instance.leaving = self._decoder
                instance.hand_over = partial(self._hand_over, instance.number)
                pairs = self.lane_of[instance.number].pairs
                instance.prefilled = pairs.prefilled if pairs is not None else None

    @property
    def all_lanes(self) -> list[Lane]:
        """Every lane of every model."""
        return [*self.first, *(lane for lane in self.last if lane is not None)]

    def count_load(self) -> list[int]:
        """From now on, count the outstanding tokens of each instance; the counts."""
        self.load = [0] * len(self.instances)
        return self.load

    def held_tokens(self, number: int) -> int:
        """Tokens of the requests that wait until an instance of this one's lane opens."""
        lane, prompt = self.lane_of[number], self.requests.prompt
        return sum(prompt[index] + lane.predictor.mean for index in lane.held)

    def close(self, number: int) -> None:
        """Send nothing to an instance any more."""
        lane = self.lane_of[number]
        if number not in lane.closed:  # one that drains may fail too
            lane.closed.add(number)
            router: Any = lane.router
            router.close(number)

    def open(self, number: int, now_s: float) -> None:
        """Send to it again, first what had to wait."""
        lane = self.lane_of[number]
        lane.closed.discard(number)
        router: Any = lane.router
        router.open(number)
        waiting, lane.held = lane.held, deque()
        for index in waiting:
            self.send(index, now_s, now_s)

    def lose(self, number: int, kv: Kv, now_s: float) -> None:
        """An instance has failed: what it held is sent again, from the start."""
        for index in self.instances[number].evict(kv):
            self._again(index, number, now_s)

    def _again(self, index: int, number: int, now_s: float) -> None:
        requests = self.requests
        self._release(number, requests.weight[index])
        if index in self._decoder:
            self._release(*self._decoder.pop(index))
        requests.retries += 1
        requests.produced[index] = requests.cached[index] = 0
        requests.first_token_s[index] = requests.finish_s[index] = math.nan
        # a moment later: another instance may have a boundary at this very time, and have gone on from it or not
        later_s = now_s + TIE_S
        place = Place.RETRIED.of(index, requests.size)
        Alarm(self.clock, place, partial(self.send, index, later_s, later_s)).set(later_s)

    def _release(self, number: int, tokens: int) -> None:
        """Tokens that an instance was assigned are not outstanding there any more."""
        self.lane_of[number].router.completed(number, tokens)
        if self.load is not None:
            self.load[number] -= tokens

    def _assign(self, number: int, tokens: int) -> None:
        self.lane_of[number].router.assigned(number, tokens)
        if self.load is not None:
            self.load[number] += tokens

    def _fit_both(self) -> None:
        """A request that is prefilled here and decoded there must fit both: any instance of either role."""
        for lanes in zip(self.first, self.last, strict=True):
            numbers = [number for lane in lanes if lane is not None for number in lane.numbers]
            if lanes[1] is not None or any(lane is not None and lane.pairs for lane in lanes):
                least = min(self._longest[number] for number in numbers)
                for number in numbers:
                    self._longest[number] = least

    def _by_model(self, index: int, now_s: float, next_s: float) -> None:
        assert self.requests.model is not None
        self._senders[self.requests.model[index]](index, now_s, next_s)

    def _sender(self, lane: Lane, last: Lane | None) -> Send:
        """`send` for the requests of one model; what they have in common is looked up once, not for each."""
        requests, oracle, longest, instances = self.requests, self._oracle, self._longest, self.instances
        route, assigned, predictor = lane.router.route, lane.router.assigned, lane.predictor
        prompts, outputs, arrival_s, closed = requests.prompt, requests.output, requests.arrival_s, lane.closed
        weight, instance_of, pairs = requests.weight, requests.instance, lane.pairs

        def send(index: int, now_s: float, next_s: float) -> None:
            prompt, output = prompts[index], outputs[index]
            predicted = output if oracle else predictor.mean
            if pairs is None:
                number = route(now_s, prompt, predicted, index)
            elif prompt + output > longest[lane.numbers.start]:
                self._reject(index)
                return
            else:
                number, decoder = pairs.route_pair(now_s, prompt, predicted, index)
                if number != decoder and output > 1:
                    self._decoder[index] = decoder, prompt + predicted
            if number in closed:
                lane.held.append(index)
                return
            instance_of[index] = number
            if now_s != arrival_s[index]:
                requests.queue_at(index, now_s)
            if prompt + output > longest[number]:
                self._reject(index)
                return
            weight[index] = tokens = prompt + predicted
            if last is not None and output > 1 and self.pool_of[number].spec.role == "prefill":
                self._choose_decoder(last, index, now_s, prompt, predicted)
            assigned(number, tokens)
            if self.load is not None:
                self.load[number] += tokens
            instances[number].arrive(index, now_s, next_s)

        return send

    def finished(self, number: int, index: int) -> None:
        """A request has made its last token on an instance."""
        requests = self.requests
        self.ended += 1
        lane = self.lane_of[number]
        tokens = requests.weight[index]
        lane.router.completed(number, tokens)
        if self.load is not None:
            self.load[number] -= tokens
        if lane.pairs is not None:
            self._decoder.pop(index, None)
            lane.pairs.ended(index)
        model = requests.model[index] if requests.model is not None else 0
        self.first[model].predictor.learn(requests.output[index])

    def _reject(self, index: int) -> None:
        self.requests.status[index] = REJECTED
        self.ended += 1

    def _choose_decoder(self, lane: Lane, index: int, now_s: float, prompt: int, predicted: int) -> None:
        """Who decodes is chosen, and counted as loaded, when the request arrives."""
        number = lane.router.route(now_s, prompt, predicted, index)
        self._assign(number, prompt + predicted)
        self._decoder[index] = number, prompt + predicted

    def _hand_over(self, source: int, index: int, now_s: float) -> tuple[float, float]:
        """A prompt is prefilled: its KV cache goes to who decodes it.

        Returns:
            seconds and joules of the transfer.
        """
        requests = self.requests
        self._release(source, requests.weight[index])
        number, tokens = self._decoder.pop(index)
        if requests.prefiller is not None:
            requests.prefiller[index] = source + 1
        requests.instance[index], requests.weight[index] = number, tokens
        size = requests.prompt[index] * self.pool_of[source].profile.memory.kv_bytes_per_token
        seconds = self._transfer.latency_s + size / (1e9 * self._transfer.gb_per_s)
        place = Place.LANDED.of(index, requests.size)
        Alarm(self.clock, place, partial(self._adopted, source, index, now_s + seconds)).set(now_s + seconds)
        return seconds, size / 1e9 * self._transfer.joules_per_gb

    def _adopted(self, source: int, index: int, now_s: float) -> None:
        number = self.requests.instance[index]
        if number in self.failed:
            self._again(index, number, now_s)
            return
        instance = self.instances[number]
        assert isinstance(instance, Paired)
        instance.adopt(index, now_s)
        pairs = self.lane_of[source].pairs
        if pairs is not None:
            pairs.moved(index)
