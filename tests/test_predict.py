"""The default predictor: the form by hand, rows by hand, invariants, and the two commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonfleet import cli
from carbonfleet.cli import evaluate as evaluate_command
from carbonfleet.cli import predict as predict_command
from profiles.inputs import InputError
from profiles.predict import doubt, form, graph, names, predictor, readers, request, serving, train
from profiles.predict.columns import Cell, Columns
from profiles.predict.evaluate import FORMATS, evaluate
from profiles.predict.fit import Levels, Parameters, fit, start
from profiles.predict.form import PARAMETERS
from profiles.predict.measured import Row
from profiles.predict.predictor import BANDED, Prediction
from profiles.predict.residual import fit_residual
from profiles.predict.step_profile import step_profile
from profiles.profile import contradictions, load
from profiles.serve import serve
from profiles.step import StepModel

H100 = "h100-sxm-80gb"
SILICON = (
    "id,silicon_data_source,backend,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"
    "batch_size,tp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
)
DENSE = (
    "a,silicon_concurrency={b},vllm,meta-llama/Llama-3.1-8B,h100_sxm,bf16,agg,1024,1024,,,{b},1,1,1,1,{ttft},{tpot}\n"
)
BENCH = "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput,avg_power\n"
LATENCY = "Nvidia A100 GPU,1,vLLM,meta-llama/Llama-2-7b-hf,1024,4,{latency},{rate},{watts}\n"
ENERGY = (
    "model,task,gpu_model,num_gpus,prec,par_tensor_parallel,par_expert_parallel,par_data_parallel,avg_batch_size,"
    "avg_output_len,output_throughput_tokens_per_sec,avg_power_watts,energy_per_token_joules\n"
)


def columns(cell: Cell, batch: float = 8, prompt: float = 1024, output: float = 256) -> Columns:
    return Columns.of([cell], [batch], [prompt], [output])


def plain(**changes: float) -> dict[str, Any]:
    """Every efficiency 1 and every term of seconds, watts and joules 0, but for the changes."""
    shares = {"compute", "expert_compute", "bandwidth", "expert_bandwidth", "kv_bandwidth", "attention", "link"}
    shares |= {"imbalance", "power_exponent", "power_cap"}
    start = dict.fromkeys(shares, 1.0) | {"sharp": 3.0}
    return {name: np.array([(start | changes).get(name, 0.0)]) for name in PARAMETERS}


def test_a_decode_step_by_hand() -> None:
    """Llama 3.1 8B on an H100: weights, head and KV over 3.35 TB/s, compute far below."""
    c = columns(request.cell(H100, "llama-3.1-8b"), batch=1, prompt=100, output=2)
    linear = 2.0 * 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336)
    head, kv = 2.0 * 128256 * 4096, 101 * 2 * 32 * 8 * 128 * 2.0
    expected = (linear + head + kv) / 3.35e12
    t = form.times(c, plain())
    assert t.step_s[0] == pytest.approx(expected, rel=1e-4)
    assert t.tpot_s[0] == pytest.approx(expected, rel=1e-4)  # met is 0: no prompt is charged


def test_a_prompt_in_a_step_costs_what_the_weights_reading_leaves_over() -> None:
    cell = request.cell(H100, "llama-3.1-8b")
    short = form.times(columns(cell, batch=64, prompt=16, output=1024), plain(met=1.0))
    assert short.tpot_s[0] == pytest.approx(short.step_s[0], rel=1e-3)  # memory-bound: 16 tokens ride along
    long = form.times(columns(cell, batch=64, prompt=8192, output=1024), plain(met=1.0))
    added = (long.tpot_s[0] - long.step_s[0]) * 1024 / 64
    assert 0.6 * long.prefill_s[0] < added < long.prefill_s[0]


def test_experts_read_are_those_some_token_meets() -> None:
    cell = request.cell("h200-sxm-141gb", "mixtral-8x7b", 2)
    c = columns(cell, batch=1)
    one = form.weights_bytes(c, np.array([1.0]))[0] - form.weights_bytes(c, np.array([0.0]))[0]
    assert one == pytest.approx(c.work.expert_bytes[0] * 2 / 8)
    assert form.weights_bytes(c, np.array([1e4]))[0] == pytest.approx(
        form.weights_bytes(c, np.array([0.0]))[0] + c.work.expert_bytes[0]
    )


def test_power_keeps_below_the_cap() -> None:
    c = columns(request.cell(H100, "llama-3.1-8b"), batch=256)
    p = plain(power_base=5.0, power_cap=0.96)
    assert 0.9 * 700 < form.power_w(c, p, form.times(c, p))[0] <= 0.96 * 700


def test_the_fit_finds_what_made_the_rows() -> None:
    cells = [request.cell(H100, name, tp) for name in ("llama-3.1-8b", "qwen3-14b", "qwen3-32b") for tp in (1, 2)]
    many = [(cell, b, n) for cell in cells for b in (1, 16, 128) for n in (128, 2048)]
    c = Columns.of([x[0] for x in many], [x[1] for x in many], [x[2] for x in many], [512.0] * len(many))
    truth = start()
    truth.common |= {"bandwidth": np.log(0.78), "layer_s": np.log(6e-5), "sequence_s": np.log(5e-5)}
    target = np.log(form.times(c, truth.columns(c)).tpot_s)
    free = ("bandwidth", "layer_s", "sequence_s")
    found = fit(c, lambda here, p, rows: np.log(form.times(here, p).tpot_s) - target[rows], free, Levels({}))
    assert np.exp(found.common["bandwidth"]) == pytest.approx(0.78, rel=0.03)
    assert np.exp(found.common["layer_s"]) == pytest.approx(6e-5, rel=0.1)


def test_a_correction_holds_for_its_cell_and_no_other() -> None:
    known, other = request.cell(H100, "llama-3.1-8b"), request.cell("b200-sxm-180gb", "llama-3.1-8b")
    c = Columns.of([known] * 6, [1, 4, 16, 64, 128, 256], [1024.0] * 6, [512.0] * 6)
    r = fit_residual(c, np.full(6, 0.2))
    assert r(columns(known, 32))[0] == pytest.approx(0.2, abs=0.04)
    assert r(columns(other, 32))[0] == 0.0


def file(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_silicon_rows_by_hand(tmp_path: Path) -> None:
    moe = "b,silicon_concurrency=32,sglang,deepseek-ai/DeepSeek-R1,b200_sxm,fp4,agg,8192,1024,nvfp4,nvfp4,"
    moe += "32,64,1,8,8,900,20\n"
    own = "c,silicon_concurrency=8,vllm,acme/Unheard-Of-9B,h100_sxm,bf16,agg,1024,1024,,,8,1,1,1,1,90,9\n"
    text = SILICON + DENSE.format(b=8, ttft=50, tpot=10) + moe + DENSE.format(b=8, ttft=50, tpot=10) + own
    read = readers.read(file(tmp_path, text), "aiconfigurator")
    assert (read.total, read.repeated, read.unknown) == (4, 1, {"acme/Unheard-Of-9B": 1})
    dense, experts = read.rows
    assert (dense.tpot_s, dense.ttft_s, dense.batch, dense.cell.llm.name) == (0.01, 0.05, 8, "llama-3.1-8b")
    assert (experts.cell.world, experts.cell.tp, experts.cell.ep) == (8, 8, 8)  # tp 64 counts eight GPUs twice
    assert experts.cell.experts == "fp4"


APART = (
    "silicon_data_source,backend,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,tp_size,"
    "decode_num_workers,decode_tp_size,decode_attention_dp_size,silicon_ttft_ms,silicon_tpot_ms\n"
)


def pooled(tmp_path: Path, *rows: str) -> list[Row]:
    """Disaggregated rows of DeepSeek-R1 in fp4 on GB200s from `engine,c,isl,osl,workers,tp,dp,ttft,tpot`."""
    text = APART
    for row in rows:
        engine, c, isl, osl, rest = row.split(",", 4)
        text += f"silicon_concurrency={c},{engine},deepseek-ai/DeepSeek-R1,gb200,fp4,disagg,{isl},{osl},nvfp4,nvfp4,"
        text += f",{rest}\n"
    return readers.read(file(tmp_path, text), "aiconfigurator").rows


def test_pools_that_a_dump_does_not_tell_are_inferred_from_the_load(tmp_path: Path) -> None:
    told, light, sglang, full, rack = pooled(
        tmp_path,
        "trtllm,96,1024,1024,3,8,1,200,10",
        "trtllm,96,1024,1024,,8,1,200,11",
        "sglang,96,1024,1024,,8,1,200,12",
        "trtllm,4096,1024,1024,,8,1,200,13",
        "trtllm,64,1024,1024,,32,1,200,14",
    )
    assert [(r.cell.tp, r.cell.world, r.batch, r.guessed) for r in (told, light, sglang, full, rack)] == [
        (8, 8, 32, False), (8, 8, 24, True), (8, 8, 48, True), (1, 8, 4096, True), (1, 32, 64, True),
    ]  # fmt: skip


def test_two_accounts_of_one_run_are_one_row_and_the_fuller_one_counts(tmp_path: Path) -> None:
    short, full = "trtllm,96,1024,1024,,8,1,200.5,10.25", "trtllm,96,1024,1024,4,1,8,200.5,10.25"
    for accounts in ((short, full), (full, short)):
        (run,) = pooled(tmp_path, *accounts)
        assert (run.batch, run.cell.tp, run.cell.world, run.guessed) == (24, 1, 8, False)


def test_weights_beyond_the_stated_gpus_are_doubtful(tmp_path: Path) -> None:
    (run,) = pooled(tmp_path, "sglang,8,1024,1024,1,1,1,200,10")
    assert run.unstated


def test_expert_parallelism_counted_over_again_cuts_attention_over_the_same_gpus(tmp_path: Path) -> None:
    moe = "b,silicon_concurrency=32,vllm,MiniMaxAI/MiniMax-M2.5,h100_sxm,fp8,agg,8192,1024,fp8,fp8,32,4,4,1,16,900,20\n"
    (cell,) = (r.cell for r in readers.read(file(tmp_path, SILICON + moe), "aiconfigurator").rows)
    assert (cell.world, cell.tp, cell.ep) == (4, 4, 4)


def test_a_release_of_an_engine_has_its_own_correction() -> None:
    known = replace(request.cell(H100, "llama-3.1-8b"), version="1.0")
    c = Columns.of([known] * 6, [1, 4, 16, 64, 128, 256], [1024.0] * 6, [512.0] * 6)
    r = fit_residual(c, np.full(6, 0.2))
    same, later = (r(columns(replace(known, version=v), 32))[0] for v in ("1.0", "2.0"))
    assert 0.0 < later < same == pytest.approx(0.2, abs=0.04)


def test_mlenergy_rows_by_hand(tmp_path: Path) -> None:
    row = "Qwen/Qwen3-30B-A3B-Instruct-2507,lm-arena-chat,H100,2,bfloat16,1.0,2.0,1.0,32,800,1600,900,0.5625\n"
    (found,) = readers.read(file(tmp_path, ENERGY + row), "mlenergy").rows
    assert (found.tpot_s, found.power_w, found.energy_j_per_token) == (0.02, 900, 0.5625)
    assert (found.cell.world, found.cell.tp, found.cell.ep) == (2, 2, 2)


def test_a_task_of_unknown_prompts_is_doubtful(tmp_path: Path) -> None:
    rows = "".join(f"Qwen/Qwen3-8B,{task},H100,1,fp8,1,1,1,32,800,1600,480,0.3\n" for task in ("gpqa", "deep-research"))
    why = doubt.severity(readers.read(file(tmp_path, ENERGY + rows), "mlenergy").rows)[1]
    assert why == ["", "concurrency, prompt length or GPUs not stated"]


def test_bench_rows_by_hand(tmp_path: Path) -> None:
    text = (
        "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput,avg_power\n\n"
        "Nvidia A100 GPU,1,vLLM,meta-llama/Llama-2-7b-hf,1024,4,12.8,640,250000\n"
    )
    (found,) = readers.read(file(tmp_path, text), "llm-inference-bench").rows
    assert found.tpot_s == pytest.approx(0.0125)
    assert found.power_w == 250.0
    assert found.energy_j_per_token == pytest.approx(250 * 12.8 / 4096)


def test_llama_cpp_rows_are_of_one_request_whatever_their_batch_size(tmp_path: Path) -> None:
    """The first line's throughput is 2 x 128 / latency for every Batch Size; 17 ms a step of either prompt chunk."""
    text = (
        "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput\n"
        "Nvidia A100 GPU,1,llama.cpp,meta-llama/Llama-2-7b-hf,128,1,4.352,58.8\n"
        "Nvidia A100 GPU,4,llama.cpp,meta-llama/Llama-2-7b-hf,128,64,2.21,115.8\n"
    )
    token, chunk = readers.read(file(tmp_path, text), "llm-inference-bench").rows
    assert (token.batch, chunk.batch) == (1, 1)
    assert (token.tpot_s, chunk.tpot_s) == (pytest.approx(0.017), pytest.approx(0.017))
    assert (token.prompt, chunk.prompt, chunk.output) == (1, 126, 128)
    assert (chunk.cell.world, chunk.cell.task) == (1, "4 GPUs in turn")  # one GPU works at a time


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("aiconfigurator", SILICON.replace("osl", "olength") + DENSE.format(b=8, ttft=50, tpot=10), "rows.csv:1: osl"),
        (
            "aiconfigurator",
            SILICON.replace("attention_dp_size", "attention_dp_sizes"),
            "rows.csv:1: attention_dp_sizes: unknown column; did you mean attention_dp_size",
        ),
        ("aiconfigurator", SILICON + DENSE.format(b=8, ttft=50, tpot=-1), "rows.csv:2: silicon_tpot_ms: '-1' is not"),
        ("aiconfigurator", SILICON + DENSE.format(b=8, ttft=-3, tpot=1), "rows.csv:2: silicon_ttft_ms: '-3' is not"),
        ("aiconfigurator", SILICON + DENSE.format(b=8, ttft=3, tpot=0), "rows.csv:2: silicon_tpot_ms: '0' is not"),
        ("aiconfigurator", SILICON + "a,b\n", "rows.csv:2: 2 cells under a header of 18"),
        ("aiconfigurator", SILICON, "no row of a known model"),
        (
            "aiconfigurator",
            SILICON + DENSE.format(b=8, ttft=50, tpot=9).replace(",8,1,1", ",8,,1"),
            "2: tp_size: '' is",
        ),
        ("mlenergy", ENERGY + "Qwen/Qwen3-8B,gpqa,H100,0,fp8,1,1,1,32,800,1600,480,0.3\n", "2: num_gpus: '0' is"),
        ("aiconfigurator", SILICON + 'a,"' + "x" * 140_000 + '"\n', "not CSV (field larger than field limit"),
        (
            "llm-inference-bench",
            BENCH + LATENCY.format(latency=12.8, rate=640, watts=250),
            "avg_power: 250 mW is below",
        ),
        (
            "mlenergy",
            ENERGY + "Qwen/Qwen3-8B,gpqa,H100,1,bfloat16,1,1,1,32,800,1600,-3,0.5\n",
            "rows.csv:2: avg_power_watts: '-3' is not",
        ),
        (
            "mlenergy",
            ENERGY + "Qwen/Qwen3-8B,gpqa,H100,1,bfloat16,1,1,1,32,800,1600,450000,0.28\n",
            "rows.csv:2: energy_per_token_joules: 0.28 J is not 450000 W",
        ),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path: Path, kind: str, text: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        readers.read(file(tmp_path, text), kind)
    assert told in str(refused.value)


