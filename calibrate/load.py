"""An open-loop load generator: a trace's requests sent at their own times, whatever the server does, and logged.

The log is JSON lines with vLLM's stamps, what `simulate --against LOG` reads: `arrival_time` on the epoch clock, the
others on this machine's monotonic clock. A request that the server refuses is counted and said, never dropped silently.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from calibrate.client import Prompter, Reply, Server, ServerError
from profiles.inputs import InputError
from profiles.outputs import OutputError, write_text

LATE_S = 0.05  # a request sent later than this after its time is counted: the generator was too slow


@dataclass(frozen=True, slots=True)
class Sent:
    """What a replay came to."""

    completed: int
    failed: int
    late: int
    first_failure: str | None
    wall_s: float


async def replay(
    server: Server,
    prompter: Prompter,
    arrival_s: Sequence[float],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    log: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Sent:
    """Send each request at its arrival time and write one line for each that completes.

    Raises:
        InputError: columns of different length, or none.
        OutputError: the log cannot be written.
        ServerError: every request failed.
    """
    if not arrival_s or len({len(arrival_s), len(prompt_tokens), len(output_tokens)}) > 1:
        raise InputError("nothing to replay: give as many arrivals as lengths", field="trace")
    prompts = [prompter.make(count) for count in prompt_tokens]  # before the clock starts
    state = _State(log, len(prompts), progress)
    began = time.perf_counter()
    try:
        tasks = []
        for number, at in enumerate(arrival_s):
            wait = began + at - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            state.late += time.perf_counter() - began - at > LATE_S
            tasks.append(asyncio.create_task(_one(server, state, number, prompts[number], output_tokens[number])))
        await asyncio.gather(*tasks)
    finally:
        state.close()
    state.sort()
    if not state.completed:
        raise ServerError(f"no request completed; the first failed: {state.first_failure}")
    return Sent(state.completed, state.failed, state.late, state.first_failure, time.perf_counter() - began)


class _State:
    """Counts and the open log."""

    def __init__(self, log: Path, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.completed = self.failed = self.late = 0
        self.first_failure: str | None = None
        self._total, self._progress, self._log = total, progress, log
        self._epoch_s = time.time() - time.perf_counter()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[str] = log.open("w", encoding="utf-8", buffering=1)  # line by line: nothing lost
        except OSError as error:
            raise OutputError(f"{log}: cannot be written ({error.strerror})") from error

    def keep(self, number: int, reply: Reply) -> None:
        """One completed request."""
        row: dict[str, Any] = {
            "request_id": f"load-{number}",
            "input_toks": reply.prompt_tokens,
            "output_toks": reply.output_tokens,
            "arrival_time": self._epoch_s + reply.sent_s,
            "queued_ts": reply.sent_s,
            "scheduled_ts": reply.sent_s,
            "first_token_ts": reply.first_s,
            "last_token_ts": reply.last_s,
        }
        try:
            self._stream.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(f"{self._log}: cannot be written ({error.strerror})") from error
        self.completed += 1
        self._tell()

    def fail(self, error: ServerError) -> None:
        """One that failed."""
        self.failed += 1
        self.first_failure = self.first_failure or str(error)
        self._tell()

    def _tell(self) -> None:
        if self._progress:
            self._progress(self.completed + self.failed, self._total)

    def sort(self) -> None:
        """Put the log's lines into order of arrival; until here they stood as they were completed."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        lines.sort(key=lambda line: float(json.loads(line)["arrival_time"]))
        write_text(self._log, "".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        """Close the log."""
        self._stream.close()


async def _one(server: Server, state: _State, number: int, prompt: str | list[int], output_tokens: int) -> None:
    try:
        reply = await server.complete(prompt, output_tokens)
    except ServerError as error:
        state.fail(error)
        return
    state.keep(number, reply)
