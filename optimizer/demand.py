"""Demand as the program sees it: classes of requests (buckets) with shares, and slices of time with rates.

Slices are the 24 hours (UTC) of one typical day, which together stand for the whole horizon, and one peak slice of no
duration: it costs nothing and only binds capacity.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np

from optimizer.study import Demand, Study
from profiles.inputs import InputError
from profiles.units import SECONDS_PER_YEAR
from sim.trace.generator import GeneratorSpec, Lengths, Quantiles, generate
from sim.trace.model import Tokens, Trace
from sim.trace.readers import read_trace
from sim.trace.shape import DAY_FACTORS, HOURLY_FACTORS, buckets, window_requests

HOURS = 24
SEASONS = (("winter", 90), ("spring", 92), ("summer", 92), ("autumn", 91))  # from December, March, June, September
_DAY_S = 86400.0
_FLAT_REQUESTS = 20_000.0  # a flat rate is replayed for as many whole hours as bring this many requests
_DAY_REQUESTS = 300_000.0  # a shaped day is replayed whole up to this many requests, beyond it its busiest hours
_LEVELS = [i / 50 for i in range(51)]


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of about `prompt_tokens` in and `output_tokens` out (the bucket's means); shares add up to one.

    `prompt_to` is the longest prompt of the class; None: no limit.
    """

    prompt_tokens: int
    output_tokens: int
    share: float
    prompt_to: int | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the horizon: seconds it stands for, requests per second in it, and its hour (None: the peak).

    `year` and `future` say which year and which way things go it belongs to, `season` (0 is December to February) and
    `weekend` narrow the hour down; None: all of them.
    """

    name: str
    seconds: float
    rate_per_s: float
    hour: int | None
    year: int = 0
    future: int = 0
    season: int | None = None
    weekend: bool | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The whole demand: classes, slices, mean rate, and what was assumed to get there."""

    classes: list[RequestClass]
    slices: list[Slice]
    rate_per_s: float
    assumptions: list[str]
    warnings: list[str]

    @property
    def requests(self) -> float:
        """Requests over the horizon."""
        return sum(part.seconds * part.rate_per_s for part in self.slices)

    @property
    def output_tokens(self) -> float:
        """Output tokens over the horizon."""
        return self.requests * sum(each.share * each.output_tokens for each in self.classes)


