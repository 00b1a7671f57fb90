"""Every claim of the paper with our figure, the error between them and a verdict; the score of what was not fitted."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from carbonfleet.reproduce.hotcarbon24 import claims
from carbonfleet.reproduce.hotcarbon24.fit import NO_FIT, OTHER_TOLERANCES, fit, random_subsets
from carbonfleet.reproduce.hotcarbon24.paper import (
    CLAIMS,
    EMBODIED_KG,
    FITTED,
    LIFETIME_YEARS,
    LIFETIMES_YEARS,
    OUTPUT_TOKENS,
    STATED_W,
    ZONES,
    Claim,
)
from carbonfleet.reproduce.hotcarbon24.trial import Cells
from carbonfleet.reproduce.result import FAR, NEAR, worded
from profiles import catalog
from profiles.embodied import gpu_embodied
from profiles.units import SECONDS_PER_HOUR, lifetime_rate_g_per_s, operational_g

PEAK_SHARE = 0.05  # of the optimum: a flat top has no one best batch
_SCORED = {claim.id for claim in CLAIMS if claim.scored}


def judged(cells: Cells) -> list[dict[str, Any]]:
    """A row for each claim, in the paper's order."""
    return [_row(claim, cells) for claim in CLAIMS]


def embodied_share(gpu: str, power_w: float, intensity_g_per_kwh: float, lifetime_years: float) -> float:
    """Embodied over all grams of a GPU that draws `power_w` all the time it is used: the time cancels."""
    rate = lifetime_rate_g_per_s(EMBODIED_KG[gpu], lifetime_years) * SECONDS_PER_HOUR
    return rate / (rate + operational_g(power_w * SECONDS_PER_HOUR, intensity_g_per_kwh))


def score(rows: Iterable[dict[str, Any]], left_out: Iterable[str] = FITTED) -> dict[str, Any]:
    """How many independent numbers that were not fitted lie within 10 and 20 %.

    `strict` counts a best batch only where it is the paper's, instead of by its error.
    """
    without = set(left_out)
    kept = [row for row in rows if row["id"] in _SCORED - without]

    def share(limit: float, strict: bool) -> float:
        return sum(_within(row, limit, strict) for row in kept) / len(kept)

    return {
        "claims": len(kept),
        "share_within_10_percent": share(NEAR, False),
        "share_within_20_percent": share(FAR, False),
        "strict_share_within_10_percent": share(NEAR, True),
        "strict_share_within_20_percent": share(FAR, True),
    }


def _within(row: dict[str, Any], limit: float, strict: bool) -> bool:
    if strict and row["unit"] == "batch":
        return bool(row["ours"] == row["paper"])
    return row["error"] is not None and row["right_direction"] is not False and bool(abs(row["error"]) <= limit)


def scores(cells: Cells) -> dict[str, Any]:
    """The score of the fit, to other tolerances, with no fit at all, and over random choices of as many claims."""
    tried = [score(judged(fit(subset).cells()), subset) for subset in random_subsets(len(FITTED))]
    columns = {key: sorted(one[key] for one in tried) for key in tried[0] if key != "claims"}
    return {
        "fitted_on": list(FITTED),
        "fit": score(judged(cells)),
        "other_tolerances": [
            {"tolerance": tolerance, **score(judged(fit(FITTED, tolerance).cells()))} for tolerance in OTHER_TOLERANCES
        ],
        "no_fit": score(judged(NO_FIT.cells()), ()),
        "random_subsets": {
            "subsets": len(tried),
            "of_claims": len(FITTED),
            **{
                key: {"worst": shares[0], "median": statistics.median(shares), "best": shares[-1]}
                for key, shares in columns.items()
            },
        },
    }


def _row(claim: Claim, cells: Cells) -> dict[str, Any]:
    judge = {"equal": _input, "near": _near, "peak": _peak, "identity": _identity, "shown": _shown}[claim.rule]
    ours, error, verdict = judge(claim, cells)
    return {
        "id": claim.id,
        "section": claim.section,
        "kind": claim.kind,
        "quantity": claim.quantity,
        "gpu": claim.gpu,
        "model": claim.model,
        "batch": claim.batch,
        "region": claim.region,
        "unit": claim.unit,
        "paper": claim.value,
        "ours": ours,
        "error": error,
        "right_direction": _direction(claim, ours),
        "fitted": claim.fitted,
        "identity": claim.identity,
        "repeats": claim.repeats,
        "verdict": verdict,
        "note": claim.note,
    }


def _direction(claim: Claim, ours: float | None) -> bool | None:
    """Whether a ratio lies on the paper's side of 1."""
    if claim.unit != "ratio" or claim.value is None or ours is None:
        return None
    return (ours > 1.0) == (claim.value > 1.0)


def _input(claim: Claim, cells: Cells) -> tuple[float, float, str]:
    used = {"c03": ZONES["QC"], "c04": ZONES["CISO"], "c05": ZONES["PACE"], "c06": LIFETIME_YEARS}
    used["c07"] = float(OUTPUT_TOKENS)
    made = used.get(claim.id)
    ours = gpu_embodied(catalog.gpu(claim.gpu), "hotcarbon24").mid_kg if made is None else made
    error = ours / (claim.value or ours) - 1.0
    return ours, error, "equal" if ours == claim.value else "miss"


def _near(claim: Claim, cells: Cells) -> tuple[float | None, float | None, str]:
    ours = claims.ours(cells, claim.id)
    if ours is None or claim.value is None:
        return None, None, "miss: out of memory"
    error = ours / claim.value - 1.0
    return ours, error, worded(error, _direction(claim, ours) is not False)


def _peak(claim: Claim, cells: Cells) -> tuple[float | None, float | None, str]:
    """Our best batch; its error is what our figure loses at the paper's batch, since batches have no decimals."""
    ours = claims.ours(cells, claim.id)
    if ours is None or claim.value is None:
        return None, None, "miss: out of memory"
    error = claims.off_peak(cells, claim.id, round(claim.value))
    if ours == claim.value:
        return ours, error, "same batch"
    if abs(error) <= PEAK_SHARE:
        return ours, error, "on a flat top"
    return ours, error, "within one batch step" if 0.5 <= ours / claim.value <= 2.0 else "miss"


def _identity(claim: Claim, cells: Cells) -> tuple[float | None, float | None, str]:
    if claim.id == "c31":
        return None, None, "identity holds" if _falls(claim.gpu) else "miss"
    ours = embodied_share(claim.gpu, STATED_W[claim.gpu], ZONES[claim.region], LIFETIME_YEARS)
    exact = claim.value is not None and round(ours, 3) == claim.value
    return ours, ours / (claim.value or ours) - 1.0, "identity holds" if exact else "miss"


def _falls(gpu: str) -> bool:
    """Whether the share falls with every longer life in every region, and most where the grid is cleanest."""
    shares = {
        zone: [embodied_share(gpu, STATED_W[gpu], intensity, years) for years in LIFETIMES_YEARS]
        for zone, intensity in ZONES.items()
    }
    falling = all(a > b for row in shares.values() for a, b in zip(row, row[1:], strict=False))
    fall = {zone: row[0] - row[-1] for zone, row in shares.items()}
    return falling and max(fall, key=fall.__getitem__) == min(ZONES, key=ZONES.__getitem__)


def _shown(claim: Claim, cells: Cells) -> tuple[float | None, float | None, str]:
    without = sum(cell is None for (gpu, _, _), cell in cells.items() if gpu == claim.gpu)
    return None, None, "shown" if without else "miss"
