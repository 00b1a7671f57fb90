"""A generator fitted to a trace: its mean rate, how bursty its arrivals are, and quantiles of both lengths."""

from __future__ import annotations

import numpy as np

from profiles.inputs import InputError
from sim.trace.generator import GeneratorSpec, Lengths, Quantiles, generate
from sim.trace.model import Tokens, Trace

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MOST_CV = 30.0
FIT_REQUESTS = 200_000  # at most so many are drawn to tell the fit's errors
_WINDOW_S = 60.0


def fit(trace: Trace, duration_s: float | None = None) -> tuple[GeneratorSpec, dict[str, float]]:
    """A generator like the trace, and the relative errors of one draw of it.

    Arrivals are a Gamma renewal process with the trace's own coefficient of variation of the gaps (Poisson where that
    is within 5 % of 1). Prompt and output lengths are drawn from their quantiles independently of each other.

    Raises:
        InputError: fewer than ten requests, or all at one instant.
    """
    if trace.requests < 10 or not trace.span_s:
        raise InputError("too short to fit a generator to", file=trace.name, mend="ten requests over some time")
    gaps = np.diff(trace.arrival_s)
    rate = 1.0 / float(gaps.mean())
    cv = float(gaps.std() / gaps.mean())
    poisson = abs(cv - 1.0) < 0.05
    spec = GeneratorSpec(
        duration_s=duration_s or trace.span_s,
        rate_per_s=rate,
        process="poisson" if poisson else "gamma",
        cv=None if poisson else min(max(cv, 0.01), MOST_CV),
        lengths=Lengths(prompt=_table(trace.prompt_tokens), output=_table(trace.output_tokens)),
    )
    return spec, _errors(trace, spec, cv)


def _table(tokens: Tokens) -> Quantiles:
    points = np.maximum(np.rint(np.quantile(tokens, LEVELS)), 1).astype(int)
    return Quantiles(distribution="quantiles", levels=LEVELS, tokens=tuple(int(x) for x in points))


def _errors(trace: Trace, spec: GeneratorSpec, cv: float) -> dict[str, float]:
    drawn = generate(
        spec.model_copy(update={"duration_s": min(trace.requests, FIT_REQUESTS) / spec.rate_per_s}), seed=0
    )
    gaps = np.diff(drawn.arrival_s)

    def correlation(one: Trace) -> float:
        if not (one.prompt_tokens.std() and one.output_tokens.std()):
            return 0.0
        return float(np.corrcoef(one.prompt_tokens, one.output_tokens)[0, 1])

    return {
        "mean prompt tokens": float(drawn.prompt_tokens.mean() / trace.prompt_tokens.mean() - 1.0),
        "mean output tokens": float(drawn.output_tokens.mean() / trace.output_tokens.mean() - 1.0),
        "variation of the gaps": float(gaps.std() / gaps.mean() / cv - 1.0) if cv else 0.0,
        "prompt-output correlation that is lost": correlation(trace) - correlation(drawn),
        "busiest minute": _peak(drawn) / _peak(trace) - 1.0,
    }


def _peak(trace: Trace) -> float:
    counts = np.bincount((trace.arrival_s / _WINDOW_S).astype(np.int64))
    return float(counts.max())
