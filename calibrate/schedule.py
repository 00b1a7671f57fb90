"""The order of work: warm up, then every window not yet held, shuffled, with a control point against drift."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from calibrate.checkpoint import Checkpoint
from calibrate.errors import DoesNotFit
from calibrate.meter import State
from calibrate.points import Point
from calibrate.protocol import Bench
from calibrate.runners import StepRunner, Work


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being measured now: `done` of `total` windows, the point, how the device feels, seconds to go."""

    done: int
    total: int
    label: str
    power_w: float | None
    state: State
    eta_s: float | None


def run(
    bench: Bench,
    runner: StepRunner,
    points: list[Point],
    record: Checkpoint,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Warm up, then every window that the record does not hold yet, in shuffled order."""
    order = _order(points, bench.timing.repeats, seed)
    held = {label: len(windows) for label, windows in record.windows.items()}
    todo = []
    for point in order:
        if held.get(point.label, 0):
            held[point.label] -= 1
        else:
            todo.append(point)
    if not todo:
        return
    _warm_up(bench, runner, points)
    dice, begun = random.Random(seed + 1), bench.clock.now()
    too_big: set[Point] = set()
    for number, point in enumerate(todo):
        if progress:
            spent = bench.clock.now() - begun
            eta = spent / number * (len(todo) - number) if number else None
            done = len(order) - len(todo) + number
            progress(Progress(done, len(order), point.label, bench.meter.power_w(), bench.meter.state(), eta))
        if point in too_big:
            continue
        try:
            with _prepared(runner, point) as work:
                window = bench.window(work, jitter_s=dice.random() * bench.period_s)
        except DoesNotFit:
            too_big.add(point)
            record.add_note(f"{point.label} skipped: out of memory")
            continue
        record.add(point.label, window)
    if progress:
        progress(Progress(len(order), len(order), "done", bench.meter.power_w(), bench.meter.state(), 0.0))


def _order(points: list[Point], repeats: int, seed: int) -> list[Point]:
    """Every point `repeats` times, shuffled; the first decode point again at both ends and in the middle (drift)."""
    order = [point for point in points for _ in range(repeats)]
    random.Random(seed).shuffle(order)
    control = next((point for point in points if point.phase == "decode"), None)
    if control is None:
        return order
    half = len(order) // 2
    return [control, *order[:half], control, *order[half:], control]


def _warm_up(bench: Bench, runner: StepRunner, points: list[Point]) -> None:
    """The heaviest prefill that fits, until the temperature is flat; the counter's period is measured under it."""
    for point in sorted(points, key=lambda p: p.step_tokens, reverse=True):
        try:
            with _prepared(runner, point) as work:
                bench.warm_up(work)
                bench.measure_period(work)
            return
        except DoesNotFit:
            continue


@contextmanager
def _prepared(runner: StepRunner, point: Point) -> Iterator[Work]:
    """The point's work, released afterwards whatever happens."""
    if point.phase == "decode":
        work = runner.decode(point.sequences, point.context)
    else:
        work = runner.prefill(point.new, point.context, point.sequences)
    try:
        yield work
    finally:
        work.release()
