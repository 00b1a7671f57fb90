"""The requests of a run: one trace, or several streams laid over each other, each with its model and SLO class."""

from __future__ import annotations

import numpy as np

from profiles import catalog
from profiles.inputs import InputError, near_miss
from sim.scenario import Scenario, Stream
from sim.trace import Trace, generate, read_trace
from sim.trace.change import repeated, scaled


def merged(scenario: Scenario, parts: list[Trace] | None = None) -> Trace:
    """The scenario's streams as one trace in order of arrival.

    Args:
        parts: each stream's requests, instead of reading or generating them.

    Raises:
        InputError: a trace is broken, a model is served by no pool, prefixes of unlike block size.
    """
    models = list(dict.fromkeys(catalog.llm(pool.model).name for pool in scenario.pools))
    classes = [each.name for each in scenario.slo_classes]
    parts = parts or [_source(scenario, stream, k) for k, stream in enumerate(scenario.streams)]
    sizes = [part.requests for part in parts]
    arrival = np.concatenate([p.arrival_s + s.starts_at_s for p, s in zip(parts, scenario.streams, strict=True)])
    order = np.argsort(arrival, kind="stable")
    model = [_model(stream, models) for stream in scenario.streams]
    of_class = [classes.index(stream.slo_class or classes[0]) for stream in scenario.streams]
    ids, offsets, span = _prefixes(parts, order)
    return Trace(
        name=" + ".join(stream.name for stream in scenario.streams),
        arrival_s=arrival[order] - arrival[order[0]],
        prompt_tokens=np.concatenate([part.prompt_tokens for part in parts])[order],
        output_tokens=np.concatenate([part.output_tokens for part in parts])[order],
        source="; ".join(part.source for part in parts),
        skipped_rows=sum(part.skipped_rows for part in parts),
        model=np.repeat(model, sizes)[order] if len(models) > 1 else None,
        slo_class=np.repeat(of_class, sizes)[order] if len(classes) > 1 else None,
        hash_ids=ids,
        hash_offsets=offsets,
        hash_tokens=span,
        format="streams",
        notes=tuple(f"{s.name}: {note}" for s, p in zip(scenario.streams, parts, strict=True) for note in p.notes),
    )


def _source(scenario: Scenario, stream: Stream, place: int) -> Trace:
    """A stream's own trace; generators draw from seeds of their own."""
    if stream.trace is not None:
        trace = read_trace(stream.trace, sort=scenario.sort_trace, allow_bad_rows=scenario.allow_bad_rows)
    else:
        assert stream.generator is not None
        trace = generate(stream.generator, scenario.seed + 7919 * (place + 1))
    return scaled(repeated(trace, stream.repeat), stream.rate_scale)


def _model(stream: Stream, models: list[str]) -> int:
    name = catalog.llm(stream.model).name
    if name not in models:
        what = f"stream {stream.name} asks for {name}, which no pool serves"
        raise InputError(what, field="streams", mend=near_miss(name, models))
    return models.index(name)


def _prefixes(parts: list[Trace], order: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    """The prefix ids of all streams in the order of the merged trace; ids of different streams never meet."""
    spans = {part.hash_tokens for part in parts if part.hash_ids is not None}
    if not spans:
        return None, None, 512
    if len(spans) > 1:
        what = f"prefix blocks of {' and '.join(map(str, sorted(spans)))} tokens"
        raise InputError(what, field="streams", mend="simulate these traces apart")
    rows: list[np.ndarray] = []
    first = 0
    for part in parts:
        if part.hash_ids is None or part.hash_offsets is None:
            rows += [np.zeros(0, np.int64)] * part.requests
            continue
        low = int(part.hash_ids.min(initial=0))
        ids = part.hash_ids - low + first
        first = int(ids.max(initial=first)) + 1
        rows += [ids[a:b] for a, b in zip(part.hash_offsets[:-1], part.hash_offsets[1:], strict=True)]
    chosen = [rows[k] for k in order]
    return np.concatenate(chosen), np.cumsum([0, *map(len, chosen)]), spans.pop()
