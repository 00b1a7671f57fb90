"""Engines that step together: data-parallel ranks whose experts are spread over all of them.

Each rank queues, admits and holds KV for itself. A step lasts as long as the slowest rank's own part, then what they
share (experts and the exchange between them, by the tokens of all ranks): nobody starts the next before. A rank
without work waits, at idle power.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from profiles.step import Line, MixedStep, StepModel
from sim.engine.clock import TIE_S, Alarm, Clock
from sim.engine.instance import Instance, Intervening
from sim.engine.leap import boundary_after, boundary_s
from sim.engine.stepper import DECODING, FOREVER, IDLE, PREFILLING, WAKING, Chunk


class Rank(Instance):
    """An instance that a group steps; it has no alarm of its own."""

    __slots__ = ("group",)

    group: Group

    def arrive(self, index: int, now_s: float, next_s: float) -> None:
        """A routed request joins the queue; the group wakes, or ends a leap that it could join."""
        self.waiting.append(index)
        self.group.hear(self, index, now_s, next_s)

    def intervene(self, now_s: float, action: Callable[[], None]) -> None:
        """As Instance's, at the next boundary of the group."""
        self.group.intervene(now_s, action)

    def retune(self, now_s: float, model: StepModel) -> None:
        """As Instance's; all ranks go on with the same model."""
        self.group.intervene(now_s, partial(self.group.use, model))

    @property
    def next_s(self) -> float:
        """As Instance's, of the group."""
        return self.group.alarm_s

    def pause(self, now_s: float, target: int) -> None:
        """A boundary of the group with something to do: settle what ended."""
        self.alarm_s, self.target = now_s, target
        self._pause()

    def begin_decode(self, line: Line | None, alarm_s: float) -> None:
        """Go on decoding until the group's next boundary, from a new anchor where there is a new line."""
        if line is not None:
            self.settle()
            self.anchor_kv = self.kv_now
            self.line, self.line_steps = line, FOREVER
        self.state, self.alarm_s = DECODING, alarm_s

    def settle(self) -> None:
        """Book the decode steps so far; the next anchor is now."""
        if self.steps:
            self._settle_decode()
        else:
            self.anchor_s = self.alarm_s

    def may_join(self, index: int) -> bool:
        """Whether a request that has just come is the first that might join the batch, or is to be asked for."""
        first = self.waiting[0] == index or self.batching.eager
        return first and self.batch < self.max_seqs and (self.batching.joins or not self.batch)

    @property
    def kv_now(self) -> int:
        """KV tokens of the batch before the next step."""
        return self.offsets + self.batch * self.counter

    def prepared(self, now_s: float, target: int) -> list[Chunk]:
        """A boundary of the group: settle what ended; the chunks of the next step."""
        self.alarm_s, self.target = now_s, target
        return self._settled()


