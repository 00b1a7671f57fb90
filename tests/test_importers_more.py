"""Importers of batches, formulas, layers, operations and nodes: known answers, told traps, named bad cells."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from carbonfleet import cli
from profiles import catalog
from profiles.importers import condense, llm_inference_bench, mlperf_power
from profiles.importers.formats import Asked, hosts
from profiles.profile import POWER_UNKNOWN, contradictions
from profiles.step import StepModel
from tests.importer_rows import BENCH, DISTSERVE, MLPERF, bench, machine, operations, table, vidur, write
from tests.test_importers import imported, refused


def test_batches_find_the_machine_again(tmp_path: Path) -> None:
    (profile,), told = imported("llm-inference-bench", write(tmp_path, "x", table(BENCH, bench())))
    assert told == []
    truth = machine("llama-3-8b", "h100", 1)
    for batch in (1, 16, 48, 64):
        time_s = float(truth.time_s(0.0, 0.0, float(batch), 384.0))
        assert StepModel(profile).decode_time_s(batch, batch * 384) == pytest.approx(time_s, rel=0.05)
    watts = float(truth.power_w(time_s, 0.0, 0.0, 64.0, 384.0))
    assert StepModel(profile).decode(64, 64 * 384).power_w == pytest.approx(watts, rel=0.1)
    assert profile.provenance.licence == "BSD-3-Clause"


def test_watts_of_a_second_file_join_their_batches(tmp_path: Path) -> None:
    rows = bench()
    write(tmp_path, "all.csv", table(BENCH[:-1], rows))
    write(tmp_path, "watts.csv", table(BENCH, rows[:3]) + ",,,,,,,,\n")
    write(tmp_path, "heat.csv", "model_name,tp_size\na,1\n")
    (profile,), _ = imported("llm-inference-bench", tmp_path)
    assert (profile.provenance.fit_error["rows"], profile.provenance.fit_error["power_rows"]) == (4, 3)


def test_traps_of_batches_are_told(tmp_path: Path) -> None:
    rows = [*bench(), *bench(Framework="llama.cpp")[:2], *bench(Throughput=7)[:1]]
    rows += [row | {"Latency": 0.1, "Throughput": row["Batch Size"] * 5120} for row in bench()[:1]]
    rows += [row | {"Batch Size": 4096, "Throughput": row["Throughput"] * 4096} for row in bench()[:1]]
    (profile,), told = imported("llm-inference-bench", write(tmp_path, "x", table(BENCH, rows)))
    for said in ("llama.cpp", "its throughput is not its tokens", "faster than the weights", "ran in waves"):
        assert any(said in line for line in told), said
    assert profile.provenance.fit_error["rows"] == 4


def test_formulas_answer_as_written(tmp_path: Path) -> None:
    (profile,), _ = imported("distserve", write(tmp_path, "x.json", json.dumps(DISTSERVE)))
    assert profile.key == "a100-sxm-80gb_opt-13b_tp1_fp16_distserve-2023"
    assert profile.layer == "step"
    step = StepModel(profile)
    assert step.prefill([(512, 0)]).time_s == pytest.approx(1e-3 * (18 + 51.2 + 7e-6 * 512**2), rel=1e-4)
    assert step.decode_time_s(32, 32 * 512) == pytest.approx(1e-3 * (20 + 6e-4 * 32 * 512 + 0.04 * 32), rel=1e-4)
    assert step.decode_time_s(95, 95 * 1024) == pytest.approx(1e-3 * (7 + 6e-4 * 95 * 1024 + 0.16 * 95), rel=1e-4)
    assert set(profile.decode.flags or []) == {POWER_UNKNOWN}


def test_linear_operators_sum_to_a_step(tmp_path: Path) -> None:
    path = write(tmp_path, "x", vidur())
    one, two = imported("vidur", path, gpu="a40", model="llama-3-8b")[0]
    assert (one.gpu, one.tp, two.tp) == ("a40", 1, 2)
    assert (one.provenance.kind, one.provenance.tier, one.band.time) == ("predicted", "T1", 2.2)
    assert one.engine_term is None
    assert any("no engine layer" in note for note in one.provenance.notes)
    linear = 32 * 10 * 1e-3 * (0.01 + 0.001 * 64)
    assert 0 < StepModel(one).decode_time_s(64, 64 * 128) - linear < 0.3 * linear
    assert imported("vidur", path, gpu="a40", tp=2)[0] == [two]


def test_layers_sum_to_a_pipeline(tmp_path: Path) -> None:
    prompts = "0,0\n" + "".join(f"{n},{1 + 0.02 * n}\n" for n in range(250, 3000, 250))
    write(tmp_path, "a.csv", prompts)
    write(tmp_path, "b.csv", "0,0\n2,2\n4,2.2\n8,2.1\n100,4\n")
    (profile,), _ = imported("helix", tmp_path, gpu="v100-sxm-16gb", model="llama-2-70b")
    assert profile.tp * 16 > 2 * 70 * 0.95
    assert StepModel(profile).prefill([(1024, 0)]).time_s == pytest.approx(80e-3 * (1 + 0.02 * 1024), rel=1e-3)
    assert StepModel(profile).decode_time_s(8, 8 * 512) == pytest.approx(80 * 2.2e-3)
    assert any("pipeline of" in note for note in profile.provenance.notes)


def test_operations_sum_to_a_step_and_its_watts(tmp_path: Path) -> None:
    folder = operations(tmp_path / "h200")
    (profile,), told = imported("aiconfigurator", folder, model="llama-3.1-8b")
    assert (profile.gpu, profile.provenance.tier, profile.layer) == ("h200-sxm-141gb", "T1", "kernels")
    assert profile.engine_term is None
    work = machine("llama-3.1-8b", "h200", 1).work
    decode_s = (float(work.linear_bytes(1.0)) + work.head_bytes) / (0.5 * work.bandwidth)
    assert StepModel(profile).decode_time_s(1, 128) == pytest.approx(decode_s, rel=0.1)
    long_s = StepModel(profile).prefill([(4096, 0)]).time_s
    assert long_s == pytest.approx(2 * work.linear_flops / 2 * 4096 / (0.5 * work.flops), rel=0.3)
    assert any("the sensor lags" in line for line in told)
    assert profile.provenance.fit_error["power_mape"] < 0.03
    watts = machine("llama-3.1-8b", "h200", 1).power_w(decode_s, 0.0, 0.0, 1.0, 1024.0)
    assert StepModel(profile).decode(1, 1024).power_w == pytest.approx(float(watts), rel=0.1)
    dark = imported("aiconfigurator", operations(tmp_path / "dark", powered=False), model="llama-3.1-8b")[0][0]
    assert set(dark.prefill.power_w) == {0.0}
    assert contradictions(profile) == []


def test_nodes_give_hosts_that_the_catalogue_takes(tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path, "x", MLPERF)
    (node,) = mlperf_power.nodes(path, Asked(tell=told.append))
    assert (node.limit_w, node.runs, node.least_w) == (500.0, 2, 2250.0)
    assert node.host_w == pytest.approx(2200.0)
    assert node.residual_w == pytest.approx(statistics.stdev([2150, 2250]))
    assert any("no GPU that is known" in line for line in told)
    write(tmp_path / "mine", "hosts.csv", hosts("mlperf-power", path, Asked()))
    with catalog.using(tmp_path / "mine"):
        host = catalog.host("mlperf-a-h200-sxm-141gbx8-trt-maxq")
    assert (host.power_w, host.gpus, host.gpu) == (2200.0, 8, "h200-sxm-141gb")
    assert "71 W standard deviation" in host.source


@pytest.mark.parametrize(
    ("form", "text", "asked", "told"),
    [
        ("llm-inference-bench", table(BENCH, bench(avg_power=300)), {}, ":2: avg_power: 300 mW is below any"),
        ("llm-inference-bench", table(BENCH, bench(Latency=-1)), {}, ":2: Latency: '-1' is not a number above 0"),
        ("distserve", '{"facebook/opt-13b": {"1": {}}}', {}, "facebook/opt-13b.1.decoding_large_small_bs_threshold"),
        ("distserve", json.dumps(DISTSERVE).replace("18.0", '"x"'), {}, "opt-13b.1.prefill: is not three numbers"),
        ("distserve", json.dumps(DISTSERVE).replace("18.0", "-900"), {}, "facebook/opt-13b.1: the prefill of"),
        ("distserve", json.dumps(DISTSERVE).replace("opt-13b", "opt-13x"), {}, "unknown model"),
        ("vidur", vidur(), {}, "give --gpu"),
        ("vidur", vidur(n_embd=77), {"gpu": "a40"}, "no known model has 32 heads"),
        ("vidur", vidur(), {"gpu": "a40", "model": "llama-2-7b"}, "its shape is not that of llama-2-7b"),
        ("vidur", vidur(num_tokens=0), {"gpu": "a40"}, ":2: num_tokens: '0' is not a whole number"),
        ("vidur", vidur(), {"gpu": "t4", "tp": 1}, "no tensor-parallel degree in it that fits"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named(tmp_path: Path, form: str, text: str, asked: dict[str, Any], told: str) -> None:
    assert told in refused(form, write(tmp_path, "x", text), **asked)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("0,0\n5,x\n", ":2: not two numbers"),
        ("0,0\n5,1,2\n", ":2: not two numbers"),
        ("0,0\n5,3\n9,1\n", ":3: 9 tokens in 1 ms after 5 in 3 ms"),
        ("0,0\n9,1\n5,3\n", ":3: 5 tokens"),
        ("0,0\n5,nan\n", ":2: 5 tokens in nan ms"),
        ("5,1\n", "fewer than two rows"),
    ],
)
def test_a_bad_row_of_layers_is_named(tmp_path: Path, rows: str, told: str) -> None:
    write(tmp_path, "a.csv", "0,0\n250,6\n500,11\n")
    write(tmp_path, "b.csv", rows)
    assert told in refused("helix", tmp_path, gpu="t4", model="llama-2-7b")
    assert "give --gpu and --model" in refused("helix", tmp_path)


@pytest.mark.parametrize(
    ("more", "asked", "told"),
    [
        ({"latency": -1.0}, {"model": "llama-3.1-8b"}, "a.parquet:1: latency: '-1.0' is not a number above 0"),
        ({"power": -3.0, "latency": 9.0}, {"model": "llama-3.1-8b"}, ":1: power: -3 W is negative"),
        ({"device": "NVIDIA L4"}, {"model": "llama-3.1-8b"}, "device: NVIDIA L4 beside NVIDIA H200"),
        ({}, {}, "give --model"),
        ({}, {"model": "llama-2-7b"}, "no attention of prompts with 32 heads 32 KV heads of 128"),
        ({}, {"model": "mixtral-8x7b"}, "has experts"),
        ({}, {"model": "llama-3.1-8b", "tp": 2}, "no attention of prompts with 16 heads"),
    ],
)
def test_operations_that_cannot_be_are_named(
    tmp_path: Path, more: dict[str, Any], asked: dict[str, Any], told: str
) -> None:
    assert told in refused("aiconfigurator", operations(tmp_path / "x", **more), **asked)


def test_a_wall_that_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path, "x", MLPERF.replace("6250", "much"))
    with pytest.raises(Exception, match=":4: wall_W: 'much' is not a number"):
        hosts("mlperf-power", path, Asked())


def told(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any], str]:
    with pytest.raises(SystemExit) as leaving:
        cli.main([*args, "--json"])
    text = capsys.readouterr()
    return int(leaving.value.code or 0), json.loads(text.out or "{}"), text.err


def test_the_command_writes_profiles_and_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, "x", table(BENCH, [*bench(), *bench(Framework="llama.cpp")]))
    out = str(tmp_path / "out")
    code, document, err = told(capsys, "profiles", "import", "llm-inference-bench", str(source), "-o", out)
    assert code == 0
    assert "warning: 4 rows left out: framework llama.cpp" in err
    (profile,) = document["profiles"]
    assert told(capsys, "profiles", "check", profile["file"])[1]["ok"] is True
    walls = str(write(tmp_path, "w", MLPERF))
    code, document, _ = told(capsys, "profiles", "import", "mlperf-power", walls, "-o", out)
    assert (code, document["hosts"]) == (0, f"{out}/hosts.csv")
    code, _, err = told(capsys, "profiles", "import", "mlperf-power", walls, "-o", out, "--gpu", "h200")
    assert code == 1
    assert "--gpu says nothing to mlperf-power" in err


def test_the_command_shows_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = told(capsys, "profiles", "list", "--coverage", "--model", "llama-3.1-405b")
    assert code == 0
    cells = {cell["gpu"]: cell for cell in document["cells"]}
    assert (cells["h100-sxm-80gb"]["tier"], cells["h100-sxm-80gb"]["on_demand"]) == ("T0", False)
    assert (cells["t4"]["tier"], cells["t4"]["on_demand"], cells["t4"]["tp"]) == ("T2", True, [])


# -------------------------------------------------------------------------------------------- the real files


def test_the_real_batches(shared: Path) -> None:
    told: list[str] = []
    cells = llm_inference_bench.measured(shared / "profiles" / "llm-inference-bench", told.append)
    gpus = {one.work.gpu.name for one in cells}
    assert gpus == {"a100-sxm-40gb", "h100-sxm-80gb", "gh200", "mi250", "mi300x", "gaudi2"}
    chosen = [one for one in cells if one.work.gpu.name == "h100-sxm-80gb" and one.engine == "trtllm-2024"]
    found = [p for p in (condense.profile(one, told.append) for one in chosen) if p is not None]
    errors = sorted(p.provenance.fit_error["held_mape"] for p in found if "held_mape" in p.provenance.fit_error)
    assert errors[len(errors) // 2] < 0.05
    assert any("faster than the weights can be read" in line and "qwen2.5-7b" in line for line in told)
    assert any("power_mape" in p.provenance.fit_error for p in found)


def test_the_real_coefficients_layers_and_operators(shared: Path) -> None:
    data = shared / "profiles"
    for name in ("distserve", "vllm"):
        assert len(imported("distserve", data / "distserve" / f"profiler-a100-80g.{name}.json")[0]) == 7
    for gpu, model in (("v100", "llama2_70b"), ("t4", "llama1_30b"), ("l4", "llama2_70b")):
        wanted = {"llama2_70b": "llama-2-70b", "llama1_30b": "llama-30b"}[model]
        card = "v100-sxm-16gb" if gpu == "v100" else gpu
        assert len(imported("helix", data / "helix" / model / gpu, gpu=card, model=wanted)[0]) == 1
    path = data / "vidur" / "profiling" / "compute" / "a40" / "meta-llama" / "Llama-2-7b-hf" / "mlp.csv"
    assert [p.tp for p in imported("vidur", path, gpu="a40")[0]] == [1, 2, 4, 8]


def test_the_real_operations_are_below_the_real_step(shared: Path) -> None:
    """Trap 5: the sum of kernels is .4 to 1 of what vLLM takes."""
    data = shared / "profiles" / "aiconfigurator" / "data"
    (profile,), _ = imported("aiconfigurator", data / "h100_sxm", model="llama-3.1-8b")
    rows = csv.DictReader(io.StringIO((shared / "profiles" / "mlenergy" / "leaderboard_llm.csv").read_text()))
    for row in rows:
        batch = float(row["avg_batch_size"])
        if (row["model"], row["gpu_model"]) == ("meta-llama/Llama-3.1-8B-Instruct", "H100") and batch < 130:
            ours = StepModel(profile).decode_time_s(round(batch), batch * 450)
            assert 0.4 < ours / (1e-3 * float(row["median_itl_ms"])) < 1.0
    (profile,), told = imported("aiconfigurator", data / "h200_sxm", model="llama-3.1-8b")
    assert any("the sensor lags" in line for line in told)
    assert profile.provenance.fit_error["power_mape"] < 0.1


def test_the_real_walls(shared: Path) -> None:
    (h200,) = mlperf_power.nodes(shared / "profiles" / "mlperf_power" / "v4.1_power.csv", Asked())
    assert 2150 <= h200.host_w <= h200.least_w < 2300
    air, liquid = mlperf_power.nodes(shared / "profiles" / "mlperf_power" / "v5.1_power.csv", Asked())
    assert 2400 <= air.host_w < 2450
    assert liquid.host_w < air.host_w
