"""Vidur's operator profiles (MIT): milliseconds of a layer's linear operators by tokens and tensor-parallel degree.

The shape of the model stands in the table, the GPU does not: it must be named. Attention has a table of its own that is
not read here: attention is predicted from the bytes and pairs it moves, all-reduces from the link.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiles import catalog
from profiles.importers.composed import NO_ENGINE, NO_ENGINE_BAND, Curve, Origin, Steps, at, compose
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells
from profiles.importers.serving import POWER, TIME, Step
from profiles.importers.work import Work
from profiles.inputs import InputError, csv_records
from profiles.llm import Llm
from profiles.points import CHUNKS
from profiles.profile import Band, Profile, Provenance
from profiles.spellings import gpu, model

DATE = "2024-05-01"
SHAPE = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "vocab_size", "num_tokens", "num_tensor_parallel_workers")
# Calls of an operator in a layer; a model without a gated MLP has no second norm.
CALLS = {
    "input_layernorm": 1, "attn_pre_proj": 1, "attn_rope": 1, "attn_post_proj": 1, "post_attention_layernorm": 1,
    "mlp_up_proj": 1, "mlp_act": 1, "mlp_down_proj": 1, "add": 2,
}  # fmt: skip
_PADDED = 1024  # a vocabulary is stated rounded up by less than this


@dataclass(frozen=True, slots=True)
class Raw:
    """One row: the median seconds of all linear operators of one layer."""

    line: int
    shape: tuple[int, int, int, int, int]
    tp: int
    tokens: int
    layer_s: float


def rows(path: str | Path) -> Iterator[Raw]:
    """Every row of a table of linear operators.

    Raises:
        InputError: not such a table, or a figure that cannot be (with its line and field).
    """
    needed = (*SHAPE, *(f"time_stats.{name}.median" for name in CALLS if name != "post_attention_layernorm"))
    for line, record in csv_records(path, needed, "Vidur's table of linear operators"):
        c = Cells(path, line, record)
        names = (name for name in CALLS if name != "post_attention_layernorm" or c.text(f"time_stats.{name}.median"))
        layer_s = sum(CALLS[name] * c.number(f"time_stats.{name}.median", zero=True) for name in names) * 1e-3
        if layer_s <= 0:
            raise c.refuse("time_stats.mlp_up_proj.median", "a layer that takes no time")
        heads, kv_heads, hidden, wide, vocab, tokens, tp = (c.count(name) for name in SHAPE)
        yield Raw(line, (heads, kv_heads, hidden, wide, vocab), tp, tokens, layer_s)


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """A profile for every tensor-parallel degree whose weights fit, or for the one asked for.

    Raises:
        InputError: no GPU named; see `rows`; or a shape that is no model of the catalogue.
    """
    if asked.gpu is None:
        raise InputError("Vidur's tables do not name their GPU", file=path, mend="give --gpu")
    curves: dict[int, dict[float, list[float]]] = {}
    shape = None
    for raw in rows(path):
        if shape not in (None, raw.shape):
            raise InputError("two models in one table", file=path, line=raw.line, mend="give each its own file")
        shape = raw.shape
        curves.setdefault(raw.tp, {}).setdefault(float(raw.tokens), []).append(raw.layer_s)
    if shape is None:
        raise InputError("a header and no measurement", file=path)
    llm = _model(shape, asked.model, path)
    found = []
    for tp, own in sorted(curves.items()):
        work = Work(gpu(asked.gpu), llm, tp, "fp16")
        if (asked.tp or tp) != tp:
            continue
        if work.kv_capacity < 1:
            asked.tell(f"{llm.name} on {tp} x {work.gpu.name}: the weights do not fit; left out")
            continue
        layer = {tokens: statistics.median(values) for tokens, values in sorted(own.items())}
        found.append(compose(work, _steps(work, layer), _origin(work)))
    if not found:
        raise InputError("no tensor-parallel degree in it that fits", file=path, mend="give another --gpu or --tp")
    return found


def _model(shape: tuple[int, int, int, int, int], asked: str | None, path: str | Path) -> Llm:
    """The catalogue's model of this shape; the one asked for, where it has it."""

    def fits(m: Llm) -> bool:
        same = (m.heads, m.kv_heads, m.hidden, m.intermediate) == shape[:4] and not m.moe
        return same and 0 <= shape[4] - m.vocab < _PADDED

    if asked is not None:
        wanted = model(asked)
        if not fits(wanted):
            raise InputError(f"its shape is not that of {wanted.name}", file=path, field="n_embd")
        return wanted
    known = [m for m in catalog.llms().values() if fits(m)]
    if not known:
        heads, kv_heads, hidden, wide, vocab = shape
        what = f"no known model has {heads} heads, {kv_heads} KV heads, width {hidden}, {wide}, vocabulary {vocab}"
        raise InputError(what, file=path, mend="add it to an llms.csv of your own, or give --model")
    if len({m.layers for m in known}) > 1:
        raise InputError(f"its shape is that of {', '.join(m.name for m in known)}", file=path, mend="give --model")
    return known[0]


def _steps(work: Work, layer: Curve) -> Steps:
    """Linear operators from the table; attention, head and all-reduces from the form."""
    rest = Step(work, TIME | POWER | {"host_s": 0.0, "sequence_s": 0.0, "prompt_s": 0.0})

    def beside_s(new: int, pairs: float, batch: int, context: float) -> float:
        """What the table lacks: attention, output head and all-reduces."""
        head = max(work.head_bytes / (work.bandwidth * TIME["bandwidth"]),
                   work.head_flops * (batch + (new > 0)) / (work.flops * TIME["compute"]))  # fmt: skip
        return float(rest.attention_s(pairs, float(batch), context) + head + rest.link_s(float(new + batch)))

    def prefill_s(new: int, past: int) -> float:
        return work.llm.layers * at(layer, new) + beside_s(new, new * (past + 0.5 * new), 0, 0.0)

    def decode_s(batch: int, context: int) -> float:
        return work.llm.layers * at(layer, batch) + beside_s(0, 0.0, batch, float(context))

    top = int(max(layer))
    chunks = tuple(n for n in CHUNKS if n <= top)
    return Steps(prefill_s, decode_s, chunks=chunks)


def _origin(work: Work) -> Origin:
    notes = [
        NO_ENGINE,
        "linear operators measured; attention, output head and all-reduces predicted from bytes, pairs and the link",
        f"{work.gpu.name} is what the user named: the table does not say",
    ]
    provenance = Provenance(
        kind="predicted", tier="T1", source=f"Vidur linear operators, {work.llm.name} tp {work.gpus}", licence="MIT",
        date=DATE, notes=notes,
    )  # fmt: skip
    return Origin("vidur-kernels", provenance, Band(time=NO_ENGINE_BAND, power=1.0))
