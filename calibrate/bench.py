"""measure(): one call from a model's name to a profile. The main path reads top to bottom."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from calibrate import adaptive, protocol
from calibrate import points as grids
from calibrate.checkpoint import Checkpoint
from calibrate.clock import VirtualClock
from calibrate.errors import BenchError, DoesNotFit
from calibrate.meter import Device, EstimateMeter, Meter, machine_cpu_time_s
from calibrate.meters import SumMeter
from calibrate.names import gpu_name, slug
from calibrate.points import Grid, Point
from calibrate.protocol import Bench, Timing
from calibrate.raw import write_samples
from calibrate.runners import StepRunner
from calibrate.runners.fake import FakeGpu, FakeRunner, Sensor
from calibrate.runners.linear import EIGHT_BITS
from calibrate.schedule import Progress, Schedule
from calibrate.summary import columns, mixed_table
from profiles import catalog
from profiles.inputs import InputError, near_miss
from profiles.llm import Llm
from profiles.profile import Band, Idle, Memory, Profile, Provenance, Systematic

MEMORY_SHARE = 0.9  # of the device's memory, the share serving engines take by default
RUNNERS = ("torch", "fake")
_ESTIMATED = (
    "power is an ESTIMATE from CPU time (2 W a core idle, 8 W a busy core), not a measurement; times are measured"
)
_KERNELS = "kernels without a serving engine: an engine adds host work per step and per sequence"


def measure(
    model: str | Llm,
    *,
    runner: str = "torch",
    gpu_index: int | tuple[int, ...] = 0,
    tensor_parallel: int = 1,
    device: str = "cuda",
    precision: str = "bf16",
    quick: bool = False,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    raw: Path | None = None,
    date: str | None = None,
    seed: int = 0,
    fake_gpu: str | FakeGpu = "h100-sxm-80gb",
    timing: Timing | None = None,
    grid: Grid | None = None,
    meter: Meter | None = None,
    clock_mhz: float | None = None,
) -> Profile:
    """Measure time and power of prefill and decode steps of one model on one device.

    Args:
        model: a name of the catalogue, or an Llm.
        runner: "torch" runs the kernels; "fake" simulates physics and sensor in virtual time.
        gpu_index: which GPU, by nvidia-smi's numbering; several for tensor parallel.
        tensor_parallel: over how many GPUs (or processes on a CPU) the torch runner cuts every layer.
        device: "cuda" or "cpu" (torch runner); on a CPU the power is estimated and the profile says so.
        precision: of weights and cache.
        quick: one short repeat on a small grid.
        progress: called before every window and at the end.
        checkpoint: a file that keeps every finished window; an existing one of the same run is taken up again.
        raw: a Parquet file for the meter's raw samples.
        date: of the profile, today by default.
        seed: of the order of points, the weights and the fake's noise.
        fake_gpu: the GPU that the fake runner simulates: a name of the catalogue, or a FakeGpu with its own sensor.
        timing: other durations than the full or quick protocol's.
        grid: these points; without it quick and CPU runs have a stated grid, full ones find theirs.
        clock_mhz: the SM clock that somebody has locked, for the profile.
        meter: another power source than NVML, or than the estimate on a CPU (torch runner).

    Raises:
        NoGpu: device "cuda" and none is there (exit code 4).
        InputError: an unknown model, runner, device or precision; a checkpoint of another run.
        BenchError: the bench refuses (MIG, foreign processes) or cannot go on.
        DoesNotFit: the model's weights leave no room.
    """
    llm = catalog.llm(model) if isinstance(model, str) else model
    timing = timing or (protocol.QUICK if quick else protocol.FULL)
    if grid is None and (quick or (device == "cpu" and runner == "torch")):
        grid = grids.CPU if device == "cpu" and runner == "torch" else grids.QUICK
    with ExitStack() as stack:
        meter, bench_runner = _open(
            stack, llm, runner, gpu_index, device, precision, seed, fake_gpu, meter, tensor_parallel
        )
        about = meter.device()
        for refusal in meter.refusals():
            raise BenchError(f"{about.name}: {refusal}")
        _predict_fit(llm, precision, about)
        identity = {
            "model": llm.name,
            "runner": runner,
            "device": about.uuid,
            "gpu": about.name,
            "precision": precision,
            "tensor_parallel": tensor_parallel,
            "seed": seed,
            "power_limit_w": about.power_limit_w,
            "clock_mhz": clock_mhz,
            "timing": asdict(timing),
        }
        record = Checkpoint(checkpoint, identity)
        bench = Bench(meter, bench_runner.clock, timing)
        if "no_context" not in record.idle and not meter.has_context():
            record.add_idle("no_context", bench.idle())
        bench_runner.load()
        memory = bench_runner.memory()
        taken = memory.weights_bytes + memory.workspace_bytes
        capacity = kv_capacity(llm, precision, memory.total_bytes, taken)
        if "loaded" not in record.idle:
            record.add_idle("loaded", bench.idle())
        schedule = Schedule(bench, bench_runner, record, seed, progress)
        points = _points(schedule, record, grid, capacity, llm)
        schedule.repeats(points)
        prefill, decode = columns(points, record.windows)
        if raw is not None:
            write_samples(record, raw)
        idle = record.idle
        return Profile(
            gpu=_gpu(meter, about),
            model=llm.name,
            tp=tensor_parallel,
            precision=precision,
            engine=bench_runner.engine,
            clock_mhz=clock_mhz,
            power_limit_w=about.power_limit_w,
            layer="kernels",
            provenance=_provenance(meter, about, bench_runner, record, date),
            band=Band(time=1.08, power=2.0 if meter.kind == "estimate" else 1.1),
            memory=Memory(
                weights_bytes=memory.weights_bytes,
                kv_bytes_per_token=kv_bytes_per_token(llm, precision),
                kv_capacity_tokens=capacity,
            ),
            idle=Idle(
                no_context_w=idle["no_context"].power_w if "no_context" in idle else None,
                loaded_w=idle["loaded"].power_w,
            ),
            prefill=prefill,
            decode=decode,
            mixed=mixed_table(points, record.windows),
            systematic=Systematic(power_rel=meter.gain_rel),
        )


def _points(schedule: Schedule, record: Checkpoint, grid: Grid | None, capacity: int, llm: Llm) -> list[Point]:
    """A stated grid's points that fit, or those exploring finds worth measuring, with stated pasts and mixed steps."""
    points, notes = grids.plan(grid or grids.FULL, capacity, llm.max_context or None)
    if grid is None:
        behind = [point for point in points if point.phase == "mixed" or (point.phase == "prefill" and point.context)]
        found = adaptive.rows(capacity, llm.max_context or None, grids.FULL.contexts)
        return [point for phase in found for point in schedule.explore(phase)] + behind
    for note in notes:
        record.add_note(note)
    return points


