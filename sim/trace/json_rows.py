"""Rows of a JSON-lines trace, one object a line."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from profiles.inputs import InputError, open_bytes
from sim.trace.csv_rows import Rows
from sim.trace.faults import MAX_TIME_S, MAX_TOKENS, BadRow, BadRows, quoted, time_fault, token_fault
from sim.trace.formats import Format

_NS_PER = {"s": 1_000_000_000, "epoch": 1_000_000_000, "ms": 1_000_000}


class _FaultError(Exception):
    """A row is bad: column, what, how to mend it."""


def read_rows(path: str | Path, fmt: Format, bad: BadRows) -> Rows:
    """All good rows of a JSON-lines trace; bad ones are put into `bad`. Time is in integer nanoseconds.

    Raises:
        InputError: not readable, or more bad rows than allowed.
    """
    time, prompt, output = array("q"), array("i"), array("i")
    first, last = 0, 0
    ids, offsets = array("q"), array("q", [0])
    blocks: bool | None = None
    for number, raw in _lines(path):
        if not raw.strip():
            bad.add(BadRow(number, "", "a blank line", "take it out", blank=True))
            continue
        try:
            row = parse(raw)
            if fmt.fails and row.get(fmt.output) == 0:
                bad.failed.append(number)
                continue
            blocks = fmt.blocks in row if blocks is None else blocks
            values = _time(row, fmt), _tokens(row, fmt.prompt), _tokens(row, fmt.output, output=True)
            if blocks:
                ids.extend(_blocks(row, str(fmt.blocks)))
        except _FaultError as fault:
            bad.add(BadRow(number, *fault.args))
            bad.settle(last)
            continue
        for store, value in zip((time, prompt, output, offsets), (*values, len(ids)), strict=True):
            store.append(value)
        first, last = first or number, number
    bad.settle(last, at_end=True)
    rows = Rows(np.frombuffer(time, np.int64), np.frombuffer(prompt, np.int32), np.frombuffer(output, np.int32))
    rows.first_line, rows.failed = 1, len(bad.failed)
    if blocks:
        rows.hash_ids, rows.hash_offsets = np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64)
    return rows


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open_bytes(path) as stream:
            reader: Any = stream if isinstance(stream, BufferedReader) else BufferedReader(stream)
            yield from enumerate(reader, start=1)
    except (OSError, EOFError) as error:
        what = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read ({what})", file=path, mend="is the file whole?") from error


def parse(raw: bytes) -> dict[str, Any]:
    """One line as a JSON object; a key given twice, NaN and Infinity are refused."""

    def constant(token: str) -> float:
        raise _FaultError("", f"{token} is not a number", "write a finite number")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(items)
        if len(keys) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise _FaultError("", f"{quoted(twice)} is given twice", "write each key once")
        return keys

    try:
        row = json.loads(raw.decode("utf-8-sig"), parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", None) or "not UTF-8, or too long or deep"
        raise _FaultError("", f"not JSON ({why})", "write one whole JSON object a line") from error
    if not isinstance(row, dict):
        raise _FaultError("", "not a JSON object", "write one object a line")
    return row


def keys(raw: bytes, path: str | Path, line: int) -> list[str]:
    """Keys of the first object, by which the format is known.

    Raises:
        InputError: the line is no JSON object.
    """
    try:
        return list(parse(raw))
    except _FaultError as fault:
        _, what, mend = fault.args
        raise InputError(what, file=path, line=line, mend=mend) from fault


def _get(row: dict[str, Any], key: str) -> Any:
    if key not in row:
        raise _FaultError(key, "is missing", "every object needs it")
    return row[key]


def _time(row: dict[str, Any], fmt: Format) -> int:
    if fmt.clock == "stamp":
        return _stamp(_get(row, fmt.time), fmt)
    value, factor = _get(row, fmt.time), _NS_PER[fmt.clock]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME_S * 1e9 / factor:
        raise _FaultError(fmt.time, *time_fault(_shown(value), fmt.clock))
    return value * factor if isinstance(value, int) else round(value * factor)


def _stamp(value: Any, fmt: Format) -> int:
    """Nanoseconds since 1970 of a calendar stamp; one without an offset is UTC."""
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or not 1970 <= moment.year < 2200:
        raise _FaultError(fmt.time, *time_fault(_shown(value), "stamp"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _tokens(row: dict[str, Any], key: str, *, output: bool = False) -> int:
    value = _get(row, key)
    if type(value) is not int or not 1 <= value <= MAX_TOKENS:
        raise _FaultError(key, *token_fault(_shown(value), output=output))
    return value


def _blocks(row: dict[str, Any], key: str) -> list[int]:
    value = _get(row, key)
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        raise _FaultError(key, "is not a list of whole numbers", "write the ids of the prompt's blocks")
    return value


def _shown(value: Any) -> str:
    if type(value) is int:
        return str(value) if abs(value) < 10**30 else f"{'-' * (value < 0)}1{'0' * 30}"
    return json.dumps(value)
