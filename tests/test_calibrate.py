"""The bench against a known truth: simulated physics and a simulated NVML sensor on a virtual clock."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from calibrate import DoesNotFit, Progress, measure
from calibrate.clock import VirtualClock
from calibrate.errors import BenchError
from calibrate.points import FULL, QUICK, Grid, decode, plan
from calibrate.protocol import Bench, Timing
from calibrate.runners.fake import FakeGpu, FakeRunner, Sensor
from profiles.catalog import gpu, llm
from profiles.inputs import InputError
from profiles.profile import Profile, contradictions, load, save
from profiles.step import StepModel

MODEL = llm("llama-3.1-8b")


def fake(seed: int = 0, **sensor: float) -> FakeGpu:
    return FakeGpu(VirtualClock(), gpu("h100-sxm-80gb"), Sensor(**sensor), seed)


def truths(profile: Profile) -> list[tuple[float, float]]:
    """True (time, power) of every prefill, then every decode point."""
    runner = FakeRunner(MODEL, fake())
    p, d = profile.prefill, profile.decode
    rows = [runner.truth("prefill", n, past, 1) for n, past in zip(p.new_tokens, p.past_tokens, strict=True)]
    return rows + [runner.truth("decode", 1, k // b, b) for b, k in zip(d.batch, d.kv_tokens, strict=True)]


def figures(profile: Profile) -> list[tuple[float, float, float, float]]:
    rows = []
    for part in (profile.prefill, profile.decode):
        assert part.time_random_rel is not None
        assert part.power_random_rel is not None
        rows += list(zip(part.time_s, part.power_w, part.time_random_rel, part.power_random_rel, strict=True))
    return rows


def test_quick_fake_by_name() -> None:
    profile = measure("llama-3.1-8b", runner="fake", quick=True)
    assert (profile.gpu, profile.model) == ("h100-sxm-80gb", "llama-3.1-8b")
    with pytest.raises(InputError, match="did you mean"):
        measure("llama-3.1-8", runner="fake")


def test_quick_fake_is_a_synthetic_profile_that_compiles(tmp_path: Path) -> None:
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), date="2026-11-21")
    assert profile.provenance.kind == "synthetic"
    assert profile.provenance.tier == "T3"
    assert profile.layer == "kernels"
    assert profile.systematic.power_rel == 0.05
    assert profile.power_limit_w == 700.0
    assert profile.idle.no_context_w == pytest.approx(60.0, rel=0.02)
    assert profile.idle.loaded_w == pytest.approx(75.0, rel=0.02)
    assert profile.prefill.new_tokens == [128, 512, 1024, 4096]
    assert profile.prefill.past_tokens == [0, 4096, 0, 0]
    assert len(profile.decode.batch) == 6
    assert contradictions(profile) == []
    save(profile, tmp_path / "p.json")
    model = StepModel(load(tmp_path / "p.json"))
    # decode of 8B in bf16 is bound by 16 GB of weights at 90 % of 3.35 TB/s, plus 32 x 5 us
    assert model.decode_time_s(1, 256) == pytest.approx(16.06e9 / (0.9 * 3.35e12) + 160e-6, rel=0.01)


def test_time_and_energy_within_one_percent_of_truth_times_gain_and_intervals_cover() -> None:
    gain, inside_time, inside_power, n = 1.05, 0, 0, 0
    for seed in range(200):
        device = fake(seed, gain=gain, drift_rel=0.002)
        profile = measure(MODEL, runner="fake", fake_gpu=device, seed=seed, grid=QUICK)
        for (time_s, power_w), (t, p, u_t, u_p) in zip(truths(profile), figures(profile), strict=True):
            assert t == pytest.approx(time_s, rel=0.01)
            assert t * p == pytest.approx(time_s * power_w * gain, rel=0.01)
            inside_time += abs(t / time_s - 1) <= 1.96 * u_t
            inside_power += abs(p / (power_w * gain) - 1) <= 1.96 * u_p
            n += 1
    assert n == 2000
    assert 0.90 <= inside_time / n <= 0.99
    assert 0.90 <= inside_power / n <= 0.99


def test_quick_intervals_cover_too() -> None:
    inside = []
    for seed in range(20):
        profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(seed), seed=seed)
        for (time_s, power_w), (t, p, u_t, u_p) in zip(truths(profile), figures(profile), strict=True):
            inside += [abs(t / time_s - 1) <= 1.96 * u_t, abs(p / power_w - 1) <= 1.96 * u_p]
    assert statistics.fmean(inside) >= 0.85


def test_naive_polling_misses_where_the_window_does_not() -> None:
    device = fake(gain=1.0)
    runner = FakeRunner(MODEL, device)
    runner.load()
    device.clock.sleep(5.0)
    work = runner.decode(64, 2048)
    _, truth_w = runner.truth("decode", 1, 2048, 64)
    work.enqueue(40)  # a burst of well under a second, then a look at the 1 s average
    device.clock.sleep(0.5)
    assert device.averaged_w() < 0.8 * truth_w
    device.clock.sleep(5.0)
    window = Bench(device, device.clock, Timing()).window(work)
    assert window.power_w == pytest.approx(truth_w, rel=0.015)


def test_the_counter_s_period_is_measured() -> None:
    device = fake()
    bench = Bench(device, device.clock, Timing())
    assert bench.measure_period(FakeRunner(MODEL, device).decode(1, 256)) == pytest.approx(0.1, abs=0.003)


def test_a_counter_that_stands_still_falls_back_to_polled_power() -> None:
    class Polled(FakeGpu):
        def energy_j(self) -> None:  # type: ignore[override]
            return None

    device = Polled(VirtualClock(), gpu("h100-sxm-80gb"), Sensor(), 0)
    window = Bench(device, device.clock, Timing()).window(FakeRunner(MODEL, device).decode(1, 256))
    assert window.power_w == window.polled_w
    assert "polled power" in window.flags


def test_a_counter_that_runs_backwards_is_one_line() -> None:
    class Reset(FakeGpu):
        def energy_j(self) -> float:
            return -super().energy_j()

    device = Reset(VirtualClock(), gpu("h100-sxm-80gb"), Sensor(), 0)
    with pytest.raises(BenchError, match="ran backwards") as refused:
        Bench(device, device.clock, Timing()).window(FakeRunner(MODEL, device).decode(1, 256))
    assert "\n" not in str(refused.value)


def test_power_cap_is_kept_and_flagged_thermal_is_invalid() -> None:
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake())
    assert profile.prefill.flags is not None
    assert profile.prefill.flags[-1] == "power_capped"
    assert profile.prefill.valid == [0, 1, 2, 3]
    assert profile.decode.flags is not None
    assert profile.decode.flags[0] == ""
    hot = fake(slowdown_at_s=30.0)  # from the middle of the run on: some points are clean, the others invalid
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=hot)
    flags = [*(profile.prefill.flags or []), *(profile.decode.flags or [])]
    assert any(flag.startswith("invalid: hw_thermal") for flag in flags)
    assert any(not flag.startswith("invalid") for flag in flags)
    with pytest.raises(BenchError, match="no valid prefill point: invalid: hw_thermal"):
        measure(MODEL, runner="fake", quick=True, fake_gpu=fake(slowdown_at_s=0.0))


def test_a_gpu_that_gets_hot_is_let_cool_and_asked_again() -> None:
    device = fake(slowdown_at_s=30.0, cool_after_s=20.0)
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=device)
    assert len(profile.prefill.valid) == len(profile.prefill.time_s)
    assert len(profile.decode.valid) == len(profile.decode.time_s)


def test_killed_and_resumed_measures_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def killer(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path, progress=killer)
    before = path.read_text()
    held = [json.loads(line) for line in before.splitlines()]
    assert sum("point" in record for record in held) == 5
    path.write_text(before + '{"point": "decode ba')  # killed while writing
    seen: list[Progress] = []
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path, progress=seen.append)
    assert seen[0].done == 5
    assert seen[-1].done == seen[-1].total == 13  # 10 points once, the control thrice more
    assert path.read_text().startswith(before)
    times = [*profile.prefill.time_s, *profile.decode.time_s]
    for record in held:
        if "point" in record and not record["point"].startswith("decode batch 1 "):
            assert record["window"]["time_s"] in times
    finished = path.read_text()
    again = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path)
    assert again == profile
    assert path.read_text() == finished


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"run": {"model": "other"}}\n', "checkpoint of another run"),
        ("hello", "run.jsonl:1: not a calibration checkpoint"),
        ("hello\n", "run.jsonl:1: not a calibration checkpoint"),
        ('{"run": 3}\n', "run.jsonl:1: not a calibration checkpoint"),
    ],
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path)
    assert path.read_text() == text


def test_out_of_memory_is_survived_and_noted() -> None:
    class Tight(FakeRunner):
        def decode(self, batch: int, context: int):  # type: ignore[no-untyped-def]
            if batch == 64:
                raise DoesNotFit("out of memory")
            return super().decode(batch, context)

    device = fake()
    import calibrate.bench as module

    original = module.FakeRunner
    module.FakeRunner = Tight  # type: ignore[misc]
    try:
        profile = measure(MODEL, runner="fake", quick=True, fake_gpu=device)
    finally:
        module.FakeRunner = original  # type: ignore[misc]
    assert sorted(set(profile.decode.batch)) == [1, 16]
    assert "decode batch 64 context 2048 skipped: out of memory" in profile.provenance.notes


def test_a_model_too_large_is_one_line_before_anything_is_loaded() -> None:
    with pytest.raises(DoesNotFit, match=r"needs 200\.0 GB"):
        measure(replace(MODEL, params=100_000_000_000), runner="fake", fake_gpu=fake())


def test_unknown_runner_and_device() -> None:
    with pytest.raises(InputError, match="did you mean torch"):
        measure(MODEL, runner="torhc")
    with pytest.raises(InputError, match="device tpu is unknown"):
        measure(MODEL, device="tpu")


def test_the_grid_is_cut_to_memory_and_context() -> None:
    points, notes = plan(FULL, 10**9)
    assert len(points) == 9 + 12 + 12  # prefill, decode, mixed
    assert notes == []
    points, notes = plan(Grid((128, 4096), (), (1, 16, 64), (256, 2048)), 20_000, 2048)
    assert [p.label for p in points if p.phase == "prefill"] == ["prefill 1 x 128"]
    assert decode(16, 1216) in points  # 20,000 / 16 = 1250, down to a multiple of 64
    assert decode(64, 256) in points
    assert "decode batch 64 context 2048 does not fit: skipped" in notes
    assert all(point.kv_tokens <= 20_000 for point in points)
