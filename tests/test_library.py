"""The shipped profiles: whole, plausible, honest about their origin, and as near the measurements as they say."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import catalog
from profiles.coverage import grid
from profiles.importers.condense import POWER_PREDICTED
from profiles.inputs import InputError
from profiles.lookup import find_profile
from profiles.predict.roofline import Card, Efficiency, Roofline, Shape, memory
from profiles.profile import Profile, contradictions, load, shipped_folder
from profiles.step import StepModel

LEADERBOARD = Path(__file__).resolve().parents[2] / "shared" / "data" / "profiles" / "mlenergy" / "leaderboard_llm.csv"
LIMIT_W = {"h100-sxm-80gb": 700, "h200-sxm-141gb": 700, "a100-sxm-80gb": 400, "l4": 72}
ALL = {path.stem: load(path) for path in sorted(shipped_folder().glob("*.json"))}
# Those fitted to several sources together; the others come from one source each, through its importer.
SHIPPED = {name: p for name, p in ALL.items() if "fit" in p.provenance.source or p.gpu == "l4"}
IMPORTED = {name: p for name, p in ALL.items() if name not in SHIPPED}


@pytest.fixture(params=SHIPPED, ids=str)
def profile(request: pytest.FixtureRequest) -> Profile:
    return SHIPPED[request.param]


def shipped(gpu: str, model: str, tp: int) -> Profile:
    return SHIPPED[f"{gpu}_{model}_tp{tp}_bf16_vllm"]


def test_the_set_is_complete() -> None:
    have = {(p.gpu, p.model, p.tp) for p in SHIPPED.values()}
    assert {(gpu, "llama-3.1-8b", 1) for gpu in LIMIT_W} <= have
    assert {(gpu, "llama-3.1-70b", tp) for gpu in LIMIT_W if gpu != "l4" for tp in (4, 8)} <= have
    assert ("h200-sxm-141gb", "llama-3.1-70b", 2) in have


def test_names_and_figures_do_not_contradict(profile: Profile) -> None:
    assert SHIPPED[profile.key] is profile
    assert contradictions(profile) == []
    assert profile.layer == "kernels"  # the fitted engine term stands apart
    assert profile.engine_term is not None
    assert profile.engine_term.sequence_s < 1e-4


def test_watts_stay_between_idle_and_the_limit(profile: Profile) -> None:
    top = LIMIT_W[profile.gpu] * profile.tp
    for watts in (*profile.decode.power_w, *profile.prefill.power_w):
        assert profile.idle.loaded_w < watts <= top
    assert (profile.idle.no_context_w or 0.0) < profile.idle.loaded_w


def test_more_work_takes_longer(profile: Profile) -> None:
    d, p = profile.decode, profile.prefill
    at = dict(zip(zip(d.batch, (k // b for k, b in zip(d.kv_tokens, d.batch, strict=True)), strict=True), d.time_s))  # noqa: B905
    for (batch, context), time_s in at.items():
        assert at.get((2 * batch, context), math.inf) > time_s
        assert at.get((batch, 4 * context), math.inf) > time_s
    first = [t for t, past in zip(p.time_s, p.past_tokens, strict=True) if past == 0]
    assert first == sorted(first)
    past = {(n, q): t for n, q, t in zip(p.new_tokens, p.past_tokens, p.time_s, strict=True)}
    assert past[512, 4096] > past[512, 0]
    assert past[2048, 8192] > past[2048, 0]


def test_provenance_is_honest(profile: Profile) -> None:
    told = profile.provenance
    assert "splitwise" not in told.source.lower()
    assert "://" not in told.source
    assert told.fit_error["rows"] >= 20
    assert told.fit_error["tpot_mape"] < 0.08
    if profile.gpu == "h100-sxm-80gb":
        assert (told.kind, told.tier) == ("imported", "cfg")
        assert profile.band.time >= max(1.1, 1 + told.fit_error["tpot_p90"])
    else:
        assert (told.kind, told.tier) == ("predicted", "T2")
        assert profile.band.time >= 1.3
        assert profile.band.power >= 1.3
        assert any("predicted" in note for note in told.notes)
        assert any("carried over" in note for note in told.notes)
    assert any(note.startswith("idle:") for note in told.notes)


def test_known_steps_of_the_h100() -> None:
    small = StepModel(shipped("h100-sxm-80gb", "llama-3.1-8b", 1))
    assert 0.007 < small.decode_time_s(8, 8 * 450) < 0.009
    assert 430 < small.decode(8, 8 * 450).power_w < 530
    large = StepModel(shipped("h100-sxm-80gb", "llama-3.1-70b", 4))
    assert large.decode_time_s(8, 8 * 425) == pytest.approx(0.0166, rel=0.08)
    assert large.decode_time_s(64, 64 * 425) == pytest.approx(0.0224, rel=0.08)


def test_a_newer_card_is_faster() -> None:
    for model, tp in (("llama-3.1-8b", 1), ("llama-3.1-70b", 4)):
        h200, h100, a100 = (
            StepModel(shipped(gpu, model, tp)) for gpu in ("h200-sxm-141gb", "h100-sxm-80gb", "a100-sxm-80gb")
        )
        for batch in (1, 16, 256):
            times = [step.decode_time_s(batch, batch * 1024) for step in (h200, h100, a100)]
            assert times == sorted(times)
        assert h100.prefill([(2048, 0)]).time_s < a100.prefill([(2048, 0)]).time_s


def steady_state(step: StepModel, batch: float, prompt: int, output: float) -> tuple[float, float]:
    """Mean step and watts at a constant batch: each request brings a prompt every `output` steps."""
    running, kv = round(batch), batch * (prompt + output / 2)
    plain, watts = step.decode_time_s(running, kv), step.decode(running, kv).power_w
    mixed = step.mixed([(prompt, 0)], running, kv)
    often = min(1.0, batch / output)
    time_s = (1 - often) * plain + often * mixed.time_s
    return time_s, ((1 - often) * plain * watts + often * mixed.time_s * mixed.power_w) / time_s


@pytest.mark.skipif(not LEADERBOARD.exists(), reason="needs shared/data/profiles/mlenergy, which is not here")
@pytest.mark.parametrize(("size", "tp"), [("8B", 1), ("70B", 4)])
def test_steady_state_against_mlenergy(size: str, tp: int) -> None:
    """Through StepModel, not through the fit: mean step and J a token of vLLM on H100, up to batch 256."""
    step = StepModel(shipped("h100-sxm-80gb", f"llama-3.1-{size.lower()}", tp))
    times, joules = [], []
    with LEADERBOARD.open(newline="") as stream:
        for row in csv.DictReader(stream):
            batch = float(row["avg_batch_size"])
            if (row["model"], row["gpu_model"]) != (f"meta-llama/Llama-3.1-{size}-Instruct", "H100") or batch > 256:
                continue
            time_s, watts = steady_state(step, batch, 250, float(row["avg_output_len"]))
            times.append(abs(time_s * float(row["output_throughput_tokens_per_sec"]) / batch - 1))
            joules.append(abs(watts * time_s / batch / float(row["energy_per_token_joules"]) - 1))
    assert len(times) == 8
    assert sum(times) / 8 < 0.06
    assert sum(joules) / 8 < 0.08


@pytest.mark.parametrize("name", IMPORTED)
def test_an_imported_profile_is_honest(name: str) -> None:
    p = IMPORTED[name]
    told = p.provenance
    assert p.key == name
    assert contradictions(p) == []
    assert "://" not in told.source
    assert "splitwise" not in told.source.lower()
    limit_w = 1.001 * p.tp * (catalog.gpu(p.gpu).tdp_w or 0)
    assert p.idle.loaded_w < min(*p.decode.power_w, *p.prefill.power_w)
    assert max(*p.decode.power_w, *p.prefill.power_w) <= limit_w
    assert any(note.startswith("idle:") for note in told.notes)
    predicted = set(p.decode.flags or [""]) == {POWER_PREDICTED}
    if predicted:
        assert told.tier in ("T1", "T2", "T3")
        assert p.band.power > 1.1
        assert any("watts predicted (" in note for note in told.notes)
    if told.tier == "T0":
        assert not p.decode.flags
        assert told.fit_error["power_rows"] >= 3
    if p.engine_term is None and p.layer == "kernels":
        assert any("no engine layer" in note for note in told.notes)
        assert p.band.time >= 2


def test_the_classes_that_are_asked_for_are_there() -> None:
    have = {(p.gpu, p.model) for p in ALL.values()}
    for model in ("llama-3.1-8b", "qwen3-32b", "llama-3.1-70b", "llama-3.1-405b", "gpt-oss-120b", "qwen3-235b-a22b"):
        assert {("h100-sxm-80gb", model), ("b200-sxm-180gb", model)} <= have
    for gpu in ("a100-sxm-80gb", "h200-sxm-141gb", "l40s", "rtx-4090", "rtx-pro-6000", "l4", "mi300x", "gh200"):
        assert (gpu, "llama-3.1-8b") in have
    assert ("a40", "llama-2-7b") in have


def test_coverage_says_what_is_shipped_and_what_would_be_predicted() -> None:
    known = list(ALL.values())
    (here,) = grid(known, ["h100-sxm-80gb"], ["llama-3.1-405b"])
    assert (here.tier, here.on_demand, here.tp, here.engine) == ("T0", False, (8,), True)
    h200, t4, gaudi = grid(known, ["h200-sxm-141gb", "t4", "gaudi3"], ["llama-3.1-405b"])
    assert (h200.tier, h200.time_tier, h200.on_demand) == ("T2", "T2", True)
    assert (t4.tier, t4.time_tier) == ("T2", "T2")
    assert (gaudi.tier, gaudi.time_tier) == ("T3", "T3")
    assert gaudi.band.time > t4.band.time >= h200.band.time > here.band.time
    (mixture,) = grid(known, ["h200-sxm-141gb"], ["mixtral-8x7b"])
    assert (mixture.tier, mixture.time_tier) == ("T2", "T1")  # its times were measured on this GPU, no watts
    (amd,) = grid(known, ["mi300x"], ["llama-3.1-70b"])
    assert (amd.tier, amd.time_tier, amd.tp) == ("T3", "T0", (1, 2, 4, 8))
    (kernels,) = grid(known, ["l40s"], ["llama-3.1-8b"])
    assert (kernels.engine, kernels.on_demand) == (False, False)


@pytest.mark.parametrize(
    ("gpu", "model", "tp"), [("t4", "llama-3.1-8b", 2), ("h200-sxm-141gb", "mixtral-8x7b", 1), ("mi300x", "phi-4", 1)]
)
def test_coverage_gives_the_tier_and_band_of_what_predict_would(gpu: str, model: str, tp: int) -> None:
    (told,) = grid([], [gpu], [model])
    _, given = find_profile([], gpu, model, tp, "bf16", predict=True)
    assert (told.tier, told.band, told.on_demand) == (given.provenance.tier, given.band, True)


# ------------------------------------------------------------------------------------------------ the form itself

SHAPE = Shape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_dim=16, vocab=100)
CARD = Card(memory_bytes=1e9, bandwidth_bytes_per_s=1e6, flops=1e9, tdp_w=100.0, link_bytes_per_s=1e6)
PERFECT = Efficiency(
    compute=1, bandwidth=1, kv_bandwidth=1, attention=1, link=1, host_s=0, layer_s=0, sequence_s=0, prompt_s=0,
    allreduce_s=0, power_base=0.2, power_flop=0, power_exponent=1, joule_per_byte=0, joule_per_kv_byte=0, power_cap=1,
)  # fmt: skip


def test_a_memory_bound_step_reads_everything_once() -> None:
    params = 2 * (2 * 64 * 16 * (4 + 2) + 3 * 64 * 128)
    assert SHAPE.linear_params == params
    assert SHAPE.kv_bytes_per_token() == 2 * 2 * 2 * 16 * 2
    fast = replace(CARD, flops=1e15)
    seconds, watts = Roofline(SHAPE, fast, PERFECT).decode(3, 10)
    assert seconds == pytest.approx((2 * params + 2 * 6400 + 256 * 30) / 1e6)
    assert watts == pytest.approx(20.0, rel=1e-5)


def test_a_compute_bound_prompt_costs_its_operations() -> None:
    fast = replace(CARD, bandwidth_bytes_per_s=1e15)
    seconds, _ = Roofline(SHAPE, fast, PERFECT).prefill(100, past=50)
    operations = 2 * SHAPE.linear_params * 100 + 2 * 6400 + 4 * 2 * 4 * 16 * (100 * 50 + 5000)
    assert seconds == pytest.approx(operations / 1e9)


def test_host_terms_and_all_reduce_add() -> None:
    e = replace(PERFECT, host_s=1.0, layer_s=0.1, sequence_s=0.01, prompt_s=0.5, allreduce_s=0.25)
    plain, hosted = Roofline(SHAPE, CARD, PERFECT), Roofline(SHAPE, CARD, e)
    assert hosted.step_time_s(batch=3) - plain.step_time_s(batch=3) == pytest.approx(1.0 + 0.2 + 0.03)
    assert hosted.step_time_s(new=3) - plain.step_time_s(new=3) == pytest.approx(1.0 + 0.2 + 0.5)
    two, free = Roofline(SHAPE, CARD, e, tp=2), Roofline(SHAPE, replace(CARD, link_bytes_per_s=1e30), PERFECT, tp=2)
    wire = 2 * 2 * (3 * 64 * 2 * 2 * 0.5 / 1e6)
    assert two.step_time_s(batch=3) - free.step_time_s(batch=3) == pytest.approx(1.23 + 2 * 2 * 0.25 + wire)


@given(
    batch=st.integers(1, 512), context=st.integers(1, 10**5), tp=st.sampled_from([1, 2, 4]), joule=st.floats(0, 1e-2)
)
def test_bounds_hold_everywhere(batch: int, context: int, tp: int, joule: float) -> None:
    model = Roofline(SHAPE, CARD, replace(PERFECT, joule_per_byte=joule, joule_per_kv_byte=joule, power_flop=2.0), tp)
    time_s, watts = model.decode(batch, context)
    assert 20.0 * tp * 0.99 < watts <= 100.0 * tp
    assert time_s > 0
    assert model.decode(batch + 1, context)[0] > time_s
    assert model.decode(batch, context + 1)[0] > time_s


def test_serving_lies_between_plain_and_mixed_steps() -> None:
    model = Roofline(SHAPE, CARD, PERFECT)
    kv = 8 * (100 + 200)
    plain, mixed = model.step_time_s(batch=8, kv_tokens=kv), model.step_time_s(100, 5000, 8, kv)
    seconds, _ = model.serving(8, 100, 400)
    assert seconds == pytest.approx(plain + 8 / 400 * (mixed - plain))


def test_memory_leaves_what_the_rule_says_or_refuses() -> None:
    kept = memory(16e9, 131072, 80e9, 1)
    assert kept.kv_capacity_tokens == int((0.9 * 80e9 - 2.5e9 - 16e9) / 131072)
    with pytest.raises(InputError, match="no room for KV on 2 x 80 GB; use more GPUs"):
        memory(141e9, 327680, 80e9, 2)
