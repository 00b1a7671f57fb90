"""Options and habits that commands share: --json, --quiet, -o, --profiles, notes and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

SCHEMA_VERSION = 1
# The choices of sim.scenario and profiles.embodied, repeated so that --help imports neither; a test compares them.
PRESETS = ("pcf-card", "act", "boavizta", "hotcarbon24")
BOUNDARIES = ("server", "card", "chip")
BATCHING = ("chunked", "prefill-first", "static", "splitwise")
ROUTING = (
    *("round-robin", "least-outstanding-requests", "least-outstanding-tokens", "least-kv", "power-of-two-choices"),
    "least-prefill-backlog",
    *("by-length", "spill-over", "least-added-carbon", "prefix-affine", "planned", "mixed-pool"),
)
SCOPES = ("lifecycle", "direct")

F = TypeVar("F", bound=Callable[..., Any])

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
POSITIVE = click.FloatRange(min=0, min_open=True)
# A file is checked by the library that reads it: its message names the mend and its exit code is the documented one.
FILE = click.Path(path_type=str)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No notes and no progress on stderr.")
profiles_option = click.option(
    "--profiles",
    "profile_dirs",
    multiple=True,
    metavar="DIR",
    help="Folder (or file) of profiles to use before the shipped ones; repeatable.",
)
plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into this .svg or .png file too."
)
own_catalog_option = click.option(
    "--own-catalog",
    metavar="DIR",
    help="Folder with a gpus.csv, hosts.csv or llms.csv of your own, used beside the shipped catalogue.",
)


def out_option(what: str) -> Callable[[F], F]:
    """The -o option, saying what is written there."""
    return click.option("-o", "--output", "output", type=click.Path(path_type=Path), help=what)


def schema_option(of: Callable[[], dict[str, Any]], what: str) -> Callable[[F], F]:
    """The --schema option: the JSON schema of the command's file, for editors; `of` imports what it needs."""

    def show(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            from profiles.outputs import dumps

            click.echo(dumps(of()))
            context.exit()

    text = f"Print the JSON schema of {what} for editors and stop."
    return click.option("--schema", is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document with its schema_version on stdout."""
    from profiles.outputs import dumps

    click.echo(dumps({"schema_version": SCHEMA_VERSION, **document}))


def note(text: str, quiet: bool = False) -> None:
    """A line for people on stderr."""
    if not quiet:
        click.echo(text, err=True)


def warn(texts: list[str], quiet: bool = False) -> None:
    """Warnings of a result, one a line, on stderr."""
    for text in texts:
        note(f"warning: {text}", quiet)


@contextmanager
def progress(title: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr fed with (done, of all); None where nobody watches (no terminal, or --quiet)."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda done, of_all: bar.update(task, completed=done, total=of_all)
