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
    skew: bool | None = None
    tell: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Format:
    """A format: the module that reads it (its `read(path, asked)`), the options it takes and a line for the help."""

    module: str
    options: tuple[str, ...]
    about: str
    hosts: bool = False  # gives units of the catalogue, not profiles


FORMATS = {
    "aiconfigurator": Format(
        "aiconfigurator", ("model", "tp"), "silicon_sample.csv, or a GPU's folder of operations (--model is needed)"
    ),
    "distserve": Format("distserve", ("gpu", "model", "tp"), "fitted coefficients (A100 80 GB unless --gpu)"),
    "helix": Format("helix", ("gpu", "model", "tp"), "a folder of two tables (--gpu and --model are needed)"),
    "llm-inference-bench": Format(
        "llm_inference_bench", (), "All_results.csv, a power_results file, or the folder with both"
    ),
    "llmservingsim": Format(
        "llmservingsim", ("sequence_s", "skew"), "a folder of per-layer tables with their meta.yaml"
    ),
    "mlenergy": Format("mlenergy", (), "the leaderboard's JSON files or rows, or the mlenergy-data package's records"),
    "mlperf-power": Format(
        "mlperf_power", (), "a table of wall watts; writes a hosts.csv for --own-catalog, no profiles", hosts=True
    ),
    "splitwise": Format(
        "splitwise", ("model", "tp"), "a perf_model.csv (Llama-2 70B at tp 8 on each GPU, or as asked)"
    ),
    "vidur": Format("vidur", ("gpu", "model", "tp"), "an mlp.csv of linear operators (--gpu is needed)"),
}


def read(name: str, path: str | Path, asked: Asked) -> list[Profile]:
    """The profiles in a file or folder of a format; none of one that gives hosts (`hosts`).

    Raises:
        InputError: an unknown format, an option that the format does not take, or whatever its reader refuses.
    """
    from profiles.inputs import InputError, near_miss

    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", mend=near_miss(name, FORMATS))
    form = FORMATS[name]
    for option in ("gpu", "model", "tp", "sequence_s", "skew"):
        if getattr(asked, option) is not None and option not in form.options:
            takers = [other for other, f in FORMATS.items() if option in f.options]
            flag = "--sequence-us" if option == "sequence_s" else f"--{option}"
            raise InputError(
                f"{flag} says nothing to {name}", mend=f"it goes with {', '.join(takers) or 'no format yet'}"
            )
    if form.hosts:
        return []
    found: list[Profile] = import_module(f"profiles.importers.{form.module}").read(path, asked)
    return found


def hosts(name: str, path: str | Path, asked: Asked) -> str:
    """The hosts.csv that a format of hosts gives.

    Raises:
        InputError: as its reader.
    """
    module = import_module(f"profiles.importers.{FORMATS[name].module}")
    text: str = module.hosts_csv(module.nodes(path, asked))
    return text
