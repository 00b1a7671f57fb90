"""Traces come in here, whatever their format; `write_trace` writes carbonfleet's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from profiles.inputs import InputError, open_bytes
from profiles.outputs import write_with
from sim.columns import blocks, release
from sim.trace import csv_rows, documents, json_rows
from sim.trace.csv_rows import Rows
from sim.trace.faults import BadRows
from sim.trace.formats import Format, known, recognise
from sim.trace.model import Floats, Trace

_PEEK_BYTES = 1 << 20
# JSON that is one document, not a row a line: by the keys it has first, or by breaking its first line
_DOCUMENT = re.compile(rb'\{\s*"(resourceSpans|resource_spans|date|endpoint_type|backend|input_lens)"')
_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"PAR1": "parquet", b"PK\x03\x04": "zip"}


def read_trace(
    path: str | Path, *, sort: bool = False, allow_bad_rows: int = 0, scratch: str | Path | None = None
) -> Trace:
    """Read a trace of any known format (docs/traces.md lists them); .gz and .zst are unpacked.

    sort: put rows out of order into order of time (equal times keep the file's order).
    allow_bad_rows: how many bad rows may be left out; their count is in the result.
    scratch: folder for the temporary files of a long trace; default: the system's.

    Raises:
        InputError: not readable, empty, unknown format, rows out of order, more bad rows than allowed;
            one line with file, line, column and how to mend it.
    """
    if allow_bad_rows < 0:
        raise InputError("must be 0 or more", field="allow_bad_rows")
    found = _recognise(path)
    if found is None:
        return documents.read(path, sort)
    fmt, header = found
    bad = BadRows(path, allow_bad_rows)
    if fmt.kind == "csv":
        rows = csv_rows.read_rows(path, header, fmt, bad, scratch)
    else:
        rows = json_rows.read_rows(path, fmt, bad)
    if not len(rows.time):
        raise _no_rows(path)
    rows = _in_order(rows, path, fmt, sort, bad)
    arrival_s, start_utc_s = _seconds(rows, fmt)
    return Trace(
        name=Path(path).name,
        arrival_s=arrival_s,
        prompt_tokens=rows.prompt,
        output_tokens=rows.output,
        start_utc_s=start_utc_s,
        source=str(path),
        skipped_rows=len(bad.rows),
        hash_ids=rows.hash_ids,
        hash_offsets=rows.hash_offsets,
        format=fmt.name,
        notes=_notes(rows, fmt, header, len(bad.rows)),
        maps=rows.maps,
    )


def write_trace(trace: Trace, path: str | Path) -> Path:
    """Write a trace as carbonfleet's own CSV (`arrival_s,prompt_tokens,output_tokens`); times survive exactly.

    Raises:
        CarbonfleetError: it cannot be written.
    """

    def fill(file: Path) -> None:
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("arrival_s,prompt_tokens,output_tokens\n")
            for part in blocks(trace.requests):
                columns = (each[part].tolist() for each in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens))
                stream.writelines(f"{t!r},{p},{o}\n" for t, p, o in zip(*columns, strict=True))
                release(trace.maps)

    return write_with(path, fill)


def _recognise(path: str | Path) -> tuple[Format, list[str]] | None:
    """The format of a file by its first line, and that line's columns or keys; None for a JSON document."""
    try:
        with open_bytes(path) as stream:
            start = stream.read(_PEEK_BYTES)
    except (OSError, EOFError) as error:
        what = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read ({what})", file=path, mend="is the file whole?") from error
    if not start.strip():
        raise InputError("the file is empty", file=path, mend="a trace needs a header and rows")
    packed = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if packed in ("gz", "zst"):
        raise InputError(f"is packed with {packed}", file=path, mend=f"give its name the ending .{packed}")
    if packed:
        raise InputError(f"is a {packed} file", file=path, mend="give CSV or JSON lines, plain or as .gz or .zst")
    text = start.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith(b"[") or _DOCUMENT.match(text.lstrip()[:4096]) or text.lstrip()[:2] in (b"{\n", b"{\r"):
        return None
    if text.lstrip().startswith(b"{"):
        skipped = text[: len(text) - len(text.lstrip())].count(b"\n")
        names = json_rows.keys(text.lstrip().split(b"\n", 1)[0], path, skipped + 1)
        return recognise(names, "jsonl", path), names
    first = text.split(b"\n", 1)[0].decode("utf-8", "replace").strip("\r")
    if not first.strip():
        raise InputError("a blank line", file=path, line=1, mend=f"begin with the header; known: {known()}")
    names = [name.strip() for name in first.split(",")]
    fmt = recognise(names, "csv", path)
    if b"\n" not in start and len(start) < _PEEK_BYTES:
        raise _no_rows(path)
    return fmt, names


def _no_rows(path: str | Path) -> InputError:
    return InputError("a header and no request", file=path, mend="a trace needs at least one row")


def _in_order(rows: Rows, path: str | Path, fmt: Format, sort: bool, bad: BadRows) -> Rows:
    """Rows in order of time.

    Raises:
        InputError: they are not, and `sort` was not asked for.
    """
    back = _first_fall(rows)
    if back is None:
        return rows
    if not sort:
        raise InputError(
            "earlier than the row before it",
            file=path,
            line=rows.line_of(back, bad.left_out),
            field=fmt.time,
            mend="put the rows in order of time, or ask for it with sort (sort_trace: true)",
        )
    order = np.argsort(rows.time, kind="stable")
    ids, offsets = rows.hash_ids, rows.hash_offsets
    if ids is not None and offsets is not None:
        ids = np.concatenate([ids[offsets[i] : offsets[i + 1]] for i in order.tolist()])
        offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[order])])
    ordered = replace(rows, time=rows.time[order], hash_ids=ids, hash_offsets=offsets)
    return replace(ordered, prompt=rows.prompt[order], output=rows.output[order])


def _first_fall(rows: Rows) -> int | None:
    """The first row that is earlier than the one before it."""
    for part in blocks(len(rows.time)):
        start: int = max(0, part.start - 1)
        times = rows.time[start : part.stop]
        back: list[int] = np.flatnonzero(times[1:] < times[:-1]).tolist()
        release(rows.maps)
        if back:
            return start + 1 + back[0]
    return None


def _seconds(rows: Rows, fmt: Format) -> tuple[Floats, float | None]:
    """Seconds since the first arrival; integer nanoseconds are subtracted before they become floats."""
    first = rows.time[0]
    whole = rows.time.dtype == np.int64
    seconds = rows.time.view(np.float64)  # in place: ten million rows are 80 MB
    for part in blocks(len(seconds)):
        since = rows.time[part] - first
        seconds[part] = since / 1e9 if whole else since
        release(rows.maps)
    return seconds, int(first) / 10**9 if whole and fmt.clock in ("stamp", "epoch") else None


def _notes(rows: Rows, fmt: Format, header: list[str], skipped: int) -> tuple[str, ...]:
    notes = []
    if rows.zoned is False:
        notes.append("the trace's times carry no zone and are read as UTC")
    used = {*fmt.needed, *fmt.silent, fmt.blocks}
    ignored = [name for name in header if name not in used]
    if ignored:
        notes.append(f"columns of the trace that are not used: {', '.join(ignored)[:200]}")
    if rows.failed:
        notes.append(f"{rows.failed:,} calls that failed (no output) were left out")
    if skipped:
        notes.append(f"{skipped} bad rows of the trace were left out, as allowed")
    return tuple(notes)
