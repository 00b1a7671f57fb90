"""CSV tables of named things: cells checked on reading, every refusal with its file, line and column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, TypeVar

from profiles.inputs import InputError, near_miss, read_text


class Named(Protocol):
    """Whatever a table holds under a name."""

    @property
    def name(self) -> str:
        """The name it is found by."""


Entry = TypeVar("Entry", bound=Named)


class Row:
    """One CSV row whose cells are checked on reading."""

    def __init__(self, file: Path, line: int, cells: dict[str, str]) -> None:
        self._file, self._line, self._cells = file, line, cells

    def refuse(self, column: str, what: str, mend: str | None = None) -> InputError:
        """The complaint about a cell, with its file and line."""
        return InputError(what, file=self._file, line=self._line, field=column, mend=mend)

    def columns(self) -> list[str]:
        """The names in the table's header."""
        return list(self._cells)

    def cell(self, column: str) -> str:
        """What stands in a cell, possibly nothing."""
        if column not in self._cells:
            raise InputError("no such column", file=self._file, line=1, field=column, mend="add it to the header")
        return self._cells[column].strip()

    def text(self, column: str) -> str:
        """A cell that must not be empty."""
        value = self.cell(column)
        if not value:
            raise self.refuse(column, "empty", "fill it in")
        return value

    def name(self, column: str, known: Collection[str] | None = None) -> str:
        """A name in small letters, digits, dots and dashes; one of the known, where these are given."""
        value = self.text(column)
        if not re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", value):
            raise self.refuse(column, f"{value!r} is not a name", "small letters, digits and dots joined by dashes")
        if known is not None and value not in known:
            raise self.refuse(column, f"unknown {value!r}", near_miss(value, known))
        return value

    def words(self, column: str) -> tuple[str, ...]:
        """Words between spaces; an empty cell gives none."""
        return tuple(self.cell(column).split())

    def maybe(self, column: str) -> float | None:
        """A number not below zero, or None where it is unknown."""
        text = self.cell(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 <= value < 1e13:
            raise self.refuse(column, f"{text!r} is not a number of zero or more")
        return value

    def number(self, column: str) -> float:
        """A positive number that must be known."""
        value = self.maybe(column)
        if not value:
            raise self.refuse(column, "a positive number is needed", "fill it in")
        return value

    def maybe_count(self, column: str) -> int | None:
        """A whole number, or None where it is unknown."""
        value = self.maybe(column)
        if value is not None and value != int(value):
            raise self.refuse(column, f"{value:g} is not a whole number")
        return None if value is None else int(value)

    def count(self, column: str) -> int:
        """A positive whole number that must be known."""
        self.number(column)
        return self.maybe_count(column) or 0

    def yes(self, column: str) -> bool:
        """A cell that says yes or no."""
        value = self.text(column)
        if value not in ("yes", "no"):
            raise self.refuse(column, f"{value!r} is neither yes nor no")
        return value == "yes"


def columns_of(file: Path) -> list[str]:
    """The header of a table."""
    return next(csv.reader(io.StringIO(read_text(file), newline="")), [])


def read_table(file: Path, make: Callable[[Row], Entry], columns: Collection[str] | None = None) -> dict[str, Entry]:
    """Read one CSV table into entries by name; the line named in a refusal is the row's last.

    Args:
        columns: the columns there may be; one that the table lacks is read as empty. Default: those of the table.

    Raises:
        InputError: a column or cell is missing, a cell is broken, a name is given twice; file and line are named.
    """
    entries: dict[str, Entry] = {}
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    for column in reader.fieldnames or ():
        if columns is not None and column not in columns:
            raise InputError("no such column", file=file, line=1, field=column, mend=near_miss(column, columns))
    for cells in reader:
        line = reader.line_num
        if None in cells or None in cells.values():
            raise InputError("wrong number of columns", file=file, line=line)
        entry = make(Row(file, line, {**dict.fromkeys(columns or (), ""), **cells}))
        if entry.name in entries:
            raise InputError(f"{entry.name} is given twice", file=file, line=line)
        entries[entry.name] = entry
    if not entries:
        raise InputError("the table is empty", file=file)
    return entries
