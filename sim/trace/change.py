"""A trace scaled, repeated and given the shape of a day or week: what a short trace needs to stand for a long one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from profiles.inputs import InputError
from profiles.units import SECONDS_PER_HOUR
from sim.trace.model import Trace
from sim.trace.shape import HOURLY_FACTORS, SHAPE_NOTE, week_factors

MOST = 50_000_000  # requests
Shape = Literal["flat", "diurnal", "weekly"]


def scaled(trace: Trace, factor: float) -> Trace:
    """The same requests `factor` times as fast."""
    if factor == 1.0:
        return trace
    return replace(
        trace, arrival_s=trace.arrival_s / factor, notes=(*trace.notes, f"arrivals {factor:g} times as fast")
    )


def repeated(trace: Trace, times: int) -> Trace:
    """The trace `times` times, one after the other, a mean gap between them; prefixes are not found across copies.

    Raises:
        InputError: more than fifty million requests.
    """
    if times == 1:
        return trace
    n = trace.requests
    if n * times > MOST:
        raise InputError(f"{n * times:,} requests", field="repeat", mend=f"at most {MOST:,} can be held")
    period = trace.span_s + (trace.span_s / (n - 1) if n > 1 else 1.0)
    ids, offsets = trace.hash_ids, trace.hash_offsets
    if ids is not None and offsets is not None:
        step = int(ids.max(initial=0)) + 1
        ids = np.concatenate([ids + k * step for k in range(times)])
        offsets = np.concatenate([[0], *(offsets[1:] + k * offsets[-1] for k in range(times))])
    return replace(
        trace,
        arrival_s=(np.arange(times)[:, None] * period + trace.arrival_s).ravel(),
        prompt_tokens=np.tile(trace.prompt_tokens, times),
        output_tokens=np.tile(trace.output_tokens, times),
        hash_ids=ids,
        hash_offsets=offsets,
        model=None if trace.model is None else np.tile(trace.model, times),
        slo_class=None if trace.slo_class is None else np.tile(trace.slo_class, times),
        notes=(*trace.notes, f"repeated {times} times"),
    )


def shaped(trace: Trace, shape: Shape, starts_at_hour: float) -> Trace:
    """Arrivals moved so that their rate follows the shape of a day or week, with the trace's own mean.

    A trace's own ups and downs stay, multiplied by the shape: time runs faster where the shape is high. Of a trace
    shorter than the shape's period only that part of it is seen.

    Args:
        starts_at_hour: where in the shape the trace begins, in hours since Monday 0 h.
    """
    if shape == "flat" or trace.span_s == 0:
        return trace
    factors = week_factors(HOURLY_FACTORS, *(() if shape == "weekly" else ((1.0,) * 7,)))
    hours = math.ceil(trace.span_s / SECONDS_PER_HOUR / factors.min()) + 2
    first = math.floor(starts_at_hour)
    edges = (np.arange(first, first + hours + 1) - starts_at_hour) * SECONDS_PER_HOUR
    rates = factors[np.arange(first, first + hours) % factors.size]
    passed = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    begun = np.interp(0.0, edges, passed)
    arrival = np.interp(trace.arrival_s + begun, passed, edges)
    return replace(trace, arrival_s=arrival - arrival[0], notes=(*trace.notes, f"{shape} shape; {SHAPE_NOTE}"))
