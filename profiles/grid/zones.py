"""Zones by name: the typical years carbonfleet ships, a user's own file, or a constant."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from profiles.grid import recur
from profiles.grid.readers import read_series
from profiles.grid.series import state_kind
from profiles.grid.signal import Kind, Scope, Signal, check_scope, constant
from profiles.grid.window import FloatArray
from profiles.inputs import InputError, near_miss


@dataclass(frozen=True, slots=True)
class Zone:
    """One shipped typical year (month x hour of day, UTC) and the hourly series it was derived from.

    `mean`, `min` and `max` are of the typical year; those with `series_` are of the hourly series, so that what
    the means smoothed away can be seen. All are gCO2e/kWh. `hours` is the number of hours used.
    """

    zone: str
    scope: Scope
    place: str
    aliases: tuple[str, ...]
    year: int
    hours: int
    mean_g_per_kwh: float
    min_g_per_kwh: float
    max_g_per_kwh: float
    series_mean_g_per_kwh: float
    series_min_g_per_kwh: float
    series_max_g_per_kwh: float
    source: str
    licence: str


def load(spec: str | Path | float, scope: Scope | None = None, kind: Kind | None = None) -> Signal:
    """The Signal a user means by `spec`.

    Args:
        spec: a zone id or alias in any letter case (it goes before a file of that name), a path to a
            file of carbon intensity, or a number of g/kWh ("262").
        scope: direct or lifecycle; left out: what a file states, else lifecycle.
        kind: average or marginal, where a file or a number does not say.

    Raises:
        InputError: unknown name (the near miss is named), a zone not shipped in that scope, a bad file or number.
    """
    if scope is not None:
        check_scope(scope)
    text = str(spec).strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return constant(number, scope or "lifecycle", kind=kind or "average")
    names = _names()
    if text.casefold() in names:
        state_kind("average", kind, f"the shipped series of {text}")
        return _typical_year(names[text.casefold()], scope or "lifecycle")
    if isinstance(spec, Path) or _is_path(text):
        signal = read_series(spec if isinstance(spec, Path) else text, scope, kind)
        return replace(signal, zone=names.get(signal.zone.casefold(), signal.zone))  # EIA's and WattTime's names too
    mend = near_miss(text, names) + " A path to a CSV file or a number of g/kWh will do as well"
    raise InputError(f"unknown grid zone {text!r}", field="zone", mend=mend)


def _is_path(text: str) -> bool:
    """Whether a word is, or looks like, a file rather than a mistyped zone."""
    try:
        return Path(text).is_file() or "/" in text or "\\" in text or bool(Path(text).suffix)
    except (OSError, ValueError):
        return False


def zones() -> list[Zone]:
    """The shipped typical years, from the cleanest mean to the dirtiest."""
    return sorted(_zones().values(), key=lambda row: (row.mean_g_per_kwh, row.zone, row.scope))


def _typical_year(zone: str, scope: Scope) -> Signal:
    row = _zones().get((zone, scope))
    if row is None:
        raise InputError(f"no {scope} series ships for {zone}", field="zone", mend="give a file that has one")
    start, values = recur.typical_year(_tables()[zone, scope])
    return Signal(
        name=f"{zone} typical year {row.year}",
        zone=zone,
        kind="average",
        scope=scope,
        source=row.source,
        licence=row.licence,
        estimated_share=None,
        start_s=start,
        end_s=float(start[-1]) + 3600.0,
        g_per_kwh=values,
        recurring=True,
        notes=(f"{zone}: month x hour means (UTC) of {row.hours} hours of {row.year}",),
    )


@cache
def _names() -> dict[str, str]:
    """Every accepted name in small letters -> zone id."""
    return {name.casefold(): row.zone for row in _zones().values() for name in (row.zone, *row.aliases)}


@cache
def _zones() -> dict[tuple[str, str], Zone]:
    return {(row["zone"], row["scope"]): _zone(row) for row in _read("zones.csv")}


def _zone(row: dict[str, str]) -> Zone:
    scope: Scope = "direct" if row["scope"] == "direct" else "lifecycle"
    values = recur.typical_year(_tables()[row["zone"], scope])[1]
    return Zone(
        zone=row["zone"],
        scope=scope,
        place=row["place"],
        aliases=tuple(row["aliases"].split("|")),
        year=int(row["year"]),
        hours=int(row["hours"]),
        mean_g_per_kwh=float(row["mean_g_per_kwh"]),
        min_g_per_kwh=float(values.min()),
        max_g_per_kwh=float(values.max()),
        series_mean_g_per_kwh=float(row["series_mean_g_per_kwh"]),
        series_min_g_per_kwh=float(row["series_min_g_per_kwh"]),
        series_max_g_per_kwh=float(row["series_max_g_per_kwh"]),
        source=row["source"],
        licence=row["licence"],
    )


@cache
def _tables() -> dict[tuple[str, str], FloatArray]:
    """(zone, scope) -> 12 x 24 means in g/kWh."""
    tables: dict[tuple[str, str], FloatArray] = {}
    for row in _read("typical_years.csv"):
        table = tables.setdefault((row["zone"], row["scope"]), np.full((12, 24), np.nan))
        table[int(row["month"]) - 1] = [float(row[f"h{hour:02d}"]) for hour in range(24)]
    return tables


def _read(name: str) -> list[dict[str, str]]:
    text = (files("profiles") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
