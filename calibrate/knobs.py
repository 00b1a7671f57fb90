"""Locked SM clocks and power limits for a sweep: opt-in, and put back whatever happens.

A guard process of its own holds what must be put back and waits for this one to close a pipe. A normal end, Ctrl-C, a
crash and a kill all close it, so that there is one way back for all of them. Both settings need root.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from calibrate.errors import BenchError, NoGpu

GUARD_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a sweep: a locked SM clock, or a power limit, or neither (as found)."""

    clock_mhz: float | None = None
    power_limit_w: float | None = None

    @property
    def label(self) -> str:
        """The setting in words and in file names."""
        if self.clock_mhz is not None:
            return f"clock-{self.clock_mhz:.0f}mhz"
        return "as-found" if self.power_limit_w is None else f"limit-{self.power_limit_w:.0f}w"


class Knobs(Protocol):
    """Something whose clock or power limit can be set; used as a context, it puts all back at the end."""

    def apply(self, setting: Setting) -> None:
        """Make it so. Raises BenchError where it may not be."""

    def __enter__(self) -> Knobs:
        """Begin; the guard knows what to put back."""

    def __exit__(self, *_: object) -> None:
        """Put all back."""


class NvmlKnobs:
    """The knobs of GPUs by NVML index; `library` is a stand-in for pynvml in tests."""

    def __init__(self, gpu_indices: tuple[int, ...], library: Any = None) -> None:
        if library is None:
            import pynvml

            library = pynvml
        self._nvml, self._gpus = library, gpu_indices
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NvmlKnobs:
        """Read what is to be put back and start the guard.

        Raises:
            NoGpu: NVML does not answer. BenchError: the guard does not start.
        """
        try:
            self._nvml.nvmlInit()
            found = [Found.read(self._nvml, index) for index in self._gpus]
        except self._nvml.NVMLError as error:
            raise NoGpu(f"NVML: {error}") from error
        command = [sys.executable, "-m", "calibrate.guard", json.dumps([asdict(each) for each in found])]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._guard.stdout is not None
        if self._guard.stdout.readline().strip() != b"guarding":
            raise BenchError("the guard that puts clocks back did not start; nothing was changed")
        return self

    def apply(self, setting: Setting) -> None:
        """Lock the clock or set the limit on every GPU; what is not asked for stays as it is.

        Raises:
            BenchError: not permitted, or out of the GPU's range.
        """
        nvml = self._nvml
        for index in self._gpus:
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                if setting.clock_mhz is not None:
                    nvml.nvmlDeviceSetGpuLockedClocks(handle, int(setting.clock_mhz), int(setting.clock_mhz))
                if setting.power_limit_w is not None:
                    nvml.nvmlDeviceSetPowerManagementLimit(handle, round(setting.power_limit_w * 1000))
            except nvml.NVMLError as error:
                what = f"GPU {index}: {setting.label} cannot be set ({error}); it needs root and a value within range"
                raise BenchError(what) from error

    def __exit__(self, *_: object) -> None:
        """Let the guard put all back, and wait for it.

        Raises:
            BenchError: the guard could not; how to do it by hand is said.
        """
        guard = self._guard
        if guard is None or guard.stdin is None or guard.stdout is None:
            return
        guard.stdin.close()
        said = guard.stdout.read().decode().strip()
        guard.stdout.close()
        if guard.wait(timeout=GUARD_WAIT_S) != 0:
            raise BenchError(f"clocks or limits were not put back ({said}); run nvidia-smi -rgc and -pl by hand")


@dataclass(frozen=True, slots=True)
class Found:
    """What a GPU had: its power limit. Locked clocks cannot be read, so they are reset to none."""

    index: int
    power_limit_mw: int | None

    @classmethod
    def read(cls, nvml: Any, index: int) -> Found:
        """Ask the driver; None where it does not tell."""
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        try:
            return cls(index, int(nvml.nvmlDeviceGetPowerManagementLimit(handle)))
        except nvml.NVMLError:
            return cls(index, None)

    def put_back(self, nvml: Any) -> list[str]:
        """Reset the clocks and the limit; complaints, empty when all is back."""
        complaints = []
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(self.index)
            nvml.nvmlDeviceResetGpuLockedClocks(handle)
        except nvml.NVMLError as error:
            complaints.append(f"GPU {self.index}: clocks: {error}")
        if self.power_limit_mw is not None:
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(self.index)
                nvml.nvmlDeviceSetPowerManagementLimit(handle, self.power_limit_mw)
            except nvml.NVMLError as error:
                complaints.append(f"GPU {self.index}: power limit: {error}")
        return complaints
