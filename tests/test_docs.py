"""docs/cli.md is the commands' own help, and every command and option says what it does."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from carbonfleet.cli import COMMANDS
from carbonfleet.docs import render, walk

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
CONTEXTS = list(walk())


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_command_is_walked() -> None:
    paths = {context.command_path for context in CONTEXTS}
    nested = {"profiles list", "profiles show", "profiles check", "grid list", "grid show"}
    assert {f"carbonfleet {name}" for name in (*COMMANDS, *nested)} <= paths


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: c.command_path)
def test_every_command_has_help_and_an_example(context: click.Context) -> None:
    command = context.command
    assert command.help
    if not isinstance(command, click.Group):
        assert command.epilog
        assert command.epilog.startswith("Example: ")


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: c.command_path)
def test_every_option_has_help(context: click.Context) -> None:
    for parameter in context.command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{context.command_path} {parameter.opts}"


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: c.command_path)
def test_the_example_names_options_that_exist(context: click.Context) -> None:
    known = {option for parameter in context.command.params for option in parameter.opts}
    for word in (context.command.epilog or "").split():
        if word.startswith("-"):
            assert word in known


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: c.command_path)
def test_every_command_that_prints_a_result_has_json(context: click.Context) -> None:
    if not isinstance(context.command, click.Group):
        assert any("--json" in parameter.opts for parameter in context.command.params)


ROOT = PAGE.parents[1]
HOUR = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
COMMAND_LINES = [line.strip() for line in HOUR.splitlines() if line.startswith("    ") and ".venv/bin/" in line]


def test_the_first_hour_runs_as_it_is_written(tmp_path: Path) -> None:
    """Every command of docs/first-hour.md but make, one after the other as a reader would."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "runs").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert len(COMMAND_LINES) > 12
    for line in COMMAND_LINES:
        name, *arguments = shlex.split(line.removeprefix(".venv/bin/"))
        sub = [] if name == "carbonfleet" else [name]
        done = subprocess.run(
            [sys.executable, "-m", "carbonfleet", *sub, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout
    for made in ("two/report.html", "load.svg", "grid.svg", "own/summary.json", "plan/scenario.yaml"):
        assert (tmp_path / "runs" / made).is_file(), made


@pytest.mark.parametrize("file", sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]), ids=lambda p: p.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), f"{file.name}: {target}"
