"""Rows of a CSV trace, block by block with pyarrow, each value checked before it is believed.

Columns are read as text: pyarrow's own conversion takes 0x10, padded numbers and negatives, and with quoting on
an unclosed quote swallows the rows after it. The price is small: a million rows take about 0.4 s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from profiles.inputs import InputError, open_bytes
from sim.columns import Spool
from sim.trace.faults import MAX_TIME_S, MAX_TOKENS, BadRow, BadRows, quoted, time_fault, token_fault
from sim.trace.formats import Format
from sim.trace.model import Floats, Ints, Tokens

_BLOCK_BYTES = 1 << 20
_WHOLE = r"^(?:0|[1-9][0-9]{0,7})$"
_SECONDS = r"^(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_NAIVE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?$"
_ZONED = _NAIVE[:-1] + r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_NEUTRAL = {"stamp": "1970-01-01 00:00:00", "s": "0", "tokens": "1"}  # stands in for a bad value, then is dropped


@dataclass(slots=True)
class Rows:
    """Good rows of a file: time in integer nanoseconds (stamps, ms) or float seconds, tokens as int32.

    The line of a row is not kept: it follows from the lines that were left out (`line_of`).
    """

    time: Ints | Floats
    prompt: Tokens
    output: Tokens
    _: KW_ONLY
    first_line: int = 2
    zoned: bool | None = None  # whether stamps carry a UTC offset; None without stamps
    failed: int = 0  # rows of calls that failed, left out
    hash_ids: Ints | None = None
    hash_offsets: Ints | None = None
    maps: tuple[Any, ...] = ()  # of the temporary files that hold a long trace's columns

    def line_of(self, row: int, left_out: Sequence[int]) -> int:
        """The line of a row in file order, given the lines that became no row."""
        line = self.first_line + row
        for gone in sorted(set(left_out)):
            if gone > line:
                break
            line += 1
        return line


class Store:
    """Columns that grow block by block: 16 bytes a request, in temporary files when they are many."""

    def __init__(self, whole_time: bool, scratch: str | Path | None) -> None:
        self.time = Spool("q" if whole_time else "d", 1, scratch)
        self.prompt, self.output = Spool("i", 1, scratch), Spool("i", 1, scratch)

    def extend(self, time: Any, prompt: Any, output: Any) -> None:
        """Append one block."""
        for column, values in ((self.time, time), (self.prompt, prompt), (self.output, output)):
            column.append(values)

    def rows(self) -> Rows:
        """All of them; the store must not grow any more."""
        (time, prompt, output), maps = zip(
            *(column.column() for column in (self.time, self.prompt, self.output)), strict=True
        )
        return Rows(time, prompt, output, maps=sum(maps, ()))


def read_rows(
    path: str | Path, header: Sequence[str], fmt: Format, bad: BadRows, scratch: str | Path | None = None
) -> Rows:
    """All good rows of a CSV trace; bad ones are put into `bad`.

    Raises:
        InputError: not readable, or more bad rows than allowed.
        OutputError: the temporary files of a long trace do not fit the disk.
    """
    import pyarrow as pa

    parser = _Parser(fmt, bad)
    store = Store(fmt.clock == "stamp", scratch)
    last_good = 0
    invalid: list[int] = []  # lines with another number of columns
    first_line = 2
    try:
        with open_bytes(path) as stream, _batches(stream, header, fmt, bad, invalid) as batches:
            for batch in batches:
                lines, first_line = _line_numbers(first_line, batch.num_rows, invalid)
                keep = parser.block(batch, lines, store)
                last_good = int(lines[keep][-1]) if keep.any() else last_good
                bad.settle(last_good)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        bad.settle(0)
        raise InputError(f"cannot be read ({_one_line(error)})", file=path, mend="is the file whole?") from error
    bad.settle(last_good, at_end=True)
    rows = store.rows()
    rows.zoned, rows.failed = parser.zoned, len(parser.failed)
    return rows


def _batches(stream: IO[bytes], header: Sequence[str], fmt: Format, bad: BadRows, invalid: list[int]) -> Any:
    """pyarrow's stream of record batches; a line with a wrong number of columns is noted and left out."""
    import pyarrow as pa
    from pyarrow import csv

    def wrong_width(row: Any) -> str:
        invalid.append(row.number)
        what = f"{row.actual_columns} columns where the header has {row.expected_columns}"
        bad.add(BadRow(row.number, "", what, "mend the line"))
        return "skip" if len(invalid) <= bad.allowed else "error"

    text = pa.string()
    return csv.open_csv(
        stream,
        # Latin-1 knows every byte: pyarrow cannot hand a row that is not UTF-8 to wrong_width, and digits are ASCII.
        read_options=csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=list(header), skip_rows=1, encoding="latin-1"
        ),
        parse_options=csv.ParseOptions(quote_char=False, ignore_empty_lines=False, invalid_row_handler=wrong_width),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(fmt.needed, text),
            include_columns=list(fmt.needed),
            null_values=[],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )


def _line_numbers(first: int, count: int, invalid: list[int]) -> tuple[Ints, int]:
    """Line numbers of the next `count` rows from line `first`, stepping over the lines left out."""
    lines = np.arange(first, first + count, dtype=np.int64)
    for gap in invalid:  # ascending: each gap pushes what stands at or behind it one line on
        if gap >= first:
            lines[lines >= gap] += 1
    return lines, int(lines[-1]) + 1 if count else first


