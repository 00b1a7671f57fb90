"""A static batch as the paper measures it: padded prompts in one prefill, then decode until all have their tokens.

Serving engines neither pad nor hold a batch together, so the simulator's batching is not used: one prefill step and
`output - 1` decode steps of a StepModel are summed here, decode at its mean context (time is affine in the context).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from carbonfleet.reproduce.hotcarbon24.paper import BATCHES, OUTPUT_TOKENS
from profiles.predict.eager import Eager
from profiles.step import StepModel

PROMPT_TOKENS, PROMPT_SIGMA = 20.0, 0.7  # Alpaca's instructions without a template: mean, and sigma of their logarithm


@cache
def padded_tokens(batch: int) -> int:
    """The expected longest of `batch` prompts, to which all are padded: the integral of 1 - F(x)^batch."""
    from scipy.special import ndtr

    log_median = math.log(PROMPT_TOKENS) - PROMPT_SIGMA**2 / 2.0
    x = np.linspace(0.0, 2000.0, 200_001)[1:]
    below = ndtr((np.log(x) - log_median) / PROMPT_SIGMA) ** batch
    return round(float(np.trapezoid(1.0 - below, x)))


@dataclass(frozen=True, slots=True)
class Cell:
    """What one GPU does with one batch of a model: seconds and watts (of the GPU) of both phases."""

    batch: int
    prefill_s: float
    prefill_w: float
    decode_s: float
    decode_w: float

    @property
    def latency_s(self) -> float:
        """From the prompts to the last token of all."""
        return self.prefill_s + self.decode_s

    @property
    def energy_j(self) -> float:
        """Joules of the GPU for one prompt."""
        return (self.prefill_s * self.prefill_w + self.decode_s * self.decode_w) / self.batch

    @property
    def power_w(self) -> float:
        """Mean watts over the batch."""
        return self.energy_j * self.batch / self.latency_s

    @property
    def prefill_tokens(self) -> float:
        """Prompt tokens that somebody wrote: padding is no work done."""
        return self.batch * PROMPT_TOKENS

    @property
    def decode_tokens(self) -> int:
        """Tokens after the first of each prompt, which prefill gives."""
        return self.batch * (OUTPUT_TOKENS - 1)

    @property
    def prefill_tokens_per_s(self) -> float:
        """Throughput of prefill."""
        return self.prefill_tokens / self.prefill_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Throughput of decode."""
        return self.decode_tokens / self.decode_s

    @property
    def prefill_j_per_token(self) -> float:
        """Joules of the GPU a prompt token."""
        return self.prefill_s * self.prefill_w / self.prefill_tokens

    @property
    def decode_j_per_token(self) -> float:
        """Joules of the GPU a decoded token."""
        return self.decode_s * self.decode_w / self.decode_tokens


Cells = dict[tuple[str, str, int], Cell | None]  # (gpu, model, batch); None: out of memory


def batches() -> list[tuple[int, int, int]]:
    """(sequences, padded prompt tokens, output tokens) of every batch."""
    return [(batch, padded_tokens(batch), OUTPUT_TOKENS) for batch in BATCHES]


def measured(model: StepModel) -> dict[int, Cell | None]:
    """Every batch on a profile; None where its KV does not fit."""
    return {row[0]: _on_profile(model, *row) for row in batches()}


def predicted(models: Mapping[tuple[str, str], Eager], wanted: Iterable[tuple[str, str, int]]) -> Cells:
    """The same straight from the formulas, for a fit that asks thousands of times; a test holds the two together."""
    return {key: _on_formulas(models[key[0], key[1]], key[2], padded_tokens(key[2]), OUTPUT_TOKENS) for key in wanted}


def _on_profile(model: StepModel, batch: int, padded: int, output: int) -> Cell | None:
    if batch * (padded + output) > model.kv_capacity_tokens:
        return None
    prefill = model.prefill([(padded, 0)] * batch)
    kv_tokens = batch * (padded + output / 2.0)
    decode = model.decode(batch, kv_tokens)
    decode_s = (output - 1) * (decode.a_s + decode.c_s * kv_tokens)
    return Cell(batch, prefill.time_s, prefill.power_w, decode_s, decode.power_w)


def _on_formulas(model: Eager, batch: int, padded: int, output: int) -> Cell | None:
    kept = batch * (padded + output)
    if kept > model.capacity_tokens:
        return None
    prefill_s, prefill_w = model.prefill(batch * padded)
    step_s, decode_w = model.decode(batch, padded + output / 2.0, kept)
    return Cell(batch, prefill_s, prefill_w, (output - 1) * step_s, decode_w)
