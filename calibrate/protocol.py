"""The window protocol: how one point's time and power are measured so that the figure can be defended.

Steps run back to back, two chunks always in flight, so the device never waits for the host. The window begins and
ends on a tick of the energy counter while that work goes on: power is the counter's difference over the time between
the ticks, free of the counter's own granularity, and the step's time is the device's own clock over the chunks.
Instantaneous power polled meanwhile is the second opinion. Practice: arXiv 2312.02741 (long windows, whole sensor
periods), zeus (counter differences around a synchronised device).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from calibrate.clock import Clock
from calibrate.errors import BenchError
from calibrate.meter import POWER_CAP, Meter, Sample, State, reason_flags
from calibrate.runners import Ticket, Work

CHUNK_S = 0.05  # steps are queued and timed in chunks of about this long
POLL_S = 0.025  # 40 Hz: power, between ticks
TICK_POLL_S = 0.001  # the counter, while waiting for a tick
STATE_S = 0.5  # temperature, clocks and clock-event reasons
BLOCKS = 8  # the window is cut into this many blocks to see its own scatter
MAX_CHUNK = 4096
SAME_METERS = 0.05  # counter and polled power may differ by this much before the point is flagged
STEADY_CLOCK = 0.02
STEADY_TEMPERATURE_C = 5.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long everything takes. Defaults are the full protocol; QUICK is one short repeat."""

    repeats: int = 3
    window_s: float = 5.0
    window_periods: float = 50.0
    window_steps: int = 32
    window_max_s: float = 60.0
    settle_s: float = 2.0  # the same work, before the window opens
    warm_up_min_s: float = 10.0
    warm_up_max_s: float = 60.0
    idle_rest_s: float = 10.0
    idle_s: float = 20.0
    period_probe_s: float = 2.0

    def length_s(self, period_s: float, step_s: float) -> float:
        """Seconds a window must last for this counter and this step."""
        needed = max(self.window_s, self.window_periods * period_s, self.window_steps * step_s)
        return min(needed, max(self.window_max_s, 2 * step_s))


