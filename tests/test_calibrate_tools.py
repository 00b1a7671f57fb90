"""Beside the bench: sweeps of clocks and limits, drift, the page, the dry run, resuming from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from calibrate import measure
from calibrate.clock import VirtualClock
from calibrate.drift import drift
from calibrate.errors import BenchError
from calibrate.knobs import Setting
from calibrate.runners.fake import FakeGpu, FakeKnobs, Sensor
from calibrate.sweep import sweep
from carbonfleet.cli.calibrate import command
from carbonfleet.report import calibration
from profiles.catalog import gpu, llm
from profiles.inputs import InputError
from profiles.outputs import OutputError
from profiles.profile import Profile, load, save

MODEL = llm("llama-3.1-8b")


def fake(**sensor: float) -> FakeGpu:
    return FakeGpu(VirtualClock(), gpu("h100-sxm-80gb"), Sensor(**sensor), 0)


class Recorded(FakeKnobs):
    """Knobs that keep a diary."""

    def __init__(self, refuses: str = "") -> None:
        super().__init__()
        self.diary: list[str] = []
        self._refuses = refuses

    def apply(self, setting: Setting) -> None:
        if setting.label == self._refuses:
            raise BenchError("not permitted")
        self.diary.append(setting.label)
        super().apply(setting)

    def __exit__(self, *_: object) -> None:
        self.diary.append("put back")
        super().__exit__()


def run_sweep(knobs: Recorded, folder: Path, settings: list[Setting]) -> Any:
    def one(setting: Setting, checkpoint: Path, progress: Any) -> Profile:
        device = knobs.device(gpu("h100-sxm-80gb"))
        return measure(
            MODEL, runner="fake", quick=True, fake_gpu=device, checkpoint=checkpoint, clock_mhz=setting.clock_mhz
        )

    return sweep(settings, knobs, one, folder)


def test_a_sweep_finds_what_the_physics_has(tmp_path: Path) -> None:
    """Decode is bound by memory: half the clock costs little time and saves energy; prefill pays in full."""
    knobs = Recorded()
    settings = [Setting(clock_mhz=1980), Setting(clock_mhz=990), Setting(power_limit_w=350)]
    full, half, limited = run_sweep(knobs, tmp_path / "s", settings)
    assert half.decode_time_s < 1.05 * full.decode_time_s
    assert half.decode_j_per_token < 0.9 * full.decode_j_per_token
    assert half.prefill_time_s == pytest.approx(2 * full.prefill_time_s, rel=0.05)
    profile = load(limited.file)
    assert profile.power_limit_w == 350.0
    assert max(profile.prefill.power_w) <= 350.0
    assert load(half.file).clock_mhz == 990.0
    assert knobs.diary == ["clock-1980mhz", "clock-990mhz", "limit-350w", "put back"]
    again = Recorded()
    assert run_sweep(again, tmp_path / "s", settings) == [full, half, limited]
    assert again.diary == ["put back"]  # all three were there


def test_a_setting_that_is_refused_puts_all_back_and_keeps_what_was_measured(tmp_path: Path) -> None:
    knobs = Recorded(refuses="clock-990mhz")
    with pytest.raises(BenchError, match="not permitted"):
        run_sweep(knobs, tmp_path, [Setting(clock_mhz=1980), Setting(clock_mhz=990)])
    assert knobs.diary == ["clock-1980mhz", "put back"]
    assert (tmp_path / "clock-1980mhz.json").exists()


def test_drift_is_judged_by_the_stated_interval() -> None:
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake())
    same = drift(profile, runner="fake", fake_gpu=fake())
    assert len(same) == 3
    assert all(each.agrees for each in same)
    changed = drift(profile, runner="fake", fake_gpu=fake(gain=1.1))
    assert not any(each.agrees for each in changed)
    assert "power +10." in changed[0].line() or "power +9." in changed[0].line()
    assert changed[0].line().endswith(": DRIFTED")
    with pytest.raises(BenchError, match="was measured with its engine"):
        drift(profile.model_copy(update={"layer": "step"}))


def test_the_page_shows_every_point_and_escapes_what_it_is_told(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    profile = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), raw=raw)
    hostile = profile.provenance.model_copy(update={"notes": ["</script><script>alert(1)</script>"]})
    page = calibration.write(profile.model_copy(update={"provenance": hostile}), raw, tmp_path / "p.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert page.count("<tr><td class=text>decode ") == 6
    assert page.count("<tr><td class=text>prefill ") == 4
    specs = calibration.charts(profile, raw)
    assert set(specs) == {"decode_time", "prefill_time", "power", "samples"}
    assert len(specs["samples"]["data"]["values"]) > 300


def invoke(*words: str) -> Any:
    return CliRunner().invoke(command, list(words))


def test_a_dry_run_opens_nothing_and_says_how_long() -> None:
    found = json.loads(invoke("llama-3.1-8b", "--dry-run", "--json").output)
    assert found["weights_gb"] == pytest.approx(16.06, abs=0.01)
    assert "decode batch 64 context 4096" in found["points"]
    assert 5 < found["minutes"] < 30
    quick = json.loads(invoke("llama-3.1-8b", "--dry-run", "--quick", "--json").output)
    assert quick["minutes"] < found["minutes"] / 3
    served = invoke("llama-3.1-8b", "--dry-run", "--runner", "openai", "--max-num-seqs", "8")
    assert "mix 64 + 64" in served.output
    assert "decode batch 16" not in served.output


def test_run_writes_profile_samples_and_page(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    done = invoke("llama-3.1-8b", "--runner", "fake", "--quick", "-o", str(out))
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "mine.json", "mine.samples.parquet"]
    assert invoke("check", str(out), "--runner", "fake").exit_code == 0
    refused = invoke("llama-3.1-8b", "--runner", "fake", "--quick", "-o", str(out), "--resume")
    assert refused.exit_code == 2
    assert "nothing to resume" in refused.output


def test_a_config_json_is_a_model(tmp_path: Path) -> None:
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(shape | {"vocab_size": 300, "_name_or_path": "org/Tiny-Llama"}))
    done = invoke(str(tmp_path / "config.json"), "--runner", "fake", "--quick", "-o", str(tmp_path / "t.json"))
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "t.json").model == "tiny-llama"


def test_a_saved_checkpoint_from_before_raw_samples_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    whole = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("samples", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path)
    assert again == whole
    save(again, tmp_path / "p.json")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in mid-run; with space again the same call goes on from the last whole window."""
    import os

    path, written, fsync = tmp_path / "run.jsonl", [0], os.fsync

    def full(descriptor: int) -> None:
        written[0] += 1
        if written[0] == 6:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space and start again") as refused:
        measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path)
    assert "\n" not in str(refused.value)
    held = path.read_text().count('"point"')
    seen: list[str] = []
    measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=path, progress=lambda p: seen.append(p.label))
    assert len(seen) == 13 - held + 1  # what was missing, and the end


def test_a_device_that_is_always_full_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="/dev/full: cannot be written"):
        measure(MODEL, runner="fake", quick=True, fake_gpu=fake(), checkpoint=Path("/dev/full"))


def test_a_sweep_without_a_gpu_exits_4_like_every_other_command(tmp_path: Path) -> None:
    from calibrate.errors import NoGpu
    from calibrate.knobs import NvmlKnobs

    class Absent:
        class NVMLError(Exception):
            pass

        def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
            raise self.NVMLError("Library Not Found")

    with pytest.raises(NoGpu) as refused, NvmlKnobs((0,), Absent()):
        pass
    assert refused.value.exit_code == 4


def test_the_fake_runner_is_one_gpu_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="simulates one GPU, not 2"):
        measure(MODEL, runner="fake", quick=True, tensor_parallel=2)
