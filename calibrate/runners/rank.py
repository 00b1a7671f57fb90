"""One tensor-parallel process: its part of the decoder, answering the pipe of calibrate/runners/parallel.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from calibrate.errors import DoesNotFit
from profiles.llm import Llm

IDLE_S = 0.0003


@dataclass(frozen=True, slots=True)
class Place:
    """Who a rank is and what it serves."""

    rank: int
    size: int
    port: int
    uuid: str | None
    llm: Llm
    device: str
    precision: str
    seed: int


def run_rank(pipe: Connection, place: Place) -> None:
    """Answer commands until told to close, or until the commander is gone."""
    import signal

    import torch
    import torch.distributed as dist

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the commander's to handle
    if place.device == "cpu":
        torch.set_num_threads(1)
    try:
        _Rank(pipe, place).serve()
    except (EOFError, OSError):
        return
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class _Rank:
    """The works of one rank: at most one prepared point, and its chunks in flight."""

    def __init__(self, pipe: Connection, place: Place) -> None:
        from calibrate.runners.decoder import Shard
        from calibrate.runners.torch_llama import TorchRunner

        self._pipe, self._place = pipe, place
        shard = Shard(place.rank, place.size)
        self._runner = TorchRunner(place.llm, place.device, place.precision, place.uuid, place.seed, shard)
        self._works: list[Any] = []
        self._flying: deque[tuple[int, Any]] = deque()
        self._answers: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "release": self._release,
            "memory": self._runner.memory,
            "work": self._prepare,
        }

    def serve(self) -> None:
        """The loop: commands as they come, finished chunks reported meanwhile."""
        while True:
            if not self._pipe.poll(IDLE_S if self._flying else None):
                self._report()
                continue
            command, *rest = self._pipe.recv()
            if command == "close":
                return
            if command == "run":
                failed = self._try(self._run, rest)
                if failed[0] != "ok":
                    self._pipe.send(failed)
            else:
                self._pipe.send(self._try(self._answers[command], rest))

    def _run(self, number: int, steps: int) -> None:
        self._flying.append((number, self._works[-1].enqueue(steps)))

    def _try(self, what: Callable[..., Any], rest: list[Any]) -> tuple[str, Any]:
        try:
            return "ok", what(*rest)
        except DoesNotFit as error:
            return "too big", str(error)
        except Exception as error:  # told to the commander, who raises it
            return "error", " ".join(f"{type(error).__name__}: {error}".split())[:300]

    def _load(self) -> dict[str, str]:
        import torch.distributed as dist

        self._runner.bind()
        place = self._place
        where, how = f"tcp://127.0.0.1:{place.port}", "gloo" if place.device == "cpu" else "nccl"
        dist.init_process_group(how, where, rank=place.rank, world_size=place.size)
        self._runner.load()
        return self._runner.versions

    def _prepare(self, kind: str, *numbers: int) -> None:
        self._works.append(getattr(self._runner, kind)(*numbers))

    def _release(self) -> None:
        while self._flying:
            self._report()
        while self._works:
            self._works.pop().release()

    def _report(self) -> None:
        """Tell of chunks that are finished, in order."""
        while self._flying and self._flying[0][1].done():
            number, ticket = self._flying.popleft()
            self._pipe.send(("done", number, ticket.elapsed_s()))
