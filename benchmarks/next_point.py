"""`python -m benchmarks.next_point PERF`: rows of points chosen by calibrate against rows chosen at random, same truth.

PERF is a folder of LLMServingSim's per-layer tables (perf/RTX4090 or perf/RTXPRO6000). Truth is the whole-step time
that they add up to. Both ways begin with the same rows; after each further row straight lines foretell every other row.
"""

from __future__ import annotations

import sys

import numpy as np

from calibrate import adaptive
from calibrate.points import Point
from profiles.importers.llmservingsim import read_folder
from profiles.step import StepModel

DRAWS, MOST, ENOUGH, SEED = 200, 11, 0.01, 0


def main(folder: str) -> None:
    print("| GPU, model, tp | phase | rows | " + " | ".join(f"{n} rows" for n in range(4, MOST)) + " | rows to 1 % |")
    print("|---" * (MOST - 0) + "|")
    for profile in read_folder(folder, None, lambda text: None):
        if profile.ep > 1:
            continue
        model = StepModel(profile)
        for phase, candidates in zip(
            ("prefill", "decode"), adaptive.rows(model.kv_capacity_tokens, None, (512, 4096)), strict=True
        ):
            truth = {p: _seconds(model, p) for row in candidates for p in row.points}
            asked = _chosen(candidates, truth)
            rng = np.random.default_rng(SEED)
            drawn = np.array([_drawn(candidates, truth, rng) for _ in range(DRAWS)])
            name = f"{profile.gpu} {profile.model} {profile.tp}"
            _line(name, phase, "asked", asked)
            _line(name, phase, "random, median", np.median(drawn, axis=0).tolist())


def _seconds(model: StepModel, point: Point) -> float:
    if point.phase == "decode":
        return model.decode_time_s(point.sequences, point.kv_tokens)
    return model.prefill([(point.new, point.context)]).time_s


def _chosen(candidates: list[adaptive.Row], truth: dict[Point, float]) -> list[float]:
    known = {p: truth[p] for row in adaptive.first(candidates) for p in row.points}
    errors = [_error(known, candidates, truth)]
    surprises: list[float] = []
    queue: list[adaptive.Row] = []  # beside a surprise, as calibrate does
    while len(errors) < MOST - adaptive.FIRST_ROWS:
        row = queue.pop(0) if queue else adaptive.choose(known, candidates, surprises)
        if row is not None:
            known |= {p: truth[p] for p in row.points}
            surprises.append(adaptive.surprise(known, candidates, row))
            if surprises[-1] > adaptive.REGIME:
                beside = adaptive.beside(known, candidates, row)
                queue += [one for one in beside if one.points[0] not in known and one not in queue]
        errors.append(_error(known, candidates, truth))
    return errors


def _drawn(candidates: list[adaptive.Row], truth: dict[Point, float], rng: np.random.Generator) -> list[float]:
    """The ends, then rows in a random order, as many as the other way has."""
    order = [candidates[0], candidates[-1], *rng.permutation(np.array(candidates[1:-1], dtype=object)).tolist()]
    errors = []
    for n in range(adaptive.FIRST_ROWS, MOST):
        known = {p: truth[p] for row in order[:n] for p in row.points}
        errors.append(_error(known, candidates, truth))
    return errors


def _error(known: dict[Point, float], candidates: list[adaptive.Row], truth: dict[Point, float]) -> float:
    """Mean absolute relative error over every candidate point, measured ones included."""
    return float(np.mean([abs(adaptive.foretold_s(known, candidates, p) / t - 1.0) for p, t in truth.items()]))


def _line(name: str, phase: str, how: str, errors: list[float]) -> None:
    enough = next((str(n) for n, e in enumerate(errors, adaptive.FIRST_ROWS) if e <= ENOUGH), f"> {MOST - 1}")
    print(f"| {name} | {phase} | {how} | " + " | ".join(f"{100 * e:.1f}%" for e in errors) + f" | {enough} |")


if __name__ == "__main__":
    main(sys.argv[1])
