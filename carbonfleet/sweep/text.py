"""A sweep's result as text and cells, for the terminal and for the page."""

from __future__ import annotations

from typing import Any

from carbonfleet.sweep.design import Design
from carbonfleet.sweep.results import Results
from carbonfleet.text import figure, table

MOST = 20
WIDEST = 40  # characters of a cell


def cell(value: Any) -> str:
    """A value that was set, or a figure."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = "-" if value is None else str(value)
        return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
    return figure(value, 4) if isinstance(value, float) else str(value)


def head(design: Design, results: Results) -> list[str]:
    """Names of the columns that a reader is shown."""
    return ["point", *design.keys, *(["fleet"] if design.kind == "study" else []), *results.objectives]


def cells(design: Design, results: Results, row: dict[str, Any]) -> list[str]:
    """One row under `head`."""
    names = [*(f"set.{key}" for key in design.keys), *(["fleet"] if design.kind == "study" else [])]
    return [str(row["point"]), *(cell(row.get(name)) for name in (*names, *results.objectives))]


def counted(results: Results) -> str:
    """How many points ended how."""
    told = ", ".join(f"{count} {status}" for status, count in results.counts.items())
    return f"{len(results.rows)} points: {told}"


def aims(results: Results) -> str:
    """The objectives in words."""
    return ", ".join(f"{'most' if way == 'max' else 'least'} {name}" for name, way in results.objectives.items())


def report(design: Design, results: Results) -> str:
    """The points that no other beats, on one screen."""
    lines = [counted(results)]
    lacking = [name for name in results.objectives if all(row.get(name) is None for row in results.rows)]
    if lacking:
        lines.append(f"no point has {', '.join(lacking)}, so none is judged")
    if results.front:
        lines += ["", f"no other point is better at all of: {aims(results)}"]
        lines += table(head(design, results), [cells(design, results, row) for row in results.front[:MOST]], 1)
        if len(results.front) > MOST:
            lines.append(f"... and {len(results.front) - MOST} more in the table")
    return "\n".join(lines)
