"""Kernel-graph networks after LLMCO2, trained with torch.

    python -m benchmarks.train_graph DATA          # DATA/aiconfigurator: held-out errors; --write ships weights
    python -m benchmarks.train_graph --llmco2 DIR  # LLMCO2's rows: networks, forest, a fitted form, on the same splits

LLMCO2's rows carry no licence: nothing trained on them is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from carbonfleet.reproduce.llmco2 import released
from carbonfleet.reproduce.llmco2.networks import learn
from profiles.outputs import write_with
from profiles.predict import graph, train
from profiles.predict.columns import Floats
from profiles.predict.measured import Measured

EPOCHS, BATCH = 60, 256


def ours(data: Path, write: bool) -> None:
    rows = train.gather(data)
    own = np.array([r.cell.source.startswith("silicon") for r in rows.rows])
    rows = rows.take(np.flatnonzero(own))
    m, near = Measured.of(rows.rows), graph.mean_neighbours(len(graph.KERNELS), graph.EDGES)
    weights: dict[str, Floats] = {}
    print("| tier | figure | kind | MAPE | median | rows |\n|---|---|---|---|---|---|")
    kinds = np.array([train.family(r.cell) for r in rows.rows])
    for phase, figure in (("decode", m.tpot_s), ("prefill", m.ttft_s)):
        nodes, facts, total = graph.inputs(m.columns, phase)
        target = np.log(figure / total)
        for tier in ("cfg", "T1", "T2"):
            error = np.full(len(m), np.nan)
            fold = train.folds(rows.rows, tier)
            for one in sorted(set(fold.tolist())):
                sound, test = np.flatnonzero((fold != one) & rows.sound), np.flatnonzero(fold == one)
                w = learn(nodes[sound], near, facts[sound], target[sound], EPOCHS, BATCH)
                error[test] = graph.forward(w, nodes[test], near, facts[test]) - target[test]
            for kind in ("dense", "moe", "apart"):
                e = np.abs(np.expm1(error[(kinds == kind) & ~rows.flagged]))
                print(
                    f"| {tier} | {phase} | {kind} | {100 * e.mean():.1f}% | {100 * np.median(e):.1f}% | {len(e)} |",
                    flush=True,
                )
        weights[f"{phase}/band"] = np.array([np.exp(np.quantile(np.abs(error[~rows.flagged]), 0.9))])
        sound = np.flatnonzero(rows.sound)
        weights |= {
            f"{phase}/{k}": v for k, v in learn(nodes[sound], near, facts[sound], target[sound], EPOCHS, BATCH).items()
        }
    if write:
        write_with(graph.FILE, lambda part: _save(part, weights))


def _save(part: Path, weights: dict[str, Floats]) -> None:
    with part.open("wb") as stream:
        np.savez(stream, **weights)


def theirs(folder: Path) -> None:
    """LLMCO2's rows: error by split and by predictor, the networks on every split."""
    rows = released.read(folder)
    asked, why = released.predictors(rows)
    print("\n".join(why) or "| split | predictor | prefill MAPE | decode MAPE | rows |\n|---|---|---|---|---|")
    for split in released.splits(rows):
        for name, ask in asked.items():
            errors = [released.mape(ask(rows, split, k), rows.labels[split.held, k]) for k in range(2)]
            text = " | ".join(f"{100 * error:.2f}%" for error in errors)
            print(f"| {split.name} | {name} | {text} | {split.held.sum()} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_graph", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--llmco2", action="store_true", help="DATA holds LLMCO2's rows")
    parser.add_argument("--write", action="store_true", help="ship the weights")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    run: Callable[[], None] = (lambda: theirs(asked.data)) if asked.llmco2 else (lambda: ours(asked.data, asked.write))
    run()


if __name__ == "__main__":
    main()
