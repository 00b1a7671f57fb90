"""Latency metrics, defined once (docs/metrics.md): TTFT, TBT, TPOT, E2E, queue, and SLO attainment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.engine.ledger import Ledger
from sim.engine.requests import COMPLETED, Requests

if TYPE_CHECKING:
    from sim.scenario import SloClass

Floats = NDArray[np.float64]
Stats = dict[str, float | None]
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Per request, NaN where it is undefined: unfinished requests, and TPOT of a single output token."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    queue_s: Floats
    completed: NDArray[np.bool_]

    @classmethod
    def of(cls, requests: Requests) -> Latencies:
        """The latencies of a request table."""
        arrival = np.array(requests.arrival_s)
        output = np.array(requests.output)
        completed = np.frombuffer(requests.status, dtype=np.uint8) == COMPLETED
        first, last = np.frombuffer(requests.first_token_s), np.frombuffer(requests.finish_s)
        e2e = np.where(completed, last - arrival, np.nan)
        ttft = np.where(completed, first - arrival, np.nan)
        several = completed & (output > 1)
        tpot = np.where(several, (last - first) / np.maximum(output - 1, 1), np.nan)
        queue = np.where(completed, np.frombuffer(requests.start_s) - arrival, np.nan)
        return cls(ttft, tpot, e2e, queue, completed)

    def kept(self, classes: Sequence[SloClass], of_class: NDArray[np.int32] | None) -> NDArray[np.bool_]:
        """Requests that meet every limit of their class, its deadline too."""
        met = np.zeros(self.completed.size, dtype=bool)
        for place, limits in enumerate(classes):
            mine = self.met(limits.ttft_s, limits.tpot_s)
            if limits.deadline_s is not None:
                mine &= np.nan_to_num(self.e2e_s, nan=np.inf) <= limits.deadline_s
            met |= mine if of_class is None else mine & (of_class == place)
        return met

    def met(self, ttft_limit_s: float | None, tpot_limit_s: float | None) -> NDArray[np.bool_]:
        """Requests that meet all limits; what is not completed misses, an undefined TPOT meets its limit."""
        met = self.completed.copy()
        if ttft_limit_s is not None:
            met &= np.nan_to_num(self.ttft_s, nan=np.inf) <= ttft_limit_s
        if tpot_limit_s is not None:
            met &= np.nan_to_num(self.tpot_s, nan=0.0) <= tpot_limit_s
        return met


def statistics(values: Floats) -> Stats:
    """Mean and percentiles of the defined values (linear interpolation between order statistics)."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return {"mean": None, **dict.fromkeys(_QUANTILES)}
    points = np.quantile(defined, list(_QUANTILES.values()))
    return {"mean": float(defined.mean()), **{name: float(x) for name, x in zip(_QUANTILES, points, strict=True)}}


def gap_statistics(ledgers: list[Ledger]) -> Stats:
    """Mean and percentiles of the gaps between tokens, pooled over all tokens of all requests."""
    first, last, steps, batch = (np.concatenate(parts) for parts in zip(*[x.gaps() for x in ledgers], strict=True))
    tokens = steps * batch
    total = int(tokens.sum())
    if not total:
        return {"mean": None, **dict.fromkeys(_QUANTILES)}
    found: Stats = {"mean": float(np.dot(tokens, 0.5 * (first + last)) / total)}
    by_first, by_last = np.argsort(first), np.argsort(last)
    sums = np.cumsum(tokens[by_first]), np.cumsum(tokens[by_last])
    for name, share in _QUANTILES.items():
        rank = share * total
        low = float(first[by_first[int(np.searchsorted(sums[0], rank))]])
        high = float(last[by_last[int(np.searchsorted(sums[1], rank))]])
        sure = int(tokens[last < low].sum())  # rows wholly below the bracket
        open_ = (last >= low) & (first <= high)
        found[name] = _gap_quantile(first[open_], last[open_], steps[open_], batch[open_], rank - sure, (low, high))
    return found


def _gap_quantile(
    first: Floats,
    last: Floats,
    steps: Floats,
    batch: Floats,
    rank: float,
    bracket: tuple[float, float],
) -> float:
    """The smallest gap below which at least `rank` gaps lie, by bisection to twelve digits.

    Row i stands for `batch` sequences with `steps` gaps each, evenly spaced from `first` to `last`. The quantile of
    all first gaps is below it, that of all last gaps above it: the bracket.
    """
    spacing = (last - first) / np.maximum(steps - 1, 1)
    flat = spacing <= 1e-15 * np.maximum(first, 1e-300)
    spacing = np.where(flat, 1.0, spacing)
    low, high = bracket
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        below = np.where(flat, (first <= middle) * steps, np.floor((middle - first) / spacing) + 1)
        if float(np.dot(np.clip(below, 0, steps), batch)) >= rank:
            high = middle
        else:
            low = middle
    return high
