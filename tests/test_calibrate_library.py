"""pynvml over a real shared library of NVML's soname: meters, failures, and knobs that are put back in every case."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GCC = shutil.which("gcc")
pytestmark = pytest.mark.skipif(GCC is None, reason="no gcc to build the stand-in library with")
SWEEP = """
import sys, time
from calibrate.knobs import NvmlKnobs, Setting
with NvmlKnobs((0,)) as knobs:
    knobs.apply(Setting(clock_mhz=1200))
    knobs.apply(Setting(power_limit_w=400))
    print("set", flush=True)
    {then}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    source = str(Path(__file__).parent / "nvml_stub.c")
    subprocess.run([str(GCC), "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(target), source], check=True)
    return folder


def environment(library: Path, log: Path, fails: str = "") -> dict[str, str]:
    mine = {"LD_LIBRARY_PATH": str(library), "NVML_STUB": str(log), "NVML_STUB_FAILS": fails, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **mine}


def calibrate(library: Path, log: Path, *words: str, fails: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "carbonfleet", "calibrate", *words]
    env = environment(library, log, fails)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_idle_watts_of_the_counter(library: Path, tmp_path: Path) -> None:
    done = calibrate(library, tmp_path / "log", "idle", "--seconds", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["device"], found["uuid"], found["meter"]) == ("NVIDIA L4", "GPU-stub", "nvml")
    assert found["power_w"] == pytest.approx(123.456, rel=0.03)


@pytest.mark.parametrize(
    ("fails", "code", "says"),
    [
        ("init", 4, "no GPU to measure (NVML: Driver Not Loaded)"),
        ("counter power", 1, "GPU 0 reports neither energy nor power"),
        ("lost", 1, "NVML stopped answering (GPU is lost); was the driver reset? start again with the checkpoint"),
    ],
)
def test_failures_are_one_line(library: Path, tmp_path: Path, fails: str, code: int, says: str) -> None:
    done = calibrate(library, tmp_path / "log", "idle", "--seconds", "2", fails=fails)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_counter_power_is_polled(library: Path, tmp_path: Path) -> None:
    done = calibrate(library, tmp_path / "log", "idle", "--seconds", "1", "--json", fails="counter")
    assert json.loads(done.stdout)["power_w"] == pytest.approx(123.456)


def test_a_second_gpu_that_is_not_there(library: Path, tmp_path: Path) -> None:
    done = calibrate(library, tmp_path / "log", "idle", "--gpu", "1")
    assert done.returncode == 4
    assert "GPU 1 does not exist, this machine has 1" in done.stderr


def sweep(library: Path, log: Path, then: str, fails: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SWEEP.format(then=then)]
    return subprocess.Popen(
        command, env=environment(library, log, fails), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def put_back(log: Path) -> bool:
    return log.exists() and log.read_text().splitlines()[-2:] == ["reset 0", "limit 700000"]


@pytest.mark.parametrize(
    ("then", "kill"),
    [
        ("pass", None),
        ("raise RuntimeError('crash')", None),
        ("time.sleep(30)", signal.SIGINT),
        ("time.sleep(30)", signal.SIGTERM),
        ("time.sleep(30)", signal.SIGKILL),
    ],
)
def test_knobs_are_put_back_however_it_ends(
    library: Path, tmp_path: Path, then: str, kill: signal.Signals | None
) -> None:
    log = tmp_path / "log"
    process = sweep(library, log, then)
    assert process.stdout is not None
    assert process.stdout.readline() == "set\n"
    if kill is not None:
        process.send_signal(kill)
    process.communicate(timeout=30)
    end = time.monotonic() + 10
    while not put_back(log) and time.monotonic() < end:
        time.sleep(0.05)
    assert log.read_text().splitlines() == ["lock 1200", "limit 400000", "reset 0", "limit 700000"]


def test_without_permission_nothing_changes_and_one_line_says_so(library: Path, tmp_path: Path) -> None:
    process = sweep(library, tmp_path / "log", "pass", fails="permission")
    _, said = process.communicate(timeout=30)
    assert "clock-1200mhz cannot be set (Insufficient Permissions); it needs root" in said
    assert "lock" not in (tmp_path / "log").read_text()
