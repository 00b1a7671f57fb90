"""Helix' layer times (Apache-2.0): two tables without header, milliseconds of one layer by tokens, prompts and decode.

Nothing in them names GPU or model, so both must be. The table that reaches further in tokens is the prompts'. A model
that one GPU cannot hold is a pipeline of the fewest stages that do: every stage's layers one after another.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiles.catalog import MEMORY_SHARE, RESERVED_BYTES
from profiles.importers.composed import NO_ENGINE, NO_ENGINE_BAND, Curve, Origin, Steps, at, compose
from profiles.importers.formats import Asked
from profiles.importers.work import Work
from profiles.inputs import InputError, read_text
from profiles.profile import Band, Profile, Provenance
from profiles.spellings import gpu, model

DATE = "2024-10-01"
_FALLS = 2.0 / 3.0  # of the time before it: less is no noise
_CONTEXT = 512  # of decode rows, which state none: points stand at one context


@dataclass(frozen=True, slots=True)
class Raw:
    """One row: `tokens` of a layer's step and its seconds."""

    line: int
    tokens: float
    time_s: float


def rows(path: str | Path) -> Iterator[Raw]:
    """The rows of one table; the row of zeros it begins with is passed over.

    Raises:
        InputError: not two numbers a line in ascending order, or a time that falls by a third.
    """
    before = Raw(0, 0.0, 0.0)
    for line, cells in enumerate(csv.reader(io.StringIO(read_text(path))), 1):
        if not cells:
            continue
        try:
            tokens, time_ms = (float(cell) for cell in cells)
        except ValueError as error:
            what = "not two numbers: tokens and milliseconds of a layer"
            raise InputError(what, file=path, line=line, mend="is it a table of Helix?") from error
        if not (0 <= tokens < 1e7 and 0 <= time_ms < 1e6):
            raise InputError(f"{tokens:g} tokens in {time_ms:g} ms", file=path, line=line)
        if tokens == 0:
            continue
        now = Raw(line, tokens, time_ms * 1e-3)
        if now.time_s <= 0 or now.tokens <= before.tokens or now.time_s < _FALLS * before.time_s:
            what = f"{tokens:g} tokens in {time_ms:g} ms after {before.tokens:g} in {1e3 * before.time_s:g} ms"
            raise InputError(what, file=path, line=line, mend="tokens ascend and more of them take no less time")
        before = now
        yield now


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """The profile of the two tables in a folder.

    Raises:
        InputError: GPU or model not named, not two tables in it, see `rows`.
    """
    if asked.gpu is None or asked.model is None:
        raise InputError("Helix' tables name neither GPU nor model", file=path, mend="give --gpu and --model")
    decode, prompt = _tables(Path(path))
    llm, card, tp = model(asked.model), gpu(asked.gpu), asked.tp or 1
    each = MEMORY_SHARE * card.memory_bytes - RESERVED_BYTES
    stages = max(1, math.ceil(1.02 * llm.weights_bytes("fp16") / (each * tp)))
    work = Work(card, llm, tp * stages, "fp16")
    batches = tuple(int(b) for b in decode if b <= 256)[::2] or (int(min(decode)),)
    chunks = tuple(n for n in (128, 256, 512, 1024, 2048, 4096, 8192) if n <= max(prompt)) or (int(max(prompt)),)
    steps = Steps(
        lambda new, past: llm.layers * at(prompt, new),
        lambda batch, context: llm.layers * at(decode, batch),
        batches=batches, contexts=(_CONTEXT,), chunks=chunks, past_chunks=(),
    )  # fmt: skip
    return [compose(work, steps, _origin(work, tp, stages))]


def _tables(folder: Path) -> tuple[Curve, Curve]:
    """Decode and prompts: the table that reaches further in tokens is the prompts'."""
    files = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if len(files) != 2:
        raise InputError(f"{len(files)} tables in it, two are needed", file=folder, mend="give the folder of one GPU")
    curves = [_rising(list(rows(file))) for file in files]
    for file, curve in zip(files, curves, strict=True):
        if len(curve) < 2:
            raise InputError("fewer than two rows", file=file)
    low, high = sorted(curves, key=max)
    if max(low) == max(high):
        raise InputError("both tables end at the same tokens: which is the prompts'?", file=folder)
    return low, high


def _rising(found: list[Raw]) -> Curve:
    """More tokens never take less time: where a row says so, the time of fewer stands."""
    curve: Curve = {}
    most = 0.0
    for row in found:
        most = max(most, row.time_s)
        curve[row.tokens] = most
    return curve


def _origin(work: Work, tp: int, stages: int) -> Origin:
    notes = [
        NO_ENGINE,
        f"a layer measured, {work.llm.layers} summed; no output head, no embedding",
        f"the context of decode rows is not stated: points stand at {_CONTEXT} tokens and time does not grow with it",
        f"{work.gpu.name} and {work.llm.name} are what the user named: the tables do not say",
    ]
    if stages > 1:
        notes.append(f"a pipeline of {stages} stages of {tp}, one batch in it: what several at once give is not in it")
    provenance = Provenance(
        kind="imported", tier="T0", source=f"Helix, {work.llm.name} on {work.gpu.name}, ms a layer",
        licence="Apache-2.0", date=DATE, notes=notes,
    )  # fmt: skip
    return Origin("helix-2024", provenance, Band(time=NO_ENGINE_BAND, power=1.0))
