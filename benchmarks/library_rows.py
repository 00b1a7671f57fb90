"""Public measurements as rows of one kind, with what disqualifies a row (docs/profiles.md lists the rules)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from profiles.predict.roofline import Card, Shape

SHAPES = {
    "llama-2-7b": Shape(32, 4096, 11008, 32, 32, 128, 32000),
    "llama-2-70b": Shape(80, 8192, 28672, 64, 8, 128, 32000),
    "llama-3.1-8b": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "llama-3.1-70b": Shape(80, 8192, 28672, 64, 8, 128, 128256),
    "llama-1-30b": Shape(60, 6656, 17920, 52, 52, 128, 32000),
    "qwen3-8b": Shape(36, 4096, 12288, 32, 8, 128, 151936),
    "qwen3-14b": Shape(40, 5120, 17408, 40, 8, 128, 151936),
    "qwen3-32b": Shape(64, 5120, 25600, 64, 8, 128, 151936),
}
NAMES = {  # the sources' spellings; Llama 3, 3.1 and 3.3 of one size share one shape
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "meta-llama/Meta-Llama-3-8B": "llama-3.1-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Meta-Llama-3-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.1-70b",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-32B": "qwen3-32b",
}
PROMPT = {"lm-arena-chat": 250.0, "gpqa": 300.0}  # ML.ENERGY does not state prompt lengths: assumed


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure: `kind` says what `time_s` is (mean or decode step, whole batch, ttft, layer_*)."""

    source: str
    gpu: str
    model: str
    tp: int
    weight_bytes: float
    kind: str
    batch: float
    prompt: float
    output: float
    time_s: float
    power_w: float | None = None
    weight: float = 1.0


def every(folder: Path) -> list[Row]:
    """All rows that may be fitted to."""
    return [*mlenergy(folder), *silicon(folder), *inference_bench(folder), *helix(folder)]


