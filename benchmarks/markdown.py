"""Markdown and pictures for the pages of docs/studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from carbonfleet.report.charts import spec
from carbonfleet.reproduce.blocks import Block, Chart, Items, Table, Text, Title


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table of Markdown; the first columns are text, the others figures."""
    rule = ["---" if k < text_columns else "---:" for k in range(len(head))]
    lines = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, rule, *rows))
    return "\n".join(lines) + "\n"


def items(lines: Iterable[str]) -> str:
    """A list of Markdown."""
    return "".join(f"- {line}\n" for line in lines)


def blocks(parts: Iterable[Block], pictures: dict[str, str]) -> str:
    """A reproduction's blocks; a chart is the picture of its name, or left out."""
    found = []
    for part in parts:
        match part:
            case Title(words):
                found.append(f"## {words}\n")
            case Text(words):
                found.append(f"{words}\n")
            case Items(lines):
                found.append(items(lines))
            case Table(head, rows, words):
                found.append(table(head, rows, words))
            case Chart(name, caption):
                found += [f"![{caption}]({pictures[name]})\n"] if name in pictures else []
    return "\n".join(found)


def bars(rows: list[dict[str, Any]], title: str, log: bool = False, offset: bool = False) -> dict[str, Any]:
    """`x` across, `y` down, coloured by `by`: bars, stacked or (`offset`) side by side; points where logarithmic."""
    order, shades = list(dict.fromkeys(row["y"] for row in rows)), list(dict.fromkeys(row["by"] for row in rows))
    scale: dict[str, Any] = {"scale": {"type": "log", "nice": True}} if log else {}
    if all(isinstance(row["x"], int) for row in rows):
        scale = {"axis": {"tickMinStep": 1, "format": "d"}}
    legend: dict[str, Any] = {"orient": "top", "columns": 2}
    encoding: dict[str, Any] = {
        "y": {"field": "y", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 260}},
        "x": {"field": "x", "type": "quantitative", "title": title, **scale},
        "color": {"field": "by", "type": "nominal", "title": None, "scale": {"domain": shades}, "legend": legend},
    }
    if offset and not log:
        encoding["yOffset"] = {"field": "by", "type": "nominal", "sort": shades}
    height = (14 * len(shades) + 8 if offset and not log else 30) * len(order)
    mark = {"type": "point", "filled": True, "size": 90, "opacity": 1} if log else "bar"
    return spec(rows, height=height, mark=mark, encoding=encoding)