@pytest.mark.parametrize("kind", list(readers.FORMATS))
def test_an_empty_file_is_called_so(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="an empty file; the first line names columns: "):
        readers.read(file(tmp_path, "\n\n"), kind)


def test_a_foreign_column_is_told_and_not_read(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    text = SILICON.replace("id,", "notebook,id,") + "x," + DENSE.format(b=8, ttft=50, tpot=10)
    assert readers.read(file(tmp_path, text), "aiconfigurator").ignored == ["notebook"]
    code, out, told = run("profiles", "evaluate", str(file(tmp_path, text)), "--format", "aiconfigurator", "--json")
    assert (code, json.loads(out)["ignored"]) == (0, ["notebook"])
    assert "rows.csv:1: columns not of this format, ignored: notebook" in told
    twice = SILICON.replace("id,", "id,id,") + "x," + DENSE.format(b=8, ttft=50, tpot=10)
    with pytest.raises(InputError, match="two columns of one name"):
        readers.read(file(tmp_path, twice), "aiconfigurator")


def test_a_column_of_a_later_dump_is_no_slip_of_the_pen(tmp_path: Path) -> None:
    """comm_quant_mode is all but gemm_quant_mode, which is there: a column of its own."""
    text = SILICON.replace("id,", "comm_quant_mode,id,", 1) + "half," + DENSE.format(b=8, ttft=50, tpot=10)
    assert readers.read(file(tmp_path, text), "aiconfigurator").ignored == ["comm_quant_mode"]


def test_figures_that_are_empty_or_zero_are_not_measured_and_told(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    row = "Qwen/Qwen3-8B,gpqa,H100,1,bfloat16,1.0,,1.0,32,800,1600,{w},{j}\n"
    text = ENERGY + row.format(w=480, j=0.3) + row.format(w=0.0, j="").replace("32", "64")
    path = file(tmp_path, text)
    powered, silent = readers.read(path, "mlenergy").rows
    assert (powered.power_w, silent.power_w, silent.energy_j_per_token) == (480, None, None)
    assert silent.tpot_s == pytest.approx(0.04)
    code, out, told = run("profiles", "evaluate", str(path), "--format", "mlenergy", "--json")
    assert (code, json.loads(out)["unmeasured"]) == (0, {"avg_power_watts": 1, "energy_per_token_joules": 1})
    assert "empty or zero, taken as not measured: avg_power_watts (1 rows)" in told


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("fp8_block", "fp8"),
        ("w4a16_mxfp4", "fp4"),
        ("NVFP4", "fp4"),
        ("w4a16", "int4"),
        ("int8_wo", "int8"),
        ("", "bf16"),
    ],
)
def test_precisions_as_engines_spell_them(tmp_path: Path, spelled: str, meant: str) -> None:
    text = SILICON + DENSE.format(b=8, ttft=50, tpot=10).replace("bf16,agg,1024,1024,", f",agg,1024,1024,{spelled}")
    assert readers.read(file(tmp_path, text), "aiconfigurator").rows[0].cell.linear == meant


