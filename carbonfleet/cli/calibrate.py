"""`calibrate`: measure a GPU, or a server on it, and write its profile; replay a trace against a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from calibrate.meter import Meter
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


def _gpus(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = (-1,)
    if min(found) < 0 or len(set(found)) < len(found):
        raise click.BadParameter("write GPU numbers like 0 or 0,1,2,3", ctx=ctx, param=param)
    return found


gpu_option = click.option(
    "--gpu", default="0", show_default=True, callback=_gpus, help="GPUs as NVML counts: 0, or 0,1."
)
meter_option = click.option(
    "--meter",
    default=None,
    metavar="nvml|rapl|csv:FILE|estimate|none",
    help="Where power comes from; default nvml, and an estimate from CPU time with --device cpu.",
)


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
@gpu_option
@meter_option
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

    llm = _llm(model)
    if asked["dry_run"]:
        _dry_run(llm, runner, asked, as_json)
        return
    checkpoint = None if output is None else output.with_suffix(".points.jsonl")
    raw = None if output is None else output.with_suffix(".samples.parquet")
    if asked["resume"] and (checkpoint is None or not checkpoint.exists()):
        raise click.UsageError(f"nothing to resume: there is no {checkpoint or 'checkpoint without -o'}")
    with _watch(quiet) as progress:
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


def _llm(model: str) -> Llm:
    from profiles.catalog import llm
    from profiles.llm_config import read_config

    path = Path(model)
    return read_config(path) if path.suffix == ".json" or path.is_dir() else llm(model)


def _device(llm: Llm, runner: str, asked: dict[str, Any], checkpoint: Path | None, progress: Any) -> Profile:
    """The torch and fake runners."""
    from calibrate import measure

    if asked["meter"] and (asked["device"] != "cpu" or asked["meter"] == "none"):
        raise click.UsageError("--meter is for --runner openai, or rapl, csv:FILE and estimate with --device cpu")
    if len(asked["gpu"]) > 1:
        raise click.UsageError("the torch runner uses one GPU; measure a server of several with --runner openai")
    return measure(
        llm,
        runner=runner,
        gpu_index=asked["gpu"][0],
        device=asked["device"],
        precision=asked["precision"],
        quick=asked["quick"],
        progress=progress,
        checkpoint=checkpoint,
        raw=asked["raw"],
        meter=_meter(asked, own=True) if asked["meter"] else None,
    )


def _server(llm: Llm, runner: str, asked: dict[str, Any], checkpoint: Path | None, progress: Any) -> Profile:
    """The openai runner."""
    from calibrate.server_bench import measure_server
    from calibrate.serving import FULL, QUICK

    if not asked["url"]:
        raise click.UsageError("--runner openai needs --url, like http://127.0.0.1:8000")
    meter = _meter(asked, own=False)
    try:
        profile = measure_server(
            llm,
            _connection(asked),
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


def _connection(asked: dict[str, Any]) -> Any:
    from calibrate.client import Server

    variable = asked["key_variable"]
    if variable and variable not in os.environ:
        raise click.UsageError(f"--key-variable {variable} is not set in the environment")
    return Server(asked["url"], asked["served_model"], os.environ[variable] if variable else None)


def _meter(asked: dict[str, Any], own: bool) -> Meter:
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


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split(",")) if value else ()
    except ValueError:
        found = (-1.0,)
    if any(not 0 < number < 1e5 for number in found):
        raise click.BadParameter("write numbers like 1980,1500,1100", ctx=ctx, param=param)
    return found


@command.command(
    "sweep", epilog="Example: calibrate sweep llama-3.1-8b --clocks 1980,1500 -o sweep", context_settings=opt.HELP
)
@click.argument("model")
@click.option("--clocks", callback=_numbers, metavar="MHZ,...", help="SM clocks to lock, one after the other.")
@click.option("--power-limits", callback=_numbers, metavar="W,...", help="Power limits to set, one after the other.")
@click.option("--runner", type=click.Choice(["torch", "fake"]), default="torch", show_default=True, help="As in run.")
@gpu_option
@click.option("--precision", default="bf16", show_default=True, help="Number format of weights and cache.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the profiles.")
@opt.json_option
@opt.quiet_option
def sweep(
    model: str,
    clocks: tuple[float, ...],
    power_limits: tuple[float, ...],
    runner: str,
    gpu: tuple[int, ...],
    precision: str,
    output: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure energy and time of MODEL under locked clocks or power limits. Needs root; all is put back, always.

    Nothing else changes clocks or limits: run, idle and check leave the GPU as they find it.
    """
    from calibrate import measure
    from calibrate.knobs import Knobs, NvmlKnobs, Setting
    from calibrate.runners.fake import FakeKnobs
    from calibrate.sweep import sweep as run_sweep
    from profiles.catalog import gpu as card

    settings = [Setting(clock_mhz=mhz) for mhz in clocks] + [Setting(power_limit_w=watts) for watts in power_limits]
    if not settings:
        raise click.UsageError("give --clocks or --power-limits")
    llm = _llm(model)
    fake = FakeKnobs()
    knobs: Knobs = fake if runner == "fake" else NvmlKnobs(gpu[:1])

    def one(setting: Setting, checkpoint: Path, progress: Any) -> Profile:
        return measure(
            llm,
            runner=runner,
            gpu_index=gpu[0],
            precision=precision,
            quick=True,
            progress=progress,
            checkpoint=checkpoint,
            fake_gpu=fake.device(card("h100-sxm-80gb")),
            clock_mhz=setting.clock_mhz,
        )

    with _watch(quiet) as progress:
        found = run_sweep(settings, knobs, one, output, progress)
    _print_sweep(found, as_json)


