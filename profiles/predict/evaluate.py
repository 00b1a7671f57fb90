"""How well a predictor meets rows that a user holds: errors, bands, flags, by group. All figures are fractions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import InputError
from profiles.predict import doubt, readers
from profiles.predict.columns import Floats
from profiles.predict.measured import Measured, ratios
from profiles.predict.predictor import BANDED, TIERS, Prediction, Predictor

LLMCO2 = "llmco2"
FORMATS = (*readers.FORMATS, LLMCO2)
_KEYS = ("kind", "gpu", "model", "engine")


@dataclass(frozen=True)
class Errors:
    """Logarithms of prediction / measurement by figure and of the band's factor; NaN where nothing was measured."""

    of: dict[str, Floats]
    band: dict[str, Floats]

    def summary(self, rows: NDArray[np.bool_]) -> dict[str, float | None]:
        """Mean absolute relative errors, coverage and median half-width of the bands over some rows."""
        found: dict[str, float | None] = {}
        inside, wide = [], []
        for figure in BANDED:
            e = self.of[figure][rows]
            measured = np.isfinite(e)
            found[f"{figure}_mape"] = float(np.mean(np.abs(np.expm1(e[measured])))) if measured.any() else None
            b = self.band[figure][rows]
            told = measured & np.isfinite(b)
            inside.append(np.abs(e[told]) <= b[told])
            wide.append(b[told])
        held, factors = np.concatenate(inside), np.concatenate(wide)
        found["band_coverage"] = float(np.mean(held)) if held.size else None
        found["band_half_width"] = float(np.median(np.expm1(factors))) if factors.size else None
        return found


def evaluate(path: str | Path, kind: str, predictor: Predictor) -> dict[str, Any]:
    """The document of `profiles evaluate`: counts, `overall` without flagged rows, `all_rows` with them, `groups`.

    `flags` names the flagged rows, `doubtful` those that break a rule too but are scored, since few may be flagged.

    Raises:
        InputError: a file that is not of this format, or whose rows this predictor has no answer for.
    """
    if kind == LLMCO2:
        return _llmco2(path, predictor)
    read = readers.read(path, kind)
    rows = read.rows
    severe, why = doubt.severity(rows)
    flagged = doubt.flags(severe, rows)
    m = Measured.of(rows)
    p = predictor.predict(m.columns)
    errors = _errors(p, m)
    if not any(np.isfinite(e).any() for e in errors.of.values()):
        raise InputError(f"{predictor.name} predicts no figure that this file measured", file=path)
    return {
        "file": str(path),
        "format": kind,
        "predictor": predictor.name,
        "source": predictor.source,
        "rows": read.total,
        "scored": int(np.sum(~flagged)),
        "flagged": int(np.sum(flagged)),
        "repeated": read.repeated,
        "unknown": read.unknown,
        "ignored": read.ignored,
        "unmeasured": read.unmeasured,
        "overall": errors.summary(~flagged),
        "all_rows": errors.summary(np.ones(len(rows), dtype=bool)),
        "groups": _groups(m, p, errors, flagged),
        "flags": [{"line": rows[i].line, "why": why[i]} for i in np.flatnonzero(flagged)],
        "doubtful": [{"line": rows[i].line, "why": why[i]} for i in np.flatnonzero((severe > 0) & ~flagged)],
    }


def _llmco2(path: str | Path, predictor: Predictor) -> dict[str, Any]:
    """LLMCO2's labels have no stated unit, so the file's own rows set the scale and no shipped predictor can."""
    from profiles.predict import llmco2

    if predictor.name != "roofline":
        raise InputError(
            f"{predictor.name} cannot know the unit of LLMCO2's labels", file=path, mend="leave --predictor out"
        )
    return llmco2.evaluate(path)


def _errors(p: Prediction, m: Measured) -> Errors:
    return Errors({k: np.log(ratio) for k, ratio in ratios(p, m).items()}, {k: np.log(p.band[k]) for k in BANDED})


def _groups(m: Measured, p: Prediction, errors: Errors, flagged: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Errors by tier and kind, then by tier and cell (GPU, model, engine), without flagged rows."""
    c = m.columns
    words = {key: c.names(key) for key in _KEYS}
    apart = np.where(c.apart, "disaggregated ", "")
    kinds = np.char.add(apart, words["kind"])
    found = []
    for keys in (("kind",), _KEYS):
        names = [[str(kinds[i] if k == "kind" else words[k][i]) for k in keys] for i in range(len(m))]
        labels = np.array([f"{p.tier[i]}|" + "|".join(names[i]) for i in range(len(m))])
        for one in sorted(set(labels[~flagged].tolist())):
            rows = (labels == one) & ~flagged
            first = int(np.flatnonzero(rows)[0])
            group = {"tier": TIERS[int(p.tier[first])], **dict(zip(keys, names[first], strict=True))}
            found.append({**group, "scored": int(rows.sum()), **errors.summary(rows)})
    return found
