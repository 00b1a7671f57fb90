"""A LLaMA-family decoder of any catalogue shape with random weights, in torch: one step over a static KV cache.

Grouped-query attention, rotary positions, SwiGLU, RMSNorm, mixtures of experts, attention over the tokens that exist,
the head on the last position. Weights and cache are random normal numbers, never zeros: power depends on how many bits
toggle. torch is imported inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calibrate.runners.linear import Linear
from profiles.llm import Llm

_ROPE_BASE = 500000.0
_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of every layer this process holds: `rank` of `size` tensor-parallel ones (Megatron's cut)."""

    rank: int = 0
    size: int = 1

    def rows(self, full: Any, blocks: tuple[int, ...]) -> Any:
        """This rank's rows of each of the blocks that stand one below the other, such as q, k and v."""
        import torch

        return full if self.size == 1 else torch.cat([self._part(part, 0) for part in full.split(blocks)])

    def columns(self, full: Any) -> Any:
        """This rank's columns."""
        return full if self.size == 1 else self._part(full, 1).contiguous()

    def _part(self, full: Any, dim: int) -> Any:
        count = full.shape[dim] // self.size
        return full.narrow(dim, self.rank * count, count)

    def sum(self, part: Any) -> Any:
        """The sum over all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(part)
        return part

    def gather(self, part: Any) -> Any:
        """All ranks' last dimensions side by side."""
        if self.size == 1:
            return part
        import torch
        import torch.distributed as dist

        rows = part.shape[0]  # one buffer, so that a CUDA graph can hold it
        parts = torch.empty((self.size * rows, *part.shape[1:]), device=part.device, dtype=part.dtype)
        dist.all_gather_into_tensor(parts, part.contiguous())
        return torch.cat(parts.split(rows), dim=-1)


