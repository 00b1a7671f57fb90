"""A dense LLM in an eager framework (PyTorch, no CUDA graphs): time and power of steps of a padded static batch.

    linear = (compute^3 + memory^3)^(1/3)                   weights and KV read, padded tokens computed
    gpu    = linear + sequences * ops * layers * width / vector FLOP/s
    time   = (host^3 + gpu^3)^(1/3) + stall                 the host launches every layer's kernels while the GPU works
    power  = min(TDP, base + (TDP - base) * u^n)            u: share of the step that the GPU works

The term per sequence is what eager decoding does beside the matrices (attention on small tensors, appending to the KV
cache, sampling); it runs on the vector units, so it follows their FP32 rate and not the bandwidth. Appending holds two
copies of the cache for a moment; a decode step stalls when that leaves little memory, because the allocator then gives
blocks back to the driver and asks again in every layer. `compute_demand` above 1 is for cards whose matrices would draw
more than the board may: they hold the limit before they work all the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from profiles import catalog
from profiles.catalog import Gpu
from profiles.inputs import InputError
from profiles.llm import Llm
from profiles.predict.roofline import Shape
from profiles.profile import Band, DecodePoints, Idle, Memory, PrefillPoints, Profile, Provenance

PRECISION = "fp16"
ENGINE = "eager"
CONTEXT_BYTES = 0.45e9  # CUDA context with its loaded kernels
USABLE = 0.96  # of the memory: fragmentation takes the rest
TIGHT = 0.06  # of the memory: below it the allocator stalls
BAND = Band(time=1.3, power=1.5)  # assumed: no measurement of an eager framework is at hand to take it from

# Shares of the data-sheet peaks that eager kernels reach, and what a GEMM at full rate would draw over the board's
# limit: Turing's 70 W hold a T4 at 27 of its 65 TFLOPS, where .66 (as on the other cards) would be 43.
BANDWIDTH_SHARE, COMPUTE_SHARE = 0.80, 0.66
_OWN_BANDWIDTH_SHARE, _OWN_FLOPS = {"t4": 0.75}, {"t4": 27e12}


@dataclass(frozen=True, slots=True)
class Habits:
    """What no data sheet tells of a machine and its framework.

    `layer_s`: seconds of host work a layer. `sequence_ops`: FP32 operations a sequence, layer and unit of width that
    the eager decode work amounts to. `stall_s`: seconds a layer when memory is short. `power_exponent`: n.
    """

    layer_s: float = 0.76e-3
    sequence_ops: float = 1.0e5
    stall_s: float = 1.0e-3
    power_exponent: float = 1.5


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as the form above needs it: rates in units per second that kernels reach, watts, bytes."""

    bandwidth_bytes_per_s: float
    flops: float
    vector_flops: float
    compute_demand: float
    base_w: float
    tdp_w: float
    memory_bytes: float

    @classmethod
    def of(cls, gpu: Gpu, base_share: float) -> Card:
        """A GPU of the catalogue that draws `base_share` of its TDP in use but waiting.

        Raises:
            InputError: its TDP or the FP32 rate of its vector units is unknown.
        """
        if gpu.tdp_w is None:
            raise InputError(f"the TDP of {gpu.name} is unknown", mend="choose another GPU")
        if gpu.fp32_flops is None:
            known = ", ".join(name for name, one in catalog.gpus().items() if one.fp32_flops)
            raise InputError(f"the FP32 vector rate of {gpu.name} is unknown", mend=f"it is known of {known}")
        flops = _OWN_FLOPS.get(gpu.name, COMPUTE_SHARE * gpu.flops_bf16)
        return cls(
            bandwidth_bytes_per_s=_OWN_BANDWIDTH_SHARE.get(gpu.name, BANDWIDTH_SHARE) * gpu.bandwidth_bytes_per_s,
            flops=flops,
            vector_flops=gpu.fp32_flops,
            compute_demand=COMPUTE_SHARE * gpu.flops_bf16 / flops,
            base_w=base_share * gpu.tdp_w,
            tdp_w=gpu.tdp_w,
            memory_bytes=gpu.memory_bytes,
        )


