"""The common case in fewer calls: chunked prefill, plain paged memory, the leap engine.

A prompt that joins the batch whole is planned when it arrives, from the boundary where its step begins to that where it
ends, and booked there: nothing outside sees what lies between. So a request costs two boundaries, its first token and
its last. What is unusual (several prompts at once, a prompt in pieces, memory nearly full, a sequence that ends in the
very step) goes the way of `Instance` and `Stepper`, whose rules these are. That saves a third of the loop's machine
instructions (89,000 a request for 133,000: Azure 2023 conversation, 4 instances). The stepping engine never comes
here, so that the tests that hold both engines equal hold this to the plain rules, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from profiles.step import MixedStep
from sim.engine.clock import TIE_S
from sim.engine.instance import Instance
from sim.engine.leap import boundary_after
from sim.engine.ledger import GAP_OF_ROW, GAPS_BY_STEP, NO_GAPS, pack_chunk, pack_row, pack_stay
from sim.engine.memory import PagedKv
from sim.engine.requests import COMPLETED
from sim.engine.stepper import DECODING, IDLE, PREFILLING

JOINING = 4  # a state more: a prompt's step is planned, or under way


class Quick(Instance):
    """As `Instance`; see the module's text.

    `alone` says that nothing but the trace's arrivals comes between two boundaries: what ends before the next one is
    booked at once.
    """

    __slots__ = ("alone", "join")
    kv: PagedKv

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.alone = False
        self.join: tuple[int, int, float, MixedStep]  # who, after which boundary of the leap, when that is, the step

    def arrive(self, index: int, now_s: float, next_s: float) -> None:
        """As Instance's; whoever can join the batch at the next boundary is planned to."""
        state = self.state
        if state == DECODING:
            if not self.waiting:
                a_s, c_s, _, _, _ = self.line  # type: ignore[misc]
                steps, at_s = boundary_after(
                    self.anchor_s, a_s, c_s, self.batch, self.anchor_kv, now_s, self.steps + 1, self.target
                )
                if steps < self.target and self._plan_join(index, steps, at_s, next_s):
                    return
        elif state == JOINING:
            if self._to_begin(now_s):
                self._plainly(now_s)
        elif state == IDLE and next_s > now_s + TIE_S and self._plan_join(index, 0, now_s, next_s):
            return
        super().arrive(index, now_s, next_s)

    def intervene(self, now_s: float, action: Callable[[], None]) -> None:
        """As Instance's."""
        if self.state == JOINING:
            self._plainly(now_s)
        super().intervene(now_s, action)

    def _boundary(self) -> None:
        if self.state == DECODING:
            self.steps = self.target
            if self.finishing[0][0] <= self.counter + self.target:
                self._end_leap()
        elif self.state == JOINING:
            self._end_join()
        elif self.state == PREFILLING:
            self._settle_prefill()
        batch, kv = self.batch, self.kv
        if batch and self.offsets + batch * (self.counter + self.steps + kv.block) > kv.roomy_tokens:
            self._make_room()
        waiting = self.waiting
        if waiting or self.prefilling:
            if len(waiting) == 1 and self._plan_join(waiting[0], self.steps, self.alarm_s, 0.0):
                waiting.popleft()
                return
            chunks = self.batching.plan(self)
            if chunks:
                self._start_prefill(chunks)
                return
        if self.running:
            self._go_on()
        else:
            self.state = IDLE

    def _end_leap(self) -> None:
        """Book a leap whose last step lets sequences finish, and let them go."""
        steps, batch, start_s, end_s, counter = self.steps, self.batch, self.anchor_s, self.alarm_s, self.counter
        a_s, c_s, power_w, _, outside = self.line  # type: ignore[misc]
        rows, stays, requests = self.rows, self.ledger.stays, self.requests
        rows += pack_row(start_s, end_s, power_w, a_s, c_s, batch, self.anchor_kv, counter, steps, GAPS_BY_STEP)
        if outside:
            self.ledger.extrapolated_s += end_s - start_s
        counter += steps
        self.anchor_s, self.steps, self.counter = end_s, 0, counter
        finishing, running, row = self.finishing, self.running, len(rows)
        while finishing and finishing[0][0] <= counter:
            index = heappop(finishing)[1]
            offset, _, joined = running.pop(index)
            stays += pack_stay(index, offset, joined, row)
            self.offsets -= offset
            self.batch -= 1
            requests.produced[index] = requests.output[index]
            requests.finish_s[index] = end_s
            requests.status[index] = COMPLETED
            self.on_finish(self.number, index)
        self.line = None
        if not self.batch:
            self.counter = 0

    # ---- a prompt joins -------------------------------------------------------------------------------------------

    def _plan_join(self, index: int, steps: int, at_s: float, next_s: float) -> bool:
        """Plan a step with one whole prompt beside the batch, after `steps` of the leap, at `at_s`.

        Returns:
            False when that is not how things would go.
        """
        requests, batch, kv = self.requests, self.batch, self.kv
        tokens, counter = requests.prompt[index], self.counter + steps
        total = self.offsets + batch * counter
        if (
            batch >= self.max_seqs
            or tokens > self.max_tokens - batch
            or total + batch * kv.block + tokens > kv.ample_tokens
            or (batch and self.finishing[0][0] <= counter + 1)
            or requests.output[index] == 1
            or requests.produced[index]
            or self.prefilling
            or self.actions
        ):
            return False
        model = self.model
        step = model.mixed_one(tokens, 0, batch, total) if batch else model.prefill_one(tokens)
        self.join = index, steps, at_s, step
        self.alarm_s = end_s = at_s + step[0]
        due_s = end_s + TIE_S
        if self.alone and next_s > due_s:
            self._end_join()
            self._go_on()
            return True
        self.state = JOINING
        alarm = self.alarm
        alarm.due_s = due_s
        heappush(alarm.pending, (due_s, alarm.priority, next(alarm.ids), alarm))
        return True

    def _end_join(self) -> None:
        """Book the leap up to the step with the prompt, and that step; the request joins the batch."""
        index, steps, at_s, step = self.join
        _, power_w, prefill_s, decode_a_s, decode_c_s, outside = step
        rows, ledger, batch, counter, end_s = self.rows, self.ledger, self.batch, self.counter, self.alarm_s
        if steps:
            a_s, c_s, before_w, _, beyond = self.line  # type: ignore[misc]
            start_s = self.anchor_s
            rows += pack_row(start_s, at_s, before_w, a_s, c_s, batch, self.anchor_kv, counter, steps, GAPS_BY_STEP)
            if beyond:
                ledger.extrapolated_s += at_s - start_s
            counter += steps
            self.steps = 0
        ledger.chunks += pack_chunk(index, len(rows), prefill_s)
        if batch:
            rows += pack_row(at_s, end_s, power_w, decode_a_s, decode_c_s, batch, 0, counter, 1, GAP_OF_ROW)
            counter += 1
        else:
            rows += pack_row(at_s, end_s, power_w, 0.0, 0.0, 0, 0, 0, 0, NO_GAPS)
        if outside:
            ledger.extrapolated_s += end_s - at_s
        requests = self.requests
        arrival_s = requests.arrival_s[index]
        requests.start_s[index] = at_s if at_s > arrival_s else arrival_s
        requests.first_token_s[index] = end_s
        offset, ends_at = requests.prompt[index] + 1 - counter, counter + requests.output[index] - 1
        self.running[index] = (offset, ends_at, len(rows))
        self.counter, self.batch, self.line = counter, batch + 1, None
        self.offsets += offset
        heappush(self.finishing, (ends_at, index))

    def _to_begin(self, now_s: float) -> bool:
        """Whether the planned step has not begun."""
        _, steps, at_s, _ = self.join
        return steps > self.steps and now_s <= at_s + TIE_S

    def _plainly(self, now_s: float) -> None:
        """Take a plan back: into a leap that is cut where the step would begin, or into the prefill that has begun."""
        index, steps, at_s, step = self.join
        self.waiting.appendleft(index)
        self.alarm_s = at_s
        if self._to_begin(now_s):
            self.target, self.state = steps, DECODING
            self.alarm.set(at_s + TIE_S)
            return
        self.steps = steps
        prompt = self.admit()
        assert prompt is not None
        self.begin_prefill([(prompt, prompt.left)], step)

    # ---- decode ---------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Decode as far as the plan holds."""
        batch, steps, line, kv = self.batch, self.steps, self.line, self.kv
        if line is None or steps >= self.line_steps:
            if steps:
                self._settle_decode()
                steps = 0
            counter = self.counter
            self.anchor_s = anchor_s = self.alarm_s
            self.anchor_kv = anchor_kv = self.offsets + batch * counter
            self.line = line = self.model.decode(batch, anchor_kv)
            want, room = self.finishing[0][0] - counter, line[3] - anchor_kv
            if want * batch > room:
                want = math.ceil(room / batch)
            self.line_steps = want
        else:
            anchor_s, anchor_kv, counter = self.anchor_s, self.anchor_kv, self.counter
            want = min(self.finishing[0][0] - counter, self.line_steps)
        if anchor_kv + batch * (want + kv.block) > kv.roomy_tokens:
            want = steps + kv.steps(want - steps, batch, anchor_kv + batch * steps, self.running, counter + steps)
            if want <= steps:
                want = steps + 1
        self.target, self.state = want, DECODING
        # leap.boundary_s, word for word
        self.alarm_s = end_s = anchor_s + (
            want * line[0] + line[1] * (want * anchor_kv + batch * (want * (want - 1) // 2))
        )
        alarm = self.alarm
        alarm.due_s = due_s = end_s + TIE_S
        heappush(alarm.pending, (due_s, alarm.priority, next(alarm.ids), alarm))
