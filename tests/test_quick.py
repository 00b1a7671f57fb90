"""The quick way of a prompt that joins whole: planned at its arrival, taken back when something comes between."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TICK_S = 0.125  # of the controls
CONTROLS: list[dict[str, Any]] = [
    {"kind": "clock", "clocks": [0.5, 1.0], "low": 0.01, "high": 0.02, "tick_s": TICK_S},
    {"kind": "schedule", "at": [(0.0, 2), (0.5, 1), (0.75, 2)], "boot_s": TICK_S},
    {"kind": "failures", "mtbf_h": 0.0001, "repair_h": 0.00002},
]
SMALL = {"max_num_seqs": 4, "max_num_batched_tokens": 512, "routing": "least-outstanding-tokens"}

# short prompts a little before the ticks, so that ticks and arrivals fall between a plan and its step
rows = st.lists(
    st.tuples(
        st.tuples(st.integers(1, 16), st.integers(0, 24)).map(lambda at: at[0] * TICK_S - at[1] * 2.0**-11),
        st.integers(1, 32),
        st.integers(1, 60),
    ),
    min_size=2,
    max_size=25,
)


def assert_same(leap, step):
    for name in ("status", "start_s", "first_token_s", "finish_s", "energy_j", "gram_j", "instance", "produced"):
        np.testing.assert_array_equal(getattr(leap.requests, name), getattr(step.requests, name), err_msg=name)
    for one, two in zip(leap.instances, step.instances, strict=True):
        assert one.ledger.rows == two.ledger.rows
        assert one.ledger.extrapolated_s == two.ledger.extrapolated_s


def test_what_is_lost_at_anothers_boundary_joins_after_it(replay, paper):
    """Both instances step alike: when one fails at a boundary, the other has gone on from its own."""
    profile = paper(memory={"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": 192})
    options = SMALL | {"profile": profile, "instances": 2, "horizon_s": 3.0, "scenario": {"controls": [CONTROLS[2]]}}
    rows = [(0.0, 16, 30), (1.9990234375, 2, 8), (1.9990234375, 2, 8)]
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    assert_same(leap, step)
    assert leap.requests.retries == step.requests.retries > 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows,
    controls=st.lists(st.sampled_from(CONTROLS), max_size=2, unique_by=lambda c: c["kind"]),
    instances=st.integers(1, 2),
    capacity=st.sampled_from([192, 1 << 14]),
)
def test_plans_are_taken_back_as_if_never_made(replay, paper, rows, controls, instances, capacity):
    profile = paper(memory={"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": capacity})
    options = SMALL | {"profile": profile, "instances": instances, "horizon_s": 3.0, "scenario": {"controls": controls}}
    rows = [(0.0, 16, 30), *rows]  # where the run begins
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    assert_same(leap, step)
    assert leap.requests.retries == step.requests.retries


def test_one_who_comes_before_the_planned_step_begins_shares_it(replay):
    # the first decodes by steps of 9/1024 s and more; two come within one of them and are prefilled together
    played = replay([(0.0, 16, 60), (0.1, 16, 2), (0.1 + 2.0**-12, 16, 2)], **SMALL)
    assert played.requests.first_token_s[1] == played.requests.first_token_s[2]


def test_one_who_comes_while_it_runs_takes_the_next(replay):
    played = replay([(0.0, 16, 60), (0.1, 256, 2), (0.2, 16, 2)], **SMALL)
    assert played.requests.start_s[1] < 0.2 < played.requests.first_token_s[1] == played.requests.start_s[2]
