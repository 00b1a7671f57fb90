"""Capacity questions of `simulate`, shown: --find-rate, --find-instances and --replications."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from sim.capacity import Try
    from sim.scenario import Scenario

ALL_POOLS = "-"  # --find-instances without a name: the only pool


def answer(scenario: Scenario, asked: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """Answer one capacity question and print it."""
    from sim import capacity

    warm_up_s = asked["warm_up"] or 0.0
    if asked["replications"]:
        with opt.progress("replications", quiet) as progress:
            document = capacity.replicate(scenario, asked["replications"], warm_up_s, progress, asked["jobs"])
        if as_json:
            opt.print_json(document)
        else:
            _print_replications(document)
        return

    def tell(one: Try) -> None:
        opt.note(f"{one.value:g}: {100 * one.attainment:.2f} % of the requests keep the SLO", quiet)

    if asked["find_rate"]:
        found = capacity.find_rate(scenario, asked["target"], warm_up_s=warm_up_s, progress=tell)
    else:
        pool = None if asked["find_instances"] == ALL_POOLS else asked["find_instances"]
        found = capacity.find_instances(scenario, pool, asked["target"], warm_up_s, progress=tell)
    if as_json:
        opt.print_json(asdict(found))
        return
    best = found.answer
    what = (
        f"{best.value:.3g} x the rate, {best.rate_per_s:.4g} requests/s" if found.what == "rate" else f"{best.value:g}"
    )
    named = "largest rate" if found.what == "rate" else "fewest instances"
    click.echo(f"{named} with the SLO kept by {100 * found.target:g} % of the requests: {what}")
    _print_tries(found.what, sorted(found.tries, key=lambda each: each.value))


def _print_tries(what: str, tries: list[Try]) -> None:
    from carbonfleet.text import figure, grams, table

    head = [what, "requests/s", "SLO", "TTFT p99 s", "TPOT p99 s", "g per 1k tokens", ""]
    rows = [
        [
            f"{each.value:.4g}",
            figure(each.rate_per_s),
            f"{100 * each.attainment:.2f} %",
            figure(each.ttft_p99_s),
            figure(each.tpot_p99_s),
            grams(each.carbon_g_per_1k_output_tokens),
            "kept" if each.kept else "missed",
        ]
        for each in tries
    ]
    click.echo("\n".join(table(head, rows, 0)))


def _print_replications(document: dict[str, Any]) -> None:
    from carbonfleet.text import figure, table

    rows = []
    for name, stats in document["figures"].items():
        rows.append([name, figure(stats["mean"], 4), f"± {figure(stats['half_width_95'])}", figure(stats["sd"])])
    seeds = document["seeds"]
    click.echo(f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}; warm-up {document['warm_up_s']:g} s left out")
    click.echo("\n".join(table(["", "mean", "95 % interval", "sd"], rows)))
