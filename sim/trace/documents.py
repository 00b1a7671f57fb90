"""Traces that are a JSON document, not rows: vLLM's benchmark results, LiteLLM's lists, OpenTelemetry's spans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from profiles.inputs import InputError, read_text
from sim.trace.faults import MAX_TIME_S, MAX_TOKENS
from sim.trace.model import Trace

# OpenTelemetry's semantic conventions for generative AI, and the names they had before 2024
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
Row = tuple[Any, Any, Any]  # seconds, prompt tokens, output tokens, as they stand


def read(path: str | Path, sort: bool) -> Trace:
    """The trace of a document, or of one document a line.

    Raises:
        InputError: no known document, a figure that cannot be (by its item), or items out of order without `sort`.
    """
    name, rows, dated = _rows(path, _documents(path))
    made = [_checked(path, number, row) for number, row in enumerate(rows, start=1)]
    kept = [row for row in made if row[2]]
    if not kept:
        raise InputError("no request with output", file=path, mend="a trace needs at least one")
    times = np.array([row[0] for row in kept], np.int64)
    back = np.flatnonzero(times[1:] < times[:-1])
    if back.size and not sort and name != OTEL:  # spans are written when they end: their order means nothing
        mend = "put the items in order of time, or ask for it with sort (sort_trace: true)"
        raise InputError("earlier than the item before it", file=path, field=f"item {back[0] + 2}", mend=mend)
    order = np.argsort(times, kind="stable")
    failed = len(made) - len(kept)
    return Trace(
        name=Path(path).name,
        arrival_s=(times[order] - times[order[0]]) / 1e9,
        prompt_tokens=np.array([row[1] for row in kept], np.int32)[order],
        output_tokens=np.array([row[2] for row in kept], np.int32)[order],
        start_utc_s=int(times[order[0]]) / 10**9 if dated else None,
        source=str(path),
        format=name,
        notes=(f"{failed:,} calls that failed (no output) were left out",) if failed else (),
    )


VLLM, LITELLM, OTEL = "vLLM benchmark result", "LiteLLM spend log", "OpenTelemetry GenAI spans"


def _documents(path: str | Path) -> list[Any]:
    """The document, or the documents of its lines."""
    text = read_text(path)
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        pass
    found = []
    for line, part in enumerate(text.splitlines(), start=1):
        if part.strip():
            try:
                found.append(json.loads(part))
            except (ValueError, RecursionError) as error:
                raise InputError("not JSON", file=path, line=line, mend="is the file whole?") from error
    return found


def _rows(path: str | Path, documents: list[Any]) -> tuple[str, list[Row], bool]:
    """Format, rows, and whether their times are dates."""
    first = documents[0] if documents else None
    if isinstance(first, dict) and "input_lens" in first and "output_lens" in first:
        return VLLM, _vllm(path, first), False
    if isinstance(first, list) and first and isinstance(first[0], dict):
        if "startTime" in first[0]:
            return LITELLM, [_litellm(item) for item in first], True
        if "conversations" in first[0]:
            what = "ShareGPT conversations have neither times nor token counts"
            raise InputError(
                what, file=path, mend="make a trace of them: carbonfleet trace import sharegpt FILE --rate R"
            )
    if isinstance(first, dict) and ("resourceSpans" in first or "resource_spans" in first):
        return OTEL, list(_spans(documents)), True
    known = f"{VLLM}, {LITELLM}, {OTEL}"
    raise InputError("JSON of no known trace format", file=path, mend=f"known documents: {known}")


def _vllm(path: str | Path, document: dict[str, Any]) -> list[Row]:
    """`vllm bench serve --save-detailed`: lists of lengths, and of start times where the version writes them."""
    if document.get("start_times") is None:
        mend = "save them with --save-detailed of a newer vLLM, or give its request log (arrival_time a line)"
        raise InputError("has no start_times: when requests came is not in the file", file=path, mend=mend)
    columns = [document[name] for name in ("start_times", "input_lens", "output_lens")]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) > 1:
        raise InputError("start_times, input_lens and output_lens differ in length", file=path, mend="is it whole?")
    starts, prompts, outputs = columns
    return list(zip(starts, prompts, outputs, strict=True))


def _litellm(item: Any) -> Row:
    if not isinstance(item, dict):
        return None, None, None
    return item.get("startTime"), item.get("prompt_tokens"), item.get("completion_tokens")


def _spans(documents: list[Any]) -> Iterator[Row]:
    """Spans that carry token usage; OTLP writes numbers of 64 bits as text."""
    for document in documents:
        for group in _list(document, "resourceSpans", "resource_spans"):
            for scope in _list(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
                for span in _list(scope, "spans"):
                    usage = _attributes(span)
                    tokens = [next((usage[k] for k in names if k in usage), None) for names in (INPUT, OUTPUT)]
                    if tokens != [None, None]:
                        nanos = span.get("startTimeUnixNano", span.get("start_time_unix_nano"))
                        yield Nanos(nanos), tokens[0], tokens[1]


class Nanos:
    """A time in nanoseconds since 1970, as OTLP writes it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _list(document: Any, *names: str) -> list[Any]:
    for name in names:
        found = document.get(name) if isinstance(document, dict) else None
        if isinstance(found, list):
            return [item for item in found if isinstance(item, dict)]
    return []


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for item in _list(span, "attributes"):
        value = item.get("value")
        if isinstance(item.get("key"), str) and isinstance(value, dict) and value:
            found[item["key"]] = next(iter(value.values()))
    return found


def _checked(path: str | Path, number: int, row: Row) -> tuple[int, int, int]:
    """Nanoseconds, prompt and output tokens; no output is a call that failed."""
    time, prompt, output = _nanos(row[0]), _count(row[1]), _count(row[2])
    if time is None or prompt is None or output is None:
        found = (("time", time), ("prompt tokens", prompt), ("output tokens", output))
        place = next(k for k, (_, value) in enumerate(found) if value is None)
        shown = row[place].value if isinstance(row[place], Nanos) else row[place]
        what = f"{str(shown)[:40]!r} is no {found[place][0]}"
        raise InputError(what, file=path, field=f"item {number}", mend="take the item out")
    if output and not prompt:
        raise InputError("0 prompt tokens", file=path, field=f"item {number}", mend="take the item out")
    return time, prompt, output


def _nanos(value: Any) -> int | None:
    from datetime import UTC, datetime

    if isinstance(value, Nanos):
        found = _whole(value.value, int(MAX_TIME_S * 1e9))
        return found
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if not 1970 <= moment.year < 2200:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TIME_S:
        return round(value * 1e9)
    return None


def _count(value: Any) -> int | None:
    return _whole(value, MAX_TOKENS)


def _whole(value: Any, most: int) -> int | None:
    """A whole number from 0 to `most`, also where it is written as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None
