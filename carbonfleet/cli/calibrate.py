"""`calibrate`: measure a GPU at work and write its profile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from carbonfleet.cli import options as opt


@click.command(
    "calibrate", epilog="Example: calibrate llama-3.1-8b --runner torch --quick -o mine.json", context_settings=opt.HELP
)
@click.argument("model")
@click.option(
    "--runner",
    type=click.Choice(["torch", "fake"]),
    default="torch",
    show_default=True,
    help="torch runs the model's real shapes with random weights; fake is a synthetic device, for trying out.",
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What runs it.")
@click.option("--gpu", type=click.IntRange(min=0), default=0, show_default=True, help="Which GPU, as NVML counts.")
@click.option("--precision", default="bf16", show_default=True, help="Number format of weights and cache.")
@click.option("--quick", is_flag=True, help="Few points, one short window each: minutes instead of an hour.")
@opt.json_option
@opt.out_option("Write the profile here; without it, it goes to stdout.")
@opt.quiet_option
def command(
    model: str,
    runner: str,
    device: str,
    gpu: int,
    precision: str,
    quick: bool,
    as_json: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Measure time and power of prefill and decode steps of MODEL on a real GPU, with their uncertainty.

    Exits 4 when there is no GPU to measure.
    """
    from calibrate import measure
    from profiles.outputs import dumps
    from profiles.profile import save

    checkpoint = None if output is None else output.with_suffix(".points.jsonl")
    with _watch(quiet) as progress:
        profile = measure(
            model,
            runner=runner,
            gpu_index=gpu,
            device=device,
            precision=precision,
            quick=quick,
            progress=progress,
            checkpoint=checkpoint,
        )
    for text in profile.provenance.notes:
        opt.note(f"note: {text}", quiet)
    if output is not None:
        save(profile, output)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
    document = profile.model_dump(mode="json", exclude_none=True)
    if as_json:
        opt.print_json({"profile": document, "file": None if output is None else str(output)})
    elif output is None:
        click.echo(dumps(document))
    else:
        points = len(profile.prefill.time_s) + len(profile.decode.time_s)
        click.echo(f"{output}: {profile.key}, {profile.provenance.kind}, {points} points")


@contextmanager
def _watch(quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """A line on stderr that says what is being measured, at what power, and how long it will take."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.status import Status

    with Status("preparing", console=Console(stderr=True)) as status:

        def show(step: Any) -> None:
            watts = "" if step.power_w is None else f", {step.power_w:.0f} W"
            left = "" if step.eta_s is None else f", {step.eta_s / 60:.1f} min to go"
            status.update(f"{step.done}/{step.total} {step.label}{watts}{left}")

        yield show