def test_four_bits_of_integers_are_no_floats(tmp_path: Path) -> None:
    """Kimi K2.5's experts in int4 compute in bf16, as Gpu.flops has it; gpt-oss's in mxfp4 are fp4."""
    row = "b,silicon_concurrency=8,vllm,{},b200_sxm,{},agg,1024,1024,{},{},8,8,1,8,1,90,9\n"
    text = SILICON + row.format("moonshotai/Kimi-K2.5", "int4", "int4_wo", "int4_wo")
    text += row.format("openai/gpt-oss-120b", "fp4", "nvfp4", "nvfp4").replace(",90,", ",91,")
    kimi, oss = (r.cell for r in readers.read(file(tmp_path, text), "aiconfigurator").rows)
    assert [(c.linear, c.experts) for c in (kimi, oss)] == [("bf16", "int4"), ("bf16", "fp4")]
    assert kimi.gpu.flops(kimi.experts) == kimi.gpu.flops_bf16


def test_gpus_in_line_are_not_scored_and_two_pools_added_up_stand_apart(tmp_path: Path) -> None:
    head = SILICON.replace("tp_size,attention", "tp_size,pp_size,attention", 1)
    moe = "b,silicon_concurrency=32,trtllm,deepseek-ai/DeepSeek-R1,gb200,fp4,agg,8192,1024,nvfp4,nvfp4,"
    rows = [moe + f"32,{tp},{pp},1,{tp},1,900,{tpot}\n" for tp, pp, tpot in ((8, 1, 20), (64, 1, 21), (8, 2, 22))]
    read = readers.read(file(tmp_path, head + "".join(rows)), "aiconfigurator")
    assert [(r.cell.world, r.cell.apart) for r in read.rows] == [(8, False), (64, True)]
    assert read.unknown == {"pp_size 2": 1}
    with pytest.raises(InputError, match=r"no row of a known model and GPU \(pp_size 2\)"):
        readers.read(file(tmp_path, head + rows[2]), "aiconfigurator")


