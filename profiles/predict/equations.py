"""The equations of LLMCarbon (Faiz et al., ICLR 2024) to compare with: operations over peak times efficiency.

Time of prefill and decode is 2 x active parameters x tokens over (GPUs x peak x efficiency), energy that time at the
GPU's limit. LLMCarbon fits hardware efficiency to training runs; here one constant stands for it. Memory bandwidth,
batching and the engine are not in the equations, which is what the comparison shows.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from profiles.predict.columns import Columns
from profiles.predict.form import flops
from profiles.predict.predictor import BANDED, TIERS, Prediction

EFFICIENCY = 0.45  # of the peak FLOP/s: assumed, in the middle of what large GEMMs of training reach


class Equations:
    """Operations over peak; no band, since its authors give none, and every row is tier T3."""

    name = "equations"
    source = "LLMCarbon's equations (Faiz et al. 2024): FLOPs over 45 % of the peak, GPUs at their limit"

    def predict(self, columns: Columns) -> Prediction:
        """Figures of every configuration."""
        c, w = columns, columns.work
        rate = w.world * w.peak * EFFICIENCY
        prefill_s = flops(c, c.prompt, 0.5 * c.prompt * c.prompt) / rate
        step_s = flops(c, c.batch, c.batch * (c.prompt + 0.5 * c.output)) / rate
        tpot_s = step_s + c.batch / c.output * prefill_s
        power_w = w.world * w.tdp_w
        share = np.clip(prefill_s * c.batch / (tpot_s * c.output), 0.0, 1.0)
        unknown = np.full(len(c), np.nan)
        tier = np.full(len(c), len(TIERS) - 1, dtype=np.int64)
        joules = power_w * tpot_s / c.batch
        return Prediction(
            c.batch, tpot_s, tpot_s, prefill_s, power_w, joules, share, tier, dict.fromkeys(BANDED, unknown)
        )


@cache
def load() -> Equations:
    """The predictor."""
    return Equations()
