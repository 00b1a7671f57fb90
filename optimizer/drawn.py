"""Requests drawn as a demand has them, for replays: its rate and shape, and lengths of its own mix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optimizer.demand import HOURS, from_table, rate_of, shape_of, source_trace
from optimizer.sources import Source
from optimizer.study import Study
from sim.trace.generator import GeneratorSpec, Lengths, Quantiles, generate
from sim.trace.model import Tokens, Trace

_FLAT_REQUESTS = 20_000.0  # a flat rate is replayed for as many whole hours as bring this many requests
_DAY_REQUESTS = 300_000.0  # a shaped day is replayed whole up to this many requests, beyond it its busiest hours
_LEVELS = [i / 50 for i in range(51)]


def replaced(study: Study) -> bool:
    """Whether a replay draws its requests: streams, no trace, or a trace at another rate or shape."""
    asked = study.demand
    return bool(asked.streams) or asked.trace is None or asked.rate_per_s is not None or asked.shape != "flat"


def traces(study: Study) -> list[Trace | None]:
    """The trace that each source of requests names; None for generators and tables."""
    return [source_trace(each, study.seed) if each.trace else None for each in study.demand.sources]


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day (UTC) that are drawn: whole ones, from `begins` on."""

    begins: int
    hours: int

    @property
    def covered(self) -> list[int]:
        """The hours of the day."""
        return [(self.begins + h) % HOURS for h in range(self.hours)]


def windows(study: Study, likes: list[Trace | None]) -> list[Window]:
    """What is replayed: the crest of the day first, on which promises are judged.

    Flat rates are drawn for whole hours until there are 20,000 requests in all; shaped ones for a day. Where a day
    would hold more than 300,000 requests, for its busiest hours, and for those whose mean rate is nearest the day's, on
    which joules are judged: a busy hour serves a request with fewer.
    """
    by_hour = _by_hour(study, likes)
    rate = sum(by_hour) / HOURS
    if max(by_hour) == min(by_hour):
        return [Window(0, min(max(math.ceil(_FLAT_REQUESTS / rate / 3600.0), 1), HOURS))]
    hours = max(math.floor(_DAY_REQUESTS / rate / 3600.0), 1)
    if hours >= HOURS:
        return [Window(0, HOURS)]
    crest = Window((by_hour.index(max(by_hour)) - hours // 2) % HOURS, hours)

    def off(begins: int) -> float:
        return abs(sum(by_hour[h] for h in Window(begins, hours).covered) / hours - rate)

    return [crest, Window(min(range(HOURS), key=off), hours)]


def _by_hour(study: Study, likes: list[Trace | None]) -> list[float]:
    """Requests per second of all sources in each hour of the day."""
    sources = list(zip(study.demand.sources, likes, strict=True))
    return [sum(rate_of(source, like) * shape_of(source)[h] for source, like in sources) for h in range(HOURS)]


def specs(study: Study, likes: list[Trace | None], window: Window) -> list[GeneratorSpec]:
    """A generator of each source of requests: its rate and shape, Poisson arrivals, its lengths by quantile."""
    sources = study.demand.sources
    rates = [rate_of(source, like) for source, like in zip(sources, likes, strict=True)]
    shapes = [shape_of(source) for source in sources]
    return [
        _spec(*each, 3600.0 * window.hours, float(window.begins))
        for each in zip(sources, likes, rates, shapes, strict=True)
    ]


def _spec(
    source: Source, like: Trace | None, rate: float, shape: tuple[float, ...], duration_s: float, begins: float
) -> GeneratorSpec:
    flat, own = max(shape) == 1.0, source.generator
    return GeneratorSpec(
        duration_s=duration_s,
        rate_per_s=rate,
        process=own.process if own else "poisson",
        cv=own.cv if own else None,
        shape="flat" if flat else "diurnal",
        hourly_factors=None if flat else shape,
        starts_at_hour=0.0 if flat else begins,
        lengths=own.lengths if own else _quantiles(source, like),
    )


def draw(study: Study, window: Window) -> list[Trace]:
    """Requests of each source with its joint lengths, at its rate and shape, with the study's seed."""
    likes = traces(study)
    parts = []
    for place, (source, like, spec) in enumerate(
        zip(study.demand.sources, likes, specs(study, likes, window), strict=True)
    ):
        seed = study.seed + 7919 * place
        drawn_from = None if source.generator else like or sample(source, seed)
        parts.append(generate(spec, seed, like=drawn_from))
    return parts


def sample(source: Source, seed: int) -> Trace:
    """A trace with a source's joint lengths, to draw from: its own, or the buckets in proportion."""
    trace = source_trace(source, seed)
    if trace is not None:
        return trace
    counts = [max(1, round(each.share * 10_000)) for each in from_table(source)]
    rows = source.buckets or []
    return Trace(
        name="buckets",
        arrival_s=np.arange(float(sum(counts))),
        prompt_tokens=np.repeat([row.prompt_tokens for row in rows], counts),
        output_tokens=np.repeat([row.output_tokens for row in rows], counts),
    )


def _quantiles(source: Source, like: Trace | None) -> Lengths:
    """Prompt and output lengths as quantile tables, each on its own (their dependence is lost)."""
    trace = like if like is not None else sample(source, 0)

    def table(tokens: Tokens) -> Quantiles:
        points = np.quantile(tokens, _LEVELS, method="nearest").astype(int)
        return Quantiles(distribution="quantiles", levels=tuple(_LEVELS), tokens=tuple(points.tolist()))

    return Lengths(prompt=table(trace.prompt_tokens), output=table(trace.output_tokens))
