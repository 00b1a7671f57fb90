"""TBT: the gaps between tokens, pooled over all tokens of all requests (docs/metrics.md).

A row stands for `batch` sequences with `steps` gaps each, evenly spaced from a first to a last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from sim.columns import BLOCK, Floats, Spool
from sim.engine.ledger import Ledger
from sim.metrics import QUANTILES, Stats
from sim.quantiles import at_ranks

Rows = tuple[Floats, Floats, Floats, Floats]  # first_s, last_s, steps, batch
Source = Callable[[], Iterable[Rows]]
MOST_OPEN = 4 * BLOCK  # rows that are kept while a quantile is narrowed down


def gap_statistics(ledgers: list[Ledger], earlier: Spool | None = None) -> Stats:
    """Mean and percentiles of the gaps that ledgers hold, and of those that none holds any more."""
    first, last, steps, batch = (np.concatenate(parts) for parts in zip(*[x.gaps() for x in ledgers], strict=True))

    def rows() -> Iterable[Rows]:
        if earlier is not None:
            yield from (tuple(np.ascontiguousarray(block.T)) for block in earlier.blocks())
        yield first, last, steps, batch

    size, total, sum_s = 0, 0, 0.0
    for low, high, count, sequences in rows():
        tokens = count * sequences
        size, total = size + low.size, total + int(tokens.sum())
        sum_s += float(np.dot(tokens, 0.5 * (low + high)))
    if not total:
        return {"mean": None, **dict.fromkeys(QUANTILES)}
    ranks = [share * total for share in QUANTILES.values()]
    lows = at_ranks(lambda: ((row[0], row[2] * row[3]) for row in rows()), size, ranks, total)
    highs = at_ranks(lambda: ((row[1], row[2] * row[3]) for row in rows()), size, ranks, total)
    found: Stats = {"mean": sum_s / total}
    for name, rank, *bracket in zip(QUANTILES, ranks, lows, highs, strict=True):
        found[name] = _quantile(rows, rank, *bracket)
    return found


def _quantile(source: Source, rank: float, low: float, high: float) -> float:
    """The smallest gap below which at least `rank` gaps lie, by bisection to twelve digits.

    The quantile of all first gaps is below it, that of all last gaps above it: the bracket. Only the rows that reach
    into it are counted again; while they are too many to keep they come from the source each time.
    """
    kept: _Reaching | None = None
    while high - low > 1e-12 * high:
        kept = kept or _kept(source, low, high)
        middle = 0.5 * (low + high)
        below = kept.below(middle) if kept else sum(_Reaching([rows], low, high).below(middle) for rows in source())
        if below >= rank:
            high = middle
        else:
            low = middle
    return high


def _kept(source: Source, low: float, high: float) -> _Reaching | None:
    """The rows that reach into a bracket, unless they are too many."""
    parts, size = [], 0
    for rows in source():
        parts.append(_Reaching([rows], low, high))
        size += parts[-1].size
        if size > MOST_OPEN:
            return None
    return _Reaching([part.rows for part in parts], low, high, sum(part.sure for part in parts))


class _Reaching:
    """Rows that reach into a bracket, and `sure`, how many gaps lie wholly below it."""

    def __init__(self, parts: list[Rows], low: float, high: float, sure: int = 0) -> None:
        first, last, steps, batch = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        under = last < low
        self.sure = sure + int(np.dot(steps[under], batch[under]))
        mine = ~under & (first <= high)
        self.rows: Rows = (first[mine], last[mine], steps[mine], batch[mine])
        first, last, steps, batch = self.rows
        self.size = first.size
        spacing = (last - first) / np.maximum(steps - 1, 1)
        flat = spacing <= 1e-15 * np.maximum(first, 1e-300)
        order = np.argsort(first[flat])
        self._flat = first[flat][order]
        self._flat_upto = np.concatenate([[0.0], np.cumsum((steps * batch)[flat][order])])
        self._rising = (first[~flat], spacing[~flat], steps[~flat], batch[~flat])

    def below(self, middle: float) -> int:
        """Gaps up to `middle`, which lies in the bracket."""
        first, spacing, steps, batch = self._rising
        count = (middle - first) / spacing
        np.floor(count, out=count)
        count += 1.0
        np.maximum(count, 0.0, out=count)
        np.minimum(count, steps, out=count)
        flat = self._flat_upto[np.searchsorted(self._flat, middle, side="right")]
        return self.sure + int(flat) + int(np.dot(count, batch))