FULL = Timing()
QUICK = Timing(1, 1.5, 15.0, 8, 3.0, 1.0, 2.0, 10.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Window:
    """One window over one point: mean step time and power, their scatter inside it, and what befell meanwhile."""

    time_s: float
    power_w: float
    time_sem_rel: float
    power_sem_rel: float
    polled_w: float | None
    duration_s: float
    steps: int
    temperature_c: float | None
    sm_clock_mhz: float | None
    flags: list[str]
    tokens: float | None = None  # where a server decides: the mean context of a decode, the new tokens of a prefill
    context: float | None = None  # of the batch beside a prefill


@dataclass(frozen=True, slots=True)
class IdleWindow:
    """Mean watts over a window without work."""

    power_w: float
    duration_s: float


class _Stream:
    """One point's work kept going: two chunks in flight, finished ones recorded as (steps, seconds)."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self._work, self._clock = work, clock
        self._flying: deque[Ticket] = deque()
        for _ in range(3):  # first calls: allocator, caches, clocks
            first = work.enqueue(1)
            while not first.done():
                clock.sleep(TICK_POLL_S)
        self.step_s = max(first.elapsed_s(), 1e-7)
        self._chunk = min(MAX_CHUNK, max(1, round(CHUNK_S / self.step_s)))
        self.done: list[tuple[int, float]] = []

    def tend(self) -> None:
        """Record what is finished and keep two chunks queued."""
        while self._flying and self._flying[0].done():
            ticket = self._flying.popleft()
            self.done.append((ticket.steps, ticket.elapsed_s()))
        while len(self._flying) < 2:
            self._flying.append(self._work.enqueue(self._chunk))

    def pause(self, seconds: float) -> None:
        """Tend, then let time pass while the device works; a device that has run dry (a CPU) is not left to idle."""
        self.tend()
        if not self._flying[-1].done():
            self._clock.sleep(seconds)

    def steps(self) -> int:
        """Steps recorded since the window opened."""
        return sum(steps for steps, _ in self.done)

    def drain(self) -> None:
        """Let the device finish what is queued, unrecorded."""
        while self._flying:
            if self._flying[0].done():
                self._flying.popleft()
            else:
                self._clock.sleep(TICK_POLL_S)


class Bench:
    """One meter and one clock under one Timing; see the module's text.

    Args:
        meter: the power source.
        clock: the clock the meter and the runner share.
        timing: how long things take.
    """

    def __init__(self, meter: Meter, clock: Clock, timing: Timing) -> None:
        self.meter, self.clock, self.timing = meter, clock, timing
        self.period_s = 0.0  # of the energy counter, once measured
        self.samples: list[Sample] = []  # of the latest window

    def measure_period(self, work: Work) -> float:
        """Seconds between the counter's ticks under load (median), kept for the windows; 0 without a counter."""
        if self.meter.kind == "estimate":  # a sum, it moves at every reading
            return 0.0
        stream = _Stream(work, self.clock)
        ticks: list[float] = []
        end = self.clock.now() + self.timing.period_probe_s
        while self.clock.now() < end:
            at, energy = self._tick(stream.pause)
            if energy is None:
                break
            ticks.append(at)
        stream.drain()
        gaps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
        self.period_s = statistics.median(gaps) if gaps else 0.0
        return self.period_s

    def warm_up(self, work: Work) -> float:
        """Run `work` until the temperature rises less than 0.5 C in 5 s, or the time is up; returns the seconds."""
        stream = _Stream(work, self.clock)
        start = self.clock.now()
        mark, before = start, self.meter.state().temperature_c
        while (spent := self.clock.now() - start) < self.timing.warm_up_max_s:
            stream.pause(POLL_S)
            if self.clock.now() - mark >= 5.0:
                mark, last, before = self.clock.now(), before, self.meter.state().temperature_c
                flat = last is None or before is None or before - last < 0.5
                if flat and spent >= self.timing.warm_up_min_s:
                    break
            if before is None and spent >= self.timing.warm_up_min_s:
                break
        stream.drain()
        return self.clock.now() - start

    def idle(self) -> IdleWindow:
        """Mean power without work, after a rest."""
        self.clock.sleep(self.timing.idle_rest_s)
        begin, first = self._tick(self.clock.sleep)
        polled: list[float] = []
        while self.clock.now() - begin < self.timing.idle_s:
            _collect(polled, self.meter.power_w())
            self.clock.sleep(POLL_S)
        end, last = self._tick(self.clock.sleep)
        return IdleWindow(_power(first, last, end - begin, polled), end - begin)

    def window(self, work: Work, jitter_s: float = 0.0) -> Window:
        """Measure one point once; `jitter_s` of rest first, so that repeats meet the sensor at other phases.

        Raises:
            BenchError: the counter ran backwards (the driver was reset) or no power could be read.
        """
        self.clock.sleep(jitter_s)
        stream = _Stream(work, self.clock)
        settled = self.clock.now() + self.timing.settle_s
        while self.clock.now() < settled:
            stream.pause(POLL_S)
        length = self.timing.length_s(self.period_s, stream.step_s)
        begin, first = self._tick(stream.pause)
        stream.done.clear()
        watch = _Watch(self.meter, begin)
        while self.clock.now() - begin < length or not stream.done:
            stream.pause(POLL_S)
            watch.look(self.clock.now())
        end, last = self._tick(stream.pause)
        stream.drain()
        self.samples = watch.samples
        return self._judge(stream, watch, end - begin, first, last)

    def _judge(
        self, stream: _Stream, watch: _Watch, duration_s: float, first: float | None, last: float | None
    ) -> Window:
        steps = stream.steps()
        power = _power(first, last, duration_s, watch.polled)
        polled = statistics.fmean(watch.polled) if watch.polled else None
        flags = watch.flags()
        if first is None or last is None:
            flags.append("polled power")
        elif polled is not None and abs(polled - power) > SAME_METERS * power:
            flags.append("meters differ")
        periods = max(2.0, duration_s / self.period_s) if self.period_s else max(2.0, float(len(watch.polled)))
        return Window(
            time_s=sum(seconds for _, seconds in stream.done) / steps,
            power_w=power,
            time_sem_rel=block_sem_rel([seconds / n for n, seconds in stream.done]),
            power_sem_rel=_spread_rel(watch.polled) / math.sqrt(min(periods, max(2.0, float(len(watch.polled))))),
            polled_w=polled,
            duration_s=duration_s,
            steps=steps,
            temperature_c=watch.temperatures[-1] if watch.temperatures else None,
            sm_clock_mhz=statistics.fmean(watch.clocks) if watch.clocks else None,
            flags=flags,
        )

    def _tick(self, pause: Callable[[float], None]) -> tuple[float, float | None]:
        """Wait for the counter to change: (when, joules), or (now, None) without a counter that moves."""
        before = self.meter.energy_j()
        give_up = self.clock.now() + max(2.0, 5 * self.period_s)
        while before is not None and self.clock.now() < give_up:
            pause(TICK_POLL_S)
            energy = self.meter.energy_j()
            if energy != before:
                return self.clock.now(), energy
        return self.clock.now(), None


class _Watch:
    """Polled power, clocks, temperatures and clock-event reasons over one window."""

    def __init__(self, meter: Meter, begin: float) -> None:
        self._meter, self._next_state = meter, begin
        self.polled: list[float] = []
        self.clocks: list[float] = []
        self.temperatures: list[float] = []
        self.reasons: set[str] = set()
        self.samples: list[Sample] = []
        self._state = State()
        meter.power_w()  # a meter that reports the mean since its last reading starts afresh

    def look(self, now: float) -> None:
        """Poll power, and the state when it is due."""
        power_w = self._meter.power_w()
        _collect(self.polled, power_w)
        if now >= self._next_state:
            self._next_state = now + STATE_S
            state = self._state = self._meter.state()
            _collect(self.clocks, state.sm_clock_mhz)
            _collect(self.temperatures, state.temperature_c)
            self.reasons |= state.reasons
        self.samples.append(Sample(now, None, power_w, self._state.sm_clock_mhz, self._state.temperature_c))

    def flags(self) -> list[str]:
        """What befell: thermal or hardware slowdown makes the point invalid, the rest is kept and said."""
        found = reason_flags(self.reasons)
        if POWER_CAP not in self.reasons and _spread_rel(self.clocks) > STEADY_CLOCK:
            found.append("clock unsteady")
        if self.temperatures and max(self.temperatures) - self.temperatures[0] > STEADY_TEMPERATURE_C:
            found.append("temperature rising")
        return found


def _power(first: float | None, last: float | None, duration_s: float, polled: list[float]) -> float:
    """Watts from the counter where it ticked at both ends, else the mean of the polled power."""
    if first is not None and last is not None:
        if last < first:
            raise BenchError("the energy counter ran backwards (driver reset?); start again with the checkpoint")
        return (last - first) / duration_s
    if not polled:
        raise BenchError("no power could be read; check nvidia-smi, or use --runner fake")
    return statistics.fmean(polled)


def _collect(into: list[float], value: float | None) -> None:
    if value is not None:
        into.append(float(value))


def _spread_rel(values: list[float]) -> float:
    """Standard deviation over mean; 0 where there is nothing to tell."""
    mean = statistics.fmean(values) if values else 0.0
    return statistics.stdev(values) / mean if len(values) > 1 and mean > 0 else 0.0


def block_sem_rel(values: list[float]) -> float:
    """Relative standard error of the mean from means of consecutive blocks, which keeps short correlations in."""
    size = max(1, len(values) // BLOCKS)
    blocks = [statistics.fmean(values[i : i + size]) for i in range(0, len(values) - size + 1, size)]
    return _spread_rel(blocks) / math.sqrt(len(blocks)) if blocks else 0.0
