"""A thread that reads a meter at 40 Hz while something else keeps the device busy; its samples are the raw record."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter

from calibrate.clock import Clock
from calibrate.meter import Meter, Sample, State, reason_flags
from calibrate.protocol import POLL_S, STATE_S


@dataclass(frozen=True, slots=True)
class Drawn:
    """Mean watts over a stretch: by the energy counter between its ticks, and as polled; what befell meanwhile."""

    power_w: float | None
    polled_w: float | None
    ticks: int
    temperature_c: float | None
    sm_clock_mhz: float | None
    flags: list[str]


class Sampler:
    """Reads `meter` until closed. The first error of the meter ends it and is raised by `check`."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter, self._clock = meter, clock
        self._stop = threading.Event()
        self.samples: list[Sample] = []
        self._reasons: list[tuple[float, frozenset[str]]] = []
        self._error: Exception | None = None
        self.state = State()  # the latest
        self._thread = threading.Thread(target=self._loop, daemon=True, name="meter")

    def __enter__(self) -> Sampler:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def _loop(self) -> None:
        due = self._clock.now()
        try:
            while not self._stop.wait(POLL_S):
                now = self._clock.now()
                if now >= due:
                    self.state, due = self._meter.state(), now + STATE_S
                    self._reasons.append((now, self.state.reasons))
                state = self.state
                energy, power = self._meter.energy_j(), self._meter.power_w()
                self.samples.append(Sample(now, energy, power, state.sm_clock_mhz, state.temperature_c))
        except Exception as error:  # said to whoever waits for the figures, not lost in a thread
            self._error = error

    def drawn(self, begin_s: float, end_s: float) -> Drawn:
        """Watts between two moments of the clock.

        Raises:
            BenchError: the meter failed meanwhile.
        """
        self.check()
        at = attrgetter("at_s")
        part = self.samples[bisect_left(self.samples, begin_s, key=at) : bisect_right(self.samples, end_s, key=at)]
        ticks = [
            (b.at_s, b.energy_j)
            for a, b in zip(part, part[1:], strict=False)
            if a.energy_j is not None and b.energy_j is not None and b.energy_j != a.energy_j
        ]
        counted = None
        if len(ticks) > 1 and ticks[-1][0] > ticks[0][0]:
            counted = (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])
        polled = [sample.power_w for sample in part if sample.power_w is not None]
        clocks = [sample.sm_clock_mhz for sample in part if sample.sm_clock_mhz is not None]
        hot = [sample.temperature_c for sample in part if sample.temperature_c is not None]
        mean_w = sum(polled) / len(polled) if polled else None
        return Drawn(
            power_w=counted if counted is not None else mean_w,
            polled_w=mean_w,
            ticks=len(ticks),
            temperature_c=hot[-1] if hot else None,
            sm_clock_mhz=sum(clocks) / len(clocks) if clocks else None,
            flags=self._flags(begin_s, end_s),
        )

    def _flags(self, begin_s: float, end_s: float) -> list[str]:
        looks = (reasons for at, reasons in self._reasons if begin_s - STATE_S <= at <= end_s)
        return reason_flags({reason for reasons in looks for reason in reasons})