def _open(
    stack: ExitStack,
    llm: Llm,
    runner: str,
    gpu_index: int | tuple[int, ...],
    device: str,
    precision: str,
    seed: int,
    fake_gpu: str | FakeGpu,
    given: Meter | None,
    tp: int,
) -> tuple[Meter, StepRunner]:
    """The meter first: its bare idle must be read before torch makes a context. Both are closed with `stack`."""
    meter: Meter
    opened: StepRunner
    if runner == "fake":
        if tp > 1:
            what = f"the fake runner simulates one GPU, not {tp}"
            raise InputError(what, field="tensor_parallel", mend="leave it out, or use the torch runner")
        if isinstance(fake_gpu, str):
            fake_gpu = FakeGpu(VirtualClock(), catalog.gpu(fake_gpu), Sensor(), seed)
        meter = fake_gpu
        opened = FakeRunner(llm, meter, precision)
    elif runner == "torch":
        from calibrate.clock import RealClock
        from calibrate.nvml import NvmlMeter
        from calibrate.runners.parallel import ParallelRunner
        from calibrate.runners.torch_llama import TorchRunner

        if device not in ("cuda", "cpu"):
            raise InputError(f"device {device} is unknown", mend=near_miss(device, ("cuda", "cpu")))
        indices = (gpu_index,) if isinstance(gpu_index, int) else gpu_index
        if device == "cuda" and len(indices) != tp:
            raise InputError(f"{len(indices)} GPUs for tensor_parallel {tp}", field="gpu", mend="name as many GPUs")
        if given is not None or device == "cpu":
            meter = given or EstimateMeter(RealClock(), time.process_time if tp == 1 else machine_cpu_time_s)
        else:
            single: list[Meter] = [NvmlMeter(index) for index in indices]
            meter = single[0] if tp == 1 else SumMeter(single)
        stack.callback(meter.close)
        uuids: list[str | None] = [None] * tp if device == "cpu" else list(meter.device().uuid.split(","))
        if tp == 1:
            opened = TorchRunner(llm, device, precision, uuids[0], seed)
        else:
            opened = ParallelRunner(llm, device, precision, uuids, seed)
    else:
        raise InputError(f"runner {runner} is unknown", mend=near_miss(runner, RUNNERS))
    stack.callback(opened.close)
    return meter, opened


