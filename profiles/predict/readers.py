"""Readers of public serving measurements: aiconfigurator's silicon_sample, ML.ENERGY, LLM-Inference-Bench.

Each gives rows (`Row`) in the file's order. A row that repeats another's configuration and measurement is dropped and
counted. Of two accounts of one run that which tells its decode pools stays, then the less parallel, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from profiles import spellings
from profiles.inputs import InputError, near_miss
from profiles.predict import names, silicon
from profiles.predict.columns import Cell
from profiles.predict.measured import Row
from profiles.predict.records import Record, records

# ML.ENERGY does not state prompt lengths: assumed, the fit corrects each task's cost of a prompt
PROMPTS = {"lm-arena-chat": 250.0, "gpqa": 300.0, "sourcegraph-fim": 500.0, "image-chat": 1000.0, "video-chat": 3000.0}
_MLENERGY = (
    *("model", "task", "gpu_model", "num_gpus", "total_b", "act_b", "arch", "prec", "par_tensor_parallel"),
    *("par_expert_parallel", "par_data_parallel", "max_num_seqs", "avg_batch_size", "avg_output_len", "median_itl_ms"),
    *("p90_itl_ms", "p95_itl_ms", "p99_itl_ms", "output_throughput_tokens_per_sec", "avg_power_watts"),
    *("energy_per_token_joules", "energy_per_request_joules"),
)
_BENCH = ("Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length", "Batch Size", "Latency")
_LEAST_MW = 5000.0  # no GPU under a context draws less: a smaller figure is in another unit


@dataclass(frozen=True, slots=True)
class Read:
    """What a file held: its rows, how many repeat others, and rows of models or GPUs without a known shape, by name.

    `ignored` are columns that the format does not have, `unmeasured` how many cells of a figure are empty or zero.
    """

    rows: list[Row]
    repeated: int
    unknown: dict[str, int]
    ignored: list[str] = field(default_factory=list)
    unmeasured: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Every row of the file."""
        return len(self.rows) + self.repeated + sum(self.unknown.values())


def mlenergy(r: Record) -> Row:
    """ML.ENERGY's leaderboard: mean step (mean batch / output throughput), watts and joules a token in steady state.

    With expert parallelism attention is cut over all GPUs of a data-parallel rank, though the source says 1.
    """
    world, dp = r.count("num_gpus"), r.count("par_data_parallel", 1)
    if world % dp:
        raise r.refuse("par_data_parallel", f"{dp} ranks on {world} GPUs")
    llm, precision = names.model(r.text("model")), r.one_of("prec", silicon.PRECISION) or "bf16"
    linear = "bf16" if llm.name.startswith("gpt-oss") else precision
    task = r.text("task")
    cell = Cell(
        names.gpu(r.text("gpu_model")), llm, "vllm", linear, precision, "bf16", world, world // dp,
        r.count("par_expert_parallel", 1), False, "mlenergy", task,
    )  # fmt: skip
    batch, rate = r.number("avg_batch_size"), r.number("output_throughput_tokens_per_sec")
    watts, joules = r.figure("avg_power_watts"), r.figure("energy_per_token_joules")
    if watts and joules and abs(watts / rate / joules - 1.0) > 0.1:
        raise r.refuse(
            "energy_per_token_joules", f"{joules:g} J is not {watts:g} W over {rate:g} tokens/s", "mixed units?"
        )
    jitter = r.number("p90_itl_ms") / r.number("median_itl_ms") if r.text("p90_itl_ms") else 0.0
    prompt = PROMPTS.get(task, PROMPTS["lm-arena-chat"])
    return Row(
        r.line, cell, batch, prompt, r.number("avg_output_len"), batch / rate, None, watts, joules,
        unstated=task not in PROMPTS, jitter=jitter,
    )  # fmt: skip


