"""What came of a sweep: a row a point, the points no other beats, and the table as one Parquet file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbonfleet.sweep.design import Design
from carbonfleet.sweep.figures import figures, non_dominated, warnings
from carbonfleet.sweep.folder import Folder
from carbonfleet.sweep.work import FAILED, OK, PENDING, UNVERIFIED
from profiles.inputs import InputError, near_miss
from profiles.outputs import write_with

HEAD = ("point", "status", "error", "pareto")
DEFAULT = {
    "scenario": {"carbon_g_per_1k_output_tokens": "min", "ttft_s.p99": "min"},
    "study": {"carbon_g": "min", "energy_j": "min"},
}
PRICED = {"scenario": "cost_usd", "study": "usd"}
MADE = (OK, UNVERIFIED)


@dataclass(frozen=True, slots=True)
class Results:
    """Rows in the design's order: point, status, error, pareto, `set.KEY` of what was varied, figures, warnings, key.

    `assumptions` are those of every point that was made, `sources` those of any.
    """

    rows: list[dict[str, Any]]
    objectives: dict[str, str]
    assumptions: list[Any]
    sources: list[Any]

    @property
    def counts(self) -> dict[str, int]:
        """Points by status."""
        return dict(sorted(Counter(row["status"] for row in self.rows).items()))

    @property
    def front(self) -> list[dict[str, Any]]:
        """The rows that no other beats at every objective, by the first of them."""
        best = next(iter(self.objectives))
        sign = -1.0 if self.objectives[best] == "max" else 1.0
        return sorted((row for row in self.rows if row["pareto"]), key=lambda row: (sign * row[best], row["point"]))


def collect(design: Design, keys: list[str | None], folder: Folder) -> Results:
    """The results as far as there are any.

    Raises:
        InputError: an objective is no figure of the points.
    """
    rows, notes = [], _Notes()
    for point, key in zip(design.points, keys, strict=True):
        found = folder.record(key) if key is not None else None
        status = found["status"] if found else FAILED if key is None else PENDING
        row: dict[str, Any] = {"point": point.number, "status": status}
        row |= {"error": found["error"] if found else point.error, "pareto": False}
        row |= {f"set.{name}": value for name, value in point.settings.items()}
        if found is not None:
            row |= figures(found)
            notes.add(found)
            row["warnings"] = warnings(found)
        rows.append(row | {"key": key})
    made = [row for row in rows if row["status"] in MADE]
    objectives = chosen(design, made)
    for row in made:
        check(objectives, row, design)
    judged = [row for row in made if all(row.get(name) is not None for name in objectives)]
    signed = [[row[name] * (-1 if way == "max" else 1) for name, way in objectives.items()] for row in judged]
    for row, best in zip(judged, non_dominated(signed), strict=True):
        row["pareto"] = best
    return Results(rows, objectives, notes.common, notes.sources)


def chosen(design: Design, made: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The objectives: the file's, else grams and p99 TTFT (a study: joules), and dollars where all are priced."""
    if design.sweep.objectives:
        return dict(design.sweep.objectives)
    priced = [row.get(PRICED[design.kind]) is not None for row in made]
    return DEFAULT[design.kind] | ({PRICED[design.kind]: "min"} if priced and all(priced) else {})


def check(objectives: Iterable[str], found: dict[str, Any], design: Design) -> None:
    """Refuse an objective that the figures of a point do not have.

    Raises:
        InputError: it is unknown; the near miss is named.
    """
    for name in objectives:
        if name not in found:
            numbers = [key for key in found if key not in HEAD and not key.startswith("set.")]
            what = f"unknown objective {name!r}"
            raise InputError(what, file=design.file, field="objectives", mend=near_miss(name, numbers))


class _Notes:
    """Assumptions that all points share, and sources that any has, in the order they come."""

    def __init__(self) -> None:
        self._shared: dict[str, Any] | None = None
        self._sources: dict[str, Any] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Take one point's."""
        made = record.get("summary") or record.get("plan")
        if made is None:
            return
        mine = {json.dumps(each, sort_keys=True): each for each in made["assumptions"]}
        known = mine if self._shared is None else self._shared
        self._shared = {text: each for text, each in known.items() if text in mine}
        self._sources |= {json.dumps(each, sort_keys=True): each for each in made["sources"]}

    @property
    def common(self) -> list[Any]:
        """What every point assumes."""
        return list((self._shared or {}).values())

    @property
    def sources(self) -> list[Any]:
        """Where figures of any point come from."""
        return list(self._sources.values())


def table(results: Results) -> Any:
    """The rows as an Arrow table; figures that no point has are left out."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in results.rows for name in row)
    sets = [name for name in names if name.startswith("set.")]
    middle = [name for name in names if name not in (*HEAD, *sets, "warnings", "key")]
    columns = {name: _column([row.get(name) for row in results.rows]) for name in (*HEAD, *sets, *middle)}
    kept = {name: values for name, values in columns.items() if name in HEAD or values.null_count < len(values)}
    kept["warnings"] = pa.array([row.get("warnings") for row in results.rows], pa.list_(pa.string()))
    kept["key"] = pa.array([row["key"] for row in results.rows], pa.string())
    return pa.table(kept)


def _column(values: list[Any]) -> Any:
    """Values of one kind as they are, numbers together as double, anything else as JSON text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds in ({bool}, {int}, {str}):
        return pa.array(values, {bool: pa.bool_(), int: pa.int64(), str: pa.string()}[next(iter(kinds))])
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def write_table(results: Results, path: Path) -> Path:
    """Write the Parquet file.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow.parquet as pq

    made = table(results)

    def fill(part: Path) -> None:
        pq.write_table(made, part, compression="zstd")

    return write_with(path, fill)
