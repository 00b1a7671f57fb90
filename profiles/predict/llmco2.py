"""LLMCO2's released rows (standardised features g0..g11 and two labels of an unstated unit) scored as they can be.

One GPU, three models, batch fixed with the model; only prompt and output vary. Since the unit of the labels is not
documented, no predictor can know their scale: FEW rows of each model, spread over the prompts, set the coefficients of
that model's form, and the others are scored. Nothing fitted to these rows ships.

    prefill = a + c ((knee^3 + x^3)^(1/3) + x^2 attention),  x = the prompt's padded tokens
    decode  = d (output - 1) + e (the tokens that all steps attend)

Prompts are padded to whole eights (labels step exactly there) and to tiles of the matrix kernels (the mean of both);
prompts and contexts count 4,096 tokens at most, where the labels saturate. Both habits, and two models' labels that
repeat exactly, are those of a simulator (Vidur) asked about the Azure 2023 conversation trace, which holds every pair
of prompt and output. Between known prompts prefill is interpolated: what the form misses there is known.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from profiles.inputs import InputError, near_miss, read_text
from profiles.predict.columns import Floats

FEW = 8
MODEL, PROMPT, OUTPUT = 3, 10, 11  # columns that tell the model, the prompt and the output
# Mean and spread of tokens with which these two columns are standardised: so all pairs are whole, and the trace's.
_STANDARD = {PROMPT: (1156.455, 1120.89), OUTPUT: (213.5635, 164.43884)}
LONGEST, PADDED, TILE = 4096.0, 8.0, 128.0
# Attention's share of a 7 to 70B model's operations on a prompt of 1,000 tokens (1.5 %), at .47 of an A100's peak where
# its matrices reach .87 (aiconfigurator's kernels at 4,096 tokens).
_ATTENTION = 0.015 * 0.87 / 0.47
_KNEES = np.geomspace(0.02, 1.0, 40)  # thousands of tokens whose operations take as long as reading the weights
_OUTLIER = 0.02  # relative error from which a row counts less
_FEATURES = tuple(f"g{i}" for i in range(12))
_LABELS = ("label_prefill", "label_decode")
_SPREAD = np.linspace(2, 98, FEW).astype(int)  # hundredths of the prompts in order


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
        few = rows[np.argsort(facts[rows, PROMPT], kind="stable")][_SPREAD * (len(rows) - 1) // 100]
        held[few] = False
        guess[rows] = fit(facts[few], labels[few])(facts[rows])
    error = np.abs(guess / labels - 1.0)
    groups = [
        {"tier": "cfg", "kind": f"model of g3 = {one:g}", "scored": int((held & (models == one)).sum()),
         **_summary(error[held & (models == one)])}
        for one in sorted(set(models.tolist()))
    ]  # fmt: skip
    return {
        "file": str(path),
        "format": "llmco2",
        "predictor": f"a form of {FEW} rows a model",
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


def lengths(facts: Floats) -> tuple[Floats, Floats]:
    """Prompt and output of each row in tokens."""
    tokens = [np.round(mean + spread * facts[:, column]) for column, (mean, spread) in _STANDARD.items()]
    return np.maximum(tokens[0], 1.0), np.maximum(tokens[1], 2.0)


def work(facts: Floats) -> tuple[Floats, Floats, Floats]:
    """Of each row: the prompt's padded tokens, steps of decode, and the tokens that these attend."""
    prompt, output = lengths(facts)
    eights, tiles = (np.minimum(np.ceil(prompt / of) * of, LONGEST) for of in (PADDED, TILE))
    steps = output - 1.0
    free = np.clip(LONGEST - prompt, 0.0, steps)
    return 0.5 * (eights + tiles), steps, free * prompt + free * (free + 1.0) / 2.0 + (steps - free) * LONGEST


def fit(facts: Floats, labels: Floats) -> Callable[[Floats], Floats]:
    """One model's form from rows of it: what gives both labels of any rows' features."""
    tried = [(float(knee), line(_prefill(facts, knee), labels[:, 0])) for knee in _KNEES]
    knee, prefill = min(tried, key=lambda one: _miss(_prefill(facts, one[0]) @ one[1] / labels[:, 0]))
    decode = line(_decode(facts), labels[:, 1])
    known, which = np.unique(_eights(facts), return_inverse=True)
    least = 0.01 * labels.min(axis=0)  # a line of few rows may cross zero
    off = labels[:, 0] / np.maximum(_prefill(facts, knee) @ prefill, least[0])
    middle = np.array([np.median(off[which == k]) for k in range(len(known))])

    def form(asked: Floats) -> Floats:
        between = np.interp(_eights(asked), known, middle, left=1.0, right=1.0)
        both = np.stack([_prefill(asked, knee) @ prefill * between, _decode(asked) @ decode], axis=1)
        return np.asarray(np.maximum(both, least))

    return form


def _eights(facts: Floats) -> Floats:
    return np.asarray(np.ceil(np.minimum(lengths(facts)[0], LONGEST) / PADDED))


def _prefill(facts: Floats, knee: float) -> Floats:
    x = work(facts)[0] / 1e3
    return np.stack([np.ones(len(x)), np.cbrt(knee**3 + x**3) + _ATTENTION * x * x], axis=1)


def _decode(facts: Floats) -> Floats:
    return np.stack(work(facts)[1:], axis=1) / [1e2, 1e5]


def line(basis: Floats, y: Floats) -> Floats:
    """Least squares of relative errors, made robust by rounds of reweighting."""
    weight = 1.0 / y
    for _ in range(12):
        line = np.linalg.lstsq(basis * weight[:, None], y * weight, rcond=None)[0]
        weight = 1.0 / y / np.sqrt(1.0 + ((basis @ line / y - 1.0) / _OUTLIER) ** 2)
    return np.asarray(line)


def _miss(ratio: Floats) -> float:
    return float(np.mean(np.log1p(((ratio - 1.0) / _OUTLIER) ** 2)))


def _summary(error: Floats) -> dict[str, float | None]:
    return {
        "tpot_mape": float(error[:, 1].mean()), "ttft_mape": float(error[:, 0].mean()), "power_mape": None,
        "energy_mape": None, "band_coverage": None, "band_half_width": None,
    }  # fmt: skip