def records(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(line for line in stream if line.strip())


def mlenergy(folder: Path) -> Iterator[Row]:
    """H100, dense, bf16: the mean step (batch / throughput) and, where few steps carry a prompt, the median ITL."""
    for r in records(folder / "mlenergy" / "leaderboard_llm.csv"):
        if r["gpu_model"] != "H100" or r["prec"] != "bfloat16" or r["task"] not in PROMPT or r["model"] not in NAMES:
            continue
        batch, output = float(r["avg_batch_size"]), float(r["avg_output_len"])
        if batch < 0.97 * float(r["max_num_seqs"]):  # limited by memory: preemption hides in the figures
            continue
        base = Row("mlenergy", "h100", NAMES[r["model"]], int(float(r["par_tensor_parallel"])), 2.0, "mean", batch,
                   PROMPT[r["task"]], output, batch / float(r["output_throughput_tokens_per_sec"]),
                   float(r["avg_power_watts"]))  # fmt: skip
        yield base
        if batch / output < 0.3:
            yield replace(base, kind="decode", time_s=float(r["median_itl_ms"]) / 1e3, power_w=None)


def silicon(folder: Path) -> Iterator[Row]:
    """H100 vLLM, dense, aggregated: TPOT, and TTFT at concurrency 4; exact duplicates dropped."""
    seen = set()
    for r in records(folder / "aiconfigurator" / "silicon_sample.csv"):
        if r["system"] != "h100_sxm" or r["backend"] != "vllm" or r["mode"] != "agg" or r["model_path"] not in NAMES:
            continue
        if r["isl"] == "4000":  # three rows whose TPOT holds no prefill (another tool): a third of any estimate
            continue
        key = tuple(v for k, v in r.items() if k not in ("id", "silicon_data_source"))
        if key in seen:
            continue
        seen.add(key)
        batch, prompt, output = float(r["batch_size"]), float(r["isl"]), float(r["osl"])
        ttft, tpot = float(r["silicon_ttft_ms"]) / 1e3, float(r["silicon_tpot_ms"]) / 1e3
        row = Row("silicon", "h100", NAMES[r["model_path"]], int(r["tp_size"]),
                  1.0 if r["precision"] == "fp8" else 2.0, "mean", batch, prompt, output, tpot)  # fmt: skip
        waiting = ttft > 0.1 * output * tpot and batch > 32 and prompt > 2000  # queued for memory
        if waiting or not _fits(row, 80e9):
            continue
        yield row
        if batch == 4:
            yield replace(row, kind="ttft", time_s=ttft, weight=0.5)


def inference_bench(folder: Path) -> Iterator[Row]:
    """A100-40GB and H100, vLLM of 2024, bf16: latency of a whole batch, prompt and output of one length."""
    power = {}
    keys = ("Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length", "Batch Size")
    for r in records(folder / "llm-inference-bench" / "power_results_16ab.csv"):
        power[tuple(r[k] for k in keys)] = float(r["avg_power"]) / 1e3  # milliwatts
    gpus = {"Nvidia A100 GPU": ("a100-40", 40e9), "Nvidia H100 GPU": ("h100", 80e9)}
    for r in records(folder / "llm-inference-bench" / "All_results.csv"):
        if r["Framework"] != "vLLM" or r["Hardware"] not in gpus or r["Model"] not in NAMES:
            continue
        gpu, memory_bytes = gpus[r["Hardware"]]
        n = float(r["Input Output Length"])
        row = Row("bench", gpu, NAMES[r["Model"]], int(r["Num of Hardware"]), 2.0, "whole", float(r["Batch Size"]),
                  n, n, float(r["Latency"]), power.get(tuple(r[k] for k in keys)))  # fmt: skip
        if _fits(row, memory_bytes):  # otherwise the batch ran in waves
            yield row


def helix(folder: Path) -> Iterator[Row]:
    """L4, milliseconds of one layer against tokens.

    Decode rows hold attention over an unstated context: only the 70B's (grouped heads), at small batches.
    """
    for name, model in (("llama2_70b", "llama-2-70b"), ("llama1_30b", "llama-1-30b")):
        for phase, top in (("decode", 30), ("prompt", 4000)):
            path = folder / "helix" / name / "l4" / f"{phase}_bs2time.csv"
            for tokens, ms in (tuple(map(float, line.split(","))) for line in path.read_text().split()):
                if 0 < tokens <= top and (phase == "prompt" or model == "llama-2-70b"):
                    yield Row("helix", "l4", model, 1, 2.0, f"layer_{phase}", tokens, tokens, 0, ms / 1e3, None, 0.5)


def gemm_shares(folder: Path, system: str, version: str, card: Card) -> tuple[float, float]:
    """Median (bandwidth, compute) share reached by bf16 GEMMs of transformer size: small m, then large m."""
    import pyarrow.parquet as pq

    path = folder / "aiconfigurator" / "data" / system / "gemm" / "vllm" / version / "gemm_perf.parquet"
    moves, computes = [], []
    for r in pq.read_table(path).to_pylist():
        m, n, k, time_s = int(r["m"]), int(r["n"]), int(r["k"]), float(r["latency"]) / 1e3
        if r["gemm_dtype"] != "bfloat16" or k not in (4096, 8192) or not 6144 <= n <= 51200:
            continue
        if m <= 64:
            moves.append(2.0 * (n * k + m * k + m * n) / time_s / card.bandwidth_bytes_per_s)
        elif 1024 <= m <= 8192:
            computes.append(2.0 * m * n * k / time_s / card.flops)
    return float(np.median(moves)), float(np.median(computes))


def _fits(row: Row, memory_bytes: float) -> bool:
    shape = SHAPES[row.model]
    weights = (shape.linear_params + 2 * shape.head_params) * row.weight_bytes
    free = (0.9 * memory_bytes - 2.5e9) * row.tp - weights
    return row.batch * (row.prompt + row.output) * shape.kv_bytes_per_token() <= free
