"""Points chosen one by one: few where physics is smooth, more where an engine changes regime."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from calibrate import Progress, adaptive, measure
from calibrate.adaptive import Row
from calibrate.clock import VirtualClock
from calibrate.points import Point, decode, prefill
from calibrate.runners.fake import FakeGpu, FakeRunner, Sensor
from profiles.catalog import gpu, llm
from profiles.step import StepModel

MODEL = llm("llama-3.1-8b")
ROWS = adaptive.rows(1 << 30, None, (512, 4096))


def explore(candidates: list[Row], truth: Callable[[Point], float]) -> dict[Point, float]:
    """The rule of Schedule.explore on a function instead of a device."""
    measured = {point: truth(point) for row in adaptive.first(candidates) for point in row.points}
    surprises: list[float] = []
    queue: list[Row] = []
    while not adaptive.settled(measured, candidates, surprises):
        chosen = queue.pop(0) if queue else adaptive.choose(measured, candidates, surprises)
        if chosen is None:
            break
        measured |= {point: truth(point) for point in chosen.points}
        surprises.append(adaptive.surprise(measured, candidates, chosen))
        if surprises[-1] > adaptive.REGIME:
            more = adaptive.beside(measured, candidates, chosen)
            queue += [row for row in more if row not in queue and row.points[0] not in measured]
    return measured


def mean_error(measured: dict[Point, float], candidates: list[Row], truth: Callable[[Point], float]) -> float:
    points = [point for row in candidates for point in row.points]
    return statistics.fmean(abs(adaptive.foretold_s(measured, candidates, p) / truth(p) - 1.0) for p in points)


def smooth(point: Point) -> float:
    if point.phase == "prefill":
        return 0.004 + max(0.005, 2.5e-5 * point.new) + 2e-10 * point.new**2
    return 0.008 + 2e-5 * point.sequences + 4e-8 * point.kv_tokens


@pytest.mark.parametrize("candidates", ROWS, ids=["prefill", "decode"])
def test_few_points_suffice_where_it_is_smooth(candidates: list[Row]) -> None:
    measured = explore(candidates, smooth)
    assert len(measured) <= 14
    assert mean_error(measured, candidates, smooth) < 0.02


def test_a_change_of_regime_is_bisected() -> None:
    """A real one: from batch 64 to 128 an 8B on B200 went from 9.0 to 26.7 ms a step (ML.ENERGY's rows)."""

    def jump(point: Point) -> float:
        return smooth(point) + (0.017 if point.sequences > 64 else 0.0)

    measured = explore(ROWS[1], jump)
    assert {64, 96} <= {point.sequences for point in measured}
    assert mean_error(measured, ROWS[1], jump) < 0.02
    assert len(measured) > len(explore(ROWS[1], smooth))


def test_what_does_not_fit_is_cut_or_left_out() -> None:
    prompts, steps = adaptive.rows(20_000, 4096, (512, 4096))
    assert max(row.place for row in prompts) == 4096
    assert steps[-1] == Row(16, (decode(16, 512), decode(16, 1216)))  # 20,000 / 16 = 1250, down to a multiple of 64


def test_nothing_left_or_too_little_known_gives_no_choice() -> None:
    few = ROWS[0][:3]
    assert adaptive.first(few) == few
    assert adaptive.choose({point: smooth(point) for row in few for point in row.points}, few) is None
    assert adaptive.choose({prefill(16): 1.0}, few) is None
    assert adaptive.first([]) == []


def fake(seed: int = 0) -> FakeGpu:
    return FakeGpu(VirtualClock(), gpu("h100-sxm-80gb"), Sensor(), seed)


def test_a_full_run_finds_its_points_and_interpolates_the_rest() -> None:
    profile = measure(MODEL, runner="fake", fake_gpu=fake())
    assert len(profile.prefill.time_s) + len(profile.decode.time_s) < 28  # the stated grid has 21, its candidates 42
    assert any("of 13 candidate batches measured" in note for note in profile.provenance.notes)
    model, runner = StepModel(profile), FakeRunner(MODEL, fake())
    dice = random.Random(1)
    errors = []
    for _ in range(200):
        batch, context = dice.choice(adaptive.DECODE_BATCHES[:9]), dice.randrange(512, 4096)
        truth, _ = runner.truth("decode", 1, context, batch)
        errors.append(abs(model.decode_time_s(batch, batch * context) / truth - 1.0))
    assert statistics.fmean(errors) < 0.03


def test_a_full_run_killed_and_resumed_takes_the_same_path(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def killer(progress: Progress) -> None:
        if progress.label.startswith("adding: decode"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(MODEL, runner="fake", fake_gpu=fake(), checkpoint=path, progress=killer)
    held = [json.loads(line) for line in path.read_text().splitlines()]
    points = [record["point"] for record in held if "point" in record]
    seen: list[str] = []
    first = measure(MODEL, runner="fake", fake_gpu=fake(), checkpoint=path, progress=lambda p: seen.append(p.label))
    assert not any(label.endswith(points[0]) for label in seen if label.startswith(("first", "adding")))
    finished = path.read_text()
    again = measure(MODEL, runner="fake", fake_gpu=fake(), checkpoint=path)
    assert again == first
    assert path.read_text() == finished