def test_latency_and_throughput_that_disagree_are_doubtful(tmp_path: Path) -> None:
    text = BENCH + "".join(LATENCY.format(latency=12.8, rate=r, watts=250_000) for r in (640, 1280))
    sound, halved = readers.read(
        file(tmp_path, text.replace(",4,12.8,1280", ",8,12.8,640")), "llm-inference-bench"
    ).rows
    severe, why = doubt.severity([sound, halved])
    assert (severe[0], why[1]) == (0.0, "latency and throughput disagree")
    assert severe[1] == pytest.approx(2.0 / doubt.DISAGREES)


def test_a_batch_that_ran_is_not_cut_to_what_memory_is_reckoned_to_hold() -> None:
    asked = request.cell(H100, "qwen3-14b")
    ran = replace(asked, source="mlenergy", task="gpqa")
    found = predictor.load().predict(Columns.of([asked, ran], [900.0] * 2, [300.0] * 2, [4000.0] * 2))
    assert found.batch[0] < 900 == found.batch[1]


def test_which_rows_are_flagged_does_not_hang_on_their_order() -> None:
    many = rows_of([8] * 60, [0.010 + 1e-5 * k for k in range(60)], unstated=True)
    severe = doubt.severity(many)[0]
    first, last = (
        {r.tpot_s for r, flagged in zip(rows, doubt.flags(severe, rows), strict=True) if flagged}
        for rows in (many, many[::-1])
    )
    assert first == last
    assert len(first) == 3


