"""LLMServingSim's per-layer tables (MIT; vLLM 0.19 layers timed one by one) as Profiles of whole steps.

A step is the sum of its layers: dense layers by all its tokens, head and sampler by its sequences, attention by prefill
chunk, cached prefill tokens, decode sequences and their mean context. A time stands for one call of one layer. The
tables know no host work and no communication between GPUs: all-reduces of tensor parallelism are added here by a
stated link, host work is a term to be fitted on a log (docs/fidelity.md).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from profiles import catalog
from profiles.importers.formats import Asked
from profiles.inputs import InputError, csv_records, read_yaml
from profiles.llm import Llm
from profiles.profile import (
    POWER_UNKNOWN,
    Band,
    DecodePoints,
    EngineTerm,
    Idle,
    Lockstep,
    Memory,
    Mixed,
    MixedPoints,
    PrefillPoints,
    Profile,
    Provenance,
    Skew,
)

GPUS = {"RTXPRO6000": "rtx-pro-6000", "RTX4090": "rtx-4090"}
LINK_LATENCY_S, LINK_BYTES_PER_S = 20e-6, 16e9  # LLMServingSim's cluster files for these machines (PCIe)
# vLLM's gpu_memory_utilization in these logs; both boards are sold in GB and hold as many GiB.
MEMORY_SHARE = 0.9 * 2**30 / 1e9
RESERVE_BYTES = 1.69e9  # activations and CUDA graphs: what the RTX 4090 log's 2,588 blocks leave of the share
# Calls of each dense layer in one decoder layer; what is not named is called once in the whole model.
PER_LAYER = {"layernorm": 2, **dict.fromkeys(("qkv_proj", "qk_norm", "rotary_emb", "o_proj"), 1)}
PER_LAYER |= dict.fromkeys(("gate_up_proj", "act_fn", "down_proj"), 1)
EP_DEGREES = (1, 2)  # 2 is what its one log of expert parallelism ran
# Host time of vLLM 0.19 per sequence in a step, by machine: fitted on the RTX PRO 6000 Llama-3.1-8B log; the RTX 4090's
# log needs none (docs/fidelity.md).
SEQUENCE_S = {"RTXPRO6000": 12e-6}
Curve = dict[int, float]


@dataclass(frozen=True, slots=True)
class _Layers:
    """Seconds by tokens, by sequences, and of attention by (chunk, past, sequences, context)."""

    dense: Curve
    heads: Curve
    attention: dict[tuple[int, int, int, int], float]


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """As `read_folder`."""
    return read_folder(path, asked.sequence_s, asked.tell, skew=bool(asked.skew))


def read_folder(
    path: str | Path,
    sequence_s: float | None = None,
    tell: Callable[[str], None] | None = None,
    skew: bool = False,
) -> list[Profile]:
    """Every profile below a folder: one for each meta.yaml, tensor- and expert-parallel degree with tables.

    Args:
        sequence_s: host seconds per sequence in a step, instead of what is known of the machine (SEQUENCE_S).
        tell: hears of tables that make no profile, and why.
        skew: keep the term for unlike contexts in a batch. A host term that was fitted on a log holds its mean, so one
            is taken with the other only by who fits them together (docs/fidelity.md).

    Raises:
        InputError: no meta.yaml there, an unknown GPU or model, a broken table (with its line).
    """
    metas = sorted(Path(path).rglob("meta.yaml"))
    if not metas:
        raise InputError("no meta.yaml below it", file=path, mend="give LLMServingSim's perf folder or one inside it")
    found = []
    for meta in metas:
        facts = read_yaml(meta)[0]
        for folder in sorted(meta.parent.glob("tp*")):
            if not folder.name[2:].isdigit():
                continue
            machine = _machine(facts, int(folder.name[2:]), meta, sequence_s, skew)
            if not machine.llm.moe:
                found.append(_profile(folder, machine))
            elif (folder / "moe.csv").is_file():
                found += [_profile(folder, machine, ep) for ep in EP_DEGREES]
            elif tell is not None:
                tell(f"{folder}: no moe.csv, so a step's experts are unknown; no profile of tp {machine.tp}")
    return found


@dataclass(frozen=True, slots=True)
class _Machine:
    """What a meta.yaml says of the tables below it."""

    facts: dict[str, Any]
    gpu: catalog.Gpu
    llm: Llm
    tp: int
    sequence_s: float
    skew: bool


def _machine(facts: dict[str, Any], tp: int, meta: Path, sequence_s: float | None, skew: bool) -> _Machine:
    hardware, name = str(facts.get("hardware")), str(facts.get("model"))
    if hardware not in GPUS:
        raise InputError(
            f"unknown hardware {hardware!r}", file=meta, field="hardware", mend=f"known: {', '.join(GPUS)}"
        )
    host_s = SEQUENCE_S.get(hardware, 0.0) if sequence_s is None else sequence_s
    return _Machine(facts, catalog.gpu(GPUS[hardware]), catalog.llm(name.partition("-Instruct")[0]), tp, host_s, skew)


def _profile(folder: Path, machine: _Machine, ep: int = 1) -> Profile:
    facts, gpu, llm, tp = machine.facts, machine.gpu, machine.llm, machine.tp
    layers = _read(folder, llm.layers)
    experts = _Experts(folder / "moe.csv", llm, ep) if llm.moe else None
    inside = experts if ep == 1 else None
    whole = _Steps(layers, lambda tokens: _all_reduce_s(tp, llm, tokens) + (inside(tokens) if inside else 0.0))
    routed = llm.layers * llm.experts * llm.mlp_matrices * llm.hidden * llm.expert_intermediate
    weights = (llm.params - routed + routed / ep) * 2.0
    kv_bytes = llm.kv_bytes_per_token()
    room = gpu.memory_bytes * MEMORY_SHARE * tp - weights - RESERVE_BYTES * tp
    prefill, decode, mixed = whole.prefill(), whole.decode(), whole.mixed()
    return Profile(
        gpu=gpu.name,
        model=llm.name,
        tp=tp,
        ep=ep,
        precision="bf16",
        engine=f"vllm-{facts.get('vllm_version', 'unknown')}",
        layer="kernels",
        provenance=Provenance(
            kind="imported",
            tier="T0",
            source=f"LLMServingSim per-layer profile, {facts.get('hardware')} {facts.get('model')} tp {tp}",
            licence="MIT",
            date=str(facts.get("profiled_at", "1970-01-01"))[:10],
            versions={"vllm": str(facts.get("vllm_version", "unknown"))},
            notes=_notes(tp, ep, machine),
        ),
        band=Band(time=1.1, power=1.0),
        memory=Memory(
            weights_bytes=weights, kv_bytes_per_token=kv_bytes, kv_capacity_tokens=max(1, int(room / kv_bytes))
        ),
        idle=Idle(loaded_w=0.0),
        prefill=prefill,
        decode=decode,
        mixed=Mixed(rule="table", points=mixed),
        lockstep=_lockstep(experts, llm) if experts is not None and ep > 1 else None,
        async_scheduling=True,  # vLLM 0.19's default
        engine_term=EngineTerm(step_s=0.0, sequence_s=machine.sequence_s),
        skew=_skew(folder / "skew_fit.csv") if machine.skew else None,
    )


def _notes(tp: int, ep: int, machine: _Machine) -> list[str]:
    notes = ["no power in the source: every power_w and idle watt is 0 and means unknown"]
    notes.append("memory: 0.9 of the GPU less the weights and 1.69 GB a GPU, as one RTX 4090 log shows")
    if tp > 1:
        notes.append("all-reduces are modelled: twice a layer 20 us and the activations at 16 GB/s")
    if ep > 1:
        notes.append("the exchange between ranks is modelled: twice a layer 20 us and the activations at 16 GB/s")
    if machine.sequence_s:
        host = f"host work of the engine: {1e6 * machine.sequence_s:g} us per sequence in a step"
        notes.append(f"{host}, fitted on a request log")
    if machine.skew:
        notes.append("skew: medians of the source's own fit over longest contexts and cached tokens, within 0 and 1")
    return notes


def _all_reduce_s(tp: int, llm: Llm, tokens: int) -> float:
    """Two all-reduces a layer: a ring moves 2 (tp - 1) / tp of the activations over the link."""
    moved = 2.0 * (tp - 1) / tp * tokens * llm.hidden * 2.0
    return 2.0 * llm.layers * (LINK_LATENCY_S + moved / LINK_BYTES_PER_S) if tp > 1 else 0.0


def _lockstep(experts: _Experts, llm: Llm) -> Lockstep:
    """What the ranks share in a step, by their tokens together: experts, and an exchange before and after them."""
    tokens = [1 << k for k in range(13)]
    return Lockstep(tokens=tokens, time_s=[experts(n) + exchange_s(llm, experts.ep, n) for n in tokens])


def exchange_s(llm: Llm, ep: int, tokens: int) -> float:
    """What `ep` ranks exchange in a step of so many tokens: activations, twice a layer of experts."""
    moved = 2.0 * tokens * llm.hidden * (ep - 1) / ep
    return 2.0 * (llm.layers - llm.dense_layers) * (LINK_LATENCY_S + moved / LINK_BYTES_PER_S)


class _Experts:
    """Seconds that all layers' experts take on one rank, by the tokens of all ranks.

    The table is by tokens and by how many experts they meet: of a rank's E / ep experts a token meets each with
    probability k / E, so n tokens meet E / ep (1 - (1 - k / E)^n) of them on average.
    """

    def __init__(self, path: Path, llm: Llm, ep: int) -> None:
        self.ep, self.layers = ep, llm.layers - llm.dense_layers
        self._own, self._missed = llm.experts / ep, 1.0 - llm.experts_per_token / llm.experts
        self._by_tokens: dict[int, Curve] = {}
        for tokens, met, time_s in _rows(path, (), ("tokens", "activated_experts")):
            self._by_tokens.setdefault(tokens, {})[met] = time_s
        if not self._by_tokens:
            raise InputError("a header and no measurement", file=path)

    def __call__(self, tokens: int) -> float:
        met = self._own * (1.0 - self._missed**tokens)
        return self.layers * _at({n: _at(curve, met) for n, curve in self._by_tokens.items()}, tokens)


class _Steps:
    """Layers summed to steps on the grids the tables have."""

    def __init__(self, layers: _Layers, link_s: Callable[[int], float]) -> None:
        self._attention = layers.attention
        self._heads = layers.heads
        self._dense = {tokens: time_s + link_s(tokens) for tokens, time_s in layers.dense.items()}
        keys = list(layers.attention)
        self._decodes = sorted({n for chunk, _, n, _ in keys if chunk == 0})

    def prefill(self) -> PrefillPoints:
        """One prompt alone, at every size the dense table has, and the attention grid's points with a past."""
        alone = {c: t for (c, past, n, _), t in self._attention.items() if c and not past and not n}
        rows = [(n, 0, t + _at(self._heads, 1) + _at(alone, n)) for n, t in self._dense.items() if n <= max(alone)]
        rows += [
            (c, past, _at(self._dense, c) + _at(self._heads, 1) + t)
            for (c, past, n, _), t in self._attention.items()
            if c and past and not n
        ]
        new, past, time_s = (list(column) for column in zip(*rows, strict=True))
        return PrefillPoints(
            new_tokens=new, past_tokens=past, sequences=[1] * len(rows), time_s=time_s, **_unknown_power(len(rows))
        )

    def decode(self) -> DecodePoints:
        """Every batch the dense table has up to the attention grid's largest, at every context of the grid.

        Attention over more context is never faster: where a cell says so, the larger value of the shorter one stands.
        """
        by_context: dict[int, Curve] = {}
        longest: Curve = {}
        for (_, _, n, context), t in sorted((key, t) for key, t in self._attention.items() if not key[0] and key[2]):
            longest[n] = max(t, longest.get(n, 0.0))
            by_context.setdefault(context, {})[n] = longest[n]
        rows = [
            (n, n * context, t + _at(self._heads, n) + _at(curve, n))
            for n, t in self._dense.items()
            if n <= self._decodes[-1]
            for context, curve in sorted(by_context.items())
            if n <= max(curve)
        ]
        batch, kv, time_s = (list(column) for column in zip(*rows, strict=True))
        return DecodePoints(batch=batch, kv_tokens=kv, time_s=time_s, **_unknown_power(len(rows)))

    def mixed(self) -> MixedPoints:
        """The attention grid's points with both a chunk and a batch."""
        rows = [
            (c, past, n, n * context, _at(self._dense, c + n) + _at(self._heads, n + 1) + t)
            for (c, past, n, context), t in self._attention.items()
            if c and n
        ]
        new, past, batch, kv, time_s = (list(column) for column in zip(*rows, strict=True))
        return MixedPoints(
            new_tokens=new, past_tokens=past, batch=batch, kv_tokens=kv, time_s=time_s, **_unknown_power(len(rows))
        )


