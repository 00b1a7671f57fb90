"""The generator: known moments, exact time change, the same seed the same trace; and the shape of traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.inputs import InputError, validate
from sim.trace import GeneratorSpec, Trace, buckets, generate, peak_rate_per_s, read_trace
from sim.trace.generator import rate_steps
from sim.trace.joint import COLUMNS, PRESETS, fit, preset, table_rows
from sim.trace.shape import DAY_FACTORS, HOURLY_FACTORS, hourly_factors, week_factors, window_requests

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FIXED = {"prompt": {"distribution": "fixed", "tokens": 100}, "output": {"distribution": "fixed", "tokens": 10}}
# mean, p50, p90 of the Azure LLM inference trace 2023 (whole files)
MOMENTS = {
    "azure-conv": {"prompt_tokens": (1154.698, 1020, 2734.5), "output_tokens": (211.126, 129, 424)},
    "azure-code": {"prompt_tokens": (2047.848, 1469, 5187.6), "output_tokens": (27.883, 13, 55)},
}


def _spec(**settings: Any) -> GeneratorSpec:
    return validate(GeneratorSpec, {"duration_s": 3600.0, "rate_per_s": 10.0, "lengths": FIXED, **settings})


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_moments_of_their_traces(name: str) -> None:
    trace = generate(_spec(lengths=name, duration_s=20_000), 7)
    for column, (mean, p50, p90) in MOMENTS[name].items():
        tokens = getattr(trace, column)
        assert tokens.mean() == pytest.approx(mean, rel=0.02)
        assert np.percentile(tokens, 50) == pytest.approx(p50, rel=0.05)
        assert np.percentile(tokens, 90) == pytest.approx(p90, rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_what_the_traces_say(name: str) -> None:
    path = DATA / "traces" / f"azure_2023_{name.removeprefix('azure-')}.csv"
    if not path.exists():
        pytest.skip("the Azure traces are not here")
    trace = read_trace(path)
    for column, figures in MOMENTS[name].items():
        tokens = getattr(trace, column)
        found = tokens.mean(), np.percentile(tokens, 50), np.percentile(tokens, 90)
        assert found == pytest.approx(figures, rel=1e-4)
    assert table_rows(name, fit(trace)) == table_rows(name, preset(name))
    made = generate(_spec(lengths=name, duration_s=20_000), 3)
    assert np.mean(made.prompt_tokens * made.output_tokens) == pytest.approx(
        np.mean(trace.prompt_tokens * trace.output_tokens), rel=0.05
    )  # long prompts keep their outputs


def test_the_shipped_table_names_its_source() -> None:
    text = (Path(__file__).parents[1] / "sim" / "trace" / "lengths.csv").read_text(encoding="utf-8")
    assert "CC-BY-4.0" in text
    assert ",".join(COLUMNS) in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"process": "gamma", "cv": 3.0},
        {"process": "uniform"},
        {"shape": "diurnal", "duration_s": 86400.0},
        {"shape": "weekly", "duration_s": 604800.0, "rate_per_s": 0.1, "starts_at_hour": 30.5},
        {"lengths": "azure-code"},
    ],
)
def test_same_seed_same_trace(settings: dict[str, Any]) -> None:
    spec = _spec(**settings)
    one, two, other = generate(spec, 5), generate(spec, 5), generate(spec, 6)
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert one.arrival_s[0] == 0
    assert one.span_s < spec.duration_s
    if spec.process != "uniform":
        assert not np.array_equal(one.arrival_s, other.arrival_s)
    expected = spec.rate_per_s * spec.duration_s
    assert one.requests == pytest.approx(expected, abs=6 * (spec.cv or 1) * expected**0.5)


def test_lengths_do_not_move_arrivals() -> None:
    assert np.array_equal(
        generate(_spec(), 1).arrival_s, generate(_spec(lengths="azure-conv", max_output_tokens=50), 1).arrival_s
    )


def test_uniform_arrivals_are_evenly_spaced() -> None:
    trace = generate(_spec(process="uniform", duration_s=2.0, rate_per_s=4.0), 0)
    assert trace.arrival_s.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert set(trace.prompt_tokens) == {100}


@pytest.mark.parametrize(("settings", "cv"), [({}, 1.0), ({"process": "gamma", "cv": 0.5}, 0.5)])
def test_gaps_have_their_coefficient_of_variation(settings: dict[str, Any], cv: float) -> None:
    gaps = np.diff(generate(_spec(**settings, duration_s=20_000), 2).arrival_s)
    assert gaps.mean() == pytest.approx(0.1, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_time_change_is_exact() -> None:
    hours = [0.5] * 12 + [1.5] * 12
    spec = _spec(process="uniform", shape="diurnal", hourly_factors=hours, duration_s=86400.0, rate_per_s=0.01)
    trace = generate(spec, 0)
    half = 43200.0
    assert np.count_nonzero(trace.arrival_s < half) == 216  # .005 a second for twelve hours
    assert trace.requests == 864
    assert np.diff(trace.arrival_s[trace.arrival_s < half]) == pytest.approx(200.0)
    assert np.diff(trace.arrival_s[trace.arrival_s >= half]) == pytest.approx(200.0 / 3)
    late = generate(spec.model_copy(update={"starts_at_hour": 6.5, "duration_s": 7200.0}), 0)
    assert np.diff(late.arrival_s) == pytest.approx(200.0)


def test_shapes_have_mean_one_and_are_said_to_be_modelled() -> None:
    assert np.mean(HOURLY_FACTORS) == pytest.approx(1.0)
    assert np.mean(DAY_FACTORS) == pytest.approx(1.0)
    assert week_factors().shape == (168,)
    assert week_factors()[5 * 24 + 14] == pytest.approx(1.5 * 0.7)  # Saturday's busiest hour
    assert "modelled" in generate(_spec(shape="weekly"), 0).notes[0]
    assert generate(_spec(shape="diurnal", hourly_factors=[1.0] * 24), 0).notes == ()
    assert generate(_spec(), 0).notes == ()


@given(start=st.floats(0, 167.9), duration=st.floats(0.01, 2e6), shape=st.sampled_from(["flat", "diurnal", "weekly"]))
@settings(max_examples=100)
def test_rates_cover_the_trace_and_follow_the_clock(start: float, duration: float, shape: str) -> None:
    start = 0.0 if shape == "flat" else start
    spec = _spec(duration_s=duration, rate_per_s=0.01, shape=shape, starts_at_hour=start)
    edges, rates = rate_steps(spec)
    assert edges[0] == 0
    assert edges[-1] == duration
    assert (np.diff(edges) >= 0).all()
    middle = (edges[:-1] + edges[1:]) / 2
    wide = np.diff(edges) > 1e-3
    hour = np.floor(start + middle[wide] / 3600).astype(int)
    daily = np.array(DAY_FACTORS) if shape == "weekly" else np.ones(7)
    factor = np.array(HOURLY_FACTORS)[hour % 24] * daily[hour // 24 % 7] if shape != "flat" else 1.0
    assert rates[wide] == pytest.approx(0.01 * factor)


def test_own_lengths() -> None:
    own = {
        "prompt": {"distribution": "lognormal", "p50_tokens": 500, "p90_tokens": 2000},
        "output": {"distribution": "quantiles", "levels": [0, 0.5, 1], "tokens": [1, 101, 201]},
    }
    trace = generate(_spec(lengths=own, duration_s=20_000, max_prompt_tokens=4000), 1)
    assert np.percentile(trace.prompt_tokens, [50, 90]) == pytest.approx([500, 2000], rel=0.03)
    assert trace.prompt_tokens.max() == 4000
    assert trace.output_tokens.mean() == pytest.approx(101, rel=0.01)
    assert trace.output_tokens.min() >= 1


def test_pairs_of_another_trace() -> None:
    like = Trace("pairs", np.zeros(3), np.array([1, 20, 300]), np.array([4, 50, 600]))
    trace = generate(_spec(), 1, like=like)
    assert set(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)) == {
        (1, 4),
        (20, 50),
        (300, 600),
    }


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lengths": "azure-cov"}, "did you mean azure-conv"),
        ({"length": "azure-conv"}, "did you mean lengths"),
        ({"process": "gamma"}, "cv belongs to process gamma"),
        ({"cv": 2.0}, "cv belongs to process gamma"),
        ({"rate_per_s": 0}, "rate_per_s"),
        ({"rate_per_s": float("nan")}, "rate_per_s"),
        ({"rate_per_s": 1e9}, "more than 25,000,000 requests"),
        ({"shape": "diurnal", "hourly_factors": [1.0] * 23}, "has 23 values; give 24"),
        ({"shape": "diurnal", "hourly_factors": [2.0] * 24}, "has the mean 2"),
        ({"hourly_factors": [1.0] * 24}, "no effect on shape flat"),
        ({"shape": "diurnal", "day_factors": [1.0] * 7}, "need shape: weekly"),
        ({"starts_at_hour": 3}, "no effect on shape flat"),
        (
            {"lengths": {**FIXED, "prompt": {"distribution": "lognormal", "p50_tokens": 9, "p90_tokens": 3}}},
            "below p50",
        ),
        (
            {"lengths": {**FIXED, "prompt": {"distribution": "quantiles", "levels": [0, 0.5], "tokens": [1, 2]}}},
            "from 0 to 1",
        ),
        (
            {"lengths": {**FIXED, "prompt": {"distribution": "quantiles", "levels": [0, 1], "tokens": [3, 2]}}},
            "must not fall",
        ),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        _spec(**settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        generate(_spec(), -1)


def _trace(lengths: list[tuple[int, int]]) -> Trace:
    prompt, output = zip(*lengths, strict=True)
    return Trace("t", np.arange(len(lengths), dtype=float), np.array(prompt), np.array(output))


def test_buckets_by_hand() -> None:
    table = buckets(_trace([(10, 1), (20, 3), (100, 1), (100, 99)]), [100], [50])
    assert [(b.requests, b.share, b.prompt_mean, b.output_mean) for b in table] == [
        (2, 0.5, 15.0, 2.0),
        (1, 0.25, 100.0, 1.0),
        (1, 0.25, 100.0, 99.0),
    ]
    assert (table[0].prompt_from, table[0].prompt_to, table[2].output_to) == (0, 100, np.inf)
    for edges in ([100, 100], [0, 5], [-1.0], [float("nan")], [5, 4]):
        with pytest.raises(InputError, match="ascend"):
            buckets(_trace([(1, 1)]), edges, [50])


@given(
    lengths=st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=40),
    cut=st.lists(st.integers(1, 10**6), max_size=5, unique=True).map(sorted),
)
def test_buckets_lose_nothing(lengths: list[tuple[int, int]], cut: list[int]) -> None:
    trace = _trace(lengths)
    table = buckets(trace, cut, cut)
    assert sum(b.requests for b in table) == trace.requests
    assert sum(b.share for b in table) == pytest.approx(1)
    assert sum(b.requests * b.prompt_mean for b in table) == pytest.approx(trace.prompt_total)
    assert sum(b.requests * b.output_mean for b in table) == pytest.approx(trace.output_total)
    assert all(b.prompt_from <= b.prompt_mean < b.prompt_to for b in table)


def test_peak_rates() -> None:
    ones = np.ones(121)
    trace = Trace("t", np.concatenate([np.linspace(0, 59, 100), np.linspace(60, 119, 20), [150.0]]), ones, ones)
    assert window_requests(trace).tolist() == [100, 20, 1]
    assert peak_rate_per_s(trace, quantile=1.0) == pytest.approx(100 / 60)  # the cut window does not count
    assert peak_rate_per_s(trace, quantile=0.5) == pytest.approx(1.0)
    assert peak_rate_per_s(trace, window_s=300.0) == pytest.approx(121 / 150)
    for bad in (0.0, float("nan"), 1e-12):
        with pytest.raises(InputError, match="window"):
            peak_rate_per_s(trace, window_s=bad)
    with pytest.raises(InputError, match="quantile"):
        peak_rate_per_s(trace, quantile=1.5)


def test_hourly_factors_of_a_trace() -> None:
    arrival_s = np.concatenate([np.arange(0, 86400, 3600.0), [5 * 3600.0 + 1], [86400.0 + 9]])
    arrival_s.sort()
    ones = np.ones(len(arrival_s))
    trace = Trace("t", arrival_s, ones, ones, start_utc_s=3600.0)
    factors = hourly_factors(trace)
    assert factors is not None
    assert factors[6] == pytest.approx(2 * 24 / 25)
    assert factors.mean() == pytest.approx(1)
    assert hourly_factors(trace.head(5)) is None
    assert hourly_factors(Trace("t", arrival_s, ones, ones)) is None