def rows_of(batches: list[int], tpots: list[float], **changes: Any) -> list[Row]:
    cell = request.cell(H100, "llama-3.1-8b")
    made = (
        Row(n, cell, b, 1024, 1024, t, 0.05, lengths_fixed=True)
        for n, (b, t) in enumerate(zip(batches, tpots, strict=True))
    )
    return [replace(r, **changes) for r in made]


def test_a_machine_most_of_whose_rows_are_doubtful_is_doubtful_whole() -> None:
    mostly = rows_of([2, 4, 8, 16], [0.04, 0.02, 0.016, 0.012])
    severe, why = doubt.severity(mostly)
    assert why == ["slower at a smaller batch"] + [doubt.MACHINE] * 3
    assert severe[3] == max(severe) == pytest.approx(0.04 / 0.012 / doubt.FALLS)
    assert doubt.severity(mostly[2:] + rows_of([16, 16], [0.0119, 0.0121]))[1][2:] == ["", ""]


def test_a_band_grows_with_few_units_and_hears_each() -> None:
    rows = rows_of([8] * 105, [0.01] * 105)
    other = request.cell("b200-sxm-180gb", "llama-3.1-8b")
    rows[100:] = (replace(r, cell=other) for r in rows[100:])
    errors = np.array([0.1] * 100 + [0.3] * 5)
    held = train.Held(train.Rows(rows, np.ones(105, bool), np.zeros(105, bool)), {"tpot": errors}, np.ones(105, int))
    assert np.log(train.band(held, "tpot", "T1")) == pytest.approx(0.3 * 1.5**0.5)
    held.tier[:] = 0
    assert np.log(train.band(held, "tpot", "cfg")) == pytest.approx(np.quantile(errors, 0.9))


def test_pictures_and_hybrids_have_bands_of_their_own() -> None:
    cell = replace(request.cell(H100, "llama-3.1-8b"), source="mlenergy", task="gpqa")
    found = predictor.load().predict(
        Columns.of([cell, replace(cell, task="video-chat")], [8] * 2, [1e3] * 2, [1e3] * 2)
    )
    assert found.tier.tolist() == [0, 0]
    assert 1.0 < found.band["tpot"][0] < found.band["tpot"][1]


