"""One point: its key, and its making, which a worker does here or on another machine.

The key is a hash of everything the result follows from: the resolved scenario or study, the content of every file it
names, this program and its libraries. A worker computes it again, so that one with other files or another carbonfleet
is found out before its results mix with the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from carbonfleet.verify import CLOCK
from profiles.inputs import CarbonfleetError, InputError, sha256
from profiles.outputs import dumps, manifest

RECORD = 1  # raised when what a record holds changes
OK, UNVERIFIED, INFEASIBLE, FAILED, PENDING = "ok", "unverified", "infeasible", "failed", "pending"
REFUSED = "refused"  # by a worker that would have made something else
_FILES = ("trace", "workload", "grid", "forecast", "profiles", "own_catalog")  # keys whose texts may name files
_MADE_BY = ("profiles", "sim", "optimizer")


class Task(NamedTuple):
    """What a worker is sent: the point's key, what it is, and whether a study's plan is replayed."""

    key: str
    kind: str  # "scenario" or "study"
    config: dict[str, Any]
    replay: bool

    @classmethod
    def of(cls, kind: str, config: dict[str, Any], replay: bool) -> Task:
        """The task of a resolved point."""
        return cls(key_of(kind, config, replay), kind, config, replay)


def key_of(kind: str, config: dict[str, Any], replay: bool) -> str:
    """SHA-256 of what the point's result follows from, shortened."""
    told = {"record": RECORD, "kind": kind, "replay": replay, "program": program(), "config": _by_content(config)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]


def files(config: Any, under: str = "") -> Iterator[Path]:
    """Every file and folder that a resolved scenario or study names."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from files(value, str(key))
    elif isinstance(config, list):
        for value in config:
            yield from files(value, under)
    elif isinstance(config, str) and under in _FILES and _exists(config):
        yield from _parts(Path(config))


def _by_content(config: Any, under: str = "") -> Any:
    """The document with every file and folder it names replaced by what is in it."""
    if isinstance(config, dict):
        return {key: _by_content(value, str(key)) for key, value in config.items()}
    if isinstance(config, list):
        return [_by_content(value, under) for value in config]
    if isinstance(config, str) and under in _FILES and _exists(config):
        return [_digest(part) for part in _parts(Path(config))]
    return config


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


def _parts(path: Path) -> list[Path]:
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)


@cache
def program() -> str:
    """SHA-256 of the code and data that make results, and the versions of the libraries they stand on."""
    made = hashlib.sha256(json.dumps(manifest([], seed=None)["versions"], sort_keys=True).encode())
    for package in _MADE_BY:
        root = Path(str(resources.files(package)))
        for file in sorted(root.rglob("*")):
            if file.suffix in (".py", ".csv", ".json"):
                made.update(file.relative_to(root).as_posix().encode())
                made.update(file.read_bytes())
    return made.hexdigest()


def make(task: Task) -> str:
    """Make one point; the text of its record, which says so where it failed."""
    if key_of(task.kind, task.config, task.replay) != task.key:
        return record(task, REFUSED, "a worker has another carbonfleet, or other files under the same names")
    try:
        made = {"scenario": _simulated, "study": _planned}[task.kind](task)
    except CarbonfleetError as error:
        return record(task, INFEASIBLE if error.exit_code == 3 else FAILED, str(error))
    except MemoryError:
        return record(task, FAILED, "out of memory; simulate a shorter horizon or fewer requests")
    except OSError as error:
        return record(task, FAILED, f"{error.filename or 'a file'}: cannot be read ({error.strerror})")
    except Exception as error:
        return record(task, FAILED, f"internal error: {type(error).__name__}: {error} (please report)")
    return record(task, **made)


def record(task: Task, status: str, error: str | None = None, **found: Any) -> str:
    """The text of a point's file."""
    line = None if error is None else " ".join(error.split())
    head = {"schema_version": RECORD, "key": task.key, "kind": task.kind, "status": status, "error": line}
    return dumps({**head, "config": task.config, **found}) + "\n"


def parsed(text: str, key: str) -> dict[str, Any]:
    """A record taken up again.

    Raises:
        InputError: it is not the record of this key.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError("not a point's record", field=key) from error
    if not isinstance(found, dict) or found.get("key") != key or "status" not in found:
        raise InputError("not a point's record", field=key)
    return found


def _simulated(task: Task) -> dict[str, Any]:
    from sim.run import run
    from sim.scenario import Scenario

    summary = run(Scenario.model_validate(task.config)).summary
    return {"status": OK, "summary": {key: value for key, value in summary.items() if key not in CLOCK}}


def _planned(task: Task) -> dict[str, Any]:
    from optimizer import refine, solve
    from optimizer.study import Study

    study = Study.model_validate(task.config)
    verdict = None
    if task.replay:
        plan, verdict, _ = refine.confirmed(study)
    else:
        plan = solve(study)
    document = {key: value for key, value in plan.document().items() if key not in CLOCK}
    found: dict[str, Any] = {"status": OK, "plan": document}
    if verdict is not None:
        found["replayed"] = verdict.document()
        if not verdict.verified:
            found |= {"status": UNVERIFIED, "error": f"the replay does not bear it out: {'; '.join(verdict.misses)}"}
    return found
