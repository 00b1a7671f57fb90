"""Latency metrics, defined once (docs/metrics.md): TTFT, TPOT, E2E, queue, and SLO attainment; sim.gaps has TBT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim import columns
from sim.columns import Floats
from sim.engine.requests import COMPLETED, Requests
from sim.quantiles import quantiles

if TYPE_CHECKING:
    from sim.scenario import SloClass

Stats = dict[str, float | None]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Per request, NaN where it is undefined: unfinished requests, and TPOT of a single output token."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    queue_s: Floats
    completed: NDArray[np.bool_]

    @classmethod
    def of(cls, requests: Requests, part: slice = slice(None)) -> Latencies:
        """The latencies of a request table, or of some of its rows."""
        arrival, output = requests.trace.arrival_s[part], requests.trace.output_tokens[part]
        completed = np.asarray(requests.status[part]) == COMPLETED
        first, last = np.asarray(requests.first_token_s[part]), np.asarray(requests.finish_s[part])
        e2e = np.where(completed, last - arrival, np.nan)
        ttft = np.where(completed, first - arrival, np.nan)
        several = completed & (output > 1)
        tpot = np.where(several, (last - first) / np.maximum(output - 1, 1), np.nan)
        queue = np.where(completed, np.asarray(requests.start_s[part]) - arrival, np.nan)
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
        return {"mean": None, **dict.fromkeys(QUANTILES)}
    points = np.quantile(defined, list(QUANTILES.values()))
    return {"mean": float(defined.mean()), **{name: float(x) for name, x in zip(QUANTILES, points, strict=True)}}


def statistics_over(blocks: Callable[[], Iterable[Floats]]) -> Stats:
    """As `statistics`, of values that come in blocks, and can come again."""

    def defined() -> Iterator[Floats]:
        return (block[~np.isnan(block)] for block in blocks())

    size, total = 0, 0.0
    for block in defined():
        size += block.size
        total += float(block.sum())
    if size <= columns.BLOCK:
        return statistics(np.concatenate([*defined(), np.zeros(0)]))
    points = quantiles(defined, size, list(QUANTILES.values()))
    return {"mean": total / size, **dict(zip(QUANTILES, points, strict=True))}
