"""The shipped predictor's form on withheld public measurements: fitted without them, beside the equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from profiles.predict import equations, train
from profiles.predict.columns import Floats
from profiles.predict.measured import Measured, ratios
from profiles.predict.predictor import TIERS

FAMILIES, FIGURES, FEWEST = ("dense", "moe"), ("tpot", "ttft", "power", "energy"), 5
HELD = TIERS[:3]
SOURCES = ("aiconfigurator", "mlenergy", "llm-inference-bench")  # folders that train.gather reads


def jobs(folder: Path) -> list[tuple[str, str]]:
    """The scores to be made.

    Raises:
        InputError: a file that is missing or of another format.
    """
    train.gather(folder)
    return [(tier, family) for tier in HELD for family in FAMILIES]


def score(folder: Path, tier: str, family: str) -> list[dict[str, Any]]:
    """Errors by source and figure; rows that contradict themselves are left out (docs/predict.md)."""
    return _rows(train.hold_out(train.gather(folder), family, tier), tier)


def _rows(held: train.Held, tier: str) -> list[dict[str, Any]]:
    m = Measured.of(held.rows.rows)
    theirs = ratios(equations.load().predict(m.columns), m)
    sources = np.array([row.cell.source.split("-")[0] for row in held.rows.rows])
    kind = "moe" if held.rows.rows[0].cell.llm.moe else "dense"
    found = []
    for source in sorted(set(sources.tolist())):
        for figure in FIGURES:
            error = np.abs(np.expm1(held.errors[figure]))
            use = (sources == source) & np.isfinite(error) & (held.tier == TIERS.index(tier)) & ~held.rows.flagged
            if use.sum() >= FEWEST:
                found.append(
                    {"tier": tier, "family": kind, "source": source, "figure": figure, "rows": int(use.sum())}
                    | {"mape": _mean(error[use]), "median": float(np.median(error[use]))}
                    | {"equations_mape": _mean(np.abs(theirs[figure][use] - 1.0))}
                )
    return found


def _mean(error: Floats) -> float:
    return float(np.mean(error))
