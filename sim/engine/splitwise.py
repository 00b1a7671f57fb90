"""splitwise-sim's mixed batches, request by request: whole prompts first, as many decode beside them as fit.

A step takes whole prompts in order up to the token budget, then sequences, each for one token: those that sat out
before, the batch in the order it was joined, newcomers by arrival. Who finds no room sits the step out. Steps sat out
are counted and never forgotten; a request of MOST_SKIPPED of them comes before all prompts when it stands at the head
of the list of everything that waits. That list is kept as splitwise-sim keeps it: by (steps sat out, arrival) when
something joins it, not when a count grows later. The rules are read from its public source (instance.py) and exact on
its published runs (docs/fidelity.md). Two things differ: where memory keeps prompts waiting while others only decode,
it counts those steps too; and no more than `max_seqs` requests are let in here, where it takes turns.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Container
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.engine.instance import Chunk, Instance

MOST_SKIPPED = 4  # splitwise-sim's max_preemptions


class _Task:
    """A prompt to prefill or a sequence to decode, and the steps it sat out: `skipped`, or all since `since`."""

    __slots__ = ("arrival_s", "index", "since", "skipped")

    def __init__(self, index: int, arrival_s: float, since: int | None) -> None:
        self.index, self.arrival_s, self.since, self.skipped = index, arrival_s, since, 0


class Splitwise:
    """Whole prompts and whoever fits beside them; with no prompt everybody decodes."""

    mixes = True
    joins = True
    eager = True

    def __init__(self) -> None:
        self._planned = 0  # steps so far that a waiting prompt sat out
        self._prompts: dict[int, _Task] = {}  # of the requests that wait
        self._tokens: dict[int, _Task] = {}  # of these, and of all that run
        self._pending: list[_Task] = []  # everything that is not in the batch
        self._blocked: list[int] = []  # sequences that were in the batch and sat out, in that order
        self._batch: list[int] = []  # sequences in the order of joining
        self._fresh: list[int] = []  # sequences that were never in the batch
        self._began_s = -1.0  # when that step began
        self._called = 0  # how many of those that wait were there at the last plan and could have ended a run of decode

    def plan(self, instance: Instance) -> list[Chunk]:
        """Whole prompts; who finds no room to decode beside them is told to rest."""
        if instance.line is not None and self._callers(instance) == self._called:
            return []  # the run of decode steps goes on
        self._catch_up(instance)
        chunks, seated = self._overdue(instance)
        used = len(seated) + sum(new for _, new in chunks)
        more, tokens = instance.whole_prompts(instance.max_tokens - used, first=not used)
        chunks += more
        if chunks:
            order = [*self._blocked, *self._batch, *sorted(self._fresh)]
            there = set(seated)
            seated += [i for i in order if i not in there][: max(0, instance.max_tokens - used - tokens)]
            self._sit(instance, chunks, seated)
        self._called = self._callers(instance)
        self._planned += bool(seated or chunks)
        return chunks

    def _callers(self, instance: Instance) -> int:
        """How many that wait end a run of decode steps; a prompt over the budget that decodes elsewhere does not."""
        if not instance.ahead and not instance.pairs:
            return len(instance.waiting)
        requests, most = instance.requests, instance.max_tokens
        seen_s = instance.seen_s if instance.ahead else math.inf
        return sum(
            requests.queued_s[i] <= seen_s and (requests.prompt[i] <= most or instance.decodes(i))
            for i in instance.waiting
        )

    def _skipped(self, task: _Task) -> int:
        return task.skipped if task.since is None else self._planned - task.since

    def _catch_up(self, instance: Instance) -> None:
        """What happened since the last step with prompts: decode steps with everybody, finishes, arrivals."""
        step = instance.step
        if step is None or instance.alarm_s != self._began_s + step.time_s:  # steps without prompts took everybody in
            self._batch += [*self._blocked, *sorted(self._fresh)]
            self._pending = [task for task in self._pending if task.index in self._prompts]
            self._blocked, self._fresh = [], []
        self._let_go(instance.running)
        arrival_s = instance.requests.arrival_s
        for index in instance.running:
            if index not in self._tokens:  # came with its KV cache, or again after a preemption
                self._put(self._tokens, index, _Task(index, arrival_s[index], None))
                self._fresh.append(index)
        for index in self._newcomers(instance):
            self._put(self._prompts, index, _Task(index, arrival_s[index], self._planned))
            if instance.decodes(index):
                self._put(self._tokens, index, _Task(index, arrival_s[index], None))

    def _let_go(self, running: Container[int]) -> None:
        """Forget who has finished, was preempted or is served elsewhere."""
        gone = {i for i in [*self._batch, *self._blocked, *self._fresh] if i not in running}
        if gone:
            self._pending = [task for task in self._pending if task.index not in gone]
            for index in gone:
                self._tokens.pop(index, None)
            for held in (self._batch, self._blocked, self._fresh):
                held[:] = [index for index in held if index not in gone]

    def _newcomers(self, instance: Instance) -> list[int]:
        """Who began to wait since, in order of arrival."""
        waiting, known = instance.waiting, self._prompts
        if not isinstance(waiting, deque):  # in order of priority
            return sorted(index for index in waiting if index not in known)
        return [*takewhile(lambda index: index not in known, reversed(waiting))][::-1]

    def _overdue(self, instance: Instance) -> tuple[list[Chunk], list[int]]:
        """What sat out too often: from the head of the list on, as long as it did."""
        chunks: list[Chunk] = []
        seated: list[int] = []
        used = 0
        for task in [*self._pending]:
            if self._skipped(task) < MOST_SKIPPED:
                break
            if task.since is None:
                size = 1
            elif instance.waiting and instance.waiting[0] == task.index:
                size = instance.next_tokens()
            else:
                break
            if used and used + size > instance.max_tokens:
                break
            if task.since is None:
                seated.append(task.index)
            elif prompt := instance.admit():
                chunks.append((prompt, size))
            else:
                continue
            used += size
        return chunks, seated

    def _sit(self, instance: Instance, chunks: list[Chunk], seated: list[int]) -> None:
        """Write down who is in the step and who is not, in splitwise-sim's order of doing so."""
        there = set(seated)
        for index in [index for index in self._batch if index not in there]:
            self._put(self._tokens, index, self._tokens[index])
            self._blocked.append(index)
        for prompt, _ in chunks:
            if task := self._prompts.pop(prompt.index, None):
                self._pending.remove(task)
                self._fresh.append(prompt.index)
        batch = {*self._batch}
        self._batch = [index for index in self._batch if index in there]
        for index in seated:
            if index not in batch:
                self._pending.remove(self._tokens[index])
                self._batch.append(index)
        self._blocked = [index for index in self._blocked if index not in there]
        self._fresh = [index for index in self._fresh if index not in there]
        resting = [index for index in instance.running if index not in there]
        for index in resting:
            self._tokens[index].skipped += 1
        self._began_s = instance.alarm_s
        if resting:
            instance.rest(resting)

    def _put(self, tasks: dict[int, _Task], index: int, task: _Task) -> None:
        tasks[index] = task
        insort(self._pending, task, key=lambda t: (self._skipped(t), t.arrival_s))
