"""The fake runner: synthetic physics and a simulated NVML sensor on a virtual clock, a truth to be tested against.

Physics: time is the larger of arithmetic at 75 % of peak and traffic at 90 % of bandwidth, plus 45 us a layer for
prefill and 5 us for decode; power is TDP x min(0.96, 0.35 + 2.2 (share of peak)^0.89 + 100 pJ a byte / TDP). Sensor
(arXiv 2312.02741 for A100 and H100): a 25 ms look every 100 ms, reported as counter steps of 100 ms, times a gain.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from calibrate.clock import VirtualClock
from calibrate.errors import DoesNotFit
from calibrate.knobs import Setting
from calibrate.meter import POWER_CAP, Device, Kind, State
from calibrate.runners import MemoryInfo, workspace_bytes
from profiles.catalog import Gpu
from profiles.llm import Llm

_CAP = 0.96
FULL_CLOCK_MHZ = 1980.0
_CLOCK_POWER = 2.4  # exponent of dynamic power with the clock: f V^2, and V follows f in part


@dataclass(frozen=True, slots=True)
class Sensor:
    """The simulated sensor and the noise of the simulated device."""

    update_s: float = 0.1
    look_s: float = 0.025  # 25 % duty
    average_s: float = 1.0  # what naive polling of GetPowerUsage sees
    gain: float = 1.0
    noise_rel: float = 0.01  # of each reading, 1 sigma
    chunk_time_rel: float = 0.002  # scatter of step time from chunk to chunk
    run_time_rel: float = 0.002  # and from one window to the next
    run_power_rel: float = 0.003
    drift_rel: float = 0.0  # slow wander of the gain, to and fro
    drift_period_s: float = 300.0
    slowdown_at_s: float | None = None  # from then on the thermal slowdown is reported
    cool_after_s: float | None = None  # and for so long


class FakeGpu:
    """A device with a queue, a power timeline and a sensor; it is the meter as well (see Meter)."""

    kind: Kind = "fake"
    gain_rel = 0.05

    def __init__(self, clock: VirtualClock, gpu: Gpu, sensor: Sensor, seed: int) -> None:
        self.clock, self.gpu, self.sensor = clock, gpu, sensor
        self.random = random.Random(seed)
        self._phase = random.Random(f"drift {seed}").random()
        self.tdp_w = self.limit_w = gpu.tdp_w or 400.0
        self.clock_share = 1.0  # of full clock; see FakeKnobs
        self.bare_w = gpu.idle_w or 0.1 * self.tdp_w
        self.idle_w = self.bare_w  # rises once something is loaded
        self.busy_until = 0.0
        self._line: deque[tuple[float, float]] = deque([(0.0, self.idle_w)])  # (from, watts)
        self._ticks, self._counter_j = 0, 1000.0
        self._readings: deque[float] = deque([self.idle_w], maxlen=round(sensor.average_s / sensor.update_s))

    def occupy(self, seconds: float, watts: float) -> tuple[float, float]:
        """Queue work of this length and power; returns when it begins and ends."""
        self._catch_up()
        now = self.clock.now()
        begin = max(now, self.busy_until)
        if now >= self.busy_until:
            self._line.append((self.busy_until, self.idle_w))
        self._line.append((begin, watts))
        self.busy_until = begin + seconds
        return begin, self.busy_until

    def load(self) -> None:
        """From now on idle is idle with a context."""
        self._catch_up()
        self.idle_w = 1.25 * self.bare_w
        self.busy_until = max(self.clock.now(), self.busy_until)

    def device(self) -> Device:
        """A device that cannot be mistaken for a real one."""
        return Device(self.gpu.name, "fake", self.gpu.memory_bytes, self.limit_w, None, {"sensor": "simulated"})

    def refusals(self, shared: bool = False) -> list[str]:
        """Nothing: nobody else is here."""
        return []

    def has_context(self) -> bool:
        """The bare idle can always be measured."""
        return False

    def energy_j(self) -> float:
        """The counter in joules: it moves every update period."""
        self._catch_up()
        return self._counter_j

    def power_w(self) -> float:
        """The latest 25 ms look."""
        self._catch_up()
        return self._readings[-1]

    def averaged_w(self) -> float:
        """The 1 s average that naive polling sees."""
        self._catch_up()
        return sum(self._readings) / len(self._readings)

    def state(self) -> State:
        """60 C, full clock, power-capped when the physics says so."""
        self._catch_up()
        begin, length = self.sensor.slowdown_at_s, self.sensor.cool_after_s
        hot = begin is not None and begin <= self.clock.now() < begin + (math.inf if length is None else length)
        capped = self._readings[-1] > 0.93 * _CAP * self.limit_w * self.sensor.gain
        reasons = ({"hw_thermal"} if hot else set()) | ({POWER_CAP} if capped else set())
        return State(60.0, FULL_CLOCK_MHZ * self.clock_share, frozenset(reasons))

    def close(self) -> None:
        """Nothing to give back."""

    def _catch_up(self) -> None:
        """Let every tick up to now happen."""
        while (tick := (self._ticks + 1) * self.sensor.update_s) <= self.clock.now():
            self._ticks += 1
            noise = 1.0 + self.random.gauss(0.0, self.sensor.noise_rel)
            reading = self._mean_w(tick - self.sensor.look_s, tick) * self.sensor.gain * noise * self._wander(tick)
            self._readings.append(reading)
            self._counter_j += reading * self.sensor.update_s

    def _wander(self, at_s: float) -> float:
        """The gain's slow drift at a moment, its phase drawn with the seed."""
        turn = at_s / self.sensor.drift_period_s + self._phase
        return 1.0 + self.sensor.drift_rel * math.sin(2.0 * math.pi * turn)

    def _mean_w(self, begin: float, end: float) -> float:
        """True mean power over [begin, end), reading the timeline; what is older is forgotten."""
        line = self._line
        while len(line) > 1 and line[1][0] <= begin:
            line.popleft()
        joules, watts, at = 0.0, line[0][1], begin
        for start, level in list(line)[1:]:
            if start >= end:
                break
            if start > at:
                joules, at = joules + watts * (start - at), start
            watts = level
        if end > self.busy_until:  # the queue ran dry inside the look
            dry = max(at, self.busy_until)
            joules, at, watts = joules + watts * (dry - at), dry, self.idle_w
        return (joules + watts * (end - at)) / (end - begin)


