"""A reproduction's folder: the page, the document, what made them, and the profiles it was computed with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carbonfleet.reproduce.hotcarbon24 import page
from carbonfleet.reproduce.hotcarbon24.study import Study
from profiles.catalog import DATA
from profiles.outputs import manifest, write_json, write_text
from profiles.profile import save

TABLES = ("gpus.csv", "hosts.csv", "llms.csv", "zones.csv", "typical_years.csv")


def write(made: Study, folder: Path, inputs: Iterable[Path], command: list[str]) -> None:
    """Write all of it; `inputs` that are no files (zones by name) are left out of the manifest.

    Raises:
        OutputError: the folder cannot be written.
    """
    for profile in made.profiles:
        save(profile, folder / "profiles" / f"{profile.key}.json")
    write_json(folder / "result.json", {"schema_version": 1, **made.document})
    write_text(folder / "report.html", page.build(made.document))
    files = [*(DATA / name for name in TABLES), *(path for path in inputs if path.is_file())]
    write_json(folder / "manifest.json", manifest(files, seed=None, command=command))
