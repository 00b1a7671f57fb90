"""What the commands of `calibrate` share: GPUs, meters, servers, the model, and the line that says what goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from calibrate.meter import Meter
    from profiles.llm import Llm


def gpus(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """GPU numbers between commas."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = (-1,)
    if min(found) < 0 or len(set(found)) < len(found):
        raise click.BadParameter("write GPU numbers like 0 or 0,1,2,3", ctx=ctx, param=param)
    return found


gpu_option = click.option(
    "--gpu", default="0", show_default=True, callback=gpus, help="GPUs as NVML counts: 0, or 0,1."
)
meter_option = click.option(
    "--meter",
    default=None,
    metavar="nvml|rapl|csv:FILE|estimate|none",
    help="Where power comes from; default nvml, and an estimate from CPU time with --device cpu.",
)


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Positive numbers between commas; none where nothing is given."""
    try:
        found = tuple(float(part) for part in value.split(",")) if value else ()
    except ValueError:
        found = (-1.0,)
    if any(not 0 < number < 1e5 for number in found):
        raise click.BadParameter("write numbers like 1980,1500,1100", ctx=ctx, param=param)
    return found


def model_of(model: str) -> Llm:
    """A model of the catalogue, or the shape in a config.json."""
    from profiles.catalog import llm
    from profiles.llm_config import read_config

    path = Path(model)
    return read_config(path) if path.suffix == ".json" or path.is_dir() else llm(model)


def connection(asked: dict[str, Any]) -> Any:
    """The server of --url, --served-model and --key-variable, not opened yet."""
    from calibrate.client import Server

    variable = asked["key_variable"]
    if variable and variable not in os.environ:
        raise click.UsageError(f"--key-variable {variable} is not set in the environment")
    return Server(asked["url"], asked["served_model"], os.environ[variable] if variable else None)


def meter_of(asked: dict[str, Any], own: bool) -> Meter:
    """The power source that was asked for. `own`: the work runs in this process rather than in a server beside it."""
    from calibrate import meters
    from calibrate.clock import RealClock
    from calibrate.meter import EstimateMeter, machine_cpu_time_s

    name = asked["meter"] or ("estimate" if asked.get("device") == "cpu" else "nvml")
    kind, _, rest = name.partition(":")
    if kind == "nvml" and not rest:
        from calibrate.nvml import NvmlMeter

        found: list[Meter] = [NvmlMeter(index) for index in asked["gpu"]]
        return found[0] if len(found) == 1 else meters.SumMeter(found)
    if kind == "rapl":
        return meters.RaplMeter(Path(rest)) if rest else meters.RaplMeter()
    if kind == "csv" and rest:
        return meters.CsvMeter(rest)
    if kind == "estimate" and not rest:
        return EstimateMeter(RealClock()) if own else EstimateMeter(RealClock(), machine_cpu_time_s)
    if kind == "none" and not rest:
        return meters.NullMeter()
    raise click.UsageError(f"--meter {name} is unknown; write nvml, rapl, csv:FILE, estimate or none")


@contextmanager
def watch(quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """A line on stderr that says what is being measured, at what power, and how long it will take."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.status import Status

    with Status("preparing", console=Console(stderr=True)) as status:

        def show(step: Any) -> None:
            state = step.state
            watts = "" if step.power_w is None else f", {step.power_w:.0f} W"
            clock = "" if state.sm_clock_mhz is None else f", {state.sm_clock_mhz:.0f} MHz"
            heat = "" if state.temperature_c is None else f", {state.temperature_c:.0f} C"
            left = "" if step.eta_s is None else f", {step.eta_s / 60:.1f} min to go"
            status.update(f"{step.done}/{step.total} {step.label}{watts}{clock}{heat}{left}")

        yield show
