"""Own-made files of public profile formats: figures follow a stated machine, so that what comes out is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profiles.importers.reading import gpu, model
from profiles.importers.serving import POWER, TIME, Step
from profiles.importers.work import Work

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
