"""What importers share: tables read row by row, cells checked, and what sources call GPUs and models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from profiles import catalog
from profiles.catalog import Gpu
from profiles.inputs import InputError, csv_records
from profiles.llm import Llm

Tell: TypeAlias = Callable[[str], None]

_GPUS = {
    "h100": "h100-sxm-80gb",
    "h200": "h200-sxm-141gb",
    "b200": "b200-sxm-180gb",
    "b300": "b300-sxm-288gb",
    "a100": "a100-sxm-80gb",
    "v100": "v100-sxm-16gb",
    "rtx-pro-6000-server": "rtx-pro-6000",
}
# One spelling of a source -> the catalogue's name. Versions for chat or pictures share a shape.
_MODELS = (
    (r"qwen3-(?:vl-|omni-|coder-)?30b-a3b", "qwen3-30b-a3b"),
    (r"qwen3-(?:vl-)?235b-a22b", "qwen3-235b-a22b"),
    (r"qwen3-(?:vl-)?(\d+)b(?!-a)", "qwen3-{}b"),
    (r"deepseek-v3", "deepseek-v3"),
    (r"deepseek-r1(?!-distill)", "deepseek-r1"),
    (r"kimi-k2", "kimi-k2"),
    (r"llama-?(2-\d+b|3\.1-\d+b|3\.3-70b|3-\d+b|4-scout|4-maverick)", "llama-{}"),
    (r"gpt-oss-(\d+b)", "gpt-oss-{}"),
    (r"gemma-3-(\d+b)", "gemma-3-{}"),
    (r"mixtral-(8x\d+b)", "mixtral-{}"),
    (r"mistral-7b-v0\.1", "mistral-7b-v0.1"),
    (r"huggyllama/llama-7b", "llama-7b"),
    (r"qwen2-(\d+b)", "qwen2.5-{}"),
)


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

    def text(self, field: str, default: str = "") -> str:
        """A cell's text."""
        value = self._cells.get(field)
        return default if value is None else str(value).strip()

    def number(self, field: str, low: float = 0.0, *, zero: bool = False) -> float:
        """A finite number above `low` (or equal to it, where `zero` is allowed)."""
        value = self.maybe(field)
        if value is None or not (value > low or (zero and value == low)):
            raise self.refuse(field, f"{self.text(field)!r} is not a number {'from' if zero else 'above'} {low:g}")
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
            raise self.refuse(field, f"{text!r} is not a number")
        return value

    def count(self, field: str, default: int | None = None) -> int:
        """A whole number from 1; a cell that is empty or 0 counts as `default` where one is given."""
        value = self.maybe(field)
        if not value and default is not None:
            return default
        if value is None or value != int(value) or not 1 <= value <= 1_000_000:
            raise self.refuse(field, f"{self.text(field)!r} is not a whole number from 1")
        return int(value)


def gpu(name: str) -> Gpu:
    """The catalogue's GPU behind a source's name.

    Raises:
        InputError: unknown.
    """
    plain = "-".join(re.sub(r"[_\s]+", " ", name.strip().lower()).split())
    plain = re.sub(r"^(nvidia|amd)-", "", re.sub(r"-(gpu|sxm)$", "", plain))
    return catalog.gpu(_GPUS.get(plain, plain))


def model(name: str) -> Llm:
    """The catalogue's model behind a source's name.

    Raises:
        InputError: unknown.
    """
    try:
        return catalog.llm(name)
    except InputError:
        plain = name.lower().replace("_", "-")
        for pattern, wanted in _MODELS:
            found = re.search(pattern, plain)
            if found:
                return catalog.llm(wanted.format(*found.groups()))
        raise


def only(found: Iterable[Any], path: str | Path, what: str) -> list[Any]:
    """The list, which must hold something.

    Raises:
        InputError: nothing in it.
    """
    kept = [one for one in found if one is not None]
    if not kept:
        raise InputError(f"no {what} in it that makes a profile", file=path, mend="the warnings say why")
    return kept


class Told:
    """Hears of each reason once with the number of its rows, and passes the lines on at the end."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, why: str) -> None:
        """One more row for this reason."""
        self._counts[why] = self._counts.get(why, 0) + 1

    def say(self, tell: Tell) -> None:
        """A line for each reason."""
        for why, n in self._counts.items():
            tell(f"{n} row{'s' if n > 1 else ''} left out: {why}")
