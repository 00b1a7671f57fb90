"""Closed forms of a run of decode steps with an unchanged batch.

Step i (from 0) of a batch of B sequences that began with K tokens takes a + c (K + B i) seconds, so the boundary after
k steps lies at t0 + k a + c (k K + B k (k - 1) / 2). Both engines place boundaries by this one expression.
"""

from __future__ import annotations

import math

from sim.engine.clock import TIE_S

_SURE = 0.01  # of a step: farther from a boundary than that, rounding cannot move the root across it


def boundary_s(start_s: float, a_s: float, c_s: float, batch: int, kv: int, steps: int) -> float:
    """When `steps` decode steps that began at `start_s` are done."""
    return start_s + (steps * a_s + c_s * (steps * kv + batch * (steps * (steps - 1) // 2)))


def boundary_after(
    start_s: float, a_s: float, c_s: float, batch: int, kv: int, now_s: float, low: int, high: int
) -> tuple[int, float]:
    """The first boundary, from `low` to `high` steps, that sees what happened at `now_s`, and its time.

    A quadratic root gives it up to rounding; the boundary expression itself decides, so that the plain engine, which
    meets one boundary after the other, finds the same one.
    """
    elapsed = now_s - TIE_S - start_s
    square = 0.5 * c_s * batch
    linear = a_s + c_s * kv - square
    if square > 0.0:
        inside = linear * linear + 4.0 * square * elapsed
        guess = 2.0 * elapsed / (linear + math.sqrt(inside if inside > 0.0 else 0.0))
    else:
        guess = elapsed / linear
    steps = math.ceil(guess)
    if low <= steps <= high and _SURE < steps - guess < 1.0 - _SURE:
        return steps, boundary_s(start_s, a_s, c_s, batch, kv, steps)
    if steps < low:
        steps = low
    elif steps > high:
        steps = high
    time_s = boundary_s(start_s, a_s, c_s, batch, kv, steps)
    while steps < high and time_s + TIE_S < now_s:
        steps += 1
        time_s = boundary_s(start_s, a_s, c_s, batch, kv, steps)
    while steps > low:
        before_s = boundary_s(start_s, a_s, c_s, batch, kv, steps - 1)
        if before_s + TIE_S < now_s:
            break
        steps, time_s = steps - 1, before_s
    return steps, time_s
