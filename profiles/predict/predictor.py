"""One interface for every predictor of whole requests, and what each prediction says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profiles import profile
from profiles.inputs import InputError, near_miss
from profiles.predict.columns import Columns, Floats

TIERS = profile.TIERS[1:]  # nobody predicts T0
BANDED = ("tpot", "ttft", "power", "energy")


@dataclass(frozen=True, slots=True)
class Prediction:
    """Columns over the configurations asked for.

    `batch` is how many requests really run (memory may hold fewer than asked). `mean_s` is a mean step with all its
    prompts, which is what a token costs; TPOT leaves a request's own prompt out. `power_w` is the mean over all GPUs of
    the replica at full load; `energy_j_per_token` is joules of an output token with its share of prefill.
    `prefill_share` is the part of a request's joules that its prompt takes. `tier` is the index in TIERS; `band` holds,
    for tpot, ttft, power and energy, the factor of the 90 % interval: truth within [figure / factor, figure x factor].
    NaN where a predictor knows no such figure.
    """

    batch: Floats
    tpot_s: Floats
    mean_s: Floats
    ttft_s: Floats
    power_w: Floats
    energy_j_per_token: Floats
    prefill_share: Floats
    tier: NDArray[np.int64]
    band: dict[str, Floats]


class Predictor(Protocol):
    """Anything that predicts whole requests."""

    name: str
    source: str

    def predict(self, columns: Columns) -> Prediction:
        """Figures of every configuration.

        Raises:
            InputError: a configuration this predictor has no answer for.
        """


# name -> module with `load() -> Predictor`; imported when asked for
PREDICTORS = {
    "roofline": "profiles.predict.serving",
    "equations": "profiles.predict.equations",
    "graph": "profiles.predict.graph",
}


def load(name: str = "roofline") -> Predictor:
    """A predictor by name.

    Raises:
        InputError: unknown name; the near misses are named.
    """
    if name not in PREDICTORS:
        raise InputError(f"unknown predictor {name!r}", field="--predictor", mend=near_miss(name, PREDICTORS))
    loader: Callable[[], Predictor] = import_module(PREDICTORS[name]).load
    return loader()
