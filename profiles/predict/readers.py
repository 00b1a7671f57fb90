"""Readers of public serving measurements: aiconfigurator's silicon_sample, ML.ENERGY, LLM-Inference-Bench.

Each gives rows (`Row`) in the file's order. A row that repeats another's configuration and measurement is dropped and
counted (of two readings of one run's parallelism the less parallel stays, whatever the order); every broken cell is
refused with its file, line and column.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from profiles import spellings
from profiles.catalog import Gpu
from profiles.importers.reading import Cells
from profiles.inputs import InputError, near_miss, read_text
from profiles.llm import precision_bytes
from profiles.predict import names
from profiles.predict.columns import Cell, reach
from profiles.predict.measured import Row

# ML.ENERGY does not state prompt lengths: assumed, the fit corrects each task's cost of a prompt
PROMPTS = {"lm-arena-chat": 250.0, "gpqa": 300.0, "sourcegraph-fim": 500.0, "image-chat": 1000.0, "video-chat": 3000.0}
_SPELLED = {  # aiconfigurator's and ML.ENERGY's words, and those of vLLM and TensorRT-LLM checkpoints
    "bf16": "bf16 bfloat16 fp16 float16 half auto",
    "fp8": "fp8 fp8_block fp8_static fp8_ootb fp8_pb_wo fp8_e4m3 fp8_dynamic w8a8_fp8 mxfp8",
    "fp4": "fp4 nvfp4 mxfp4 w4a16_mxfp4 w4a8_mxfp4_mxfp8 w4a8_mxfp4_fp8 w4afp8",
    "int8": "int8 int8_wo w8a8 w8a16 sq",
    "int4": "int4 int4_wo int4_awq w4a16 w4a16_awq awq gptq",
    "": "",
}
_PRECISION = {"": ""} | {word: kind for kind, words in _SPELLED.items() for word in words.split()}
_SILICON = (
    *("id", "silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode", "isl"),
    *("osl", "gemm_quant_mode", "moe_quant_mode", "silicon_ttft_ms", "silicon_tpot_ms"),
    *(f"{head}{k}" for head in ("", "prefill_", "decode_") for k in ("batch_size", "tp_size", "pp_size",
      "attention_dp_size", "moe_tp_size", "moe_ep_size")),
    *("prefill_num_workers", "decode_num_workers"),
)  # fmt: skip
_MLENERGY = (
    *("model", "task", "gpu_model", "num_gpus", "total_b", "act_b", "arch", "prec", "par_tensor_parallel"),
    *("par_expert_parallel", "par_data_parallel", "max_num_seqs", "avg_batch_size", "avg_output_len", "median_itl_ms"),
    *("p90_itl_ms", "p95_itl_ms", "p99_itl_ms", "output_throughput_tokens_per_sec", "avg_power_watts"),
    *("energy_per_token_joules", "energy_per_request_joules"),
)
_BENCH = (
    "Hardware",
    "Num of Hardware",
    "Framework",
    "Model",
    "Input Output Length",
    "Batch Size",
    "Latency",
    "Throughput",
)
_BENCH_POWER = ("avg_power",)
_MISSPELT = 0.85  # likeness from which an unknown column is a known one misspelt, where that one is missing
_LEAST_MW = 5000.0  # no GPU under a context draws less: a smaller figure is in another unit
_WIDEST = 16  # ways that an engine cuts attention: more are the GPUs of two pools added up
_LIGHT = 160_000  # tokens in flight a GPU, over the GPUs of one pool
Entry = TypeVar("Entry")


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


class Record(Cells):
    """One row; `unmeasured` names its figures that are empty or zero."""

    def __init__(self, file: str | Path, line: int, cells: dict[str, str]) -> None:
        super().__init__(file, line, cells)
        self.unmeasured: list[str] = []

    def figure(self, field: str) -> float | None:
        """A measured number above zero; None where the cell is empty or zero, which `unmeasured` then names."""
        if self.maybe(field):
            return self.number(field)
        self.unmeasured.append(field)
        return None

    def one_of(self, field: str, known: dict[str, Entry]) -> Entry:
        """What a word stands for."""
        text = self.text(field).lower()
        if text not in known:
            raise self.refuse(field, f"unknown {text!r}", near_miss(text, known))
        return known[text]


def records(path: str | Path, needed: tuple[str, ...], known: tuple[str, ...], ignored: list[str]) -> Iterator[Record]:
    """The rows of a CSV file with a header; blank lines are passed over, unknown columns go to `ignored`.

    Raises:
        InputError: a needed column is missing, one is there twice or looks like a missing one misspelt, a row has
            another number of cells, no CSV.
    """
    (first, top), *rows = _lines(path) or [(1, [])]
    header = [name.strip() for name in top]
    absent = [name for name in known if name not in header]
    for column in needed:
        if column not in header:
            mend = near_miss(column, header or ["an empty file"])
            raise InputError("no such column", file=path, line=first, field=column, mend=mend)
    for column in header:
        if column not in known and get_close_matches(column, absent, n=1, cutoff=_MISSPELT):
            raise InputError("unknown column", file=path, line=first, field=column, mend=near_miss(column, absent))
        if header.count(column) > 1:
            raise InputError("two columns of one name", file=path, line=first, field=column, mend="rename or drop one")
    ignored += [column for column in header if column not in known]
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"{len(cells)} cells under a header of {len(header)}", file=path, line=line)
        yield Record(path, line, dict(zip(header, cells, strict=True)))


def _lines(path: str | Path) -> list[tuple[int, list[str]]]:
    """Number and cells of every line that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", file=path, line=reader.line_num) from error


