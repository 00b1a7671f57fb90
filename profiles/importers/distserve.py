"""DistServe's fitted coefficients (Apache-2.0): prefill a + b n + c n^2, decode a + b context tokens + c batch, in ms.

Two lines of decode, for batches below and above a threshold. The coefficients are of an A100 80 GB, of DistServe's own
engine or of vLLM of 2023: which one, the file does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.importers.composed import Origin, Steps, compose
from profiles.importers.formats import Asked
from profiles.importers.work import Work
from profiles.inputs import InputError, read_json
from profiles.profile import Band, Mixed, Profile, Provenance
from profiles.spellings import gpu, model

DATE = "2024-06-01"
_KEYS = ("prefill", "decoding_smallbs", "decoding_largebs")
_LIMIT = "decoding_large_small_bs_threshold"
_CHUNKS = (16, 64, 128, 256, 512, 1024, 2048)  # OPT's context ends at 2,048
_CONTEXTS = (128, 512, 1024, 2048)


@dataclass(frozen=True, slots=True)
class Raw:
    """The coefficients of one model and tensor-parallel degree, in milliseconds."""

    model: str
    tp: int
    threshold: int
    prefill: tuple[float, float, float]
    small: tuple[float, float, float]
    large: tuple[float, float, float]

    def prefill_s(self, new: int, past: int) -> float:
        """Seconds; the formula knows no past, so its square term stands for the pairs."""
        a, b, c = self.prefill
        return 1e-3 * (a + b * new + c * (new * new + 2.0 * new * past))

    def decode_s(self, batch: int, context: int) -> float:
        """Seconds of a step of `batch` sequences at a mean context."""
        a, b, c = self.small if batch < self.threshold else self.large
        return 1e-3 * (a + b * batch * context + c * batch)


def rows(path: str | Path) -> Iterator[Raw]:
    """The coefficients of every model and degree.

    Raises:
        InputError: no such document, or a coefficient that is no number (its field is named).
    """
    document = read_json(path)
    if not isinstance(document, dict) or not document:
        raise InputError("no models with coefficients in it", file=path, mend="give a profiler-*.json of DistServe")
    for name, degrees in document.items():
        if not isinstance(degrees, dict):
            raise InputError("no coefficients by tensor-parallel degree", file=path, field=name)
        for tp, values in degrees.items():
            where = f"{name}.{tp}"
            if not (tp.isdigit() and 1 <= int(tp) <= 1024) or not isinstance(values, dict):
                raise InputError("no tensor-parallel degree with coefficients", file=path, field=where)
            threshold = values.get(_LIMIT)
            if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 1:
                raise InputError(f"{threshold!r} is no batch", file=path, field=f"{where}.{_LIMIT}")
            threes = (_three(values.get(key), path, f"{where}.{key}") for key in _KEYS)
            yield Raw(name, int(tp), threshold, *threes)


def _three(values: Any, path: str | Path, where: str) -> tuple[float, float, float]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)] if (
        isinstance(values, list)
    ) else []  # fmt: skip
    if len(numbers) != 3 or len(values) != 3:
        raise InputError("is not three numbers", file=path, field=where)
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """A profile for every model and degree, of an A100 80 GB unless another GPU is named.

    Raises:
        InputError: see `rows`; or a formula that gives a step without time.
    """
    found = []
    for raw in rows(path):
        if (asked.model and model(asked.model) != model(raw.model)) or (asked.tp or raw.tp) != raw.tp:
            continue
        work = Work(gpu(asked.gpu or "a100-sxm-80gb"), model(raw.model), raw.tp, "fp16")
        if work.kv_capacity < 1:
            asked.tell(f"{raw.model} on {raw.tp} GPUs: the weights do not fit; left out")
            continue
        try:
            found.append(compose(work, _steps(raw, asked), _origin(raw)))
        except InputError as error:
            raise InputError(error.what, file=path, field=f"{raw.model}.{raw.tp}", mend=error.mend) from error
    if not found:
        raise InputError("nothing in it of what was asked", file=path)
    return found


def _steps(raw: Raw, asked: Asked) -> Steps:
    if raw.prefill[2] < 0:
        asked.tell(f"{raw.model} on {raw.tp} GPUs: prefill's square coefficient is negative: longer prompts too cheap")
    low, high = max(1, raw.threshold - 1), raw.threshold
    batches = sorted({1, 8, 32, low, high, 2 * high, 4 * high})
    return Steps(
        raw.prefill_s, raw.decode_s, batches=batches, contexts=_CONTEXTS, chunks=_CHUNKS, past_chunks=(), noisy=False
    )


def _origin(raw: Raw) -> Origin:
    notes = [
        "a fitted formula and no measurement: its fit error is not stated; DistServe's engine or vLLM of 2023",
        f"decode has two lines, below and from batch {raw.threshold}",
    ]
    if raw.prefill[2] < 0:
        notes.append("prefill's square coefficient is negative: longer prompts are too cheap")
    provenance = Provenance(
        kind="imported", tier="cfg", source=f"DistServe coefficients, {raw.model} tp {raw.tp}", licence="Apache-2.0",
        date=DATE, notes=notes,
    )  # fmt: skip
    extra = {"mixed": Mixed(rule="attention", factor=2.0)}
    return Origin("distserve-2023", provenance, Band(time=1.3, power=1.0), "step", extra)
