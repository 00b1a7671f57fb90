"""The whole reproduction as one document: released rows, withheld measurements, requests, claims."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from carbonfleet.reproduce.hotcarbon24.paper import ZONES as MEANS
from carbonfleet.reproduce.llmco2 import claims, measured, released, requests
from carbonfleet.reproduce.llmco2.paper import (
    BATCHES,
    GPUS_TOGETHER,
    LIFETIME_YEARS,
    OUTPUT_TOKENS,
    PAPER,
    PROMPT_TOKENS,
    ZONES,
)
from carbonfleet.reproduce.result import Study, rounded
from profiles import grid
from profiles.predict import predictor
from profiles.predict.request import PRESET, PUE

NAME = "llmco2"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Rows: TypeAlias = list[dict[str, Any]]
Job: TypeAlias = tuple[Any, ...]  # a function that makes rows, and what it is called with


@dataclass(frozen=True, slots=True)
class Setting:
    """Folders of rows that the user has, and the grids of the requests; without zones HotCarbon'24's three means."""

    released: Path | None = None
    rows: Path | None = None
    zones: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """What is read, for the manifest; a name of a zone is no file and does no harm there."""
        released_rows = [] if self.released is None else sorted(self.released.glob("*.[cn][sp][vz]"))
        measurements = [] if self.rows is None else sorted(self.rows.glob("*/*.csv"))
        wanted = [file for file in measurements if file.parent.name in measured.SOURCES]
        return [*released_rows, *wanted, *map(Path, self.zones)]


def study(asked: Setting) -> Study:
    """Score what can be scored, price the requests, judge.

    Raises:
        InputError: rows of another format, an unknown zone.
    """
    if asked.zones:
        zones = {(signal := grid.load(name)).name: signal.mean() for name in asked.zones}
    else:
        zones = {name: MEANS[name] for name in ZONES}
    table, jobs, why = _released(asked.released)
    if asked.rows is not None:
        jobs = [*jobs, *((measured.score, asked.rows, *one) for one in measured.jobs(asked.rows))]
    scores = _made(jobs)
    if table is not None:
        table["table"] += scores[released.score]
    document: dict[str, Any] = {
        "reproduction": NAME,
        "paper": PAPER,
        "setting": {"zones_g_per_kwh": zones, "batches": list(BATCHES), "predictor": predictor.load().source},
        "released": table,
        "measured": scores.get(measured.score),
        "requests": requests.rows(zones),
    }
    document["claims"] = claims.claims(document)
    document["assumptions"] = [dict(zip(("name", "value", "source", "reason"), row, strict=True)) for row in _assumed()]
    document["warnings"] = [*_missing(asked), *why]
    return Study(rounded(document), [])


def _released(folder: Path | None) -> tuple[dict[str, Any] | None, list[Job], list[str]]:
    if folder is None:
        return None, [], []
    table, scores, why = released.facts(folder)
    return table, [(released.score, folder, *one) for one in scores], why


def _made(jobs: list[Job]) -> dict[Callable[..., Rows], Rows]:
    """The rows of every kind of job, by two processes of one thread each: more get in each other's way."""
    found: dict[Callable[..., Rows], Rows] = {}
    if not jobs:
        return found
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            for job, rows in zip(jobs, pool.map(_do, jobs), strict=True):
                found.setdefault(job[0], []).extend(rows)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})
    return found


def _do(job: Job) -> Rows:
    score, *arguments = job
    rows: Rows = score(*arguments)
    return rows


def _missing(asked: Setting) -> Iterable[str]:
    if asked.released is None:
        yield "LLMCO2's released rows are not given (--released DIR), so no predictor is scored on them"
    if asked.rows is None:
        yield "public measurements are not given (--rows DIR), so no withheld row is scored"
    yield "every figure of a request is predicted; its tier and band stand beside it"
    yield "the paper was read second-hand: its tables of errors and of grams could not be"


def _assumed() -> Iterable[tuple[str, str, str, str]]:
    yield ("lengths", f"{PROMPT_TOKENS:,} tokens in, {OUTPUT_TOKENS} out", "derived",
           "every released pair of lengths is one of the Azure 2023 conversation trace; its means")  # fmt: skip
    yield ("GPUs together", f"tp {GPUS_TOGETHER}", "repository", "its table of hardware says num 4")
    yield ("precision", requests.PRECISION, "assumed", "the repository's table has fp16 rates")
    yield ("batches", ", ".join(map(str, BATCHES)), "assumed", "the released rows hold one a model, not stated")
    yield ("grids", ", ".join(ZONES), "HotCarbon'24", "the paper's own could not be read")
    yield ("PUE, preset", f"{PUE:g}, {PRESET} with the host's share", "default", "as carbonfleet predict")
    yield ("GPU lifetime", f"{LIFETIME_YEARS:g} years, linear", "LLMCarbon", "whose embodied model the authors use")
