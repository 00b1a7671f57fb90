"""From windows to a profile's columns: means, random uncertainty, flags.

Random uncertainty (1 sigma, relative, of the mean) comes from the scatter between repeats. Three repeats say little
about their own scatter, so each point's variance is pooled with all points' (the control's repeats included) and
widened by Student's t; the scatter inside the windows is a floor. Power adds the two meters' disagreement. The
sensor's gain is systematic, common to all points, and stays apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from calibrate.errors import BenchError
from calibrate.points import Point
from calibrate.protocol import Window
from profiles.profile import DecodePoints, Mixed, MixedPoints, PrefillPoints

_PRIOR_DOF = 8  # the pooled variance counts as this many degrees of freedom at most
_REPEATS_AGREE = 0.03


def columns(points: Sequence[Point], windows: dict[str, list[Window]]) -> tuple[PrefillPoints, DecodePoints]:
    """The prefill and decode columns of every point that was measured.

    Raises:
        BenchError: a phase has no point, or none that is valid.
    """
    kept = sorted(point for point in points if windows.get(point.label) and point.phase != "mixed")
    used = {point: _usable(windows[point.label]) for point in kept}
    time_rel = _random_rel([([w.time_s for w in used[p]], [w.time_sem_rel for w in used[p]]) for p in kept])
    power_rel = _random_rel([([w.power_w for w in used[p]], [w.power_sem_rel for w in used[p]]) for p in kept])
    rows: dict[Point, dict[str, Any]] = {}
    for point, time_u, power_u in zip(kept, time_rel, power_rel, strict=True):
        mine = used[point]
        rows[point] = {
            "time_s": statistics.fmean(w.time_s for w in mine),
            "power_w": statistics.fmean(w.power_w for w in mine),
            "time_random_rel": time_u,
            "power_random_rel": math.hypot(power_u, _disagreement(mine)),
            "flags": _flags(mine),
        }
    for phase in ("prefill", "decode"):
        good = [p for p in kept if p.phase == phase and not str(rows[p]["flags"]).startswith("invalid")]
        if not good:
            raise BenchError(f"no valid {phase} point: {_reason(rows, phase)}")
    prefill = [p for p in kept if p.phase == "prefill"]
    decode = [p for p in kept if p.phase == "decode"]
    return (
        PrefillPoints(
            new_tokens=[_tokens(used[p], p.step_tokens) for p in prefill],
            past_tokens=[p.context * p.sequences for p in prefill],
            sequences=[p.sequences for p in prefill],
            **_transposed([rows[p] for p in prefill]),
        ),
        DecodePoints(
            batch=[p.sequences for p in decode],
            kv_tokens=[p.sequences * _tokens(used[p], p.context) for p in decode],
            **_transposed([rows[p] for p in decode]),
        ),
    )


def mixed_table(points: Sequence[Point], windows: dict[str, list[Window]]) -> Mixed:
    """The table of mixed steps that were measured, or the default rule where none was."""
    kept = sorted(point for point in points if point.phase == "mixed" and windows.get(point.label))
    used = {point: _usable(windows[point.label]) for point in kept}
    if not kept:
        return Mixed()
    return Mixed(
        rule="table",
        points=MixedPoints(
            new_tokens=[point.new for point in kept],
            past_tokens=[0] * len(kept),
            batch=[point.sequences for point in kept],
            kv_tokens=[point.sequences * point.context for point in kept],
            time_s=[statistics.fmean(w.time_s for w in used[point]) for point in kept],
            power_w=[statistics.fmean(w.power_w for w in used[point]) for point in kept],
            flags=[_flags(used[point]) for point in kept],
        ),
    )


def _tokens(windows: list[Window], planned: int) -> int:
    """What was really there, where a server counted it."""
    seen = [window.tokens for window in windows if window.tokens is not None]
    return round(statistics.fmean(seen)) if seen else planned


def _transposed(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _usable(windows: list[Window]) -> list[Window]:
    """The windows without an invalid flag, or all of them where none is without."""
    good = [w for w in windows if not any(flag.startswith("invalid") for flag in w.flags)]
    return good or windows


def _flags(windows: list[Window]) -> str:
    """Every flag once, invalid first (the profile's rule reads the beginning)."""
    found = {flag for window in windows for flag in window.flags}
    times = [w.time_s for w in windows]
    if len(times) > 1 and statistics.stdev(times) > _REPEATS_AGREE * statistics.fmean(times):
        found.add("repeats differ")
    return "; ".join(sorted(found, key=lambda flag: (not flag.startswith("invalid"), flag)))


def _reason(rows: dict[Point, dict[str, Any]], phase: str) -> str:
    flags = {str(row["flags"]) for point, row in rows.items() if point.phase == phase}
    return f"{' / '.join(sorted(flags))}; cool the GPU and start again" if flags else "none fits the memory"


def _disagreement(windows: list[Window]) -> float:
    """Mean relative difference between counter and polled power; 0 where only one of them speaks."""
    gaps = [w.polled_w / w.power_w - 1.0 for w in windows if w.polled_w is not None and w.power_w > 0]
    return abs(statistics.fmean(gaps)) if gaps else 0.0


def _random_rel(groups: list[tuple[list[float], list[float]]]) -> list[float]:
    """Relative 1 sigma of each group's mean, from (repeats, standard errors inside each window)."""
    squares = [_relative_squares(values) for values, _ in groups]
    dof = sum(len(values) - 1 for values, _ in groups)
    pool = sum(squares) / dof if dof else 0.0
    prior = min(dof, _PRIOR_DOF)
    found = []
    for (values, sems), own in zip(groups, squares, strict=True):
        n = len(values)
        known = n - 1 + prior
        variance = (own + prior * pool) / known if known else 0.0
        inside = statistics.fmean(sem * sem for sem in sems)
        found.append(max(_widening(known) * math.sqrt(variance / n), math.sqrt(inside / n)))
    return found


def _relative_squares(values: list[float]) -> float:
    mean = statistics.fmean(values)
    return sum((value / mean - 1.0) ** 2 for value in values) if mean > 0 else 0.0


def _widening(dof: int) -> float:
    """Student's 97.5 % quantile over the normal's, so that +-1.96 sigma is a 95 % interval."""
    if not dof:
        return 1.0
    from scipy.special import stdtrit

    return float(stdtrit(dof, 0.975)) / 1.96
