"""LLMCO2's released rows (standardised features g0..g11 and two labels of an unstated unit) scored as they can be.

One GPU, three models, batch fixed with the model; only prompt and output vary. Since the unit of the labels is not
documented, no predictor can know their scale: FEW rows of each model, spread over the prompts and outputs, set the
coefficients of that model's line, and the others are scored. Prefill is a + b n with n the prompt cut at 4,096 tokens,
where the labels saturate; decode a + b o + c o n. Nothing fitted to these rows ships.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from profiles.inputs import InputError, near_miss, read_text
from profiles.predict.columns import Floats

FEW = 8
MODEL, PROMPT, OUTPUT = 3, 10, 11  # columns that tell the model, the prompt and the output
_PROMPT_MEAN, _PROMPT_SCALE, _LONGEST = 1155.0, 1121.0, 4096.0
_FEATURES = tuple(f"g{i}" for i in range(12))
_LABELS = ("label_prefill", "label_decode")


def evaluate(path: str | Path) -> dict[str, Any]:
    """The document of `profiles evaluate` for such a file; tpot stands for decode and ttft for prefill.

    Raises:
        InputError: a missing or unknown column, a cell that is no number, a label not above zero, too few rows.
    """
    facts, labels = _read(path)
    total = len(facts)
    unique = np.unique(np.concatenate([facts, labels], axis=1), axis=0, return_index=True)[1]
    kept = np.sort(unique)
    facts, labels = facts[kept], labels[kept]
    models = np.round(facts[:, MODEL], 3)
    held = np.ones(len(kept), dtype=bool)
    guess = np.full(labels.shape, np.nan)
    for one in sorted(set(models.tolist())):
        rows = np.flatnonzero(models == one)
        if len(rows) <= FEW:
            raise InputError(f"{len(rows)} rows of one model", file=path, mend=f"more than {FEW} of each are needed")
        few = _spread(rows, facts)
        held[few] = False
        for k, basis in enumerate(_bases(facts)):
            weight = 1.0 / labels[few, k]
            line = np.linalg.lstsq(basis[few] * weight[:, None], np.ones(FEW), rcond=None)[0]
            guess[rows, k] = np.maximum(basis[rows] @ line, 0.5 * labels[few, k].min())
    error = np.abs(guess / labels - 1.0)
    groups = [
        {"tier": "cfg", "kind": f"model of g3 = {one:g}", "scored": int((held & (models == one)).sum()),
         **_summary(error[held & (models == one)])}
        for one in sorted(set(models.tolist()))
    ]  # fmt: skip
    return {
        "file": str(path),
        "format": "llmco2",
        "predictor": f"a line of {FEW} rows a model",
        "source": "the file's own rows: the labels' unit is not documented (docs/predict.md)",
        "rows": total,
        "scored": int(held.sum()),
        "flagged": 0,
        "repeated": total - len(kept),
        "calibrated_on": int((~held).sum()),
        "unknown": {},
        "overall": _summary(error[held]),
        "all_rows": _summary(error[held]),
        "groups": groups,
        "flags": [],
    }


def _read(path: str | Path) -> tuple[Floats, Floats]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    header, wanted = [name.strip() for name in next(reader, [])], (*_FEATURES, *_LABELS)
    for name in wanted:
        if name not in header:
            raise InputError("no such column", file=path, line=1, field=name, mend=near_miss(name, header or ["none"]))
    for name in header:
        if name not in wanted:
            raise InputError("unknown column", file=path, line=1, field=name, mend=near_miss(name, wanted))
    rows = []
    for cells in reader:
        try:
            row = dict(zip(header, map(float, cells), strict=True))
        except ValueError:
            raise InputError("a cell is no number, or one is missing", file=path, line=reader.line_num) from None
        if not all(map(math.isfinite, row.values())) or min(row[k] for k in _LABELS) <= 0:
            raise InputError("labels must be above zero and cells finite", file=path, line=reader.line_num)
        rows.append([row[k] for k in wanted])
    if not rows:
        raise InputError("no rows", file=path)
    table = np.array(rows)
    return table[:, :12], table[:, 12:]


def _spread(
    rows: np.ndarray[tuple[int], np.dtype[np.intp]], facts: Floats
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """FEW rows by inputs alone: half along the prompts, half along the outputs, none twice."""
    chosen: list[int] = []
    for column in (PROMPT, OUTPUT):
        order = rows[np.argsort(facts[rows, column], kind="stable")].tolist()
        for share in np.linspace(0.05, 0.95, FEW // 2):
            at = int(share * (len(order) - 1))
            chosen.append(next(r for r in [*order[at:], *order[:at]] if r not in chosen))
    return np.array(chosen)


def _bases(facts: Floats) -> tuple[Floats, Floats]:
    prompt = np.minimum(np.maximum(_PROMPT_MEAN + _PROMPT_SCALE * facts[:, PROMPT], 1.0), _LONGEST) / 1e3
    output = facts[:, OUTPUT] + 1.25  # standardised: the shortest outputs lie near -1.24
    ones = np.ones(len(prompt))
    return np.stack([ones, prompt], axis=1), np.stack([ones, output, output * prompt], axis=1)


def _summary(error: Floats) -> dict[str, float | None]:
    return {
        "tpot_mape": float(error[:, 1].mean()), "ttft_mape": float(error[:, 0].mean()), "power_mape": None,
        "energy_mape": None, "band_coverage": None, "band_half_width": None,
    }  # fmt: skip
