"""Carbon-intensity JSON to a Signal: Electricity Maps' and WattTime's APIs, the UK's, carbon-aware-sdk's files.

A document is recognised by its keys. Orders differ between services and carry no meaning, so rows are sorted; the same
time twice is an error. Every format says here whether it is average or marginal, direct or lifecycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.grid.series import Origin, assemble, epoch_s, intensity, state_kind, state_scope
from profiles.grid.signal import Kind, Scope, Signal, utc
from profiles.inputs import InputError
from profiles.units import G_PER_KWH_PER_LB_PER_MWH

MAPS = "Electricity Maps API (flow-traced consumption, average)"
MAPS_TERMS = "Electricity Maps terms: do not pass the series on"
UK = "UK Carbon Intensity API (generation, without life cycle)"
WATTTIME_TERMS = "WattTime terms: proprietary, do not pass the series on"


@dataclass(slots=True)
class Rows:
    """Rows of a document: (time, value as written, estimated) and what the format says."""

    what: str
    licence: str
    kind: Kind | None
    scope: Scope | None
    zone: str = ""
    factor: float = 1.0
    rows: Sequence[tuple[Any, Any, bool | None]] = ()
    notes: tuple[str, ...] = ()


def read(path: str | Path, document: Any, scope: Scope | None, kind: Kind | None) -> Signal:
    """A Signal from a JSON document.

    Raises:
        InputError: no known format, a scope or kind it contradicts, or a row that is no time and intensity.
    """
    try:
        found = recognise(document)
    except InputError as error:
        raise InputError(error.what, file=path, field=error.field, mend=error.mend) from None
    if found is None:
        known = "Electricity Maps, WattTime v3, UK Carbon Intensity, carbon-aware-sdk"
        raise InputError("JSON of no known carbon-intensity format", file=path, mend=f"known: {known}")
    try:
        stated = state_kind(found.kind, kind, found.what)
        asked, notes = state_scope(found.scope, scope, found.what)
    except InputError as error:
        raise InputError(error.what, file=path, field=error.field, mend=error.mend) from None
    return _signal(path, found, stated, asked, (*found.notes, *notes))


def recognise(document: Any) -> Rows | None:
    """The rows of a document of a known format, or None."""
    for reader in (_electricity_maps, _watttime, _uk, _sdk):
        found = reader(document)
        if found is not None:
            return found
    return None


def _signal(path: str | Path, found: Rows, kind: Kind, scope: Scope, notes: tuple[str, ...]) -> Signal:
    def refuse(index: int, what: str) -> InputError:
        return InputError(what, file=path, field=f"item {index + 1}")

    read_: list[tuple[float, float, int]] = []
    for index, (time, value, _) in enumerate(found.rows):
        at = epoch_s(time, naive_is_utc=False) if isinstance(time, str) else "the time is missing"
        amount = float("nan") if value is None else _amount(value, found.factor)
        for wrong in (at, amount):
            if isinstance(wrong, str):
                raise refuse(index, wrong)
        read_.append((float(at), float(amount), index))
    read_.sort()
    for (before, _, _), (now, _, index) in zip(read_, read_[1:], strict=False):
        if now == before:
            raise refuse(index, f"{utc(now)} is there twice")
    flags = [flag for _, _, flag in found.rows if flag is not None]
    share = sum(flags) / len(flags) if flags else None
    origin = Origin(found.what, found.licence, kind, scope, found.zone, share, notes)
    times, values = [t for t, _, _ in read_], [v for _, v, _ in read_]
    return assemble(path, times, values, origin, lambda i, what: refuse(read_[i][2], what))


def _amount(value: Any, factor: float) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return f"{str(value)[:40]!r} is not a carbon intensity"
    return intensity(str(value), factor)


def _list(document: Any, key: str) -> list[dict[str, Any]] | None:
    """The list of objects under a key."""
    items = document.get(key) if isinstance(document, dict) else None
    return items if isinstance(items, list) and items and all(isinstance(x, dict) for x in items) else None


def _electricity_maps(document: Any) -> Rows | None:
    """`history`, `data` (past-range) or `forecast`: a list of carbonIntensity and datetime."""
    for key in ("history", "data", "forecast"):
        items = _list(document, key)
        if items is None or "carbonIntensity" not in items[0]:
            continue
        stated = {x.get("emissionFactorType") for x in items} - {None}
        scope: Scope | None = None
        if stated == {"direct"}:
            scope = "direct"
        elif stated == {"lifecycle"}:
            scope = "lifecycle"
        rows = [(x.get("datetime"), x.get("carbonIntensity"), _flag(x.get("isEstimated"))) for x in items]
        notes = ("a forecast, not what happened",) if key == "forecast" else ()
        zone = str(document.get("zone") or items[0].get("zone") or "")[:80]
        return Rows(MAPS, MAPS_TERMS, "average", scope, zone, rows=rows, notes=notes)
    return None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _watttime(document: Any) -> Rows | None:
    """`data` of point_time and value, whose unit stands in `meta`: marginal emissions at the stack."""
    items = _list(document, "data")
    if items is None or "point_time" not in items[0]:
        return None
    raw = document.get("meta")
    meta = raw if isinstance(raw, dict) else {}
    unit = str(meta.get("units", "")).lower()
    factors = {"lbs_co2_per_mwh": G_PER_KWH_PER_LB_PER_MWH, "lbs_co2e_per_mwh": G_PER_KWH_PER_LB_PER_MWH}
    if unit not in factors:
        what = f"WattTime's unit is {unit[:40] or 'not given'}"
        raise InputError(what, field="meta.units", mend="lbs_co2_per_mwh is known")
    rows = [(x.get("point_time"), x.get("value"), None) for x in items]
    zone = str(meta.get("region", ""))[:80]
    signal = str(meta.get("signal_type", "co2_moer"))
    kind: Kind = "average" if "aoer" in signal else "marginal"
    return Rows(f"WattTime v3 ({signal})", WATTTIME_TERMS, kind, "direct", zone, factors[unit], rows)


def _uk(document: Any) -> Rows | None:
    """Half hours of `from` and `intensity`: actual where it is known; regions give forecasts only."""
    data = document.get("data") if isinstance(document, dict) else None
    zone = "GB"
    region = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else data
    if isinstance(region, dict) and isinstance(region.get("data"), list):
        zone = f"GB {region.get('shortname') or region.get('regionid') or ''}".strip()[:80]
        document = {"data": region["data"]}
    items = _list(document, "data")
    if items is None or not isinstance(items[0].get("intensity"), dict):
        return None
    measured = any(_inside(x, "actual") is not None for x in items)
    rows = [(x.get("from"), _inside(x, "actual" if measured else "forecast"), None) for x in items]
    notes = () if measured else ("forecasts, not what happened: the file has no actual values",)
    return Rows(UK, "CC BY 4.0", "average", "direct", zone, rows=rows, notes=notes)


def _inside(item: dict[str, Any], key: str) -> Any:
    inner = item.get("intensity")
    return inner.get(key) if isinstance(inner, dict) else None


def _sdk(document: Any) -> Rows | None:
    """carbon-aware-sdk: a list (or `Emissions`) of Location, Time, Rating; or `forecastData`. Letter case differs."""
    items: Any = document
    notes: tuple[str, ...] = ()
    if isinstance(document, dict):
        low = {str(key).lower(): value for key, value in document.items()}
        items = low.get("emissions", low.get("forecastdata"))
        notes = ("a forecast, not what happened",) if "forecastdata" in low else ()
    if not isinstance(items, list) or not items or not all(isinstance(x, dict) for x in items):
        return None
    rows = [{str(key).lower(): value for key, value in item.items()} for item in items]
    time, value = ("time", "rating") if "rating" in rows[0] else ("timestamp", "value")
    if time not in rows[0] or value not in rows[0]:
        return None
    zones = {str(row.get("location", ""))[:80] for row in rows}
    if len(zones) > 1:
        raise InputError(f"{len(zones)} locations in one file", field="location", mend="give one location a file")
    made = [(row.get(time), row.get(value), None) for row in rows]
    # WattTime behind it makes ratings marginal, Electricity Maps average: the file does not say
    return Rows("carbon-aware-sdk", "as its data source's", None, None, zones.pop(), rows=made, notes=notes)
