"""`optimize`: which fleet carries the demand at least carbon; the plan is replayed by the simulator."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from optimizer.choices import Setting
    from optimizer.plan import Answer, Plan
    from optimizer.refine import Round, Verdict
    from optimizer.study import Study


def _schema() -> dict[str, Any]:
    from optimizer.study import json_schema

    return json_schema()


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
@click.option(
    "--explain", is_flag=True, help="What stands behind it: shadow prices, runner-ups, tipping points; tens of solves."
)
@opt.schema_option(_schema, "a study")
@opt.json_option
@opt.out_option("Write the plan, the scenario that replays it and report.html to this folder.")
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
    explain: bool,
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
        own = (no_verify, output is not None, gap is not None, compare, pareto, hours, replace_or_keep, explain)
        if any(own):
            raise click.UsageError("--melange prints the optimum; it takes --divisible, --time-limit and --json alone")
        _melange(melange, divisible, time_limit, as_json)
    elif study is not None:
        more = {"compare": compare, "pareto": pareto, "replace_or_keep": replace_or_keep, "hours": hours}
        more["explain"] = explain
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
    from carbonfleet import plan_folder, report
    from optimizer import explained, hours, refine, study

    asked = study.read(file)
    changes = {"time_limit_s": time_limit, "gap": gap}
    asked = asked.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if more["hours"]:
        hours.check(asked)
    opt.note("solving, and replaying the plan" if verify else "solving", quiet)
    answer, verdict, rounds = _answered(asked, verify, quiet)
    plan, parts = answer.plan, dict[str, Any]()
    opt.warn(plan.warnings, quiet)
    if verdict is not None:
        parts["verdict"] = verdict.document() | {"rounds": [asdict(each) for each in rounds]}
    parts["board"] = {"schema_version": opt.SCHEMA_VERSION, "fleets": explained.boarded(answer)}

    def keep() -> None:
        if output is not None:
            plan_folder.write(plan, asked, output, {key: part for key, part in parts.items() if part}, file, sys.argv)
            report.write(output)

    keep()
    parts["beside"] = _beside(asked, plan, more, quiet)
    if more["explain"]:
        parts["explained"] = explained.explained(answer, lambda text: opt.note(f"solving: {text}", quiet))
    if any(more.values()):
        keep()
    if as_json:
        shown = {"board": parts["board"]["fleets"], **parts["beside"]}
        shown |= {"explained": parts["explained"]} if "explained" in parts else {}
        opt.print_json({"plan": plan.document(), "replay": parts.get("verdict"), **shown})
    else:
        _print_text(plan, verdict, parts, output)
    if verdict is not None:
        refine.require(verdict)


def _answered(asked: Study, verify: bool, quiet: bool) -> tuple[Answer, Verdict | None, list[Round]]:
    """The plan with the program it was read from, replayed and corrected where it is asked for."""
    from optimizer import plan, refine

    if not verify:
        return plan.answer(asked), None, []
    answers: list[Answer] = []

    def planner(study: Study, factors: dict[Setting, float]) -> Plan:
        answers.append(plan.answer(study, factors))
        return answers[-1].plan

    _, verdict, rounds = refine.confirmed(asked, tell=lambda text: opt.note(text, quiet), planner=planner)
    return answers[-1], verdict, rounds


def _print_text(plan: Plan, verdict: Verdict | None, parts: dict[str, Any], output: Path | None) -> None:
    from carbonfleet.explain_text import board_report, explained_report
    from carbonfleet.plan_text import beside_report, plan_report

    blocks = [plan_report(plan, verdict), board_report(parts["board"]["fleets"])]
    if parts["beside"]:
        blocks.append(beside_report(parts["beside"]))
    if "explained" in parts:
        blocks.append(explained_report(parts["explained"]))
    if output is not None:
        told = f"plan directory: {output}, its page: {output / 'report.html'}"
        blocks.append(f"{told}; replay it with: simulate {output / 'scenario.yaml'}")
    click.echo("\n\n".join(blocks))


def _beside(study: Study, plan: Plan, more: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """What was asked for beside the plan."""
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
