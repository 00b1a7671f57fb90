"""Demand as the program sees it: classes of requests (buckets) with shares, and slices of time with rates.

Slices are the 24 hours (UTC) of one typical day, which together stand for the whole horizon, and one peak slice of no
duration: it costs nothing and only binds capacity. Each stream of the demand has its own rate in every slice.
"""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from optimizer.sources import Source
from optimizer.study import Study
from profiles import catalog
from profiles.inputs import InputError
from profiles.units import SECONDS_PER_YEAR
from sim.trace.generator import generate
from sim.trace.model import Trace
from sim.trace.readers import read_trace
from sim.trace.shape import DAY_FACTORS, HOURLY_FACTORS, buckets, window_requests

HOURS = 24
SEASONS = (("winter", 90), ("spring", 92), ("summer", 92), ("autumn", 91))  # from December, March, June, September
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of about `prompt_tokens` in and `output_tokens` out (the bucket's means) of one stream.

    `share` is of the stream's requests and adds up to one there. `prompt_to` is the longest prompt of the class; None:
    no limit.
    """

    prompt_tokens: int
    output_tokens: int
    share: float
    prompt_to: int | None = None
    stream: int = 0
    model: str = ""
    ttft_limit_s: float | None = None
    tpot_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the horizon: seconds it stands for, requests per second of each stream, its hour (None: a peak).

    `year` and `future` say which year and which way things go it belongs to, `season` (0 is December to February) and
    `weekend` narrow the hour down; None: all of them. `busy_s` is how long a peak lasts: what is rented by the hour is
    paid that long. `lost` is the site that is gone in it.
    """

    name: str
    seconds: float
    rates: tuple[float, ...]
    hour: int | None
    year: int = 0
    future: int = 0
    season: int | None = None
    weekend: bool | None = None
    busy_s: float = 0.0
    lost: str | None = None
    hours: tuple[int, ...] = ()  # of the day, of all the slices that were merged into this one

    @property
    def rate_per_s(self) -> float:
        """Requests per second of all streams."""
        return sum(self.rates)

    def rate(self, each: RequestClass) -> float:
        """Requests per second of a class."""
        return self.rates[each.stream] * each.share


@dataclass(frozen=True, slots=True)
class Load:
    """The whole demand: classes, slices, mean rate, and what was assumed to get there."""

    classes: list[RequestClass]
    slices: list[Slice]
    rate_per_s: float
    assumptions: list[str]
    warnings: list[str]

    def of_class(self, each: RequestClass) -> float:
        """Requests of a class over the horizon."""
        return sum(part.seconds * part.rate(each) for part in self.slices)

    @property
    def requests(self) -> float:
        """Requests over the horizon."""
        return sum(part.seconds * part.rate_per_s for part in self.slices)

    @property
    def output_tokens(self) -> float:
        """Output tokens over the horizon."""
        return sum(self.of_class(each) * each.output_tokens for each in self.classes)


@dataclass(frozen=True, slots=True)
class _Stream:
    """One source, read: its classes, mean rate, shape over the day, and its peak over the mean."""

    classes: list[RequestClass]
    rate_per_s: float
    shape: tuple[float, ...]
    burst: float
    growth: float
    quantile: float


def shape_of(demand: Source) -> tuple[float, ...]:
    """Relative rate in each hour of the day, UTC, with mean one; a generator's own shape where it has one.

    The shipped shape is modelled, not measured (sim.trace.shape).
    """
    spec = demand.generator
    if spec is not None and spec.shape != "flat":
        return spec.hourly_factors or HOURLY_FACTORS
    return HOURLY_FACTORS if demand.shape == "diurnal" else (1.0,) * HOURS


def build(study: Study) -> Load:
    """Classes and slices of a study's demand.

    Raises:
        InputError: a trace cannot be read, or all its requests arrive at once.
    """
    notes: list[str] = []
    warnings: list[str] = []
    weekly = "weekends as in the shipped week, modelled" if study.slices == "seasons" else "the same every day"
    streams = [_stream(study, place, notes, warnings) for place in range(len(study.demand.sources))]
    notes.append(f"week: {weekly}; no season of its own")
    if len(streams) > 1:
        notes.append("the peaks of all streams are taken to come together")
    if study.reserve.headroom:
        notes.append(f"reserve: capacity for {100 * study.reserve.headroom:g} % above the peak")
    slices = _slices(study, streams)
    classes = [each for stream in streams for each in stream.classes]
    return Load(classes, slices, sum(stream.rate_per_s for stream in streams), notes, warnings)


def _stream(study: Study, place: int, notes: list[str], warnings: list[str]) -> _Stream:
    """One source of requests, and what was assumed of it."""
    source = study.demand.sources[place]
    whose = f"{source.name}: " if study.demand.streams else ""
    trace = source_trace(source, study.seed)
    shape = shape_of(source)
    daily = "flat" if max(shape) == 1.0 else "diurnal, modelled"
    growth = f"growth {100 * source.growth_per_year:+g} % a year" if source.growth_per_year else "no growth"
    notes.append(f"{whose}demand shape: {daily} over the day (UTC); {growth}")
    rate = rate_of(source, trace)
    if trace is None:
        classes = from_table(source)
        burst = poisson_burst(rate * max(shape), source.peak_quantile) * max(shape)
        how = "Poisson arrivals in the busiest hour"
    else:
        classes = _from_trace(trace, source)
        ratio = minute_burst(trace, source.peak_quantile)
        burst = max(ratio, max(shape)) if trace.span_s >= 0.99 * DAY_S else ratio * max(shape)
        how = f"{trace.name} over {trace.span_s / 60:.0f} minutes, burst over mean {ratio:.2f}"
        if source.trace and trace.span_s < 7 * DAY_S:
            what = f"{whose}the trace spans {trace.span_s / 3600:.1f} h"
            warnings.append(f"{what}; its mix stands for the whole horizon")
        if source.trace and source.rate_per_s is not None:
            set_ = f"{whose}rate set to {rate:.4g} requests/s"
            notes.append(f"{set_} (the trace's is {mean_rate(trace):.4g}), burst ratio kept")
    notes.append(
        f"{whose}peak: p{100 * source.peak_quantile:g} of one-minute arrivals, {rate * burst:.4g} requests/s ({how}); "
        "it binds capacity and weighs nothing in the objective"
    )
    model, promise = catalog.llm(source.llm).name, study.promise(source)
    classes = [
        replace(each, stream=place, model=model, ttft_limit_s=promise.ttft_s, tpot_limit_s=promise.tpot_s)
        for each in classes
    ]
    peak = max(burst, max(shape)) * (1.0 + study.reserve.headroom)
    return _Stream(classes, rate, shape, peak, source.growth_per_year, source.peak_quantile)


def _slices(study: Study, streams: list[_Stream]) -> list[Slice]:
    """The parts of every year and future: hours of the typical day (of each season and kind of day), and peaks.

    Where the loss of a site must be survived, a peak without it for each site.
    """
    years = int(study.horizon_years) if study.years_apart else 1
    length = study.horizon_years / years
    whole = sum(way.weight for way in study.ways)
    longest = 1.0 - min(stream.quantile for stream in streams)
    lost = [None, *(site.name for site in study.sites)] if study.reserve.lose_site else [None]
    found = []
    for year in range(years):
        for future, way in enumerate(study.ways):
            name = (f"y{year} " if years > 1 else "") + (f"{way.name} " if study.futures else "")
            here = [each.rate_per_s * way.demand * (1.0 + each.growth) ** year for each in streams]
            share = length * way.weight / whole
            for part, factor in _typical(study.slices):
                rates = tuple(
                    factor * rate * each.shape[part.hour or 0] for rate, each in zip(here, streams, strict=True)
                )
                seconds = share * part.seconds
                found.append(
                    replace(part, name=name + part.name, seconds=seconds, rates=rates, year=year, future=future)
                )
            peaks = tuple(rate * each.burst for rate, each in zip(here, streams, strict=True))
            for site in lost:
                called = f"{name}peak" + (f" without {site}" if site else "")
                busy_s = 0.0 if site else longest * share * SECONDS_PER_YEAR
                found.append(Slice(called, 0.0, peaks, None, year, future, busy_s=busy_s, lost=site))
    return found


def _typical(slices: str) -> list[tuple[Slice, float]]:
    """Hours with their seconds of a year, and their rate over the day's."""
    if slices == "day":
        return [(Slice(f"{hour:02d}h", SECONDS_PER_YEAR / HOURS, (), hour), 1.0) for hour in range(HOURS)]
    weekday, weekend = float(np.mean(DAY_FACTORS[:5])), float(np.mean(DAY_FACTORS[5:]))
    found = []
    for season, (word, days) in enumerate(SEASONS):
        for off, factor, part in ((False, weekday, 5 / 7), (True, weekend, 2 / 7)):
            seconds = days * part * 3600.0 * SECONDS_PER_YEAR / (365 * DAY_S)
            kinds = f"{word} {'weekend' if off else 'weekday'}"
            found += [
                (Slice(f"{kinds} {hour:02d}h", seconds, (), hour, season=season, weekend=off), factor)
                for hour in range(HOURS)
            ]
    return found


def source_trace(demand: Source, seed: int) -> Trace | None:
    """The trace the demand names or generates; None for a table of buckets."""
    if demand.trace is not None:
        return _read(demand.trace, os.stat(demand.trace).st_mtime_ns if os.path.isfile(demand.trace) else 0)
    return generate(demand.generator, seed) if demand.generator is not None else None


@lru_cache(maxsize=8)
def _read(file: str, changed_ns: int) -> Trace:
    """A trace file; every replay asks for it again, so that it is kept until it changes."""
    return read_trace(file)


def rate_of(demand: Source, trace: Trace | None) -> float:
    """Mean requests per second: the stated one, else the generator's, else the trace's."""
    if demand.rate_per_s is not None:
        return demand.rate_per_s
    if demand.generator is not None:
        return demand.generator.rate_per_s
    return mean_rate(trace) if trace is not None else 0.0


def mean_rate(trace: Trace) -> float:
    """Requests per second over the trace's span.

    Raises:
        InputError: all requests arrive at once.
    """
    if trace.span_s <= 0:
        raise InputError("all requests arrive at once, so there is no rate", file=trace.name, mend="give rate_per_s")
    return (trace.requests - 1) / trace.span_s


def minute_burst(trace: Trace, quantile: float) -> float:
    """The quantile of arrivals per whole minute over their mean; 1 for a trace below one minute."""
    counts = window_requests(trace)[: int(trace.span_s // 60.0)]
    return float(np.quantile(counts, quantile) / counts.mean()) if len(counts) else 1.0


def poisson_burst(rate_per_s: float, quantile: float) -> float:
    """The quantile of a minute's Poisson arrivals over their mean, by the normal approximation."""
    mean = rate_per_s * 60.0
    return 1.0 + statistics.NormalDist().inv_cdf(quantile) / math.sqrt(mean) if mean > 0 else 1.0


def from_table(demand: Source) -> list[RequestClass]:
    """A class for each bucket of a source's table."""
    rows = demand.buckets or []
    total = sum(row.share for row in rows)
    longest = max((row.prompt_tokens for row in rows), default=0)
    return [
        RequestClass(
            row.prompt_tokens,
            row.output_tokens,
            row.share / total,
            None if row.prompt_tokens == longest else row.prompt_tokens,
        )
        for row in rows
    ]


def _from_trace(trace: Trace, demand: Source) -> list[RequestClass]:
    """Cells of the grid of edges that hold requests, each at the mean lengths of its requests."""
    return [
        RequestClass(
            max(1, round(cell.prompt_mean)),
            max(1, round(cell.output_mean)),
            cell.share,
            None if math.isinf(cell.prompt_to) else max(1, math.ceil(cell.prompt_to) - 1),
        )
        for cell in buckets(trace, demand.prompt_edges, demand.output_edges)
    ]
