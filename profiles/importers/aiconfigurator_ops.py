"""aiconfigurator's tables of operations (Apache-2.0): GEMM, attention and all-reduce timed one by one, watts for some.

A folder of one GPU's parquet files; what each is, its columns say. A dense model's steps are summed from them: the sum
is no measured step, so the profile is predicted (T1) and has no engine layer. Watts were read by sensors that average
a second over kernels of microseconds: only operations of a tenth of a millisecond and more have settled, and the law
of power is fitted to those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from profiles import catalog
from profiles.importers.composed import NO_ENGINE, NO_ENGINE_BAND, Curve, Origin, Steps, at, compose
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells, parquet_records
from profiles.importers.serving import POWER, TIME, Step, solve
from profiles.importers.work import Work
from profiles.inputs import InputError, near_miss
from profiles.llm import Llm
from profiles.profile import Band, Profile, Provenance
from profiles.spellings import model

DATE = "2026-11-21"
SETTLED_S = 1e-4
_DTYPE = "bfloat16"
_KINDS = {  # columns that tell a table
    "gemm": ("gemm_dtype", "m", "n", "k", "latency"),
    "attention": ("attn_dtype", "kv_cache_dtype", "num_heads", "num_key_value_heads", "head_dim", "isl", "step",
                  "batch_size", "latency"),
    "all-reduce": ("allreduce_dtype", "num_gpus", "message_size", "latency"),
}  # fmt: skip


@dataclass
class Tables:
    """Seconds by what was asked of an operation; the newest version of each kind, the fastest kernel of each shape."""

    device: str = ""
    version: dict[str, str] = field(default_factory=dict)
    gemm: dict[tuple[int, int], Curve] = field(default_factory=dict)  # (n, k) -> by m
    prompt: dict[tuple[int, int, int], Curve] = field(default_factory=dict)  # heads -> by tokens
    decode: dict[tuple[int, int, int], dict[float, Curve]] = field(default_factory=dict)  # heads -> context -> by batch
    all_reduce: dict[int, Curve] = field(default_factory=dict)  # GPUs -> by elements
    watts: list[tuple[float, float, float, float]] = field(default_factory=list)  # seconds, FLOPs, bytes, W of GEMMs
    unsettled: int = 0


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """The profile of one dense model on the GPU of the tables.

    Raises:
        InputError: no model named, no such tables below the folder, a shape that they lack, a broken cell.
    """
    tables = load(Path(path))
    if asked.model is None:
        raise InputError("tables of operations hold no model", file=path, mend="give --model (and --tp)")
    llm = model(asked.model)
    if llm.moe or llm.mla:
        raise InputError(f"{llm.name} has experts or latent attention, which are not read", file=path)
    try:
        work = Work(catalog.gpu(tables.device), llm, asked.tp or 1, "bf16")
    except InputError as error:
        raise InputError(error.what, file=path, field="device") from error
    _complete(tables, work, path)
    law = _law(tables, work, asked)
    return [compose(work, _steps(tables, work, law), _origin(tables, law))]


def load(folder: Path) -> Tables:
    """The tables below a folder.

    Raises:
        InputError: none there, of two GPUs, or a broken cell (with its file, row and field).
    """
    tables = Tables()
    found: dict[str, dict[str, list[Cells]]] = {}
    for kind, cells in rows(folder):
        device = cells.text("device") or tables.device
        if tables.device and device != tables.device:
            raise cells.refuse("device", f"{device} beside {tables.device}", "give the folder of one GPU")
        tables.device = device
        found.setdefault(kind, {}).setdefault(cells.text("version"), []).append(cells)
    for kind, versions in found.items():
        newest = max(versions, key=_order)
        tables.version[kind] = newest
        for cells in versions[newest]:
            _put(tables, kind, cells)
        if kind == "gemm":
            for own in versions.values():
                _watts(tables, own)
    for own_curve in (*tables.gemm.values(), *tables.prompt.values(), *tables.all_reduce.values()):
        _ascend(own_curve)
    for contexts in tables.decode.values():
        for curve in contexts.values():
            _ascend(curve)
        _ascend(contexts)
    return tables


def rows(folder: Path) -> Iterator[tuple[str, Cells]]:
    """Kind and cells of every 16-bit row of the tables that are known by their columns.

    Raises:
        InputError: nothing known below the folder.
    """
    known = False
    for file in sorted(folder.rglob("*.parquet")) if folder.is_dir() else ():
        kind = _kind(file)
        if kind is None:
            continue
        known = True
        for line, record in parquet_records(file, _KINDS[kind], "a table of operations"):
            if _wanted(kind, record):
                yield kind, Cells(file, line, record)
    if not known:
        raise InputError("no table of GEMM, attention or all-reduce below it", file=folder,
                         mend="give aiconfigurator's folder of one GPU, or its silicon_sample.csv")  # fmt: skip


def _kind(file: Path) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        raise InputError("not a parquet file", file=file) from error
    return next((kind for kind, columns in _KINDS.items() if set(columns) <= names), None)


def _wanted(kind: str, r: dict[str, Any]) -> bool:
    if kind == "gemm":
        return bool(r["gemm_dtype"] == _DTYPE)
    if kind == "all-reduce":
        return bool(r["allreduce_dtype"] == _DTYPE)
    plain = r["attn_dtype"] == _DTYPE and r["kv_cache_dtype"] == _DTYPE and not r.get("window_size")
    return bool(plain and (r["step"] or r["batch_size"] == 1))


def _put(tables: Tables, kind: str, c: Cells) -> None:
    time_s = c.number("latency") * 1e-3
    if kind == "gemm":
        _least(tables.gemm.setdefault((c.count("n"), c.count("k")), {}), c.count("m"), time_s)
    elif kind == "all-reduce":
        _least(tables.all_reduce.setdefault(c.count("num_gpus"), {}), c.number("message_size"), time_s)
    else:
        heads = (c.count("num_heads"), c.count("num_key_value_heads"), c.count("head_dim"))
        context = c.number("step", zero=True)
        if context and c.count("isl") == 1:
            _least(tables.decode.setdefault(heads, {}).setdefault(context, {}), c.count("batch_size"), time_s)
        elif not context and c.count("batch_size") == 1:
            _least(tables.prompt.setdefault(heads, {}), c.count("isl"), time_s)


def _least(curve: Curve, x: float, time_s: float) -> None:
    curve[x] = min(time_s, curve.get(x, time_s))


def _ascend(curve: dict[float, Any]) -> None:
    for x in sorted(curve):
        curve[x] = curve.pop(x)


def _order(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split(".")]


def _watts(tables: Tables, own: list[Cells]) -> None:
    for c in own:
        watts = c.maybe("power")
        if not watts:
            continue
        if watts < 0:
            raise c.refuse("power", f"{watts:g} W is negative")
        time_s, m, n, k = c.number("latency") * 1e-3, c.count("m"), c.count("n"), c.count("k")
        if time_s < SETTLED_S:
            tables.unsettled += 1
        else:
            tables.watts.append((time_s, 2.0 * m * n * k, 2.0 * (m * k + k * n + m * n), watts))


def _complete(tables: Tables, work: Work, path: str | Path) -> None:
    """Refuse what the tables cannot tell."""
    if not tables.gemm:
        raise InputError(f"no {_DTYPE} GEMM in it", file=path)
    for name, table in (("prompts", tables.prompt), ("decode", tables.decode)):
        if _heads(work) not in table:
            known = [f"{h} heads {kv} KV heads of {d}" for h, kv, d in table]
            asked = "{} heads {} KV heads of {}".format(*_heads(work))
            raise InputError(f"no attention of {name} with {asked}", file=path, mend=near_miss(asked, known))
    if work.gpus > 1 and work.gpus not in tables.all_reduce:
        raise InputError(f"no all-reduce of {work.gpus} GPUs", file=path, mend=f"has {sorted(tables.all_reduce)}")


def _heads(work: Work) -> tuple[int, int, int]:
    m = work.llm
    return m.heads // work.gpus, max(1, m.kv_heads // work.gpus), m.head_dim


def _law(tables: Tables, work: Work, asked: Asked) -> dict[str, float] | None:
    """The law of power of one GPU, fitted to the settled GEMMs."""
    if tables.unsettled:
        asked.tell(f"{tables.unsettled} watts of operations below {1e3 * SETTLED_S:g} ms left out: the sensor lags")
    if len(tables.watts) < 20 or not work.gpu.tdp_w:
        return None
    time_s, flops, moved, watts = np.array(tables.watts).T
    one = Work(work.gpu, work.llm, 1, "bf16")

    def residuals(q: dict[str, float]) -> Any:
        return np.log(Step(one, TIME | q | {"host_s": 0.0}).watts(time_s, flops, moved) / watts)

    law = solve(POWER, residuals)
    return law | {"mape": float(np.mean(np.abs(np.expm1(residuals(law))))), "rows": float(len(watts))}


def _matrices(m: Llm, gpus: int) -> tuple[tuple[int, int], ...]:
    """(n, k) of a layer's products on one GPU: QKV, output, gate and up, down."""
    queries, keys = m.heads * m.head_dim // gpus, max(m.kv_heads // gpus, 1) * m.head_dim
    wide, into = m.intermediate // gpus, m.mlp_matrices - 1
    return ((queries + 2 * keys, m.hidden), (m.hidden, queries), (into * wide, m.hidden), (m.hidden, wide))


