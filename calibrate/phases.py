"""Energy of prefill and of decode from windows that mix them: least squares over input and output mixes.

E - P_idle T = e_prefill N_in + e_decode N_out for every window of closed-loop load. Windows of prompts alone and of
long outputs pull the two apart; the covariance says how well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibrate.errors import BenchError

LEAST_MIXES = 4


@dataclass(frozen=True, slots=True)
class Mix:
    """One window of load: tokens in and out, its seconds and joules."""

    prompt_tokens: float
    output_tokens: float
    time_s: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Phases:
    """Joules above idle of a prompt token and of an output token, with covariance (J^2) and relative residuals."""

    prefill_j: float
    decode_j: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    residual_rel: float

    @property
    def prefill_sd_j(self) -> float:
        """1 sigma of `prefill_j`."""
        return float(self.covariance[0][0] ** 0.5)

    @property
    def decode_sd_j(self) -> float:
        """1 sigma of `decode_j`."""
        return float(self.covariance[1][1] ** 0.5)

    @property
    def correlation(self) -> float:
        """Between the two: near -1 the mixes do not tell them apart."""
        both = self.prefill_sd_j * self.decode_sd_j
        return self.covariance[0][1] / both if both else 0.0


def separate(mixes: Sequence[Mix], idle_w: float) -> Phases:
    """Fit the two energies; windows are weighted by the inverse of their joules, so that relative errors count.

    Raises:
        BenchError: fewer than four mixes, or mixes that are all alike.
    """
    if len(mixes) < LEAST_MIXES:
        raise BenchError(f"{len(mixes)} mixes do not separate prefill from decode; measure at least {LEAST_MIXES}")
    tokens = np.array([[mix.prompt_tokens, mix.output_tokens] for mix in mixes], dtype=float)
    above = np.array([mix.energy_j - idle_w * mix.time_s for mix in mixes])
    weight = 1.0 / np.array([mix.energy_j for mix in mixes])
    design, wanted = tokens * weight[:, None], above * weight
    square = design.T @ design
    if np.linalg.cond(square) > 1e12:
        raise BenchError("the mixes are all alike; measure prompts alone and long outputs too")
    inverse = np.linalg.inv(square)
    found = inverse @ design.T @ wanted
    left = wanted - design @ found
    variance = float(left @ left) / (len(mixes) - 2)
    covariance = variance * inverse
    return Phases(
        float(found[0]),
        float(found[1]),
        ((float(covariance[0, 0]), float(covariance[0, 1])), (float(covariance[1, 0]), float(covariance[1, 1]))),
        variance**0.5,
    )
