"""One offline page of a run or a plan, built from its directory alone: `build` gives the HTML, `write` the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonfleet import plan_folder
from carbonfleet.report import charts as drawn
from carbonfleet.report import folder as run_folder
from carbonfleet.report import page, plan_charts, plan_page
from profiles.outputs import write_text

__all__ = ["build", "drawings", "write"]


def build(folder: str | Path) -> str:
    """The whole page of a run's or a plan's directory.

    Raises:
        InputError: neither of them.
    """
    return plan_page.build(folder) if plan_folder.is_plan(folder) else page.build(folder)


def write(folder: str | Path, target: str | Path | None = None) -> Path:
    """Write the page, by default into the directory; the file.

    Raises:
        InputError: neither a run's nor a plan's directory.
        OutputError: the file cannot be written.
    """
    return write_text(target or Path(folder) / page.FILE, build(folder))


def drawings(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The page's charts as Vega-Lite specifications.

    Raises:
        InputError: neither a run's nor a plan's directory.
    """
    if plan_folder.is_plan(folder):
        return plan_charts.charts(plan_folder.read(folder))
    found = run_folder.read(folder)
    return drawn.charts(found, page.start_ms(found))
