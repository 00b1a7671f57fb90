"""How a series serves another date: cutting it, borrowing like days, unrolling a typical year."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from profiles.grid.window import FloatArray
from profiles.units import SECONDS_PER_HOUR

Piece = tuple[FloatArray, FloatArray]  # starts in epoch seconds, the first where the piece begins; values
DAY_S = 86400.0
_REFERENCE = 2023  # a year without a leap day carries a typical year; which one bears on nothing
_TYPES = ("weekday", "weekend")


def cut(start_s: FloatArray, values: FloatArray, begin: float, stop: float) -> Piece:
    """The part of a series on [begin, stop), which the series must cover."""
    first = int(np.searchsorted(start_s, begin, side="right")) - 1
    last = int(np.searchsorted(start_s, stop, side="left"))
    return np.maximum(start_s[first:last], begin), values[first:last]


def typical_year(table: FloatArray) -> Piece:
    """A 12 x 24 table (month, hour of day UTC) as the 8760 hours of a year: epoch starts and values."""
    hours = _reference_hours()
    month, hour = _month_and_hour(hours)
    starts: FloatArray = hours.astype(np.float64) * SECONDS_PER_HOUR
    return starts, table[month, hour]


def is_typical_year(start_s: FloatArray, values: FloatArray) -> bool:
    """Whether a series is a month x hour table unrolled over a year without a leap day."""
    hours = _reference_hours()
    if start_s.size != hours.size or np.any(np.isnan(values)):
        return False
    january = datetime.fromtimestamp(float(start_s[0]), UTC)
    if (january.month, january.day) != (1, 1) or np.any(start_s - start_s[0] != (hours - hours[0]) * SECONDS_PER_HOUR):
        return False
    month, hour = _month_and_hour(hours)
    return bool(np.array_equal(_table(values)[month, hour], values))


def typical(values: FloatArray, begin: float, stop: float) -> Piece:
    """A typical year's hours on [begin, stop) of any date: month and hour of day (UTC) decide."""
    hours = np.arange(math.floor(begin / SECONDS_PER_HOUR), math.ceil(stop / SECONDS_PER_HOUR))
    month, hour = _month_and_hour(hours)
    return np.maximum(hours * SECONDS_PER_HOUR, begin), _table(values)[month, hour]


def borrow(
    start_s: FloatArray, end_s: float, values: FloatArray, begin: float, stop: float
) -> tuple[FloatArray, FloatArray, str]:
    """The series on [begin, stop), each time it lacks filled from its like day, and the note on that.

    Raises:
        LookupError: the series has no whole day of that month and weekday class.
    """
    like = _like_days(start_s, end_s, values)
    pieces: list[Piece] = []
    borrowed_s, example = 0.0, ""
    for low, high, known in _spans(start_s, end_s, values, begin, stop):
        if known:
            pieces.append(cut(start_s, values, low, high))
            continue
        for dawn in np.arange(math.floor(low / DAY_S), math.ceil(high / DAY_S)) * DAY_S:
            since, until = max(low, dawn), min(high, dawn + DAY_S)
            shift = like(dawn) - dawn
            starts, taken = cut(start_s, values, since + shift, until + shift)
            pieces.append((np.maximum(starts - shift, since), taken))
            borrowed_s += until - since
            example = example or f"{_date(dawn)} as {_date(dawn + shift)}"
    edges, found = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return edges, found, _note(borrowed_s, stop - begin, example)


def _note(borrowed_s: float, whole_s: float, example: str) -> str:
    if not borrowed_s:
        return ""
    hours = f"{borrowed_s / SECONDS_PER_HOUR:.6g} of {whole_s / SECONDS_PER_HOUR:.6g} h"
    return f"align recur: {hours} take the same month, weekday class and hour of another day ({example})"


def _spans(
    start_s: FloatArray, end_s: float, values: FloatArray, begin: float, stop: float
) -> Iterator[tuple[float, float, bool]]:
    """[begin, stop) in order as (from, to, whether the series knows it)."""
    known = ~np.isnan(values)
    turn = np.flatnonzero(np.concatenate(([True], known[1:] != known[:-1])))
    bounds = [-math.inf, *start_s[turn].tolist(), end_s, math.inf]
    states = [False, *known[turn].tolist(), False]
    for low, high, state in zip(bounds[:-1], bounds[1:], states, strict=True):
        since, until = max(low, begin), min(high, stop)
        if since < until:
            yield since, until, state


def _like_days(start_s: FloatArray, end_s: float, values: FloatArray) -> Callable[[float], float]:
    """A finder: midnight of any day -> midnight of the day of the series that stands for it."""
    days = _whole_days(start_s, end_s, values)
    by_class: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (month, weekend) -> [(day of month, days since 1970)]
    for day in days.tolist():
        date = datetime.fromtimestamp(day * DAY_S, UTC)
        by_class.setdefault((date.month, date.weekday() >= 5), []).append((date.day, day))

    def find(dawn: float) -> float:
        date = datetime.fromtimestamp(dawn, UTC)
        weekend = date.weekday() >= 5
        like = by_class.get((date.month, weekend))
        if not like:
            raise LookupError(f"no whole {_TYPES[weekend]} day of {date:%B}")
        nearest = min(like, key=lambda found: (abs(found[0] - date.day), found[0], -found[1]))
        return nearest[1] * DAY_S

    return find


def _whole_days(start_s: FloatArray, end_s: float, values: FloatArray) -> NDArray[np.int64]:
    """UTC days (since 1970) that the series covers without a gap."""
    days: NDArray[np.int64] = np.arange(math.ceil(start_s[0] / DAY_S), math.floor(end_s / DAY_S), dtype=np.int64)
    whole = np.ones(days.size, dtype=bool)
    stops = np.append(start_s[1:], end_s)
    for hole in np.flatnonzero(np.isnan(values)):
        whole &= ((days + 1) * DAY_S <= start_s[hole]) | (days * DAY_S >= stops[hole])
    return days[whole]


def _month_and_hour(hours: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Month (0 to 11) and hour of day of hours since 1970, UTC."""
    return hours.astype("datetime64[h]").astype("datetime64[M]").astype(np.int64) % 12, hours % 24


def _reference_hours() -> NDArray[np.int64]:
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 3600 for year in (_REFERENCE, _REFERENCE + 1))
    return np.arange(first, last, dtype=np.int64)


def _table(values: FloatArray) -> FloatArray:
    """The 12 x 24 table an unrolled typical year was made from: the first day of each month."""
    month, _ = _month_and_hour(_reference_hours())
    first = np.searchsorted(month, np.arange(12))
    table: FloatArray = values[first[:, None] + np.arange(24)]
    return table


def _date(dawn: float) -> str:
    return f"{datetime.fromtimestamp(dawn, UTC):%Y-%m-%d}"
