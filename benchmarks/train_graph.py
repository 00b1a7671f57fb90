"""Kernel-graph networks after LLMCO2, trained with torch.

    python -m benchmarks.train_graph DATA          # DATA/aiconfigurator: held-out errors; --write ships weights
    python -m benchmarks.train_graph --llmco2 DIR  # LLMCO2's rows: networks, forest, a fitted form, on the same splits

LLMCO2's rows carry no licence: nothing trained on them is written.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from profiles.outputs import write_with
from profiles.predict import graph, train
from profiles.predict.columns import Floats
from profiles.predict.measured import Measured

EPOCHS, BATCH, RATE, SEED = 60, 256, 0.01, 0
LLMCO2_RUNS = (50, 256)  # epochs and batch: LLMCO2 states 50 epochs
PROMPT, PROMPT_SCALE, WINDOW = 1155.0, 1121.0, 4096.0  # of LLMCO2's standardised column 10; its models' context


class Network(torch.nn.Module):
    """As graph.forward."""

    def __init__(self, features: int, facts: int) -> None:
        super().__init__()
        h = graph.HIDDEN
        shapes = {"own0": (features, h), "near0": (features, h), "bias0": (h,), "own1": (h, h), "near1": (h, h),
                  "bias1": (h,), "mix": (h + facts, h), "mix_bias": (h,), "out": (h, 1), "out_bias": (1,)}  # fmt: skip
        self.w = torch.nn.ParameterDict({k: torch.nn.Parameter(self._first(*s)) for k, s in shapes.items()})

    @staticmethod
    def _first(*shape: int) -> torch.Tensor:
        return torch.randn(*shape) * (2.0 / shape[0]) ** 0.5 * 0.7 if len(shape) > 1 else torch.zeros(*shape)

    def forward(self, nodes: torch.Tensor, near: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        h, w = nodes, self.w
        for k in "01":
            h = torch.relu(h @ w["own" + k] + (near @ h) @ w["near" + k] + w["bias" + k])
        z = torch.cat([h.max(dim=1).values, facts], dim=1)
        return (torch.relu(z @ w["mix"] + w["mix_bias"]) @ w["out"])[:, 0] + w["out_bias"]

    def arrays(self) -> dict[str, Floats]:
        return {k: v.detach().numpy().astype(np.float32) for k, v in self.w.items()}


def learn(
    nodes: Floats, near: Floats, facts: Floats, target: Floats, epochs: int = EPOCHS, batch: int = BATCH
) -> dict[str, Floats]:
    """Weights that bring the network's output near `target`; relative error squared, softened beyond 30 %."""
    torch.manual_seed(SEED)
    net = Network(nodes.shape[2], facts.shape[1])
    x, a, f, y = (torch.tensor(v, dtype=torch.float32) for v in (nodes, near, facts, target))
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    steps = epochs * -(-len(y) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        for some in torch.randperm(len(y)).split(batch):
            optimizer.zero_grad()
            loss = torch.nn.functional.huber_loss(net(x[some], a, f[some]), y[some], delta=0.3)
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.arrays()


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
                w = learn(nodes[sound], near, facts[sound], target[sound])
                error[test] = graph.forward(w, nodes[test], near, facts[test]) - target[test]
            for kind in ("dense", "moe", "apart"):
                e = np.abs(np.expm1(error[(kinds == kind) & ~rows.flagged]))
                print(
                    f"| {tier} | {phase} | {kind} | {100 * e.mean():.1f}% | {100 * np.median(e):.1f}% | {len(e)} |",
                    flush=True,
                )
        weights[f"{phase}/band"] = np.array([np.exp(np.quantile(np.abs(error[~rows.flagged]), 0.9))])
        sound = np.flatnonzero(rows.sound)
        weights |= {f"{phase}/{k}": v for k, v in learn(nodes[sound], near, facts[sound], target[sound]).items()}
    if write:
        write_with(graph.FILE, lambda part: _save(part, weights))


def _save(part: Path, weights: dict[str, Floats]) -> None:
    with part.open("wb") as stream:
        np.savez(stream, **weights)


def theirs(folder: Path) -> None:
    """LLMCO2's rows: error by split and by predictor."""
    stored = np.load(folder / "kernel_graphs.npz", allow_pickle=False)
    parts = [_part(folder, stored, name) for name in ("train", "validation", "test")]
    nodes, facts, labels = (np.concatenate([p[i] for p in parts]) for i in range(3))
    which = np.concatenate([np.full(len(p[0]), i) for i, p in enumerate(parts)])
    edges = tuple((int(a) - 15, int(b) - 15) for a, b in stored["edges"].T)
    near = graph.mean_neighbours(15, edges)
    prompt, model = facts[:, 10], np.round(facts[:, 3]).astype(int)
    long = prompt > np.quantile(prompt, 0.8)
    splits = [("random", which < 2, which == 2), ("longest 20 % of prompts", ~long, long)]
    rng = np.random.default_rng(SEED)
    for one in sorted(set(model.tolist())):
        new = model == one
        five = np.zeros(len(new), dtype=bool)
        five[rng.choice(np.flatnonzero(new), 5, replace=False)] = True
        splits += [(f"model {one} withheld", ~new, new), (f"model {one}, five rows", ~new | five, new & ~five)]
    print("| split | predictor | prefill MAPE | decode MAPE | rows |\n|---|---|---|---|---|")
    for name, fitted, held in splits:
        for predictor, ask in (("graph networks", _networks), ("forest", _forest), ("fitted form", _form)):
            found = ask(nodes, near, facts, labels, model, fitted, held)
            text = ["-" if e is None else f"{100 * np.mean(np.abs(np.expm1(e))):.2f}%" for e in found]
            print(f"| {name} | {predictor} | {text[0]} | {text[1]} | {held.sum()} |", flush=True)


def _part(folder: Path, stored: np.lib.npyio.NpzFile, name: str) -> tuple[Floats, Floats, Floats]:
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    facts = np.array([[float(r[f"g{i}"]) for i in range(12)] for r in rows])
    labels = np.array([[float(r["label_prefill"]), float(r["label_decode"])] for r in rows])
    return np.log1p(1e3 * stored[name][:, 15:, :].astype(float)), facts, labels


Errors = list[Floats | None]


def _networks(
    nodes: Floats, near: Floats, facts: Floats, labels: Floats, model: Floats, fit: Floats, held: Floats
) -> Errors:
    found: Errors = []
    for k in range(2):
        y = np.log(labels[:, k])
        middle, spread = y[fit].mean(), y[fit].std()
        w = learn(nodes[fit], near, facts[fit], (y[fit] - middle) / spread, *LLMCO2_RUNS)
        found.append(graph.forward(w, nodes[held], near, facts[held]) * spread + middle - y[held])
    return found


def _forest(
    nodes: Floats, near: Floats, facts: Floats, labels: Floats, model: Floats, fit: Floats, held: Floats
) -> Errors:
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        return [None, None]
    found: Errors = []
    for k in range(2):
        forest = RandomForestRegressor(50, random_state=SEED).fit(facts[fit], labels[fit, k])
        found.append(np.log(forest.predict(facts[held]) / labels[held, k]))
    return found


def _form(
    nodes: Floats, near: Floats, facts: Floats, labels: Floats, model: Floats, fit: Floats, held: Floats
) -> Errors:
    """A model's own line, prompts cut at 4,096 tokens; a model of few rows has a multiple of the others'."""
    prompt = PROMPT + PROMPT_SCALE * facts[:, 10]
    output = (facts[:, 11] - facts[:, 11].min()) / _grid(facts[:, 11]) + 1.0
    near_tokens = np.minimum(prompt, WINDOW)
    ones = np.ones(len(prompt))
    bases = (
        np.stack([ones, near_tokens / 1e3, near_tokens**2 / 1e6], axis=1),
        np.stack([ones, output / 1e2, output * near_tokens / 1e5, output * output / 1e4], axis=1),
    )
    found: Errors = []
    for k, basis in enumerate(bases):
        guess = np.full(len(prompt), np.nan)
        lines = {one: _line(basis[fit & (model == one)], labels[fit & (model == one), k]) for one in set(model.tolist())
                 if np.sum(fit & (model == one)) > 50}  # fmt: skip
        for one in set(model.tolist()):
            own, few = model == one, fit & (model == one)
            if one in lines:
                guess[own] = basis[own] @ lines[one]
                continue
            others = np.mean([basis @ line for line in lines.values()], axis=0)
            scale = np.exp(np.mean(np.log(labels[few, k] / others[few]))) if few.any() else 1.0
            guess[own] = scale * others[own]
        found.append(np.log(np.maximum(guess[held], 1e-3) / labels[held, k]))
    return found


def _grid(column: Floats) -> float:
    """The step of a standardised column of whole numbers."""
    return float(np.min(np.diff(np.unique(np.round(column, 5)))))


def _line(basis: Floats, y: Floats) -> Floats:
    """Least squares of relative errors, made robust by rounds of reweighting."""
    weight = 1.0 / y
    for _ in range(12):
        line = np.linalg.lstsq(basis * weight[:, None], y * weight, rcond=None)[0]
        weight = 1.0 / y / np.sqrt(1.0 + ((basis @ line / y - 1.0) / 0.02) ** 2)
    return np.asarray(line)


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
