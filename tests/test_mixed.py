"""Tables of mixed steps: exact at their points, scipy's interpolation between them, holes bridged by neighbours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.interpolate import RegularGridInterpolator

from profiles.mixed import MixedTable
from profiles.profile import Mixed, MixedPoints
from profiles.step import StepModel

AXES = ([16, 64, 512], [0, 128, 1024], [1, 4, 64], [16, 256, 4096])
CELLS = list(itertools.product(*AXES))


def seconds(new, past, batch, context):
    return 1e-3 + 3e-6 * new + 1e-9 * new * past + 2e-5 * batch + 1e-8 * batch * context + 1e-4 * np.sqrt(context)


def points(cells=CELLS) -> MixedPoints:
    return MixedPoints(
        new_tokens=[c for c, *_ in cells],
        past_tokens=[p for _, p, *_ in cells],
        batch=[b for _, _, b, _ in cells],
        kv_tokens=[b * k for _, _, b, k in cells],
        time_s=[float(seconds(*cell)) for cell in cells],
        power_w=[300.0] * len(cells),
    )


@given(st.floats(16, 512), st.floats(0, 1024), st.floats(1, 64), st.floats(16, 4096))
def test_between_points_it_is_scipys_linear_interpolation(new, past, batch, context):
    grid = np.array([seconds(*cell) for cell in CELLS]).reshape([len(axis) for axis in AXES])
    expected = float(RegularGridInterpolator(AXES, grid)((new, past, batch, context)))
    table = MixedTable(points(), lambda tokens: 0.0)
    assert table.beyond_s(new, past, batch, context) == pytest.approx(expected, rel=1e-12)


def test_a_hole_is_bridged_by_its_neighbours_and_the_last_piece_goes_on():
    cells = [cell for cell in CELLS if cell != (64, 128, 4, 256)]
    table = MixedTable(points(cells), lambda tokens: 0.0)
    low, high = seconds(64, 128, 4, 16), seconds(64, 128, 4, 4096)
    assert table.beyond_s(64, 128, 4, 256) == pytest.approx(low + (high - low) * 240 / 4080)
    slope = (seconds(64, 128, 64, 16) - seconds(64, 128, 4, 16)) / 60
    assert table.beyond_s(64, 128, 128, 16) == pytest.approx(seconds(64, 128, 64, 16) + 64 * slope)


def test_a_step_at_a_measured_point_takes_what_was_measured(paper):
    slow = points().model_dump()
    slow["time_s"] = [1.0 + time_s for time_s in slow["time_s"]]  # no less than the profile's plain steps take
    model = StepModel(paper(mixed={"rule": "table", "points": slow}))
    step = model.mixed([(64, 128)], 64, 64 * 4096)
    assert step.time_s == pytest.approx(1.0 + seconds(64, 128, 64, 4096), rel=1e-12)
    assert step.prefill_s + step.decode_a_s + step.decode_c_s * 64 * 4096 == pytest.approx(step.time_s, rel=1e-12)


def test_a_table_needs_its_points_and_a_rule_has_none():
    with pytest.raises(ValidationError, match="belong together"):
        Mixed(rule="table")
    with pytest.raises(ValidationError, match="belong together"):
        Mixed(rule="scaled", points=points())
