"""The default predictor: the serving form with fitted efficiencies, and the corrections learned for what was measured.

Four families are fitted apart, because their engines batch in other ways: dense models, mixtures of experts, mixtures
whose prompts are prefilled elsewhere, and batches that start together (LLM-Inference-Bench). Each family has
efficiencies (profiles.predict.fit), corrections (profiles.predict.residual) and the bands that held-out rows asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import read_json
from profiles.predict import form
from profiles.predict.columns import Cell, Columns, Floats, word
from profiles.predict.fit import Parameters
from profiles.predict.predictor import BANDED, Prediction
from profiles.predict.residual import Residual

FILE = Path(__file__).parent / "data" / "serving.json"
FAMILIES = ("dense", "moe", "apart", "batch")
_DIGITS = 4


def family(cell: Cell) -> str:
    """The family a configuration is predicted with."""
    if cell.source == "bench":
        return "batch"
    if not cell.llm.moe:
        return "dense"
    return "apart" if cell.apart else "moe"


def kin(cell: Cell) -> str:
    """The rows whose errors a configuration shares: its source; pictures and hybrid models of ML.ENERGY stand apart."""
    other = cell.task in ("image-chat", "video-chat") or (cell.source and cell.llm.name.startswith("nemotron"))
    return cell.source.split("-")[0] + (" other" if other else "")


@dataclass
class Fitted:
    """One family: efficiencies, a correction of tpot, ttft and power, bands by figure and tier, what was seen.

    `powered` is the part of `seen` whose watts were measured too.
    """

    parameters: Parameters
    corrections: dict[str, Residual] = field(default_factory=dict)
    bands: dict[str, list[float]] = field(default_factory=dict)
    seen: set[tuple[str, str, str]] = field(default_factory=set)  # GPU, model, engine
    powered: set[tuple[str, str, str]] = field(default_factory=set)
    vendors: set[str] = field(default_factory=set)

    def tier(self, cell: Cell, figure: str = "tpot") -> int:
        """How far a configuration is from where this figure was measured, as an index into TIERS."""
        seen = self.powered if figure in ("power", "energy") else self.seen
        gpus, engines = {gpu for gpu, _, _ in seen}, {engine for _, _, engine in self.seen}
        if (cell.gpu.name, word(cell, "model"), cell.engine) in seen:
            return 0
        if cell.engine not in engines or cell.gpu.vendor not in self.vendors:
            return 3
        return 1 if cell.gpu.name in gpus else 2

    def band(self, figure: str, cell: Cell) -> float:
        """The 90 % factor of a configuration: its source's, where rows are asked about, else that of all sources."""
        own = self.bands.get(f"{figure}@{kin(cell)}", self.bands[figure])
        return own[self.tier(cell, figure)]

    def figures(self, c: Columns) -> dict[str, Floats]:
        """Corrected figures by name, the batch that runs, and the prompt's share of a request's joules."""
        p = self.parameters.columns(c)
        t, time = form.times(c, p), self.factor("tpot", c)
        watts = np.minimum(form.power_w(c, p, t) * self.factor("power", c), c.work.world * c.work.tdp_w)
        mean = t.mean_s * time
        return {
            "batch": t.batch, "tpot": t.tpot_s * time, "mean": mean, "ttft": t.ttft_s * self.factor("ttft", c),
            "power": watts, "energy": watts * mean / t.batch, "share": form.prefill_share(c, p, t),
        }  # fmt: skip

    def factor(self, figure: str, c: Columns) -> Floats:
        """What the correction of a figure multiplies it with; 1 where nothing was measured."""
        correction = self.corrections.get(figure)
        return np.exp(correction(c)) if correction is not None else np.ones(len(c))


class Serving:
    """The fitted predictor of all families."""

    name = "roofline"
    source = "roofline fitted to aiconfigurator silicon_sample, ML.ENERGY and LLM-Inference-Bench (docs/predict.md)"

    def __init__(self, families: dict[str, Fitted]) -> None:
        self.families = families

    def predict(self, columns: Columns) -> Prediction:
        """Figures of every configuration, each by its family."""
        n = len(columns)
        out = {k: np.full(n, np.nan) for k in ("batch", "tpot", "mean", "ttft", "power", "energy", "share")}
        bands = {k: np.full(n, np.nan) for k in BANDED}
        tier = np.zeros(n, dtype=np.int64)
        kinds = np.array([FAMILIES.index(family(cell)) for cell in columns.cells])[columns.which]
        for k, name in enumerate(FAMILIES):
            rows = np.flatnonzero(kinds == k)
            if rows.size:
                self._fill(self.families[name], columns.take(rows), rows, out, bands, tier)
        return Prediction(
            out["batch"], out["tpot"], out["mean"], out["ttft"], out["power"], out["energy"], out["share"], tier, bands
        )

    @staticmethod
    def _fill(
        fitted: Fitted, c: Columns, rows: NDArray[np.intp], out: dict[str, Floats], bands: dict[str, Floats],
        tier: NDArray[np.int64],
    ) -> None:  # fmt: skip
        for name, values in fitted.figures(c).items():
            out[name][rows] = values
        tier[rows] = np.array([fitted.tier(cell) for cell in c.cells])[c.which]
        for name in BANDED:
            bands[name][rows] = np.array([fitted.band(name, cell) for cell in c.cells])[c.which]


def dump(model: Serving) -> dict[str, Any]:
    """The model as a JSON document: figures of four digits, derived from rows that are not in it."""
    return {
        "schema_version": 1,
        "families": {
            name: {
                "common": {k: _round(float(np.exp(v))) for k, v in f.parameters.common.items()},
                "parts": {
                    key: {one: {k: _round(v) for k, v in d.items() if abs(v) > 1e-4} for one, d in values.items()}
                    for key, values in f.parameters.parts.items()
                },
                "corrections": {
                    figure: {
                        "levels": ["+".join(keys) for keys in r.levels],
                        "weights": {
                            g: [_round(x) for x in w] for g, w in r.weights.items() if np.max(np.abs(w)) > 1e-3
                        },
                    }
                    for figure, r in f.corrections.items()
                },
                "bands": {k: [_round(x) for x in v] for k, v in f.bands.items()},
                "seen": sorted("|".join(key) for key in f.seen),
                "powered": sorted("|".join(key) for key in f.powered),
                "vendors": sorted(f.vendors),
            }
            for name, f in model.families.items()
        },
    }


def restore(document: dict[str, Any]) -> Serving:
    """The model of a document that `dump` made."""
    families = {}
    for name, d in document["families"].items():
        common = {k: float(np.log(v)) for k, v in d["common"].items()}
        corrections = {
            figure: Residual({g: np.array(w) for g, w in r["weights"].items()},
                             tuple(tuple(keys.split("+")) for keys in r["levels"]))
            for figure, r in d["corrections"].items()
        }  # fmt: skip
        families[name] = Fitted(
            Parameters(common, d["parts"]), corrections, d["bands"], _triples(d["seen"]), _triples(d["powered"]),
            set(d["vendors"]),
        )  # fmt: skip
    return Serving(families)


def _triples(keys: list[str]) -> set[tuple[str, str, str]]:
    return {(gpu, model, engine) for gpu, model, engine in (key.split("|") for key in keys)}


@cache
def load() -> Serving:
    """The shipped model."""
    return restore(read_json(FILE))


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else json.loads("null")
