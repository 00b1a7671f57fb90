"""Traces from what is none: ShareGPT conversations and Prometheus counters. What they lack is modelled, and said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import InputError, read_json
from sim.trace.faults import MAX_TOKENS
from sim.trace.model import Floats, Trace

MOST = 10_000_000  # requests
COUNT, PROMPTS, OUTPUTS = (
    ("vllm:request_success_total", "vllm:request_prompt_tokens_count"),
    "vllm:request_prompt_tokens_bucket",
    "vllm:request_generation_tokens_bucket",
)
QUERY = '{__name__=~"vllm:request_(prompt|generation)_tokens_bucket|vllm:request_success_total"}'


def sharegpt(path: str | Path, rate_per_s: float, characters_per_token: float, seed: int) -> Trace:
    """One request for each answer of each conversation, its prompt being all that was said before; Poisson arrivals.

    Tokens are characters divided by `characters_per_token`, rounded up: modelled, not counted.

    Raises:
        InputError: no conversations, or a rate that is not positive.
    """
    if not (rate_per_s > 0 and math.isfinite(rate_per_s) and characters_per_token > 0):
        raise InputError("rate and characters per token must be positive", file=path, field="rate")
    document = read_json(path)
    if not isinstance(document, list) or not any(isinstance(x, dict) and "conversations" in x for x in document):
        raise InputError("no ShareGPT conversations", file=path, mend="a list of objects with conversations")
    lengths: list[tuple[int, int]] = []
    for number, item in enumerate(document, start=1):
        turns = item.get("conversations") if isinstance(item, dict) else None
        if not isinstance(turns, list):
            raise InputError("has no conversations", file=path, field=f"item {number}", mend="take it out")
        said = 0
        for turn in turns:
            text = turn.get("value") if isinstance(turn, dict) else None
            if not isinstance(text, str):
                raise InputError("a turn without text", file=path, field=f"item {number}", mend="take it out")
            tokens = math.ceil(len(text) / characters_per_token)
            if turn.get("from") in ("gpt", "assistant", "chatgpt", "bing", "bard") and said and tokens:
                lengths.append((min(said, MAX_TOKENS), min(tokens, MAX_TOKENS)))
            said += tokens
    if not lengths:
        raise InputError("no answer in any conversation", file=path, mend="turns are told by from: human and gpt")
    rng = np.random.default_rng(seed)
    arrival = np.concatenate([[0.0], np.cumsum(rng.exponential(1.0 / rate_per_s, len(lengths) - 1))])
    notes = (
        f"arrivals are modelled: Poisson at {rate_per_s:g}/s, seed {seed}",
        f"tokens are modelled: characters / {characters_per_token:g}",
    )
    prompt, output = np.array(lengths).T
    return Trace(Path(path).name, arrival, prompt, output, source=str(path), format="ShareGPT, modelled", notes=notes)


def prometheus(path: str | Path, seed: int) -> Trace:
    """A trace with vLLM's own counts and length histograms, from a Prometheus range query of its counters.

    Requests of a step are spread evenly at random over it; prompt and output lengths are drawn from their histograms,
    each by itself and evenly within a bucket. All that is modelled, and the trace's notes say so.

    Raises:
        InputError: not such a result, or it lacks one of the metrics.
    """
    series = _series(path, read_json(path))
    name = next((name for name in COUNT if name in series), None)
    if name is None or PROMPTS not in series or OUTPUTS not in series:
        lacks = [x for x in (COUNT[0], PROMPTS, OUTPUTS) if x not in series]
        raise InputError(f"lacks {', '.join(lacks)}", file=path, mend=f"query_range {QUERY}")
    times, counts = _increments(path, series[name])
    per_step = np.rint(counts).astype(np.int64)
    total = int(per_step.sum())
    if not 0 < total <= MOST:
        raise InputError(f"{total:,} requests in its range", file=path, mend=f"1 to {MOST:,} can be made")
    rng = np.random.default_rng(seed)
    width = np.diff(times)
    arrival = np.sort(np.repeat(times[:-1], per_step) + rng.random(total) * np.repeat(width, per_step))
    notes = (
        f"modelled from Prometheus counters, seed {seed}: arrivals even within steps of {np.median(width):g} s, prompt "
        "and output lengths independent and even within their buckets",
    )
    return Trace(
        name=Path(path).name,
        arrival_s=arrival - arrival[0],
        prompt_tokens=_draw(path, series[PROMPTS], total, rng),
        output_tokens=_draw(path, series[OUTPUTS], total, rng),
        start_utc_s=float(arrival[0]),
        source=str(path),
        format="Prometheus, modelled",
        notes=notes,
    )


Series = list[tuple[str, list[tuple[float, float]]]]  # le label, and (time, counter) points


def _series(path: str | Path, document: Any) -> dict[str, Series]:
    """Points of each metric by name."""
    data = document.get("data") if isinstance(document, dict) else None
    results = data.get("result") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(results, list) or data.get("resultType") != "matrix":
        raise InputError("no Prometheus range query", file=path, mend=f"save /api/v1/query_range of {QUERY}")
    found: dict[str, Series] = {}
    for number, item in enumerate(results, start=1):
        try:
            metric = item["metric"]
            points = [(float(t), float(v)) for t, v in item["values"]]
            name, le = str(metric["__name__"]), str(metric.get("le", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("is no series of points", file=path, field=f"result {number}") from error
        bad = not points or not np.isfinite(points).all() or min(v for _, v in points) < 0
        if bad or any(b[0] <= a[0] for a, b in zip(points, points[1:], strict=False)) or points[0][0] < 0:
            raise InputError("points are not ascending counts", file=path, field=f"result {number}")
        found.setdefault(name, []).append((le, points))
    return found


def _increments(path: str | Path, series: Series) -> tuple[Floats, Floats]:
    """Times, and what the counters of all instances grew by in each step; a counter that falls began anew."""
    times = np.array([t for t, _ in series[0][1]])
    total: NDArray[np.float64] = np.zeros(len(times) - 1)
    for _, points in series:
        if len(points) != len(times) or [t for t, _ in points] != times.tolist():
            raise InputError("series differ in their times", file=path, mend="save one range query with one step")
        values = np.array([v for _, v in points])
        grown = np.diff(values)
        total += np.where(grown < 0, values[1:], grown)
    return times, total


def _draw(path: str | Path, series: Series, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Lengths by the growth of a histogram's cumulative buckets over the whole range."""
    totals: dict[float, float] = {}
    for le, points in series:
        try:
            edge = math.inf if le in ("+Inf", "Inf") else float(le)
        except ValueError:
            edge = math.nan
        if math.isnan(edge) or edge < 0:
            raise InputError(f"{le!r} is no bucket", file=path, field="le")
        totals[edge] = totals.get(edge, 0.0) + max(0.0, points[-1][1] - points[0][1])
    edges = sorted(totals)
    heights = np.maximum(np.diff([0.0, *(totals[edge] for edge in edges)]), 0.0)
    if not heights.sum():
        raise InputError("a length histogram is empty", file=path, mend="take a range in which requests came")
    last = max((edge for edge in edges if math.isfinite(edge)), default=1.0)
    upper = np.array([edge if math.isfinite(edge) else 2.0 * last for edge in edges])
    lower = np.concatenate([[0.0], upper[:-1]])
    place = rng.choice(len(edges), count, p=heights / heights.sum())
    drawn = lower[place] + rng.random(count) * (upper - lower)[place]
    lengths: NDArray[np.int32] = np.clip(np.ceil(drawn), 1, MAX_TOKENS).astype(np.int32)
    return lengths
