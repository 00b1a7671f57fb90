"""How public measurements name models, GPUs and engines, and which catalogue entry each name means.

Models whose layers are not all attention (state-space or linear attention) are no catalogue entries: their shapes are
approximated here, such layers being counted as attention over a window of as many bytes as their state, weights that a
shape has no column for as a wider (or shared) MLP. Shapes in `_OWN` serve to score rows of these models, no more.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from profiles import catalog, spellings
from profiles.catalog import Gpu
from profiles.inputs import InputError, near_miss
from profiles.llm import GATED_MLP, Llm

# Models whose rows are told under one name, because they share a shape or all but.
_SHARED = {
    "deepseek-r1": "deepseek-v3",
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3.3-70b": "llama-3.1-70b",
    "mistral-7b-v0.1": "mistral-7b-v0.3",
}


class UnknownNameError(InputError):
    """A model or GPU whose shape is not known; `name` is the source's."""

    def __init__(self, kind: str, name: str, mend: str) -> None:
        super().__init__(f"unknown {kind} {name!r}", mend=mend)
        self.name = name


def _shape(name: str, params: float, *shape: int, **more: Any) -> Llm:
    layers, hidden, intermediate, heads, kv_heads, head_dim, vocab = shape
    told = f"{more.pop('read', 'recalled, verify')}; layers without full attention approximated"
    return Llm(
        name, (), layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, int(params), 1 << 20, told, **more
    )


_READ = {"read": "config.json as repeated by aiconfigurator, NeMo Automodel, Megatron Bridge or slime"}


