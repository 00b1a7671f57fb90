"""An Llm from a model's config.json, as model repositories publish it.

The names of transformers are read for LLaMA's family and its kin: grouped-query and latent attention, mixtures of
experts with shared ones, layers with windows. What a config leaves out has transformers' default. `params` is counted
from the shape. A key that the shape needs and the config lacks is an error; nothing is guessed from the model's name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from profiles.inputs import InputError, read_json
from profiles.llm import Llm

_PLAIN_MLP = ("bloom", "gpt2", "gpt_neox", "opt", "falcon", "phi")  # model types whose MLP has two matrices
_LARGEST = 10_000_000


def read_config(path: str | Path) -> Llm:
    """The shape in a config.json; its name is `_name_or_path`'s last part, else the folder's.

    Raises:
        InputError: not JSON, a key is missing, or a figure cannot be.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    document = read_json(file)
    if not isinstance(document, dict):
        raise InputError("is no config.json of a model", file=file, mend="give the file of a model's repository")
    config = document.get("text_config") or document  # a vision model's language part
    if not isinstance(config, dict):
        raise InputError("text_config is no object", file=file)
    name = Path(str(document.get("_name_or_path") or file.resolve().parent.name)).name.lower()
    llm = _llm(_Config(file, config), name or "model")
    llm = replace(llm, params=llm.counted_params)
    for what in llm.contradictions():
        raise InputError(what, file=file, mend="check the config")
    return llm


class _Config:
    """Checked reading of whole numbers."""

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        self.file, self.values = file, values

    def number(self, *names: str, default: int | None = None) -> int:
        """The first of these keys that is there."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
                raise InputError(f"{value!r} is no count", file=self.file, field=name)
            return value
        if default is None:
            raise InputError("missing", file=self.file, field=names[0], mend="give the config.json of a decoder")
        return default


def _llm(c: _Config, name: str) -> Llm:
    heads, hidden = c.number("num_attention_heads", "n_head"), c.number("hidden_size", "n_embed", "n_embd")
    if not heads or not hidden:
        raise InputError("no heads or no width", file=c.file)
    layers = c.number("num_hidden_layers", "n_layer")
    experts = c.number("n_routed_experts", "num_local_experts", "num_experts", default=0)
    each = c.number("num_experts_per_tok", "num_experts_per_token", default=0) if experts else 0
    dense_width = c.number("intermediate_size", "n_inner", default=4 * hidden)
    expert_width = c.number("moe_intermediate_size", default=dense_width) if experts else 0
    shared = c.number("n_shared_experts", default=0) * expert_width if experts else 0
    dense = c.number("first_k_dense_replace", default=0) if experts else 0
    plain = str(c.values.get("model_type", "")) in _PLAIN_MLP
    window, windowed = _windows(c, layers)
    latent = c.number("kv_lora_rank", default=0)
    return Llm(
        name=name,
        aliases=(),
        layers=layers,
        hidden=hidden,
        intermediate=(each * expert_width + shared) if experts and not dense else dense_width,
        heads=heads,
        kv_heads=c.number("num_key_value_heads", default=heads) or heads,
        head_dim=c.number("qk_nope_head_dim", "head_dim", default=hidden // heads),
        vocab=c.number("vocab_size"),
        params=1,
        max_context=c.number("max_position_embeddings", "seq_length", "n_positions", default=2048),
        source=f"{c.file.name} of {name}; params counted from the shape",
        experts=experts,
        experts_per_token=each,
        expert_intermediate=expert_width,
        shared_intermediate=shared,
        dense_layers=dense,
        mlp_matrices=2 if plain else 3,
        q_rank=c.number("q_lora_rank", default=0),
        kv_rank=latent,
        rope_dim=c.number("qk_rope_head_dim", default=0) if latent else 0,
        value_dim=c.number("v_head_dim", default=0) if latent else 0,
        window=window,
        window_layers=windowed,
        tied_embeddings=bool(c.values.get("tie_word_embeddings", False)),
    )


def _windows(c: _Config, layers: int) -> tuple[int, int]:
    """Width of the attention window and how many layers have one; (0, 0) where none does."""
    width = c.number("sliding_window", "attention_chunk_size", default=0)
    if not width or c.values.get("use_sliding_window") is False:
        return 0, 0
    kinds = c.values.get("layer_types")
    if isinstance(kinds, list):
        count = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
        return (width, count) if count else (0, 0)
    every = c.number("sliding_window_pattern", default=0)
    count = layers - layers // every if every else layers
    return width, count
