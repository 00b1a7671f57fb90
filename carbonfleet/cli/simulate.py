"""`simulate`: replay a trace on a fleet; latency, energy and carbon out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import capacity
from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from sim.engine.interrupt import Interrupt
    from sim.scenario import Scenario

EPILOG = "Example: simulate --trace conv.csv --model llama-3.1-8b --pool h100-sxm-80gb:4@CA-QC --ttft-slo 1"


def _schema() -> dict[str, Any]:
    from sim.scenario import json_schema

    return json_schema()


@click.command("simulate", epilog=EPILOG, context_settings=opt.HELP)
@click.argument("scenario", required=False, type=opt.FILE, metavar="[SCENARIO.yaml]")
@click.option("--trace", type=opt.FILE, metavar="FILE", help="Request trace; its format is told by its header.")
@click.option(
    "--workload", type=opt.FILE, metavar="FILE", help="Token ids of the trace's prompts (JSON lines), for prefix reuse."
)
@click.option("--sort", is_flag=True, default=None, help="Put the trace's rows into order of time.")
@click.option("--allow-bad-rows", type=click.IntRange(min=0), metavar="N", help="Leave out up to N bad rows; counted.")
@click.option("--rate-scale", type=opt.POSITIVE, metavar="X", help="Replay the trace X times as fast.")
@click.option("--repeat", type=click.IntRange(min=1), metavar="N", help="Replay the trace N times in a row.")
@click.option(
    "--shape", type=click.Choice(["flat", "diurnal", "weekly"]), help="Lay the shape of a day or week over it."
)
@click.option("--model", metavar="NAME", help="The LLM every pool serves, like llama-3.1-8b.")
@click.option(
    "--pool",
    "pools",
    multiple=True,
    metavar="SPEC",
    help="GPU:INSTANCES[:tpN][:dpN[:ep]]@ZONE or @FILE, like a100-sxm-80gb:8:tp2@US-CAL-CISO; repeatable.",
)
@opt.profiles_option
@opt.own_catalog_option
@click.option(
    "--engine",
    type=click.Choice(["leap", "step"]),
    default="leap",
    show_default=True,
    help="leap skips from batch change to batch change; step walks every iteration (slow, the same results).",
)
@click.option("--batching", type=click.Choice(opt.BATCHING), help="How an instance forms batches; default chunked.")
@click.option("--routing", type=click.Choice(opt.ROUTING), help="Which instance a request goes to.")
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most sequences running in an instance; default 256.")
@click.option("--max-num-batched-tokens", type=click.IntRange(min=1), help="Most tokens in a step; default 8192.")
@click.option(
    "--prefix-cache/--no-prefix-cache",
    default=None,
    help="Find prompt blocks again where the trace names them; default on.",
)
@click.option(
    "--against", type=opt.FILE, metavar="LOG", help="Compare with a vLLM request log of the same requests (JSON lines)."
)
@click.option("--ttft-slo", type=opt.POSITIVE, metavar="SECONDS", help="Limit on the time to the first token.")
@click.option("--tpot-slo", type=opt.POSITIVE, metavar="SECONDS", help="Limit on the time per further token.")
@click.option("--start", metavar="TIME", help="When the run starts, ISO 8601, UTC unless it says otherwise.")
@click.option(
    "--align",
    type=click.Choice(["recur"]),
    help="recur: outside a grid series, take the same month, weekday class and hour of another year.",
)
@click.option("--horizon", type=opt.POSITIVE, metavar="SECONDS", help="Length of the books; default whole hours.")
@click.option("--pue", type=click.FloatRange(1, 5), help="Power usage effectiveness of every site; default 1.2.")
@click.option("--lifetime-years", type=opt.POSITIVE, help="Life over which embodied carbon is spread; default 5.")
@click.option("--preset", type=click.Choice(opt.PRESETS), help="Source of embodied carbon; default pcf-card.")
@click.option("--boundary", type=click.Choice(opt.BOUNDARIES), help="What embodied carbon covers; default server.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of whatever is drawn; default 0.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any scenario key, like pools.0.instances=8."
)
@click.option("--find-rate", is_flag=True, help="Find the largest arrival rate at which the SLO is kept.")
@click.option(
    "--find-instances", metavar="POOL", help="Find the fewest instances of a pool that keep the SLO; - is the only one."
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Share of requests that must keep it.",
)
@click.option(
    "--replications", type=click.IntRange(min=2), metavar="N", help="Run under N seeds: means with intervals."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes for --replications.")
@click.option(
    "--warm-up", type=opt.POSITIVE, metavar="SECONDS", help="Leave out earlier arrivals (with the four above)."
)
@opt.schema_option(_schema, "a scenario")
@click.option("--print-config", is_flag=True, help="Print the resolved scenario as YAML and stop.")
@opt.json_option
@opt.out_option("Write the run directory here (config, manifest, summary, requests, timeline, report.html).")
@opt.quiet_option
def command(
    scenario: str | None,
    pools: tuple[str, ...],
    profile_dirs: tuple[str, ...],
    engine: str,
    settings: tuple[str, ...],
    print_config: bool,
    against: str | None,
    find_rate: bool,
    find_instances: str | None,
    target: float,
    replications: int | None,
    jobs: int,
    warm_up: float | None,
    as_json: bool,
    output: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Replay a trace on a fleet of GPUs under hourly grid intensity: latency, energy and carbon.

    Give a SCENARIO.yaml, whose keys the options override, or the quick form: --trace, --model and --pool.
    """
    from carbonfleet import config

    resolved = config.build(scenario, {**options, "profiles": profile_dirs}, pools, settings)
    if print_config:
        _print_config(resolved, as_json)
        return
    questions = [bool(find_rate), find_instances is not None, replications is not None]
    if any(questions):
        if sum(questions) > 1 or output is not None or against is not None:
            raise click.UsageError(
                "ask one thing: --find-rate, --find-instances or --replications, without -o or --against"
            )
        asked = {"find_rate": find_rate, "find_instances": find_instances, "target": target}
        asked |= {"replications": replications, "warm_up": warm_up, "jobs": jobs}
        capacity.answer(resolved, asked, as_json, quiet)
        return
    if warm_up is not None:
        raise click.UsageError("--warm-up goes with --find-rate, --find-instances or --replications")
    summary = simulate(resolved, engine, output, quiet, against)
    if as_json:
        opt.print_json(summary)
    else:
        _print_text(summary, output)
    if summary["partial"]:
        raise KeyboardInterrupt