class Group(Intervening):
    """Ranks in lockstep; a state machine like an instance's, with one alarm for all."""

    def __init__(self, clock: Clock, ranks: list[Rank]) -> None:
        self.ranks = ranks
        self.alarm = Alarm(clock, ranks[0].number + 1, self._boundary)
        self.state = IDLE
        self.actions: list[Callable[[], None]] = []  # to be done at the next boundary
        self.alarm_s = self.anchor_s = 0.0
        self.steps = self.target = self.line_steps = 0
        self._model, self._leaping = ranks[0].model, ranks[0].leaping
        self._decoding: list[Rank] = []  # those that decode since the anchor
        self._run = (0.0, 0.0, 0.0, 1, 0)  # of the slowest: anchor, a, c, batch, KV
        for rank in ranks:
            rank.group = self

    def hear(self, rank: Rank, index: int, now_s: float, next_s: float) -> None:
        """A request has come to a rank: wake, or end the leap at the first boundary that sees it."""
        if self.state == IDLE:
            self.state, self.alarm_s = WAKING, now_s
            if next_s > now_s + TIE_S:
                self._boundary()
            else:
                self.alarm.set(now_s + TIE_S)
        elif self.state == DECODING and self.target - self.steps > 1 and rank.may_join(index):
            self._cut(now_s, ahead=rank.ahead and rank.batch > 0)

    def _pause(self) -> None:
        """As Instance's, on every rank."""
        for rank in self.ranks:
            rank.pause(self.alarm_s, self.target)
        self.state = WAKING

    def use(self, model: StepModel) -> None:
        """Go on with another step model."""
        self._model = model
        for rank in self.ranks:
            rank.model = model

    def _cut(self, now_s: float, ahead: bool) -> None:
        target, _ = boundary_after(*self._run, now_s, self.steps + 1, self.target)
        target += ahead
        if target < self.target:
            self._ring(target)

    def _ring(self, target: int) -> None:
        self.target = target
        self.alarm_s = boundary_s(*self._run, target)
        self.alarm.set(self.alarm_s + TIE_S)

    def _boundary(self) -> None:
        if self.state == DECODING:
            self.steps = self.target
        chunks = [rank.prepared(self.alarm_s, self.target) for rank in self.ranks]
        if any(chunks):
            self._start_prefill(chunks)
        elif any(rank.running for rank in self.ranks):
            self._start_decode()
        else:
            self.state, self._decoding = IDLE, []
            for rank in self.ranks:
                rank.state = IDLE

    def _start_prefill(self, chunks: list[list[Chunk]]) -> None:
        """One step in which some ranks prefill, some only decode, some wait."""
        steps: list[MixedStep | Line | None] = []
        tokens, longest_s = 0, 0.0
        for rank, own in zip(self.ranks, chunks, strict=True):
            if own:
                step = rank.prefill_step(own)
                steps.append(step)
                own_s, new = step.time_s, sum([n for _, n in own]) + (rank.batch if rank.batching.mixes else 0)
            elif rank.running:
                rank.settle()
                line = rank.decode_line(self._model)
                steps.append(line)
                own_s, new = line.a_s + line.c_s * rank.kv_now, rank.batch
            else:
                steps.append(None)
                own_s, new = 0.0, 0
            longest_s, tokens = max(longest_s, own_s), tokens + new
        time_s = longest_s + self._model.shared_s(tokens)
        end_s = self.alarm_s + time_s
        for rank, own, each in zip(self.ranks, chunks, steps, strict=True):
            if isinstance(each, MixedStep):
                rank.begin_prefill(own, _stretched(each, time_s))
                rank.alarm_s = end_s
            elif each is not None:
                rank.begin_decode(each._replace(a_s=time_s - each.c_s * rank.kv_now), end_s)
            else:
                rank.state = IDLE
        self.state, self._decoding, self.steps, self.target = PREFILLING, [], 0, 1
        self.alarm_s = end_s
        self.alarm.set(end_s + TIE_S)

    def _start_decode(self) -> None:
        """Go on decoding: from a new anchor when a batch changed, a table bends or another rank is the slowest."""
        decoding = [rank for rank in self.ranks if rank.running]
        lines: list[Line | None] = [None] * len(decoding)
        if decoding != self._decoding or self.steps >= self.line_steps or any(r.line is None for r in decoding):
            for rank in decoding:
                rank.settle()
            lines = list(self._anchor(decoding))
        self.target = self.steps + 1
        if self._leaping:
            self.target = min([rank.furthest(self.line_steps) for rank in decoding])
        self.state = DECODING
        self._ring(self.target)
        for rank, line in zip(decoding, lines, strict=True):
            rank.begin_decode(line, self.alarm_s)
        for rank in self.ranks:
            if not rank.running:
                rank.state = IDLE

    def _anchor(self, decoding: list[Rank]) -> list[Line]:
        """The common run from now on, and each rank's line within it: it lasts as long as the slowest rank's."""
        own = [rank.decode_line(self._model) for rank in decoding]
        first_s = [line.a_s + line.c_s * rank.kv_now for line, rank in zip(own, decoding, strict=True)]
        growth_s = [line.c_s * rank.batch for line, rank in zip(own, decoding, strict=True)]
        k = max(range(len(own)), key=lambda i: (first_s[i], growth_s[i]))
        self.line_steps = FOREVER
        for i, (line, rank) in enumerate(zip(own, decoding, strict=True)):
            room = line.kv_end - rank.kv_now
            if room < math.inf:
                self.line_steps = min(self.line_steps, math.ceil(room / rank.batch))
            if growth_s[i] > growth_s[k]:  # overtakes: the slowest of that step is another
                self.line_steps = min(self.line_steps, int((first_s[k] - first_s[i]) / (growth_s[i] - growth_s[k])) + 1)
        whole_s = first_s[k] + self._model.shared_s(sum([rank.batch for rank in decoding]))
        slow = decoding[k]
        self.anchor_s, self.steps, self._decoding = self.alarm_s, 0, decoding
        self._run = (self.anchor_s, whole_s - own[k].c_s * slow.kv_now, own[k].c_s, slow.batch, slow.kv_now)
        return [
            line._replace(a_s=whole_s - c_s * rank.kv_now, c_s=c_s)
            for line, rank in zip(own, decoding, strict=True)
            for c_s in [growth_s[k] / rank.batch]
        ]


def _stretched(step: MixedStep, time_s: float) -> MixedStep:
    """A rank's step that lasts as long as the group's; who caused it stays in proportion."""
    more = time_s / step.time_s
    return step._replace(
        time_s=time_s,
        prefill_s=step.prefill_s * more,
        decode_a_s=step.decode_a_s * more,
        decode_c_s=step.decode_c_s * more,
    )
