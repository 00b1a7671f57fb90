"""`reproduce`: papers as commands, their figures beside ours; one subcommand a paper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from carbonfleet.reproduce.result import Study

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
Text: TypeAlias = Callable[[dict[str, Any]], str]


@click.group("reproduce", context_settings=opt.HELP)
def command() -> None:
    """Papers reproduced: their experiment, their figures beside ours, and the same on other GPUs and grids."""


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """A list between commas."""
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter("an empty name between commas")
    return names


@command.command(
    "hotcarbon24",
    epilog="Example: carbonfleet reproduce hotcarbon24 --gpus h100-sxm-80gb,l4 --zones PL,SE -o runs/hotcarbon24",
    context_settings=opt.HELP,
)
@click.option("--gpus", callback=_names, metavar="GPU,...", help="GPUs; default rtx-6000-ada,t4 as in the paper.")
@click.option("--models", callback=_names, metavar="LLM,...", help="LLMs; default llama-1b,llama-3b,llama-7b.")
@click.option(
    "--zones",
    callback=_names,
    metavar="ZONE,...",
    help="Grid zones, files or g/kWh, each by its mean; default the paper's own means of QC, CISO and PACE.",
)
@click.option("--lifetime-years", type=opt.POSITIVE, help="Life of a GPU; default 5 as in the paper.")
@opt.own_catalog_option
@opt.out_option("Write report.html, result.json, manifest.json and the predicted profiles into this folder.")
@opt.json_option
@opt.quiet_option
def hotcarbon24(
    gpus: tuple[str, ...],
    models: tuple[str, ...],
    zones: tuple[str, ...],
    lifetime_years: float | None,
    own_catalog: str | None,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """LLaMA in static batches on an RTX 6000 Ada and a T4: latency, energy and carbon by phase and region.

    Every number that the paper states stands beside ours with its error and a verdict. All steps are predicted: four
    claims are fitted, the others are a test. With other GPUs, models, zones or lifetime no value of the paper stands
    beside ours.
    """
    from carbonfleet.reproduce.hotcarbon24 import page
    from carbonfleet.reproduce.hotcarbon24.setting import setting
    from carbonfleet.reproduce.hotcarbon24.study import study
    from profiles.catalog import own_files, using

    with using(own_catalog):
        made = study(setting(gpus, models, zones, lifetime_years))
    _tell(made, _hotcarbon24_text, page, output, [*own_files(own_catalog), *map(Path, zones)], as_json, quiet)


def _tell(
    made: Study, text: Text, page: ModuleType, output: Path | None, inputs: list[Path], as_json: bool, quiet: bool
) -> None:
    """How every reproduction ends: its folder where one is asked for, its warnings, its document or its text."""
    from carbonfleet.reproduce.result import write

    if output is not None:
        write(made, page.build(made.document), output, inputs, sys.argv)
    opt.warn(made.document["warnings"], quiet)
    if as_json:
        opt.print_json(made.document)
        return
    click.echo(text(made.document))
    if output is not None:
        click.echo(f"\npage: {output / 'report.html'}")


def _hotcarbon24_text(document: dict[str, Any]) -> str:
    """Claims, score and takeaways on a screen; the cells where no claim stands beside them."""
    from carbonfleet.reproduce.hotcarbon24 import words
    from carbonfleet.text import table

    blocks = [[words.headline(document)]]
    if document["beside_paper"]:
        blocks.append(table(words.CLAIMS_HEAD, words.claim_rows(document), 3))
        blocks.append(table(words.SCORE_HEAD, words.score_rows(document)))
    else:
        blocks.append(table(words.CELLS_HEAD, words.cell_rows(document), 2))
    blocks += [[title, *(f"   {check}" for check in checks)] for title, checks in words.takeaway_lines(document)]
    blocks.append(["whole servers instead of chips:", *(f"   {line}" for line in words.change_lines(document))])
    return "\n\n".join("\n".join(block) for block in blocks)


@command.command(
    "llmco2",
    epilog="Example: carbonfleet reproduce llmco2 --released LLMCO2 --rows DATA -o runs/llmco2",
    context_settings=opt.HELP,
)
@click.option(
    "--released",
    type=_FOLDER,
    metavar="DIR",
    help="LLMCO2's released rows: train.csv, validation.csv, test.csv and, for its networks, kernel_graphs.npz.",
)
@click.option(
    "--rows",
    type=_FOLDER,
    metavar="DIR",
    help="Public measurements: aiconfigurator, mlenergy and llm-inference-bench, as docs/predict.md has them.",
)
@click.option(
    "--zones",
    callback=_names,
    metavar="ZONE,...",
    help="Grid zones, files or g/kWh, each by its mean; default QC, CISO and PACE as in HotCarbon'24.",
)
@opt.out_option("Write report.html, result.json and manifest.json into this folder.")
@opt.json_option
@opt.quiet_option
def llmco2(
    released: Path | None,
    rows: Path | None,
    zones: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Predictors of a request's energy on withheld rows, and a request's carbon before it runs.

    A random forest, networks on kernel graphs and fitted forms on the released rows; the shipped predictor's form and
    LLMCarbon's equations on public measurements; seconds, joules and grams of a request of the paper's lengths. What
    needs rows that are not given is left out, and said.
    """
    from carbonfleet.reproduce.blocks import lines
    from carbonfleet.reproduce.llmco2 import story
    from carbonfleet.reproduce.llmco2.study import Setting, study

    def text(document: dict[str, Any]) -> str:
        return "\n".join(lines(story.story(document)))

    asked = Setting(released, rows, zones)
    _tell(study(asked), text, story, output, asked.files(), as_json, quiet)


