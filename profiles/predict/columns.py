"""Serving configurations as numpy columns: what a step of each computes, reads and sends.

A `Cell` is all that does not change with the load: GPU, model, engine, precisions, parallelism. `Columns` holds many
configurations as an index into its cells and the columns batch, prompt and output, so that a million cost little more
than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from profiles.catalog import MEMORY_SHARE, RESERVED_BYTES, Gpu
from profiles.inputs import InputError
from profiles.llm import Llm, precision_bytes
from profiles.predict.names import measured_as

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_OPEN_RACK = {"gb200", "gb300"}  # NVLink joins 72
_DEFAULT_TDP_W = 700.0
_BITS = {"fp8": 8, "int8": 8, "fp4": 4, "int4": 4}


@dataclass(frozen=True, slots=True)
class Cell:
    """What stays while the load changes. `world` GPUs serve together; attention is cut `tp` ways, `world / tp` times.

    `linear`, `experts` and `kv` are precisions; `ep` is how many groups the experts are split into. `apart` says that
    prompts are prefilled elsewhere (disaggregated serving). `source` names who measured it, `task` what was asked
    and `version` the engine's release, where that matters.
    """

    gpu: Gpu
    llm: Llm
    engine: str
    linear: str = "bf16"
    experts: str = ""
    kv: str = "bf16"
    world: int = 1
    tp: int = 1
    ep: int = 1
    apart: bool = False
    source: str = ""
    task: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if self.world < 1 or self.tp < 1 or self.world % self.tp:
            raise InputError(f"attention cut {self.tp} ways over {self.world} GPUs", mend="tp must divide the GPUs")


@dataclass(frozen=True)
class Work:
    """Per cell: counts, bytes and data-sheet rates. All are floats in one array each."""

    layers: Floats
    expert_layers: Floats
    world: Floats
    tp: Floats
    dp: Floats
    ep: Floats
    linear_params: Floats
    linear_bytes: Floats
    head_params: Floats
    expert_params: Floats
    expert_bytes: Floats
    experts: Floats
    chosen: Floats
    kv_bytes: Floats
    window_kv_bytes: Floats
    window: Floats
    kv_shards: Floats
    pair_flops: Floats
    prompt_pair_flops: Floats
    window_pairs: Floats
    hidden: Floats
    peak: Floats
    expert_peak: Floats
    base_peak: Floats
    bandwidth: Floats
    link: Floats
    outside: Floats
    tdp_w: Floats
    capacity_tokens: Floats
    weights_bytes: Floats


@dataclass(frozen=True)
class Columns:
    """Many configurations: `cells[which[i]]` at `batch[i]` running requests of `prompt[i]` in and `output[i]` out."""

    cells: tuple[Cell, ...]
    which: Ints
    batch: Floats
    prompt: Floats
    output: Floats

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "output"):
            column = getattr(self, name)
            if column.shape != self.which.shape or not np.all(np.isfinite(column)) or np.any(column <= 0):
                raise InputError("must be a positive number for every configuration", field=name)

    @classmethod
    def of(
        cls, cells: Sequence[Cell], batch: Sequence[float], prompt: Sequence[float], output: Sequence[float]
    ) -> Columns:
        """One configuration a row; equal cells are kept once."""
        index: dict[Cell, int] = {}
        which = np.array([index.setdefault(cell, len(index)) for cell in cells], dtype=np.int64)
        return cls(tuple(index), which, *(np.asarray(c, dtype=float) for c in (batch, prompt, output)))

    def __len__(self) -> int:
        return len(self.which)

    def take(self, rows: NDArray[np.generic]) -> Columns:
        """Some of the rows."""
        return Columns(self.cells, self.which[rows], self.batch[rows], self.prompt[rows], self.output[rows])

    @cached_property
    def work(self) -> Work:
        """What each row's cell computes, reads and sends, as columns over the rows."""
        rows = [_work(cell) for cell in self.cells]
        table = np.array(rows, dtype=float)[self.which].T
        return Work(*table)

    @cached_property
    def apart(self) -> NDArray[np.bool_]:
        """Rows whose prompts are prefilled elsewhere."""
        return np.array([cell.apart for cell in self.cells])[self.which]

    def of_sources(self, sources: Sequence[str]) -> NDArray[np.bool_]:
        """Rows that one of the sources measured."""
        return np.array([cell.source in sources for cell in self.cells])[self.which]

    def names(self, key: str) -> NDArray[np.str_]:
        """A word of every row's cell: gpu, model, engine, ..."""
        return np.array([word(cell, key) for cell in self.cells])[self.which]


