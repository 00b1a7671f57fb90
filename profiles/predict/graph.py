"""A kernel-graph network after LLMCO2 (arXiv 2410.02950): one network for prefill and one for decode, run in numpy.

A request is a graph of kernels, each with the seconds its operations and its bytes would take at the data sheet's rates
and the larger of both, its roofline bound. Two layers of SAGEConv (own features and the mean of the neighbours'), the
maximum over kernels, and two dense layers that also see the request give the logarithm of seconds over the bound.
Weights are an npz of plain arrays, trained by `python -m benchmarks.train_graph` on rows of a free licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from profiles.predict.columns import Columns, Floats
from profiles.predict.form import _distinct
from profiles.predict.predictor import BANDED, TIERS, Prediction

FILE = Path(__file__).parent / "data" / "graph.npz"
ENGINES = ("vllm", "trtllm", "sglang")
KERNELS = ("linear", "attention", "experts", "head", "communication")
EDGES = ((0, 1), (1, 2), (2, 3), (0, 4), (2, 4))  # what a layer runs after what; the exchange follows both halves
HIDDEN = 64
_LEAST_S = 1e-9


def mean_neighbours(nodes: int, edges: tuple[tuple[int, int], ...]) -> Floats:
    """The matrix that takes the mean over each node's neighbours, both ways along an edge."""
    joined = np.zeros((nodes, nodes))
    for a, b in edges:
        joined[a, b] = joined[b, a] = 1.0
    return np.asarray(joined / np.maximum(joined.sum(axis=1, keepdims=True), 1.0))


def forward(w: Mapping[str, Floats], nodes: Floats, near: Floats, request: Floats) -> Floats:
    """The network's output for graphs (rows, kernels, features) and requests (rows, features)."""
    h = nodes
    for layer in ("0", "1"):
        h = np.maximum(h @ w["own" + layer] + (near @ h) @ w["near" + layer] + w["bias" + layer], 0.0)
    z = np.concatenate([h.max(axis=1), request], axis=1)
    z = np.maximum(z @ w["mix"] + w["mix_bias"], 0.0)
    return np.asarray((z @ w["out"])[:, 0] + w["out_bias"][0])


def inputs(c: Columns, phase: str) -> tuple[Floats, Floats, Floats]:
    """Kernel features, request features and the graph's bound in seconds of a decode step or of a prompt's prefill."""
    w = c.work
    tokens = c.prompt if phase == "prefill" else c.batch
    pairs = 0.5 * c.prompt**2 if phase == "prefill" else c.batch * (c.prompt + 0.5 * c.output)
    read = c.prompt if phase == "prefill" else c.batch * (c.prompt + 0.5 * c.output)
    each_pair = w.prompt_pair_flops if phase == "prefill" else w.pair_flops
    rows = c.batch if phase == "decode" else np.ones(len(c))
    compute = (
        2.0 * w.linear_params * tokens / (w.world * w.peak),
        pairs * each_pair / (w.world * w.base_peak),
        2.0 * w.expert_params * w.chosen / w.experts * tokens / (w.world * w.expert_peak),
        2.0 * w.head_params * rows / (w.world * w.base_peak),
        np.zeros(len(c)),
    )
    move = (
        w.linear_bytes / (w.tp * w.bandwidth),
        read * w.kv_bytes / (w.dp * w.kv_shards * w.bandwidth),
        w.expert_bytes * _distinct(c, tokens) / (w.world * w.bandwidth),
        2.0 * w.head_params / (w.tp * w.bandwidth),
        4.0 * w.layers * tokens / w.dp * w.hidden * (w.world - 1.0) / w.world / w.link,
    )
    bound = np.maximum(compute, move)
    total = np.maximum(bound.sum(axis=0), _LEAST_S)
    logs = [np.log10(np.maximum(part, _LEAST_S)) + 4.0 for part in (compute, move, bound)]
    nodes = np.stack(logs, axis=-1).transpose(1, 0, 2)
    facts = [np.log10(total) + 2.5, np.log2(c.batch) - 5.0, np.log2(c.prompt) - 10.5, np.log2(c.output) - 10.0]
    facts += [np.log2(w.world) - 2.0, (w.layers - 60.0) / 30.0, np.log2(w.hidden) - 12.5]
    facts += [np.log2(w.peak / w.base_peak), np.log2(w.expert_peak / w.base_peak), c.apart.astype(float)]
    engines = c.names("engine")
    facts += [(engines == name).astype(float) for name in ENGINES]
    return nodes, np.stack(facts, axis=1), total


class Graph:
    """The two networks; TTFT and TPOT only, no watts. Bands are those of the held-out rows of its training."""

    name = "graph"
    source = "kernel-graph networks after LLMCO2, trained on aiconfigurator silicon_sample (docs/predict.md)"

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._w = weights
        self._near = mean_neighbours(len(KERNELS), EDGES)

    def predict(self, columns: Columns) -> Prediction:
        """TTFT and TPOT of every configuration; NaN for watts and joules."""
        found = {}
        for phase in ("prefill", "decode"):
            nodes, request, total = inputs(columns, phase)
            own = {key.split("/")[1]: value for key, value in self._w.items() if key.startswith(phase)}
            found[phase] = total * np.exp(forward(own, nodes, self._near, request))
        nan = np.full(len(columns), np.nan)
        tier = np.full(len(columns), TIERS.index("T2"), dtype=np.int64)
        band = dict.fromkeys(BANDED, nan)
        for name, phase in (("tpot", "decode"), ("ttft", "prefill")):
            band[name] = np.full(len(columns), float(self._w[f"{phase}/band"][0]))
        return Prediction(columns.batch, found["decode"], found["decode"], found["prefill"], nan, nan, nan, tier, band)


@cache
def load() -> Graph:
    """The shipped networks."""
    with np.load(FILE, allow_pickle=False) as stored:
        return Graph({name: stored[name] for name in stored.files})
