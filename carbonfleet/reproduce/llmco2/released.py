"""Predictors on LLMCO2's released rows, by split. Labels have no unit, so only relative errors mean anything.

`form of few` is `profiles evaluate` on the file, `form` the same on all rows of the fitted part, `forest` and
`networks` are the paper's own kinds of predictor, which need scikit-learn and torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbonfleet.reproduce.llmco2.paper import AIMS, NAMES
from profiles.inputs import InputError
from profiles.predict import graph, llmco2
from profiles.predict.columns import Floats

Bools = NDArray[np.bool_]
FILES, GRAPHS = ("train", "validation", "test"), "kernel_graphs.npz"
SEED, TREES, EPOCHS, BATCH, FIVE = 0, 50, 100, 128, 5  # trees are the authors'; their epochs and batch: 50, 512
LEAST = 0.3  # of the smallest label that is known
PERIODS = (16.0, 32.0, 64.0, 128.0, 256.0)  # tokens, of matrix tiles
KERNELS = 15  # of prefill and of decode each: the second half is decode's
NETWORKS_ON = ("released", "longest")  # seconds each; the other splits in benchmarks.train_graph


@dataclass(frozen=True)
class Rows:
    """All rows: features, labels (prefill, decode), the model, which file, kernel features where they were found."""

    facts: Floats
    labels: Floats
    model: NDArray[np.int64]
    part: NDArray[np.int64]
    nodes: Floats | None
    near: Floats | None

    @property
    def prompt(self) -> Floats:
        """Tokens of each prompt."""
        return llmco2.lengths(self.facts)[0]

    @property
    def output(self) -> Floats:
        """Tokens of each output."""
        return llmco2.lengths(self.facts)[1]


@dataclass(frozen=True)
class Split:
    """Which rows are fitted and which are held out."""

    name: str
    aim: str
    fitted: Bools
    held: Bools


@cache
def read(folder: Path) -> Rows:
    """The three files, and the kernel features beside them if they are there.

    Raises:
        InputError: a file that is missing or of another format.
    """
    tables = []
    for name in FILES:
        llmco2.evaluate(folder / f"{name}.csv")  # checks every cell
        tables.append(np.genfromtxt(folder / f"{name}.csv", delimiter=",", names=True))
    columns = [np.concatenate([table[f"g{k}"] for table in tables]) for k in range(12)]
    labels = [np.concatenate([table[f"label_{phase}"] for table in tables]) for phase in ("prefill", "decode")]
    facts = np.stack(columns, axis=1)
    part = np.repeat(np.arange(len(FILES)), [len(table) for table in tables])
    model = np.round(facts[:, llmco2.MODEL]).astype(np.int64)
    if not set(model.tolist()) <= set(NAMES):
        raise InputError("models other than the released three", file=folder, field="g3")
    return Rows(facts, np.stack(labels, axis=1), model, part, *_graphs(folder, len(facts)))


def _graphs(folder: Path, rows: int) -> tuple[Floats | None, Floats | None]:
    place = folder / GRAPHS
    if not place.is_file():
        return None, None
    try:
        with np.load(place, allow_pickle=False) as stored:
            found = np.concatenate([stored[name][:, KERNELS:, :] for name in FILES]).astype(float)
            edges = tuple((int(a) - KERNELS, int(b) - KERNELS) for a, b in stored["edges"].T)
    except (ValueError, KeyError, IndexError, OSError):
        raise InputError("not the kernel graphs of the released rows", file=place, mend="leave the file out") from None
    if len(found) != rows:
        raise InputError(f"{len(found)} graphs for {rows} rows", file=place)
    return np.log1p(1e3 * found), graph.mean_neighbours(KERNELS, edges)


def splits(rows: Rows) -> Iterator[Split]:
    """The authors' random one, the longest prompts, and each model withheld but for none or five of its rows."""
    yield Split("as released, at random", "released", rows.part < 2, rows.part == 2)
    long = rows.prompt > np.quantile(rows.prompt, 0.8)
    yield Split("longest 20 % of prompts", "longest", ~long, long)
    rng = np.random.default_rng(SEED)
    for number, name in NAMES.items():
        new = rows.model == number
        five = np.zeros(len(new), dtype=bool)
        five[rng.choice(np.flatnonzero(new), FIVE, replace=False)] = True
        yield Split(f"{name} withheld", "withheld", ~new, new)
        yield Split(f"{name}, five rows", "five", ~new | five, new & ~five)


Predictor = Callable[[Rows, Split, int], Floats]


def _networks(rows: Rows, split: Split, k: int) -> Floats:
    """The networks' factor on padded tokens or on steps; a model of few rows is left out and scaled by these."""
    import torch

    from carbonfleet.reproduce.llmco2.networks import learn

    assert rows.nodes is not None
    assert rows.near is not None
    torch.set_num_threads(1)
    few = np.isin(rows.model, [m for m in NAMES if (split.fitted & (rows.model == m)).sum() <= FIVE])
    own, seen, work = split.fitted & ~few, _seen(rows), llmco2.work(rows.facts)[k]
    y = np.log(rows.labels[:, k] / work)
    middle, spread = y[own].mean(), y[own].std()
    weights = learn(rows.nodes[own], rows.near, seen[own], (y[own] - middle) / spread, EPOCHS, BATCH)
    found = graph.forward(weights, rows.nodes, rows.near, seen) * spread + middle
    if (known := split.fitted & few).any():
        found += np.median((y - found)[known])
    return np.asarray(np.exp(found[split.held]) * work[split.held])


