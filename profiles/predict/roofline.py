"""An effective roofline: time and power of one engine step from a model's shape, a card and a dozen efficiencies.

    time  = host + layer * L + sequence * B + linear + head + attention + all-reduce
    power = TDP * softcap(base + flop * u^exponent + (J/byte * weights/s + J/byte * KV/s) / TDP)     for each GPU

`linear` and `head` are (compute^3 + memory^3)^(1/3), a soft maximum; u is the share of the peak FLOP/s in use. The
efficiencies are fitted to measured rows (benchmarks/derive_library.py), so they are effective and not physical: they
carry whatever the form leaves out. Energy is charged per byte moved and per operation, which separates prefill from
decode in rows that only measured a blend of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profiles.catalog import MEMORY_SHARE, RESERVED_BYTES
from profiles.inputs import InputError
from profiles.llm import GATED_MLP, Llm
from profiles.points import BATCHES, CHUNKS, CONTEXTS, PAST_CHUNKS, POWER_CONTEXT, digits
from profiles.profile import DecodePoints, EngineTerm, Memory, PrefillPoints

_SOFT = 8.0  # exponent of the power cap: 3 % below the cap at the corner


@dataclass(frozen=True, slots=True)
class Shape:
    """A dense decoder: what its step costs in operations and bytes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @classmethod
    def of(cls, llm: Llm) -> Shape:
        """The shape of a catalogue model.

        Raises:
            InputError: a mixture of experts, latent or windowed attention, or a plain MLP, which this form leaves out.
        """
        if llm.moe or llm.mla or llm.window_layers or llm.mlp_matrices != GATED_MLP:
            raise InputError(f"{llm.name}: the roofline knows dense, gated decoders with full attention alone")
        return cls(llm.layers, llm.hidden, llm.intermediate, llm.heads, llm.kv_heads, llm.head_dim, llm.vocab)

    @property
    def linear_params(self) -> float:
        """Weights of all layers: attention projections and a gated MLP."""
        attention = 2.0 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3.0 * self.hidden * self.intermediate)

    @property
    def head_params(self) -> float:
        """Weights of the output head."""
        return float(self.vocab * self.hidden)

    def kv_bytes_per_token(self, element_bytes: float = 2.0) -> float:
        """Bytes of keys and values of one token over all layers."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * element_bytes


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU's data-sheet peaks; `link_bytes_per_s` is one direction of its NVLink or PCIe."""

    memory_bytes: float
    bandwidth_bytes_per_s: float
    flops: float
    tdp_w: float
    link_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a fit finds: shares of the card's peaks, host terms in seconds, and the terms of power."""

    compute: float
    bandwidth: float
    kv_bandwidth: float
    attention: float
    link: float
    host_s: float
    layer_s: float
    sequence_s: float
    prompt_s: float
    allreduce_s: float
    power_base: float
    power_flop: float
    power_exponent: float
    joule_per_byte: float
    joule_per_kv_byte: float
    power_cap: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """One model on `tp` cards at stated bytes per weight and KV element.

    `mixed_attention` multiplies decode attention that runs beside a prefill chunk, as the profile's mixed rule does.
    """

    shape: Shape
    card: Card
    efficiency: Efficiency
    tp: int = 1
    weight_bytes: float = 2.0
    kv_bytes: float = 2.0
    mixed_attention: float = 1.0

    def step_time_s(self, new: float = 0, pairs: float = 0.0, batch: float = 0, kv_tokens: float = 0) -> float:
        """Seconds of a step of `new` prompt tokens attending `pairs` (query, key) pairs beside `batch` decodes."""
        e, s = self.efficiency, self.shape
        rate = self.card.bandwidth_bytes_per_s * self.tp
        peak = self.card.flops * self.tp
        linear = _soft_max(
            2.0 * s.linear_params * (new + batch) / (peak * e.compute),
            s.linear_params * self.weight_bytes / (rate * e.bandwidth),
        )
        rows = batch + (1 if new else 0)
        head = _soft_max(2.0 * s.head_params * rows / (peak * e.compute), s.head_params * 2.0 / (rate * e.bandwidth))
        attention = self._kv_read_bytes(kv_tokens) / self._kv_rate
        attention *= self.mixed_attention if new else 1.0
        attention += 4.0 * s.layers * s.heads * s.head_dim * pairs / (peak * e.attention)
        prompt = e.prompt_s if new else 0.0
        return self.host_s(batch) + prompt + linear + head + attention + self._communication_s(new + batch)

    def host_s(self, sequences: float) -> float:
        """Seconds of host work in a step of `sequences` decodes: what the profile's engine term holds."""
        e = self.efficiency
        return e.host_s + e.layer_s * self.shape.layers + e.sequence_s * sequences

    def step_power_w(self, time_s: float, new: float = 0, pairs: float = 0.0, batch: float = 0, kv: float = 0) -> float:
        """Watts over all `tp` GPUs while such a step repeats, each taking `time_s`."""
        e, s = self.efficiency, self.shape
        flops = 2.0 * s.linear_params * (new + batch) + 4.0 * s.layers * s.heads * s.head_dim * (pairs + kv)
        flops += 2.0 * s.head_params * (batch + (1 if new else 0))
        moved_j = e.joule_per_byte * (s.linear_params * self.weight_bytes + s.head_params * 2.0)
        moved_j += e.joule_per_kv_byte * self._kv_read_bytes(kv)
        use = flops / time_s / (self.card.flops * self.tp)
        share = e.power_base + e.power_flop * math.pow(use, e.power_exponent)
        share += moved_j / (time_s * self.tp) / self.card.tdp_w
        capped = share / math.pow(1.0 + math.pow(share / e.power_cap, _SOFT), 1.0 / _SOFT)
        return self.tp * self.card.tdp_w * min(1.0, capped)

    def decode(self, batch: int, context: float) -> tuple[float, float]:
        """Seconds and watts of one decode step of `batch` sequences at a mean context."""
        kv = batch * context
        time_s = self.step_time_s(batch=batch, kv_tokens=kv)
        return time_s, self.step_power_w(time_s, batch=batch, kv=kv)

    def prefill(self, new: float, past: float = 0.0, prompts: float = 1.0) -> tuple[float, float]:
        """Seconds and watts of a step of `new` tokens, of `prompts` equal prompts, after `past` tokens each."""
        pairs = new * (past + 0.5 * new / prompts)
        time_s = self.step_time_s(new=new, pairs=pairs)
        return time_s, self.step_power_w(time_s, new=new, pairs=pairs)

    def serving(self, batch: float, prompt: float, output: float, met: float = 1.0) -> tuple[float, float]:
        """Mean seconds a step and mean watts at `batch` running requests in steady state.

        Each request brings one prompt every `output` steps, so a step carries batch / output prompts on average; the
        excess of a mixed step over a plain one is charged that often, times `met` where a benchmark's requests start
        together and so meet fewer of each other's prompts. Serving averages are compared with this.
        """
        kv = batch * (prompt + 0.5 * output)
        plain = self.step_time_s(batch=batch, kv_tokens=kv)
        share = met * batch / output
        each, often = max(1.0, share), min(1.0, share)
        new, pairs = each * prompt, each * 0.5 * prompt**2
        mixed = self.step_time_s(new, pairs, batch, kv)
        joules = (1.0 - often) * plain * self.step_power_w(plain, batch=batch, kv=kv)
        joules += often * mixed * self.step_power_w(mixed, new, pairs, batch, kv)
        time_s = (1.0 - often) * plain + often * mixed
        return time_s, joules / time_s

    @property
    def _shards(self) -> int:
        """Parts into which the KV cache can be cut; beyond the KV heads it is replicated."""
        return min(self.tp, self.shape.kv_heads)

    @property
    def _kv_rate(self) -> float:
        return self.card.bandwidth_bytes_per_s * self.efficiency.kv_bandwidth * self._shards

    def _kv_read_bytes(self, kv_tokens: float) -> float:
        return self.shape.kv_bytes_per_token(self.kv_bytes) * kv_tokens

    def _communication_s(self, tokens: float) -> float:
        if self.tp == 1:
            return 0.0
        e, s = self.efficiency, self.shape
        wire = tokens * s.hidden * 2.0 * 2.0 * (self.tp - 1) / self.tp / (self.card.link_bytes_per_s * e.link)
        return 2.0 * s.layers * (e.allreduce_s + wire)


