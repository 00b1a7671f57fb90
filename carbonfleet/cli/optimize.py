"""`optimize`: which fleet carries the demand at least carbon; the plan is replayed by the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from optimizer.plan import Plan
    from optimizer.study import Study


@click.command("optimize", epilog="Example: optimize study.yaml -o plans/first", context_settings=opt.HELP)
@click.argument("study", required=False, type=opt.FILE, metavar="[STUDY.yaml]")
@click.option("--melange", type=opt.FILE, metavar="FILE", help="Instead solve a Mélange input (JSON) for least $/h.")
@click.option("--divisible", is_flag=True, help="With --melange: let a bucket's traffic be split freely.")
@click.option("--no-verify", is_flag=True, help="Do not replay the plan.")
@click.option("--time-limit", type=opt.POSITIVE, metavar="SECONDS", help="Most seconds the solver may take.")
@click.option("--gap", type=click.FloatRange(0, 1, max_open=True), help="Stop at this relative gap to the bound.")
@click.option("--compare", is_flag=True, help="Beside it: each type alone, least cost, least energy, what is owned.")
@click.option(
    "--pareto", type=click.IntRange(2, 50), metavar="N", help="A front of cost against carbon from N carbon prices."
)
@click.option("--hours", is_flag=True, help="Dispatch all 8,760 hours of the first year with the plan's fleet.")
@click.option(
    "--replace-or-keep", is_flag=True, help="The intensity and lifetime at which owned and new units emit the same."
)
@opt.json_option
@opt.out_option("Write the plan and the scenario that replays it to this folder.")
@opt.quiet_option
def command(
    study: str | None,
    melange: str | None,
    divisible: bool,
    no_verify: bool,
    time_limit: float | None,
    gap: float | None,
    compare: bool,
    pareto: int | None,
    hours: bool,
    replace_or_keep: bool,
    as_json: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Pick the fleet of least carbon for the demand of STUDY.yaml, with the proved gap, and replay it.

    Exits 3 when nothing can carry the demand, and 5 when plan and replay disagree.
    """
    if (study is None) == (melange is None):
        raise click.UsageError("give either a STUDY.yaml or --melange FILE")
    if study is not None and divisible:
        raise click.UsageError("--divisible goes with --melange")
    if melange is not None:
        if no_verify or output is not None or gap is not None or compare or pareto or hours or replace_or_keep:
            raise click.UsageError("--melange prints the optimum; it takes --divisible, --time-limit and --json alone")
        _melange(melange, divisible, time_limit, as_json)
    elif study is not None:
        more = {"compare": compare, "pareto": pareto, "replace_or_keep": replace_or_keep, "hours": hours}
        _study(study, time_limit, gap, not no_verify, more, as_json, output, quiet)


def _melange(file: str, divisible: bool, time_limit: float | None, as_json: bool) -> None:
    from optimizer.melange import solve_melange
    from profiles.inputs import CarbonfleetError, read_json

    limit = {} if time_limit is None else {"time_limit_s": time_limit}
    answer: dict[str, Any] = solve_melange(read_json(file), divisible=divisible, **limit)
    if answer["cost"] is None:
        raise CarbonfleetError("no fleet was found within the time limit; give --time-limit more seconds")
    if as_json:
        opt.print_json(answer)
        return
    fleet = ", ".join(f"{count} x {name}" for name, count in answer["fleet"].items()) or "no fleet"
    click.echo(f"{answer['cost']:.2f} $/h: {fleet}")
    if answer["bound"] is None:
        click.echo(f"{answer['status']}; no bound was proved")
    else:
        click.echo(f"{answer['status']}; bound {answer['bound']:.2f} $/h, gap {round(100 * answer['gap'], 4):g} %")


def _study(
    file: str,
    time_limit: float | None,
    gap: float | None,
    verify: bool,
    more: dict[str, Any],
    as_json: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Solve a study, replay and correct it; Unverified (exit 5) after everything was shown and written."""
    from dataclasses import asdict

    from optimizer import hours, refine, solve, study, written
    from profiles.outputs import write_json

    asked = study.read(file)
    changes = {"time_limit_s": time_limit, "gap": gap}
    asked = asked.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if more["hours"]:
        hours.check(asked)
    opt.note("solving, and replaying the plan" if verify else "solving", quiet)
    verdict, rounds = None, list[refine.Round]()
    if verify:
        plan, verdict, rounds = refine.confirmed(asked, tell=lambda text: opt.note(text, quiet))
    else:
        plan = solve(asked)
    if output is not None:
        written.write(plan, asked, output)
        if verdict is not None:
            write_json(output / "verdict.json", verdict.document() | {"rounds": [asdict(each) for each in rounds]})
    opt.warn(plan.warnings, quiet)
    beside = _beside(asked, plan, more, quiet)
    if output is not None and beside:
        write_json(output / "beside.json", beside)
    if as_json:
        replayed = None if verdict is None else verdict.document()
        if replayed is not None:
            replayed["rounds"] = [asdict(each) for each in rounds]
        opt.print_json({"plan": plan.document(), "replay": replayed, **beside})
    else:
        from carbonfleet.plan_text import beside_report, plan_report

        click.echo(plan_report(plan, verdict))
        if beside:
            click.echo("\n" + beside_report(beside))
        if output is not None:
            click.echo(f"\nplan directory: {output}; replay it with: simulate {output / 'scenario.yaml'}")
    if verdict is not None:
        refine.require(verdict)


def _beside(study: Study, plan: Plan, more: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """What was asked for beside the plan."""
    from dataclasses import asdict

    from optimizer import beside
    from optimizer.hours import redispatch
    from profiles import catalog

    found: dict[str, Any] = {}
    with catalog.using(study.own_catalog):
        if more["compare"]:
            rows = beside.rivals(study, plan, lambda name: opt.note(f"solving {name}", quiet))
            found["compare"] = [asdict(row) for row in rows]
        if more["pareto"]:
            found["pareto"] = beside.front(study, more["pareto"])
        if more["replace_or_keep"]:
            found["replace_or_keep"] = beside.replace_or_keep(study)
    if more["hours"]:
        opt.note("dispatching every hour of the first year", quiet)
        found["hours"] = asdict(redispatch(study, plan))
    return found