RATES = {"sr<=5%": 0.025, "sr<=15%": 0.1, "sr<=40%": 0.275, "sr<=70%": 0.55, "sr>70%": 0.85}  # middle of each bin


def _skew(path: Path) -> Skew:
    """Its fitted shares, by chunk, batch and rate: medians over longest contexts and cached tokens, within 0 to 1.

    Medians, since a share is fitted as a quotient whose divisor is sometimes next to nothing (-735 is found).
    """
    cells: dict[tuple[int, int, float], list[float]] = {}
    wanted = ("pc", "n_label", "skew_rate_label", "alpha")
    for line, record in csv_records(path, wanted, "shares for unlike contexts"):
        try:
            key = int(record["pc"]), int(record["n_label"].removeprefix("n<=")), RATES[record["skew_rate_label"]]
            share = float(record["alpha"])
            if not math.isfinite(share):
                raise ValueError
            cells.setdefault(key, []).append(share)
        except (ValueError, KeyError) as error:
            raise InputError(f"{', '.join(wanted)} are not such bins and a number", file=path, line=line) from error
    if not cells:
        raise InputError("a header and no share", file=path)
    chunk, batch, rate = (list(column) for column in zip(*cells, strict=True))
    shares = [round(min(1.0, max(0.0, median(each))), 4) for each in cells.values()]
    return Skew(chunk=chunk, batch=batch, rate=rate, share=shares)


