"""The shape of a trace: how its load goes over day and week, which lengths it mixes, how high its peaks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiles.inputs import InputError
from profiles.units import SECONDS_PER_HOUR
from sim.trace.model import Floats, Ints, Trace

SHAPE_NOTE = "diurnal and weekly load shapes are modelled, not measured: a cosine and two levels of day"
DIURNAL_SWING = 0.5  # modelled: the busiest hour has 1.5 times the day's mean, the quietest half of it
DIURNAL_PEAK_HOUR = 14
HOURLY_FACTORS: tuple[float, ...] = tuple(
    1.0 + DIURNAL_SWING * math.cos(2.0 * math.pi * (hour - DIURNAL_PEAK_HOUR) / 24.0) for hour in range(24)
)
WEEKEND_TO_MEAN = 0.7  # modelled: Saturday and Sunday at .7 of the week's mean, so weekdays at 1.12
DAY_FACTORS: tuple[float, ...] = ((7.0 - 2.0 * WEEKEND_TO_MEAN) / 5.0,) * 5 + (WEEKEND_TO_MEAN,) * 2


def week_factors(hourly: Sequence[float] = HOURLY_FACTORS, daily: Sequence[float] = DAY_FACTORS) -> Floats:
    """Load in each of the 168 hours of a week from Monday 0 h, relative to the week's mean."""
    return np.outer(np.asarray(daily, float), np.asarray(hourly, float)).ravel()


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests of similar lengths: [prompt_from, prompt_to) x [output_from, output_to), their means and share."""

    prompt_from: float
    prompt_to: float
    output_from: float
    output_to: float
    requests: int
    share: float
    prompt_mean: float
    output_mean: float


def buckets(trace: Trace, prompt_edges: Sequence[float], output_edges: Sequence[float]) -> tuple[Bucket, ...]:
    """The trace's mix of lengths: one bucket a cell that has requests, smallest first; shares sum to 1.

    The edges cut the axis from 0 to infinity: n edges give n + 1 classes, so no request is left out, and
    share-weighted means give back the trace's mean tokens.

    Raises:
        InputError: edges that do not ascend or are not positive numbers.
    """
    prompt_cut, output_cut = _edges(prompt_edges, "prompt_edges"), _edges(output_edges, "output_edges")
    columns = len(output_cut) - 1
    cell = (np.searchsorted(prompt_cut, trace.prompt_tokens, side="right") - 1) * columns
    cell += np.searchsorted(output_cut, trace.output_tokens, side="right") - 1
    size = (len(prompt_cut) - 1) * columns
    count = np.bincount(cell, minlength=size)
    prompt_sum = np.bincount(cell, weights=trace.prompt_tokens, minlength=size)
    output_sum = np.bincount(cell, weights=trace.output_tokens, minlength=size)
    return tuple(
        Bucket(
            prompt_from=float(prompt_cut[i // columns]),
            prompt_to=float(prompt_cut[i // columns + 1]),
            output_from=float(output_cut[i % columns]),
            output_to=float(output_cut[i % columns + 1]),
            requests=int(count[i]),
            share=float(count[i] / trace.requests),
            prompt_mean=float(prompt_sum[i] / count[i]),
            output_mean=float(output_sum[i] / count[i]),
        )
        for i in np.flatnonzero(count).tolist()
    )


def _edges(edges: Sequence[float], field: str) -> Floats:
    cut = np.asarray(edges, dtype=np.float64)
    if cut.ndim != 1 or not np.isfinite(cut).all() or (len(cut) and cut[0] <= 0) or (np.diff(cut) <= 0).any():
        raise InputError("must be positive numbers that ascend", field=field, mend="write them like 256, 1024, 4096")
    return np.concatenate([[0.0], cut, [np.inf]])


def window_requests(trace: Trace, window_s: float = 60.0) -> Ints:
    """Arrivals in each window of `window_s` seconds from the first arrival on; the last one may be cut short.

    Raises:
        InputError: window_s is not a positive number, or makes more than 100 million windows.
    """
    if not (math.isfinite(window_s) and window_s > 0) or trace.span_s / window_s > 1e8:
        raise InputError(f"{window_s:g} s is no window for {trace.span_s:g} s", field="window_s", mend="write 60")
    return np.bincount((trace.arrival_s / window_s).astype(np.int64)).astype(np.int64)


def peak_rate_per_s(trace: Trace, window_s: float = 60.0, quantile: float = 0.99) -> float:
    """Requests per second in the busy windows: the stated quantile of the rates of whole windows (default: p99 of
    one minute). A trace shorter than one window has its mean rate as its peak.

    Raises:
        InputError: as window_requests; quantile outside 0 to 1.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"{quantile:g} is not between 0 and 1", field="quantile", mend="write 0.99")
    counts = window_requests(trace, window_s)
    whole = counts[:-1] if len(counts) > 1 else counts
    return float(np.quantile(whole, quantile) / (window_s if len(counts) > 1 else max(trace.span_s, 1.0)))


def hourly_factors(trace: Trace) -> Floats | None:
    """The trace's own load by UTC hour of day relative to its mean (24 values), or None without dates or a whole day.

    Only whole days from the first arrival count, so that every hour is seen equally often.
    """
    days = int(trace.span_s // (24 * SECONDS_PER_HOUR))
    if trace.start_utc_s is None or days < 1:
        return None
    inside = trace.arrival_s[trace.arrival_s < days * 24 * SECONDS_PER_HOUR] + trace.start_utc_s
    hour = (inside // SECONDS_PER_HOUR).astype(np.int64) % 24
    count = np.bincount(hour, minlength=24).astype(np.float64)
    factors: Floats = count / count.mean()
    return factors
