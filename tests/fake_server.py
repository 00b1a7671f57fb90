"""An OpenAI-compatible server with known physics on a real socket: what calibrate and the load generator are tested on.

Continuous batching: every step takes STEP_S + SEQUENCE_S for each running request + TOKEN_S for each prompt token that
is prefilled in it, and draws IDLE_W all the time, PROMPT_J for each prompt token and OUTPUT_J for each output token.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from calibrate.meter import Device, Kind, State

STEP_S, SEQUENCE_S, TOKEN_S = 0.016, 0.001, 0.0002
IDLE_W, PROMPT_J, OUTPUT_J = 10.0, 0.02, 0.2


@dataclass
class Job:
    """One request in the engine."""

    prompt: int
    left: int
    pieces: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    prefilled: bool = False


class FakeServer:
    """The engine; `mode` breaks it in a known way."""

    def __init__(self, mode: str = "") -> None:
        self.mode, self.joules = mode, 0.0
        self._began = time.perf_counter()
        self._jobs: list[Job] = []
        self.seen: list[dict[str, Any]] = []

    def energy_j(self) -> float:
        """Joules since it began."""
        return self.joules + IDLE_W * (time.perf_counter() - self._began)

    async def engine(self) -> None:
        """Steps for ever."""
        while True:
            if not self._jobs:
                await asyncio.sleep(0.001)
                continue
            running = list(self._jobs)
            new = sum(job.prompt for job in running if not job.prefilled)
            due = time.perf_counter() + STEP_S + SEQUENCE_S * len(running) + TOKEN_S * new
            while (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait if wait > 0.002 else 0)
            for job in running:
                self.joules += OUTPUT_J + (0.0 if job.prefilled else PROMPT_J * job.prompt)
                job.prefilled, job.left = True, job.left - 1
                job.pieces.put_nowait(job.left)
                if job.left == 0:
                    self._jobs.remove(job)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        body = await request.json()
        self.seen.append(body)
        if self.mode == "refuses":
            return web.json_response({"error": "no such model"}, status=404)
        if self.mode == "strict" and ("ignore_eos" in body or "min_tokens" in body):
            return web.json_response({"detail": "unexpected fields"}, status=422)
        if self.mode == "text" and isinstance(body["prompt"], list):
            return web.json_response({"detail": "prompt must be text"}, status=422)
        prompt = body["prompt"]
        job = Job(len(prompt) if isinstance(prompt, list) else 3 + 2 * len(prompt.split()), int(body["max_tokens"]))
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        self._jobs.append(job)
        asked = job.left
        while (left := await job.pieces.get()) >= 0:
            if self.mode == "breaks" and left < asked // 2:
                assert request.transport is not None
                request.transport.close()
                return answer
            event: dict[str, Any] = {"choices": [{"index": 0, "text": "x"}]}
            await answer.write(f"data: {json.dumps(event)}\n\n".encode())
            if left == 0:
                break
        if self.mode != "no usage":
            usage = {"prompt_tokens": job.prompt, "completion_tokens": asked}
            await answer.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
        await answer.write(b"data: [DONE]\n\n")
        return answer


class ServerMeter:
    """The fake server's energy as a counter that moves every 20 ms."""

    kind: Kind = "nvml"
    gain_rel = 0.05

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._held = (0.0, 0.0)

    def device(self) -> Device:
        return Device("NVIDIA H100 80GB HBM3", "GPU-fake", 80e9, 700.0, "test")

    def refusals(self, shared: bool = False) -> list[str]:
        return [] if shared else ["other processes use the GPU (pid 1); stop them first"]  # the server itself

    def has_context(self) -> bool:
        return False

    def energy_j(self) -> float:
        now = time.perf_counter()
        if now - self._held[0] >= 0.02:
            self._held = (now, self._server.energy_j())
        return self._held[1]

    def power_w(self) -> None:
        return

    def state(self) -> State:
        return State(50.0, 1980.0)

    def close(self) -> None:
        return


@contextmanager
def serving(mode: str = "") -> Iterator[tuple[str, FakeServer]]:
    """The server on a free port of this machine, in a thread."""
    fake, ready = FakeServer(mode), threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/completions", fake.complete)
        app.router.add_get("/v1/models", _models)
        runner = web.AppRunner(app, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found["port"] = runner.addresses[0][1]
        engine = asyncio.create_task(fake.engine())
        ready.set()
        await found["stop"].wait()
        engine.cancel()
        await asyncio.gather(engine, return_exceptions=True)
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found['port']}", fake
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(10)


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "fake"}]})