class _Parser:
    """Checks and converts the columns of one block after another."""

    def __init__(self, fmt: Format, bad: BadRows) -> None:
        self.fmt, self.bad = fmt, bad
        self.zoned: bool | None = None
        self.failed = bad.failed

    def block(self, batch: Any, lines: Ints, store: Store) -> Any:
        """Store the good rows of one record batch; which they were."""
        fmt, column = self.fmt, {name: batch.column(name) for name in self.fmt.needed}
        time, good = self._time(column[fmt.time])
        prompt, prompt_ok = _tokens(column[fmt.prompt])
        output, output_ok = _tokens(column[fmt.output])
        checks = {fmt.time: good, fmt.prompt: prompt_ok, fmt.output: output_ok}
        for name in fmt.ones:
            checks[name] = _equal(column[name], "1")
        if fmt.fails:
            failed = _equal(column[fmt.output], "0")
            self.failed.extend(lines[failed].tolist())
            output_ok |= failed
        keep = np.logical_and.reduce(list(checks.values()))
        for row in np.flatnonzero(~keep).tolist():
            self._refuse(row, int(lines[row]), column, checks)
        if fmt.fails:
            keep = keep & ~failed
        store.extend(time[keep], prompt[keep], output[keep])
        return keep

    def _refuse(self, row: int, line: int, column: dict[str, Any], checks: dict[str, Any]) -> None:
        texts = {name: _text(values, row) for name, values in column.items()}
        if not any(texts.values()):
            self.bad.add(BadRow(line, "", "a blank line", "take it out", blank=True))
            return
        name = next(name for name, ok in checks.items() if not ok[row])
        text = texts[name]
        if name == self.fmt.time:
            what, mend = self._time_fault(text)
        elif name in self.fmt.ones:
            what, mend = f"{quoted(text)} is not 1", "write one row a request"
        else:
            what, mend = token_fault(text, output=name == self.fmt.output)
        self.bad.add(BadRow(line, name, what, mend))

    def _time_fault(self, text: str) -> tuple[str, str]:
        if self.zoned is not None and re.match(_NAIVE if self.zoned else _ZONED, text):
            has, first = ("no", "one") if self.zoned else ("a", "none")
            return f"{quoted(text)} has {has} UTC offset where the first row has {first}", "write all in one way"
        return time_fault(text, self.fmt.clock)

    def _time(self, values: Any) -> tuple[Any, Any]:
        if self.fmt.clock == "stamp":
            return self._stamps(values)
        import pyarrow as pa

        ok, values = _matching(values, _SECONDS, _NEUTRAL["s"])
        time = values.cast(pa.float64()).to_numpy()
        return time, ok & (time <= MAX_TIME_S)

    def _stamps(self, values: Any) -> tuple[Any, Any]:
        """Calendar stamps in nanoseconds since 1970 UTC; whether they carry an offset is settled by the first."""
        import pyarrow as pa

        if self.zoned is None:
            first = next((t for t in (_text(values, i) for i in range(len(values))) if re.match(_NAIVE[:-1], t)), "")
            self.zoned = bool(re.match(_ZONED, first)) if first else None
        kind = pa.timestamp("ns", "UTC") if self.zoned else pa.timestamp("ns")
        neutral = _NEUTRAL["stamp"] + ("Z" if self.zoned else "")
        ok, values = _matching(values, _ZONED if self.zoned else _NAIVE, neutral)
        try:
            stamps = values.cast(kind)
        except pa.ArrowInvalid:  # 30 February: find out which
            real = np.array([_casts(values[i : i + 1], kind) for i in range(len(values))], dtype=bool)
            ok &= real
            stamps = _replace(values, real, neutral).cast(kind)
        return stamps.cast(pa.int64()).to_numpy(), ok


def _tokens(values: Any) -> tuple[Any, Any]:
    import pyarrow as pa

    ok, values = _matching(values, _WHOLE, _NEUTRAL["tokens"])
    tokens = values.cast(pa.int64()).to_numpy()
    return tokens, ok & (tokens >= 1) & (tokens <= MAX_TOKENS)


def _matching(values: Any, pattern: str, neutral: str) -> tuple[Any, Any]:
    """Which values match, and the values with a neutral one in place of those that do not."""
    import pyarrow.compute as pc

    ok = pc.match_substring_regex(values, pattern).to_numpy(zero_copy_only=False).copy()
    return ok, values if ok.all() else _replace(values, ok, neutral)


def _replace(values: Any, keep: Any, neutral: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(keep), values, neutral)


def _casts(value: Any, kind: Any) -> bool:
    import pyarrow as pa

    try:
        value.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _equal(values: Any, text: str) -> Any:
    import pyarrow.compute as pc

    return pc.equal(values, text).to_numpy(zero_copy_only=False)


def _text(values: Any, row: int) -> str:
    """One value as text, whatever its bytes."""
    import pyarrow as pa

    return str(values[row : row + 1].cast(pa.binary())[0].as_py().decode("utf-8", "replace"))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."
