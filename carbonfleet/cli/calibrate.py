"""`calibrate`: measure a GPU at work and write its profile."""

from __future__ import annotations

from pathlib import Path

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
    raise NotImplementedError
