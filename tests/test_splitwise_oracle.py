"""splitwise-sim's isolated requests: the imported profile gives every TTFT and decode time to a nanosecond."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from profiles.importers.splitwise import read_all, read_perf_model
from profiles.inputs import InputError
from profiles.profile import contradictions, load, save
from profiles.step import StepModel
from sim.run import run
from sim.scenario import Scenario

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ORACLES = DATA / "oracles" / "splitwise-sim"
HEADER = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,tensor_parallel"
)
ROWS = [  # medians: 128 -> 40 and 20 ms; 256 -> 60 and 24 ms; 1024 (512 x 2 as well) -> 156 and 36 ms
    "llama2-70b,h100-80gb,128,1,32,0,0,40,20,8",
    "llama2-70b,h100-80gb,256,1,32,0,0,58,23,8",
    "llama2-70b,h100-80gb,256,1,64,0,0,60,24,8",
    "llama2-70b,h100-80gb,256,1,32,0,0,70,25,8",
    "llama2-70b,h100-80gb,1024,1,32,0,0,152,35,8",
    "llama2-70b,h100-80gb,512,2,32,0,0,160,37,8",
    "llama2-70b,a100-80gb,128,1,32,0.9,0.6,90,45,8",
    "llama2-70b,a100-80gb,256,1,32,0,0,100,46,8",
]


def perf_model(tmp_path: Path, rows: list[str] | None = None, header: str = HEADER) -> Path:
    path = tmp_path / "perf_model.csv"
    path.write_text("\n".join([header, *(ROWS if rows is None else rows)]) + "\n")
    return path


def test_medians_on_one_axis_with_lines_that_go_on(tmp_path: Path) -> None:
    step = StepModel(read_perf_model(perf_model(tmp_path)))
    assert step.prefill([(192, 0)]).time_s == pytest.approx(0.050, abs=1e-12)
    assert step.prefill([(1024, 0)]).time_s == pytest.approx(0.156, abs=1e-12)
    assert step.prefill([(2048, 0)]).time_s == pytest.approx(0.284, abs=1e-12)  # 0.125 ms a token goes on
    assert step.prefill([(64, 0)]).time_s == pytest.approx(0.030, abs=1e-12)  # and down
    assert step.prefill([(128, 0), (64, 0)]).time_s == pytest.approx(0.050, abs=1e-12)  # one axis: 192 tokens
    assert step.decode_time_s(128, 1) == pytest.approx(0.020, abs=1e-12)
    assert step.decode_time_s(1, 1) == pytest.approx(0.020 - 127 * 0.004 / 128, abs=1e-12)
    assert step.decode_time_s(64, 10**6) == step.decode_time_s(64, 1)  # context never matters


@given(sequences=st.integers(1, 4000), kv_tokens=st.integers(1, 10**7))
def test_decode_is_the_interpolated_median(
    tmp_path_factory: pytest.TempPathFactory, sequences: int, kv_tokens: int
) -> None:
    step = StepModel(read_perf_model(perf_model(tmp_path_factory.mktemp("perf"))))
    pieces = [(128, 0.020, 0.004 / 128), (256, 0.024, 0.012 / 768)]
    x0, y0, slope = pieces[0] if sequences <= 256 else pieces[1]
    assert step.decode_time_s(sequences, kv_tokens) == pytest.approx(y0 + slope * (sequences - x0), rel=1e-12)


def test_mixed_steps_are_scaled_prefill(tmp_path: Path) -> None:
    profile = read_perf_model(perf_model(tmp_path))
    assert (profile.mixed.rule, profile.mixed.factor) == ("scaled", 1.1)


def test_zero_power_is_said_and_never_measured(tmp_path: Path) -> None:
    path = perf_model(tmp_path)
    h100, a100 = read_perf_model(path), read_perf_model(path, hardware="a100-80gb")
    assert h100.provenance.notes[0].startswith("the power columns are 0 in all 6 rows")
    assert "0 in 1 of 2 rows, else fractions of TDP" in a100.provenance.notes[0]
    for profile in (h100, a100):
        assert set(profile.prefill.power_w) | set(profile.decode.power_w) == {0.0}
        assert set(profile.prefill.flags or []) | set(profile.decode.flags or []) == {"power_missing"}


def test_derived_rows_are_called_derived(tmp_path: Path) -> None:
    path = perf_model(tmp_path, [row.replace("h100-80gb", "h100-80gb-pcap") for row in ROWS])
    profile = read_perf_model(path, hardware="h100-80gb-pcap")
    assert profile.provenance.kind == "predicted"
    assert any("derived" in note for note in profile.provenance.notes)


def test_memory_is_splitwise_sims(tmp_path: Path) -> None:
    memory = read_perf_model(perf_model(tmp_path)).memory
    assert memory.kv_bytes_per_token == 2 * 8192 * 80 * 2
    assert memory.kv_capacity_tokens == int((8 * 85899345920 - 135e9) // 2621440)


def test_a_falling_prefill_is_noted(tmp_path: Path) -> None:
    path = perf_model(tmp_path, [*ROWS, "llama2-70b,h100-80gb,2048,1,32,0,0,50,37,8"])
    assert any("prefill falls from 0.156 s" in note for note in read_perf_model(path).provenance.notes)


def test_the_profile_survives_its_file(tmp_path: Path) -> None:
    profile = read_perf_model(perf_model(tmp_path))
    assert contradictions(profile) == []
    assert load(save(profile, tmp_path / "p.json")) == profile


@pytest.mark.parametrize(
    ("rows", "asked", "words"),
    [
        (ROWS, {"model": "llama2-7b"}, "did you mean llama2-70b"),
        (ROWS, {"hardware": "h100"}, "did you mean"),
        (ROWS, {"tp": 4}, "no row for llama2-70b h100-80gb tensor_parallel 4"),
        ([], {}, "no row for"),
        (["llama2-70b,h100-80gb,128,1,32,0,0,fast,20,8"], {}, "perf_model.csv:2: prompt_time: 'fast'"),
        (["llama2-70b,h100-80gb,128,1,32,0,0,40,-20,8"], {}, "token_time: '-20' is not a positive number"),
        (["llama2-70b,h100-80gb,128,1,32,0,0,nan,20,8"], {}, "prompt_time: 'nan'"),
        (["llama2-70b,h100-80gb,128,1"], {}, "perf_model.csv:2: the row is cut short"),
        (ROWS[:1], {}, "nothing to interpolate"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, rows: list[str], asked: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_perf_model(perf_model(tmp_path, rows), **asked)  # type: ignore[arg-type]
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column model, hardware"):
        read_perf_model(perf_model(tmp_path, ["1,2"], header="a,b"))


@pytest.mark.skipif(not ORACLES.exists(), reason="needs shared/data/oracles/splitwise-sim, which is not here")
@pytest.mark.parametrize(("run", "hardware"), [("h1_a0", "h100-80gb"), ("h0_a1", "a100-80gb")])
def test_micro_oracle(run: str, hardware: str) -> None:
    folder = f"micro_baseline_token_jsq_{run}"
    step = StepModel(read_perf_model(ORACLES / "perf_model.csv", hardware=hardware, tp=8))
    checked = 0
    with (ORACLES / folder / "requests.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            prompt, output = int(float(row["prompt_sizes"])), int(float(row["token_sizes"]))
            ttft, response = float(row["ttft_times"]), float(row["response_times"])
            assert abs(step.prefill([(prompt, 0)]).time_s - ttft) < 1e-9
            assert abs(step.decode_time_s(1, prompt + 1) - (response - ttft) / (output - 1)) < 1e-9
            checked += 2
    assert checked == 54


Times = dict[str, NDArray[np.float64]]


def replayed(
    tmp_path: Path, oracle: str, trace: str, pools: list[dict[str, object]], **changes: object
) -> tuple[Times, Times]:
    """TTFT, TBT and E2E of every request of a run under splitwise-sim's rules: ours, and as it published them."""
    if not ORACLES.exists():
        pytest.skip("the shared data is not beside this checkout")
    profiles = read_all(ORACLES / "perf_model.csv")
    for profile in profiles:
        save(profile, tmp_path / "profiles" / f"{profile.key}.json")
    rules = {"batching": "splitwise", "max_num_seqs": 512, "max_num_batched_tokens": 2048, "kv": "whole-request"}
    rules |= {"site": "s", "model": profiles[0].model, "tp": 8, "precision": profiles[0].precision}
    asked = {
        "trace": str(ORACLES / trace),
        "start": "2023-06-01T00:00:00Z",
        "sites": [{"name": "s", "grid": "400"}],
        "pools": [rules | pool | {"name": f"p{k}"} for k, pool in enumerate(pools)],
        "profiles": [str(tmp_path / "profiles")],
        "routing": "least-prefill-backlog",
        **changes,
    }
    requests = run(Scenario.model_validate(asked)).played.requests
    arrival, output = np.array(requests.arrival_s), np.array(requests.output)
    first, last = np.frombuffer(requests.first_token_s), np.frombuffer(requests.finish_s)
    ours = {"TTFT": first - arrival, "TBT": (last - first) / output, "E2E": last - arrival}  # TBT by all tokens
    rows = list(csv.DictReader((ORACLES / oracle / "requests.csv").read_text().splitlines()))
    rows.sort(key=lambda row: float(row["request_ids"]))
    columns = {"TTFT": "ttft_times", "TBT": "tbt_times", "E2E": "response_times"}
    return ours, {name: np.array([float(row[column]) for row in rows]) for name, column in columns.items()}


