"""Pooled gaps between tokens: mean and percentiles equal those of every gap written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.grid import Window
from sim.engine.ledger import Ledger
from sim.gaps import gap_statistics
from sim.metrics import statistics

runs = st.lists(
    st.tuples(
        st.floats(1e-4, 1.0),  # first gap
        st.floats(0.0, 1e-3),  # growth from gap to gap
        st.integers(1, 30),  # gaps
        st.integers(1, 9),  # sequences
    ),
    min_size=1,
    max_size=12,
)


@given(runs=runs)
def test_pooled_gaps_equal_all_gaps_written_out(runs):
    written: list[float] = []
    for first, growth, steps, batch in runs:
        written += [first + growth * k for k in range(steps) for _ in range(batch)]
    ledger = Ledger(Window.constant(1.0))
    for first, growth, steps, batch in runs:
        ledger.gap(first, first + growth * (steps - 1), steps, batch)
    found = gap_statistics([ledger])
    ordered = sorted(written)
    assert found["mean"] == pytest.approx(np.mean(written), rel=1e-9)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        truth = ordered[math.ceil(share * len(ordered) - 1e-9) - 1]
        assert found[name] == pytest.approx(truth, rel=1e-9, abs=1e-9)


def test_nothing_defined_is_null():
    assert statistics(np.array([np.nan])) == {"mean": None, "p50": None, "p90": None, "p99": None}
    assert gap_statistics([Ledger(Window.constant(1.0))])["p50"] is None
