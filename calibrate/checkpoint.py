"""Checkpoints: one JSON line for each finished window, so that a stopped calibration loses one window at most.

The first line says which run this is; a checkpoint of another run is refused. The file is the raw record beside
the profile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibrate.meter import Sample
from calibrate.phases import Mix
from calibrate.protocol import IdleWindow, Window
from profiles.inputs import InputError, read_text
from profiles.outputs import OutputError


class Checkpoint:
    """The windows of one run, in memory and, where a path is given, on disk.

    Args:
        path: the file, or None to keep nothing.
        identity: what must be equal for the file's windows to be taken up again.

    Raises:
        InputError: the file is of another run or damaged before its last line.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self._path = path
        self.windows: dict[str, list[Window]] = {}
        self.idle: dict[str, IdleWindow] = {}
        self.notes: list[str] = []
        self.mixes: dict[str, Mix] = {}
        self.samples: dict[str, list[list[Sample]]] = {}
        if path is not None and path.exists() and path.stat().st_size:
            self._take_up(path, identity)
        else:
            self._append({"run": identity})

    def add(self, label: str, window: Window, samples: Sequence[Sample] = ()) -> None:
        """Keep one window of the point `label` and the meter's raw samples in it."""
        self.windows.setdefault(label, []).append(window)
        self.samples.setdefault(label, []).append(list(samples))
        self._append({"point": label, "window": asdict(window), "samples": self.samples[label][-1]})

    def add_idle(self, state: str, window: IdleWindow) -> None:
        """Keep the idle power in `state` (no_context or loaded)."""
        self.idle[state] = window
        self._append({"idle": state, "window": asdict(window)})

    def add_mix(self, label: str, mix: Mix) -> None:
        """Keep one window of mixed load."""
        self.mixes[label] = mix
        self._append({"mix": label, "window": asdict(mix)})

    def add_note(self, note: str) -> None:
        """Keep a sentence for the profile, once."""
        if note not in self.notes:
            self.notes.append(note)
            self._append({"note": note})

    def _take_up(self, path: Path, identity: dict[str, Any]) -> None:
        text = read_text(path)
        end = text.rfind("\n") + 1  # killed while writing its last line: that window is measured again
        for number, line in enumerate(text[:end].splitlines() or [text], 1):
            try:
                record = json.loads(line)
                if number == 1:
                    _same_run(path, record["run"], identity)
                elif "point" in record:
                    self.windows.setdefault(record["point"], []).append(Window(**record["window"]))
                    raw = [Sample(*sample) for sample in record.get("samples", ())]
                    self.samples.setdefault(record["point"], []).append(raw)
                elif "idle" in record:
                    self.idle[record["idle"]] = IdleWindow(**record["window"])
                elif "mix" in record:
                    self.mixes[record["mix"]] = Mix(**record["window"])
                else:
                    self.notes.append(record["note"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    "not a calibration checkpoint", file=path, line=number, mend="delete it to start afresh"
                ) from error
        try:
            os.truncate(path, len(text[:end].encode("utf-8")))
        except OSError as error:
            raise _unwritable(path, error) from error

    def _append(self, record: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, allow_nan=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error


def _same_run(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a checkpoint whose run differs, naming the first difference."""
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            what = f"checkpoint of another run ({key} was {found.get(key)}, now {wanted.get(key)})"
            raise InputError(what, file=path, mend="delete it or name another checkpoint")


def _unwritable(path: Path, error: OSError) -> OutputError:
    what = f"{path}: cannot be written ({error.strerror or error}); free some space and start again, it goes on"
    return OutputError(what)
