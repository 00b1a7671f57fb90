"""The predictor of eager static batches: its formulas by hand, and what must hold for any card and model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import catalog
from profiles.inputs import InputError
from profiles.predict import eager
from profiles.predict.eager import Card, Eager, Habits
from profiles.step import StepModel

SMALL = catalog.llm("llama-1b")
RATED = {name: gpu for name, gpu in catalog.gpus().items() if gpu.fp32_flops}
# 1 / FLOPS of one token is the second: a token computes for 1 s, weights are read in 2 s
CARD = Card(
    bandwidth_bytes_per_s=SMALL.linear_flops_per_token / 2.0,
    flops=SMALL.linear_flops_per_token,
    vector_flops=1e12,
    compute_demand=1.0,
    base_w=100.0,
    tdp_w=300.0,
    memory_bytes=16e9,
)
IDEAL = Habits(layer_s=0.0, sequence_ops=0.0, stall_s=0.0, power_exponent=1.0)


def test_a_prefill_by_hand() -> None:
    time_s, power_w = Eager(SMALL, CARD, IDEAL).prefill(2)
    assert time_s == pytest.approx((2.0**3 + 2.0**3) ** (1 / 3))
    assert power_w == pytest.approx(300.0)  # no host work: the GPU works all the time
    host = replace(IDEAL, layer_s=time_s / SMALL.layers)  # as much host work as GPU work
    slower_s, lower_w = Eager(SMALL, CARD, host).prefill(2)
    assert slower_s == pytest.approx(2 ** (1 / 3) * time_s)
    assert lower_w == pytest.approx(100.0 + 200.0 / 2 ** (1 / 3))


def test_a_decode_step_by_hand() -> None:
    width = SMALL.heads * SMALL.head_dim
    habits = replace(IDEAL, sequence_ops=1e12 / (SMALL.layers * width))  # a second a sequence
    kv_s = 3 * 100 * SMALL.kv_bytes_per_token("fp16") / CARD.bandwidth_bytes_per_s
    time_s, _ = Eager(SMALL, CARD, habits).decode(3, 100, 300)
    assert time_s == pytest.approx((3.0**3 + (2.0 + kv_s) ** 3) ** (1 / 3) + 3.0)


def test_only_short_memory_stalls() -> None:
    model = Eager(SMALL, CARD, replace(IDEAL, stall_s=1.0))
    full = model.capacity_tokens
    assert model.free_share(full) == pytest.approx(0.0, abs=1e-5)
    assert model.free_share(full + 1) < 0
    calm, short = (model.decode(1, 10, kept)[0] for kept in (full // 2, full))
    assert short - calm == pytest.approx(SMALL.layers)
    assert model.decode(1, 10, full)[1] < model.decode(1, 10, full // 2)[1]  # it waits, and draws less


def test_demand_above_the_limit_is_held_at_it() -> None:
    hungry = replace(CARD, compute_demand=2.0)
    host = replace(IDEAL, layer_s=10.0 / SMALL.layers)
    lazy_s, lazy_w = Eager(SMALL, CARD, host).prefill(9)
    time_s, power_w = Eager(SMALL, hungry, host).prefill(9)
    assert time_s == lazy_s
    assert lazy_w < power_w == 300.0


def test_a_t4_is_held_back_by_its_board_and_an_ada_is_not() -> None:
    t4, ada = (Card.of(catalog.gpu(name), 0.1) for name in ("t4", "rtx-6000-ada"))
    assert (t4.flops, ada.flops) == (27e12, pytest.approx(240e12, rel=0.002))
    assert t4.compute_demand == pytest.approx(0.66 * 65 / 27)
    assert ada.compute_demand == 1.0
    assert t4.base_w == pytest.approx(7.0)


@given(
    st.sampled_from(sorted(RATED)),
    st.sampled_from(["llama-1b", "llama-7b", "qwen2.5-7b"]),
    st.integers(1, 256),
    st.integers(1, 2000),
)
def test_what_holds_for_any_card(gpu: str, llm: str, batch: int, context: int) -> None:
    model = Eager(catalog.llm(llm), Card.of(catalog.gpu(gpu), 0.1), Habits())
    time_s, power_w = model.decode(batch, context, 0)
    more_s, _ = model.decode(batch + 1, context, 0)
    longer_s, _ = model.decode(batch, context + 1, 0)
    assert 0 < time_s < more_s
    assert time_s < longer_s
    assert model.card.base_w < power_w <= model.card.tdp_w
    assert time_s >= model.habits.layer_s * model.llm.layers
    assert model.prefill(batch)[0] <= model.prefill(batch + 1)[0]
    quicker = replace(model.card, vector_flops=2 * model.card.vector_flops)
    assert Eager(model.llm, quicker, model.habits).decode(batch, context, 0)[0] < time_s


def test_the_profile_gives_the_formulas_back() -> None:
    model = Eager(SMALL, Card.of(catalog.gpu("t4"), 0.1), Habits())
    rows = [(1, 20, 150), (8, 47, 150), (64, 85, 150)]
    profile = eager.profile(model, catalog.gpu("t4"), rows, "2026-11-21", [])
    assert (profile.provenance.kind, profile.provenance.tier, profile.engine) == ("predicted", "T2", "eager")
    steps = StepModel(profile)
    for batch, padded, output in rows:
        prefill = steps.prefill([(padded, 0)] * batch)
        assert (prefill.time_s, prefill.power_w) == pytest.approx(model.prefill(batch * padded))
        for context in (padded, padded + output / 2, padded + output):
            time_s, power_w = model.decode(batch, context, batch * (padded + output))
            assert steps.decode_time_s(batch, batch * context) == pytest.approx(time_s, rel=1e-3)
            assert steps.decode(batch, batch * context).power_w == pytest.approx(power_w, rel=0.02)


def test_a_batch_that_does_not_fit_is_not_in_the_profile() -> None:
    model = Eager(catalog.llm("llama-7b"), Card.of(catalog.gpu("t4"), 0.1), Habits())
    rows = [(1, 20, 150), (64, 85, 150)]
    profile = eager.profile(model, catalog.gpu("t4"), rows, "2026-11-21", [])
    assert set(profile.decode.batch) == {1}
    with pytest.raises(InputError, match="leaves no memory"):
        eager.profile(model, catalog.gpu("t4"), rows[1:], "2026-11-21", [])


@pytest.mark.parametrize("gpu", ["tpu-v5e", "gaudi3", "h20"])
def test_a_card_without_the_figures_is_refused(gpu: str) -> None:
    with pytest.raises(InputError, match=f"of {gpu} is unknown"):
        Card.of(catalog.gpu(gpu), 0.1)


@pytest.mark.parametrize("llm", ["mixtral-8x7b", "deepseek-v3", "gemma-3-4b"])
def test_a_model_that_the_form_leaves_out_is_refused(llm: str) -> None:
    with pytest.raises(InputError, match=llm):
        Eager(catalog.llm(llm), CARD, Habits())


def test_every_named_rate_is_of_a_gpu_in_the_catalogue() -> None:
    assert len(RATED) == 30
    for name, gpu in RATED.items():
        rate = gpu.fp32_flops
        assert rate is not None
        assert 0 < rate <= gpu.flops_bf16 * 1.01, name  # tensor cores are never the slower ones
        assert math.isfinite(rate)