def word(cell: Cell, key: str) -> str:
    """A name that groups configurations: gpu, model, engine, precision, kind, cell (GPU x model), source, task.

    A precision that the GPU's tensor cores do not know is `held`: weights are kept in it and computed in another.
    """
    if key == "gpu":
        return cell.gpu.name
    if key == "model":
        return measured_as(cell.llm)
    if key == "precision":
        name = cell.experts or cell.linear if cell.llm.moe else cell.linear
        return f"{name} held" if _BITS.get(name, 16) < (cell.gpu.least_bits or 16) else name
    if key == "kind":
        return "moe" if cell.llm.moe else "dense"
    if key == "cell":
        return f"{cell.gpu.name} {cell.llm.name}"
    return str(getattr(cell, key))


def reach(gpu: Gpu) -> int:
    """How many GPUs its fast links join."""
    return 72 if gpu.name in _OPEN_RACK else 8


@cache
def _work(c: Cell) -> tuple[float, ...]:
    m, g = c.llm, c.gpu
    width = m.mlp_matrices * m.hidden
    expert_layers = m.layers - m.dense_layers if m.moe else 0
    dense_layers = m.layers - expert_layers
    linear = m.layers * m.attention_params + dense_layers * width * m.intermediate
    linear += expert_layers * width * m.shared_intermediate
    expert = float(expert_layers * m.experts * width * m.expert_intermediate)
    head = m.vocab * m.hidden
    w, e, kv = (precision_bytes(p) for p in (c.linear, c.experts or c.linear, c.kv))
    overhead = {0.5: 1.125}  # four-bit weights carry a scale for every 16 or 32
    w, e = w * overhead.get(w, 1.0), e * overhead.get(e, 1.0)
    dp = c.world / c.tp
    a_layer = (m.kv_rank + m.rope_dim if m.mla else 2 * m.kv_heads * m.head_dim) * kv
    full = m.layers - m.window_layers
    shards = 1 if m.mla else min(c.tp, m.kv_heads)
    # KV replicated beyond the shards: the capacity of the replica
    weights = linear * w * dp + expert * e + head * 2.0 * (1 if m.tied_embeddings else 2) * dp
    free = (MEMORY_SHARE * g.board_bytes - RESERVED_BYTES) * c.world - weights
    per_token = a_layer * m.layers * (c.tp / shards)
    if m.mla:
        pair, prompt_pair = (
            2.0 * m.heads * (2 * m.kv_rank + m.rope_dim),
            2.0 * m.heads * (m.head_dim + m.rope_dim + m.value_dim),
        )
    else:
        pair = prompt_pair = 4.0 * m.heads * m.head_dim
    return (
        m.layers, expert_layers, c.world, c.tp, dp, c.ep, linear, linear * w, head, expert, expert * e, m.experts or 1,
        m.experts_per_token or 1, a_layer * full, a_layer * m.window_layers, m.window or 1, shards, pair * full,
        prompt_pair * full, pair * m.window_layers, m.hidden, g.flops(c.linear),
        g.flops(c.experts or c.linear), g.flops_bf16, g.bandwidth_bytes_per_s, g.link_bytes_per_s,
        float(c.world > reach(g)), g.tdp_w or _DEFAULT_TDP_W, max(free, 0.0) / per_token, weights,
    )  # fmt: skip


assert len(fields(Work)) == 30
