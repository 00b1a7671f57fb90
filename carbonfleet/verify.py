"""Is a run directory what its inputs give? Its inputs are checked by SHA-256, the run is made again and compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.catalog import KINDS
from profiles.inputs import InputError, read_json, sha256
from profiles.outputs import located
from sim import columns, scenario
from sim.run import Run, run

CLOCK = ("wall_s", "loop_s", "requests_per_wall_s")
APART = (*CLOCK, "against", "schema_version", "balance")  # another clock, another command, rounding noise
CLOSE = 1e-9
_TABLES = {f"{kind}.csv" for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `inputs` that are not what they were, and `differences` of the figures (where, was, is)."""

    inputs: list[str]
    differences: list[tuple[str, Any, Any]]
    figures: int
    versions: list[str]

    @property
    def same(self) -> bool:
        """Whether every input and every figure is the same."""
        return not self.inputs and not self.differences


def verify(folder: str | Path) -> Verdict:
    """Make the run of a directory again and compare.

    Raises:
        InputError: not a run directory, or a partial run, which cannot be made again.
    """
    path = Path(folder)
    for name in ("config.yaml", "summary.json", "manifest.json", "requests.parquet"):
        if not (path / name).is_file():
            raise InputError(f"has no {name}", file=path, mend="give a folder that simulate -o wrote")
    summary, manifest = read_json(path / "summary.json"), read_json(path / "manifest.json")
    if summary.get("partial"):
        raise InputError("is a partial run: it was interrupted", file=path, mend="simulate its config.yaml to the end")
    stale, moved = _check_inputs(path, manifest)
    if stale:
        return Verdict(stale, [], 0, _versions(manifest))
    again = run(_moved(scenario.read(path / "config.yaml"), moved), engine=summary.get("engine", "leap"))
    pairs = [*_pairs("", _kept(summary), _kept(_plain(again.summary))), *_columns(path, again)]
    found = [(where, was, is_) for where, was, is_ in pairs if not _equal(was, is_)]
    return Verdict([], found, len(pairs), _versions(manifest))


def _check_inputs(folder: Path, manifest: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Complaints about inputs, and where those now lie that were moved beside the run."""
    complaints, moved = [], {}
    for name, digest in manifest.get("inputs", {}).items():
        place, beside = located(name), folder / Path(name).name
        if not place.is_file() and beside.is_file():
            place, moved[name] = beside, str(beside)
        if not place.is_file():
            complaints.append(f"{name}: is missing; put it back, or beside the run's files")
        elif sha256(place) != digest:
            complaints.append(f"{name}: has changed since the run (SHA-256)")
    return complaints, moved


def _moved(asked: scenario.Scenario, moved: dict[str, str]) -> scenario.Scenario:
    """The scenario with inputs that were found beside the run."""
    sites = [site.model_copy(update={"grid": moved.get(site.grid, site.grid)}) for site in asked.sites]
    paths = {name: moved.get(getattr(asked, name) or "", getattr(asked, name)) for name in ("trace", "workload")}
    own = asked.own_catalog
    beside = [Path(place).parent for name, place in moved.items() if Path(name).name in _TABLES]
    if beside and not (own and Path(own).exists()):
        own = str(beside[0])
    elsewhere = {*paths.values(), *(site.grid for site in sites)}
    profiles = [name for name in asked.profiles if Path(name).exists()]
    profiles += [place for place in moved.values() if place not in elsewhere and Path(place).name not in _TABLES]
    return asked.model_copy(update={**paths, "sites": sites, "profiles": profiles, "own_catalog": own})


def _versions(manifest: dict[str, Any]) -> list[str]:
    """Libraries that are of another version than they were."""
    from profiles.outputs import manifest as now

    current = now([], seed=None)["versions"]
    was = manifest.get("versions", {})
    return [f"{name} {was[name]} -> {current.get(name)}" for name in was if was[name] != current.get(name)]


def _plain(document: Any) -> Any:
    """The document as it comes back from a file."""
    import json

    from profiles.outputs import dumps

    return json.loads(dumps(document))


def _kept(summary: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in summary.items() if key not in APART}
    # config.yaml has every default filled in, so that who gave a value is no longer told
    kept["assumptions"] = [[item["name"], item["value"]] for item in summary.get("assumptions", [])]
    return kept


def _pairs(where: str, was: Any, is_: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every figure of two documents side by side."""
    if isinstance(was, dict) and isinstance(is_, dict):
        for key in dict.fromkeys([*was, *is_]):
            yield from _pairs(f"{where}.{key}" if where else str(key), was.get(key), is_.get(key))
    elif isinstance(was, list) and isinstance(is_, list) and len(was) == len(is_):
        for k, pair in enumerate(zip(was, is_, strict=True)):
            yield from _pairs(f"{where}[{k}]", *pair)
    else:
        yield where, was, is_


def _equal(was: Any, is_: Any) -> bool:
    if isinstance(was, float) and isinstance(is_, float):
        return math.isclose(was, is_, rel_tol=CLOSE, abs_tol=1e-12) or (math.isnan(was) and math.isnan(is_))
    return bool(was == is_)


def _columns(folder: Path, again: Run) -> Iterator[tuple[str, Any, Any]]:
    """The first cell of each column of requests.parquet that differs, or the column as equal."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sim.tables import request_blocks

    rows = again.played.requests.size
    try:
        was = pq.ParquetFile(folder / "requests.parquet")
        names = was.schema_arrow.names
        yield "requests.parquet rows", was.metadata.num_rows, rows
        if was.metadata.num_rows != rows:
            return
        bad: dict[str, tuple[str, Any, Any]] = {}
        first, made, mine = 0, request_blocks(again), None
        for theirs in _blocks(was):
            mine = next(made)
            if not first:
                yield "requests.parquet columns", names, mine.column_names
            for name in [name for name in names if name in mine.column_names and name not in bad]:
                found = _first_difference(theirs[name], mine[name])
                if found is not None:
                    bad[name] = f"{name} of request {first + found[0]}", found[1], found[2]
            first += mine.num_rows
        for name in names:
            if mine is not None and name in mine.column_names:
                yield bad.get(name, (f"requests.parquet {name}", 0, 0))
    except (OSError, pa.ArrowException) as error:
        yield "requests.parquet", f"unreadable ({' '.join(str(error).split())[:80]})", "a table"


def _blocks(file: Any) -> Iterator[Any]:
    """A Parquet file's rows as the simulator cuts them, whatever its row groups."""
    import pyarrow as pa

    held: list[Any] = []
    for batch in file.iter_batches(batch_size=columns.BLOCK):
        held.append(batch)
        table = pa.Table.from_batches(held)
        while table.num_rows >= columns.BLOCK:
            yield table.slice(0, columns.BLOCK)
            table = table.slice(columns.BLOCK)
        held = table.to_batches()
    if held:
        yield pa.Table.from_batches(held)


def _first_difference(was: Any, is_: Any) -> tuple[int, Any, Any] | None:
    """Place and both values of the first cell that differs."""
    import pyarrow as pa

    was, is_ = (each.cast(pa.string()) if pa.types.is_dictionary(each.type) else each for each in (was, is_))
    if was.equals(is_):
        return None
    pairs = list(zip(was.to_pylist(), is_.to_pylist(), strict=True))
    return next(((k, *pair) for k, pair in enumerate(pairs) if not _equal(*pair)), None)
