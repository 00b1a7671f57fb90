"""`report`: the page of a run or a plan, and its charts as pictures."""

from __future__ import annotations

from pathlib import Path

import click

from carbonfleet.cli import options as opt


@click.command(
    "report", epilog="Example: carbonfleet report runs/demo --charts slides --format svg", context_settings=opt.HELP
)
@click.argument("folder", type=opt.FILE, metavar="DIR")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page; default DIR/report.html.")
@click.option("--charts", type=click.Path(path_type=Path), metavar="DIR", help="Also write every chart here.")
@click.option(
    "--format", "kind", type=click.Choice(["svg", "png"]), default="svg", show_default=True, help="Format of --charts."
)
@opt.json_option
def command(folder: str, output: Path | None, charts: Path | None, kind: str, as_json: bool) -> None:
    """Write the report of a run or plan directory DIR: one HTML page that needs no network.

    It is built from the directory alone: what simulate -o or optimize -o wrote.
    """
    from carbonfleet import report
    from carbonfleet.report import vega

    target = report.write(folder, output)
    files = []
    if charts is not None:
        files = vega.export(report.drawings(folder), charts, kind)
    if as_json:
        opt.print_json({"report": str(target), "charts": [str(file) for file in files]})
        return
    for file in (target, *files):
        click.echo(str(file))