def test_rules_of_doubt() -> None:
    severe, why = doubt.severity(rows_of([8, 16, 32], [0.012, 0.008, 0.009]))
    assert why == ["slower at a smaller batch", "", ""]
    assert severe[0] == pytest.approx(0.012 / 0.008 / doubt.FALLS)
    assert doubt.severity(rows_of([8], [0.002]))[1] == ["weights read faster than memory can"]
    assert doubt.severity(rows_of([8], [0.01], ttft_s=60.0))[1] == ["waits longer for the first token than it decodes"]
    assert doubt.severity(rows_of([1024], [0.0044]))[1] == ["more operations than the GPUs can do"]
    assert doubt.severity(rows_of([8], [0.01], unstated=True))[1] == ["concurrency, prompt length or GPUs not stated"]
    twins = [*rows_of([8], [0.012]), *rows_of([8], [0.036])]
    severe, why = doubt.severity(twins)
    assert why == ["contradicts a row of the same configuration"] * 2
    assert severe.tolist() == pytest.approx([3.0 / doubt.CONTRADICTS] * 2)
    jitter = doubt.severity(rows_of([8], [0.01], jitter=2.6))
    assert (jitter[1], jitter[0][0]) == (["tokens jitter though hardly a step carries a prompt"], 2.0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_a_twentieth_is_flagged_at_most_and_the_worst(severe: list[float]) -> None:
    flagged = doubt.flags(np.array(severe))
    assert flagged.sum() <= doubt.MOST * len(severe)
    if flagged.any():
        assert np.array(severe)[flagged].min() >= max(
            [s for s, f in zip(severe, flagged, strict=True) if not f], default=0
        )
        assert np.all(np.array(severe)[flagged] > 0)


class Fixed:
    """Predicts 11 ms everywhere, with a band of 1.2."""

    name, source = "fixed", "a test"

    def predict(self, columns: Columns) -> Prediction:
        n, nan = np.ones(len(columns)), np.full(len(columns), np.nan)
        band = {k: 1.2 * n if k == "tpot" else nan for k in BANDED}
        return Prediction(
            columns.batch, 0.011 * n, 0.011 * n, nan, nan, nan, nan, np.zeros(len(columns), dtype=np.int64), band
        )


def test_evaluate_by_hand(tmp_path: Path) -> None:
    text = SILICON + "".join(DENSE.format(b=b, ttft=50, tpot=t) for b, t in ((8, 10), (16, 11), (32, 22)))
    found = evaluate(file(tmp_path, text), "aiconfigurator", Fixed())
    assert (found["rows"], found["scored"], found["flagged"]) == (3, 3, 0)
    overall = found["overall"]
    assert overall["tpot_mape"] == pytest.approx((0.1 + 0.0 + 0.5) / 3)
    assert overall["band_coverage"] == pytest.approx(2 / 3)
    assert overall["band_half_width"] == pytest.approx(0.2)
    assert overall["power_mape"] is None
    assert found["all_rows"] == overall
    assert {(g["tier"], g.get("gpu", g["kind"]), g["scored"]) for g in found["groups"]} == {
        ("cfg", "dense", 3),
        ("cfg", H100, 3),
    }


CELLS = st.builds(
    lambda gpu, model, precision, engine: request.cell(gpu, model, 8, precision, engine),
    st.sampled_from([H100, "b200-sxm-180gb", "a100-sxm-80gb", "mi300x", "l40s"]),
    st.sampled_from(["llama-3.1-8b", "qwen3-32b", "gpt-oss-120b", "mixtral-8x7b", "llama-3.1-70b"]),
    st.sampled_from(["bf16", "fp8", "fp4"]),
    st.sampled_from(["vllm", "trtllm", "sglang", "some-engine"]),
)


@settings(max_examples=60, deadline=None)
@given(CELLS, st.floats(1, 512), st.integers(1, 16384), st.integers(2, 8192))
def test_predictions_are_sane(cell: Cell, batch: float, prompt: int, output: int) -> None:
    p = predictor.load().predict(columns(cell, batch, prompt, output))
    for column in (p.batch, p.tpot_s, p.ttft_s, p.power_w, p.energy_j_per_token):
        assert np.isfinite(column[0])
        assert column[0] > 0
    assert 0.0 <= p.prefill_share[0] <= 1.0
    assert p.power_w[0] <= cell.world * (cell.gpu.tdp_w or 700.0)
    assert p.batch[0] <= batch
    for name in BANDED:
        assert p.band[name][0] >= 1.0  # the band holds its middle


@settings(max_examples=60, deadline=None)
@given(CELLS, st.floats(1, 256), st.integers(1, 8192), st.integers(2, 4096))
def test_time_grows_with_tokens_in_the_form(cell: Cell, batch: float, prompt: int, output: int) -> None:
    fitted = serving.load().families[serving.family(cell)].parameters

    def e2e(prompt: int, output: int) -> float:
        c = columns(cell, batch, prompt, output)
        t = form.times(c, fitted.columns(c))
        return float(t.ttft_s[0] + (output - 1) * t.tpot_s[0])

    before = e2e(prompt, output)
    c = columns(cell, batch, prompt, output)
    if c.work.capacity_tokens[0] > batch * 2 * (prompt + output):  # else more tokens mean fewer requests that share
        assert e2e(2 * prompt, output) >= before
        assert e2e(prompt, 2 * output) >= before


def test_tiers() -> None:
    def tier(*names: Any) -> int:
        return int(predictor.load().predict(columns(request.cell(*names))).tier[0])

    assert tier(H100, "llama-3.1-70b", 4, "fp8", "vllm") == 0
    assert tier(H100, "llama-3.3-70b", 4, "fp8", "vllm") == 0  # one shape under two names
    assert tier(H100, "mistral-small-24b") == 1
    assert tier("l40s", "llama-3.1-8b") == 2
    assert tier("mi300x", "llama-3.1-8b") == 3
    assert tier(H100, "llama-3.1-8b", 1, "bf16", "some-engine") == 3


def test_no_band_of_watts_passes_the_limit(run: Callable[..., tuple[int, str, str]]) -> None:
    asked = ("--model", "llama-3.1-70b", "--gpu", H100, "--tp", "4", "--batch", "256", "--zone", "quebec", "--json")
    watts = json.loads(run("predict", *asked)[1])["request"]["power_w"]
    assert 0.0 < watts["low"] < watts["mid"] <= watts["high"] <= 4 * 700.0


def test_joules_of_the_phases_add_up_and_hosts_are_billed() -> None:
    place = request.Place(100.0, pue=1.5)
    c = columns(request.cell(H100, "llama-3.1-8b"), 16, 512, 200)
    p = predictor.load().predict(c)
    g = request.carbon(c, p, place)
    assert g.prompt_j[0] + g.decode_j[0] == pytest.approx(p.energy_j_per_token[0] * 200)
    billed = g.prompt_j[0] + g.decode_j[0] + g.host_j[0]
    assert g.operational_g[0] == pytest.approx(billed * 1.5 / 3.6e6 * 100)
    assert g.embodied_low_g[0] <= g.embodied_g[0] <= g.embodied_high_g[0]


def test_a_model_saved_and_read_again_predicts_the_same() -> None:
    model = serving.load()
    again = serving.restore(json.loads(json.dumps(serving.dump(model))))
    c = columns(request.cell(H100, "llama-3.1-70b", 4, "fp8"))
    assert again.predict(c).tpot_s[0] == pytest.approx(model.predict(c).tpot_s[0], rel=1e-3)


def test_choices_of_the_commands_are_those_of_the_library() -> None:
    assert set(predict_command.PREDICTORS) == set(predictor.PREDICTORS)
    assert set(evaluate_command.FORMATS) == set(FORMATS)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            cli.main(list(args))
        text = capsys.readouterr()
        return int(leaving.value.code or 0), text.out, text.err

    return call


def test_predict_command(run: Callable[..., tuple[int, str, str]]) -> None:
    asked = ("predict", "--model", "llama-3.1-70b", "--gpu", H100, "--tp", "4", "--batch", "32", "--zone", "quebec")
    code, out, _ = run(*asked, "--json")
    found = json.loads(out)
    assert (code, found["tier"], found["predictor"]) == (0, "cfg", "roofline")
    for key in ("ttft_s", "tpot_s", "e2e_s", "prefill_j", "decode_j", "energy_j", "operational_g", "embodied_g"):
        figure = found["request"][key]
        assert figure["low"] <= figure["mid"] <= figure["high"]
    per = found["per_1k_output_tokens"]["operational_g"]["mid"]
    assert per == pytest.approx(found["request"]["operational_g"]["mid"] * 1000 / 256)
    code, out, _ = run(*asked)
    assert code == 0
    assert "tier cfg" in out


def test_predict_refuses_what_cannot_be(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("predict", "--model", "llama-3.1-70b", "--gpu", H100)
    assert (code, "use more GPUs (--tp)" in err, err.count("\n")) == (1, True, 1)
    assert run("predict", "--model", "llama-3.1-7b", "--gpu", H100)[0] == 1
    assert run("predict", "--model", "llama-3.1-8b", "--gpu", H100, "--batch", "0")[0] == 2


def test_evaluate_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    path = file(tmp_path, SILICON + DENSE.format(b=8, ttft=50, tpot=7.5))
    code, out, _ = run("profiles", "evaluate", str(path), "--format", "aiconfigurator", "--json")
    found = json.loads(out)
    assert code == 0
    assert 0 < found["overall"]["tpot_mape"] < 1
    code, out, _ = run("profiles", "evaluate", str(path), "--format", "aiconfigurator", "--predictor", "equations")
    assert code == 0
    assert "1 rows: 1 scored" in out


@pytest.mark.parametrize(
    ("name", "kind", "figure", "most"),
    [
        ("aiconfigurator/silicon_sample.csv", "aiconfigurator", "tpot_mape", 0.15),
        ("mlenergy/leaderboard_llm.csv", "mlenergy", "energy_mape", 0.15),
        ("llm-inference-bench/All_results.csv", "llm-inference-bench", "tpot_mape", 0.10),
    ],
)
def test_rows_it_was_fitted_to(shared: Path, name: str, kind: str, figure: str, most: float) -> None:
    found = evaluate(shared / "profiles" / name, kind, predictor.load())
    assert found["overall"][figure] < most
    assert found["flagged"] <= 0.05 * found["rows"]
    assert found["scored"] + found["flagged"] + found["repeated"] + sum(found["unknown"].values()) == found["rows"]


def test_parameters_never_seen_have_no_deviation() -> None:
    p = Parameters(dict(start().common), {"gpu": {"l4": {"bandwidth": 0.5}}})
    c = columns(request.cell(H100, "llama-3.1-8b"))
    assert p.columns(c)["bandwidth"][0] == pytest.approx(PARAMETERS["bandwidth"][0])


def test_a_graph_network_by_hand() -> None:
    """Two kernels in a row: own features pass, the neighbour's are added, the larger kernel is pooled."""
    one, none = np.ones((1, 1)), np.zeros((1, 1))
    w = {"own0": one, "near0": one, "bias0": np.zeros(1), "own1": one, "near1": none, "bias1": np.zeros(1)}
    w |= {"mix": np.array([[1.0], [10.0]]), "mix_bias": np.zeros(1), "out": one, "out_bias": np.array([0.5])}
    near = graph.mean_neighbours(2, ((0, 1),))
    found = graph.forward(w, np.array([[[2.0], [-3.0]]]), near, np.array([[0.1]]))
    assert found[0] == pytest.approx(max(0.0, 2.0 - 3.0) + 10 * 0.1 + 0.5)
    found = graph.forward(w, np.array([[[2.0], [3.0]]]), near, np.array([[0.1]]))
    assert found[0] == pytest.approx(5.0 + 1.0 + 0.5)


def test_torch_and_numpy_run_the_same_network() -> None:
    torch = pytest.importorskip("torch", reason="the networks are trained with torch")
    from carbonfleet.reproduce.llmco2.networks import Network

    torch.manual_seed(1)
    net = Network(3, 4)
    rng = np.random.default_rng(0)
    nodes, facts = rng.normal(size=(6, 5, 3)), rng.normal(size=(6, 4))
    near = graph.mean_neighbours(5, graph.EDGES)
    theirs = net(*(torch.tensor(x, dtype=torch.float32) for x in (nodes, near, facts))).detach().numpy()
    assert graph.forward(net.arrays(), nodes, near, facts) == pytest.approx(theirs, abs=1e-4)


def test_the_shipped_networks_answer() -> None:
    c = columns(request.cell(H100, "qwen3-32b", 2, "fp8"))
    p = predictor.load("graph").predict(c)
    assert p.tpot_s[0] == pytest.approx(predictor.load().predict(c).tpot_s[0], rel=0.5)
    assert np.isnan(p.power_w[0])
    assert p.band["tpot"][0] > 1.0


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "precision"),
    [(H100, "llama-3.1-70b", 4, "fp8"), ("l40s", "qwen3-8b", 1, "bf16"), ("mi300x", "mixtral-8x7b", 2, "bf16")],
)
def test_a_predicted_profile_is_sound_and_serves(gpu: str, model: str, tp: int, precision: str) -> None:
    cell = request.cell(gpu, model, tp, precision)
    made = step_profile(serving.load(), cell)
    assert contradictions(made) == []
    steps = StepModel(made)
    assert steps.decode_time_s(64, 64 * 1024) > steps.decode_time_s(1, 1024) > 0
    assert steps.prefill([(4096, 0)]).time_s > steps.prefill([(512, 0)]).time_s
    served = serve(steps, 1024, 512, 16)
    assert served is not None
    whole = predictor.load().predict(columns(cell, 16, 1024, 512))
    assert served.tpot_s == pytest.approx(whole.tpot_s[0], rel=0.25)  # apart: the bunching of prompts and corrections
    assert (made.provenance.kind, made.band.time >= 1.0) == ("predicted", True)