@command.command(
    "greener-llms",
    epilog="Example: carbonfleet reproduce greener-llms --gpu h200-sxm-141gb --zone PL --utc-offset-h 1 -o runs/h200",
    context_settings=opt.HELP,
)
@click.option("--gpu", help="GPU of the server, eight or fewer to a host; default h100-sxm-80gb.")
@click.option("--model", help="LLM of the catalogue; default llama-2-70b.")
@click.option("--precision", help="Of the weights; default bf16.")
@click.option("--zone", help="Grid of the week: a zone, a file or g/kWh; default CISO.")
@click.option("--utc-offset-h", type=click.FloatRange(-12, 14), help="Local time of the load against UTC; default -8.")
@click.option("--lifetime-years", type=opt.POSITIVE, help="Life of a GPU; default 5.")
@opt.own_catalog_option
@opt.out_option("Write report.html, result.json, manifest.json and the predicted profiles into this folder.")
@opt.json_option
@opt.quiet_option
def greener_llms(
    own_catalog: str | None, output: Path | None, as_json: bool, quiet: bool, **asked: str | float | None
) -> None:
    """Llama-2 70B on 8 H100: tp, batch and SM clock against latency and energy, and a fleet that adapts them.

    The knob that saves most at each load within TTFT and TBT limits, and a week of load on a fleet whose instances, tp
    and clock follow it, beside what Towards Greener LLMs and DynamoLLM publish. Steps are predicted and clocks
    modelled; every saving is replayed by the simulator. Takes about a minute and a half.
    """
    from carbonfleet.reproduce.greener import page
    from carbonfleet.reproduce.greener.study import Setting, study
    from profiles.catalog import own_files, using

    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with using(own_catalog):
        made = study(Setting(**given))
    files = [*own_files(own_catalog), *([Path(given["zone"])] if "zone" in given else [])]
    _tell(made, _greener_text, page, output, files, as_json, quiet)


def _greener_text(document: dict[str, Any]) -> str:
    """Findings, knobs, week and checks on a screen."""
    from carbonfleet.reproduce.greener import reading, words
    from carbonfleet.text import table

    blocks = [
        [words.headline(document)],
        table(words.FINDINGS_HEAD, words.finding_rows(document), 2),
        table(words.KNOBS_HEAD, words.knob_rows(document), 2),
        table(words.POLICY_HEAD, words.policy_rows(document)),
        table(words.CHECKS_HEAD, words.check_rows(document), 3),
        reading.lines(document),
    ]
    return "\n\n".join("\n".join(block) for block in blocks)