def _print_sweep(found: list[Any], as_json: bool) -> None:
    from carbonfleet.text import figure, table

    rows = [
        {
            "setting": each.setting.label,
            "file": str(each.file),
            "prefill_time_s": each.prefill_time_s,
            "prefill_j_per_token": each.prefill_j_per_token,
            "decode_time_s": each.decode_time_s,
            "decode_j_per_token": each.decode_j_per_token,
        }
        for each in found
    ]
    if as_json:
        opt.print_json({"settings": rows})
        return
    first = rows[0]

    def against(row: dict[str, Any], key: str, scale: float) -> str:
        return f"{figure(scale * row[key])} ({100 * (row[key] / first[key] - 1):+.0f} %)"

    head = ["setting", "prefill ms", "prefill mJ a token", "decode ms", "decode mJ a token"]
    keys = ("prefill_time_s", "prefill_j_per_token", "decode_time_s", "decode_j_per_token")
    click.echo("\n".join(table(head, [[row["setting"], *(against(row, key, 1000.0) for key in keys)] for row in rows])))


@command.command("check", epilog="Example: calibrate check mine.json", context_settings=opt.HELP)
@click.argument("profile", type=opt.FILE)
@click.option("--runner", type=click.Choice(["torch", "fake"]), default="torch", show_default=True, help="As in run.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What runs it.")
@gpu_option
@opt.json_option
@opt.quiet_option
def check(profile: str, runner: str, device: str, gpu: tuple[int, ...], as_json: bool, quiet: bool) -> None:
    """Measure three points of a PROFILE again and say how far they have drifted; exits 1 beyond its stated interval."""
    from calibrate.drift import drift
    from profiles.inputs import CarbonfleetError
    from profiles.profile import load

    with _watch(quiet) as progress:
        found = drift(load(profile), runner=runner, device=device, gpu_index=gpu[0], progress=progress)
    if as_json:
        opt.print_json({"file": profile, "points": [each.document() for each in found]})
    else:
        for each in found:
            click.echo(each.line())
    bad = [each for each in found if not each.agrees]
    if bad:
        raise CarbonfleetError(
            f"{len(bad)} of {len(found)} points have drifted beyond the stated interval; calibrate again"
        )


