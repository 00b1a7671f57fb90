"""A study's sites with the intensity of every hour of their year, and what a slice of time has of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from optimizer.demand import HOURS, Slice
from optimizer.study import Future, Study, StudySite
from profiles import grid
from profiles.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A site with its intensity: g/kWh of each hour of each day of the year, from 1 January."""

    site: StudySite
    year: np.ndarray
    month: np.ndarray  # 0 to 11, of each day
    weekend: np.ndarray
    note: str
    signal: grid.Signal

    def at(self, part: Slice, way: Future) -> float:
        """Mean intensity of a slice in g/kWh, moved by the site's path and the future's factor.

        Of a peak, which may come at any hour, the year's mean.
        """
        moved = way.intensity * self.site.intensity_factor(part.year)
        if part.hour is None:
            return float(self.year.mean()) * moved
        return float(self.year[self.days(part), part.hour].mean()) * moved

    def days(self, part: Slice) -> np.ndarray:
        """Which days of the year a slice stands for."""
        found = np.ones(self.month.size, dtype=bool)
        if part.season is not None:
            found &= (self.month + 1) % 12 // 3 == part.season
        if part.weekend is not None:
            found &= self.weekend == part.weekend
        return found


def place(study: Study, site: StudySite) -> Place:
    """Intensity of every hour (UTC) of the year that begins at the study's start.

    Raises:
        InputError: no such zone or file, or the series does not cover the year.
    """
    year = timedelta(days=365).total_seconds()
    signal = grid.load(site.grid, scope=site.scope, kind=site.kind)
    start = study.start.replace(hour=0, minute=0, second=0, microsecond=0)
    window = signal.window(start.timestamp(), year, align=study.align)
    integral = np.array([window.integral(SECONDS_PER_HOUR * i) for i in range(365 * HOURS + 1)])
    hourly = (np.diff(integral) / SECONDS_PER_HOUR).reshape(365, HOURS)
    days = [start + timedelta(days=k) for k in range(365)]
    months = np.array([day.month - 1 for day in days])
    return Place(site, hourly, months, np.array([day.weekday() >= 5 for day in days]), window.note, signal)


def merged(
    slices: list[Slice], hours: dict[str, list[float]], by_season: bool = False
) -> tuple[list[Slice], dict[str, list[float]]]:
    """Slices of equal rates and intensity at every site joined into one: the program stays exact and gets smaller.

    Args:
        hours: site -> g/kWh of each slice.
        by_season: keep seasons apart, for what is paid on a season's highest hour.
    """
    groups: dict[tuple[object, ...], list[Slice]] = {}
    for t, part in enumerate(slices):
        season = part.season if by_season else None
        which = part.hour is None, part.year, part.future, part.lost, season
        groups.setdefault((part.rates, which, *(values[t] for values in hours.values())), []).append(part)
    joined = [
        replace(
            parts[0],
            name="+".join(part.name for part in parts),
            seconds=sum(part.seconds for part in parts),
            busy_s=sum(part.busy_s for part in parts),
            hours=tuple(sorted({part.hour for part in parts if part.hour is not None})),
        )
        for parts in groups.values()
    ]
    first = {part.name: t for t, part in enumerate(slices)}
    places = [first[parts[0].name] for parts in groups.values()]
    return joined, {name: [values[t] for t in places] for name, values in hours.items()}
