"""Joint prompt and output lengths as a small table of quantile cells; ships two fitted to public traces.

A cell says: between two quantile levels the values go from `low` to `high` with this `mean`. Outputs have one such
row of cells for each of six groups of prompts, so that what long prompts ask for stays with long prompts.
Quantiles at the levels and every mean are those of the trace the table was fitted to.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from sim.trace.model import Floats, Ints, Tokens, Trace

PRESETS = ("azure-code", "azure-conv")
PROMPT_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.88, 0.9, 0.91, 0.92, 0.95, 0.99, 1.0)
OUTPUT_LEVELS = (0.0, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0)
GROUPS = 6
COLUMNS = ("preset", "quantity", "prompt_group", "from_level", "to_level", "low", "high", "mean")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Quantile cells: `levels` (n + 1), and by group and cell the lowest, highest and mean token count."""

    levels: Floats
    low: Floats
    high: Floats
    mean: Floats

    def draw(self, level: Floats, group: Ints) -> Floats:
        """Token counts (not yet rounded) at quantile `level` in [0, 1) of each one's group.

        Inside a cell low + (high - low) w^k with k = (high - low)/(mean - low) - 1, whose mean is the cell's.
        """
        cell = np.searchsorted(self.levels, level, side="right") - 1
        w = (level - self.levels[cell]) / np.diff(self.levels)[cell]
        spread = self.high - self.low
        exponent = np.divide(spread, self.mean - self.low, out=np.full_like(spread, 2.0), where=self.mean > self.low)
        power = np.clip(exponent - 1.0, 1e-3, 1e3)
        values: Floats = self.low[group, cell] + spread[group, cell] * w ** power[group, cell]
        return values


@dataclass(frozen=True, slots=True, eq=False)
class JointLengths:
    """Prompt and output lengths that belong together."""

    prompt: Cells
    output: Cells

    def prompts(self, level: Floats) -> Floats:
        """Prompt tokens (not yet rounded) at quantile `level` in [0, 1)."""
        return self.prompt.draw(level, np.zeros(level.size, np.int64))

    def outputs(self, prompt_level: Floats, level: Floats) -> Floats:
        """Output tokens (not yet rounded) at quantile `level` of what goes with a prompt of `prompt_level`."""
        return self.output.draw(level, (prompt_level * len(self.output.low)).astype(np.int64))


def fit(trace: Trace) -> JointLengths:
    """The table of a trace; small traces give coarse tables."""
    order = np.argsort(trace.prompt_tokens, kind="stable")
    groups = np.array_split(trace.output_tokens[order], min(GROUPS, trace.requests))
    return JointLengths(_cells([trace.prompt_tokens], PROMPT_LEVELS), _cells(groups, OUTPUT_LEVELS))


def _cells(groups: list[Tokens], levels: tuple[float, ...]) -> Cells:
    cut = np.array(levels)
    low, high, mean = (np.empty((len(groups), len(cut) - 1)) for _ in range(3))
    for row, values in enumerate(groups):
        ordered = np.sort(values).astype(np.float64)
        n = len(ordered)
        place = cut * n
        low[row] = ordered[np.minimum(place[:-1] + 1e-9, n - 1).astype(np.int64)]
        high[row] = ordered[np.maximum(np.ceil(place[1:] - 1e-9).astype(np.int64) - 1, 0)]
        total = np.interp(place, np.arange(n + 1), np.concatenate([[0.0], np.cumsum(ordered)]))
        mean[row] = np.clip(np.diff(total) / np.diff(place), low[row], high[row])
    return Cells(cut, low, high, mean)


def table_rows(preset: str, lengths: JointLengths) -> str:
    """The table as CSV lines under COLUMNS, without that header, as they stand in lengths.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for quantity, cells in (("prompt", lengths.prompt), ("output", lengths.output)):
        for group in range(len(cells.low)):
            for i in range(len(cells.levels) - 1):
                figures = (f"{cells.low[group, i]:g}", f"{cells.high[group, i]:g}", f"{cells.mean[group, i]:.2f}")
                writer.writerow((preset, quantity, group, cells.levels[i], cells.levels[i + 1], *figures))
    return out.getvalue()


@cache
def preset(name: str) -> JointLengths:
    """A shipped table (lengths.csv beside this file names its source)."""
    text = files("sim.trace").joinpath("lengths.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if row["preset"] == name]
    return JointLengths(*(_shipped([row for row in rows if row["quantity"] == q]) for q in ("prompt", "output")))


def _shipped(rows: list[dict[str, str]]) -> Cells:
    groups = 1 + max(int(row["prompt_group"]) for row in rows)
    levels = [float(row["from_level"]) for row in rows[: len(rows) // groups]] + [1.0]
    low, high, mean = (np.array([float(r[c]) for r in rows]).reshape(groups, -1) for c in ("low", "high", "mean"))
    return Cells(np.array(levels), low, high, mean)
