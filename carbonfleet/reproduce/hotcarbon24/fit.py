"""The six parameters that no data sheet has, from four claims fixed in advance and the two powers the paper implies.

Least squares on logarithms: each target is met to 2 % (what rounding 2.2 and 30.9 leaves), each parameter stays near an
assumed value within an assumed spread, so that any subset of claims gives an answer. All other claims are predictions.
The form of the model and its constants were chosen with the whole paper in view; only the parameters are withheld from
the claims that are scored.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from carbonfleet.reproduce.hotcarbon24 import claims
from carbonfleet.reproduce.hotcarbon24.paper import BATCHES, CLAIMS, GPUS, MODELS, NEW, OLD, SMALL, STATED_W
from carbonfleet.reproduce.hotcarbon24.trial import Cells, predicted
from profiles import catalog
from profiles.predict.eager import Card, Eager, Habits

TOLERANCE = 0.02  # of a target, 1 sigma
OTHER_TOLERANCES = (0.005, 0.06)
LOST = 3.0  # residual in logarithms where a claim's cells are out of memory
ALL_CELLS = [(gpu, model, batch) for gpu in GPUS for model in MODELS for batch in BATCHES]
SUBSETS, SEED = 40, 24


@dataclass(frozen=True, slots=True)
class Parameter:
    """One free parameter: the value assumed before any fit, and its spread as a factor (1 sigma)."""

    name: str
    unit: str
    assumed: float
    spread: float
    reason: str


PARAMETERS = (
    Parameter("layer_s", "s", 0.76e-3, 1.35, "host work a layer: kernel launches of an eager framework"),
    Parameter("sequence_ops", "FP32 operations", 1.0e5, 2.7, "eager decode work a sequence, layer and unit of width"),
    Parameter("stall_s", "s", 1.0e-3, 10.0, "a layer's stall in short memory: a cudaFree and a cudaMalloc"),
    Parameter("power_exponent", "1", 1.5, 1.2, "convexity of power in the share of time the GPU works"),
    Parameter(f"base_share {OLD}", "of TDP", 11.5 / 70.0, 1.35, "power in use but waiting"),
    Parameter(f"base_share {NEW}", "of TDP", 28.0 / 300.0, 1.35, "power in use but waiting"),
)


@dataclass(frozen=True, slots=True)
class Fit:
    """Values of PARAMETERS, and the claims they were fitted to."""

    values: tuple[float, ...]
    claims: tuple[str, ...]

    @property
    def habits(self) -> Habits:
        """Those of machine and framework."""
        return Habits(*self.values[:4])

    def base_share(self, gpu: str) -> float:
        """Base power as a share of TDP; of a card that the paper has not, the mean of the two it has."""
        old, new = self.values[4:]
        return {OLD: old, NEW: new}.get(gpu, (old + new) / 2.0)

    def eager(self, gpu: str, model: str) -> Eager:
        """A model on a card of the catalogue under these parameters.

        Raises:
            InputError: unknown or ambiguous names, or a card or model that the form does not cover.
        """
        found = catalog.gpu(gpu)
        return Eager(catalog.llm(model), Card.of(found, self.base_share(found.name)), self.habits)

    def cells(self, wanted: Iterable[tuple[str, str, int]] = ALL_CELLS) -> Cells:
        """The paper's cells by the formulas."""
        wanted = list(wanted)
        pairs = {key[:2] for key in wanted}
        return predicted({pair: self.eager(*pair) for pair in pairs}, wanted)


NO_FIT = Fit(tuple(parameter.assumed for parameter in PARAMETERS), ())


def fit(targets: Sequence[str], tolerance: float = TOLERANCE) -> Fit:
    """The parameters from these claims and the stated powers, each to a relative tolerance (1 sigma)."""
    from scipy.optimize import least_squares

    powered = [(gpu, SMALL, 1) for gpu in STATED_W]
    wanted = sorted({key for claim in targets for key in claims.keys(claim)} | set(powered))
    paper = {claim.id: claim.value for claim in CLAIMS}

    def values(x: Iterable[float]) -> tuple[float, ...]:
        return tuple(p.assumed * p.spread**step for p, step in zip(PARAMETERS, x, strict=True))

    def residuals(x: NDArray[np.float64], /) -> list[float]:
        cells = Fit(values(x), ()).cells(wanted)
        found = [_off(claims.ours(cells, claim), paper[claim]) for claim in targets]
        for gpu, model, batch in powered:
            cell = cells[gpu, model, batch]
            found.append(_off(cell.power_w if cell else None, STATED_W[gpu]))
        return [*(off / tolerance for off in found), *x.tolist()]

    count = len(PARAMETERS)
    best = least_squares(residuals, np.zeros(count), diff_step=np.full(count, 1e-3))
    return Fit(values(best.x.tolist()), tuple(targets))


def random_subsets(size: int) -> list[tuple[str, ...]]:
    """SUBSETS different choices of `size` claims that a fit can use (a best batch has no slope)."""
    usable = [claim.id for claim in CLAIMS if claim.scored and claim.rule == "near"]
    return random.Random(SEED).sample(list(combinations(usable, size)), SUBSETS)


def _off(ours: float | None, paper: float | None) -> float:
    if ours is None or paper is None:
        return LOST
    return math.log(ours / paper)
