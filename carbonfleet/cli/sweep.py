"""`sweep`: many scenarios or studies from one file, on this machine or a Dask cluster; one table comes out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from carbonfleet.sweep.crew import Crew
    from carbonfleet.sweep.design import Design
    from carbonfleet.sweep.folder import Folder
    from carbonfleet.sweep.results import Results
    from carbonfleet.sweep.run import Plan

SHOWN = 10


@click.command(
    "sweep", epilog="Example: carbonfleet sweep examples/sweep-fleet.yaml --jobs 2", context_settings=opt.HELP
)
@click.argument("file", type=opt.FILE, metavar="FILE.yaml")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes here; default one a core.")
@click.option(
    "--cluster", metavar="ADDRESS", help="Use the Dask cluster whose scheduler is there, like tcp://head:8786."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of the scenario or study in every point."
)
@click.option("--retry-failed", is_flag=True, help="Make points again that failed the last time.")
@click.option("--dry-run", is_flag=True, help="Print the points and what is left of them, and stop.")
@click.option(
    "--print-config",
    type=click.IntRange(min=0),
    metavar="N",
    help="Print point N's scenario or study as YAML and stop.",
)
@opt.json_option
@opt.out_option("Keep points, table and page in this folder; default runs/ and FILE's name.")
@opt.quiet_option
def command(
    file: str,
    jobs: int | None,
    cluster: str | None,
    settings: tuple[str, ...],
    retry_failed: bool,
    dry_run: bool,
    print_config: int | None,
    as_json: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Run every point of FILE.yaml: a scenario or a study with keys varied over a grid, cases or a drawn sample.

    One Parquet table, a page with the points that no other beats, and a file a point come out. Points that are there
    already are not made again, so a stopped sweep goes on where it was. A point that fails is recorded with its error
    and the others go on; exits 1 only where no point could be made.
    """
    if jobs is not None and cluster is not None:
        raise click.UsageError("--jobs is for this machine; a cluster's workers are as many as it has")
    from carbonfleet.sweep import design as designs
    from carbonfleet.sweep import run
    from carbonfleet.sweep.folder import Folder

    design = designs.read(file, settings)
    if print_config is not None:
        _print_config(design, print_config, as_json)
        return
    folder = Folder(output if output is not None else Path("runs") / Path(file).stem)
    plan = run.plan(design, folder, retry_failed)
    if dry_run:
        _dry_run(design, plan, as_json)
        return
    _say_what_is_there(plan, quiet)
    try:
        with opt.progress("sweeping", quiet) as progress:
            results = run.run(
                design, folder, plan, lambda: _crew(jobs, cluster, len(plan.left)), progress=progress, command=sys.argv
            )
    except KeyboardInterrupt:
        opt.note(f"what is made is kept in {folder.path}; the same command goes on", quiet)
        raise
    _show(design, results, folder, plan, as_json, quiet)
    if not any(row["status"] in ("ok", "unverified") for row in results.rows):
        click.get_current_context().exit(1)


def _crew(jobs: int | None, cluster: str | None, points: int) -> Crew:
    from carbonfleet.sweep import crew

    if cluster is not None:
        found = crew.Cluster(cluster)
        _hush()
        return found
    return crew.Here(min(jobs or crew.cores(), points))


def _hush() -> None:
    """Leave out the logs (with tracebacks) of a connection that ends: what they mean is said in one line."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _say_what_is_there(plan: Plan, quiet: bool) -> None:
    if plan.gone:
        what = (
            f"{plan.gone} points of the sweep in this folder are other ones now (file, inputs or carbonfleet changed)"
        )
        opt.note(f"{what}: none of them is used", quiet)
    if plan.kept:
        opt.note(f"{plan.kept} points are there already, {len(plan.left)} are left", quiet)


def _print_config(design: Design, number: int, as_json: bool) -> None:
    from carbonfleet.config import as_yaml
    from carbonfleet.sweep.design import KINDS
    from profiles.inputs import InputError

    if number >= len(design.points):
        what, mend = f"there is no point {number}", f"it has 0 to {len(design.points) - 1}"
        raise InputError(what, file=design.file, field="--print-config", mend=mend)
    point = design.points[number]
    if point.config is None:
        raise InputError(f"point {number} cannot be resolved: {point.error}", file=design.file)
    if as_json:
        opt.print_json({design.kind: point.config})
    else:
        click.echo(as_yaml(KINDS[design.kind].model.model_validate(point.config)), nl=False)


def _dry_run(design: Design, plan: Plan, as_json: bool) -> None:
    from carbonfleet.sweep.text import cell
    from carbonfleet.text import table

    left = {task.key for task in plan.left}
    states = ["refused" if key is None else "left" if key in left else "there" for key in plan.keys]
    both = list(zip(design.points, states, strict=True))
    if as_json:
        points = [
            {"point": point.number, "state": state, "set": point.settings, "error": point.error, "key": key}
            for (point, state), key in zip(both, plan.keys, strict=True)
        ]
        opt.print_json({"name": design.name, "kind": design.kind, "points": points, "left": len(left)})
        return
    rows = [
        [str(point.number), *(cell(point.settings.get(key)) for key in design.keys), point.error or state]
        for point, state in both
    ]
    click.echo("\n".join(table(["point", *design.keys, ""], rows, 1)))
    click.echo(f"\n{len(rows)} points, {len(left)} to be made")


def _show(design: Design, results: Results, folder: Folder, plan: Plan, as_json: bool, quiet: bool) -> None:
    from carbonfleet.report import sweep as page
    from carbonfleet.sweep.folder import PAGE, TABLE

    page.write(design, results, folder.path)
    said = [f"point {row['point']} {row['status']}: {row['error']}" for row in results.rows if row["error"]]
    more = [f"{len(said) - SHOWN} more points have errors"] if len(said) > SHOWN else []
    opt.warn([*said[:SHOWN], *more], quiet)
    if as_json:
        opt.print_json(
            {
                "name": design.name,
                "kind": design.kind,
                "counts": results.counts,
                "kept": plan.kept,
                "gone": plan.gone,
                "objectives": results.objectives,
                "front": [row["point"] for row in results.front],
                "points": results.rows,
                "assumptions": results.assumptions,
                "warnings": said,
                "sources": results.sources,
                "folder": str(folder.path),
            }
        )
        return
    from carbonfleet.sweep.text import report

    click.echo(report(design, results))
    click.echo(f"\ntable: {folder.path / TABLE}; page: {folder.path / PAGE}")
    if design.kind == "scenario" and len(results.front) > 1:
        two = [row["point"] for row in results.front[:2]]
        click.echo(f"compare two points: carbonfleet compare {folder.path}:{two[0]} {folder.path}:{two[1]}")
