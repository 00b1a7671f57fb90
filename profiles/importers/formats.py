"""Which public formats are read, and how: one table, asked by the command line and by code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the help names the formats, and help must start quickly
    from profiles.profile import Profile


@dataclass(frozen=True)
class Asked:
    """What a user says beside the file: what the source leaves open, and who hears of what is left out."""

    gpu: str | None = None
    model: str | None = None
    tp: int | None = None
    sequence_s: float | None = None
    tell: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Format:
    """A format: the module that reads it (its `read(path, asked)`), the options it takes and a line for the help."""

    module: str
    options: tuple[str, ...]
    about: str


FORMATS = {
    "aiconfigurator": Format("aiconfigurator", (), "silicon_sample.csv (TTFT and TPOT of served models)"),
    "llmservingsim": Format("llmservingsim", ("sequence_s",), "a folder of per-layer tables with their meta.yaml"),
    "mlenergy": Format("mlenergy", (), "the leaderboard's JSON files or rows, or the mlenergy-data package's records"),
    "splitwise": Format(
        "splitwise", ("model", "tp"), "a perf_model.csv (Llama-2 70B at tp 8 on each GPU, or as asked)"
    ),
}


def read(name: str, path: str | Path, asked: Asked) -> list[Profile]:
    """The profiles in a file or folder of a format.

    Raises:
        InputError: an unknown format, an option that the format does not take, or whatever its reader refuses.
    """
    from profiles.inputs import InputError, near_miss

    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", mend=near_miss(name, FORMATS))
    form = FORMATS[name]
    for option in ("gpu", "model", "tp", "sequence_s"):
        if getattr(asked, option) is not None and option not in form.options:
            takers = [other for other, f in FORMATS.items() if option in f.options]
            flag = "--sequence-us" if option == "sequence_s" else f"--{option}"
            raise InputError(
                f"{flag} says nothing to {name}", mend=f"it goes with {', '.join(takers) or 'no format yet'}"
            )
    found: list[Profile] = import_module(f"profiles.importers.{form.module}").read(path, asked)
    return found