def _predict_fit(llm: Llm, precision: str, about: Device) -> None:
    """Refuse what cannot fit before anything is allocated."""
    needed = llm.weights_bytes(precision)
    if about.memory_bytes and needed > MEMORY_SHARE * about.memory_bytes:
        raise DoesNotFit(
            f"{llm.name} in {precision} needs {needed / 1e9:.1f} GB for its weights, {about.name} has "
            f"{about.memory_bytes / 1e9:.1f} GB; take a smaller model or a larger GPU"
        )


def kv_capacity(llm: Llm, precision: str, total_bytes: float, taken_bytes: float) -> int:
    """KV tokens beside what is taken, in the share of memory that serving engines take.

    Raises:
        DoesNotFit: not one.
    """
    room = MEMORY_SHARE * total_bytes - taken_bytes
    capacity = int(room / kv_bytes_per_token(llm, precision))
    if capacity < 1:
        raise DoesNotFit(f"{llm.name} leaves no memory for KV; take a smaller model or a larger GPU")
    return capacity


def kv_bytes_per_token(llm: Llm, precision: str) -> float:
    """Of the cache: 8-bit weights leave it at 16 bits, as engines do unless told otherwise."""
    return llm.kv_bytes_per_token("bf16" if precision in EIGHT_BITS else precision)


def _gpu(meter: Meter, about: Device) -> str:
    if meter.kind in ("estimate", "rapl", "csv"):
        return f"cpu-{slug(about.name)}"
    return about.name if meter.kind == "fake" else gpu_name(about.name)


def _provenance(meter: Meter, about: Device, runner: StepRunner, record: Checkpoint, date: str | None) -> Provenance:
    """Where the figures come from; an estimate and a simulation are never called measured."""
    notes = [*described(about), _KERNELS, *observed(record), *record.notes]
    versions = {"carbonfleet": version(), "python": platform.python_version(), **runner.versions}
    if about.driver:
        versions["driver"] = about.driver
    date = date or datetime.date.today().isoformat()
    what = {
        "nvml": ("measured", "T0", "carbonfleet calibrate, torch runner, NVML"),
        "rapl": ("measured", "T0", "carbonfleet calibrate, torch runner on a CPU, RAPL: packages alone"),
        "csv": ("measured", "T0", "carbonfleet calibrate, torch runner on a CPU, wall power of the whole machine"),
        "fake": ("synthetic", "T3", "carbonfleet calibrate, fake runner: simulated physics and sensor"),
        "estimate": (
            "predicted",
            "T3",
            "carbonfleet calibrate, torch runner on a CPU: times measured, power estimated",
        ),
    }[meter.kind]
    if meter.kind == "estimate":
        notes.insert(0, _ESTIMATED)
    return Provenance.model_validate(
        {
            "kind": what[0],
            "tier": what[1],
            "source": what[2],
            "licence": "own measurement" if what[0] == "measured" else "own computation",
            "date": date,
            "versions": versions,
            "notes": notes,
        }
    )


def described(about: Device) -> list[str]:
    """What was metered, a line each."""
    return [f"device: {about.name}, {about.uuid}", *(f"{name}: {value}" for name, value in about.facts.items())]


def observed(record: Checkpoint) -> list[str]:
    """Clocks and temperatures over all windows, in one line each."""
    windows = [window for row in record.windows.values() for window in row]
    found = []
    for name, unit, values in (
        ("SM clock", "MHz", [w.sm_clock_mhz for w in windows if w.sm_clock_mhz is not None]),
        ("temperature", "C", [w.temperature_c for w in windows if w.temperature_c is not None]),
    ):
        if values:
            found.append(f"{name} seen: {min(values):.0f} to {max(values):.0f} {unit}")
    return found


def version() -> str:
    """carbonfleet's own version."""
    try:
        return importlib.metadata.version("carbonfleet")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
