"""LLM-Inference-Bench: latency of whole batches by framework, prompts and outputs of one length; milliwatts for some.

Its traps: rows that stopped early (faster than the weights can be read), batches larger than memory run in waves, watts
in thousandths in a file of their own, latency and throughput that must agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.importers.condense import Measured, profile
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells, Tell, grouped, only
from profiles.importers.serving import Row
from profiles.importers.work import Work
from profiles.inputs import InputError, csv_records, read_text
from profiles.profile import Profile
from profiles.spellings import gpu, model

DATE = "2026-11-21"
COLUMNS = ("Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length", "Batch Size", "Latency",
           "Throughput")  # fmt: skip
ENGINES = {
    "vLLM": "vllm-2024",
    "TensorRT-LLM": "trtllm-2024",
    "Deepspeed-MII": "deepspeed-mii",
    "Deepspeed": "deepspeed",
}
_LEAST_MW = 5000.0  # no GPU under a context draws less: a smaller figure is in another unit
_AGREE = 0.02


@dataclass(frozen=True, slots=True)
class Raw:
    """One batch as the source states it; `power_w` is None where it states none, `agrees` says whether its latency and
    its throughput are of one batch."""

    line: int
    gpu: str
    gpus: int
    framework: str
    model: str
    tokens: int
    batch: int
    time_s: float
    power_w: float | None
    agrees: bool

    @property
    def key(self) -> tuple[object, ...]:
        """What was run, without what came out."""
        return self.gpu, self.gpus, self.framework, self.model, self.tokens, self.batch


def rows(path: str | Path) -> Iterator[Raw]:
    """Every batch of a file, or of all files with this header in a folder.

    Raises:
        InputError: no such header, or a figure that cannot be (with its line and field).
    """
    file = Path(path)
    files = sorted(file.rglob("*.csv")) if file.is_dir() else [file]
    files = [one for one in files if not file.is_dir() or _has_header(one)]
    if not files:
        raise InputError("no file below it with the columns Hardware, Framework, Model, ...", file=path)
    for one in files:
        for line, record in csv_records(one, COLUMNS, "LLM-Inference-Bench's results"):
            if any((value or "").strip() for value in record.values() if isinstance(value, str)):
                yield _raw(Cells(one, line, record))


def _has_header(file: Path) -> bool:
    header = next(csv.reader(read_text(file).splitlines()[:1]), [])
    return set(COLUMNS) <= set(header)


def _raw(c: Cells) -> Raw:
    tokens, batch, time_s = c.count("Input Output Length"), c.count("Batch Size"), c.number("Latency")
    stated = c.number("Throughput")
    agrees = abs(2.0 * tokens * batch / time_s / stated - 1.0) <= _AGREE
    milliwatts = c.maybe("avg_power")
    if milliwatts is not None and 0 != milliwatts < _LEAST_MW:
        raise c.refuse("avg_power", f"{milliwatts:g} mW is below any GPU's idle", "is it in watts? give milliwatts")
    return Raw(
        c.line, c.text("Hardware"), c.count("Num of Hardware"), c.text("Framework"), c.text("Model"), tokens, batch,
        time_s, milliwatts / 1e3 if milliwatts else None, agrees,
    )  # fmt: skip


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """A profile for every hardware, framework, model and number of GPUs with three batches or more.

    Raises:
        InputError: see `rows`; or nothing in it makes a profile.
    """
    return only((profile(one, asked.tell) for one in measured(path, asked.tell)), path, "configuration")


def measured(path: str | Path, tell: Tell) -> list[Measured]:
    """The configurations with their rows; what is left out is told."""

    def key(raw: Raw) -> tuple[Any, ...]:
        return gpu(raw.gpu).name, model(raw.model).name, raw.gpus, raw.framework

    return [_measured(own) for own in grouped(_with_power(list(rows(path))), _unfit, key, tell)]


def _with_power(found: list[Raw]) -> list[Raw]:
    """Batches of the power files joined to the same batches of the others: each once, with its watts."""
    powered = {raw.key for raw in found if raw.power_w is not None and raw.agrees}
    return [raw for raw in found if raw.power_w is not None or raw.key not in powered]


def _unfit(raw: Raw) -> str | None:
    """Why a batch does not go into a profile."""
    if raw.framework not in ENGINES:
        return f"framework {raw.framework}: the precision of its weights is not stated"
    if not raw.agrees:
        return "its throughput is not its tokens over its latency"
    try:
        gpu(raw.gpu), model(raw.model)
    except InputError as error:
        return error.what
    return None


def _measured(own: list[Raw]) -> Measured:
    first = own[0]
    work = Work(gpu(first.gpu), model(first.model), first.gpus, "bf16")
    notes = ["16-bit weights; engine versions are of 2024 and not stated"]
    if first.gpus > 1 and any(raw.power_w for raw in own):
        notes.append("watts of several GPUs: of one or of all is not stated; not used")
    rows = [
        Row(raw.line, "whole", raw.batch, raw.tokens, raw.tokens, raw.time_s, raw.power_w if raw.gpus == 1 else None)
        for raw in own
    ]
    source = f"LLM-Inference-Bench, {first.model} {first.framework} on {first.gpus} x {first.gpu}, {len(own)} rows"
    return Measured(work, ENGINES[first.framework], rows, source, "BSD-3-Clause", DATE, notes=notes)
