"""The page of a sweep: the front, one objective against the others and against every key, and the points."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from carbonfleet.report.charts import SCHEMA, Spec
from carbonfleet.report.page import figure_of, table, whole
from carbonfleet.sweep.design import Design
from carbonfleet.sweep.folder import PAGE
from carbonfleet.sweep.results import MADE, Results
from carbonfleet.sweep.text import aims, cell, cells, counted, head
from profiles.outputs import write_text

MOST_DRAWN, MOST_KEYS, MOST_ROWS, MOST_NAMED = 3000, 8, 500, 40
_COLOURS = {"domain": [True, False], "range": ["#2f6f4f", "#a3a79b"]}


def write(design: Design, results: Results, folder: Path) -> Path:
    """Write the page into the sweep's folder.

    Raises:
        OutputError: it cannot be written.
    """
    specs = charts(design, results)
    return write_text(folder / PAGE, whole(f"sweep {design.name}", _body(design, results, specs), specs))


def charts(design: Design, results: Results) -> dict[str, Spec]:
    """The first objective against each other one, and against each key that was varied."""
    rows = _drawn(results)
    if not rows:
        return {}
    first, *others = results.objectives
    found = {f"front_{i}": _scatter(rows, design, first, other, named=True) for i, other in enumerate(others)}
    for i, key in enumerate(design.keys[:MOST_KEYS]):
        found[f"key_{i}"] = _scatter(rows, design, f"set.{key}", first, named=False)
    return found


def _drawn(results: Results) -> list[dict[str, Any]]:
    """Points with figures: the front, and of the others as many as a page can carry."""
    made = [row for row in results.rows if row["status"] in MADE]
    rest = [row for row in made if not row["pareto"]]
    return [row for row in made if row["pareto"]][:MOST_DRAWN] + rest[:: max(1, -(-len(rest) // MOST_DRAWN))]


def _scatter(rows: list[dict[str, Any]], design: Design, x: str, y: str, named: bool) -> Spec:
    """Points by two columns; those of the front in colour, and by number where there are few."""
    few = named and sum(row["pareto"] for row in rows) <= MOST_NAMED
    values = [
        {
            "x": row.get(x) if isinstance(row.get(x), int | float) else cell(row.get(x)),
            "y": row.get(y),
            "best": row["pareto"],
            "label": str(row["point"]) if few and row["pareto"] else "",
            "tip": "; ".join([f"point {row['point']}", *(f"{k} {cell(row.get(f'set.{k}'))}" for k in design.keys)]),
        }
        for row in rows
    ]
    number = all(isinstance(value["x"], int | float) and not isinstance(value["x"], bool) for value in values)
    across: Spec = {"field": "x", "type": "quantitative" if number else "nominal", "title": x.removeprefix("set.")}
    across |= {"scale": {"zero": False}} if number else {"axis": {"labelAngle": 0, "labelLimit": 140}}
    tip = [{"field": "tip", "title": "point"}, {"field": "x", "title": x}, {"field": "y", "title": y}]
    colour = {"field": "best", "type": "nominal", "legend": None, "scale": _COLOURS}
    mark = {"type": "point", "filled": True, "size": 60, "opacity": 0.9}
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": 260 if named else 170,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": values},
        "encoding": {
            "x": across,
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": False}},
        },
        "layer": [
            {"mark": mark, "encoding": {"color": colour, "tooltip": tip}},
            {"mark": {"type": "text", "align": "left", "dx": 8}, "encoding": {"text": {"field": "label"}}},
        ],
    }


def _body(design: Design, results: Results, specs: dict[str, Spec]) -> Iterable[str]:
    yield f"<header><h1>{escape(design.name)}</h1><p>{escape(_what(design, results))}</p></header><main>"
    columns = head(design, results)
    if results.front:
        yield f"<h2>Points that no other beats</h2><p>No other point is better at all of: {escape(aims(results))}.</p>"
    for name in specs:
        if name.startswith("front_"):
            yield figure_of(name, "Every point; in green those that no other beats at every objective.")
    if results.front:
        yield table(columns, [cells(design, results, row) for row in results.front[:MOST_ROWS]], 1)
    if any(name.startswith("key_") for name in specs):
        yield f"<h2>What moves {escape(next(iter(results.objectives)))}</h2>"
    for i, key in enumerate(design.keys[:MOST_KEYS]):
        if f"key_{i}" in specs:
            yield figure_of(f"key_{i}", f"By {key}, whatever the other keys are.")
    yield from _points(design, results)
    yield from _notes(results)
    yield "</main>"


def _what(design: Design, results: Results) -> str:
    base = "simulated" if design.kind == "scenario" else "planned"
    return f"{counted(results)}; each {base} with {', '.join(design.keys)} set."


def _points(design: Design, results: Results) -> Iterable[str]:
    wrong = [row for row in results.rows if row["error"]]
    if wrong:
        rows = [[str(row["point"]), row["status"], row["error"]] for row in wrong[:MOST_ROWS]]
        yield "<h2>Points with an error</h2>" + table(["point", "status", "error"], rows, 3)
    made = [row for row in results.rows if row["status"] in MADE]
    shown = "" if len(made) <= MOST_ROWS else f", the first {MOST_ROWS}; the others are in sweep.parquet"
    yield f"<h2>All points</h2><p>{len(made):,} with figures{shown}.</p>"
    yield table(head(design, results), [cells(design, results, row) for row in made[:MOST_ROWS]], 1)


def _notes(results: Results) -> Iterable[str]:
    told = dict.fromkeys(text for row in results.rows for text in row.get("warnings") or [])
    if told:
        items = "".join(f"<li>{escape(text)}</li>" for text in list(told)[:MOST_NAMED])
        yield f"<h2>Warnings of the points</h2><ul>{items}</ul>"
    if results.assumptions and isinstance(results.assumptions[0], dict):
        rows = [[str(each[key]) for key in ("name", "value", "source", "reason")] for each in results.assumptions]
        yield "<h2>What every point assumes</h2>" + table(["what", "value", "given by", "why"], rows, 4)
    elif results.assumptions:
        items = "".join(f"<li>{escape(str(text))}</li>" for text in results.assumptions)
        yield f"<h2>What every point assumes</h2><ul>{items}</ul>"
    if results.sources:
        items = "".join(f"<li>{escape(_source(each))}</li>" for each in results.sources)
        yield f"<h2>Sources</h2><ul>{items}</ul>"


def _source(each: Any) -> str:
    if not isinstance(each, dict):
        return str(each)
    return ", ".join(str(each[key]) for key in ("what", "kind", "tier", "band", "source") if each.get(key))
