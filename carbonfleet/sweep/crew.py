"""Workers behind one door (concurrent.futures): processes of this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from concurrent.futures.process import ProcessPoolExecutor
from multiprocessing.connection import wait as wait_for
from typing import Protocol

from carbonfleet.sweep.work import Task
from profiles.inputs import CarbonfleetError

Work = Callable[[Task], str]
STARTS = 3  # pools that may break before they do anything
LOOK_S = 5.0  # between looks at whether a cluster still has workers
EMPTY_S = 60.0  # how long a cluster may be without any
CONNECT_S = 10.0


class CrewError(CarbonfleetError):
    """There is nobody (left) to do the work; points that were made are kept."""


class Crew(Protocol):
    """Who makes points.

    `deaths` are the errors by which a future says that its worker died; a point that dies `tries` times with nothing
    else under way is blamed.
    """

    deaths: tuple[type[BaseException], ...]
    tries: int

    def submit(self, work: Work, task: Task) -> Future[str]:
        """Begin a point."""

    def room(self) -> int:
        """How many points may be under way at once."""

    def falls_together(self) -> bool:
        """Whether one death ends all points under way."""

    def mend(self) -> None:
        """After a death: be able to work again.

        Raises:
            CrewError: it cannot be.
        """

    def look(self) -> None:
        """Called while nothing comes back."""

    def stop(self) -> None:
        """End at once what is under way."""


class Here:
    """Processes of this machine; when one dies the pool is broken with all its points, and a new one is made."""

    deaths: tuple[type[BaseException], ...] = (BrokenExecutor,)
    tries = 2  # once may be somebody else's doing

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._others = set(multiprocessing.active_children())
        self._pool: Executor = self._made()

    def _made(self) -> Executor:
        # spawned, not forked: a solver's threads in this process would not survive a fork
        return ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn"), _begin)

    def submit(self, work: Work, task: Task) -> Future[str]:
        """Begin a point."""
        return self._pool.submit(work, task)

    def room(self) -> int:
        """As many as there are processes, so that few are suspects when one dies."""
        return self._jobs

    def falls_together(self) -> bool:
        """A broken pool loses all it had."""
        return True

    def mend(self) -> None:
        """Take a new pool, and see that its processes begin at all: else every point would be blamed.

        Raises:
            CrewError: they die before they have anything to do.
        """
        for _ in range(STARTS):
            self._pool.shutdown(wait=True)
            self._pool = self._made()
            try:
                self._pool.submit(os.getpid).result()
                return
            except BrokenExecutor:
                continue
        raise CrewError("worker processes die before they begin; is there memory for them?")

    def look(self) -> None:
        """Nothing to see: a pool knows when a process dies."""

    def stop(self) -> None:
        """End the processes: a point may take long, and would be made again in any case."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - self._others:
            child.terminate()
        self._pool.shutdown(wait=True)


def _begin() -> None:
    """In a worker: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def follow() -> None:
            wait_for([sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


class Cluster:
    """The workers of a Dask cluster; its scheduler gives a dead worker's points to others, a few times.

    Raises:
        CrewError: distributed is not installed, or nobody answers at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client, KilledWorker
        except ImportError as error:
            raise CrewError("distributed is not installed; pip install 'carbonfleet[cluster]'") from error
        self.deaths: tuple[type[BaseException], ...] = (KilledWorker,)
        self.tries = 1  # each is several deaths already (distributed.scheduler.allowed-failures)
        self._address = address
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            what = f"no Dask scheduler answers at {address}; start one with `dask scheduler`, or check the address"
            raise CrewError(what) from error
        self._executor = self._client.get_executor(pure=False)
        self._empty_s = 0.0

    def submit(self, work: Work, task: Task) -> Future[str]:
        """Begin a point."""
        future: Future[str] = self._executor.submit(work, task)
        return future

    def room(self) -> int:
        """Two a thread of the workers that are there now, so that none waits for this machine."""
        return max(2, 2 * sum(self._threads().values()))

    def _threads(self) -> dict[str, int]:
        try:
            found: dict[str, int] = self._client.nthreads()
        except (OSError, CancelledError) as error:
            raise CrewError(f"the scheduler at {self._address} went away; run it again, it goes on") from error
        return found

    def falls_together(self) -> bool:
        """A point of another worker goes on."""
        return False

    def mend(self) -> None:
        """Nothing to do: the scheduler has given the points of the dead worker away."""

    def look(self) -> None:
        """Stop waiting for a cluster that has lost all its workers.

        Raises:
            CrewError: it has had none for a while.
        """
        self._empty_s = 0.0 if self._threads() else self._empty_s + LOOK_S
        if self._empty_s >= EMPTY_S:
            what = f"the cluster at {self._address} has no worker; start some and run it again, it goes on"
            raise CrewError(what)

    def stop(self) -> None:
        """Take back what has not begun and leave."""
        self._executor.shutdown(wait=False)
        self._client.close(timeout=CONNECT_S)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
