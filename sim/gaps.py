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
Spaced = tuple[Floats, Floats, Floats, Floats]  # first_s, seconds between two gaps (0: all alike), steps, batch
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

    The quantile of all first gaps is below it, that of all last gaps above it: the bracket. Rows wholly outside are
    counted once; those that may hold it are counted at each halving, from the source while they are too many to keep.
    """
    sure, open_ = _open(source, low, high)
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        below = sure + sum(_below(row, middle) for row in open_) if open_ else _counted(source, low, high, middle)
        if below >= rank:
            high = middle
        else:
            low = middle
        if not open_:
            sure, open_ = _open(source, low, high)
    return high


def _open(source: Source, low: float, high: float) -> tuple[int, list[Spaced]]:
    """Gaps of rows wholly below a bracket, and the rows that reach into it; none when they are too many."""
    sure, kept, size = 0, [], 0
    for row in source():
        under, reaching = _parted(row, low, high)
        sure, size = sure + under, size + reaching[0].size
        if size > MOST_OPEN:
            return 0, []
        kept.append(reaching)
    return sure, kept


def _counted(source: Source, low: float, high: float, middle: float) -> int:
    """Gaps up to `middle`, of all rows."""
    parts = (_parted(row, low, high) for row in source())
    return sum(under + _below(reaching, middle) for under, reaching in parts)


def _parted(rows: Rows, low: float, high: float) -> tuple[int, Spaced]:
    """Gaps of rows wholly below a bracket, and the rows that reach into it."""
    first, last, steps, batch = rows
    under = last < low
    mine = ~under & (first <= high)
    sure = int(np.dot(steps[under], batch[under]))
    first, last, steps, batch = (column[mine] for column in rows)
    spacing = (last - first) / np.maximum(steps - 1, 1)
    spacing[spacing <= 1e-15 * np.maximum(first, 1e-300)] = 0.0
    return sure, (first, spacing, steps, batch)


def _below(rows: Spaced, middle: float) -> int:
    """Gaps of rows up to `middle`."""
    first, spacing, steps, batch = rows
    flat = spacing == 0.0
    below = np.where(flat, (first <= middle) * steps, np.floor((middle - first) / np.where(flat, 1.0, spacing)) + 1)
    return int(np.dot(np.clip(below, 0, steps), batch))