def _steps(tables: Tables, work: Work, law: dict[str, float] | None) -> Steps:
    layers, heads = work.llm.layers, _heads(work)
    prompt, decode = tables.prompt[heads], tables.decode[heads]
    matrices = [(_product(tables, work, n, k)) for n, k in _matrices(work.llm, work.gpus)]
    head = _product(tables, work, work.llm.vocab // work.gpus, work.llm.hidden)
    pair_s = max(prompt.values()) / (0.5 * max(prompt) ** 2)

    def dense_s(tokens: int) -> float:
        reduce_s = 2.0 * at(tables.all_reduce[work.gpus], tokens * work.llm.hidden) if work.gpus > 1 else 0.0
        return sum(at(curve, tokens) for curve in matrices) + reduce_s

    def prefill_s(new: int, past: int) -> float:
        return layers * (dense_s(new) + at(prompt, new) + pair_s * new * past) + at(head, 1)

    def decode_s(batch: int, context: int) -> float:
        by_context = {c: at(curve, batch) for c, curve in decode.items()}
        return layers * (dense_s(batch) + at(by_context, context)) + at(head, batch)

    if law is None:
        return Steps(prefill_s, decode_s)
    step = Step(work, TIME | {k: law[k] for k in POWER} | {"host_s": 0.0})

    def prefill_w(new: int, past: int) -> float:
        return float(step.power_w(prefill_s(new, past), float(new), new * (past + 0.5 * new), 0.0, 0.0))

    def decode_w(batch: int, context: int) -> float:
        return float(step.power_w(decode_s(batch, context), 0.0, 0.0, float(batch), float(context)))

    return Steps(prefill_s, decode_s, prefill_w, decode_w)


def _product(tables: Tables, work: Work, n: int, k: int) -> Curve:
    """Times by m of an (n, k) product: those of the nearest shape in the table times what the data sheet asks more."""
    near = min(tables.gemm, key=lambda shape: abs(np.log(shape[0] / n)) + abs(np.log(shape[1] / k)))

    def asks(m: float, n: int, k: int) -> float:
        flops, moved = 2.0 * m * n * k, 2.0 * (m * k + n * k + m * n)
        return max(flops / work.gpu.flops_bf16, moved / work.gpu.bandwidth_bytes_per_s)

    return {m: time_s * asks(m, n, k) / asks(m, *near) for m, time_s in tables.gemm[near].items()}


def _origin(tables: Tables, law: dict[str, float] | None) -> Origin:
    notes = [NO_ENGINE, "GEMM, attention and all-reduce measured one by one; norms and activations are not in it"]
    notes.append("products of shapes between those of the tables are scaled from the nearest")
    error = {}
    if law is not None:
        notes.append(f"watts by a law fitted to {len(tables.watts)} GEMMs of {1e3 * SETTLED_S:g} ms and more")
        error = {"power_mape": round(law["mape"], 3), "power_rows": law["rows"]}
    versions = {"vllm": tables.version["gemm"]}
    provenance = Provenance(
        kind="predicted", tier="T1", licence="Apache-2.0", date=DATE, notes=notes, versions=versions,
        fit_error=error,
        source=f"aiconfigurator operations of {tables.device}, vLLM {tables.version['gemm']}",
    )  # fmt: skip
    return Origin("vllm-kernels", provenance, Band(time=NO_ENGINE_BAND, power=1.0 if law is None else 1.3))
