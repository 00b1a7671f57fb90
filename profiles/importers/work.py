"""What one step of a model computes, reads and sends on a stated set of GPUs: counts from shapes and data sheets.

Everything takes numbers or numpy columns. Mixtures of experts read the experts that their tokens meet: of E experts, k
a token, n tokens meet E (1 - (1 - k / E)^n) on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from profiles.catalog import MEMORY_SHARE, RESERVED_BYTES, Gpu
from profiles.llm import Llm, precision_bytes
from profiles.profile import Idle

Numbers: TypeAlias = float | NDArray[np.float64]

# Watts of one GPU: before any context, with weights loaded and no work, and who measured it.
PARKING = "arXiv 2605.23918 (The Model Parking Tax)"
_IDLE_W = {
    "h100-sxm-80gb": (71.8, 121.7, PARKING),
    "a100-sxm-80gb": (53.7, 80.0, PARKING),
    "l40s": (None, 102.1, PARKING),
    "h200-sxm-141gb": (None, 126.0, "the lowest reading with a context among aiconfigurator's H200 op rows"),
}
_IDLE_SHARE = {"HBM": 0.18, "GDDR": 0.29}  # of the limit: the H100 and A100, and the L40S, of the same paper
_IDLE_DEFAULT = 0.2


@dataclass(frozen=True)
class Work:
    """A model at a precision on `gpus` GPUs that serve together, attention cut as many ways."""

    gpu: Gpu
    llm: Llm
    gpus: int
    precision: str
    kv_precision: str = "bf16"

    @cached_property
    def _embedding(self) -> float:
        return float(self.llm.vocab * self.llm.hidden)

    @cached_property
    def _routed(self) -> float:
        """Weights of all routed experts."""
        m = self.llm
        return float((m.layers - m.dense_layers) * m.experts * m.mlp_matrices * m.hidden * m.expert_intermediate)

    @cached_property
    def linear_flops(self) -> float:
        """Operations of one token in the layers, without attention and the output head."""
        tables = 1 if self.llm.tied_embeddings else 2
        return 2.0 * (self.llm.active_params - tables * self._embedding)

    @cached_property
    def head_flops(self) -> float:
        """Operations of the output head for one sequence."""
        return 2.0 * self._embedding

    @cached_property
    def head_bytes(self) -> float:
        """Bytes of the output head, which stays in bf16."""
        return 2.0 * self._embedding

    @cached_property
    def attention_flops(self) -> float:
        """Operations of one (query, key) pair over all layers."""
        m = self.llm
        width = m.head_dim + m.rope_dim + m.value_dim if m.mla else 2 * m.head_dim
        return 2.0 * m.layers * m.heads * width

    def linear_bytes(self, tokens: Numbers) -> Numbers:
        """Bytes of weights that a step of so many tokens reads in the layers."""
        tables = 1 if self.llm.tied_embeddings else 2
        common = self.llm.params - self._routed - tables * self._embedding
        met = 1.0 - (1.0 - self.llm.experts_per_token / self.llm.experts) ** tokens if self.llm.moe else 1.0
        return precision_bytes(self.precision) * (common + self._routed * met)

    def kv_bytes(self, batch: Numbers, context: Numbers) -> Numbers:
        """Bytes of keys and values that `batch` sequences of a mean context read, copies on several GPUs counted."""
        m = self.llm
        full = m.layers - m.window_layers
        kept = full * context + m.window_layers * np.minimum(context, m.window)
        each = m.kv_bytes_per_token(self.kv_precision) / m.layers
        return batch * kept * each * self.gpus / self.shards

    @cached_property
    def shards(self) -> int:
        """Parts into which the KV cache can be cut; beyond the KV heads it is copied, a latent always."""
        return 1 if self.llm.mla else min(self.gpus, self.llm.kv_heads)

    @cached_property
    def weights_bytes(self) -> float:
        """Bytes of all weights."""
        return self.llm.weights_bytes(self.precision)

    @cached_property
    def kv_capacity(self) -> float:
        """KV tokens that fit beside the weights; not positive where they do not fit."""
        free = (MEMORY_SHARE * self.gpu.memory_bytes - RESERVED_BYTES) * self.gpus - self.weights_bytes
        return free / (self.llm.kv_bytes_per_token(self.kv_precision) * self.gpus / self.shards)

    def fits(self, batch: Numbers, context: Numbers) -> NDArray[np.bool_]:
        """Whether so many sequences of that length have room, layers with a window keeping no more than it."""
        kept = self.kv_bytes(batch, context) / (
            self.llm.kv_bytes_per_token(self.kv_precision) * self.gpus / self.shards
        )
        return np.asarray(kept <= self.kv_capacity)

    @cached_property
    def flops(self) -> float:
        """Data-sheet operations a second of all GPUs at this precision."""
        return self.gpu.flops(self.precision) * self.gpus

    @cached_property
    def bandwidth(self) -> float:
        """Data-sheet bytes a second of all GPUs."""
        return self.gpu.bandwidth_bytes_per_s * self.gpus

    def wire_s(self, tokens: Numbers) -> Numbers:
        """Seconds that two all-reduces a layer need on the data sheet's link."""
        if self.gpus == 1:
            return 0.0 * tokens
        moved = 4.0 * tokens * self.llm.hidden * 2.0 * (self.gpus - 1) / self.gpus * self.llm.layers
        return moved / self.gpu.link_bytes_per_s

    @cached_property
    def limit_w(self) -> float:
        """Power limit of all GPUs, 0 where the catalogue has none."""
        return (self.gpu.tdp_w or 0.0) * self.gpus

    @cached_property
    def idle(self) -> tuple[Idle, str]:
        """Idle watts of all GPUs and where they come from: readings where there are some, else a share of the limit."""
        if self.gpu.name in _IDLE_W:
            no_context, loaded, source = _IDLE_W[self.gpu.name]
            return Idle(
                no_context_w=no_context and no_context * self.gpus, loaded_w=loaded * self.gpus
            ), f"idle: {source}"
        share = next((s for kind, s in _IDLE_SHARE.items() if self.gpu.memory_type.startswith(kind)), _IDLE_DEFAULT)
        return Idle(loaded_w=round(share * self.limit_w, 1)), f"idle: not measured; {share:.0%} of the limit, predicted"
