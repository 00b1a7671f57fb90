"""One request class on one configuration, against figures worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.profile import Profile
from profiles.serve import Mix, best_batch, kv_batch, part_load_j, serve
from profiles.step import StepModel


def profile(**changes: Any) -> Profile:
    """Prefill 1 ms a token at 300 W; decode 8 ms + 1 ms a sequence + 1 us a KV token; 200 W at 1, 264 W at 64."""
    batches, contexts = [1, 64], [0, 1000]
    points = [(b, b * c) for b in batches for c in contexts]
    data: dict[str, Any] = {
        "gpu": "toy",
        "model": "toy-llm",
        "engine": "test",
        "layer": "step",
        "provenance": {
            "kind": "synthetic",
            "source": "made up for tests",
            "licence": "Apache-2.0",
            "date": "2026-01-01",
        },
        "band": {"time": 1.1, "power": 1.1},
        "memory": {"weights_bytes": 1e9, "kv_bytes_per_token": 1e5, "kv_capacity_tokens": 20000},
        "idle": {"loaded_w": 100.0},
        "prefill": {
            "new_tokens": [100, 1000],
            "past_tokens": [0, 0],
            "sequences": [1, 1],
            "time_s": [0.1, 1.0],
            "power_w": [300.0, 300.0],
        },
        "decode": {
            "batch": [b for b, _ in points],
            "kv_tokens": [k for _, k in points],
            "time_s": [0.008 + 0.001 * b + 1e-6 * k for b, k in points],
            "power_w": [200.0 if b == 1 else 264.0 for b, _ in points],
        },
    }
    return Profile.model_validate({**data, **changes})


MODEL = StepModel(profile())


def test_hand_worked_request() -> None:
    # 100 in, 101 out, batch 4: P = .1 s; K = 4 x 150.5 = 602; D = .008 + .004 + .000602; power at 4 of 1..64: 1/3 up
    served = serve(MODEL, 100, 101, 4)
    assert served is not None
    step = 0.012602
    assert served.step_s == pytest.approx(step, rel=1e-12)
    assert served.prefill_s == pytest.approx(0.1)
    assert served.instance_s == pytest.approx(0.1 + 100 * step / 4)
    assert served.tpot_s == pytest.approx(step + 4 * 0.1 / 100)
    power = 200 + 64 / 3
    assert served.energy_j == pytest.approx(300 * 0.1 + power * 100 * step / 4)
    assert served.dynamic_j == pytest.approx(200 * 0.1 + (power - 100) * 100 * step / 4)
    assert served.requests_per_s == pytest.approx(1 / (0.1 + 25 * step))


def test_waiting_allowance() -> None:
    served = serve(MODEL, 100, 101, 4)
    assert served is not None
    assert served.ttft_s(0.0) == pytest.approx(0.1)
    r = 0.8 * 0.1 / served.instance_s
    assert served.ttft_s(0.8) == pytest.approx(0.1 / (1 - r) + 0.4 * 0.012602)
    only_prefill = serve(MODEL, 100, 1, 4)
    assert only_prefill is not None
    assert math.isinf(only_prefill.ttft_s(1.0))


def test_one_output_token_has_no_tpot_and_no_decode() -> None:
    served = serve(MODEL, 200, 1, 8)
    assert served is not None
    assert served.tpot_s is None
    assert served.instance_s == pytest.approx(0.2)
    assert best_batch(MODEL, 200, 1, 1e-9, 8) == 8


def test_kv_memory_bounds_the_batch() -> None:
    assert kv_batch(MODEL, 900, 100) == 20
    served = serve(MODEL, 900, 100, 64)
    assert served is not None
    assert served.batch == 20
    assert serve(MODEL, 20000, 1, 1) is None


def test_gpu_seconds_count_every_gpu() -> None:
    both = serve(StepModel(profile(tp=2)), 100, 101, 4)
    assert both is not None
    assert both.gpu_s == pytest.approx(2 * both.instance_s)


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_below_one(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        serve(MODEL, *bad)


@given(st.integers(1, 4000), st.integers(1, 2000), st.floats(0.001, 1.0), st.integers(1, 256))
def test_best_batch_is_the_largest_that_keeps_the_limit(n_in: int, n_out: int, limit: float, most: int) -> None:
    found = best_batch(MODEL, n_in, n_out, limit, most)
    fits = [
        b
        for b in range(1, min(most, kv_batch(MODEL, n_in, n_out)) + 1)
        if (s := serve(MODEL, n_in, n_out, b)) is not None and (s.tpot_s is None or s.tpot_s <= limit)
    ]
    assert found == max(fits, default=0)


@given(st.integers(1, 3000), st.integers(2, 2000), st.integers(1, 64))
def test_littles_law(n_in: int, n_out: int, batch: int) -> None:
    served = serve(MODEL, n_in, n_out, batch)
    assert served is not None
    assert served.tpot_s is not None
    residence = served.tpot_s * (n_out - 1)
    assert residence * served.requests_per_s == pytest.approx(served.batch, rel=1e-9)


@given(st.integers(1, 3000), st.integers(2, 2000), st.integers(1, 64), st.floats(0.01, 0.99))
def test_a_mix_of_one_class_is_that_class_alone(n_in: int, n_out: int, batch: int, utilisation: float) -> None:
    served = serve(MODEL, n_in, n_out, batch)
    assert served is not None
    mix = Mix.of([0.3], [served], utilisation)
    assert mix.tpot_s(served) == pytest.approx(served.tpot_s, rel=1e-9)
    # constant prefills wait half as long as the exponential ones of the allowance (Pollaczek-Khinchine)
    wait_s = served.ttft_s(utilisation) - served.prefill_s - 0.5 * utilisation * served.step_s
    assert mix.wait_s == pytest.approx(0.5 * wait_s, rel=1e-6, abs=1e-12)


def test_a_short_class_waits_for_the_long_ones_of_its_mix() -> None:
    short, long = serve(MODEL, 100, 101, 4), serve(MODEL, 1000, 101, 4)
    assert short is not None
    assert long is not None
    mix = Mix.of([3, 1], [short, long], 0.5)
    mean_s = 0.75 * short.instance_s + 0.25 * long.instance_s
    assert mix.prefill_share == pytest.approx(0.325 / mean_s)
    assert mix.wait_s == pytest.approx(0.5 * (0.75 * 0.01 + 0.25 * 1.0) / mean_s / 2 / (1 - 0.5 * 0.325 / mean_s))
    assert mix.tpot_s(short) == pytest.approx(short.step_s / (1 - mix.prefill_share))


def test_joules_rise_as_the_batch_thins_out() -> None:
    full = serve(MODEL, 100, 101, 16)
    alone = serve(MODEL, 100, 101, 1)
    assert full is not None
    assert alone is not None
    found = [part_load_j(MODEL, 100, 101, full, u) for u in (1.0, 0.9, 0.5, 0.2, 0.01)]
    assert found[0] == pytest.approx(full.dynamic_j)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(alone.dynamic_j)
    # where the asked rate is just that of a whole batch, its joules are exact
    four = serve(MODEL, 100, 101, 4)
    assert four is not None
    assert part_load_j(MODEL, 100, 101, full, full.instance_s / four.instance_s) == pytest.approx(four.dynamic_j)