def _unknown_power(rows: int) -> dict[str, Any]:
    return {"power_w": [0.0] * rows, "flags": [POWER_UNKNOWN] * rows}


def _at(curve: Curve, x: float) -> float:
    """Linear between neighbours; the outer piece goes on beyond the ends."""
    if x in curve:
        return curve[int(x)]
    xs = sorted(curve)
    if len(xs) == 1:
        return curve[xs[0]]
    i = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    x0, x1 = xs[i - 1], xs[i]
    return curve[x0] + (curve[x1] - curve[x0]) * (x - x0) / (x1 - x0)


def _read(folder: Path, layers: int) -> _Layers:
    dense: Curve = {}
    for name, tokens, time_s in _rows(folder / "dense.csv", ("layer",), ("tokens",)):
        calls = PER_LAYER[name] * layers if name in PER_LAYER else 1
        dense[tokens] = dense.get(tokens, 0.0) + calls * time_s
    heads: Curve = {}
    for _, sequences, time_s in _rows(folder / "per_sequence.csv", ("layer",), ("sequences",)):
        heads[sequences] = heads.get(sequences, 0.0) + time_s
    axes = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    attention = {tuple(row[:4]): row[4] * layers for row in _rows(folder / "attention.csv", (), axes)}
    return _Layers(dict(sorted(dense.items())), dict(sorted(heads.items())), attention)


def _rows(path: Path, texts: tuple[str, ...], counts: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """The named columns of a table, then the seconds of one call."""
    for line, record in csv_records(path, (*texts, *counts, "time_us"), "a per-layer table"):
        try:
            time_s = float(record["time_us"]) * 1e-6
            row = (*(record[name] for name in texts), *(int(record[name]) for name in counts), time_s)
        except ValueError as error:
            raise InputError(f"{', '.join(counts)} and time_us must be numbers", file=path, line=line) from error
        if not 0 < time_s < 1e3 or any(int(record[name]) < 0 for name in counts):
            raise InputError(f"{record} is not a measurement", file=path, line=line)
        yield row
