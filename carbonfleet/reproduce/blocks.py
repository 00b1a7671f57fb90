"""A reproduction's page as blocks, so that report.html, docs/studies and the terminal tell the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

from carbonfleet import text
from carbonfleet.report.page import bullets, figure_of, table, whole


@dataclass(frozen=True, slots=True)
class Title:
    """A heading of a part."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    lines: Iterable[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first `text_columns` are words, the others figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """The place of a chart."""

    name: str
    caption: str


Block: TypeAlias = Title | Text | Items | Table | Chart


def page(title: str, where: str, blocks: Iterable[Block], charts: dict[str, Any]) -> str:
    """The HTML page of a reproduction."""
    head = f"<header><h1>{escape(title)}</h1><p>{escape(where)}</p></header><main>"
    return whole(title, [head, *map(_html, blocks), "</main>"], charts)


def _html(block: Block) -> str:
    match block:
        case Title(words):
            return f"<h2>{escape(words)}</h2>"
        case Text(words):
            return f"<p>{escape(words)}</p>"
        case Items(lines):
            return bullets(lines)
        case Table(head, rows, words):
            return table(head, rows, words)
        case Chart(name, caption):
            return figure_of(name, caption)


def lines(blocks: Iterable[Block]) -> list[str]:
    """The blocks on a screen, an empty line between; charts are left out."""
    found: list[str] = []
    for block in blocks:
        match block:
            case Title(words):
                told = [words, "-" * len(words)]
            case Text(words):
                told = [words]
            case Items(items):
                told = [f"- {line}" for line in items]
            case Table(head, rows, words):
                told = text.table(head, rows, words)
            case Chart():
                continue
        found += [*told, ""]
    return found[:-1]
