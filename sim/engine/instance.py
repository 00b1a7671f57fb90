"""One serving engine on its GPUs: what arrives, what is admitted, and what is preempted.

The instance is a small state machine driven by alarms. At each boundary it settles what just ended, asks the batching
policy for the next step and sets the next alarm; what a step is, the stepper knows.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify

from profiles.step import StepModel
from sim.engine.clock import TIE_S, Alarm
from sim.engine.leap import boundary_after, boundary_s
from sim.engine.ledger import Mark
from sim.engine.memory import Kv
from sim.engine.stepper import DECODING, FOREVER, IDLE, NOTHING, PREFILLING, WAKING, Chunk, Prompt, Stepper

__all__ = ["FOREVER", "IDLE", "Chunk", "Instance", "Prompt"]


class Intervening:
    """What an instance and a group of ranks in lockstep share: something can be done between two of their steps."""

    __slots__ = ()
    state: int
    steps: int
    target: int
    alarm: Alarm
    actions: list[Callable[[], None]]

    def intervene(self, now_s: float, action: Callable[[], None]) -> None:
        """Have `action` done at the next boundary, before what follows is planned; at once when nothing runs."""
        if self.state == IDLE:
            action()
            return
        self.actions.append(action)
        self.alarm.callback = self._intervened
        if self.state == DECODING and self.target - self.steps > 1:
            self._cut(now_s, ahead=False)

    def _intervened(self) -> None:
        """A boundary with something to do: settle what ended, act, and plan anew."""
        self.alarm.callback = self._boundary
        self._pause()
        actions = [*self.actions]
        self.actions.clear()
        for action in actions:
            action()
        self._boundary()

    def _cut(self, now_s: float, ahead: bool) -> None:
        """End the leap at the first boundary that sees `now_s`, or one later where steps are planned ahead."""
        raise NotImplementedError

    def _pause(self) -> None:
        """Settle what just ended; whatever comes next is a new plan."""
        raise NotImplementedError

    def _boundary(self) -> None:
        """Go on: settle what just ended, start what comes next."""
        raise NotImplementedError


class Instance(Intervening, Stepper):
    """A stepper with a queue before it: what arrives, what is admitted, and what is preempted."""

    __slots__ = ()

    pairs = False  # whether requests may be handed over, or come with their KV cache

    def decodes(self, index: int) -> bool:
        """Whether a request's output tokens are made here."""
        return True

    # ---- arrivals -------------------------------------------------------------------------------------------------

    def arrive(self, index: int, now_s: float, next_s: float) -> None:
        """A routed request joins the queue; it wakes an idle instance and ends a leap that it could join.

        `next_s` is when the next request of the trace comes: one that ties with this one is waited for.
        """
        self.waiting.append(index)
        if self.state == IDLE:
            self.state = WAKING
            self.alarm_s = now_s
            if next_s > now_s + TIE_S:
                self._boundary()
            else:
                self.alarm.set(now_s + TIE_S)
        elif (
            self.state == DECODING
            and self.target - self.steps > 1
            and self.batching.joins
            and (self.waiting[0] == index or self.batching.eager)
            and self.batch < self.max_seqs
        ):
            self._cut(now_s, self.ahead)

    def _pause(self) -> None:
        """Settle what just ended; whatever comes next is a new plan."""
        if self.ahead and self.state != WAKING:
            self._see()
        if self.state == DECODING:
            self.steps = self.target
            self._settle_decode()
            self._finish_due()
        elif self.state == PREFILLING:
            self._settle_prefill()
        self.line, self.state = None, WAKING

    @property
    def next_s(self) -> float:
        """When its next boundary is; of one that is idle, when the last was."""
        return self.alarm_s

    def retune(self, now_s: float, model: StepModel) -> None:
        """Go on with another step model (another clock) from the next boundary on."""

        def change() -> None:
            self.model = model

        self.intervene(now_s, change)

    def evict(self, kv: Kv) -> list[int]:
        """Everything here is lost, KV memory is `kv` from now on; to be called at a boundary.

        Returns:
            the requests that were running, being prefilled or queued.
        """
        lost = [*self.running, *(prompt.index for prompt in self.prefilling), *self.waiting]
        lost += [index for index, _ in self.arriving]
        for index in list(self.running):
            self._leave(index)
        for held in (self.prefilling, self.waiting, self.arriving, self.finishing, self.stalled, self.late):
            held.clear()
        self.kv, self.offsets = kv, 0
        self.batching = type(self.batching)()  # it may remember who was here
        return lost

    def _cut(self, now_s: float, ahead: bool) -> None:
        """End the leap at the first boundary that sees `now_s`, or one later where steps are planned ahead."""
        line = self.line
        assert line is not None
        run = (self.anchor_s, line.a_s, line.c_s, self.batch, self.anchor_kv)
        target, time_s = boundary_after(*run, now_s, self.steps + 1, self.target)
        if ahead and target < self.target:
            target += 1
            time_s = boundary_s(*run, target)
        if target < self.target:
            self.target, self.alarm_s = target, time_s
            self.alarm.set(time_s + TIE_S)

    # ---- what the batching policy asks and does -------------------------------------------------------------------

    def next_tokens(self) -> int:
        """Tokens the first waiting request has to prefill."""
        index = self.waiting[0]
        return self.requests.prompt[index] + self.requests.produced[index]

    def admit(self) -> Prompt | None:
        """Move the first waiting request, there being one, to prefilling; None without a slot or KV memory for it."""
        batch = self.batch
        if batch + len(self.prefilling) >= self.max_seqs:
            return None
        index, requests, kv = self.waiting[0], self.requests, self.kv
        if self.ahead and requests.queued_s[index] > self.seen_s and (batch or self.prefilling):
            return None
        produced = requests.produced[index]
        tokens, output = requests.prompt[index] + produced, requests.output[index] - produced
        if self.pairs and not self.decodes(index):
            output = 0  # nothing more is made here, so that no room need be kept for it
        counter = self.counter + self.steps
        found = kv.take(index, tokens, output, batch, self.offsets + batch * counter, self.running, counter)
        if found < 0:
            return None
        self.waiting.popleft()
        if not produced:
            arrival_s = requests.arrival_s[index]
            requests.cached[index] = found
            requests.start_s[index] = self.alarm_s if self.alarm_s > arrival_s else arrival_s
        prompt = Prompt(index, tokens, tokens - found)
        self.prefilling.append(prompt)
        return prompt

    def whole_prompts(self, room: int, first: bool = True) -> tuple[list[Chunk], int]:
        """Admit waiting prompts in order while they fit `room` tokens, the `first` in any case.

        Returns:
            chunks that prefill them whole, and how many tokens these are.
        """
        chunks: list[Chunk] = []
        tokens = 0
        while self.waiting:
            size = self.next_tokens()
            if (chunks or not first) and tokens + size > room:
                break
            prompt = self.admit()
            if prompt is None:
                break
            chunks.append((prompt, size))
            tokens += size
        return chunks, tokens

    # ---- boundaries -----------------------------------------------------------------------------------------------

    def _boundary(self) -> None:
        """Settle what just ended, then start the next step: prefill chunks (beside the batch or not), or decode."""
        chunks = self._settled()
        if chunks:
            self._start_prefill(chunks)
        elif self.running:
            self._start_decode()
        elif self.waiting:
            raise AssertionError("an instance that is empty cannot admit its first request")
        else:
            self.state = IDLE

    def _settled(self) -> list[Chunk]:
        """Settle what just ended and make room; the prefill chunks of the next step."""
        if self.ahead and self.state != WAKING:
            self._see()
        if self.state == DECODING:
            self.steps = self.target
            if self.finishing[0][0] <= self.counter + self.steps:
                self._settle_decode()
                self._finish_due()
        elif self.state == PREFILLING:
            self._settle_prefill()
        batch = self.batch
        if batch and self.offsets + batch * (self.counter + self.steps + self.kv.block) > self.kv.roomy_tokens:
            self._make_room()
        if self.waiting or self.prefilling or self.arriving:
            return self._plan()
        return NOTHING

    def _plan(self) -> list[Chunk]:
        return self.batching.plan(self)

    def _see(self) -> None:
        """What had arrived when the step began that ends now is seen by the plan of the next."""
        self.seen_s = self.anchor_s + TIE_S
        line = self.line
        if self.state == DECODING and line is not None:
            before = self.target - 1
            self.seen_s += boundary_s(0.0, line.a_s, line.c_s, self.batch, self.anchor_kv, before)

    def _make_room(self) -> None:
        """Preempt the latest sequences until the next decode step fits; they go back to the head of the queue."""
        while True:
            batch, counter = self.batch, self.counter + self.steps
            total = self.offsets + batch * counter
            if batch == 0 or self.kv.steps(1, batch, total, self.running, counter):
                return
            self._settle_decode()
            if self.prefilling:
                prompt = self.prefilling.pop()
                self.kv.release(prompt.total)
                self._forget(prompt.index, prompt.total, prompt.total - prompt.left)
                self.waiting.appendleft(prompt.index)
            else:
                self._preempt_last()
            self.requests.preemptions += 1

    def _victim(self) -> tuple[int, Mark]:
        """The sequence that joined last, of those that matter least."""
        priority = self.requests.priority
        if priority is None:
            return next(reversed(self.running.items()))
        return max(reversed(self.running.items()), key=lambda item: priority[item[0]])

    def _preempt_last(self) -> None:
        """Send the sequence that joined last back to the queue; `finish_s` holds the time of its last token."""
        requests = self.requests
        index, mark = self._victim()
        requests.produced[index] = requests.output[index] - (mark[1] - self.counter)
        requests.finish_s[index] = self.alarm_s
        if self.stalled:
            count, requests.finish_s[index] = self.stalled.pop()
            if count > 1:
                self.stalled.append((count - 1, requests.finish_s[index]))
        self._leave(index)
        self._forget(index, requests.prompt[index] + requests.produced[index], requests.prompt[index])
        self.finishing = [entry for entry in self.finishing if entry[1] != index]
        heapify(self.finishing)
        self.waiting.appendleft(index)
