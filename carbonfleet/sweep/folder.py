"""A sweep's folder: one file a point, named by the point's key, and sweep.json, which says which point has which.

A point's file is written whole or not at all and always with the same bytes, so that it does not matter who makes it
or how often.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carbonfleet.sweep.work import FAILED, parsed
from profiles.inputs import InputError, read_json
from profiles.outputs import write_json, write_text

SWEEP, POINTS, TABLE, PAGE = "sweep.json", "points", "sweep.parquet", "report.html"


class Folder:
    """The folder of one sweep.

    Raises:
        InputError: it holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError("is a file", file=self.path, mend="give a folder")
        known = (self.path / SWEEP).exists() or (self.path / POINTS).is_dir()
        if not known and self.path.exists() and any(self.path.iterdir()):
            raise InputError("holds something else than a sweep", file=self.path, mend="give an empty folder")

    def place(self, key: str) -> Path:
        """The file of a point."""
        return self.path / POINTS / f"{key}.json"

    def keep(self, key: str, text: str) -> None:
        """Write a point's record.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(self.place(key), text)

    def record(self, key: str) -> dict[str, Any] | None:
        """A point's record; None where there is none, or the file is damaged."""
        try:
            return parsed(self.place(key).read_text("utf-8"), key)
        except (OSError, UnicodeDecodeError, InputError):
            return None

    def has(self, key: str, failed_too: bool) -> bool:
        """Whether a point need not be made again."""
        found = self.record(key)
        return found is not None and (failed_too or found["status"] != FAILED)

    def before(self) -> set[str]:
        """The keys of the points the sweep had when it was last run here."""
        try:
            document = json.loads((self.path / SWEEP).read_text("utf-8"))
            return {str(point["key"]) for point in document["points"]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()

    def state(self, document: dict[str, Any]) -> None:
        """Write sweep.json.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json(self.path / SWEEP, document)


def point_record(path: str | Path, number: int) -> dict[str, Any]:
    """The record of a point by its number, for commands that are given FOLDER:NUMBER.

    Raises:
        InputError: not a sweep's folder, no such point, or one that was not made.
    """
    folder = Path(path)
    if not (folder / SWEEP).is_file():
        raise InputError(f"has no {SWEEP}", file=folder, mend="give a folder that sweep wrote")
    document = read_json(folder / SWEEP)
    keys = {point["point"]: point["key"] for point in document["points"]}
    if number not in keys:
        raise InputError(f"has no point {number}", file=folder, mend=f"it has 0 to {len(keys) - 1}")
    found = Folder(folder).record(keys[number]) if keys[number] else None
    if found is None or ("summary" not in found and "plan" not in found):
        what = found["error"] if found else "it could not be resolved, or was not made yet"
        raise InputError(f"point {number} has no result: {what}", file=folder)
    return found
