"""measure_server(): a live OpenAI-compatible server in, a profile of layer `step` out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibrate.bench import MEMORY_SHARE, kv_capacity
from calibrate.checkpoint import Checkpoint
from calibrate.client import Prompter, Server, ServerError
from calibrate.clock import RealClock
from calibrate.errors import BenchError
from calibrate.meter import Device, Meter
from calibrate.points import Point, decode, prefill
from calibrate.protocol import IdleWindow, Window
from calibrate.raw import write_samples
from calibrate.sampler import Sampler
from calibrate.schedule import Progress
from calibrate.server_profile import assemble, mixed_label
from calibrate.serving import FEW_TOKENS, Pace, ServerBench
from profiles.llm import Llm
from profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class ServerGrid:
    """Batches and contexts of the decode points, new tokens of the prefill points, mixes of closed-loop load."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    contexts: tuple[int, ...] = (512, 2048)
    prompts: tuple[int, ...] = (64, 256, 512, 1024, 2048)
    mixed_batches: tuple[int, ...] = (4, 32)
    mixes: tuple[tuple[int, int], ...] = ((1024, 1), (512, 8), (256, 64), (64, 64), (64, 256), (16, 256))

    def within(self, max_batch: int, max_chunk: int, kv_capacity_tokens: int) -> ServerGrid:
        """What the server can run: batches, chunks that fit one step, contexts that fit the memory."""
        fits = tuple(b for b in self.batches if b <= max_batch)
        chunks = (*(n for n in self.prompts if n < max_chunk), max_chunk)
        contexts = tuple(c for c in self.contexts if 2 * c * max(fits) <= kv_capacity_tokens) or self.contexts[:1]
        mixes = tuple((min(prompt, max_chunk), output) for prompt, output in self.mixes)
        return ServerGrid(fits, contexts, chunks, tuple(b for b in self.mixed_batches if b <= max_batch), mixes)


def measure_server(
    llm: Llm,
    server: Server,
    meter: Meter,
    *,
    engine: str,
    kv_capacity_tokens: int | None = None,
    gpu: str | None = None,
    tp: int = 1,
    precision: str = "bf16",
    max_batch: int = 64,
    max_chunk: int = 2048,
    grid: ServerGrid | None = None,
    pace: Pace | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    raw: Path | None = None,
    date: str | None = None,
    seed: int = 0,
) -> Profile:
    """Measure a running server with the meter beside it.

    Args:
        llm: what the server serves: for its bytes and vocabulary.
        engine: the engine's name and version, for the profile.
        kv_capacity_tokens: KV tokens the server holds; predicted from the GPU's memory where left out.
        gpu: the GPU's catalogue name where the meter does not see it.
        tp: GPUs of the server; the meter must be their sum.
        raw: a Parquet file for the meter's raw samples.
        max_batch: most sequences the server runs at once. max_chunk: its token budget of a step.

    Raises:
        ServerError: the server does not answer, refuses, or runs no point.
        BenchError, InputError: the meter fails, a checkpoint of another run.
    """
    about = meter.device()
    for refusal in meter.refusals(shared=True):
        raise BenchError(f"{about.name}: {refusal}")
    capacity, predicted = kv_capacity_tokens, kv_capacity_tokens is None
    if capacity is None:
        capacity = _predicted_capacity(llm, precision, about)
    grid = (grid or ServerGrid()).within(max_batch, max_chunk, capacity)
    pace = pace or Pace()
    identity: dict[str, Any] = {"model": llm.name, "runner": "openai", "url": server.url, "engine": engine}
    identity |= {"device": about.uuid, "power_limit_w": about.power_limit_w, "seed": seed}
    record = Checkpoint(checkpoint, _plain(identity | {"pace": asdict(pace), "grid": asdict(grid)}))
    if predicted:
        record.add_note(f"KV room of {capacity:,} tokens is predicted: {MEMORY_SHARE:g} of the memory less the weights")
    with Sampler(meter, RealClock()) as sampler:
        points = asyncio.run(_measure(llm, server, sampler, record, grid, pace, progress, seed))
    made = assemble(llm, meter, record, points, capacity, engine, gpu, tp, precision, date)
    if raw is not None:
        write_samples(record, raw)
    return made


async def _measure(
    llm: Llm,
    server: Server,
    sampler: Sampler,
    record: Checkpoint,
    grid: ServerGrid,
    pace: Pace,
    progress: Callable[[Progress], None] | None,
    seed: int,
) -> list[Point]:
    """Every window that the record lacks; the points that the server can run."""
    try:
        await server.open()
        prompter = Prompter(llm.vocab, seed)
        await prompter.fit(server)
        bench = ServerBench(server, prompter, sampler, pace)
        points = [prefill(FEW_TOKENS), *map(prefill, grid.prompts)]
        points += [decode(batch, context) for batch in grid.batches for context in grid.contexts]
        for point in points:
            bench.learn(point, record.windows.get(point.label, []))
        if "loaded" not in record.idle:
            watts = await bench.idle_w()
            record.add_idle("loaded", IdleWindow(watts or 0.0, pace.idle_s))
        works: list[tuple[str, Callable[[], Awaitable[Window]]]] = []
        for turn in range(pace.repeats):
            order = list(points)
            if turn:
                random.Random(seed + turn).shuffle(order)
            works += [(point.label, _work(bench, point)) for point in order]
        for batch in grid.mixed_batches:
            works += [(mixed_label(n, batch), _mixed_work(bench, n, batch, grid.contexts[0])) for n in grid.prompts[1:]]
        await _run(works, record, sampler, progress)
        for prompt, output in grid.mixes:
            label = f"mix {prompt} + {output}"
            if label not in record.mixes and record.idle["loaded"].power_w:
                mix = await bench.mix(prompt, output, grid.batches[len(grid.batches) // 2])
                if mix is not None:
                    record.add_mix(label, mix)
        return points
    finally:
        await server.close()


async def _run(
    works: list[tuple[str, Callable[[], Awaitable[Window]]]],
    record: Checkpoint,
    sampler: Sampler,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Each window in turn; one that the server cannot run is noted and left out."""
    held = {label: len(windows) for label, windows in record.windows.items()}
    clock, given_up = RealClock(), set[str]()
    began = clock.now()
    for number, (label, work) in enumerate(works):
        if held.get(label, 0) > 0:
            held[label] -= 1
            continue
        if progress:
            eta = (clock.now() - began) / number * (len(works) - number) if number else None
            last = sampler.samples[-1] if sampler.samples else None
            progress(Progress(number, len(works), label, last.power_w if last else None, sampler.state, eta))
        if label in given_up:
            continue
        mark = len(sampler.samples)
        try:
            window = await work()
            record.add(label, window, sampler.samples[mark:])
        except ServerError as error:
            if not record.windows:
                raise
            given_up.add(label)
            record.add_note(f"{label} left out: {error}")
        sampler.check()


def _work(bench: ServerBench, point: Point) -> Callable[[], Awaitable[Window]]:
    if point.phase == "decode":
        return lambda: bench.decode(point.sequences, point.context)
    return lambda: bench.prefill(point.new)


def _mixed_work(bench: ServerBench, new: int, batch: int, context: int) -> Callable[[], Awaitable[Window]]:
    return lambda: bench.mixed(new, batch, context)


def _predicted_capacity(llm: Llm, precision: str, about: Device) -> int:
    if about.memory_bytes is None:
        raise BenchError("the KV room is unknown: the meter sees no memory; give --kv-capacity-tokens")
    return kv_capacity(llm, precision, about.memory_bytes, llm.weights_bytes(precision))


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON: tuples are lists there."""
    import json

    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain
