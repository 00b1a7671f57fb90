"""The points of a sweep, worked off by a crew whose workers may die.

A worker that dies says not which of the points under way killed it. So all of them are suspects: they are made again,
each alone, after everything else; only a point whose workers die while it is alone is blamed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from carbonfleet.sweep.crew import LOOK_S, Crew, CrewError, Work
from carbonfleet.sweep.work import FAILED, Task, make, record


def work_off(tasks: Iterable[Task], crew: Crew, keep: Callable[[Task, str], None], work: Work = make) -> None:
    """Make every task; `keep` is given each with the text of its record, in the order they are done.

    However it ends, what had come back is kept and the crew is stopped.

    Raises:
        CrewError: the workers cannot begin, or a cluster went away.
    """
    shift = _Shift(tasks, crew, keep, work)
    try:
        while shift.left:
            shift.turn()
    finally:
        try:
            shift.gather([future for future in shift.flying if future.done() and not future.cancelled()])
        finally:
            crew.stop()


class _Shift:
    """Points that wait, points under way, and suspects that will be made alone."""

    def __init__(self, tasks: Iterable[Task], crew: Crew, keep: Callable[[Task, str], None], work: Work) -> None:
        self._crew, self._keep, self._work = crew, keep, work
        self._waiting, self._suspects = deque(tasks), deque[Task]()
        self.flying: dict[Future[str], Task] = {}
        self._lone: Task | None = None  # the suspect that is under way, with nothing beside it
        self._deaths: Counter[str] = Counter()  # by key, while alone

    @property
    def left(self) -> bool:
        """Whether anything is still to be done."""
        return bool(self._waiting or self._suspects or self.flying)

    def turn(self) -> None:
        """Begin what there is room for, wait for what comes back, and keep it."""
        fallen = self._begin()
        done, _ = wait(self.flying, LOOK_S, FIRST_COMPLETED)
        fallen = fallen or any(self._died(future) for future in done)
        if fallen and self._crew.falls_together():
            done, _ = wait(self.flying)
        if not done and not fallen:
            self._crew.look()
        dead = self.gather(list(done))
        self._suspects.extend(task for task in dead if task is not self._lone or not self._blamed(task))
        if fallen:
            self._crew.mend()

    def _begin(self) -> bool:
        """Begin what there is room for: a suspect only when nothing else is; whether the pool is broken."""
        if not self._waiting and self._suspects and not self.flying:
            self._lone = self._suspects[0]
            return not self._send(self._suspects)
        while self._waiting and len(self.flying) < self._crew.room():
            if not self._send(self._waiting):
                return True
        return False

    def _send(self, queue: deque[Task]) -> bool:
        """Begin the next of a queue; False where the pool turned out to be broken."""
        try:
            self.flying[self._crew.submit(self._work, queue[0])] = queue[0]
        except self._crew.deaths:
            return False
        queue.popleft()
        return True

    def _died(self, future: Future[str]) -> bool:
        return not future.cancelled() and isinstance(future.exception(), self._crew.deaths)

    def gather(self, done: list[Future[str]]) -> list[Task]:
        """Keep what was made; the tasks whose workers died.

        Raises:
            CrewError: the cluster went away, or a worker cannot do the work at all.
        """
        dead = []
        for future in done:
            task = self.flying.pop(future)
            if self._died(future):
                dead.append(task)
            elif future.cancelled():
                raise CrewError("the cluster went away; run it again, it goes on")
            elif (error := future.exception()) is not None:  # work tells its own troubles in the record
                what = f"a worker cannot make points ({type(error).__name__}: {error})"
                raise CrewError(f"{what}; is the same carbonfleet installed there?") from error
            else:
                self._keep(task, future.result())
        return dead

    def _blamed(self, task: Task) -> bool:
        """Whether a point that died alone has done so often enough to be recorded as failed."""
        self._deaths[task.key] += 1
        if self._deaths[task.key] < self._crew.tries:
            return False
        what = "its worker died, and again with nothing else under way (killed, or out of memory?)"
        self._keep(task, record(task, FAILED, what))
        return True
