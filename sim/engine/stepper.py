"""The steps of one engine and who sits in them: decode runs, prefill steps, sequences that join and leave the batch.

Decode steps with an unchanged batch share one anchor; the leap engine sets one alarm for many of them, the stepping
engine one alarm each; both place boundaries by `leap.boundary_s`. Every step is written down in the ledger.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from profiles.step import Line, MixedStep, StepModel, Unlike
from sim.engine.batching import Batching
from sim.engine.clock import TIE_S, Alarm, Clock
from sim.engine.leap import boundary_s
from sim.engine.ledger import GAP_OF_ROW, GAPS_BY_STEP, NO_GAPS, Ledger, Mark, pack_chunk, pack_row, pack_stay
from sim.engine.memory import Kv
from sim.engine.queues import ByPriority, Queue
from sim.engine.requests import COMPLETED, Requests

IDLE, WAKING, DECODING, PREFILLING = range(4)
FOREVER = 1 << 60


class Prompt:
    """A prompt being prefilled: `left` of `total` tokens to go (a preempted request prefills its output again)."""

    __slots__ = ("index", "left", "total")

    def __init__(self, index: int, total: int, left: int) -> None:
        self.index, self.total, self.left = index, total, left


Chunk = tuple[Prompt, int]
NOTHING: list[Chunk] = []


class Stepper:
    """The running batch of one engine; `number` orders ties, `leaping` chooses between jumping and plain stepping."""

    __slots__ = (
        *("number", "requests", "model", "batching", "kv", "ledger", "rows", "max_seqs", "max_tokens", "leaping"),
        *("on_finish", "waiting", "prefilling", "running", "batch", "finishing", "offsets", "state", "alarm_s"),
        *("alarm", "counter", "anchor_s", "anchor_kv", "steps", "target", "line", "line_steps", "step", "chunks"),
        *("stalled", "resting", "late", "ahead", "seen_s", "arriving", "actions"),
    )

    def __init__(
        self,
        number: int,
        clock: Clock,
        requests: Requests,
        model: StepModel,
        batching: Batching,
        kv: Kv,
        ledger: Ledger,
        *,
        max_seqs: int,
        max_tokens: int,
        leaping: bool,
        ahead: bool,
        on_finish: Callable[[int, int], None],
    ) -> None:
        self.number, self.requests, self.model = number, requests, model
        self.batching, self.kv, self.ledger, self.rows = batching, kv, ledger, ledger.rows
        self.max_seqs, self.max_tokens, self.leaping, self.on_finish = max_seqs, max_tokens, leaping, on_finish
        self.waiting: Queue = deque() if requests.priority is None else ByPriority(requests.priority)
        self.actions: list[Callable[[], None]] = []  # to be done at the next boundary
        self.arriving: deque[tuple[int, float]] = deque()  # (request, when it came) with their KV cache
        self.prefilling: deque[Prompt] = deque()
        self.running: dict[int, Mark] = {}  # in order of joining
        self.batch = 0  # how many
        self.finishing: list[tuple[int, int]] = []  # heap of (decode counter at the last token, request)
        self.offsets = 0  # sum of the running sequences' offsets: they hold offsets + batch * counter tokens
        self.state = IDLE
        self.alarm_s = 0.0
        self.alarm = Alarm(clock, number + 1, self._boundary)
        # decode run: from anchor_s at counter `counter`, `steps` boundaries passed, next alarm at `target`
        self.counter = 0
        self.anchor_s = 0.0
        self.anchor_kv = 0
        self.steps = 0
        self.target = 0
        self.line: Line | None = None  # None: the batch changed, a new anchor is due
        self.line_steps = 0
        self.step: MixedStep | None = None
        self.chunks: list[Chunk] = []
        self.stalled: list[tuple[int, float]] = []  # (sequences, time of their last token) before the next decode
        self.resting: list[tuple[int, int, float]] = []  # (request, tokens made, when) out of the batch for this step
        self.late: dict[int, float] = {}  # when those made their last token who rested in the step before
        self.ahead = ahead  # a step is planned while the one before it runs: newcomers wait one step more
        self.seen_s = 0.0  # start of the step that ended last: what arrived later is not seen yet

    def _boundary(self) -> None:
        """What happens when a step or a leap ends; the instance knows."""
        raise NotImplementedError

    # ---- decode ---------------------------------------------------------------------------------------------------

    def _start_decode(self) -> None:
        """Go on decoding: from a new anchor when the batch changed or the table bends, and as far as the plan holds."""
        batch = self.batch
        if self.line is None or self.steps >= self.line_steps:
            if self.steps:
                self._settle_decode()
            else:
                self.anchor_s = self.alarm_s
            self.anchor_kv = self.offsets + batch * self.counter
            self.line = line = self.decode_line(self.model)
            room = line.kv_end - self.anchor_kv
            self.line_steps = FOREVER if room == math.inf else math.ceil(room / batch)
        line = self.line
        self.target = target = self.furthest(self.line_steps) if self.leaping else self.steps + 1
        self.state = DECODING
        self.alarm_s = end_s = boundary_s(self.anchor_s, line.a_s, line.c_s, batch, self.anchor_kv, target)
        self.alarm.set(end_s + TIE_S)

    def decode_line(self, model: StepModel) -> Line:
        """The line of the batch's next decode step."""
        line = model.decode(self.batch, self.offsets + self.batch * self.counter)
        unlike = self.unlike(model) if model.skew is not None else None
        return line if unlike is None else model.unlike(line, self.batch, unlike)

    def unlike(self, model: StepModel) -> Unlike | None:
        """How unlike the batch's contexts are; None where they are alike or `model` does not ask."""
        if model.skew is None or not self.batch:
            return None
        offsets = [mark[0] for mark in self.running.values()]
        longest, shortest, mean = max(offsets), min(offsets), self.offsets / self.batch
        return (longest - mean, (mean - shortest) / (longest - shortest)) if longest > shortest else None

    def furthest(self, limit: int) -> int:
        """Steps from the anchor that this plan holds for: to the next finish, `limit`, or where KV memory ends."""
        steps, batch = self.steps, self.batch
        if self.ahead and self.waiting and self.requests.queued_s[self.waiting[0]] > self.seen_s:
            return steps + 1  # somebody is not seen yet
        want = self.finishing[0][0] - self.counter
        if want > limit:
            want = limit
        counter = self.counter + steps
        total = self.offsets + batch * counter
        if total + batch * (want - steps + self.kv.block) > self.kv.roomy_tokens:
            want = steps + self.kv.steps(want - steps, batch, total, self.running, counter)
        return want if want > steps else steps + 1

    def _settle_decode(self) -> None:
        """Book the decode steps since the anchor and move the anchor to their end."""
        steps, line = self.steps, self.line
        if not steps or line is None:
            return
        a_s, c_s, power_w, _, extrapolated = line
        batch, kv, start_s, counter = self.batch, self.anchor_kv, self.anchor_s, self.counter
        end_s = self.alarm_s  # only ever settled at the boundary that was just reached
        gaps = GAPS_BY_STEP
        if self.stalled:
            self._record_stalls(a_s + c_s * kv, c_s * batch)
            gaps = NO_GAPS
        self.rows.extend(pack_row(start_s, end_s, power_w, a_s, c_s, batch, kv, counter, steps, gaps))
        if extrapolated:
            self.ledger.extrapolated_s += end_s - start_s
        self.counter = counter + steps
        self.anchor_s, self.anchor_kv, self.steps = end_s, kv + batch * steps, 0
        self.line_steps -= steps

    def _finish_due(self) -> None:
        """Let go of every sequence whose last token is made."""
        finishing, counter = self.finishing, self.counter  # the counter may restart below
        while finishing and finishing[0][0] <= counter:
            index = heappop(finishing)[1]
            self._leave(index)
            self._complete(index)

    def _forget(self, index: int, tokens: int, computed: int) -> None:
        """Let the KV memory know of a sequence that is gone from the batch."""
        counter, batch = self.counter, self.batch
        total = self.offsets + batch * counter
        self.kv.leave(index, tokens, computed, batch, total, self.running, counter)

    def _complete(self, index: int) -> None:
        requests = self.requests
        if self.kv.remembers:
            tokens = requests.prompt[index] + requests.output[index]
            self._forget(index, tokens, tokens - 1)
        requests.produced[index] = requests.output[index]
        requests.finish_s[index] = self.alarm_s
        requests.status[index] = COMPLETED
        self.on_finish(self.number, index)

    # ---- prefill --------------------------------------------------------------------------------------------------

    def _start_prefill(self, chunks: list[Chunk]) -> None:
        """Start a step that carries prefill chunks, beside the batch where the policy mixes."""
        self.begin_prefill(chunks, self.prefill_step(chunks))
        self.alarm.set(self.alarm_s + TIE_S)

    def prefill_step(self, chunks: list[Chunk]) -> MixedStep:
        """What a step with these chunks takes."""
        if len(chunks) == 1:  # the common step
            prompt, new = chunks[0]
            sizes = [(new, prompt.total - prompt.left)]
        else:
            sizes = [(new, prompt.total - prompt.left) for prompt, new in chunks]
        batch = self.batch
        if batch and self.batching.mixes:
            kv = self.offsets + batch * (self.counter + self.steps)
            return self.model.mixed(sizes, batch, kv, self.unlike(self.model))
        return self.model.prefill(sizes)

    def begin_prefill(self, chunks: list[Chunk], step: MixedStep) -> None:
        """The step begins."""
        if self.steps:
            self._settle_decode()
        self.line = None
        if self.batch and not self.batching.mixes and not self.stalled:
            self.stalled.append((self.batch, self.alarm_s))
        self.step, self.chunks = step, chunks
        self.anchor_s = self.alarm_s
        self.state = PREFILLING
        self.alarm_s = self.alarm_s + step.time_s

    def _settle_prefill(self) -> None:
        """Book a prefill step, move its prompts on, and let those that are done join the batch."""
        step, chunks, rows = self.step, self.chunks, self.rows
        assert step is not None
        _, power_w, prefill_s, decode_a_s, decode_c_s, extrapolated = step
        start_s, end_s, batch = self.anchor_s, self.alarm_s, self.batch
        if len(chunks) == 1:
            prompt, new = chunks[0]
            self.ledger.chunks += pack_chunk(prompt.index, len(rows), prefill_s)
            prompt.left -= new
        else:
            second_s = prefill_s / sum([new for _, new in chunks])
            for prompt, new in chunks:
                self.ledger.chunks += pack_chunk(prompt.index, len(rows), second_s * new)
                prompt.left -= new
        if extrapolated:
            self.ledger.extrapolated_s += end_s - start_s
        mixes = self.batching.mixes
        if batch and mixes:
            counter, gaps = self.counter, GAP_OF_ROW
            if self.stalled:  # each gap since its own last token
                gaps = NO_GAPS
                self._record_waits(end_s)
            rows.extend(pack_row(start_s, end_s, power_w, decode_a_s, decode_c_s, batch, 0, counter, 1, gaps))
            self.counter = counter + 1
            if self.finishing[0][0] <= self.counter:
                self._finish_due()
        else:
            rows.extend(pack_row(start_s, end_s, power_w, 0.0, 0.0, 0, 0, 0, 0, NO_GAPS))
        if self.resting:
            self._return(end_s)
        joined = 0
        while self.prefilling and not self.prefilling[0].left:
            joined += self._join(self.prefilling.popleft(), end_s)
        if joined and (self.stalled or not mixes):
            self.stalled.append((joined, end_s))

    def rest(self, indices: list[int]) -> None:
        """Have sequences sit out the step that begins now; they keep their KV memory and come back after it."""
        if self.steps:
            self._settle_decode()
        requests, start_s, counter = self.requests, self.alarm_s, self.counter
        for index in indices:
            made = requests.output[index] - (self.running[index][1] - counter)
            self.resting.append((index, made, self.late.get(index, start_s)))
            self._leave(index)
        out = set(indices)
        self.finishing = [entry for entry in self.finishing if entry[1] not in out]
        heapify(self.finishing)

    def _return(self, now_s: float) -> None:
        """Who rested joins the batch again, behind those who did not."""
        if self.batch:
            self.stalled.append((self.batch, now_s))
        self.late = {index: last_s for index, _, last_s in self.resting}
        for index, made, last_s in self.resting:
            self._enter(index, made)
            self.stalled.append((1, last_s))
        self.resting.clear()

    def _record_waits(self, end_s: float) -> None:
        """Gaps of a step that carried prompts, where some of the batch made no token in the step before."""
        waits = self.stalled
        if self.resting:  # some of these again: by name
            waits = [(1, last_s) for index, last_s in self.late.items() if index in self.running]
            waits.append((self.batch - len(waits), self.anchor_s))
        for count, last_s in waits:
            self.ledger.gap(end_s - last_s, end_s - last_s, 1, count)
        self.stalled.clear()
        self.late.clear()

    def _record_stalls(self, first_s: float, growth_s: float) -> None:
        """Gaps of sequences that waited while others prefilled: the first is longer, each by its own wait."""
        ledger, more = self.ledger, self.steps - 1
        for count, last_s in self.stalled:
            gap_s = self.anchor_s + first_s - last_s
            ledger.gap(gap_s, gap_s, 1, count)
        self.stalled.clear()
        self.late.clear()
        if more:
            ledger.gap(first_s + growth_s, first_s + growth_s * more, more, self.batch)

    def _join(self, prompt: Prompt, now_s: float) -> int:
        """A prefilled request emits a token and decodes on; 0 when that token was its last, else 1."""
        index, requests = prompt.index, self.requests
        self.kv.release(prompt.total)
        produced = requests.produced[index] + 1
        requests.produced[index] = produced
        if produced == 1:
            requests.first_token_s[index] = now_s
        else:  # prefilled again after a preemption
            gap_s = now_s - requests.finish_s[index]
            self.ledger.gap(gap_s, gap_s, 1, 1)
        left = requests.output[index] - produced
        if not left:
            self._complete(index)
            return 0
        self._enter(index, produced)
        return 1

    def _enter(self, index: int, produced: int) -> None:
        """A sequence joins the batch with `produced` tokens made."""
        requests = self.requests
        offset = requests.prompt[index] + produced - self.counter
        ends_at = self.counter + requests.output[index] - produced
        self.batch += 1
        self.running[index] = (offset, ends_at, len(self.rows))
        self.offsets += offset
        heappush(self.finishing, (ends_at, index))

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def _leave(self, index: int) -> None:
        """Take a sequence out of the batch and charge it what it used."""
        offset, _, joined = self.running.pop(index)
        self.batch -= 1
        self.ledger.stays += pack_stay(index, offset, joined, len(self.rows))
        self.offsets -= offset
        self.line = None
        if not self.batch:
            self.counter = 0
            self.stalled.clear()

    def part(self) -> None:
        """Charge the running sequences what they used so far, so that the rows so far may be forgotten."""
        end = len(self.rows)
        for index, (offset, ends_at, joined) in self.running.items():
            if joined < end:
                self.ledger.stays += pack_stay(index, offset, joined, end)
            self.running[index] = (offset, ends_at, 0)

    def abandon(self) -> None:
        """The run ends here: charge what was booked so far to the sequences that are still in the batch."""
        for index in list(self.running):
            self._leave(index)