_OWN = {
    llm.name: llm
    for llm in (
        _shape("minimax-m2.5", 228.7e9, 62, 3072, 12288, 48, 8, 128, 200064,
               experts=256, experts_per_token=8, expert_intermediate=1536),
        _shape("glm-5", 744e9, 78, 6144, 12288, 64, 64, 192, 154880, experts=256, experts_per_token=8,
               expert_intermediate=2048, shared_intermediate=2048, dense_layers=3, q_rank=2048, kv_rank=512,
               rope_dim=64, value_dim=256),
        _shape("glm-4.5", 355e9, 92, 5120, 12288, 96, 8, 128, 151552, experts=160, experts_per_token=8,
               expert_intermediate=1536, shared_intermediate=1536, dense_layers=3),
        _shape("glm-4.5-air", 106.5e9, 46, 4096, 10944, 96, 8, 128, 151552, experts=128, experts_per_token=8,
               expert_intermediate=1408, shared_intermediate=1408, dense_layers=1),
        _shape("qwen3-coder-480b-a35b", 480e9, 62, 6144, 20480, 96, 8, 128, 151936,
               experts=160, experts_per_token=8, expert_intermediate=2560),
        _shape("qwen3.5-397b-a17b", 397e9, 60, 4096, 11264, 32, 2, 256, 248320, experts=512, experts_per_token=10,
               expert_intermediate=1024, shared_intermediate=1024, window=2048, window_layers=45),
        _shape("glm-4.5", 353e9, 92, 5120, 12288, 96, 8, 128, 151552, experts=160, experts_per_token=8,
               expert_intermediate=1536, shared_intermediate=1536, dense_layers=3, **_READ),
        _shape("glm-4.5-air", 106.9e9, 46, 4096, 10944, 96, 8, 128, 151552, experts=128, experts_per_token=8,
               expert_intermediate=1408, shared_intermediate=1408, dense_layers=1, **_READ),
        _shape("qwen3-next-80b-a3b", 79.7e9, 48, 2048, 7765, 16, 2, 256, 151936, experts=512, experts_per_token=10,
               expert_intermediate=512, shared_intermediate=2645, window=1024, window_layers=36, **_READ),
        _shape("qwen3.5-27b", 26.9e9, 64, 5120, 19989, 24, 4, 256, 248320, window=768, window_layers=48, **_READ),
        _shape("qwen3.5-35b-a3b", 34.7e9, 40, 2048, 6748, 16, 2, 256, 248320, experts=256, experts_per_token=8,
               expert_intermediate=512, shared_intermediate=2652, window=1024, window_layers=30, **_READ),
        _shape("qwen3.5-122b-a10b", 122e9, 48, 3072, 12715, 32, 2, 256, 248320, experts=256, experts_per_token=8,
               expert_intermediate=1024, shared_intermediate=4523, window=2048, window_layers=36,
               read="model card (layers, heads, experts), widths that give its total"),
        _shape("mimo-v2-flash", 309e9, 48, 4096, 16384, 64, 4, 160, 152576, experts=256, experts_per_token=8,
               expert_intermediate=2048, dense_layers=1, window=256, window_layers=39, **_READ),
        _shape("step-3.5-flash", 196e9, 45, 4096, 11264, 64, 8, 128, 128896, experts=288, experts_per_token=8,
               expert_intermediate=1280, shared_intermediate=1280, dense_layers=3, window=512, window_layers=33,
               **_READ),
        _shape("nemotron-3-nano-30b-a3b", 31.6e9, 29, 2688, 10910, 32, 2, 128, 131072, mlp_matrices=GATED_MLP - 1,
               experts=128, experts_per_token=6, expert_intermediate=1856, shared_intermediate=3712, dense_layers=6,
               window=2048, window_layers=23, **_READ),
        _shape("nemotron-super-49b", 49.9e9, 80, 8192, 18153, 64, 8, 128, 128256, window=1, window_layers=31, **_READ),
        _shape("llama-3.2-11b-vision", 9.78e9, 40, 4096, 14336, 32, 8, 128, 128256),
        _shape("gemma-7b", 8.54e9, 28, 3072, 24576, 16, 16, 256, 256000, tied_embeddings=True, **_READ),
        _shape("nemotron-nano-9b-v2", 8.9e9, 56, 4480, 8680, 40, 8, 128, 131072, mlp_matrices=GATED_MLP - 1,
               window=1328, window_layers=52),
        _shape("nemotron-nano-12b-v2", 12.3e9, 62, 5120, 11080, 40, 8, 128, 131072, mlp_matrices=GATED_MLP - 1,
               window=1280, window_layers=56),
        _shape("qwen1.5-7b", 7.72e9, 32, 4096, 11008, 32, 32, 128, 151936),
        _shape("aquila-7b", 7.3e9, 32, 4096, 11008, 32, 32, 128, 100008),
        _shape("decilm-7b", 7.04e9, 32, 4096, 14336, 32, 2, 128, 32000),
        _shape("gpt-j-6b", 6.05e9, 28, 4096, 16384, 16, 16, 256, 50400, mlp_matrices=GATED_MLP - 1),
        _shape("opt-6.7b", 6.66e9, 32, 4096, 16384, 32, 32, 128, 50272, mlp_matrices=GATED_MLP - 1,
               tied_embeddings=True),
        _shape("bloom-7b1", 7.07e9, 30, 4096, 16384, 32, 32, 128, 250880, mlp_matrices=GATED_MLP - 1,
               tied_embeddings=True),
    )
}  # fmt: skip

_SHAPE = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "experts")


@cache
def model(name: str) -> Llm:
    """The shape behind a source's name of a model.

    Raises:
        UnknownNameError: no shape of that name is known; the near misses are named.
    """
    known = catalog.llms()
    try:
        key = spellings.model(name).name
    except InputError:
        key = spellings.spelled(name)
    key = _SHARED.get(key, key)
    if key in known or key in _OWN:
        return known.get(key) or _OWN[key]
    raise UnknownNameError("model", name, near_miss(key, [*known, *_OWN]))


@cache
def measured_as(llm: Llm) -> str:
    """The name under which a model's rows were measured: versions of one shape share theirs."""
    try:
        twin = model(llm.name)
    except UnknownNameError:
        return llm.name
    return twin.name if all(getattr(twin, k) == getattr(llm, k) for k in _SHAPE) else llm.name


@cache
def gpu(name: str) -> Gpu:
    """The catalogue's GPU behind a source's name.

    Raises:
        UnknownNameError: not in the catalogue.
    """
    try:
        return spellings.gpu(name)
    except InputError as error:
        raise UnknownNameError("GPU", name, error.mend or "see carbonfleet catalog gpus") from error
