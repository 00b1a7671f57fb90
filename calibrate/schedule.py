"""The order of work: warm up, find the points worth measuring, then every window not yet held, shuffled."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from calibrate import adaptive
from calibrate.adaptive import Row
from calibrate.checkpoint import Checkpoint
from calibrate.errors import DoesNotFit
from calibrate.meter import THERMAL, State
from calibrate.points import Point
from calibrate.protocol import Bench, Window
from calibrate.runners import StepRunner, Work

RETRIES = 2  # of a window in which the GPU slowed down for heat
COOL_S, COOL_MAX_S = 5.0, 120.0
MOST_ADDED = 10  # rows beyond the first, a phase


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being measured now: `done` of `total` windows, the point, how the device feels, seconds to go."""

    done: int
    total: int
    label: str
    power_w: float | None
    state: State
    eta_s: float | None


class Schedule:
    """One run over one device; windows already in the record are not measured again."""

    def __init__(
        self,
        bench: Bench,
        runner: StepRunner,
        record: Checkpoint,
        seed: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._bench, self._runner, self._record = bench, runner, record
        self._seed, self._progress = seed, progress
        self._dice = random.Random(seed + 1)
        self._too_big: set[Point] = set()
        self._begun = bench.clock.now()
        self._made = 0
        self._warm = False

    def repeats(self, points: Sequence[Point]) -> None:
        """Every window that the record does not hold yet, in shuffled order."""
        order = _order(list(points), self._bench.timing.repeats, self._seed)
        held = {label: len(windows) for label, windows in self._record.windows.items()}
        todo = []
        for point in order:
            if held.get(point.label, 0):
                held[point.label] -= 1
            else:
                todo.append(point)
        self._warm_up(points if todo else [])
        for number, point in enumerate(todo):
            self._tell(len(order) - len(todo) + number, len(order), point.label)
            self._measure(point)
        self._tell(len(order), len(order), "done")

    def explore(self, candidates: Sequence[Row]) -> list[Point]:
        """A few rows over the whole axis, then the row that would teach most, until the lines foretell two in a row.

        Each point is measured once; `repeats` adds the rest. What was found out is noted.
        """
        begun = adaptive.first(candidates)
        self._warm_up([point for row in candidates for point in row.points])
        visited = [row for row in begun if self._row(row, "first")]
        surprises: list[float] = []
        queue: list[Row] = []
        tried = set(begun)
        while len(surprises) < MOST_ADDED and not adaptive.settled(self._known(visited), candidates, surprises):
            known = self._known(visited)
            chosen = (
                queue.pop(0)
                if queue
                else adaptive.choose(
                    known, [row for row in candidates if row not in tried or row in visited], surprises
                )
            )
            if chosen is None:
                break
            tried.add(chosen)
            if not self._row(chosen, "adding"):
                continue
            visited.append(chosen)
            known = self._known(visited)
            surprises.append(adaptive.surprise(known, candidates, chosen))
            if surprises[-1] > adaptive.REGIME:
                queue += [row for row in adaptive.beside(known, candidates, chosen) if row not in {*tried, *queue}]
        if candidates:
            self._record.add_note(_spent(candidates[0].points[0].phase, len(visited), len(candidates), surprises))
        return [point for row in visited for point in row.points]

    def _row(self, row: Row, why: str) -> bool:
        """Measure a row's points that the record lacks; False where one of them cannot be."""
        for point in row.points:
            if point.label not in self._record.windows:
                self._tell(self._made, self._made + 2, f"{why}: {point.label}")
                self._measure(point)
        return all(point.label in self._record.windows for point in row.points)

    def _known(self, visited: Sequence[Row]) -> dict[Point, float]:
        """First windows of the rows visited so far: a resumed run takes the same path."""
        windows = self._record.windows
        return {point: windows[point.label][0].time_s for row in visited for point in row.points}

    def _measure(self, point: Point) -> None:
        """One window; a GPU that slowed down for heat is let cool and asked again, out of memory is noted."""
        if point in self._too_big:
            return
        try:
            for attempt in range(1 + RETRIES):
                window = self._window(point)
                hot = any(flag.startswith("invalid") for flag in window.flags)
                if not hot or attempt == RETRIES or not self._cool():
                    break
        except DoesNotFit:
            self._too_big.add(point)
            self._record.add_note(f"{point.label} skipped: out of memory")
            return
        self._record.add(point.label, window, self._bench.samples)
        self._made += 1

    def _window(self, point: Point) -> Window:
        with _prepared(self._runner, point) as work:
            return self._bench.window(work, jitter_s=self._dice.random() * self._bench.period_s)

    def _cool(self) -> bool:
        """Rest until the slowdown is over; False where it does not end."""
        clock, waited = self._bench.clock, 0.0
        while waited < COOL_MAX_S:
            clock.sleep(COOL_S)
            waited += COOL_S
            if not self._bench.meter.state().reasons & THERMAL:
                return True
        return False

    def _warm_up(self, points: Sequence[Point]) -> None:
        """The heaviest prefill that fits, until the temperature is flat; the counter's period is measured under it."""
        if self._warm or not points:
            return
        self._warm = True
        for point in sorted(points, key=lambda p: p.step_tokens, reverse=True):
            try:
                with _prepared(self._runner, point) as work:
                    self._bench.warm_up(work)
                    self._bench.measure_period(work)
                return
            except DoesNotFit:
                continue

    def _tell(self, done: int, total: int, label: str) -> None:
        if self._progress:
            spent = self._bench.clock.now() - self._begun
            eta = spent / self._made * (total - done) if self._made else None
            meter = self._bench.meter
            self._progress(Progress(done, total, label, meter.power_w(), meter.state(), 0.0 if done == total else eta))


def _spent(phase: str, measured: int, candidates: int, surprises: Sequence[float]) -> str:
    last = ", ".join(f"{100 * value:.1f} %" for value in surprises[-2:])
    told = f"; the last ones added were off straight lines between the others by {last}" if last else ""
    what = "prompt lengths" if phase == "prefill" else "batches"
    return f"{phase}: {measured} of {candidates} candidate {what} measured{told}"


def _order(points: list[Point], repeats: int, seed: int) -> list[Point]:
    """Every point `repeats` times, shuffled; the first decode point again at both ends and in the middle (drift)."""
    order = [point for point in points for _ in range(repeats)]
    random.Random(seed).shuffle(order)
    control = next((point for point in points if point.phase == "decode"), None)
    if control is None:
        return order
    half = len(order) // 2
    return [control, *order[:half], control, *order[half:], control]


@contextmanager
def _prepared(runner: StepRunner, point: Point) -> Iterator[Work]:
    """The point's work, released afterwards whatever happens."""
    if point.phase == "decode":
        work = runner.decode(point.sequences, point.context)
    elif point.phase == "mixed":
        work = runner.mixed(point.new, point.sequences, point.context)
    else:
        work = runner.prefill(point.new, point.context, point.sequences)
    try:
        yield work
    finally:
        work.release()
