"""The common case in fewer calls: chunked prefill, plain paged memory, the leap engine.

The rules are those of `Instance` and `Stepper`, flattened; whatever is unusual (several prompts at once, a prompt in
pieces, full memory, a preempted request) goes their way. The stepping engine never comes here, so that the tests that
hold both engines equal hold this to the plain rules, bit for bit.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush

from sim.engine.clock import TIE_S
from sim.engine.instance import Instance, Prompt
from sim.engine.ledger import GAP_OF_ROW, GAPS_BY_STEP, NO_GAPS, pack_chunk, pack_row, pack_stay
from sim.engine.requests import COMPLETED
from sim.engine.stepper import DECODING, FOREVER, IDLE, PREFILLING


class Quick(Instance):
    """As `Instance`; see the module's text."""

    __slots__ = ()

    def _boundary(self) -> None:
        if self.state == DECODING:
            self.steps = self.target
            if self.finishing[0][0] <= self.counter + self.target:
                self._end_leap()
        elif self.state == PREFILLING:
            self._end_chunk()
        batch, kv = self.batch, self.kv
        if batch and self.offsets + batch * (self.counter + self.steps + kv.block) > kv.roomy_tokens:
            self._make_room()
        if self.waiting or self.prefilling:
            if self._take_one():
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
        if self.stalled:
            self._settle_decode()
            self._finish_due()
            return
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

    def _end_chunk(self) -> None:
        """Book a step with one whole prompt, which then joins the batch."""
        chunks = self.chunks
        prompt, new = chunks[0]
        index, requests, counter = prompt.index, self.requests, self.counter
        output = requests.output[index]
        if (
            len(chunks) > 1
            or prompt.left > new
            or output == 1
            or requests.produced[index]
            or self.stalled
            or (self.batch and self.finishing[0][0] <= counter + 1)
        ):
            self._settle_prefill()
            return
        _, power_w, prefill_s, decode_a_s, decode_c_s, outside = self.step  # type: ignore[misc]
        rows, start_s, end_s, batch = self.rows, self.anchor_s, self.alarm_s, self.batch
        self.ledger.chunks += pack_chunk(index, len(rows), prefill_s)
        if outside:
            self.ledger.extrapolated_s += end_s - start_s
        if batch:
            rows += pack_row(start_s, end_s, power_w, decode_a_s, decode_c_s, batch, 0, counter, 1, GAP_OF_ROW)
            counter += 1
        else:
            rows += pack_row(start_s, end_s, power_w, 0.0, 0.0, 0, 0, 0, 0, NO_GAPS)
        self.prefilling.popleft()
        self.kv.release(prompt.total)
        requests.produced[index] = 1
        requests.first_token_s[index] = end_s
        offset, ends_at = requests.prompt[index] + 1 - counter, counter + output - 1
        self.running[index] = (offset, ends_at, len(rows))
        self.counter, self.batch = counter, batch + 1
        self.offsets += offset
        heappush(self.finishing, (ends_at, index))

    def _take_one(self) -> bool:
        """Start a step with the one prompt that waits, whole; False when that is not how things are."""
        waiting, requests, batch, kv = self.waiting, self.requests, self.batch, self.kv
        if len(waiting) != 1 or self.prefilling or batch >= self.max_seqs:
            return False
        index = waiting[0]
        tokens = requests.prompt[index]
        if requests.produced[index] or tokens > self.max_tokens - batch:
            return False
        counter = self.counter + self.steps
        total = self.offsets + batch * counter
        if total + batch * kv.block + tokens > 0.98 * kv.roomy_tokens:
            return False  # near the limit blocks are counted
        if kv.take(index, tokens, 0, batch, total, self.running, counter) < 0:
            return False
        waiting.popleft()
        now_s, arrival_s = self.alarm_s, requests.arrival_s[index]
        requests.start_s[index] = now_s if now_s > arrival_s else arrival_s
        prompt = Prompt(index, tokens, tokens)
        self.prefilling.append(prompt)
        if self.steps:
            self._settle_decode()
        self.line = None
        model = self.model
        step = model.mixed_one(tokens, 0, batch, total) if batch else model.prefill_one(tokens)
        self.step, self.chunks = step, [(prompt, tokens)]
        self.anchor_s, self.state = now_s, PREFILLING
        alarm = self.alarm
        self.alarm_s = end_s = now_s + step[0]
        alarm.due_s = due_s = end_s + TIE_S
        heappush(alarm.pending, (due_s, alarm.priority, next(alarm.ids), alarm))
        return True

    def _go_on(self) -> None:
        """Decode as far as the plan holds."""
        batch, counter, line = self.batch, self.counter, self.line
        if line is None or self.steps >= self.line_steps:
            if self.steps:
                self._settle_decode()
                counter = self.counter
            else:
                self.anchor_s = self.alarm_s
            self.anchor_kv = kv_tokens = self.offsets + batch * counter
            self.line = line = self.model.decode(batch, kv_tokens)
            room = line[3] - kv_tokens
            self.line_steps = FOREVER if room == math.inf else math.ceil(room / batch)
        steps = self.steps
        want = self.finishing[0][0] - counter
        if want > self.line_steps:
            want = self.line_steps
        total, kv = self.offsets + batch * (counter + steps), self.kv
        if total + batch * (want - steps + kv.block) > kv.roomy_tokens:
            want = steps + kv.steps(want - steps, batch, total, self.running, counter + steps)
        if want <= steps:
            want = steps + 1
        self.target, self.state = want, DECODING
        anchor_kv = self.anchor_kv
        # leap.boundary_s, word for word
        end_s = self.anchor_s + (want * line[0] + line[1] * (want * anchor_kv + batch * (want * (want - 1) // 2)))
        alarm = self.alarm
        self.alarm_s = end_s
        alarm.due_s = due_s = end_s + TIE_S
        heappush(alarm.pending, (due_s, alarm.priority, next(alarm.ids), alarm))