def test_predict_writes_a_profile(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = run("predict", "--model", "qwen3-8b", "--gpu", "l40s", "-o", str(tmp_path), "--json")
    found = json.loads(out)
    assert (code, load(found["profile"]).key) == (0, "l40s_qwen3-8b_tp1_bf16_vllm")


@pytest.mark.parametrize(("name", "unknown"), [("graph", ("energy_j", "operational_g")), ("equations", ())])
def test_what_a_predictor_does_not_know_is_null(
    run: Callable[..., tuple[int, str, str]], name: str, unknown: tuple[str, ...]
) -> None:
    asked = ("predict", "--model", "qwen3-32b", "--gpu", H100, "--tp", "2", "--predictor", name)
    code, out, _ = run(*asked, "--json")
    figures = json.loads(out)["request"]
    assert code == 0
    assert figures["tpot_s"]["mid"] > 0
    assert all(figures[key] is None for key in unknown)
    assert name == "graph" or figures["tpot_s"]["low"] is None
    assert "nan" not in run(*asked)[1]


@pytest.mark.parametrize(
    ("name", "known", "billions"),
    [
        ("zai-org/GLM-4.6-FP8", "glm-4.5", 355), ("zai-org/GLM-4.5-Air", "glm-4.5-air", 106),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3-next-80b-a3b", 80), ("Qwen/Qwen3.5-27B", "qwen3.5-27b", 27),
        ("Qwen/Qwen3.5-35B-A3B", "qwen3.5-35b-a3b", 35), ("Qwen/Qwen3.5-122B-A10B", "qwen3.5-122b-a10b", 122),
        ("XiaomiMiMo/MiMo-V2-Flash", "mimo-v2-flash", 309), ("stepfun-ai/Step-3.5-Flash", "step-3.5-flash", 196),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron-3-nano-30b-a3b", 31.6),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1_5", "nemotron-super-49b", 49.9),
        ("mistralai/Mistral-Large-Instruct-2411", "mistral-large-123b", 123), ("google/gemma-7b", "gemma-7b", 8.54),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "qwen2.5-72b", 72.7), ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-7b", 7.6),
    ],
)  # fmt: skip
def test_names_of_public_files_and_the_weights_their_shapes_add_up_to(name: str, known: str, billions: float) -> None:
    """The totals are those that the models' cards state."""
    llm = names.model(name)
    assert (llm.name, llm.contradictions()) == (known, [])
    assert llm.counted_params == pytest.approx(1e9 * billions, rel=0.011)


