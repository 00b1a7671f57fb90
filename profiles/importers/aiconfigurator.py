"""aiconfigurator's silicon_sample: TTFT and TPOT of served models by concurrency, no watts.

Rows of one engine, version and parallelism make a profile. Its traps: exact duplicates; parallelism counted twice (tp
64 with experts cut 8 x 8 is 8 GPUs); the batch is the concurrency that the row's id or source states, not batch_size,
and was not reached where memory or admission held it back; disaggregated rows are of two pools and no instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiles.importers.condense import Measured, profile
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells, Tell, grouped, only
from profiles.importers.serving import Row
from profiles.importers.work import Work
from profiles.inputs import InputError, csv_records
from profiles.profile import Profile
from profiles.spellings import gpu, model

DATE = "2026-11-21"
COLUMNS = ("backend", "model_path", "system", "precision", "mode", "isl", "osl", "batch_size", "tp_size",
           "silicon_ttft_ms", "silicon_tpot_ms")  # fmt: skip
MET = 0.7  # requests of a benchmark start together: fitted over the H100 rows
_ADMITTED = 0.5  # TTFT above this share of the decode time: requests waited to be admitted
_TTFT_BATCH, _TTFT_WEIGHT = 8, 0.15  # up to which concurrency a TTFT tells of prefill, and how little it counts
_PRECISION = {"": "bf16", "bf16": "bf16", "fp8": "fp8", "fp4": "fp4", "int4": "int4"}


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as the source states it; `gpus` is None where its parallelism contradicts itself."""

    line: int
    model: str
    gpu: str
    engine: str
    version: str
    precision: str
    mode: str
    gpus: int | None
    data_parallel: int
    batch: int
    prompt: float
    output: float
    ttft_s: float
    tpot_s: float


def rows(path: str | Path) -> Iterator[Raw]:
    """Every aggregated or disaggregated row.

    Raises:
        InputError: not a silicon sample, or a figure that cannot be (with its line and field).
    """
    for line, record in csv_records(path, COLUMNS, "aiconfigurator's silicon_sample"):
        c = Cells(path, line, record)
        mode = c.text("mode")
        if mode not in ("agg", "disagg"):
            raise c.refuse("mode", f"unknown {mode!r}", "known: agg, disagg")
        together = mode == "agg"
        if c.text("precision") not in _PRECISION:
            raise c.refuse(
                "precision", f"unknown {c.text('precision')!r}", f"known: {', '.join(filter(None, _PRECISION))}"
            )
        yield Raw(
            line, c.text("model_path"), c.text("system"), c.text("backend"), c.text("backend_version"),
            _PRECISION[c.text("precision")], mode, _gpus(c) if together else None,
            c.count("attention_dp_size", 1) if together else 1, _concurrency(c) if together else 1,
            c.number("isl"), c.number("osl"), c.number("silicon_ttft_ms") * 1e-3, c.number("silicon_tpot_ms") * 1e-3,
        )  # fmt: skip


def _gpus(c: Cells) -> int | None:
    """tp x pp x dp, which the experts' cut must not contradict; n x n of n x n ranks are n GPUs counted twice."""
    tp, dp = c.count("tp_size"), c.count("attention_dp_size", 1)
    slices, groups = c.count("moe_tp_size", 1), c.count("moe_ep_size", 1)
    gpus = tp * dp * c.count("pp_size", 1)
    if groups > 1 and dp == 1 and slices == groups and tp == slices * groups:
        return gpus // groups
    return gpus if slices * groups in (1, gpus) else None


def _concurrency(c: Cells) -> int:
    """What the source states; batch_size is that of a rank, and stands for it where nothing else does."""
    stated = re.search(r"silicon_concurrency=(\d+)", c.text("silicon_data_source")) or re.search(
        r"_c(\d+)_", c.text("id")
    )
    return int(stated.group(1)) if stated and 0 < int(stated.group(1)) <= 1_000_000 else c.count("batch_size")


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """A profile for every configuration with three concurrencies or more; of a folder, that of its operations.

    Raises:
        InputError: see `rows`; or nothing in it makes a profile.
    """
    if Path(path).is_dir():
        from profiles.importers import aiconfigurator_ops

        return aiconfigurator_ops.read(path, asked)
    if asked.model is not None or asked.tp is not None:
        raise InputError("its rows name model and tp themselves", file=path, mend="drop --model and --tp")
    return only((profile(one, asked.tell) for one in measured(path, asked.tell)), path, "configuration")


def measured(path: str | Path, tell: Tell) -> list[Measured]:
    """The configurations with their rows; what is left out is told."""
    seen = set[Raw]()

    def unfit(raw: Raw) -> str | None:
        again = replace(raw, line=0) in seen
        seen.add(replace(raw, line=0))
        return "given twice, figure for figure" if again else _unfit(raw)

    def key(raw: Raw) -> tuple[Any, ...]:
        return gpu(raw.gpu).name, model(raw.model).name, raw.gpus, raw.precision, raw.engine, raw.version

    return [_measured(own) for own in grouped(rows(path), unfit, key, tell)]


def _unfit(raw: Raw) -> str | None:
    """Why a row does not go into a profile."""
    if raw.mode == "disagg":
        return "disaggregated: two pools, no instance"
    if raw.gpus is None:
        return "parallelism contradicts itself (attention and experts on different numbers of GPUs)"
    if raw.data_parallel > 1:
        return "data-parallel attention: not one instance"
    if raw.ttft_s > _ADMITTED * raw.output * raw.tpot_s:
        return "TTFT above half the decode time: requests waited to be admitted"
    try:
        model(raw.model), gpu(raw.gpu)
    except InputError as error:
        return error.what
    return None


def _measured(own: list[Raw]) -> Measured:
    first = own[0]
    work = Work(gpu(first.gpu), model(first.model), first.gpus or 1, first.precision)
    version = "".join(re.findall(r"[\w.+-]", first.version))
    return Measured(
        work, f"{first.engine}-{version}" if version else first.engine, [row for raw in own for row in _rows(raw)],
        f"aiconfigurator silicon_sample, {first.model} {first.engine} {version or '(no version)'}, {len(own)} rows",
        "Apache-2.0", DATE, met=MET, versions={first.engine: version} if version else {},
        notes=["no version stated: rows of several may stand together"] if not version else [],
    )  # fmt: skip


def _rows(raw: Raw) -> Iterator[Row]:
    yield Row(raw.line, "mean", raw.batch, raw.prompt, raw.output, raw.tpot_s)
    if raw.batch <= _TTFT_BATCH:
        yield Row(raw.line, "ttft", raw.batch, raw.prompt, raw.output, raw.ttft_s, weight=_TTFT_WEIGHT)
