"""`compare`: runs side by side, and what would turn the answer round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from carbonfleet.cli import options as opt


@click.command(
    "compare", epilog="Example: carbonfleet compare runs/h100 runs/a100 -o compare.html", context_settings=opt.HELP
)
@click.argument("runs", nargs=-1, type=opt.FILE, metavar="RUN RUN...")
@opt.json_option
@opt.out_option("Write the comparison as an HTML page here.")
def command(runs: tuple[str, ...], as_json: bool, output: Path | None) -> None:
    """Compare two or more run directories; every further RUN with the first.

    A point of a sweep is a RUN too: runs/sweep:3 is point 3 of the sweep in runs/sweep.

    Totals are compared where traffic, horizon and completed tokens are the same, else grams per 1,000 output tokens.
    The difference is taken again under each shared assumption; those that turn its sign are named.
    """
    from carbonfleet.compare import compare

    found = compare(list(runs))
    if output is not None:
        from carbonfleet.report import comparison

        comparison.write(found, output)
    if as_json:
        opt.print_json(found)
        return
    click.echo(_text(found))
    if output is not None:
        click.echo(f"\npage: {output}")


def _text(found: dict[str, Any]) -> str:
    from carbonfleet.text import pair_lines, runs_table

    blocks = [runs_table(found), *(pair_lines(pair) for pair in found["pairs"])]
    return "\n\n".join("\n".join(block) for block in blocks)
