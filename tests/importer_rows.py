"""Own-made files of public profile formats: figures follow a stated machine, so that what comes out is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profiles.importers.serving import POWER, TIME, Step
from profiles.importers.work import Work
from profiles.spellings import gpu, model

MACHINE = TIME | POWER | {"host_s": 2e-3, "sequence_s": 3e-5, "compute": 0.6, "bandwidth": 0.8, "base": 0.35}
SILICON = ("id", "silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode",
           "isl", "osl", "batch_size", "tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size",
           "silicon_ttft_ms", "silicon_tpot_ms")  # fmt: skip
LEADERBOARD = ("model", "task", "gpu_model", "num_gpus", "prec", "par_data_parallel", "max_num_seqs", "avg_batch_size",
               "avg_output_len", "median_itl_ms", "output_throughput_tokens_per_sec", "avg_power_watts",
               "energy_per_token_joules")  # fmt: skip
BENCH = ("Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length", "Batch Size", "Latency",
         "Throughput", "avg_power")  # fmt: skip


def machine(name: str, card: str, gpus: int, precision: str = "bf16") -> Step:
    """The stated machine running a model."""
    return Step(Work(gpu(card), model(name), gpus, precision), MACHINE)


def table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    """CSV text; cells not given are empty."""
    lines = [",".join(columns)]
    lines += [",".join(str(row.get(name, "")) for name in columns) for row in rows]
    return "\n".join(lines) + "\n"


def silicon(
    name: str = "meta-llama/Llama-3.1-8B-Instruct", card: str = "h100_sxm", gpus: int = 1, **more: Any
) -> list[dict[str, Any]]:
    """Rows of silicon_sample at six concurrencies."""
    step = machine(name, card, gpus)
    rows = []
    for batch in (4, 8, 16, 32, 64, 128):
        tpot, _ = step.mean(float(batch), 1024.0, 1024.0, 0.7, False)
        first = 1e-2 + 0.5 * tpot + step.time_s(1024.0, 0.5 * 1024.0**2, float(batch), 1536.0)
        rows.append({
            "id": f"a_c{batch}_b", "backend": "vllm", "backend_version": "0.19.0", "model_path": name, "system": card,
            "precision": "bf16", "mode": "agg", "isl": 1024, "osl": 1024, "batch_size": batch, "tp_size": gpus,
            "pp_size": 1, "silicon_ttft_ms": 1e3 * float(first), "silicon_tpot_ms": 1e3 * float(tpot),
        } | more)  # fmt: skip
    return rows


def leaderboard(
    name: str = "meta-llama/Llama-3.1-8B-Instruct", card: str = "H100", gpus: int = 1, **more: Any
) -> list[dict[str, Any]]:
    """Rows of ML.ENERGY's leaderboard at six batches."""
    step = machine(name, card, gpus)
    rows = []
    for batch in (8, 16, 32, 64, 128, 256):
        time_s, watts = (float(v) for v in step.mean(float(batch), 250.0, 400.0, 1.0, True))
        plain = float(step.time_s(0.0, 0.0, float(batch), 450.0))
        rows.append({
            "model": name, "task": "lm-arena-chat", "gpu_model": card, "num_gpus": gpus, "prec": "bfloat16",
            "max_num_seqs": batch, "avg_batch_size": batch, "avg_output_len": 400.0, "median_itl_ms": 1e3 * plain,
            "output_throughput_tokens_per_sec": batch / time_s, "avg_power_watts": watts,
            "energy_per_token_joules": watts * time_s / batch,
        } | more)  # fmt: skip
    return rows


def leaderboard_json(rows: list[dict[str, Any]]) -> str:
    """The leaderboard's own container of such rows."""
    runs = [
        {k: v for k, v in row.items() if k not in ("model", "task", "prec", "par_data_parallel")}
        | {"parallelization": {"data_parallel": row.get("par_data_parallel") or 1}}
        for row in rows
    ]
    return json.dumps({"model_id": rows[0]["model"], "task": rows[0]["task"], "configurations": runs})