def _print_text(summary: dict[str, Any], output: Path | None) -> None:
    from carbonfleet.text import run_report

    click.echo(run_report(summary))
    if "against" in summary:
        from carbonfleet.text import against_table

        click.echo("\n" + against_table(summary["against"]))
    if output is not None:
        click.echo(f"\nrun directory: {output}")


def simulate(
    scenario: Scenario, engine: str, output: Path | None, quiet: bool, against: str | None = None
) -> dict[str, Any]:
    """Run a scenario, write its directory where one is asked for, say its warnings; the summary."""
    from carbonfleet import report
    from sim.against import compare, read_log
    from sim.run import run

    log = read_log(against) if against is not None else None
    for pool in scenario.pools:
        opt.note(f"{pool.name}: {_count(pool.instances, 'instance')}, {_count(pool.gpus, 'GPU')}", quiet)
    with opt.progress("simulating", quiet) as progress, _stoppable() as interrupt:
        result = run(scenario, engine=engine, progress=progress, interrupt=interrupt, scratch=output)
    if log is not None and not result.summary["partial"]:
        result.summary["against"] = compare(result, log)
    if output is not None:
        result.write(output, command=sys.argv)
        report.write(output)
    summary: dict[str, Any] = result.summary
    opt.warn(summary["warnings"], quiet)
    return summary


@contextmanager
def _stoppable() -> Iterator[Interrupt]:
    """Ctrl-C once ends the simulation and keeps what it did; before it has begun, or twice, it ends everything."""
    from sim.engine.interrupt import Interrupt

    interrupt = Interrupt()

    def asked(*_: object) -> None:
        if interrupt.asked or not interrupt.playing:
            raise KeyboardInterrupt
        interrupt.ask()

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _print_config(scenario: Scenario, as_json: bool) -> None:
    from carbonfleet.config import as_yaml

    if as_json:
        opt.print_json({"scenario": scenario.model_dump(mode="json", exclude_none=True)})
    else:
        click.echo(as_yaml(scenario), nl=False)