def silicon(r: Record) -> Row:
    """aiconfigurator's silicon_sample.csv: mean TTFT and TPOT of serving at a fixed concurrency."""
    mode = r.one_of("mode", {"agg": "", "disagg": "decode_"})
    world, tp, ep = _parallelism(r, mode)
    llm = names.model(r.text("model_path"))
    apart = bool(mode) or llm.heads % tp > 0 or tp > _WIDEST  # no engine cuts heads so: two pools' GPUs added up
    gpu, engine = names.gpu(r.text("system")), spellings.engine(r.text("backend"))
    linear, experts = r.one_of("gemm_quant_mode", _PRECISION), r.one_of("moe_quant_mode", _PRECISION)
    linear = linear or r.one_of("precision", _PRECISION) or _in_name(r.text("model_path"))
    experts = experts or linear
    if llm.name.startswith("gpt-oss") or (linear == "int4" and llm.moe):  # only the experts are published in four bits
        linear, experts = "bf16", "int4" if linear == "int4" else "fp4"
    stated = re.search(r"silicon_concurrency=(\d+)", r.text("silicon_data_source")) or re.search(
        r"_c(\d+)_", r.text("id")
    )
    batch = float(stated.group(1)) if stated else r.number(mode + "batch_size") * world / tp
    guessed = bool(mode) and not r.text("decode_num_workers")
    if guessed:
        tp, workers = _pools(world, tp, batch * (r.number("isl") + 0.5 * r.number("osl")), gpu, engine)
        batch = max(1.0, batch / workers)
    elif mode and stated:
        batch = max(1.0, batch / r.count("decode_num_workers", 1))
    source = "silicon-gap" if "gap" in r.text("silicon_data_source") else "silicon"
    kv = "fp8" if linear in ("fp8", "fp4") and not llm.moe else "bf16"  # else the larger batches would not fit
    version = r.text("backend_version")
    cell = Cell(gpu, llm, engine, linear, experts, kv, world, tp, ep, apart, source, "", version)
    overfull = llm.params * precision_bytes(experts) > world * gpu.memory_bytes  # so there were more GPUs
    tpot_s, ttft_ms = r.number("silicon_tpot_ms") / 1e3, r.figure("silicon_ttft_ms")
    return Row(
        r.line, cell, batch, r.number("isl"), r.number("osl"), tpot_s, ttft_ms and ttft_ms / 1e3,
        unstated=stated is None or overfull, lengths_fixed=True, guessed=guessed,
    )  # fmt: skip


