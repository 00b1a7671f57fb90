"""Rows of a CSV file of a public format, each cell checked as it is read; a broken one is refused with its place."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from profiles.importers.reading import Cells
from profiles.inputs import InputError, near_miss, read_text

_MISSPELT = 0.85  # likeness from which an unknown column is a known one misspelt, where that one is missing
Entry = TypeVar("Entry")


class Record(Cells):
    """One row; `unmeasured` names its figures that are empty or zero."""

    def __init__(self, file: str | Path, line: int, cells: dict[str, str]) -> None:
        super().__init__(file, line, cells)
        self.unmeasured: list[str] = []

    def figure(self, field: str) -> float | None:
        """A measured number above zero; None where the cell is empty or zero, which `unmeasured` then names."""
        if self.maybe(field):
            return self.number(field)
        self.unmeasured.append(field)
        return None

    def one_of(self, field: str, known: dict[str, Entry]) -> Entry:
        """What a word stands for."""
        text = self.text(field).lower()
        if text not in known:
            raise self.refuse(field, f"unknown {text!r}", near_miss(text, known))
        return known[text]


def records(path: str | Path, needed: tuple[str, ...], known: tuple[str, ...], ignored: list[str]) -> Iterator[Record]:
    """The rows of a CSV file with a header; blank lines are passed over, unknown columns go to `ignored`.

    Raises:
        InputError: a needed column is missing, one is there twice or looks like a missing one misspelt, a row has
            another number of cells, no CSV.
    """
    lines = _lines(path)
    if not lines:
        raise InputError("an empty file", file=path, mend=f"the first line names columns: {', '.join(needed)}")
    (first, top), *rows = lines
    header = [name.strip() for name in top]
    absent = [name for name in known if name not in header]
    for column in needed:
        if column not in header:
            mend = near_miss(column, header)
            raise InputError("no such column", file=path, line=first, field=column, mend=mend)
    for column in header:
        if column not in known and get_close_matches(column, absent, n=1, cutoff=_MISSPELT):
            raise InputError("unknown column", file=path, line=first, field=column, mend=near_miss(column, absent))
        if header.count(column) > 1:
            raise InputError("two columns of one name", file=path, line=first, field=column, mend="rename or drop one")
    ignored += [column for column in header if column not in known]
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"{len(cells)} cells under a header of {len(header)}", file=path, line=line)
        yield Record(path, line, dict(zip(header, cells, strict=True)))


def _lines(path: str | Path) -> list[tuple[int, list[str]]]:
    """Number and cells of every line that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", file=path, line=reader.line_num) from error
