"""Exact order statistics of values that come in blocks, and can come again, in memory for one block.

Pivots from a sample split the values; what lies in the pivots' brackets around a wanted rank is sorted. The sample
decides how much that is, never what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from sim import columns
from sim.columns import Floats

Weighted = Callable[[], Iterable[tuple[Floats, Floats | None]]]  # blocks of values and weights (None: 1 each)

_ONE_IN = 64  # values of the sample
_MARGIN = 0.01  # of all weight, between a rank and the pivots beside it


def quantiles(blocks: Callable[[], Iterable[Floats]], size: int, shares: Sequence[float]) -> list[float]:
    """Quantiles of `size` values by linear interpolation between order statistics, as numpy.quantile gives them."""
    places = [share * (size - 1) for share in shares]
    below = [int(place) for place in places]
    ranks = [rank for k in below for rank in (k + 1, min(k + 2, size))]
    found = iter(at_ranks(lambda: ((block, None) for block in blocks()), size, ranks, size))
    pairs = zip(found, found, strict=True)
    return [float(np.quantile(pair, place - k)) for pair, place, k in zip(pairs, places, below, strict=True)]


def at_ranks(source: Weighted, size: int, ranks: Sequence[float], total: float) -> list[float]:
    """For each rank the least value whose weight, together with that of all smaller ones, reaches it.

    Args:
        source: gives `size` values, the same each time it is called.
        ranks: each above 0 and at most `total`, the weight of all values.
    """
    pivots = _pivots(source, ranks, total) if size > columns.BLOCK else np.zeros(0)
    tied, between = np.zeros(pivots.size + 1), np.zeros(pivots.size + 1)
    for values, weights in source():
        place, on_pivot = _placed(values, pivots)
        for sums, mine in ((tied, on_pivot), (between, ~on_pivot)):
            sums += np.bincount(place[mine], None if weights is None else weights[mine], sums.size)
    sums = np.cumsum(np.column_stack([between, tied]))  # up to each gap between pivots, and up to each pivot
    found = [int(np.searchsorted(sums, rank)) for rank in ranks]
    wanted = sorted({k // 2 for k in found if k % 2 == 0})
    inside = {bracket: _inside(source, pivots, bracket) for bracket in wanted}
    answers = []
    for k, rank in zip(found, ranks, strict=True):
        if k % 2:
            answers.append(float(pivots[k // 2]))
        else:
            values, upto = inside[k // 2]
            answers.append(float(values[np.searchsorted(upto, rank - (sums[k - 1] if k else 0.0))]))
    return answers


def _pivots(source: Weighted, ranks: Sequence[float], total: float) -> Floats:
    """A few values of a random sample, somewhat below and above where the ranks should lie."""
    draw = np.random.default_rng(0)
    values, weights = [], []
    for block, weight in source():
        if not block.size:
            continue
        some = draw.integers(0, block.size, 1 + block.size // _ONE_IN)
        values.append(block[some])
        weights.append(np.ones(some.size) if weight is None else weight[some])
    value, weight = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(value)
    upto = np.cumsum(weight[order])
    share = np.array(ranks) / total
    places = np.searchsorted(upto / upto[-1], np.concatenate([share - _MARGIN, share + _MARGIN]))
    return np.unique(value[order][np.minimum(places, value.size - 1)])


def _placed(values: Floats, pivots: Floats) -> tuple[np.ndarray, np.ndarray]:
    """How many pivots lie below each value, and whether the next one is that value."""
    place = np.searchsorted(pivots, values)
    on_pivot: np.ndarray = np.append(pivots, np.nan)[place] == values
    return place, on_pivot


def _inside(source: Weighted, pivots: Floats, bracket: int) -> tuple[Floats, Floats]:
    """Values strictly between two pivots, ascending, and their weight up to each."""
    low = pivots[bracket - 1] if bracket else -np.inf
    high = pivots[bracket] if bracket < pivots.size else np.inf
    found, weight = [], []
    for values, weights in source():
        mine = (values > low) & (values < high)
        found.append(values[mine])
        weight.append(np.ones(found[-1].size) if weights is None else weights[mine])
    value = np.concatenate(found)
    order = np.argsort(value)
    return value[order], np.cumsum(np.concatenate(weight)[order])
