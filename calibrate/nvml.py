"""The NVML meter: total-energy counter, instantaneous power and clock-event reasons of one GPU, by UUID.

Field numbers and scopes are NVIDIA's NVML: 83 total energy (mJ since driver load), 186 instantaneous power (mW);
scope 0 is the GPU, 1 the module (superchips answer only there). GetPowerUsage is a 1 s average on most GPUs since
Ampere and only the last resort. Millijoules and milliwatts become SI here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from calibrate.errors import BenchError, NoGpu
from calibrate.meter import Device, Kind, State

_ENERGY_FIELD, _INSTANT_FIELD = 83, 186
_SCOPES = (0, 1)
_REASONS = {0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x20: "sw_thermal", 0x40: "hw_thermal", 0x80: "hw_power_brake"}
_SM_CLOCK, _TEMPERATURE_GPU = 1, 0


class NvmlMeter:
    """Energy, power and state of GPU `gpu_index` (NVML's index, the one nvidia-smi shows).

    Args:
        gpu_index: which GPU.
        library: a stand-in for pynvml, for tests.

    Raises:
        NoGpu: no driver, no such GPU.
        BenchError: the GPU reports neither energy nor power.
    """

    kind: Kind = "nvml"
    gain_rel = 0.05  # board sensor gain, +-5 % (arXiv 2312.02741)

    def __init__(self, gpu_index: int = 0, library: Any = None) -> None:
        if library is None:
            import pynvml

            library = pynvml
        self._nvml = library
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise NoGpu(f"NVML: {error}") from error
        try:
            count = library.nvmlDeviceGetCount()
            if not 0 <= gpu_index < count:
                raise NoGpu(f"GPU {gpu_index} does not exist, this machine has {count}")
            self._handle = library.nvmlDeviceGetHandleByIndex(gpu_index)
            self._energy = self._first_that_answers(self._energy_sources())
            self._power = self._first_that_answers(self._power_sources())
            if self._energy is None and self._power is None:
                raise BenchError(f"GPU {gpu_index} reports neither energy nor power; it cannot be metered")
        except library.NVMLError as error:
            self.close()
            raise NoGpu(f"NVML: {error}") from error
        except (NoGpu, BenchError):
            self.close()
            raise

    def device(self) -> Device:
        """Name, UUID, driver, limits and settings as the driver reports them."""
        nvml, handle = self._nvml, self._handle
        limit = self._try(nvml.nvmlDeviceGetEnforcedPowerLimit)
        memory = self._try(nvml.nvmlDeviceGetMemoryInfo)
        bounds = self._try(nvml.nvmlDeviceGetPowerManagementLimitConstraints)
        facts = {
            "power limit range": f"{bounds[0] / 1000:g}-{bounds[1] / 1000:g} W" if bounds else None,
            "max SM clock": self._said(lambda h: nvml.nvmlDeviceGetMaxClockInfo(h, _SM_CLOCK), " MHz"),
            "persistence mode": self._said(nvml.nvmlDeviceGetPersistenceMode),
            "ECC": self._said(lambda h: nvml.nvmlDeviceGetEccMode(h)[0]),
            "power reading": "instantaneous (field 186)" if self._instant() else "1 s average or older sensor",
            "energy reading": "total-energy counter" if self._energy else "integral of polled power",
        }
        return Device(
            name=_text(self._call(nvml.nvmlDeviceGetName, handle)),
            uuid=_text(self._call(nvml.nvmlDeviceGetUUID, handle)),
            memory_bytes=float(memory.total) if memory else None,
            power_limit_w=limit / 1000.0 if limit else None,
            driver=_text(self._call(nvml.nvmlSystemGetDriverVersion)),
            facts={name: value for name, value in facts.items() if value is not None},
        )

    def refusals(self, shared: bool = False) -> list[str]:
        """MIG (energy is board-wide, a slice's share is unknowable) and processes of others on the GPU."""
        found = []
        mig = self._try(self._nvml.nvmlDeviceGetMigMode)
        if mig and mig[0]:
            found.append("the GPU is in MIG mode, energy is only known for the whole board; switch MIG off")
        foreign = sorted(pid for pid in self._pids() if pid != os.getpid())
        if foreign and not shared:
            found.append(f"other processes use the GPU (pid {', '.join(map(str, foreign))}); stop them first")
        return found

    def has_context(self) -> bool:
        """Whether this process is already on the GPU."""
        return os.getpid() in self._pids()

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded, or None where the GPU has no counter."""
        return self._call(self._energy) / 1000.0 if self._energy else None

    def power_w(self) -> float | None:
        """Watts now (instantaneous where the GPU tells it), or None."""
        return self._call(self._power) / 1000.0 if self._power else None

    def state(self) -> State:
        """Temperature, SM clock and the clock-event reasons in force."""
        nvml = self._nvml
        reasons_of = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)  # its name since driver 535
        reasons_of = reasons_of or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        mask = self._try(reasons_of) or 0
        return State(
            self._try(lambda handle: nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_GPU)),
            self._try(lambda handle: nvml.nvmlDeviceGetClockInfo(handle, _SM_CLOCK)),
            frozenset(name for bit, name in _REASONS.items() if mask & bit),
        )

    def close(self) -> None:
        """Shut NVML down; a second call does no harm."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return

    def _energy_sources(self) -> list[Callable[[], float]]:
        plain = [lambda: float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))]
        return plain + [self._field(_ENERGY_FIELD, scope) for scope in _SCOPES]

    def _power_sources(self) -> list[Callable[[], float]]:
        plain = [lambda: float(self._nvml.nvmlDeviceGetPowerUsage(self._handle))]
        return [self._field(_INSTANT_FIELD, scope) for scope in _SCOPES] + plain

    def _field(self, number: int, scope: int) -> Callable[[], float]:
        """A reader of one NVML field; the value's own return code and type decide how it is read."""

        def read() -> float:
            value = self._nvml.nvmlDeviceGetFieldValues(self._handle, [(number, scope)])[0]
            if value.nvmlReturn:
                raise self._nvml.NVMLError(value.nvmlReturn)
            names = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")  # NVML's nvmlValueType_t in order
            return float(getattr(value.value, names[value.valueType]))

        read.field = number  # type: ignore[attr-defined]
        return read

    def _instant(self) -> bool:
        return getattr(self._power, "field", None) == _INSTANT_FIELD

    def _first_that_answers(self, sources: list[Callable[[], float]]) -> Callable[[], float] | None:
        for source in sources:
            try:
                if source() > 0:
                    return source
            except self._nvml.NVMLError:
                continue
        return None

    def _pids(self) -> set[int]:
        processes = self._try(self._nvml.nvmlDeviceGetComputeRunningProcesses) or []
        return {int(process.pid) for process in processes}

    def _said(self, question: Callable[[Any], Any], unit: str = "") -> str | None:
        answer = self._try(question)
        return None if answer is None else f"{answer}{unit}"

    def _try(self, question: Callable[[Any], Any]) -> Any:
        """The answer about this GPU, or None where it is not supported or not permitted; a lost GPU is an error."""
        try:
            return question(self._handle)
        except self._nvml.NVMLError as error:
            if _lost(error):
                raise self._gone(error) from error
            return None

    def _call(self, question: Callable[..., Any], *args: Any) -> Any:
        try:
            return question(*args)
        except self._nvml.NVMLError as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> BenchError:
        return BenchError(f"NVML stopped answering ({error}); was the driver reset? start again with the checkpoint")


def _lost(error: Exception) -> bool:
    """NVML's GPU_IS_LOST (15), RESET_REQUIRED (16) and UNINITIALIZED (1)."""
    return getattr(error, "value", None) in (1, 15, 16)


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
