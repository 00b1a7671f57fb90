"""A request of the paper's lengths on its GPUs and models: seconds, joules and grams, by two predictors."""

from __future__ import annotations

from typing import Any

import numpy as np

from carbonfleet.reproduce.llmco2.paper import (
    BATCHES,
    CARDS,
    GPUS_TOGETHER,
    LIFETIME_YEARS,
    MODELS,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    Card,
)
from profiles import catalog
from profiles.predict import equations, predictor, request
from profiles.predict.columns import Columns
from profiles.predict.predictor import TIERS, Prediction
from profiles.units import lifetime_rate_g_per_s

PRECISION = "fp16"


def rows(zones: dict[str, float]) -> list[dict[str, Any]]:
    """Every GPU, model and batch; where the model does not fit that is said instead of a figure."""
    cells = [(card, model, batch) for card in CARDS for model in MODELS for batch in BATCHES]
    configurations = [request.cell(card.gpu, model, GPUS_TOGETHER, PRECISION) for card, model, _ in cells]
    n = len(cells)
    asked = Columns.of(configurations, [b for _, _, b in cells], [PROMPT_TOKENS] * n, [OUTPUT_TOKENS] * n)
    room = asked.work.capacity_tokens >= PROMPT_TOKENS + OUTPUT_TOKENS
    fit = asked.take(np.flatnonzero(room))
    ours, plain = predictor.load().predict(fit), equations.load().predict(fit)
    told = iter(_told(fit, ours, plain, [cells[i][0] for i in np.flatnonzero(room)], zones))
    named = [{"gpu": card.gpu, "model": model, "batch": batch} for card, model, batch in cells]
    return [row | (next(told) if has else {"no_room": True}) for row, has in zip(named, room.tolist(), strict=True)]


def _told(
    c: Columns, ours: Prediction, plain: Prediction, cards: list[Card], zones: dict[str, float]
) -> list[dict[str, Any]]:
    places = {zone: request.Place(g, lifetime_years=LIFETIME_YEARS) for zone, g in zones.items()}
    priced = {zone: request.carbon(c, ours, place) for zone, place in places.items()}
    one = next(iter(priced.values()))
    equal = request.carbon(c, plain, next(iter(places.values())))
    found = []
    for i, card in enumerate(cards):
        joules = float(one.prompt_j[i] + one.decode_j[i])
        found.append(
            {
                "no_room": False,
                "tier": TIERS[int(ours.tier[i])],
                "running": float(ours.batch[i]),
                "ttft_s": float(ours.ttft_s[i]),
                "tpot_s": float(ours.tpot_s[i]),
                "gpu_energy_j": joules,
                "energy_band": float(ours.band["energy"][i]),
                "prefill_j_per_token": float(one.prompt_j[i]) / PROMPT_TOKENS,
                "decode_j_per_token": float(one.decode_j[i]) / OUTPUT_TOKENS,
                "equations_energy_j": float(equal.prompt_j[i] + equal.decode_j[i]),
                # both do the same operations, the equations at a stated share of the peak
                "flops_utilization": equations.EFFICIENCY * float(equal.gpu_s[i] / one.gpu_s[i]),
                "operational_g": {zone: float(g.operational_g[i]) for zone, g in priced.items()},
                "embodied_g": {
                    "low": float(one.embodied_low_g[i]),
                    "mid": float(one.embodied_g[i]),
                    "high": float(one.embodied_high_g[i]),
                    "die": die_rate_g_per_s(card) * float(one.gpu_s[i]),
                },
            }
        )
    return found


def die_kg(card: Card) -> float:
    """LLMCarbon's embodied kilograms: the die's area times those of its node, nothing else."""
    return card.die_kg_per_cm2 * (catalog.gpu(card.gpu).die_mm2 or 0.0) / 100.0


def die_rate_g_per_s(card: Card) -> float:
    """Those kilograms spread over the lifetime."""
    return lifetime_rate_g_per_s(die_kg(card), LIFETIME_YEARS)