class FakeKnobs:
    """The knobs of simulated devices: each setting gets a device of its own, made by `device`."""

    def __init__(self) -> None:
        self.setting = Setting()

    def __enter__(self) -> FakeKnobs:
        """Nothing to remember."""
        return self

    def apply(self, setting: Setting) -> None:
        """From now on `device` gives this."""
        self.setting = setting

    def __exit__(self, *_: object) -> None:
        """As found."""
        self.setting = Setting()

    def device(self, gpu: Gpu, seed: int = 0) -> FakeGpu:
        """A device under the present setting."""
        made = FakeGpu(VirtualClock(), gpu, Sensor(), seed)
        if self.setting.clock_mhz is not None:
            made.clock_share = min(1.0, self.setting.clock_mhz / FULL_CLOCK_MHZ)
        made.limit_w = min(made.tdp_w, self.setting.power_limit_w or made.tdp_w)
        return made


@dataclass(frozen=True, slots=True)
class FakeTicket:
    """A chunk on the virtual device."""

    steps: int
    begin: float
    end: float
    clock: VirtualClock

    def done(self) -> bool:
        """Whether the virtual clock has passed the chunk's end."""
        return self.clock.now() >= self.end

    def elapsed_s(self) -> float:
        """Virtual device seconds."""
        return self.end - self.begin