def inference_bench(r: Record) -> Row:
    """LLM-Inference-Bench: seconds a token of a batch whose prompts start together (latency / output tokens).

    llama.cpp's rows are of one request on GPUs that hold layers in turn: there `Batch Size` is how many prompt tokens a
    step takes, so its prompt is that many steps more, each as long as an output token's, and TPOT is a step's.
    """
    llm, world = names.model(r.text("Model")), r.count("Num of Hardware")
    gpu, engine = names.gpu(r.text("Hardware")), spellings.engine(r.text("Framework"))
    n, batch = r.number("Input Output Length"), r.number("Batch Size")
    latency = r.number("Latency")
    prompt, steps, task = n, n, ""
    engine = {"trtllm": "tensorrt-llm"}.get(engine, engine)
    if engine == "llama.cpp":
        prompt, steps, batch = max(1.0, n - n / batch), n + n / batch, 1.0
        world, task = 1, f"{world} GPUs in turn" if world > 1 else ""
    milliwatts = r.figure("avg_power") if "avg_power" in r else None
    if milliwatts and milliwatts < _LEAST_MW:
        raise r.refuse("avg_power", f"{milliwatts:g} mW is below any GPU's idle", "is it in watts? give milliwatts")
    watts = milliwatts and milliwatts / 1e3 * world  # of one GPU
    joules = watts and watts * latency / (n * batch)
    told = 2.0 * n * batch / latency / r.number("Throughput") if r.text("Throughput") else 1.0
    cell = Cell(gpu, llm, engine, "bf16", "bf16", "bf16", world, world, 1, False, "bench", task)
    return Row(
        r.line, cell, batch, prompt, n, latency / steps, None, watts, joules, lengths_fixed=True,
        disagreement=max(told, 1.0 / told),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """How a format's rows are made, and the columns it must and may have."""

    row: Callable[[Record], Row]
    needed: tuple[str, ...]
    known: tuple[str, ...]


FORMATS = {
    "aiconfigurator": Format(silicon.row, ("backend", "model_path", "system", "mode", "isl", "osl", "tp_size",
                                       "silicon_ttft_ms", "silicon_tpot_ms"), silicon.KNOWN),
    "mlenergy": Format(mlenergy, ("model", "task", "gpu_model", "num_gpus", "prec", "avg_batch_size", "avg_output_len",
                                  "output_throughput_tokens_per_sec", "avg_power_watts", "energy_per_token_joules"),
                       _MLENERGY),
    "llm-inference-bench": Format(inference_bench, _BENCH, (*_BENCH, "Throughput", "avg_power")),
}  # fmt: skip


def read(path: str | Path, kind: str) -> Read:
    """The rows of a file of a stated format.

    Raises:
        InputError: unknown format, unknown or missing columns, a broken cell.
    """
    if kind not in FORMATS:
        raise InputError(f"unknown format {kind!r}", mend=near_miss(kind, FORMATS))
    form = FORMATS[kind]
    seen: dict[tuple[object, ...], int] = {}
    rows, repeated, unknown, ignored, blank = list[Row](), 0, Counter[str](), list[str](), Counter[str]()
    for record in records(path, form.needed, form.known, ignored):
        try:
            row = form.row(record)
        except names.UnknownNameError as error:
            unknown[error.name] += 1
            continue
        blank.update(record.unmeasured)
        key = _run(row)
        if key in seen:
            repeated += 1
            rows[seen[key]] = min(rows[seen[key]], row, key=_reading)
            continue
        seen[key] = len(rows)
        rows.append(row)
    if not rows:
        told = f" ({', '.join(sorted(unknown))})" if unknown else ""
        raise InputError(f"no row of a known model and GPU{told}", file=path, mend=f"is it {kind}?")
    return Read(rows, repeated, dict(sorted(unknown.items())), ignored, dict(blank))


def _run(r: Row) -> tuple[object, ...]:
    """What tells one run from another: two latencies that agree to nine digits are one run's, whatever else is said."""
    c = r.cell
    if r.tpot_s and r.ttft_s:
        return c.gpu.name, c.llm.name, c.engine, r.prompt, r.output, f"{r.tpot_s:.8e} {r.ttft_s:.8e}"
    return c.gpu.name, c.engine, c.source, c.world, r.batch, r.prompt, r.output, r.tpot_s


def _reading(r: Row) -> tuple[object, ...]:
    """Of two readings of one run the less parallel counts; what else may differ only settles which, in any order."""
    return r.guessed, r.cell.tp, r.cell.ep, r.cell.linear, r.cell.experts, r.unstated
