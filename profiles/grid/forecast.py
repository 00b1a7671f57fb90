"""Forecasts of carbon intensity: what was believed when, for decisions; grams are always of what came.

A forecast file holds many issues. Each was made at one moment and gives values from there on; a decision at a time sees
the latest issue before it. `errors` says how good they were where the file has the actual values too.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.grid.series import epoch_s, intensity
from profiles.grid.signal import Scope, utc
from profiles.inputs import InputError, read_json, read_text
from profiles.units import G_PER_KWH_PER_LB_PER_MWH, SECONDS_PER_HOUR

Floats = NDArray[np.float64]
DAY_S = 24 * SECONDS_PER_HOUR
CARBONCAST = ["", "utc time", "actual_carbon_intensity_", "forecasted_carbon_intensity_"]


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """One forecast: made at `issued_s`, g/kWh from each of `start_s` on (UTC epoch seconds); actuals if known."""

    issued_s: float
    start_s: Floats
    g_per_kwh: Floats
    actual: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """All issues of a file in order of when they were made."""

    name: str
    source: str
    scope: Scope
    issues: tuple[Issue, ...]

    def at(self, now_s: float) -> Issue:
        """The issue that was known at `now_s`.

        Raises:
            InputError: none had been made by then.
        """
        place = bisect_right([issue.issued_s for issue in self.issues], now_s)
        if not place:
            what = f"no forecast had been made by {utc(now_s)}; the first is of {utc(self.issues[0].issued_s)}"
            raise InputError(what, field=self.name, mend="give forecasts from the start on")
        return self.issues[place - 1]

    def believed(self, now_s: float, then_s: float) -> float:
        """What was believed at `now_s` of the intensity at `then_s`, in g/kWh.

        Raises:
            InputError: the issue known then does not reach that far.
        """
        issue = self.at(now_s)
        place = int(np.searchsorted(issue.start_s, then_s, side="right")) - 1
        step = float(np.median(np.diff(issue.start_s))) if issue.start_s.size > 1 else SECONDS_PER_HOUR
        if place < 0 or then_s >= issue.start_s[-1] + step:
            what = f"the forecast of {utc(issue.issued_s)} says nothing of {utc(then_s)}"
            raise InputError(what, field=self.name, mend="look less far ahead")
        return float(issue.g_per_kwh[place])

    def errors(self) -> dict[int, float]:
        """Mean absolute percentage error of each day ahead, as fractions; empty without actual values."""
        sums: dict[int, list[float]] = {}
        for issue in self.issues:
            if issue.actual is None:
                continue
            day = ((issue.start_s - issue.issued_s) // DAY_S).astype(int) + 1
            known = issue.actual > 0
            off = np.abs(issue.g_per_kwh[known] - issue.actual[known]) / issue.actual[known]
            for ahead in np.unique(day[known]):
                sums.setdefault(int(ahead), []).extend(off[day[known] == ahead].tolist())
        return {ahead: float(np.mean(values)) for ahead, values in sorted(sums.items())}


def read_forecast(path: str | Path) -> Forecast:
    """Read forecasts: CarbonCast's 96-hour CSV, or WattTime's historical forecasts (JSON).

    Raises:
        InputError: no known forecast format, or a row that is no time and intensity.
    """
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        return _from_json(path, read_json(path))
    return _carboncast(path, text)


def is_forecast(path: str | Path) -> bool:
    """Whether a file's first line or keys are those of a forecast."""
    text = read_text(path)
    if text.lstrip().startswith("{"):
        document = read_json(path)
        data = document.get("data") if isinstance(document, dict) else None
        return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "forecast" in data[0]
    header = text.splitlines()[0].split(",") if text.strip() else []
    return _is_carboncast(header)


def _is_carboncast(header: list[str]) -> bool:
    plain = [name.strip().casefold() for name in header]
    return (
        len(plain) == 4
        and plain[1] == CARBONCAST[1]
        and all(name.startswith(start) for name, start in zip(plain[2:], CARBONCAST[2:], strict=True))
    )


def _carboncast(path: str | Path, text: str) -> Forecast:
    """Windows of 96 hours one after the other; a time that goes back begins the next window."""
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(_checked(path, reader), [])
    if not _is_carboncast(header):
        known = "CarbonCast 96-hour forecasts, WattTime historical forecasts"
        raise InputError("no known forecast format", file=path, line=1, mend=f"known: {known}")
    scope: Scope = "direct" if header[3].casefold().endswith("direct") else "lifecycle"
    windows: list[list[tuple[float, float, float]]] = []
    for row in _checked(path, reader):
        if not row:
            continue
        found = [epoch_s(row[1], True), *(intensity(x) for x in row[2:4])] if len(row) == 4 else ["not 4 columns"]
        wrong = next((x for x in found if isinstance(x, str)), None)
        if wrong is not None:
            raise InputError(wrong, file=path, line=reader.line_num)
        time, actual, forecast = (float(x) for x in found)
        if not windows or time <= windows[-1][-1][0]:
            windows.append([])
        windows[-1].append((time, actual, forecast))
    if not windows:
        raise InputError("a header and no forecast", file=path)
    issues = []
    for window in windows:
        columns = np.array(window).T
        issues.append(Issue(window[0][0], columns[0], columns[2], columns[1]))
    issues.sort(key=lambda issue: issue.issued_s)
    return Forecast(Path(path).name, "CarbonCast 96-hour forecasts (Apache-2.0)", scope, tuple(issues))


def _checked(path: str | Path, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", file=path, line=reader.line_num) from error


def _from_json(path: str | Path, document: Any) -> Forecast:
    """WattTime's forecast/historical: `data` of generated_at and forecast."""
    data = document.get("data") if isinstance(document, dict) else None
    meta = document.get("meta") if isinstance(document, dict) else None
    if not isinstance(data, list) or not data or not isinstance(data[0], dict) or "forecast" not in data[0]:
        raise InputError("no known forecast format", file=path, mend="known: WattTime historical forecasts, CarbonCast")
    unit = str(meta.get("units", "")).lower() if isinstance(meta, dict) else ""
    if unit != "lbs_co2_per_mwh":
        raise InputError(f"WattTime's unit is {unit or 'not given'}", file=path, field="meta.units")
    issues = [_issue(path, number, item) for number, item in enumerate(data, start=1)]
    issues.sort(key=lambda issue: issue.issued_s)
    return Forecast(Path(path).name, "WattTime v3 historical forecasts (marginal)", "direct", tuple(issues))


def _issue(path: str | Path, number: int, item: Any) -> Issue:
    """One of WattTime's forecasts, made at `generated_at`."""
    rows = item.get("forecast") if isinstance(item, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError("has no forecast", file=path, field=f"data item {number}")

    def time(text: Any) -> float | str:
        return epoch_s(text, False) if isinstance(text, str) else "a time is missing"

    found = [time(item.get("generated_at")), *(time(row.get("point_time")) for row in rows)]
    values = [intensity(str(row.get("value")), G_PER_KWH_PER_LB_PER_MWH) for row in rows]
    wrong = next((x for x in (*found, *values) if isinstance(x, str)), None)
    if wrong is not None:
        raise InputError(wrong, file=path, field=f"data item {number}")
    pairs = sorted(zip((float(t) for t in found[1:]), (float(v) for v in values), strict=True))
    return Issue(float(found[0]), np.array([t for t, _ in pairs]), np.array([v for _, v in pairs]))