@pytest.mark.parametrize(
    "name", ["zai-org/GLM-4.5V", "zai-org/GLM-4.7-Flash", "Mistral-Large-3-675B", "Qwen2-57B-A14B"]
)
def test_kin_of_another_shape_are_not_taken_for_it(name: str) -> None:
    with pytest.raises(names.UnknownNameError):
        names.model(name)


def llmco2_rows(rows: int) -> str:
    """Two models whose labels are exactly of the form, summed up step by step; the last row twice."""
    lines = [",".join([*(f"g{i}" for i in range(12)), "label_prefill", "label_decode"])]
    rng = np.random.default_rng(0)
    for model in (-1.0, 1.0):
        for _ in range(rows):
            prompt, output, scale = int(rng.integers(7, 6000)), int(rng.integers(12, 900)), 1.5 + 0.5 * model
            padded = (min(4096, 8 * -(-prompt // 8)) + min(4096, 128 * -(-prompt // 128))) / 2000
            prefill = 1 + np.cbrt(0.02**3 + padded**3) + 0.015 * 0.87 / 0.47 * padded**2
            decode = sum(2 + min(prompt + step, 4096) / 1e3 for step in range(1, output))
            facts = [0.0] * 3 + [model] + [0.0] * 6 + [(prompt - 1156.455) / 1120.89, (output - 213.5635) / 164.43884]
            lines.append(",".join(map(str, [*facts, scale * prefill, scale * decode])))
    return "\n".join([*lines, lines[-1]]) + "\n"


def test_llmco2_rows_set_their_own_scale(tmp_path: Path) -> None:
    found = evaluate(file(tmp_path, llmco2_rows(40)), "llmco2", predictor.load())
    assert (found["rows"], found["repeated"], found["calibrated_on"], found["scored"]) == (81, 1, 16, 64)
    assert found["overall"]["ttft_mape"] < 1e-6
    assert found["overall"]["tpot_mape"] < 1e-6
    assert found["overall"]["band_coverage"] is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (llmco2_rows(40).replace("g11", "g12"), "rows.csv:1: g11: no such column"),
        (llmco2_rows(3), "3 rows of one model"),
        (llmco2_rows(40).replace("\n", "\nx,", 1), "rows.csv:2: a cell is no number"),
    ],
)
def test_bad_llmco2_rows_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        evaluate(file(tmp_path, text), "llmco2", predictor.load())
    assert told in str(refused.value)
    with pytest.raises(InputError, match="cannot know the unit"):
        evaluate(file(tmp_path, llmco2_rows(40)), "llmco2", predictor.load("equations"))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_llmco2s_own_rows(shared: Path, part: str) -> None:
    found = evaluate(shared / "llmco2" / f"{part}.csv", "llmco2", predictor.load())
    assert found["overall"]["ttft_mape"] < 0.03
    assert found["overall"]["tpot_mape"] < 0.01