@dataclass(frozen=True, slots=True)
class Eager:
    """One dense model on one card."""

    llm: Llm
    card: Card
    habits: Habits

    def __post_init__(self) -> None:
        Shape.of(self.llm)  # refuses what is no dense decoder with full attention

    def prefill(self, tokens: float) -> tuple[float, float]:
        """Seconds and watts of a prefill of so many tokens, padding included; pairs of short prompts cost nothing."""
        return self._step(tokens, 0.0, 0.0, 0.0)

    def decode(self, batch: int, context: float, kept_tokens: float) -> tuple[float, float]:
        """Seconds and watts of a decode step at a mean context; `kept_tokens` are those of the batch at its end."""
        kv_bytes = batch * context * self._kv_bytes
        width = self.llm.heads * self.llm.head_dim
        eager_s = batch * self.habits.sequence_ops * self.llm.layers * width / self.card.vector_flops
        short = self.free_share(kept_tokens) < TIGHT
        return self._step(batch, kv_bytes, eager_s, self.habits.stall_s * self.llm.layers if short else 0.0)

    def free_share(self, kept_tokens: float) -> float:
        """Share of the card's memory that is left beside weights, context and two copies of so many KV tokens."""
        used = self.llm.weights_bytes(PRECISION) + CONTEXT_BYTES + 2.0 * self._kv_bytes * kept_tokens
        return USABLE - used / self.card.memory_bytes

    @property
    def capacity_tokens(self) -> int:
        """KV tokens that fit (none when the weights do not)."""
        free = self.free_share(0) * self.card.memory_bytes
        return max(0, math.floor(free / (2.0 * self._kv_bytes)))

    @property
    def _kv_bytes(self) -> float:
        return self.llm.kv_bytes_per_token(PRECISION)

    def _step(self, tokens: float, kv_bytes: float, eager_s: float, stall_s: float) -> tuple[float, float]:
        card, flops = self.card, self.llm.linear_flops_per_token
        compute_s = flops * tokens / card.flops
        memory_s = (flops + kv_bytes) / card.bandwidth_bytes_per_s  # two bytes a weight, two operations a weight
        gpu_s = _norm(compute_s, memory_s) + eager_s
        time_s = _norm(self.habits.layer_s * self.llm.layers, gpu_s) + stall_s
        use = (_norm(compute_s * card.compute_demand, memory_s) + eager_s) / time_s
        power_w = card.base_w + (card.tdp_w - card.base_w) * use**self.habits.power_exponent
        return time_s, min(card.tdp_w, power_w)


def profile(model: Eager, gpu: Gpu, batches: Iterable[tuple[int, int, int]], date: str, notes: list[str]) -> Profile:
    """The predicted profile of static batches, each (sequences, padded prompt tokens, output tokens).

    Raises:
        InputError: the weights leave no memory, or none of the batches fits.
    """
    fit = [row for row in batches if row[0] * (row[1] + row[2]) <= model.capacity_tokens]
    if not fit:
        raise InputError(
            f"{model.llm.name} leaves no memory on {gpu.name}", mend="choose a larger GPU or a smaller model"
        )
    prefills = [(b * padded, *model.prefill(b * padded)) for b, padded, _ in fit]
    decodes = [
        (b, b * context, *model.decode(b, context, b * (padded + output)))
        for b, padded, output in fit
        for context in (padded, padded + output)
    ]
    return Profile(
        gpu=gpu.name,
        model=model.llm.name,
        precision=PRECISION,
        engine=ENGINE,
        layer="step",
        provenance=Provenance(
            kind="predicted",
            tier="T2",
            source="profiles.predict.eager: data-sheet rates, assumed efficiencies",
            licence="no measurement in it",
            date=date,
            notes=notes,
        ),
        band=BAND,
        memory=Memory(
            weights_bytes=model.llm.weights_bytes(PRECISION),
            kv_bytes_per_token=model.llm.kv_bytes_per_token(PRECISION),
            kv_capacity_tokens=model.capacity_tokens,
        ),
        idle=Idle(loaded_w=model.card.base_w),
        prefill=PrefillPoints(
            new_tokens=[n for n, _, _ in prefills],
            past_tokens=[0] * len(prefills),
            sequences=[1] * len(prefills),
            time_s=[time_s for _, time_s, _ in prefills],
            power_w=[power_w for _, _, power_w in prefills],
        ),
        decode=DecodePoints(
            batch=[b for b, _, _, _ in decodes],
            kv_tokens=[kv for _, kv, _, _ in decodes],
            time_s=[time_s for _, _, time_s, _ in decodes],
            power_w=[power_w for _, _, _, power_w in decodes],
        ),
    )


def _norm(one_s: float, other_s: float) -> float:
    """Two works side by side that are not quite hidden behind each other: a soft maximum."""
    return float((one_s**3 + other_s**3) ** (1.0 / 3.0))
