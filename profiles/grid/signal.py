"""A Signal: the carbon intensity of one grid zone over calendar time, and what a run sees of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import numpy as np

from profiles.grid import recur
from profiles.grid.window import FloatArray, Window
from profiles.inputs import InputError, near_miss
from profiles.units import SECONDS_PER_HOUR, SECONDS_PER_YEAR

Kind = Literal["average", "marginal"]
Scope = Literal["direct", "lifecycle"]
Align = Literal["recur"]

MAX_G_PER_KWH = 3000.0  # twice the dirtiest steam plant; above it a figure is in another unit
_LATEST_S = 7258118400.0  # 2200-01-01: the limit that keeps a slip of milliseconds for seconds out
_LONGEST_S = 100 * SECONDS_PER_YEAR
_RECUR = "set align: recur (same month, weekday class and hour of another year) or give a series of that time"


def utc(epoch_s: float) -> str:
    """Epoch seconds as people read them, e.g. 2022-12-31T23:00Z; ever for the ends of a constant."""
    if not math.isfinite(epoch_s):
        return "ever"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """Carbon intensity of a zone, piecewise constant from each interval's start.

    Attributes:
        name: what a result calls it. zone: zone id, empty when the source names none.
        kind: average or marginal; the two are never added. scope: direct (smokestack) or lifecycle.
        source, licence: where the figures come from and under which terms.
        estimated_share: share of intervals the source marks as estimated; None when it does not say.
        start_s: UTC epoch seconds of each interval's start, ascending. end_s: end of the last interval.
        g_per_kwh: gCO2e/kWh of each interval; NaN marks a gap (hours the source lacks).
        recurring: the values are a typical year (month x hour of day, UTC, 8760 hours from 1 January of
            a year without a leap day) and serve any date.
        notes: what a result has to say about the source.

    Raises:
        InputError: arrays that do not match, times that do not ascend, values out of [0, 3000] g/kWh.
    """

    name: str
    zone: str
    kind: Kind
    scope: Scope
    source: str
    licence: str
    estimated_share: float | None
    start_s: FloatArray
    end_s: float
    g_per_kwh: FloatArray
    recurring: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        start, values = np.array(self.start_s, dtype=np.float64), np.array(self.g_per_kwh, dtype=np.float64)
        if start.ndim != 1 or start.shape != values.shape or not start.size:
            raise InputError("a series needs as many values as times, and at least one", field=self.name)
        if np.any(np.isnan(start)) or not np.all(np.diff(start) > 0) or not self.end_s > start[-1]:
            raise InputError("times must ascend", field=self.name)
        if np.all(np.isnan(values)) or np.any((values < 0) | (values > MAX_G_PER_KWH)):
            raise InputError(f"values must lie in 0 to {MAX_G_PER_KWH:g} g/kWh", field=self.name)
        if self.recurring and not recur.is_typical_year(start, values):
            raise InputError("a typical year is 8760 hourly values from 1 January", field=self.name)
        start.setflags(write=False)
        values.setflags(write=False)
        object.__setattr__(self, "start_s", start)
        object.__setattr__(self, "g_per_kwh", values)

    @property
    def span(self) -> str:
        """The time the series covers, as people read it."""
        if self.recurring:
            return "any date (typical year)"
        return "any date" if math.isinf(self.end_s) else f"{utc(float(self.start_s[0]))} to {utc(self.end_s)}"

    def at(self, epoch_s: float, align: Align | None = None) -> float:
        """Intensity in g/kWh at an instant.

        Raises:
            InputError: outside the series or in a gap, and `align` is None.
        """
        return self.window(epoch_s, float(np.nextafter(epoch_s, math.inf)) - epoch_s, align).at(0.0)

    def mean(self) -> float:
        """Time-weighted mean in g/kWh, gaps left out."""
        if self.start_s.size == 1:
            return float(self.g_per_kwh[0])
        spans = np.diff(np.append(self.start_s, self.end_s))
        known = ~np.isnan(self.g_per_kwh)
        return float(np.dot(self.g_per_kwh[known], spans[known]) / spans[known].sum())

    def window(self, start_epoch_s: float, duration_s: float, align: Align | None = None) -> Window:
        """What a run of `duration_s` seconds sees that starts at `start_epoch_s` (UTC epoch seconds).

        With `align="recur"` a time which the series covers keeps its own value; any other takes the value at
        the same time of day of another day of the series: same month, same weekday class (Monday to Friday,
        or weekend; UTC), whole and without gaps, nearest in day of month; of two as near the earlier day of
        the month, then the latest year. The window's note says so. A typical year serves any date; its
        note says that extremes are smoothed.

        Raises:
            InputError: a time outside the series or in a gap with `align=None`; no matching day with recur.
        """
        _check(start_epoch_s, duration_s, align)
        stop = start_epoch_s + duration_s
        if self.recurring:
            edges, values = recur.typical(self.g_per_kwh, start_epoch_s, stop)
            notes = ["typical year of month x hour means: extremes are smoothed"]
        elif align is None or math.isinf(self.end_s):
            self._demand(start_epoch_s, stop)
            edges, values = recur.cut(self.start_s, self.g_per_kwh, start_epoch_s, stop)
            notes = []
        else:
            try:
                edges, values, note = recur.borrow(self.start_s, self.end_s, self.g_per_kwh, start_epoch_s, stop)
            except LookupError as error:
                raise InputError(f"{error} in {self.name} ({self.span})", mend="give a whole year") from error
            notes = [note] if note else []
        run_time = edges - start_epoch_s
        inside = run_time < duration_s  # rounding may put the last edge on the end
        return Window(np.append(run_time[inside], duration_s), values[inside], "; ".join([*notes, *self.notes]))

    def _demand(self, start: float, stop: float) -> None:
        """Refuse times outside the series and gaps in it."""
        if start < self.start_s[0] or stop > self.end_s:
            when = start if start < self.start_s[0] or start >= self.end_s else stop
            raise InputError(f"{utc(when)} is outside the series {self.name} ({self.span})", mend=_RECUR)
        edges, values = recur.cut(self.start_s, self.g_per_kwh, start, stop)
        holes = np.flatnonzero(np.isnan(values))
        if holes.size:
            when = float(edges[holes[0]])
            hole = float(self.start_s[np.searchsorted(self.start_s, when, side="right") - 1])
            hour = math.floor(when / SECONDS_PER_HOUR) * SECONDS_PER_HOUR
            raise InputError(f"the series {self.name} has no value for {utc(max(hole, hour))}", mend=_RECUR)


def constant(g_per_kwh: float, scope: Scope = "lifecycle", name: str = "", kind: Kind = "average") -> Signal:
    """One intensity for ever, as stated by the user.

    Raises:
        InputError: not in [0, 3000] g/kWh.
    """
    if not 0 <= g_per_kwh <= MAX_G_PER_KWH:
        raise InputError(f"{g_per_kwh:g} g/kWh is not a carbon intensity", mend=f"0 to {MAX_G_PER_KWH:g} g/kWh")
    return Signal(
        name=name or f"{g_per_kwh:g} g/kWh",
        zone="",
        kind=kind,
        scope=scope,
        source="a constant given by the user",
        licence="none",
        estimated_share=None,
        start_s=np.array([-math.inf]),
        end_s=math.inf,
        g_per_kwh=np.array([g_per_kwh]),
        notes=(f"constant intensity, taken as {kind} and {scope}",),
    )


def check_alike(signals: dict[str, Signal]) -> None:
    """Average and marginal, or direct and lifecycle figures are never added up in one result.

    Args:
        signals: by the name of their site.

    Raises:
        InputError: two sites differ in kind or scope.
    """
    for what in ("kind", "scope"):
        found = {getattr(signal, what): site for site, signal in signals.items()}
        if len(found) > 1:
            (one, at_one), (other, at_other) = list(found.items())[:2]
            raise InputError(
                f"the grid of {at_one} is {one}, that of {at_other} {other}: their grams cannot be added",
                field=f"sites.{what}",
                mend=f"give every site a series of one {what}",
            )


def check_scope(scope: str) -> None:
    """Refuse a scope that is neither direct nor lifecycle.

    Raises:
        InputError: with the near miss.
    """
    if scope not in get_args(Scope):
        raise InputError(f"unknown scope {scope}", field="scope", mend=near_miss(scope, get_args(Scope)))


def _check(start: float, duration: float, align: str | None) -> None:
    if not 0 <= start < _LATEST_S:
        raise InputError(f"{start:g} s is not a time from 1970 to 2199", field="start", mend="give UTC epoch seconds")
    if not 0 < duration <= _LONGEST_S:
        raise InputError(f"a window of {duration:g} s", field="duration_s", mend="0 < duration <= 100 years")
    if align not in (None, "recur"):
        raise InputError(f"unknown align {align}", field="align", mend="leave it out or set align: recur")
