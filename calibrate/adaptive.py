"""Which row of points to measure next: where two honest fits of what is known disagree to most effect.

A row is one prompt length, or one decode batch at a short and a long context, since a batch without both has no slope.
One fit is physics with free coefficients: decode a + b B + c B context, prefill a + b n + c n^2. The other believes
only its neighbours: straight lines between measured rows. The next row is where the lines would move most, over all
rows still open, were the law right there, or whose neighbour was badly foretold by the others. Two new rows in a row
that the lines foretold within SURPRISE end it, once nobody has to guess in a wide gap; one that is off by more than
REGIME tells of a change of regime: both gaps beside it are bisected.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrate.points import Point, decode, prefill

SURPRISE = 0.03
REGIME = 0.10
FIRST_ROWS = 4
WIDEST_GAP = 4.0  # between neighbouring rows, as a ratio

DECODE_BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
PREFILL_TOKENS = (16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
Line = tuple[float, float]  # seconds at no context, seconds a token of context


@dataclass(frozen=True, slots=True)
class Row:
    """The points measured together at one place of the axis: a prompt length or a batch."""

    place: int
    points: tuple[Point, ...]


def rows(kv_capacity_tokens: int, max_context: int | None, contexts: tuple[int, int]) -> list[list[Row]]:
    """Every row of prefill and of decode that fits; a long context that does not fit is cut to what does."""
    longest = min(kv_capacity_tokens, max_context or 1 << 62)
    prompts = [Row(new, (prefill(new),)) for new in PREFILL_TOKENS if new <= longest]
    steps, (short, long) = [], contexts
    for batch in DECODE_BATCHES:
        reach = min(long, longest, kv_capacity_tokens // batch)
        reach = reach if reach == long else reach // 64 * 64
        if reach >= 2 * short:
            steps.append(Row(batch, (decode(batch, short), decode(batch, reach))))
    return [prompts, steps]


def first(candidates: Sequence[Row]) -> list[Row]:
    """Where to begin: the ends of the axis and two rows evenly between them on a logarithmic scale."""
    if len(candidates) <= FIRST_ROWS:
        return list(candidates)
    low, high = math.log(candidates[0].place), math.log(candidates[-1].place)
    found = []
    for k in range(FIRST_ROWS):
        wanted = low + (high - low) * k / (FIRST_ROWS - 1)
        found.append(min(candidates, key=lambda row, at=wanted: abs(math.log(row.place) - at)))  # type: ignore[misc]
    return list(dict.fromkeys(found))


def choose(measured: Mapping[Point, float], candidates: Sequence[Row], surprises: Sequence[float] = ()) -> Row | None:
    """The row not measured yet that would teach most; None where none is left.

    Where the last one was foretold (`surprises`, see `surprise`), wide gaps come first: they alone are in doubt.
    """
    known = _lines(measured, candidates)
    left = [row for row in candidates if row.place not in known]
    if not left or len(known) < 2:
        return None
    wide = _wide(left, known) if surprises and surprises[-1] < SURPRISE else []
    if wide:
        return min(wide, key=lambda row: (-_gap(known, row.place), _eccentric(known, row.place)))
    law = _law([(point, measured[point]) for row in candidates if row.place in known for point in row.points])
    return max(left, key=lambda row: _gain(row, left, known, law) + len(left) * _doubt(row, known))


def settled(measured: Mapping[Point, float], candidates: Sequence[Row], surprises: Sequence[float]) -> bool:
    """Whether two rows in a row were foretold and no wide gap is left in which nobody has looked."""
    known = _lines(measured, candidates)
    wide = _wide([row for row in candidates if row.place not in known], known)
    return len(surprises) > 1 and max(surprises[-2:]) < SURPRISE and not wide


def surprise(measured: Mapping[Point, float], candidates: Sequence[Row], row: Row) -> float:
    """How far the lines between the other rows are off what was measured here, the worst of the row's points."""
    known = _lines(measured, candidates)
    return _off({place: line for place, line in known.items() if place != row.place}, row, measured)


def beside(measured: Mapping[Point, float], candidates: Sequence[Row], row: Row) -> list[Row]:
    """The rows in the middle of the gaps left and right of one that surprised: its regime ends in one of them."""
    seen = sorted(_lines(measured, candidates))
    at, found = bisect_left(seen, row.place), []
    for low, high in ((at - 1, at), (at, at + 1)):
        if low >= 0 and high < len(seen):
            inside = [other for other in candidates if seen[low] < other.place < seen[high]]
            middle = (seen[low] + seen[high]) / 2
            if inside:
                found.append(min(inside, key=lambda other, m=middle: abs(other.place - m)))  # type: ignore[misc]
    return found


