"""Markdown for the pages of docs/studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table of Markdown; the first columns are text, the others figures."""
    rule = ["---" if k < text_columns else "---:" for k in range(len(head))]
    lines = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, rule, *rows))
    return "\n".join(lines) + "\n"


def items(lines: Iterable[str]) -> str:
    """A list of Markdown."""
    return "".join(f"- {line}\n" for line in lines)
