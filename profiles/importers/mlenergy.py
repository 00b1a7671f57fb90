"""ML.ENERGY: steady-state inter-token latency, throughput and GPU watts of vLLM on H100 and B200.

Three containers of the same runs: the leaderboard's JSON (one model and task a file, or a folder of them), a flat table
of it, and the records of the mlenergy-data package (parquet or CSV). Watts are means of the energy counter over the
steady state, prefill and decode together; prompt lengths are not stated and assumed by task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.importers.condense import Measured, profile
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells, Tell, grouped, is_parquet, only, table_records
from profiles.importers.serving import Row
from profiles.importers.work import Work
from profiles.inputs import InputError, read_json
from profiles.profile import Profile
from profiles.spellings import gpu, model

DATE = "2026-11-21"
LICENCE = "leaderboard: none stated; mlenergy-data and its dataset: Apache-2.0; fitted figures only"
# Prompt tokens by task, which no container states: assumed. Tasks with pictures are left out.
PROMPT = {"lm-arena-chat": 250.0, "gpqa": 300.0, "sourcegraph-fim": 500.0}
_PRECISION = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": "fp4"}
FIGURES = ("task", "gpu_model", "num_gpus", "max_num_seqs", "avg_batch_size", "avg_output_len", "median_itl_ms",
           "output_throughput_tokens_per_sec", "avg_power_watts", "energy_per_token_joules")  # fmt: skip
_FULL = 0.97  # a mean batch below this share of its limit was held back by memory or had no requests
_PLAIN = 0.3  # where fewer steps carry a prompt, the median inter-token time is that of a plain decode step
_AGREE = 0.02  # watts over throughput must be the stated joules a token


@dataclass(frozen=True, slots=True)
class Raw:
    """One run as the source states it; `power_w` of all GPUs, None where its column is zero or empty."""

    line: int
    model: str
    task: str
    gpu: str
    gpus: int
    precision: str
    data_parallel: int
    limit: int
    batch: float
    output: float
    itl_s: float
    throughput: float
    power_w: float | None
    stable: bool


def rows(path: str | Path) -> Iterator[Raw]:
    """Every run of a file or a folder of leaderboard files.

    Raises:
        InputError: none of the containers, or a figure that cannot be (with its line and field).
    """
    file = Path(path)
    if file.is_dir():
        files = sorted(file.rglob("*.json"))
        if not files:
            raise InputError("no JSON file below it", file=path, mend="give the leaderboard's data/models folder")
        for one in files:
            yield from _leaderboard(one, skip_others=True)
    elif not is_parquet(file) and _is_json(file):
        yield from _leaderboard(file)
    else:
        for line, record in table_records(file, FIGURES, "ML.ENERGY's runs"):
            cells = Cells(path, line, record)
            yield _raw(cells, cells.text("model_id") or cells.text("model"), cells.text("task"))


def _is_json(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))


def _leaderboard(file: Path, skip_others: bool = False) -> Iterator[Raw]:
    document = read_json(file)
    runs = document.get("configurations") if isinstance(document, dict) else None
    if not isinstance(runs, list) or not document.get("model_id") or not all(isinstance(r, dict) for r in runs):
        raise InputError("no model_id and configurations", file=file, mend="give the leaderboard's file of a model")
    if skip_others and not any("median_itl_ms" in run for run in runs):  # models that make pictures
        return
    for number, run in enumerate(runs, 1):
        ways = run.get("parallelization")
        ways = ways if isinstance(ways, dict) else {}
        precision = run.get("weight_precision") or document.get("weight_precision")
        cells = {**run, "prec": precision, "par_data_parallel": ways.get("data_parallel")}
        yield _raw(Cells(file, number, cells), str(document["model_id"]), str(document.get("task", "")))


def _raw(c: Cells, name: str, task: str) -> Raw:
    power, itl_s = c.maybe("avg_power_watts"), c.number("median_itl_ms") * 1e-3
    throughput = c.number("output_throughput_tokens_per_sec")
    if power is not None and power < 0:
        raise c.refuse("avg_power_watts", f"{power:g} W is negative", "drop the row")
    joules = c.maybe("energy_per_token_joules")
    if power and joules and abs(power / throughput / joules - 1.0) > _AGREE:
        what = f"{power:g} W at {throughput:g} tokens/s are {power / throughput:.4g} J a token, not {joules:.4g}"
        raise c.refuse("energy_per_token_joules", what, "watts must be of all GPUs, energy in joules")
    limit, batch = c.count("max_num_seqs"), c.number("avg_batch_size")
    if batch > 1.01 * limit:
        raise c.refuse("avg_batch_size", f"{batch:g} running of at most {limit}")
    return Raw(
        c.line, name, task or c.text("task"), c.text("gpu_model"), c.count("num_gpus"), _precision(c, name),
        c.count("par_data_parallel", 1) * c.count("data_parallel", 1), limit, batch, c.number("avg_output_len"), itl_s,
        throughput, power or None, c.text("is_stable", "true").lower() in ("true", "1"),
    )  # fmt: skip


def _precision(c: Cells, name: str) -> str:
    """As stated; the leaderboard's JSON may leave it out, and then the model's name tells as it does there."""
    stated = c.text("weight_precision") or c.text("prec")
    if not stated:
        stated = "fp8" if "FP8" in name or "DeepSeek" in name else "mxfp4" if "gpt-oss" in name else "bfloat16"
    if stated not in _PRECISION:
        raise c.refuse("weight_precision", f"unknown {stated!r}", f"known: {', '.join(_PRECISION)}")
    return _PRECISION[stated]


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """A profile for every model, GPU, number of GPUs and precision with three batches or more.

    Raises:
        InputError: see `rows`; or nothing in it makes a profile.
    """
    return only((profile(one, asked.tell) for one in measured(path, asked.tell)), path, "configuration")


def measured(path: str | Path, tell: Tell) -> list[Measured]:
    """The configurations with their rows; what is left out is told."""
    shapes: dict[str, Any] = {}

    def key(raw: Raw) -> tuple[Any, ...]:
        return gpu(raw.gpu).name, shapes[raw.model].name, raw.gpus, raw.precision

    cells = grouped(rows(path), lambda raw: _unfit(raw, shapes), key, tell)
    return [_measured(own, shapes, tell) for own in cells]


def _unfit(raw: Raw, shapes: dict[str, Any]) -> str | None:
    """Why a run does not go into a profile."""
    if raw.task not in PROMPT:
        return f"task {raw.task}: pictures or an unknown prompt length"
    if raw.data_parallel > 1:
        return "data-parallel attention: not one instance"
    if not raw.stable:
        return "marked unstable by ML.ENERGY"
    if raw.batch < _FULL * raw.limit:
        return f"mean batch below {_FULL:g} of its limit: memory held it back"
    try:
        shapes.setdefault(raw.model, None)
        shapes[raw.model] = shapes[raw.model] or model(raw.model)
        gpu(raw.gpu)
    except InputError as error:
        return error.what
    return None


def _measured(own: list[Raw], shapes: dict[str, Any], tell: Tell) -> Measured:
    first = own[0]
    work = Work(gpu(first.gpu), shapes[first.model], first.gpus, first.precision)
    zero = sum(1 for raw in own if raw.power_w is None)
    notes = ["prompt lengths assumed: 250 (chat), 300 (gpqa), 500 (fill-in-the-middle)"]
    if work.llm.moe and work.gpus > 1:
        notes.append("experts are split over the GPUs, attention as vLLM chose")
    if zero:
        notes.append(f"watts are zero or missing in {zero} of {len(own)} rows: unknown there")
        tell(f"{work.gpu.name} {work.llm.name} x{work.gpus}: {notes[-1]}")
    return Measured(
        work, "vllm", [row for raw in own for row in _rows(raw)],
        f"ML.ENERGY, {', '.join(sorted({r.model for r in own}))} on {first.gpus} x {first.gpu}, {len(own)} runs",
        LICENCE, DATE, ran=True, notes=notes,
    )  # fmt: skip


def _rows(raw: Raw) -> Iterator[Row]:
    prompt = PROMPT[raw.task]
    yield Row(raw.line, "mean", raw.batch, prompt, raw.output, raw.batch / raw.throughput, raw.power_w)
    if raw.batch / raw.output < _PLAIN:
        yield Row(raw.line, "decode", raw.batch, prompt, raw.output, raw.itl_s)
