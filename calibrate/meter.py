"""Meters behind one small interface: what a device is, what it has used, what it draws and how it feels.

NVML is in calibrate/nvml.py, RAPL, wall meters, sums and none in calibrate/meters.py, the simulated sensor in
calibrate/runners/fake.py; here are the interface and the estimate for machines without any sensor.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from calibrate.clock import Clock

POWER_CAP = "sw_power_cap"  # normal for prefill: the point is kept and flagged
Kind = Literal["nvml", "rapl", "csv", "estimate", "none", "fake"]
THERMAL = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"})  # the point is invalid


@dataclass(frozen=True, slots=True)
class Device:
    """What is being metered, as recorded in the profile; None where the device does not tell."""

    name: str
    uuid: str
    memory_bytes: float | None = None
    power_limit_w: float | None = None
    driver: str | None = None
    facts: dict[str, str] = field(default_factory=dict)  # limits, clocks, persistence, ECC: for the notes


@dataclass(frozen=True, slots=True)
class State:
    """How the device feels now: temperature, SM clock, and the clock-event reasons in force."""

    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    reasons: frozenset[str] = frozenset()


class Sample(NamedTuple):
    """One look at a meter: joules so far and watts now, clock and temperature; None where the meter does not tell."""

    at_s: float
    energy_j: float | None
    power_w: float | None
    sm_clock_mhz: float | None
    temperature_c: float | None


def reason_flags(reasons: Collection[str]) -> list[str]:
    """What clock-event reasons make of a window: invalid for heat or hardware, kept and said for the power cap."""
    bad = sorted(set(reasons) & THERMAL)
    return ([f"invalid: {' and '.join(bad)}"] if bad else []) + (["power_capped"] if POWER_CAP in reasons else [])


class Meter(Protocol):
    """A power source of one device. `gain_rel` is its systematic relative error, 1 sigma."""

    kind: Kind
    gain_rel: float

    def device(self) -> Device:
        """What is metered."""

    def refusals(self, shared: bool = False) -> list[str]:
        """Why this device must not be measured now (MIG, foreign processes); empty when it may.

        `shared`: another process is meant to be there, since it is the server that is measured.
        """

    def has_context(self) -> bool:
        """Whether this process already holds the device, so that its bare idle cannot be measured."""

    def energy_j(self) -> float | None:
        """The total-energy counter in joules since some moment, or None where there is none."""

    def power_w(self) -> float | None:
        """Power drawn now in watts, or None where it cannot be read."""

    def state(self) -> State:
        """Temperature, clock and clock-event reasons now."""

    def close(self) -> None:
        """Give the sensor back."""


class EstimateMeter:
    """Watts guessed from this process's CPU time: never called measured, for machines without a sensor.

    The rule is idle 2 W a core plus 8 W for each busy core, round figures for server CPUs of 2 to 3 W idle and
    8 to 12 W busy a core; `gain_rel` says how little it is worth.
    """

    kind: Kind = "estimate"
    gain_rel = 0.5
    idle_w_per_core = 2.0
    busy_w_per_core = 8.0

    def __init__(self, clock: Clock, cpu_time_s: Callable[[], float] = time.process_time) -> None:
        self._clock, self._cpu_time_s = clock, cpu_time_s
        self._cores = os.cpu_count() or 1
        self._last = (clock.now(), self.energy_j())

    def device(self) -> Device:
        """This machine's CPU."""
        return cpu_device()

    def refusals(self, shared: bool = False) -> list[str]:
        """Nothing: the estimate follows this process alone."""
        return []

    def has_context(self) -> bool:
        """A CPU has no contexts."""
        return False

    def energy_j(self) -> float:
        """Estimated joules: cores x idle watts x time, plus busy watts x this process's CPU seconds."""
        idle_j = self._cores * self.idle_w_per_core * self._clock.now()
        return idle_j + self.busy_w_per_core * self._cpu_time_s()

    def power_w(self) -> float:
        """Mean estimated watts since the last call."""
        now, energy = self._clock.now(), self.energy_j()
        (then, before), self._last = self._last, (now, energy)
        return (energy - before) / (now - then) if now > then else self._cores * self.idle_w_per_core

    def state(self) -> State:
        """Nothing is known."""
        return State()

    def close(self) -> None:
        """Nothing to give back."""


def cpu_device(facts: dict[str, str] | None = None) -> Device:
    """This machine's CPU as a device."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Device(_cpu_name(), "cpu", memory_bytes=float(total), facts={"cores": str(os.cpu_count()), **(facts or {})})


def machine_cpu_time_s() -> float:
    """Seconds that all cores of this machine have been busy, all processes together (Linux)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])  # idle and waiting for disks
    return (sum(map(int, fields[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def _cpu_name() -> str:
    """The CPU's model name where Linux tells it, else the architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"
