"""Beside `calibrate MODEL`: idle watts, a load generator, sweeps of clocks and limits, drift."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import bench_options as bench
from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.profile import Profile


@click.command(
    "sweep", epilog="Example: calibrate sweep llama-3.1-8b --clocks 1980,1500 -o sweep", context_settings=opt.HELP
)
@click.argument("model")
@click.option("--clocks", callback=bench.numbers, metavar="MHZ,...", help="SM clocks to lock, one after the other.")
@click.option("--power-limits", callback=bench.numbers, metavar="W,...", help="Power limits to set, likewise.")
@click.option("--runner", type=click.Choice(["torch", "fake"]), default="torch", show_default=True, help="As in run.")
@bench.gpu_option
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
    llm = bench.model_of(model)
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

    with bench.watch(quiet) as progress:
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


@click.command("check", epilog="Example: calibrate check mine.json", context_settings=opt.HELP)
@click.argument("profile", type=opt.FILE)
@click.option("--runner", type=click.Choice(["torch", "fake"]), default="torch", show_default=True, help="As in run.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="What runs it.")
@bench.gpu_option
@opt.json_option
@opt.quiet_option
def check(profile: str, runner: str, device: str, gpu: tuple[int, ...], as_json: bool, quiet: bool) -> None:
    """Measure three points of a PROFILE again and say how far they have drifted; exits 1 beyond its stated interval."""
    from calibrate.drift import drift
    from profiles.inputs import CarbonfleetError
    from profiles.profile import load

    with bench.watch(quiet) as progress:
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


@click.command("idle", epilog="Example: calibrate idle --gpu 0", context_settings=opt.HELP)
@bench.gpu_option
@bench.meter_option
@click.option("--seconds", type=opt.POSITIVE, default=20.0, show_default=True, help="How long to look.")
@opt.json_option
def idle(gpu: tuple[int, ...], meter: str | None, seconds: float, as_json: bool) -> None:
    """Measure what the GPU draws now, with nothing started by this command."""
    from dataclasses import replace

    from calibrate.clock import RealClock
    from calibrate.protocol import Bench, Timing

    source = bench.meter_of({"gpu": gpu, "meter": meter}, own=True)
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


@click.command(
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
    server = bench.connection(asked)

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
