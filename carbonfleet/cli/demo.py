"""`demo`: a generated day on a mixed fleet at two sites, what it emits and why, and what H100s alone would emit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from sim.run import Run
    from sim.scenario import Scenario

MODEL = "llama-3.1-8b"
H100 = "h100-sxm-80gb"
DAY: dict[str, Any] = {
    "name": "demo",
    "generator": {"duration_s": 86400, "rate_per_s": 3.0, "shape": "diurnal", "lengths": "azure-conv"},
    "start": "2023-06-14T00:00:00Z",
    "sites": [{"name": "quebec", "grid": "CA-QC"}, {"name": "california", "grid": "US-CAL-CISO"}],
    "pools": [
        {"name": "h100-quebec", "site": "quebec", "gpu": H100, "model": MODEL, "instances": 2},
        {"name": "a100-california", "site": "california", "gpu": "a100-sxm-80gb", "model": MODEL, "instances": 2},
        {"name": "l4-california", "site": "california", "gpu": "l4", "model": MODEL, "instances": 4},
    ],
    "slo": {"ttft_s": 2.0, "tpot_s": 0.2},
}


@click.command("demo", epilog="Example: carbonfleet demo", context_settings=opt.HELP)
@opt.json_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Write the run directory here.",
)
@opt.quiet_option
def command(as_json: bool, output: Path, quiet: bool) -> None:
    """Serve a day of generated traffic on H100s, A100s and L4s in Quebec and California.

    Prints latency, energy and carbon with the reasons, and what an all-H100 fleet of equal capacity would emit.
    """
    from carbonfleet import report
    from profiles.inputs import validate
    from sim.run import run
    from sim.scenario import Scenario

    scenario = validate(Scenario, DAY)
    with opt.progress("a day on the mixed fleet", quiet) as progress:
        mixed = run(scenario, progress=progress)
    mixed.write(output, command=sys.argv)
    report.write(output)
    with opt.progress("the same day on H100s alone", quiet) as progress:
        alone = run(all_h100(scenario, mixed), trace=mixed.trace, progress=progress)
    opt.warn(mixed.summary["warnings"], quiet)
    if as_json:
        opt.print_json({"mixed": mixed.summary, "all_h100": alone.summary, "run_directory": str(output)})
        return
    from carbonfleet.text import run_report

    click.echo(run_report(mixed.summary))
    click.echo("\n" + "\n".join(["why:", *(f"  {line}" for line in reasons(mixed.summary))]))
    click.echo("\n" + "\n".join(against(mixed.summary, alone.summary)))
    click.echo(f"\nrun directory: {output}; open {output / 'report.html'}")


def capacity_per_s(result: Run) -> dict[str, float]:
    """Requests per second one instance of each pool can carry: the trace's mean request within the TPOT limit."""
    from profiles.serve import best_batch, serve

    prompt, out = (max(1, round(float(x.mean()))) for x in (result.trace.prompt_tokens, result.trace.output_tokens))
    limit = result.scenario.slo.tpot_s
    rates = {}
    for pool in result.pools:
        served = serve(pool.model, prompt, out, max(1, best_batch(pool.model, prompt, out, limit)))
        rates[pool.spec.name] = served.requests_per_s if served else 0.0
    return rates


def all_h100(scenario: Scenario, result: Run) -> Scenario:
    """The scenario with, at each site, the fewest H100s that carry at least what the site's pools do."""
    from math import ceil

    each = capacity_per_s(result)
    first = next(pool for pool in scenario.pools if pool.gpu == H100)
    pools = []
    for site in scenario.sites:
        needed = sum(each[pool.name] * pool.instances for pool in scenario.pools if pool.site == site.name)
        count = ceil(needed / each[first.name] - 1e-9)
        pools.append(first.model_copy(update={"name": f"h100-{site.name}", "site": site.name, "instances": count}))
    return scenario.model_copy(update={"name": "demo, all H100", "pools": pools})


def reasons(s: dict[str, Any]) -> list[str]:
    """Where the grams come from, in sentences with this run's figures."""
    from carbonfleet.text import figure, grams, share

    total, energy = s["carbon_g"]["total"], s["energy_j"]
    lines = []
    for site in s["sites"]:
        mean, own = site["intensity"]["mean_g_per_kwh"], site["operational_g"] + site["embodied_g"]
        lines.append(
            f"{site['name']}: {share(own, total)} of the carbon at {figure(mean)} g/kWh; "
            f"{share(site['embodied_g'], own)} of it is embodied"
        )
    per_token = []
    for pool in s["pools"]:
        each = pool["carbon_g"] / pool["output_tokens"] * 1000 if pool["output_tokens"] else None
        per_token.append(f"{pool['name']} {grams(each)}")
    lines.append(f"per 1k output tokens: {', '.join(per_token)}")
    beside = energy["gpu_idle"] + energy["host"] + energy["overhead"]
    lines.append(f"{share(beside, energy['total'])} of the energy is not GPUs at work but idling, hosts and cooling")
    return lines


def against(mixed: dict[str, Any], alone: dict[str, Any]) -> list[str]:
    """The all-H100 fleet beside the mixed one."""
    from carbonfleet.text import grams

    fleet = ", ".join(f"{pool['instances']} in {pool['site']}" for pool in alone["pools"])
    ours, theirs = mixed["carbon_g"], alone["carbon_g"]
    change = theirs["total"] / ours["total"] - 1
    met = (100 * summary["slo"]["attainment"] for summary in (alone, mixed))
    return [
        f"an all-H100 fleet of equal capacity ({fleet}) would emit {grams(theirs['total'])} CO2e "
        f"({grams(theirs['low'])} to {grams(theirs['high'])}) instead of {grams(ours['total'])}: {100 * change:+.0f} %",
        f"  operational {grams(theirs['operational'])}, embodied {grams(theirs['embodied'])}; "
        "SLO met by {:.1f} % against {:.1f} %".format(*met),
    ]
