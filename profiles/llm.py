"""The shape of a decoder LLM: what its weights and KV cache weigh and what one token of it computes.

The columns are those of a published config.json under the names the field uses. `counted_params` adds the weights up
from the shape alone, so that a wrong cell shows against the published total (`carbonfleet catalog check`).
"""

from __future__ import annotations

from dataclasses import dataclass

from profiles.inputs import InputError, near_miss

PRECISION_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}
GATED_MLP = 3  # gate, up and down: SwiGLU and its kin


@dataclass(frozen=True, slots=True)
class Llm:
    """A decoder of `layers` layers, of which the first or every other are `dense_layers` in a mixture of experts.

    `intermediate` is the MLP width of a dense layer and, with experts, the width one token passes: that of its
    `experts_per_token` experts and of the shared ones (`shared_intermediate`). `experts` is 0 for a dense model. A
    `kv_rank` above 0 means multi-head latent attention (DeepSeek): keys and values are kept as one latent of `kv_rank`
    with `rope_dim` rotary dimensions, `head_dim` is the part of a query without rotation. `window_layers` layers
    attend only the last `window` tokens. `verify` names figures that were recalled and not re-read.
    """

    name: str
    aliases: tuple[str, ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    params: int
    max_context: int
    source: str
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    dense_layers: int = 0
    mlp_matrices: int = GATED_MLP
    q_rank: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    window: int = 0
    window_layers: int = 0
    tied_embeddings: bool = False
    verify: tuple[str, ...] = ()

    @property
    def moe(self) -> bool:
        """Whether MLPs are mixtures of experts."""
        return self.experts > 0

    @property
    def mla(self) -> bool:
        """Whether attention is multi-head latent attention."""
        return self.kv_rank > 0

    @property
    def active_params(self) -> int:
        """Parameters that one token passes through."""
        idle = self.experts - self.experts_per_token
        moe_layers = self.layers - self.dense_layers
        return self.params - moe_layers * idle * self.mlp_matrices * self.hidden * self.expert_intermediate

    @property
    def attention_params(self) -> int:
        """Weights of one layer's attention: the four projections, or the low-rank ones of latent attention."""
        if not self.mla:
            return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        query = self.heads * (self.head_dim + self.rope_dim)
        down = self.hidden * (self.kv_rank + self.rope_dim)
        up = self.kv_rank * self.heads * (self.head_dim + self.value_dim)
        into = self.q_rank * (self.hidden + query) if self.q_rank else self.hidden * query
        return into + down + up + self.heads * self.value_dim * self.hidden

    @property
    def counted_params(self) -> int:
        """All weights added up from the shape; biases and the norms inside attention (< 0.1 %) are left out."""
        width = self.mlp_matrices * self.hidden
        if self.moe:
            routed = self.experts * self.expert_intermediate + self.shared_intermediate
            mlp = self.dense_layers * width * self.intermediate
            mlp += (self.layers - self.dense_layers) * (width * routed + self.hidden * self.experts)
        else:
            mlp = self.layers * width * self.intermediate
        embeddings = self.vocab * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * (self.attention_params + 2 * self.hidden) + mlp + self.hidden + embeddings

    @property
    def linear_flops_per_token(self) -> float:
        """FLOPs of one token outside attention: two for each weight it meets (the embedding is only looked up)."""
        looked_up = 0 if self.tied_embeddings else self.vocab * self.hidden
        return 2.0 * (self.active_params - looked_up)

    def weights_bytes(self, precision: str) -> float:
        """Bytes of all weights.

        Raises:
            InputError: unknown precision.
        """
        return self.params * precision_bytes(precision)

    def kv_bytes_per_token(self, precision: str = "bf16") -> float:
        """Bytes that all layers keep of one token; layers with a window count in full, which is the upper bound.

        Raises:
            InputError: unknown precision.
        """
        kept = self.kv_rank + self.rope_dim if self.mla else 2 * self.kv_heads * self.head_dim
        return self.layers * kept * precision_bytes(precision)

    def kv_bytes(self, context: int, precision: str = "bf16") -> float:
        """Bytes kept of a sequence of `context` tokens where layers with a window keep no more than the window.

        Raises:
            InputError: unknown precision.
        """
        a_layer = self.kv_bytes_per_token(precision) / self.layers
        in_window = min(context, self.window) if self.window_layers else 0
        return a_layer * ((self.layers - self.window_layers) * context + self.window_layers * in_window)

    def contradictions(self) -> list[str]:
        """What in the shape cannot be true together; empty for a sound one."""
        found = []
        difference = self.counted_params / self.params - 1.0
        if abs(difference) > 0.01:
            found.append(f"the shape counts {self.counted_params:,} weights, {100 * difference:+.1f} % off params")
        if self.heads % self.kv_heads:
            found.append(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if self.experts_per_token > self.experts:
            found.append(f"{self.experts_per_token} experts a token of {self.experts}")
        if self.moe != bool(self.experts_per_token) or self.moe != bool(self.expert_intermediate):
            found.append("experts, experts_per_token and expert_intermediate go together")
        if self.moe and not self.dense_layers:
            width = self.experts_per_token * self.expert_intermediate + self.shared_intermediate
            if width != self.intermediate:
                found.append(f"intermediate {self.intermediate} is not the {width} that a token's experts have")
        if self.mla != bool(self.rope_dim and self.value_dim):
            found.append("kv_rank, rope_dim and value_dim go together")
        if max(self.dense_layers, self.window_layers) > self.layers or bool(self.window) != bool(self.window_layers):
            found.append("dense_layers or window_layers do not fit the layers")
        return found


def precision_bytes(precision: str) -> float:
    """Bytes of one number.

    Raises:
        InputError: unknown precision.
    """
    if precision not in PRECISION_BYTES:
        raise InputError(f"unknown precision {precision!r}", mend=near_miss(precision, PRECISION_BYTES))
    return PRECISION_BYTES[precision]