class FakeWork:
    """A point with its true step time and power, and this run's own small offset from it."""

    def __init__(self, device: FakeGpu, step_s: float, power_w: float) -> None:
        self._device = device
        shake = device.random.gauss
        self._step_s = step_s * (1.0 + shake(0.0, device.sensor.run_time_rel))
        self._power_w = power_w * (1.0 + shake(0.0, device.sensor.run_power_rel))

    def enqueue(self, steps: int) -> FakeTicket:
        """Queue `steps` steps."""
        scatter = 1.0 + self._device.random.gauss(0.0, self._device.sensor.chunk_time_rel)
        begin, end = self._device.occupy(steps * self._step_s * scatter, self._power_w)
        return FakeTicket(steps, begin, end, self._device.clock)

    def release(self) -> None:
        """Nothing is held."""


class FakeRunner:
    """A StepRunner that computes instead of running; `truth` is what a perfect measurement would find."""

    engine = "synthetic"

    def __init__(self, llm: Llm, device: FakeGpu, precision: str = "bf16") -> None:
        self._llm, self.device, self.clock = llm, device, device.clock
        self._weights_bytes = llm.weights_bytes(precision)
        self._kv_bytes = llm.kv_bytes_per_token(precision)
        self.versions: dict[str, str] = {}
        self._flops = device.gpu.flops_bf16

    def load(self) -> None:
        """The weights must fit."""
        if self._weights_bytes > 0.9 * self.device.gpu.memory_bytes:
            raise DoesNotFit(f"{self._llm.name} does not fit {self.device.gpu.name}; take a larger GPU")
        self.device.load()

    def prefill(self, new: int, past: int, sequences: int) -> FakeWork:
        """A prefill step."""
        return FakeWork(self.device, *self.truth("prefill", new, past, sequences))

    def decode(self, batch: int, context: int) -> FakeWork:
        """A decode step."""
        return FakeWork(self.device, *self.truth("decode", 1, context, batch))

    def mixed(self, new: int, batch: int, context: int) -> FakeWork:
        """A prompt beside a decode batch."""
        return FakeWork(self.device, *self.truth("mixed", new, context, batch))

    def truth(self, phase: str, new: int, context: int, sequences: int) -> tuple[float, float]:
        """True (time_s, power_w) of a step; `context` is the past of a prefill, the tokens held of a decode.

        A mixed step does what its prefill of `new` tokens and its decode of `sequences` do, reading the weights once.
        """
        llm, gpu = self._llm, self.device.gpu
        width = llm.heads * llm.head_dim
        if phase == "mixed":
            tokens, pairs, held = new + sequences, new * new / 2 + sequences * context, sequences * context + new
        elif phase == "decode":
            tokens, pairs, held = sequences, sequences * context, sequences * context
        else:
            tokens, pairs = new * sequences, new * sequences * (context + new / 2)
            held = sequences * (context + new)
        arithmetic = 2.0 * llm.active_params * tokens + 4.0 * llm.layers * width * pairs
        traffic = self._weights_bytes + held * self._kv_bytes
        overhead_s = llm.layers * (5e-6 if phase == "decode" else 45e-6)
        tdp, slow = self.device.tdp_w, self.device.clock_share
        compute_s = arithmetic / (0.75 * self._flops * slow)
        time_s = overhead_s / slow + max(compute_s, traffic / (0.9 * gpu.bandwidth_bytes_per_s))
        share = arithmetic / time_s / self._flops / slow
        power_w = tdp * (0.15 + (0.20 + 2.2 * share**0.89) * slow**_CLOCK_POWER + 1e-10 * traffic / time_s / tdp)
        most_w = _CAP * self.device.limit_w
        if power_w > most_w and self.device.limit_w < tdp:  # a lowered limit slows the clock until the power fits
            time_s *= (power_w / most_w) ** (1.0 / _CLOCK_POWER)
        return time_s, min(most_w, power_w)

    def memory(self) -> MemoryInfo:
        """Bytes by the catalogue's figures."""
        workspace = 1e9 + workspace_bytes(self._llm, 8192, 256, 2)
        return MemoryInfo(self.device.gpu.memory_bytes, self._weights_bytes, workspace)

    def close(self) -> None:
        """Nothing to free."""
