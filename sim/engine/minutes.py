"""What instances did minute by minute, from the rows of their ledgers: for the timeline."""

from __future__ import annotations

import numpy as np

from sim.engine.ledger import Floats, Ledger

MINUTE_S = 60.0


def minute_edges(horizon_s: float) -> Floats:
    """Minutes from 0 on, the last one cut at the horizon."""
    return np.append(np.arange(0.0, horizon_s, MINUTE_S), horizon_s)


def by_minute(ledger: Ledger, edges_s: Floats) -> Floats:
    """Between the edges: seconds of work, joules, seconds times sequences in the batch, seconds times KV tokens.

    Returns:
        four rows, one value between each two edges.
    """
    if not ledger.rows:
        return np.zeros((4, edges_s.size - 1))
    from_s, to_s, power_w, batch = (ledger.column(name) for name in ("from_s", "to_s", "power_w", "batch"))
    rates = np.ones_like(power_w), power_w, batch, held_tokens(ledger)
    return np.array([np.diff(_cumulative(edges_s, from_s, to_s, rate)) for rate in rates])


def add_minutes(sums: Floats, ledger: Ledger, edges_s: Floats) -> None:
    """Add a ledger's to sums over the same edges, looking only at the minutes it touches."""
    from_s, to_s = ledger.column("from_s"), ledger.column("to_s")
    first = max(0, int(np.searchsorted(edges_s, from_s[0], side="right")) - 1)
    last = int(np.searchsorted(edges_s, to_s[-1], side="left")) + 1
    if last - first > 1:
        sums[:, first : last - 1] += by_minute(ledger, edges_s[first:last])


def held_tokens(ledger: Ledger) -> Floats:
    """KV tokens of the running sequences, by row of a ledger: the mean over its steps."""
    rows = ledger.table()
    _, offset, first, after = ledger.stayed()
    change = np.zeros(rows["batch"].size + 1)
    np.add.at(change, first, offset)
    np.add.at(change, after, -offset)
    held: Floats = np.cumsum(change)[:-1]
    return held + rows["batch"] * (rows["counter"] + 0.5 * np.maximum(rows["steps"] - 1.0, 0.0))


def _cumulative(at_s: Floats, from_s: Floats, to_s: Floats, rate: Floats) -> Floats:
    """The integral up to each of `at_s` of a rate that holds over disjoint ascending stretches."""
    if not from_s.size:
        return np.zeros(at_s.size)
    knots = np.empty(2 * from_s.size)
    knots[0::2], knots[1::2] = from_s, to_s
    sums = np.empty(2 * from_s.size)
    sums[1::2] = np.cumsum(rate * (to_s - from_s))
    sums[0::2] = sums[1::2] - rate * (to_s - from_s)
    return np.interp(at_s, knots, sums)