def foretold_s(measured: Mapping[Point, float], candidates: Sequence[Row], point: Point) -> float:
    """Seconds at any point by straight lines between the measured rows."""
    at, slope = _between(_lines(measured, candidates), _place(point))
    return at + slope * _context(point)


def _wide(left: Sequence[Row], known: Mapping[int, Line]) -> list[Row]:
    return [row for row in left if len(known) > 1 and _gap(known, row.place) > WIDEST_GAP]


def _neighbours(known: Mapping[int, Line], place: int) -> tuple[int, int]:
    places = sorted(known)
    i = min(max(bisect_left(places, place), 1), len(places) - 1)
    return places[i - 1], places[i]


def _gap(known: Mapping[int, Line], place: int) -> float:
    """Ratio of the measured places left and right."""
    low, high = _neighbours(known, place)
    return high / low


def _eccentric(known: Mapping[int, Line], place: int) -> float:
    low, high = _neighbours(known, place)
    return abs(place - (low + high) / 2)


def _gain(row: Row, left: Sequence[Row], known: Mapping[int, Line], law: NDArray[np.float64]) -> float:
    """How far the lines would move at all rows still open, were the law right at this one."""
    then = {**known, row.place: _line([(_context(p), max(1e-9, float(_terms(p) @ law))) for p in row.points])}
    moved = 0.0
    for other in left:
        (a0, b0), (a1, b1) = _between(known, other.place), _between(then, other.place)
        moved += max(abs((a1 + b1 * c) / (a0 + b0 * c) - 1.0) for c in map(_context, other.points))
    return moved


def _doubt(row: Row, known: Mapping[int, Line]) -> float:
    """How badly a neighbour was foretold by the others: most in the middle of a gap, nothing at its ends."""
    low, high = _neighbours(known, row.place)
    here = math.log(row.place / low) / math.log(high / low) if low < row.place < high else 0.0
    return max(_bend(known, place) for place in (low, high)) * 4.0 * here * (1.0 - here)


def _bend(known: Mapping[int, Line], place: int) -> float:
    """How badly the others foretell a measured row; 0 at the ends, which nobody foretells."""
    if place in (min(known), max(known)):
        return 0.0
    at, slope = _between({other: line for other, line in known.items() if other != place}, place)
    return abs(at / known[place][0] - 1.0) + (abs(slope / known[place][1] - 1.0) if known[place][1] > 0 else 0.0) / 2


def _off(known: Mapping[int, Line], row: Row, measured: Mapping[Point, float]) -> float:
    at, slope = _between(known, row.place)
    return max(abs(measured[point] / (at + slope * _context(point)) - 1.0) for point in row.points)


def _lines(measured: Mapping[Point, float], candidates: Sequence[Row]) -> dict[int, Line]:
    """Each measured row as a line over the context."""
    found = {}
    for row in candidates:
        if all(point in measured for point in row.points):
            found[row.place] = _line([(_context(point), measured[point]) for point in row.points])
    return found


def _line(ends: Sequence[tuple[float, float]]) -> Line:
    (x0, y0), (x1, y1) = ends[0], ends[-1]
    slope = max(0.0, (y1 - y0) / (x1 - x0)) if x1 > x0 else 0.0
    return y0 - slope * x0, slope


def _between(known: Mapping[int, Line], place: int) -> Line:
    """The line at a place, interpolated between its neighbours; the outer piece goes on."""
    places = sorted(known)
    if len(places) == 1:
        return known[places[0]]
    low, high = _neighbours(known, place)
    share = (place - low) / (high - low)
    (a0, b0), (a1, b1) = known[low], known[high]
    return max(1e-9, a0 + (a1 - a0) * share), max(0.0, b0 + (b1 - b0) * share)


def _place(point: Point) -> int:
    return point.new if point.phase == "prefill" else point.sequences


def _context(point: Point) -> float:
    return 0.0 if point.phase == "prefill" else float(point.context)


def _terms(point: Point) -> NDArray[np.float64]:
    if point.phase == "prefill":
        return np.array([1.0, point.new, float(point.new) ** 2])
    return np.array([1.0, point.sequences, float(point.kv_tokens)])


def _law(known: Sequence[tuple[Point, float]]) -> NDArray[np.float64]:
    """Coefficients by least squares of relative errors, none below zero."""
    from scipy.optimize import nnls

    design = np.array([_terms(point) / time_s for point, time_s in known])
    norm = np.linalg.norm(design, axis=0)
    norm[norm == 0.0] = 1.0
    found, _ = nnls(design / norm, np.ones(len(known)))
    law: NDArray[np.float64] = found / norm
    return law
