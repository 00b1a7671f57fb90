"""Tensor parallel: one process a GPU, each with its part of the decoder, stepping together over NCCL (gloo on CPUs).

This process only commands: a part that dies or runs out of memory does not take the bench with it. Commands and answers
go through pipes; steps are queued on every rank at once, and a chunk is as long as its slowest rank says.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from calibrate.clock import RealClock
from calibrate.errors import BenchError, DoesNotFit
from calibrate.runners import MemoryInfo
from calibrate.runners.rank import Place, run_rank
from profiles.llm import Llm

ANSWER_S = 600.0  # a large model's weights take a while


@dataclass(slots=True)
class ParallelTicket:
    """A chunk on all ranks."""

    steps: int
    number: int
    work: ParallelWork

    def done(self) -> bool:
        """Whether every rank has finished it."""
        return len(self.work.pump().get(self.number, ())) == self.work.size

    def elapsed_s(self) -> float:
        """Device seconds of the slowest rank."""
        return max(self.work.finished[self.number])


@dataclass(slots=True)
class ParallelWork:
    """One prepared point on all ranks."""

    runner: ParallelRunner
    size: int
    finished: dict[int, list[float]] = field(default_factory=dict)
    queued: int = 0

    def enqueue(self, steps: int) -> ParallelTicket:
        """Queue steps on every rank."""
        self.queued += 1
        self.runner.tell("run", self.queued, steps)
        return ParallelTicket(steps, self.queued, self)

    def pump(self) -> dict[int, list[float]]:
        """Take in what the ranks have said: chunk -> seconds of the ranks that finished it."""
        for number, seconds in self.runner.heard():
            self.finished.setdefault(number, []).append(seconds)
        return self.finished

    def release(self) -> None:
        """Free it on every rank."""
        self.runner.ask("release")


class ParallelRunner:
    """A StepRunner over `uuids` (or as many CPU processes); the ranks start with load().

    Raises:
        BenchError: a rank does not answer or dies.
    """

    engine = "torch-kernels"

    def __init__(self, llm: Llm, device: str, precision: str, uuids: list[str | None], seed: int = 0) -> None:
        from calibrate.runners.torch_llama import check

        check(llm, device, precision, len(uuids))
        self.clock = RealClock()
        self.versions: dict[str, str] = {}
        self._start = (llm, device, precision, seed)
        self._uuids = uuids
        self._pipes: list[Connection] = []
        self._ranks: list[Any] = []

    def load(self) -> None:
        """Start the ranks and put the weights on their devices."""
        context = multiprocessing.get_context("spawn")
        port = _free_port()
        for rank, uuid in enumerate(self._uuids):
            mine, theirs = context.Pipe()
            place = Place(rank, len(self._uuids), port, uuid, *self._start)
            process = context.Process(target=run_rank, args=(theirs, place), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._ranks.append(process)
        self.versions = self.ask("load")[0]

    def prefill(self, new: int, past: int, sequences: int) -> ParallelWork:
        """As TorchRunner's."""
        return self._work("prefill", new, past, sequences)

    def decode(self, batch: int, context: int) -> ParallelWork:
        """As TorchRunner's."""
        return self._work("decode", batch, context)

    def mixed(self, new: int, batch: int, context: int) -> ParallelWork:
        """As TorchRunner's."""
        return self._work("mixed", new, batch, context)

    def memory(self) -> MemoryInfo:
        """All ranks' together."""
        parts = self.ask("memory")
        totals = [part.total_bytes for part in parts]
        return MemoryInfo(
            max(totals) if self._start[1] == "cpu" else sum(totals),  # processes of one machine share its memory
            sum(part.weights_bytes for part in parts),
            sum(part.workspace_bytes for part in parts),
        )

    def close(self) -> None:
        """End the ranks."""
        for pipe in self._pipes:
            try:
                pipe.send(("close",))
            except OSError:
                continue
        for process in self._ranks:
            process.join(timeout=10.0)
            if process.is_alive():
                process.terminate()
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._ranks = [], []

    def tell(self, *command: Any) -> None:
        """Send a command to every rank."""
        for rank, pipe in enumerate(self._pipes):
            try:
                pipe.send(command)
            except OSError as error:
                raise _died(rank) from error

    def ask(self, *command: Any) -> list[Any]:
        """Send a command and gather every rank's answer; what they had still to say of finished chunks is dropped.

        Raises:
            DoesNotFit: a rank's memory does not suffice.
            BenchError: a rank failed or is silent.
        """
        self.tell(*command)
        answers = [self._answer(rank) for rank in range(len(self._pipes))]
        for kind, value in answers:
            if kind == "error":
                raise BenchError(f"a tensor-parallel rank failed: {value}")
        if any(kind == "too big" for kind, _ in answers):
            self.tell("release")
            for rank in range(len(self._pipes)):
                self._answer(rank)
            raise DoesNotFit(next(value for kind, value in answers if kind == "too big"))
        return [value for _, value in answers]

    def heard(self) -> list[tuple[int, float]]:
        """Chunks that ranks have reported finished since the last call."""
        found = []
        for rank, pipe in enumerate(self._pipes):
            try:
                while pipe.poll():
                    kind, *said = pipe.recv()
                    if kind != "done":
                        raise BenchError(f"tensor-parallel rank {rank} failed: {said[0]}")
                    found.append((said[0], said[1]))
            except (EOFError, OSError) as error:
                raise _died(rank) from error
        return found

    def _answer(self, rank: int) -> tuple[str, Any]:
        pipe, end = self._pipes[rank], time.monotonic() + ANSWER_S
        try:
            while time.monotonic() < end:
                if pipe.poll(1.0):
                    message = pipe.recv()
                    if message[0] != "done":
                        return message[0], message[1]
                elif not self._ranks[rank].is_alive():
                    raise _died(rank)
        except (EOFError, OSError) as error:
            raise _died(rank) from error
        raise BenchError(f"tensor-parallel rank {rank} is silent for {ANSWER_S:g} s; the others wait for it")

    def _work(self, *point: Any) -> ParallelWork:
        self.ask("work", *point)
        return ParallelWork(self, len(self._pipes))


def _died(rank: int) -> BenchError:
    return BenchError(
        f"tensor-parallel rank {rank} died; its memory or driver gave out: start again with the checkpoint"
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