def _pools(world: int, tp: int, kv_tokens: float, gpu: Gpu, engine: str) -> tuple[int, int]:
    """Ways of attention and decode pools where a dump tells neither, from the tokens in flight.

    Read off the rows that state both (docs/predict.md): pools under _LIGHT tokens a GPU cut attention over all their
    GPUs and share the load with others, fuller or rack-wide ones keep each request on one GPU and serve alone.
    """
    if kv_tokens / world >= _LIGHT or (world > 8 and reach(gpu) > 8):
        return 1, 1
    return tp, 2 if engine == "sglang" else 4


def _parallelism(r: Record, head: str) -> tuple[int, int, int]:
    """GPUs, ways of attention and of the experts; some dumps count the same GPUs for tp and again for ep."""
    if r.count(head + "pp_size", 1) > 1:
        raise names.UnknownNameError("parallelism", f"{head}pp_size {r.text(head + 'pp_size')}", "tp, dp, ep are known")
    tp, dp = r.count(head + "tp_size"), r.count(head + "attention_dp_size", 1)
    moe_tp, ep = r.count(head + "moe_tp_size", 1), r.count(head + "moe_ep_size", 1)
    if not head and r.text("attention_dp_size"):
        if moe_tp == ep > 1 and tp * dp == ep * ep:  # eight GPUs as tp 64, or as tp 1 and dp 64
            tp, dp, moe_tp = (1, ep, 1) if dp > 1 else (ep, 1, 1)
        elif tp == dp > 1 and ep == tp * dp:
            dp, ep = 1, tp
    world = max(tp * dp, moe_tp * ep)
    return -(-world // tp) * tp, tp, ep


def _in_name(name: str) -> str:
    plain = name.lower()
    return "fp4" if "fp4" in plain else "fp8" if "fp8" in plain else "bf16"


def mlenergy(r: Record) -> Row:
    """ML.ENERGY's leaderboard: mean step (mean batch / output throughput), watts and joules a token in steady state.

    With expert parallelism attention is cut over all GPUs of a data-parallel rank, though the source says 1.
    """
    world, dp = r.count("num_gpus"), r.count("par_data_parallel", 1)
    if world % dp:
        raise r.refuse("par_data_parallel", f"{dp} ranks on {world} GPUs")
    llm, precision = names.model(r.text("model")), r.one_of("prec", _PRECISION) or "bf16"
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
    apart = 2.0 * n * batch / latency / r.number("Throughput") if r.text("Throughput") else 1.0
    cell = Cell(gpu, llm, engine, "bf16", "bf16", "bf16", world, world, 1, False, "bench", task)
    apart = max(apart, 1.0 / apart)
    return Row(r.line, cell, batch, prompt, n, latency / steps, None, watts, joules, lengths_fixed=True, apart=apart)


@dataclass(frozen=True, slots=True)
class Format:
    """How a format's rows are made, the columns it must and may have, and those that tell nothing of a row."""

    row: Callable[[Record], Row]
    needed: tuple[str, ...]
    known: tuple[str, ...]


FORMATS = {
    "aiconfigurator": Format(silicon, ("backend", "model_path", "system", "mode", "isl", "osl", "tp_size",
                                       "silicon_ttft_ms", "silicon_tpot_ms"), _SILICON),
    "mlenergy": Format(mlenergy, ("model", "task", "gpu_model", "num_gpus", "prec", "avg_batch_size", "avg_output_len",
                                  "output_throughput_tokens_per_sec", "avg_power_watts", "energy_per_token_joules"),
                       _MLENERGY),
    "llm-inference-bench": Format(inference_bench, _BENCH[:7], (*_BENCH, *_BENCH_POWER)),
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