@command.command("idle", epilog="Example: calibrate idle --gpu 0", context_settings=opt.HELP)
@gpu_option
@meter_option
@click.option("--seconds", type=opt.POSITIVE, default=20.0, show_default=True, help="How long to look.")
@opt.json_option
def idle(gpu: tuple[int, ...], meter: str | None, seconds: float, as_json: bool) -> None:
    """Measure what the GPU draws now, with nothing started by this command."""
    from dataclasses import replace

    from calibrate.clock import RealClock
    from calibrate.protocol import Bench, Timing

    source = _meter({"gpu": gpu, "meter": meter}, own=True)
    try:
        about = source.device()
        timing = replace(Timing(), idle_rest_s=min(10.0, seconds / 2), idle_s=seconds)
        found = Bench(source, RealClock(), timing).idle()
    finally:
        source.close()
    if as_json:
        opt.print_json({"device": about.name, "uuid": about.uuid, "meter": source.kind, "power_w": found.power_w})
        return
    click.echo(f"{about.name} ({about.uuid}): {found.power_w:.1f} W over {found.duration_s:.0f} s, by {source.kind}")


@command.command(
    "load",
    epilog="Example: calibrate load conv.csv --url http://127.0.0.1:8000 -o log.jsonl",
    context_settings=opt.HELP,
)
@click.argument("trace", type=opt.FILE)
@click.option("--url", required=True, metavar="URL", help="The server, like http://127.0.0.1:8000.")
@click.option("--served-model", metavar="NAME", help="The model's name there; default the first it lists.")
@click.option("--vocab", type=click.IntRange(min=300), default=32000, show_default=True, help="Token ids to draw from.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Send the first N requests only.")
@click.option("--rate-scale", type=opt.POSITIVE, default=1.0, show_default=True, metavar="X", help="X times as fast.")
@click.option("--key-variable", metavar="NAME", help="Environment variable that holds the API key.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The request log to write (JSON lines)."
)
@opt.json_option
@opt.quiet_option
def load(
    trace: str, output: Path, limit: int | None, rate_scale: float, vocab: int, as_json: bool, quiet: bool, **asked: Any
) -> None:
    """Replay a TRACE against an OpenAI-compatible server, open loop, into a log for `simulate --against`."""
    import asyncio
    from dataclasses import asdict

    from calibrate.client import Prompter
    from calibrate.load import replay
    from sim.trace import read_trace

    found = read_trace(trace)
    end = min(limit or found.requests, found.requests)
    server = _connection(asked)

    async def send(progress: Callable[[int, int], None] | None) -> Any:
        try:
            await server.open()
            prompter = Prompter(vocab)
            await prompter.fit(server)
            at = (found.arrival_s[:end] / rate_scale).tolist()
            lengths = (found.prompt_tokens[:end].tolist(), found.output_tokens[:end].tolist())
            return await replay(server, prompter, at, *lengths, output, progress)
        finally:
            await server.close()

    with opt.progress("replaying", quiet) as progress:
        sent = asyncio.run(send(progress))
    if as_json:
        opt.print_json({"log": str(output), **asdict(sent)})
    else:
        click.echo(
            f"{output}: {sent.completed:,} completed, {sent.failed:,} failed, {sent.late:,} sent late "
            f"in {sent.wall_s:.1f} s"
        )
    if sent.failed:
        opt.warn([f"{sent.failed:,} requests failed, the first: {sent.first_failure}"], quiet)


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
            state = step.state
            watts = "" if step.power_w is None else f", {step.power_w:.0f} W"
            clock = "" if state.sm_clock_mhz is None else f", {state.sm_clock_mhz:.0f} MHz"
            heat = "" if state.temperature_c is None else f", {state.temperature_c:.0f} C"
            left = "" if step.eta_s is None else f", {step.eta_s / 60:.1f} min to go"
            status.update(f"{step.done}/{step.total} {step.label}{watts}{clock}{heat}{left}")

        yield show
