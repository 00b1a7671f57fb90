"""What importers share: tables read row by row, with checked cells."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from profiles.inputs import InputError, csv_records

Tell: TypeAlias = Callable[[str], None]
Entry = TypeVar("Entry")
_MEND = "mend the row or take it out"


def parquet_records(path: Path, needed: Sequence[str], what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number (from 1) and cells of a parquet table.

    Raises:
        InputError: not parquet, or a needed column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a parquet file ({str(error).splitlines()[0]})", file=path) from error
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise InputError(f"not {what}: no column {', '.join(missing)}", file=path, mend="is it the right file?")
    yield from enumerate(table.to_pylist(), 1)


def table_records(path: Path, needed: Sequence[str], what: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a CSV or of a parquet file, told apart by their first bytes."""
    return parquet_records(path, needed, what) if is_parquet(path) else csv_records(path, needed, what)


def is_parquet(path: str | Path) -> bool:
    """Whether a file begins as parquet does."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as stream:
        return stream.read(4) == b"PAR1"


class Cells:
    """A row's cells, checked on reading; every refusal names file, line and field."""

    def __init__(self, file: str | Path, line: int, cells: Mapping[str, Any]) -> None:
        self.file, self.line, self._cells = file, line, cells

    def refuse(self, field: str, what: str, mend: str | None = None) -> InputError:
        """The complaint about a cell."""
        return InputError(what, file=self.file, line=self.line, field=field, mend=mend)

    def __contains__(self, field: str) -> bool:
        """Whether there is such a column."""
        return field in self._cells

    def text(self, field: str, default: str = "") -> str:
        """A cell's text."""
        value = self._cells.get(field)
        return default if value is None else str(value).strip()

    def number(self, field: str, low: float = 0.0, *, zero: bool = False) -> float:
        """A finite number above `low` (or equal to it, where `zero` is allowed)."""
        value = self.maybe(field)
        if value is None or not (value > low or (zero and value == low)):
            what = f"{self.text(field)!r} is not a number {'from' if zero else 'above'} {low:g}"
            raise self.refuse(field, what, _MEND)
        return value

    def maybe(self, field: str) -> float | None:
        """A finite number, or None where the cell is empty."""
        text = self.text(field)
        if text.lower() in ("", "nan", "none", "null"):
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if not abs(value) < 1e15:
            raise self.refuse(field, f"{text!r} is not a number", _MEND)
        return value

    def count(self, field: str, default: int | None = None) -> int:
        """A whole number from 1; a cell that is empty or 0 counts as `default` where one is given."""
        value = self.maybe(field)
        if not value and default is not None:
            return default
        if value is None or value != int(value) or not 1 <= value <= 1_000_000:
            raise self.refuse(field, f"{self.text(field)!r} is not a whole number from 1", _MEND)
        return int(value)


def only(found: Iterable[Any], path: str | Path, what: str) -> list[Any]:
    """The list, which must hold something.

    Raises:
        InputError: nothing in it.
    """
    kept = [one for one in found if one is not None]
    if not kept:
        raise InputError(f"no {what} in it that makes a profile", file=path, mend="the warnings say why")
    return kept


def grouped(
    rows: Iterable[Entry], unfit: Callable[[Entry], str | None], key: Callable[[Entry], Any], tell: Tell
) -> list[list[Entry]]:
    """The rows of each configuration; the others are told, each reason once with the number of its rows."""
    left: Counter[str] = Counter()
    cells: dict[Any, list[Entry]] = {}
    for row in rows:
        why = unfit(row)
        if why:
            left[why] += 1
        else:
            cells.setdefault(key(row), []).append(row)
    for why, n in left.items():
        tell(f"{n} row{'s' if n > 1 else ''} left out: {why}")
    return list(cells.values())
