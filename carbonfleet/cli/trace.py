"""`trace`: what a trace holds, a generator like it, and traces from logs and counters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from sim.trace import Trace

sort_option = click.option("--sort", is_flag=True, help="Put rows into order of time.")
bad_option = click.option(
    "--allow-bad-rows", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out up to N bad rows."
)


@click.group("trace", context_settings=opt.HELP)
def command() -> None:
    """Request traces: what they hold, and how to make one."""


@command.command("show", epilog="Example: carbonfleet trace show azure_conv.csv", context_settings=opt.HELP)
@click.argument("file", type=opt.FILE)
@sort_option
@bad_option
@opt.plot_option
@opt.json_option
def show(file: str, sort: bool, allow_bad_rows: int, plot: Path | None, as_json: bool) -> None:
    """Show what a trace FILE holds: rows, span, tokens, peak rates, quantiles of its lengths."""
    from carbonfleet.text import figure, sparkline, table
    from sim.trace import read_trace

    trace = read_trace(file, sort=sort, allow_bad_rows=allow_bad_rows)
    facts = _facts(trace)
    if plot is not None:
        from carbonfleet.report import plots, vega

        vega.picture(plots.trace(trace), plot)
    if as_json:
        opt.print_json(facts)
        return
    click.echo(trace.summary())
    for text in trace.notes:
        click.echo(f"note: {text}")
    peaks = ", ".join(f"{figure(rate)}/s in the busiest {name}" for name, rate in facts["peak_rate_per_s"].items())
    click.echo(f"rate: mean {figure(facts['rate_per_s'])}/s; {peaks}")
    rows = [[name, *(figure(value) for value in facts[key].values())] for name, key in _LENGTHS]
    click.echo("\n".join(table(["tokens", *facts["prompt_tokens"]], rows)))
    if facts["prefix_share"] is not None:
        click.echo(f"prefixes: {100 * facts['prefix_share']:.1f} % of the blocks have been there before")
    if plot is not None:
        click.echo(f"drawn: {plot}")
    if sys.stdout.isatty():
        click.echo(f"load over its span: {sparkline(_load(trace))}")


_LENGTHS = (("prompt", "prompt_tokens"), ("output", "output_tokens"))
_WINDOWS = {"10 s": 10.0, "minute": 60.0, "hour": 3600.0}


def _facts(trace: Trace) -> dict[str, Any]:
    import numpy as np

    from sim.trace.shape import window_requests

    facts: dict[str, Any] = {
        "name": trace.name,
        "format": trace.format,
        "requests": trace.requests,
        "span_s": trace.span_s,
        "start_utc_s": trace.start_utc_s,
        "prompt_tokens_total": trace.prompt_total,
        "output_tokens_total": trace.output_total,
        "rate_per_s": (trace.requests - 1) / trace.span_s if trace.span_s else None,
        "peak_rate_per_s": {
            name: float(window_requests(trace, width).max() / width)
            for name, width in _WINDOWS.items()
            if trace.span_s >= width
        },
    }
    for _, key in _LENGTHS:
        tokens = getattr(trace, key)
        points = np.quantile(tokens, [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
        names = ("least", "p10", "p50", "p90", "p99", "most")
        facts[key] = {"mean": float(tokens.mean()), **dict(zip(names, map(float, points), strict=True))}
    ids = trace.hash_ids
    facts["prefix_share"] = None if ids is None or not ids.size else 1.0 - len(np.unique(ids)) / ids.size
    facts |= {"skipped_rows": trace.skipped_rows, "notes": list(trace.notes)}
    return facts


def _load(trace: Trace) -> list[float]:
    import numpy as np

    counts, _ = np.histogram(trace.arrival_s, bins=60)
    return [float(count) for count in counts]


@command.command("fit", epilog="Example: carbonfleet trace fit azure_conv.csv > day.yaml", context_settings=opt.HELP)
@click.argument("file", type=opt.FILE)
@click.option("--duration", type=opt.POSITIVE, metavar="SECONDS", help="Length to generate; default the trace's span.")
@sort_option
@bad_option
@opt.json_option
def fit(file: str, duration: float | None, sort: bool, allow_bad_rows: int, as_json: bool) -> None:
    """Fit a generator to a trace FILE and print it as the generator section of a scenario.

    Rate, burstiness of the arrivals, and the quantiles of both lengths. The fit's errors stand beside it.
    """
    import yaml

    from sim.trace import read_trace
    from sim.trace.fit import fit as fit_generator

    trace = read_trace(file, sort=sort, allow_bad_rows=allow_bad_rows)
    spec, errors = fit_generator(trace, duration)
    section = {"generator": spec.model_dump(mode="json", exclude_defaults=True)}
    if as_json:
        opt.print_json({**section, "errors": errors})
        return
    click.echo(f"# fitted to {trace.name}, {trace.requests:,} requests; one draw of it against the trace:")
    for name, value in errors.items():
        click.echo(f"#   {name}: {100 * value:+.1f} %")
    click.echo(yaml.safe_dump(section, sort_keys=False), nl=False)


@command.command(
    "import",
    epilog="Example: carbonfleet trace import sharegpt x.json --rate 5 -o trace.csv",
    context_settings=opt.HELP,
)
@click.argument("kind", metavar="FORMAT", type=click.Choice(["sharegpt", "prometheus", "any"]))
@click.argument("file", type=opt.FILE)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The CSV trace to write.")
@click.option("--rate", type=opt.POSITIVE, metavar="PER_S", help="Requests a second (sharegpt).")
@click.option(
    "--characters-per-token", type=opt.POSITIVE, default=4.0, show_default=True, help="To count tokens by (sharegpt)."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@sort_option
@bad_option
@opt.json_option
def import_(
    kind: str,
    file: str,
    output: Path,
    rate: float | None,
    characters_per_token: float,
    seed: int,
    sort: bool,
    allow_bad_rows: int,
    as_json: bool,
) -> None:
    """Make a CSV trace of FILE: ShareGPT conversations, a Prometheus range query, or any format that is read.

    What the source lacks (arrivals, tokens) is modelled, and the notes say so.
    """
    from sim.trace import read_trace, write_trace
    from sim.trace.modelled import prometheus, sharegpt

    if kind == "sharegpt":
        if rate is None:
            raise click.UsageError("sharegpt has no times; give --rate")
        trace = sharegpt(file, rate, characters_per_token, seed)
    elif kind == "prometheus":
        trace = prometheus(file, seed)
    else:
        trace = read_trace(file, sort=sort, allow_bad_rows=allow_bad_rows)
    write_trace(trace, output)
    if as_json:
        opt.print_json({"file": str(output), **_facts(trace)})
        return
    click.echo(f"{output}: {trace.summary()}")
    for text in trace.notes:
        click.echo(f"note: {text}")