def write(folder: Path, name: str, text: str) -> Path:
    """A file in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def bench(name: str = "meta-llama/Meta-Llama-3-8B", card: str = "Nvidia H100 GPU", **more: Any) -> list[dict[str, Any]]:
    """Rows of LLM-Inference-Bench: batches of 256 tokens in and out, with milliwatts."""
    step = machine(name.split("/")[-1], "h100", 1)
    rows = []
    for batch in (1, 16, 32, 64):
        time_s, watts = (float(v) for v in step.whole(float(batch), 256.0, 256.0, True))
        rows.append({
            "Hardware": card, "Num of Hardware": 1, "Framework": "vLLM", "Model": name, "Input Output Length": 256,
            "Batch Size": batch, "Latency": time_s, "Throughput": 512 * batch / time_s, "avg_power": 1e3 * watts,
        } | more)  # fmt: skip
    return rows


DISTSERVE = {
    "facebook/opt-13b": {
        "1": {
            "decoding_large_small_bs_threshold": 95,
            "prefill": [18.0, 0.1, 7e-6],
            "decoding_smallbs": [20.0, 6e-4, 0.04],
            "decoding_largebs": [7.0, 6e-4, 0.16],
        }
    }
}


def vidur(tp: tuple[int, ...] = (1, 2), **more: Any) -> str:
    """Vidur's linear operators of a Llama 3 8B: each takes .01 ms and .001 ms a token."""
    names = ("input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm",
             "mlp_up_proj", "mlp_act", "mlp_down_proj", "add")  # fmt: skip
    shape = {"n_head": 32, "n_kv_head": 8, "n_embd": 4096, "n_expanded_embd": 14336, "vocab_size": 128256}
    columns = (*(f"time_stats.{name}.median" for name in names), *shape, "num_tokens", "num_tensor_parallel_workers")
    rows = [
        dict.fromkeys(columns[:9], (0.01 + 0.001 * n) / ways)
        | shape
        | {"num_tokens": n, "num_tensor_parallel_workers": ways}
        | more
        for ways in tp
        for n in (4096, 512, 64, 1)
    ]
    return table(columns, rows)


def operations(folder: Path, powered: bool = True, **more: Any) -> Path:
    """aiconfigurator's tables of operations at half the data sheet's rates, watts of the stated machine."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    one = machine("llama-3.1-8b", "h200", 1)
    flops, rate = 0.5 * one.work.gpu.flops_bf16, 0.5 * one.work.gpu.bandwidth_bytes_per_s

    def save(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist([{"version": "0.24.0", "device": "NVIDIA H200"} | row for row in rows]), folder / name
        )

    gemm = []
    for n, k in ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096)):
        for m in (1, 64, 512, 1024, 2048, 4096, 8192, 16384):
            work, moved = 2.0 * m * n * k, 2.0 * (m * n + n * k + m * k)
            time_s = max(work / flops, moved / rate)
            row = {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": 1e3 * time_s}
            gemm.append(row | ({"power": float(one.watts(time_s, work, moved))} if powered else {}))
    gemm[0] |= more
    save("gemm/a.parquet", gemm)
    plain = {"attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "num_heads": 32, "num_key_value_heads": 8,
             "head_dim": 128, "window_size": 0}  # fmt: skip
    save("attention/c.parquet", [
        plain | {"batch_size": 1, "isl": n, "step": 0, "latency": 1e3 * 2 * 4096 * n * n / flops}
        for n in (16, 1024, 8192)
    ])  # fmt: skip
    save("attention/g.parquet", [
        plain | {"batch_size": b, "isl": 1, "step": c, "latency": 1e-3 + 1e3 * b * c * 4096 / rate}
        for b in (1, 16, 256) for c in (1, 1023, 16383)
    ])  # fmt: skip
    save("comm/r.parquet", [
        {"allreduce_dtype": "bfloat16", "num_gpus": 2, "message_size": s, "latency": 5e-3 + 1e-8 * s}
        for s in (128, 1 << 26)
    ])  # fmt: skip
    return folder


MLPERF = """submitter,system,benchmark,scenario,wall_W,seconds
A,H200-SXM-141GBx8_TRT_MaxQ,llama2-70b-99,Offline,6150,3116
A,H200-SXM-141GBx8_TRT_MaxQ,llama2-70b-99.9,Offline,6150,3116
A,H200-SXM-141GBx8_TRT_MaxQ,mixtral-8x7b,Server,6250,2424
A,H200-SXM-141GBx8_TRT_MaxQ,gptj-99,Server,4700,630
A,H200-SXM-141GBx8_TRT_MaxQ,resnet50,Server,5000,600
B,mini-pc,resnet50,Server,30,600
"""
