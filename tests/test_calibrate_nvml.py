"""The NVML meter against a stand-in of pynvml: units, fallbacks, refusals, and one line for every failure."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from calibrate import NoGpu, names
from calibrate.errors import BenchError
from calibrate.meter import State
from calibrate.names import gpu_name
from calibrate.nvml import NvmlMeter
from profiles.catalog import gpus


class FakeNvml:
    """As much of pynvml as the meter uses; `absent` names what this GPU does not support."""

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            super().__init__({3: "Not Supported", 9: "Driver Not Loaded", 15: "GPU is lost"}.get(value, "Unknown"))
            self.value = value

    def __init__(self, absent: tuple[str, ...] = (), module_only: bool = False, **answers: Any) -> None:
        self._absent, self._module_only, self.lost, self.shut = absent, module_only, False, 0
        self._answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": b"NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetUUID": "GPU-1234",
            "nvmlSystemGetDriverVersion": "570.10",
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
            "nvmlDeviceGetPowerUsage": 350_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetPowerManagementLimitConstraints": (200_000, 700_000),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 << 30),
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetPersistenceMode": 1,
            "nvmlDeviceGetEccMode": (1, 1),
            "nvmlDeviceGetMigMode": (0, 0),
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x20,
        } | answers

    def nvmlShutdown(self) -> None:  # noqa: N802 - NVML's name
        self.shut += 1

    def nvmlDeviceGetFieldValues(self, handle: str, ids: list[tuple[int, int]]) -> list[Any]:  # noqa: N802
        if self.lost:
            raise self.NVMLError(15)
        number, scope = ids[0]
        if str(number) in self._absent or (self._module_only and scope == 0):
            return [SimpleNamespace(nvmlReturn=3)]
        mine = SimpleNamespace(uiVal=420_000, ullVal=9_000_000)
        return [SimpleNamespace(nvmlReturn=0, valueType=1 if number == 186 else 3, value=mine)]

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            raise AttributeError(name)

        def call(*_: Any) -> Any:
            if self.lost:
                raise self.NVMLError(15)
            if name in self._absent:
                raise self.NVMLError(3)
            answer = self._answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def test_units_and_record() -> None:
    meter = NvmlMeter(0, FakeNvml())
    assert meter.energy_j() == 5000.0
    assert meter.power_w() == 420.0
    assert meter.state() == State(61, 1755, frozenset({"sw_power_cap", "sw_thermal"}))
    about = meter.device()
    assert (about.name, about.uuid, about.driver) == ("NVIDIA H100 80GB HBM3", "GPU-1234", "570.10")
    assert (about.power_limit_w, about.memory_bytes) == (700.0, 80 * 2**30)
    assert about.facts["power limit range"] == "200-700 W"
    assert meter.refusals() == []


def test_fallbacks_when_something_is_not_supported() -> None:
    no_plain = NvmlMeter(0, FakeNvml(absent=("nvmlDeviceGetTotalEnergyConsumption",), module_only=True))
    assert no_plain.energy_j() == 9000.0  # field 83 in the module's scope
    assert no_plain.power_w() == 420.0
    no_fields = NvmlMeter(0, FakeNvml(absent=("83", "186", "nvmlDeviceGetTotalEnergyConsumption")))
    assert no_fields.energy_j() is None
    assert no_fields.power_w() == 350.0
    assert no_fields.device().facts["energy reading"] == "integral of polled power"
    old = FakeNvml(nvmlDeviceGetCurrentClocksThrottleReasons=0x8)
    del old._answers["nvmlDeviceGetCurrentClocksEventReasons"]
    assert NvmlMeter(0, old).state().reasons == {"hw_slowdown"}
    silent = FakeNvml(
        absent=("nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetTemperature")
    )
    assert NvmlMeter(0, silent).refusals() == []
    assert NvmlMeter(0, silent).state().temperature_c is None


def test_mig_and_foreign_processes_are_refused_own_is_not() -> None:
    assert "MIG" in NvmlMeter(0, FakeNvml(nvmlDeviceGetMigMode=(1, 1))).refusals()[0]
    me, other = SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)
    meter = NvmlMeter(0, FakeNvml(nvmlDeviceGetComputeRunningProcesses=[me, other]))
    assert meter.refusals() == ["other processes use the GPU (pid 1); stop them first"]
    assert meter.has_context()
    assert not NvmlMeter(0, FakeNvml()).has_context()


@pytest.mark.parametrize(
    ("index", "library", "error", "says"),
    [
        (0, FakeNvml(nvmlInit=FakeNvml.NVMLError(9)), NoGpu, "Driver Not Loaded"),
        (5, FakeNvml(), NoGpu, "GPU 5 does not exist, this machine has 2"),
        (0, FakeNvml(nvmlDeviceGetHandleByIndex=FakeNvml.NVMLError(15)), NoGpu, "GPU is lost"),
        (
            0,
            FakeNvml(absent=("83", "186", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage")),
            BenchError,
            "neither energy nor power",
        ),
    ],
)
def test_every_failure_to_open_is_one_line(index: int, library: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        NvmlMeter(index, library)
    assert "\n" not in str(refused.value)


def test_a_gpu_lost_in_mid_run_is_one_line() -> None:
    library = FakeNvml()
    meter = NvmlMeter(0, library)
    library.lost = True
    for question in (meter.energy_j, meter.power_w, meter.state, meter.device):
        with pytest.raises(BenchError, match="NVML stopped answering"):
            question()


def test_driver_names_become_catalogue_names() -> None:
    assert gpu_name("NVIDIA H100 80GB HBM3") == "h100-sxm-80gb"
    assert gpu_name("NVIDIA A100-SXM4-80GB") == "a100-sxm-80gb"
    assert gpu_name("Tesla T4") == "t4"
    assert gpu_name("NVIDIA L4") == "l4"
    assert gpu_name("NVIDIA L40S") == "l40s"
    assert gpu_name("NVIDIA RTX 6000 Ada Generation") == "rtx-6000-ada"
    assert gpu_name("NVIDIA H100 PCIe") == "h100-pcie-80gb"
    assert gpu_name("NVIDIA Titan Q") == "titan-q"
    assert {name for _, name in names._KNOWN} <= set(gpus())