class Decoder:
    """The model: weights, and one forward step over a KV cache.

    Args:
        llm: layers and widths.
        device: a torch device.
        dtype: a torch dtype.
        seed: of the random weights.
        precision: of the linear layers; fp8 and int8 keep embedding, head, norms and cache in `dtype`.
        shard: the tensor-parallel part to hold; ranks of one seed hold parts of one model.
    """

    def __init__(
        self, llm: Llm, device: Any, dtype: Any, seed: int = 0, precision: str = "", shard: Shard | None = None
    ) -> None:
        import torch

        self.llm, self.device, self.dtype = llm, device, dtype
        self._precision, self._shard = precision, shard or Shard()
        self.heads, self.kv_heads = llm.heads // self._shard.size, llm.kv_heads // self._shard.size
        self._random = torch.Generator(device=device).manual_seed(seed)
        hidden, width = llm.hidden, llm.heads * llm.head_dim
        kv = llm.kv_heads * llm.head_dim
        self.embedding = self._normal(llm.vocab, hidden)
        self.layers = [
            {
                "norm": torch.ones(hidden, device=device, dtype=dtype),
                "qkv": self._linear(self._shard.rows(self._normal(width + 2 * kv, hidden), (width, kv, kv))),
                "out": self._linear(self._shard.columns(self._normal(hidden, width))),
                "mlp_norm": torch.ones(hidden, device=device, dtype=dtype),
                **self._mlp_weights(expert=llm.moe and i >= llm.dense_layers),
            }
            for i in range(llm.layers)
        ]
        self.norm = torch.ones(hidden, device=device, dtype=dtype)
        self.head = self._head_rows(self.embedding if llm.tied_embeddings else self._normal(llm.vocab, hidden))

    def weights_bytes(self) -> int:
        """Bytes of every weight."""
        held = [w for layer in self.layers for w in layer.values()]
        tensors = [self.embedding, self.norm, *(w.weight if isinstance(w, Linear) else w for w in held)]
        tensors += [] if self.head is self.embedding else [self.head]
        return int(sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    def _linear(self, weight: Any) -> Linear:
        return Linear(weight, self._precision)

    def _head_rows(self, head: Any) -> Any:
        """This rank's rows of the head; the vocabulary is padded to equal parts."""
        import torch.nn.functional as F  # noqa: N812

        size, rank = self._shard.size, self._shard.rank
        if size == 1:
            return head
        count = -(-self.llm.vocab // size)
        return F.pad(head, (0, 0, 0, count * size - self.llm.vocab)).narrow(0, rank * count, count).clone()

    def cache(self, sequences: int, length: int) -> Any:
        """Keys and values for `sequences` x `length` tokens, filled with what keys of such weights look like."""
        size = (self.llm.layers, 2, sequences, self.kv_heads, length, self.llm.head_dim)
        return self._normal(*size, std=1.0)

    def rotation(self, start: int, new: int) -> tuple[Any, Any]:
        """Cosines and sines of the rotary embedding for positions start .. start + new - 1."""
        import torch

        half = torch.arange(0, self.llm.head_dim, 2, device=self.device, dtype=torch.float32) / self.llm.head_dim
        positions = torch.arange(start, start + new, device=self.device, dtype=torch.float32)
        angles = torch.outer(positions, _ROPE_BASE**-half)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def tokens(self, sequences: int, new: int) -> Any:
        """Random token numbers."""
        import torch

        size = (sequences, new)
        return torch.randint(0, self.llm.vocab, size, device=self.device, generator=self._random)

    def logits(self, *groups: Pass, all_positions: bool = False) -> Any:
        """One step: each group's new tokens stand at its `start` and attend to all before them in its own cache.

        All groups share every linear layer, as a prompt's chunk and a decode batch do in a mixed step. Logits of each
        sequence's last token, (sequences of all groups, 1, vocab); with `all_positions`, of one group's every token.
        """
        import torch
        import torch.nn.functional as F  # noqa: N812 - the name everyone gives it

        norm, sizes = (self.llm.hidden,), [group.tokens.numel() for group in groups]
        hidden = F.embedding(torch.cat([group.tokens.reshape(1, -1) for group in groups], dim=1), self.embedding)
        for i, weights in enumerate(self.layers):
            qkv = weights["qkv"](F.rms_norm(hidden, norm, weights["norm"], _NORM_EPS))
            seen = [
                self._attend(part.reshape(*group.tokens.shape, -1), group.cache[i], group).reshape(1, part.shape[1], -1)
                for group, part in zip(groups, qkv.split(sizes, dim=1), strict=True)
            ]
            hidden = hidden + self._shard.sum(weights["out"](torch.cat(seen, dim=1)))
            hidden = hidden + self._shard.sum(
                self._mlp(F.rms_norm(hidden, norm, weights["mlp_norm"], _NORM_EPS), weights)
            )
        parts = zip(groups, hidden.split(sizes, dim=1), strict=True)
        shaped = [part.reshape(*group.tokens.shape, -1) for group, part in parts]
        last = shaped[0] if all_positions else torch.cat([part[:, -1:] for part in shaped])
        scores = F.linear(F.rms_norm(last, norm, self.norm, _NORM_EPS), self.head)
        return self._shard.gather(scores)[..., : self.llm.vocab]

    def _attend(self, qkv: Any, kv: Any, group: Pass) -> Any:
        """Attention of the new tokens over the cache's first start + new tokens, causal among the new ones."""
        import torch.nn.functional as F  # noqa: N812
        from torch.nn.attention.bias import causal_lower_right

        llm, start, heads_q, heads_kv = self.llm, group.start, self.heads, self.kv_heads
        sequences, new, _ = qkv.shape
        heads = qkv.view(sequences, new, -1, llm.head_dim).transpose(1, 2)
        rotated = _rotate(heads[:, : heads_q + heads_kv], group.rotation)
        query = rotated[:, :heads_q]
        kv[0, :, :, start : start + new] = rotated[:, heads_q:]
        kv[1, :, :, start : start + new] = heads[:, heads_q + heads_kv :]
        keys, values = kv[0, :, :, : start + new], kv[1, :, :, : start + new]
        grouped = heads_q != heads_kv
        if new == 1:
            seen = F.scaled_dot_product_attention(query, keys, values, enable_gqa=grouped)
        elif start == 0:
            seen = F.scaled_dot_product_attention(query, keys, values, is_causal=True, enable_gqa=grouped)
        else:
            mask = causal_lower_right(new, start + new)
            seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=grouped)
        return seen.transpose(1, 2).reshape(sequences, new, heads_q * llm.head_dim)

    def _mlp_weights(self, expert: bool) -> dict[str, Any]:
        """A gated MLP; with experts theirs, a router, and a shared MLP where the model has one."""
        llm = self.llm
        width = llm.shared_intermediate if expert else llm.intermediate
        made: dict[str, Any] = {}
        if width:
            made["gate_up"] = self._linear(self._shard.rows(self._normal(2 * width, llm.hidden), (width, width)))
            made["down"] = self._linear(self._shard.columns(self._normal(llm.hidden, width)))
        if expert:
            part = llm.expert_intermediate // self._shard.size  # every rank holds a slice of every expert
            made |= {
                "router": self._normal(llm.experts, llm.hidden),
                "experts_in": self._normal(llm.experts, llm.hidden, 2 * part),
                "experts_out": self._normal(llm.experts, part, llm.hidden),
            }
        return made

    def _mlp(self, x: Any, weights: dict[str, Any]) -> Any:
        import torch.nn.functional as F  # noqa: N812

        out = 0.0
        if "gate_up" in weights:
            gate, up = weights["gate_up"](x).chunk(2, dim=-1)
            out = weights["down"](F.silu(gate) * up)
        return out + self._routed(x[0], weights).unsqueeze(0) if "router" in weights else out

    def _routed(self, x: Any, weights: dict[str, Any]) -> Any:
        """The experts' part for `x` (tokens, hidden), every token to `experts_per_token` of them.

        Random weights route at random, and a CUDA graph must not depend on them: the router is computed and its choice
        replaced by an even one over as many experts as random routing would hit, E (1 - (1 - k/E)^tokens).
        """
        import torch
        import torch.nn.functional as F  # noqa: N812

        tokens, k, experts = x.shape[0], self.llm.experts_per_token, self.llm.experts
        chosen = F.linear(x, weights["router"]).topk(k, dim=-1).values.softmax(dim=-1)  # (tokens, k)
        slots = tokens * k
        hit = max(1, min(experts, slots, round(experts * (1.0 - (1.0 - k / experts) ** tokens))))
        each = -(-slots // hit)
        place = torch.arange(hit * each, device=x.device)
        share = chosen.reshape(-1)[place % slots] * (place < slots)  # what pads the last experts counts nothing
        owner = (place % slots) // k
        gate, up = torch.bmm(x[owner].view(hit, each, -1), weights["experts_in"][:hit]).chunk(2, dim=-1)
        made = torch.bmm(F.silu(gate) * up, weights["experts_out"][:hit]).reshape(hit * each, -1)
        return torch.zeros_like(x).index_add_(0, owner, made * share.unsqueeze(1).to(made.dtype))

    def _normal(self, *size: int, std: float = 0.02) -> Any:
        import torch

        empty = torch.empty(size, device=self.device, dtype=self.dtype)
        return empty.normal_(0.0, std, generator=self._random)


@dataclass(frozen=True, slots=True)
class Pass:
    """One group of sequences in a step: its new tokens (sequences, new), their cache, start and rotation."""

    tokens: Any
    cache: Any
    start: int
    rotation: tuple[Any, Any]

    @classmethod
    def of(cls, model: Decoder, sequences: int, new: int, start: int) -> Pass:
        """Random tokens with a cache of what came before."""
        cache = model.cache(sequences, start + new)
        return cls(model.tokens(sequences, new), cache, start, model.rotation(start, new))


def _rotate(x: Any, rotation: tuple[Any, Any]) -> Any:
    """Rotary position embedding, halves rotated against each other as LLaMA does."""
    import torch

    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
