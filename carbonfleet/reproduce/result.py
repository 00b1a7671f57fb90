"""What every reproduction gives: a document with all of its figures, and the profiles that it was computed with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles.catalog import DATA
from profiles.outputs import manifest, write_json, write_text
from profiles.profile import Profile, save

DIGITS = 6
TABLES = ("gpus.csv", "hosts.csv", "llms.csv", "zones.csv", "typical_years.csv")


NEAR, FAR = 0.10, 0.20


@dataclass(frozen=True, slots=True)
class Study:
    """A reproduction: its document, and the predicted profiles that it was computed with."""

    document: dict[str, Any]
    profiles: list[Profile]


def worded(error: float, right: bool) -> str:
    """The verdict on a figure by its relative error; `right` says that it lies on the paper's side."""
    if not right:
        return "miss: wrong direction"
    return "within 10 %" if abs(error) <= NEAR else "within 20 %" if abs(error) <= FAR else "miss"


def rounded(value: Any) -> Any:
    """Six digits: more would pretend, and differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def write(made: Study, page: str, folder: Path, inputs: Iterable[Path], command: list[str]) -> None:
    """Write the folder of a reproduction: the page, the document, what made them, and the profiles.

    `inputs` that are no files (zones by name) are left out of the manifest.

    Raises:
        OutputError: the folder cannot be written.
    """
    for profile in made.profiles:
        save(profile, folder / "profiles" / f"{profile.key}.json")
    write_json(folder / "result.json", {"schema_version": 1, **made.document})
    write_text(folder / "report.html", page)
    files = [*(DATA / name for name in TABLES), *(path for path in inputs if path.is_file())]
    write_json(folder / "manifest.json", manifest(files, seed=None, command=command))
