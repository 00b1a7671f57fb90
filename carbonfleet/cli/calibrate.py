"""`calibrate`: measure a GPU, or a server on it, and write its profile; replay a trace against a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import bench_options as bench
from carbonfleet.cli import calibrate_tools as tools
from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.llm import Llm
    from profiles.profile import Profile

RUNNERS = ("torch", "openai", "fake")


class DefaultGroup(click.Group):
    """A group whose first word, where it is no command of its own, is MODEL of `run`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`calibrate llama-3.1-8b` is `calibrate run llama-3.1-8b`."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before MODEL belong to `run` as well."""
        own = {"-h", "--help", "--version"}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("calibrate", cls=DefaultGroup, context_settings=opt.HELP)
def command() -> None:
    """Measure time and power of prefill and decode steps: `calibrate MODEL` is short for `calibrate run MODEL`.

    Exits 4 when there is no GPU to measure.
    """


@command.command("run", epilog="Example: calibrate llama-3.1-8b --quick -o mine.json", context_settings=opt.HELP)
@click.argument("model")
@click.option(
    "--runner",
    type=click.Choice(RUNNERS),
    default="torch",
    show_default=True,
    help="torch runs the model's real shapes with random weights; openai measures a running server at --url, engine "
    "and all; fake is a synthetic device, for trying out.",
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What runs it.")
@bench.gpu_option
@click.option(
    "--tensor-parallel", type=click.IntRange(min=1), help="GPUs that share every layer; default as many as --gpu."
)
@bench.meter_option
@click.option("--precision", default="bf16", show_default=True, help="Number format of weights and cache.")
@click.option("--quick", is_flag=True, help="Few points, one short window each: minutes instead of an hour.")
@click.option("--dry-run", is_flag=True, help="Say which points, bytes and minutes it will take, and stop.")
@click.option("--resume", is_flag=True, help="Insist on going on from the checkpoint beside -o.")
@click.option("--url", metavar="URL", help="openai: the server, like http://127.0.0.1:8000.")
@click.option("--served-model", metavar="NAME", help="openai: the model's name there; default the first it lists.")
@click.option("--engine", metavar="NAME", default="openai", show_default=True, help="openai: its engine and version.")
@click.option("--gpu-name", metavar="NAME", help="openai: the GPU's catalogue name, where the meter cannot tell.")
@click.option(
    "--max-num-seqs", type=click.IntRange(min=1), default=64, show_default=True, help="openai: largest batch."
)
@click.option(
    "--max-num-batched-tokens",
    type=click.IntRange(min=16),
    default=2048,
    show_default=True,
    help="openai: step budget.",
)
@click.option(
    "--kv-capacity-tokens", type=click.IntRange(min=1), help="openai: KV room of the server, as its log says."
)
@click.option("--key-variable", metavar="NAME", help="openai: environment variable that holds the API key.")
@opt.json_option
@opt.out_option("Write the profile here; without it, it goes to stdout.")
@opt.quiet_option
def run(model: str, runner: str, output: Path | None, as_json: bool, quiet: bool, **asked: Any) -> None:
    """Measure MODEL (a catalogue name, or a config.json) and write its profile."""
    from carbonfleet.report import calibration
    from profiles.outputs import dumps
    from profiles.profile import save

    llm = bench.model_of(model)
    if asked["dry_run"]:
        _dry_run(llm, runner, asked, as_json)
        return
    checkpoint = None if output is None else output.with_suffix(".points.jsonl")
    raw = None if output is None else output.with_suffix(".samples.parquet")
    if asked["resume"] and (checkpoint is None or not checkpoint.exists()):
        raise click.UsageError(f"nothing to resume: there is no {checkpoint or 'checkpoint without -o'}")
    with bench.watch(quiet) as progress:
        measure = _server if runner == "openai" else _device
        profile = measure(llm, runner, asked | {"raw": raw}, checkpoint, progress)
    for text in profile.provenance.notes:
        opt.note(f"note: {text}", quiet)
    if output is not None:
        save(profile, output)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        assert raw is not None
        calibration.write(profile, raw, output.with_suffix(".html"))
    document = profile.model_dump(mode="json", exclude_none=True)
    if as_json:
        opt.print_json({"profile": document, "file": None if output is None else str(output)})
    elif output is None:
        click.echo(dumps(document))
    else:
        points = len(profile.prefill.time_s) + len(profile.decode.time_s)
        click.echo(f"{output}: {profile.key}, {profile.provenance.kind}, {points} points")
        click.echo(f"{output.with_suffix('.html')}: its page; {raw}: the meter's raw samples")


def _device(llm: Llm, runner: str, asked: dict[str, Any], checkpoint: Path | None, progress: Any) -> Profile:
    """The torch and fake runners."""
    from calibrate import measure

    if asked["meter"] and (asked["device"] != "cpu" or asked["meter"] == "none"):
        raise click.UsageError("--meter is for --runner openai, or rapl, csv:FILE and estimate with --device cpu")
    tp = asked["tensor_parallel"] or len(asked["gpu"])
    gpus = tuple(range(tp)) if tp > 1 and len(asked["gpu"]) == 1 else asked["gpu"]
    return measure(
        llm,
        runner=runner,
        gpu_index=gpus[0] if tp == 1 else gpus,
        tensor_parallel=tp,
        device=asked["device"],
        precision=asked["precision"],
        quick=asked["quick"],
        progress=progress,
        checkpoint=checkpoint,
        raw=asked["raw"],
        meter=bench.meter_of(asked, own=tp == 1) if asked["meter"] else None,
    )


def _server(llm: Llm, runner: str, asked: dict[str, Any], checkpoint: Path | None, progress: Any) -> Profile:
    """The openai runner."""
    from calibrate.server_bench import measure_server
    from calibrate.serving import FULL, QUICK

    if not asked["url"]:
        raise click.UsageError("--runner openai needs --url, like http://127.0.0.1:8000")
    meter = bench.meter_of(asked, own=False)
    try:
        profile = measure_server(
            llm,
            bench.connection(asked),
            meter,
            engine=asked["engine"],
            kv_capacity_tokens=asked["kv_capacity_tokens"],
            gpu=asked["gpu_name"],
            tp=len(asked["gpu"]),
            precision=asked["precision"],
            max_batch=asked["max_num_seqs"],
            max_chunk=asked["max_num_batched_tokens"],
            pace=QUICK if asked["quick"] else FULL,
            progress=progress,
            checkpoint=checkpoint,
            raw=asked["raw"],
        )
    finally:
        meter.close()
    return profile


def _dry_run(llm: Llm, runner: str, asked: dict[str, Any], as_json: bool) -> None:
    from calibrate.estimate import estimate

    found = estimate(llm, runner, asked["precision"], asked["quick"], asked["device"], asked["max_num_seqs"])
    if as_json:
        opt.print_json(found)
        return
    click.echo(f"{found['model']}: {found['weights_gb']:.1f} GB of weights in {asked['precision']}")
    for label in found["points"]:
        click.echo(f"  {label}")
    click.echo(f"{len(found['points'])} points, about {found['minutes']:.0f} minutes")


for tool in (tools.idle, tools.check, tools.load, tools.sweep):
    command.add_command(tool)
