"""A run beside a real engine's request log: what was measured, what was simulated, and the error between them.

The log is JSON lines of vLLM's own stamps: `arrival_time` in epoch seconds, `queued_ts`, `first_token_ts` and
`last_token_ts` on a monotonic clock. The two clocks are tied by the shortest time from arrival to queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import InputError, read_text
from sim.metrics import Latencies, statistics
from sim.run import Run

WARM_UP = 15  # a log's first requests meet an engine that still warms up: told apart
Floats = NDArray[np.float64]
_COUNTS, _TIMES = ("input_toks", "output_toks"), ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts")


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Measured latencies of each request, in order of arrival."""

    name: str
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    ttft_s: Floats
    e2e_s: Floats

    @property
    def tpot_s(self) -> Floats:
        """(E2E - TTFT) / (output tokens - 1), NaN at one output token."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        tpot: Floats = (self.e2e_s - self.ttft_s) / gaps
        return tpot


def read_log(path: str | Path) -> Log:
    """Read a request log.

    Raises:
        InputError: a line lacks a stamp, a figure cannot be, or there is no request.
    """
    rows = [_row(text, path, line) for line, text in enumerate(read_text(path).splitlines(), start=1) if text.strip()]
    if not rows:
        raise InputError("no request", file=path, mend="give the JSON lines of a vLLM benchmark")
    rows.sort(key=lambda row: row["arrival_time"])
    columns = {name: np.array([row[name] for row in rows]) for name in (*_COUNTS, *_TIMES)}
    arrival = columns["arrival_time"]
    arrival = arrival + np.min(columns["queued_ts"] - arrival)
    ttft, e2e = columns["first_token_ts"] - arrival, columns["last_token_ts"] - arrival
    return Log(Path(path).name, columns["input_toks"], columns["output_toks"], ttft, e2e)


def _row(text: str, path: str | Path, line: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
        found: dict[str, Any] = {name: int(row[name]) for name in _COUNTS}
        found |= {name: float(row[name]) for name in _TIMES}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        needs = ", ".join((*_COUNTS, *_TIMES))
        raise InputError("not a request of a vLLM log", file=path, line=line, mend=f"needs {needs}") from error
    times = [found[name] for name in _TIMES]
    if not np.isfinite(times).all() or min(found[name] for name in _COUNTS) < 1 or times[1:] != sorted(times[1:]):
        mend = "tokens from 1, stamps finite and in the order queued, first token, last token"
        raise InputError("a request that cannot be", file=path, line=line, mend=mend)
    return found


def compare(run: Run, log: Log) -> dict[str, Any]:
    """Errors of simulated against measured latencies, relative to the measured: the first 15 requests apart.

    Raises:
        InputError: the log's requests are not the trace's.
    """
    trace = run.trace
    if trace.requests != log.ttft_s.size:
        what = f"{log.ttft_s.size} requests, the trace has {trace.requests}"
        raise InputError(what, file=log.name, field="--against", mend="replay the log itself")
    different = np.nonzero((trace.prompt_tokens != log.prompt_tokens) | (trace.output_tokens != log.output_tokens))[0]
    if different.size:
        what = f"request {different[0]} has other token counts than the trace's"
        raise InputError(what, file=log.name, field="--against", mend="replay the log itself")
    found = Latencies.of(run.played.requests)
    pairs = {
        "ttft_s": (found.ttft_s, log.ttft_s),
        "tpot_s": (found.tpot_s, log.tpot_s),
        "e2e_s": (found.e2e_s, log.e2e_s),
    }
    kept = slice(WARM_UP if trace.requests > 2 * WARM_UP else 0, None)
    off = np.abs(found.e2e_s / log.e2e_s - 1.0)
    return {
        "log": log.name,
        "requests": int(trace.requests),
        "left_out": kept.start,
        **{name: _errors(ours[kept], theirs[kept]) for name, (ours, theirs) in pairs.items()},
        "request_e2e_error": statistics(off[kept]),
        "first_requests_e2e_error": statistics(off[: kept.start]),
    }


def _errors(ours: Floats, theirs: Floats) -> dict[str, Any]:
    both = ~(np.isnan(ours) | np.isnan(theirs))
    simulated, measured = statistics(ours[both]), statistics(theirs[both])
    error = {
        name: None if value is None or not measured[name] else value / (measured[name] or 1.0) - 1.0
        for name, value in simulated.items()
    }
    return {"simulated": simulated, "measured": measured, "error": error}