def engine_term(model: Roofline) -> EngineTerm:
    """The fitted host work. It stands apart so that mixed steps are charged for every sequence in them too."""
    return EngineTerm(step_s=digits(model.host_s(0)), sequence_s=digits(model.efficiency.sequence_s))


def decode_points(
    model: Roofline, batches: Sequence[int] = BATCHES, contexts: Sequence[int] = CONTEXTS
) -> DecodePoints:
    """The decode grid of a shipped profile: times less the engine term, watts of the whole step at POWER_CONTEXT."""
    watts = {b: model.decode(b, POWER_CONTEXT)[1] for b in batches}
    grid = [(b, c, model.decode(b, c)[0], watts[b]) for b in batches for c in contexts]
    return DecodePoints(
        batch=[b for b, _, _, _ in grid],
        kv_tokens=[b * c for b, c, _, _ in grid],
        time_s=[digits(t - model.host_s(b)) for b, _, t, _ in grid],
        power_w=[digits(w) for _, _, _, w in grid],
    )


def prefill_points(model: Roofline, chunks: Sequence[int] = CHUNKS) -> PrefillPoints:
    """Prefill of a shipped profile: chunks with no past and two with one, less the engine term."""
    asked = [(n, 0) for n in chunks] + list(PAST_CHUNKS)
    done = [model.prefill(n, past) for n, past in asked]
    return PrefillPoints(
        new_tokens=[n for n, _ in asked],
        past_tokens=[past for _, past in asked],
        sequences=[1] * len(asked),
        time_s=[digits(t - model.host_s(0)) for t, _ in done],
        power_w=[digits(w) for _, w in done],
    )


def memory(weights_bytes: float, kv_bytes_per_token: float, gpu_memory_bytes: float, tp: int) -> Memory:
    """What fits: .9 of the memory less 2.5 GB a GPU and the weights holds KV tokens.

    Raises:
        InputError: the weights leave no room.
    """
    free = (MEMORY_SHARE * gpu_memory_bytes - RESERVED_BYTES) * tp - weights_bytes
    tokens = math.floor(free / kv_bytes_per_token)
    if tokens < 1:
        raise InputError(
            f"weights of {weights_bytes / 1e9:.1f} GB leave no room for KV on {tp} x {gpu_memory_bytes / 1e9:.0f} GB",
            mend="use more GPUs (tp) or a smaller precision",
        )
    return Memory(weights_bytes=weights_bytes, kv_bytes_per_token=kv_bytes_per_token, kv_capacity_tokens=tokens)


def _soft_max(compute: float, move: float) -> float:
    return float((compute**3 + move**3) ** (1.0 / 3.0))
