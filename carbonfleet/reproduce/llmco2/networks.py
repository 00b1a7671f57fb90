"""The kernel-graph networks of profiles.predict.graph, trained with torch (the extra predict-train)."""

from __future__ import annotations

import numpy as np
import torch

from profiles.predict import graph
from profiles.predict.columns import Floats

RATE, SEED = 0.01, 0


class Network(torch.nn.Module):  # type: ignore[misc,unused-ignore]
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
        """The network's output, a number a row."""
        h, w = nodes, self.w
        for k in "01":
            h = torch.relu(h @ w["own" + k] + (near @ h) @ w["near" + k] + w["bias" + k])
        z = torch.cat([h.max(dim=1).values, facts], dim=1)
        return (torch.relu(z @ w["mix"] + w["mix_bias"]) @ w["out"])[:, 0] + w["out_bias"]

    def arrays(self) -> dict[str, Floats]:
        """The weights as graph.forward takes them."""
        return {k: v.detach().numpy().astype(np.float32) for k, v in self.w.items()}


def learn(nodes: Floats, near: Floats, facts: Floats, target: Floats, epochs: int, batch: int) -> dict[str, Floats]:
    """Weights that bring the network's output near `target`; relative error squared, softened beyond 30 %.

    Args:
        nodes: (rows, kernels, features). near: graph.mean_neighbours. facts: (rows, features). target: (rows,)
    """
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
