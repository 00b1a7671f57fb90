"""A point's record as one flat row: figures named by their place in the summary or plan, which has their units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_APART = {  # told once for the whole sweep, noise, or no figure
    *("schema_version", "partial", "assumptions", "warnings", "sources", "balance", "start_utc"),
    *("slices", "dispatch", "unused", "fleet", "years", "bound", "objective"),
}
_PLAN_APART = _APART | {"classes"}


def figures(record: dict[str, Any]) -> dict[str, Any]:
    """Every figure of a record, None where it has none; nothing for a point that failed."""
    if "summary" in record:
        return dict(_leaves(record["summary"], "", _APART))
    if "plan" in record:
        return _of_plan(record)
    return {}


def warnings(record: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the point."""
    return [str(text) for text in (record.get("summary") or record.get("plan") or {}).get("warnings", [])]


def _of_plan(record: dict[str, Any]) -> dict[str, Any]:
    plan = record["plan"]
    unit = plan["objective_unit"]
    fleet = ", ".join(f"{r['units']} x {r['host']} at {r['site']} (tp{r['tp']})" for r in plan["fleet"])
    found: dict[str, Any] = {"fleet": fleet, "solver_status": plan["status"]}
    found |= {f"objective_{unit}": plan["objective"], f"bound_{unit}": plan["bound"]}
    found |= _leaves(plan, "", _PLAN_APART)
    for row in plan["fleet"]:
        place = f"units.{row['host']}@{row['site']}"
        found[place] = found.get(place, 0) + row["units"]
    verdict = record.get("replayed")
    if verdict is not None:
        found["replay.requests"] = verdict["requests"]
        for row in verdict["rows"][:3]:  # energy, operational carbon, requests keeping every limit
            name = f"replay.{row['what'].replace(' ', '_')}_{row['unit'].lower()}"
            found |= {name: row["replayed"]}
    return found


def _leaves(value: Any, where: str, apart: set[str]) -> Iterator[tuple[str, Any]]:
    """Numbers and gaps below `value` by their dotted place; a list's items stand under their names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if where or key not in apart:
                yield from _leaves(inner, f"{where}.{key}" if where else str(key), apart)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and "name" in item:
                yield from _leaves(item, f"{where}.{item['name']}", apart)
    elif value is None or isinstance(value, int | float):
        yield where, value


def non_dominated(points: list[list[float]]) -> list[bool]:
    """For each point, less of everything being better, whether no other is at least as good at all and differs."""
    if not points:
        return []
    every = np.array(points, dtype=float)
    return [not bool(np.any((every <= mine).all(axis=1) & (every < mine).any(axis=1))) for mine in every]
