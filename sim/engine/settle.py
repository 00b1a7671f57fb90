"""The rare ways to book a run of decode steps: across a change of the grid's intensity, and after a stall."""

from __future__ import annotations

from profiles.step import Line
from sim.engine.clock import TIE_S
from sim.engine.leap import boundary_after, boundary_s
from sim.engine.ledger import Ledger


def across_hours(
    ledger: Ledger,
    line: Line,
    batch: int,
    kv: int,
    counter: int,
    steps: int,
    start_s: float,
    end_s: float,
    gaps: tuple[float, float] | None,
) -> None:
    """Book decode steps under a changing intensity: stretches of one value, and each straddling step by itself."""
    a_s, c_s = line.a_s, line.c_s
    ledger.busy(start_s, end_s, line.power_w)
    if gaps is not None:
        ledger.gaps(*gaps, steps, batch)
    done, at_s = 0, start_s
    while done < steps:
        change_s = ledger.next_change_s(at_s)
        until, to_s = steps, end_s
        if end_s > change_s:
            until, to_s = boundary_after(start_s, a_s, c_s, batch, kv, change_s + TIE_S, done + 1, steps)
            if until - done > 1 and to_s > change_s:
                until -= 1
                to_s = boundary_s(start_s, a_s, c_s, batch, kv, until)
        count, first = until - done, counter + done
        seconds = a_s * count / batch + c_s * (first * count + count * (count - 1) // 2)
        ledger.decode(seconds, c_s * count, line.power_w, ledger.intensity(at_s, to_s))
        done, at_s = until, to_s


def stall_gaps(
    ledger: Ledger, line: Line, batch: int, kv: int, steps: int, start_s: float, stalled: list[tuple[int, float]]
) -> None:
    """Gaps of sequences that waited while others prefilled: the first is longer, each by its own wait."""
    first_s = line.a_s + line.c_s * kv
    growth_s = line.c_s * batch
    for count, last_s in stalled:
        gap_s = start_s + first_s - last_s
        ledger.gaps(gap_s, gap_s, 1, count)
    if steps > 1:
        ledger.gaps(first_s + growth_s, first_s + growth_s * (steps - 1), steps - 1, batch)
