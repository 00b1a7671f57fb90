"""Files are written whole or not at all: to a temporary name beside their place, then renamed."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from profiles.inputs import CarbonfleetError, sha256

_PACKAGE = Path(__file__).resolve().parent
_VERSIONED = ("carbonfleet", "numpy", "simpy", "pulp", "highspy", "pyarrow")


class OutputError(CarbonfleetError):
    """A result could not be written; nothing half-written is left behind."""


def write_with(path: str | Path, writer: Callable[[Path], None]) -> Path:
    """Let `writer` fill a temporary file and put it in place of `path` in one step.

    Raises:
        OutputError: the disk is full, the folder cannot be made or written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        writer(temporary)
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        what = f"{target}: cannot be written ({error.strerror or error}); free some space or write elsewhere"
        raise OutputError(what) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text whole or not at all."""

    def fill(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    return write_with(path, fill)


def write_json(path: str | Path, document: Any) -> Path:
    """Write one JSON document, whole or not at all."""
    return write_text(path, dumps(document) + "\n")


def dumps(document: Any) -> str:
    """One JSON document; a non-finite number becomes null rather than invalid JSON."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # numpy scalars
        return _finite(value.item())
    return value


def manifest(inputs: Iterable[str | Path], *, seed: int | None, command: list[str] | None = None) -> dict[str, Any]:
    """What made a result: sha256 of every input file, versions, seed, command line."""
    return {
        "schema_version": 1,
        "inputs": {label(path): sha256(path) for path in sorted({str(p) for p in inputs})},
        "seed": seed,
        "command": command,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _VERSIONED},
    }


def label(path: str | Path) -> str:
    """How a manifest names an input: what ships with carbonfleet by its place in the package, else its whole path."""
    whole = Path(path).resolve()
    return f"profiles/{whole.relative_to(_PACKAGE).as_posix()}" if whole.is_relative_to(_PACKAGE) else str(whole)


def located(name: str) -> Path:
    """Where an input of a manifest lies on this machine."""
    return _PACKAGE.parent / name if name.startswith("profiles/") else Path(name)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