@pytest.mark.parametrize(
    ("oracle", "trace", "pool"),
    [
        ("burst_baseline_token_jsq_h1_a0", "burst", {"gpu": "h100-sxm-80gb", "instances": 1}),
        ("burst_baseline_token_jsq_h0_a1", "burst", {"gpu": "a100-sxm-80gb", "instances": 1}),
        ("conv_baseline_token_jsq_h4_a0", "conv", {"gpu": "h100-sxm-80gb", "instances": 4}),
        ("conv_baseline_token_jsq_h2_a0", "conv", {"gpu": "h100-sxm-80gb", "instances": 2}),
    ],
)
def test_every_request_is_theirs_to_a_microsecond(
    tmp_path: Path, oracle: str, trace: str, pool: dict[str, object]
) -> None:
    """A burst of 32; a conversation trace of 19,366."""
    ours, theirs = replayed(tmp_path, oracle, f"{trace}.splitwise.csv", [pool])
    for name, times_s in ours.items():
        np.testing.assert_allclose(times_s, theirs[name], rtol=0.0, atol=1e-6, err_msg=name)


def test_two_prefill_and_two_decode_instances_are_theirs_to_a_microsecond(tmp_path: Path) -> None:
    """H100s prefill, A100s decode, each lent to the other side when that is short: their mixed_pool."""
    pools: list[dict[str, object]] = [
        {"gpu": "h100-sxm-80gb", "instances": 2, "role": "prefill"},
        {"gpu": "a100-sxm-80gb", "instances": 2, "role": "decode"},
    ]
    link = {"gb_per_s": 200 * 2**30 / 1e9}  # their transfer_bandwidth: 200 GiB/s, no contention
    rules = {"routing": "mixed-pool", "output_predictor": "oracle", "kv_transfer": link}
    oracle = "conv_splitwise_mixed_pool_h2_a2"
    ours, theirs = replayed(tmp_path, oracle, "conv.splitwise.csv", pools, **rules)
    for name, times_s in ours.items():
        np.testing.assert_allclose(times_s, theirs[name], rtol=0.0, atol=1e-6, err_msg=name)
