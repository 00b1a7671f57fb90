"""Carbon-intensity files to a Signal. A format is recognised by its header, never by the file's name.

`FORMATS` is the table of CSV formats: a new one is one more row with a function that knows its header.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from profiles.grid import json_series
from profiles.grid.series import Origin, assemble, epoch_s, intensity, state_kind
from profiles.grid.signal import Kind, Scope, Signal, check_scope, utc
from profiles.inputs import InputError, read_json, read_text
from profiles.units import G_PER_KWH_PER_LB_PER_MWH

_UNIT = re.compile(r"(?<![a-z])g(co2)?(e|eq)?[ _]*(/|per)[ _]*kwh")
_POUNDS = re.compile(r"(?<![a-z])lbs?[ _]*(co2)?(e|eq)?[ _]*(/|per)[ _]*mwh")
_LIFECYCLE = re.compile(r"(?<![a-z])(lca|life[ _-]?cycle)(?![a-z])")
_DIRECT = re.compile(r"(?<![a-z])direct(?![a-z])")
_MARGINAL = re.compile(r"marginal|moer")
_TIME = re.compile(r"(?<![a-z])(date|time|datetime|timestamp|point_time)(?![a-z])")
_UTC = re.compile(r"(?<![a-z])utc(?![a-z])")
_US_DATE = re.compile(r"(\d\d)/(\d\d)/(\d{4})(.*)", re.ASCII)
_FLAGS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "": False}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a file keeps what: column numbers, and what the format says about its figures."""

    time: int
    value: int
    scope: Scope
    source: str
    licence: str
    kind: Kind | None = "average"  # None: the file does not say
    factor: float = 1.0  # from the file's unit to g/kWh
    zone: int | None = None
    estimated: int | None = None
    naive_is_utc: bool = True
    blank_is_gap: bool = False  # the service leaves the value out where it knows none
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A CSV format: its name, an example of its header, and who knows it.

    `recognise(header, scope)` gives the Layout, or None when the header is another format's; it raises
    InputError when the header is this format's but lacks what was asked for.
    """

    name: str
    example: str
    recognise: Callable[[list[str], Scope | None], Layout | None]


def read_series(path: str | Path, scope: Scope | None = None, kind: Kind | None = None) -> Signal:
    """A carbon-intensity series from a CSV or JSON file (plain, gz or zst).

    Args:
        path: the file. scope: direct or lifecycle; it picks the column where a file has both, must agree
            with a header that states one, and stands (with a note) where the header states none. Left out: what
            the file states, else lifecycle.
        kind: average or marginal, where the file does not say; where it does, they must agree.

    Raises:
        InputError: with file, line and column: an unknown header, a scope the file lacks, or a bad row: too
            few columns, a time that is no UTC time, twice there or out of order, a value not in [0, 3000]
            g/kWh. Missing hours are no error here: they become gaps, which only a use of them refuses.
    """
    if scope is not None:
        check_scope(scope)
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        return json_series.read(path, read_json(path), scope, kind)
    rows = _rows(path, text)
    _, header = next(rows, (1, []))
    if not header:
        raise InputError("the file is empty", file=path)
    layout = _layout(path, header, scope)
    try:
        stated = state_kind(layout.kind, kind, "the series")
    except InputError as error:
        raise InputError(error.what, file=path, field=error.field, mend=error.mend) from None
    table = _Table(path, header, layout, stated)
    for line, row in rows:
        table.add(line, row)
    return table.signal()


def _rows(path: str | Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is not blank; comma, semicolon or tab, as the header has it."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(",;\t", key=first.count))
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", file=path, line=reader.line_num) from error


def _layout(path: str | Path, header: list[str], scope: Scope | None) -> Layout:
    plain = [" ".join(name.split()).casefold().replace("₂", "2") for name in header]
    for form in FORMATS:
        try:
            layout = form.recognise(plain, scope)
        except InputError as error:
            raise InputError(error.what, file=path, line=1, mend=error.mend) from None
        if layout:
            return layout
    known = "; ".join(f"{form.name} ({form.example})" for form in FORMATS)
    raise InputError("the header is no known carbon-intensity format", file=path, line=1, mend=f"known: {known}")


class _Table:
    """Rows checked one by one, then made into a Signal."""

    def __init__(self, path: str | Path, header: list[str], layout: Layout, kind: Kind) -> None:
        self.kind = kind
        self.path, self.header, self.layout = path, [name.strip() for name in header], layout
        self.zone = ""
        self.lines: list[int] = []
        self.times: list[float] = []
        self.values: list[float] = []
        self.estimated = 0
        self.repeated = 0

    def add(self, line: int, row: list[str]) -> None:
        """Check and keep one row."""
        layout = self.layout
        if len(row) != len(self.header):
            raise InputError(f"{len(row)} columns where the header has {len(self.header)}", file=self.path, line=line)
        time_s, value = _epoch_s(row[layout.time], layout.naive_is_utc), intensity(row[layout.value], layout.factor)
        if layout.blank_is_gap and not row[layout.value].strip():
            value = float("nan")
        if isinstance(time_s, str):
            raise self._refuse(line, layout.time, time_s)
        if isinstance(value, str):
            raise self._refuse(line, layout.value, value)
        if self.times and time_s == self.times[-1] and value == self.values[-1]:
            self.repeated += 1
            return
        if self.times and time_s <= self.times[-1]:
            what = "is there twice" if time_s == self.times[-1] else f"comes after {utc(self.times[-1])}"
            raise self._refuse(line, layout.time, f"{utc(time_s)} {what}; sort the rows by time, each time once")
        if layout.zone is not None:
            self.zone = self.zone or row[layout.zone]
            if row[layout.zone] != self.zone:
                what = f"zone {row[layout.zone]} after {self.zone}; one zone a file"
                raise self._refuse(line, layout.zone, what)
        if layout.estimated is not None:
            flag = _FLAGS.get(row[layout.estimated].strip().lower())
            if flag is None:
                raise self._refuse(line, layout.estimated, f"{row[layout.estimated]!r} is neither true nor false")
            self.estimated += flag
        self.lines.append(line)
        self.times.append(time_s)
        self.values.append(value)

    def _refuse(self, line: int, column: int, what: str) -> InputError:
        return InputError(what, file=self.path, line=line, field=f"column {column + 1} ({self.header[column]})")

    def signal(self) -> Signal:
        """The rows as a Signal; hours that are missing become NaN intervals."""
        layout = self.layout
        share = None if layout.estimated is None else self.estimated / max(1, len(self.times))
        again = (f"{self.repeated} rows are there twice with the same value and count once",) if self.repeated else ()
        notes = (*layout.notes, *again)
        origin = Origin(layout.source, layout.licence, self.kind, layout.scope, self.zone, share, notes)

        def refuse(index: int, what: str) -> InputError:
            return self._refuse(self.lines[index], layout.time, what)

        return assemble(self.path, self.times, self.values, origin, refuse)


def _epoch_s(text: str, naive_is_utc: bool) -> float | str:
    """UTC epoch seconds, or what is wrong with `text`. Months come first in a date with slashes (CarbonCast)."""
    american = _US_DATE.fullmatch(text.strip())
    return epoch_s("{2}-{0}-{1}{3}".format(*american.groups()) if american else text, naive_is_utc)


def _electricity_maps(header: list[str], scope: Scope | None) -> Layout | None:
    """Portal files: `(LCA)` until 2023, `(Life cycle)` since; letter case and the subscript differ by year."""
    if "datetime (utc)" not in header or not any("carbon intensity" in name for name in header):
        return None
    scope = scope or "lifecycle"
    wanted = _DIRECT if scope == "direct" else _LIFECYCLE
    columns = [i for i, name in enumerate(header) if "carbon intensity" in name and _UNIT.search(name)]
    found = [i for i in columns if wanted.search(header[i])]
    if len(found) != 1:
        raise InputError(f"{len(found)} columns of {scope} carbon intensity in g/kWh", mend="export the file again")
    return Layout(
        time=header.index("datetime (utc)"),
        value=found[0],
        scope=scope,
        source="Electricity Maps CSV (flow-traced consumption, average)",
        licence="Electricity Maps terms (not verified): do not pass the series on",
        zone=header.index("zone id") if "zone id" in header else None,
        estimated=header.index("data estimated") if "data estimated" in header else None,
        blank_is_gap=True,
    )


def _carboncast(header: list[str], scope: Scope | None) -> Layout | None:
    """CarbonCast: row number, `UTC time`, `carbon_intensity` (g/kWh by its documentation), then MW by source."""
    if "utc time" not in header or "carbon_intensity" not in header:
        return None
    scope = scope or "lifecycle"
    return Layout(
        time=header.index("utc time"),
        value=header.index("carbon_intensity"),
        scope=scope,
        source="CarbonCast CSV (from generation by source, average)",
        licence="Apache-2.0",
        notes=(f"CarbonCast headers name no scope: taken as {scope}",),
    )


def _watttime(header: list[str], scope: Scope | None) -> Layout | None:
    """WattTime: `point_time,value` (v3) or `timestamp,MOER` (v2); marginal, direct, lb/MWh by its documentation."""
    pairs = (("point_time", "value"), ("point_time", "moer"), ("timestamp", "moer"))
    found = next((pair for pair in pairs if set(pair) <= set(header)), None)
    if found is None:
        return None
    if scope == "lifecycle":
        raise InputError("WattTime is direct, asked was lifecycle", mend="ask for scope direct")
    return Layout(
        time=header.index(found[0]),
        value=header.index(found[1]),
        scope="direct",
        source="WattTime CSV (MOER, marginal, lb/MWh converted)",
        licence="WattTime terms: proprietary, do not pass the series on",
        kind="marginal",
        factor=G_PER_KWH_PER_LB_PER_MWH,
        zone=header.index("region") if "region" in header else None,
        notes=("WattTime's CSV names no unit: taken as lb/MWh of its documentation",),
    )


def _two_columns(header: list[str], scope: Scope | None) -> Layout | None:
    """A time and one column whose header names the unit g/kWh, and best also the scope and `marginal`."""
    if len(header) != 2 or not _TIME.search(header[0].replace("_", " ")):
        return None
    pounds = bool(_POUNDS.search(header[1]))
    if not pounds and not _UNIT.search(header[1]):
        return None
    name = header[1].replace("_", " ")
    stated: list[Scope] = []
    if _LIFECYCLE.search(name):
        stated.append("lifecycle")
    if _DIRECT.search(name):
        stated.append("direct")
    if stated and scope is not None and scope not in stated:
        raise InputError(f"the header says {stated[0]}, asked was {scope}", mend=f"ask for scope {stated[0]}")
    if len(stated) > 1:
        raise InputError("the header says both direct and lifecycle", mend="name one of them")
    scope = scope or (stated[0] if stated else "lifecycle")
    kind: Kind = "marginal" if _MARGINAL.search(name) else "average"
    return Layout(
        time=0,
        value=1,
        scope=scope,
        source="two-column CSV",
        licence="as the giver of the file states",
        kind=kind,
        factor=G_PER_KWH_PER_LB_PER_MWH if pounds else 1.0,
        naive_is_utc=bool(_UTC.search(header[0].replace("_", " "))),
        notes=() if stated else (f"the header names no scope: taken as {scope}",),
    )


FORMATS: tuple[Format, ...] = (
    Format("Electricity Maps", "Datetime (UTC),...,Carbon intensity gCO2eq/kWh (Life cycle),...", _electricity_maps),
    Format("CarbonCast", ",UTC time,carbon_intensity,...", _carboncast),
    Format("WattTime", "point_time,value,...", _watttime),
    Format("two columns", "datetime_utc,carbon_intensity_lca_gco2eq_per_kwh", _two_columns),
)