def shape_of(demand: Demand) -> tuple[float, ...]:
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
        InputError: the trace cannot be read, or all its requests arrive at once.
    """
    demand = study.demand
    trace = source_trace(demand, study.seed)
    shape = shape_of(demand)
    daily = "flat" if max(shape) == 1.0 else "diurnal, modelled"
    growth = f"growth {100 * demand.growth_per_year:+g} % a year" if demand.growth_per_year else "no growth"
    weekly = "weekends as in the shipped week, modelled" if study.slices == "seasons" else "the same every day"
    notes = [f"demand shape: {daily} over the day (UTC), {weekly}; {growth}, no season of its own"]
    warnings: list[str] = []
    rate = rate_of(demand, trace)
    if trace is None:
        classes = _from_table(demand)
        burst = poisson_burst(rate * max(shape), demand.peak_quantile) * max(shape)
        how = "Poisson arrivals in the busiest hour"
    else:
        classes = _from_trace(trace, demand)
        ratio = minute_burst(trace, demand.peak_quantile)
        burst = max(ratio, max(shape)) if trace.span_s >= 0.99 * _DAY_S else ratio * max(shape)
        how = f"{trace.name} over {trace.span_s / 60:.0f} minutes, burst over mean {ratio:.2f}"
        if demand.trace and trace.span_s < 7 * _DAY_S:
            warnings.append(f"the trace spans {trace.span_s / 3600:.1f} h; its mix stands for the whole horizon")
        if demand.trace and demand.rate_per_s is not None:
            notes.append(f"rate set to {rate:.4g} requests/s (the trace's is {mean_rate(trace):.4g}), burst ratio kept")
    notes.append(
        f"peak: p{100 * demand.peak_quantile:g} of one-minute arrivals, {rate * burst:.4g} requests/s ({how}); "
        "it binds capacity and weighs nothing in the objective"
    )
    slices = _slices(study, rate, shape, max(burst, max(shape)))
    return Load(classes, slices, rate, notes, warnings)


def _slices(study: Study, rate: float, shape: tuple[float, ...], burst: float) -> list[Slice]:
    """The parts of every year and future: hours of the typical day (of each season and kind of day), and a peak."""
    years = int(study.horizon_years) if study.years_apart else 1
    length = study.horizon_years / years
    whole = sum(way.weight for way in study.ways)
    found = []
    for year in range(years):
        for future, way in enumerate(study.ways):
            name = (f"y{year} " if years > 1 else "") + (f"{way.name} " if study.futures else "")
            here = rate * way.demand * (1.0 + study.demand.growth_per_year) ** year
            share = length * way.weight / whole
            for part in _typical(study.slices):
                seconds = share * part.seconds
                level = here * part.rate_per_s * shape[part.hour or 0]
                found.append(
                    replace(part, name=name + part.name, seconds=seconds, rate_per_s=level, year=year, future=future)
                )
            found.append(Slice(f"{name}peak", 0.0, here * burst, None, year, future))
    return found


def _typical(slices: str) -> list[Slice]:
    """Hours with their seconds of a year and relative rate."""
    if slices == "day":
        return [Slice(f"{hour:02d}h", SECONDS_PER_YEAR / HOURS, 1.0, hour) for hour in range(HOURS)]
    weekday, weekend = float(np.mean(DAY_FACTORS[:5])), float(np.mean(DAY_FACTORS[5:]))
    found = []
    for season, (word, days) in enumerate(SEASONS):
        for off, factor, part in ((False, weekday, 5 / 7), (True, weekend, 2 / 7)):
            seconds = days * part * 3600.0 * SECONDS_PER_YEAR / (365 * _DAY_S)
            kinds = f"{word} {'weekend' if off else 'weekday'}"
            found += [
                Slice(f"{kinds} {hour:02d}h", seconds, factor, hour, season=season, weekend=off)
                for hour in range(HOURS)
            ]
    return found


def source_trace(demand: Demand, seed: int) -> Trace | None:
    """The trace the demand names or generates; None for a table of buckets."""
    if demand.trace is not None:
        return read_trace(demand.trace)
    return generate(demand.generator, seed) if demand.generator is not None else None


def rate_of(demand: Demand, trace: Trace | None) -> float:
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


def replay_spec(study: Study, like: Trace | None) -> GeneratorSpec:
    """A generator of the study's demand: its rate and shape, Poisson arrivals, prompt and output lengths by quantile.

    A flat rate is generated for whole hours until there are 20,000 requests; a shaped one for a day, or for its
    busiest hours where a day would hold more than 300,000 requests.
    """
    demand = study.demand
    rate, shape = rate_of(demand, like), shape_of(demand)
    flat = max(shape) == 1.0
    hours = math.ceil(_FLAT_REQUESTS / rate / 3600.0) if flat else math.floor(_DAY_REQUESTS / rate / 3600.0)
    duration_s = 3600.0 * min(max(hours, 1), HOURS)
    whole_day = duration_s >= _DAY_S
    crest = (shape.index(max(shape)) - int(duration_s // 7200.0)) % HOURS
    own = demand.generator
    return GeneratorSpec(
        duration_s=duration_s,
        rate_per_s=rate,
        process=own.process if own else "poisson",
        cv=own.cv if own else None,
        shape="flat" if flat else "diurnal",
        hourly_factors=None if flat else shape,
        starts_at_hour=0.0 if flat or whole_day else float(crest),
        lengths=own.lengths if own else _quantiles(demand, like),
    )


def sample(demand: Demand, seed: int) -> Trace:
    """A trace with the demand's joint lengths, to draw from: the demand's own, or the buckets in proportion."""
    trace = source_trace(demand, seed)
    if trace is not None:
        return trace
    counts = [max(1, round(each.share * 10_000)) for each in _from_table(demand)]
    rows = demand.buckets or []
    return Trace(
        name="buckets",
        arrival_s=np.arange(float(sum(counts))),
        prompt_tokens=np.repeat([row.prompt_tokens for row in rows], counts),
        output_tokens=np.repeat([row.output_tokens for row in rows], counts),
    )


def _quantiles(demand: Demand, like: Trace | None) -> Lengths:
    """Prompt and output lengths as quantile tables, each on its own (their dependence is lost)."""
    trace = like if like is not None else sample(demand, 0)

    def table(tokens: Tokens) -> Quantiles:
        points = np.quantile(tokens, _LEVELS, method="nearest").astype(int)
        return Quantiles(distribution="quantiles", levels=tuple(_LEVELS), tokens=tuple(points.tolist()))

    return Lengths(prompt=table(trace.prompt_tokens), output=table(trace.output_tokens))


def poisson_burst(rate_per_s: float, quantile: float) -> float:
    """The quantile of a minute's Poisson arrivals over their mean, by the normal approximation."""
    mean = rate_per_s * 60.0
    return 1.0 + statistics.NormalDist().inv_cdf(quantile) / math.sqrt(mean) if mean > 0 else 1.0


def _from_table(demand: Demand) -> list[RequestClass]:
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


def _from_trace(trace: Trace, demand: Demand) -> list[RequestClass]:
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
