"""Measured serving rows of public formats, as rows and as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.predict.columns import Cell, Columns, Floats
from profiles.predict.predictor import BANDED, Prediction

FIGURES = ("tpot_s", "ttft_s", "power_w", "energy_j_per_token")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured configuration; a figure is None where it was not measured.

    `unstated`: the load is not told by the source. `lengths_fixed`: every request had these lengths. `jitter`: 90th
    percentile over median of the times between tokens, 0 where unknown. `disagreement`: how many times a figure is
    another column's account of it. `guessed`: how the load is shared is inferred. `line` is that of the file.
    """

    line: int
    cell: Cell
    batch: float
    prompt: float
    output: float
    tpot_s: float | None = None
    ttft_s: float | None = None
    power_w: float | None = None
    energy_j_per_token: float | None = None
    unstated: bool = False
    lengths_fixed: bool = False
    jitter: float = 0.0
    disagreement: float = 1.0
    guessed: bool = False


@dataclass(frozen=True)
class Measured:
    """Rows as columns; NaN where a row did not measure a figure."""

    columns: Columns
    tpot_s: Floats
    ttft_s: Floats
    power_w: Floats
    energy_j_per_token: Floats

    @classmethod
    def of(cls, rows: list[Row]) -> Measured:
        """The rows in order."""
        load = ([float(getattr(r, k)) for r in rows] for k in ("batch", "prompt", "output"))
        columns = Columns.of([r.cell for r in rows], *load)
        figures = (np.array([np.nan if getattr(r, k) is None else getattr(r, k) for r in rows], float) for k in FIGURES)
        return cls(columns, *figures)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def figures(self) -> dict[str, Floats]:
        """The columns by the short names of predictions and bands."""
        return dict(zip(BANDED, (getattr(self, k) for k in FIGURES), strict=True))

    def take(self, rows: NDArray[np.generic]) -> Measured:
        """Some of the rows."""
        return Measured(self.columns.take(rows), *(getattr(self, k)[rows] for k in FIGURES))


def ratios(p: Prediction, m: Measured) -> dict[str, Floats]:
    """Prediction over measurement by figure; NaN where either knows none."""
    return {name: getattr(p, k) / getattr(m, k) for name, k in zip(BANDED, FIGURES, strict=True)}