def _seen(rows: Rows) -> Floats:
    """What the networks see of a request: the model's columns, lengths, and where the prompt lies within a tile."""
    padded, steps, attended = llmco2.work(rows.facts)
    lengths = np.log2([rows.prompt, padded, rows.output]) / 2.0 - 4.0
    turns = 2.0 * np.pi * np.ceil(rows.prompt / llmco2.PADDED) * llmco2.PADDED / np.array(PERIODS)[:, None]
    seen = [rows.facts[:, llmco2.MODEL : llmco2.PROMPT].T, lengths, [padded / 2e3, attended / steps / 2e3]]
    return np.concatenate([*seen, np.sin(turns), np.cos(turns)]).T


def _forest(rows: Rows, split: Split, k: int) -> Floats:
    from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-untyped,import-not-found,unused-ignore]

    forest = RandomForestRegressor(TREES, random_state=SEED)
    forest.fit(rows.facts[split.fitted], rows.labels[split.fitted, k])
    return np.asarray(forest.predict(rows.facts[split.held]))


def _form(rows: Rows, split: Split, k: int) -> Floats:
    """Each model's own form; the mean of the others' without rows, a line (decode: a multiple) of it with few."""
    owned = {model: np.flatnonzero(split.fitted & (rows.model == model)) for model in NAMES}
    told = {model: llmco2.fit(rows.facts[own], rows.labels[own])(rows.facts)[:, k]
            for model, own in owned.items() if own.size > FIVE}  # fmt: skip
    others = np.mean(list(told.values()), axis=0)
    basis = np.stack([others, np.ones_like(others)][: 2 - k], axis=1)
    for model, own in owned.items():
        if model not in told:
            told[model] = basis @ llmco2.line(basis[own], rows.labels[own, k]) if own.size else others
        if own.size:  # a line of five rows may cross zero
            told[model] = np.maximum(told[model], (LEAST if k == 0 else 0.0) * rows.labels[own, k].min())
    guess = np.select([rows.model == model for model in told], list(told.values()))
    return np.asarray(guess[split.held])


def predictors(rows: Rows) -> tuple[dict[str, Predictor], list[str]]:
    """Those that can be asked here, and why the others cannot."""
    found: dict[str, Predictor] = {"form": _form}
    why = []
    if find_spec("sklearn"):
        found["forest"] = _forest
    else:
        why.append("the random forest is left out: scikit-learn is not installed (extra predict-train)")
    if rows.nodes is None:
        why.append(f"the networks are left out: no {GRAPHS} beside the rows")
    elif not find_spec("torch"):
        why.append("the networks are left out: torch is not installed (extra predict-train)")
    else:
        found["networks"] = _networks
    return found, why


def facts(folder: Path) -> tuple[dict[str, Any], list[tuple[int, str]], list[str]]:
    """What the rows are, with the form of few on the test rows; the scores to be made (`score`); what is left out.

    Raises:
        InputError: see `read`.
    """
    rows = read(folder)
    asked, why = predictors(rows)
    few, ways = llmco2.evaluate(folder / "test.csv"), list(splits(rows))
    errors = [few["overall"][key] for key in ("ttft_mape", "tpot_mape")]
    jobs = [
        (k, name) for k, split in enumerate(ways) for name in asked if name != "networks" or split.aim in NETWORKS_ON
    ]
    table = [_row(ways[0], "form of few", errors, few["scored"])]
    return {"rows": len(rows.facts), **_repeats(rows), "table": table}, jobs, why


def score(folder: Path, number: int, name: str) -> list[dict[str, Any]]:
    """One predictor on one split, as a row of the table."""
    rows = read(folder)
    split, ask = list(splits(rows))[number], predictors(rows)[0][name]
    errors = [mape(ask(rows, split, k), rows.labels[split.held, k]) for k in range(2)]
    return [_row(split, name, errors, int(split.held.sum()))]


def _row(split: Split, name: str, errors: list[float], scored: int) -> dict[str, Any]:
    aims = AIMS.get(split.aim, (None, None))
    return {
        "split": split.name, "of": split.aim, "predictor": name, "rows": scored,
        "prefill_mape": errors[0], "decode_mape": errors[1], "prefill_aim": aims[0], "decode_aim": aims[1],
    }  # fmt: skip


def mape(guess: Floats, truth: Floats) -> float:
    """The mean of abs(guess / truth - 1)."""
    return float(np.mean(np.abs(guess / truth - 1.0)))


def _repeats(rows: Rows) -> dict[str, int]:
    """How many test rows have a configuration that is among the fitted, and how many of these its labels."""
    known: dict[bytes, Floats] = {}
    for known_facts, labels in zip(rows.facts[rows.part < 2], rows.labels[rows.part < 2], strict=True):
        known[known_facts.tobytes()] = labels
    test = zip(rows.facts[rows.part == 2], rows.labels[rows.part == 2], strict=True)
    same = [bool(np.array_equal(known[f.tobytes()], y)) for f, y in test if f.tobytes() in known]
    return {"test_rows": int((rows.part == 2).sum()), "test_rows_known": len(same), "with_equal_labels": sum(same)}
