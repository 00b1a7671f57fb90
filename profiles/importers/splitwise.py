"""splitwise-sim's perf_model.csv (MIT) as a Profile that answers as splitwise-sim does.

Its rule: one axis for everything, prompt_size * batch_size; times are medians on that axis, joined by straight lines
that go on beyond the ends. Prefill is looked up by the prompt tokens of a step, decode by the number of sequences on
the same axis, so context never matters and 1 to 127 sequences are extrapolated. A step with both takes 1.1 times the
prefill. The figures are of a 2023 engine, two to three times slower than later ones: an oracle, no default.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from profiles.importers.formats import Asked
from profiles.inputs import InputError, csv_records, near_miss
from profiles.profile import (
    POWER_UNKNOWN,
    Band,
    DecodePoints,
    Idle,
    Memory,
    Mixed,
    PrefillPoints,
    Profile,
    Provenance,
)

COLUMNS = ("model", "hardware", "prompt_size", "batch_size", "prompt_time", "token_time", "tensor_parallel")
_POWER = ("peak_power", "average_power")
_GPUS = {"h100-80gb": "h100-sxm-80gb", "h100-80gb-pcap": "h100-sxm-80gb", "a100-80gb": "a100-sxm-80gb"}
_DERIVED = {"h100-80gb-pcap": "every prompt time is the uncapped H100's times 1.3: derived, never measured"}
_GPU_BYTES = 80 * 2**30  # splitwise-sim's memory_size of its 80 GB processors
_MODELS = {  # splitwise-sim's name -> ours, weights in bytes, layers, hidden size (its model_repo)
    "llama2-70b": ("llama-2-70b", 135e9, 80, 8192),
    "bloom-176b": ("bloom-176b", 329e9, 70, 14336),
}


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    size: int
    prompt_s: float
    token_s: float
    power: float | None


def read(path: str | Path, asked: Asked) -> list[Profile]:
    """As `read_all`, for the model and tp asked for."""
    return read_all(path, asked.model or "llama2-70b", asked.tp or 8)


def read_all(path: str | Path, model: str = "llama2-70b", tp: int = 8) -> list[Profile]:
    """A profile for every GPU of the table that runs the model.

    Raises:
        InputError: not splitwise-sim's table, or no row of this model.
    """
    columns = ("model", "hardware", "tensor_parallel")
    rows = [record for _, record in csv_records(path, columns, "splitwise-sim's perf_model.csv")]
    found = {row["hardware"] for row in rows if (row["model"], row["tensor_parallel"]) == (model, str(tp))}
    known = [hardware for hardware in _GPUS if hardware in found and hardware not in _DERIVED]
    return [read_perf_model(path, model, hardware, tp) for hardware in known or ["h100-80gb"]]


def read_perf_model(path: str | Path, model: str = "llama2-70b", hardware: str = "h100-80gb", tp: int = 8) -> Profile:
    """The profile of one (model, hardware, tensor_parallel) of a perf_model.csv.

    Powers are 0 with the flag `power_missing`: the file's columns are zeros or fractions of TDP. Memory follows
    splitwise-sim: 80 GiB a GPU less the weights, KV without grouped heads (8 times too large for Llama-2 70B).

    Raises:
        InputError: not such a file, a bad figure (with its line), or nothing in it for what was asked.
    """
    rows = _select(path, model, hardware, tp)
    prompt = _medians(rows, lambda row: row.prompt_s)
    token = _medians(rows, lambda row: row.token_s)
    notes = [*_power_notes(rows), *_odd(prompt), "2023 vLLM: 2 to 3.5 times slower than later engines"]
    if hardware in _DERIVED:
        notes.append(_DERIVED[hardware])
    prompt, token = _down_to_one(prompt, "prefill", notes), _down_to_one(token, "decode", notes)
    name, weights, layers, hidden = _MODELS[model]
    kv = 2.0 * 2.0 * layers * hidden
    return Profile(
        gpu=_GPUS[hardware],
        model=name,
        tp=tp,
        precision="fp16",
        engine="vllm-splitwise-2023",
        layer="step",
        provenance=Provenance(
            kind="predicted" if hardware in _DERIVED else "imported",
            tier="cfg" if hardware in _DERIVED else "T0",
            source=f"splitwise-sim perf_model.csv, {model} {hardware} tp {tp}, {len(rows)} rows",
            licence="MIT",
            date="2024-01-01",
            notes=notes,
        ),
        band=Band(time=1.1, power=1.0),
        memory=Memory(
            weights_bytes=weights,
            kv_bytes_per_token=kv,
            kv_capacity_tokens=max(1, math.floor((_GPU_BYTES * tp - weights) / kv)),
        ),
        idle=Idle(loaded_w=0.0),
        prefill=PrefillPoints(
            new_tokens=list(prompt),
            past_tokens=[0] * len(prompt),
            sequences=[1] * len(prompt),
            time_s=list(prompt.values()),
            power_w=[0.0] * len(prompt),
            flags=[POWER_UNKNOWN] * len(prompt),
        ),
        decode=DecodePoints(
            batch=list(token),
            kv_tokens=list(token),
            time_s=list(token.values()),
            power_w=[0.0] * len(token),
            flags=[POWER_UNKNOWN] * len(token),
        ),
        mixed=Mixed(rule="scaled", factor=1.1),
    )


def _select(path: str | Path, model: str, hardware: str, tp: int) -> list[_Row]:
    """The rows asked for, or an error that names what the file has."""
    if model not in _MODELS:
        raise InputError(f"unknown model {model}", file=path, field="model", mend=near_miss(model, _MODELS))
    if hardware not in _GPUS:
        raise InputError(f"unknown hardware {hardware}", file=path, field="hardware", mend=near_miss(hardware, _GPUS))
    found, seen = [], set()
    for line, record in csv_records(path, COLUMNS, "a splitwise-sim perf_model"):
        key = (record["model"], record["hardware"], record["tensor_parallel"])
        seen.add(" ".join(key))
        if key == (model, hardware, str(tp)):
            found.append(_row(path, line, record))
    if not found:
        mend = near_miss(f"{model} {hardware} {tp}", seen) if seen else "is it whole?"
        raise InputError(f"no row for {model} {hardware} tensor_parallel {tp}", file=path, mend=mend)
    if len({row.size for row in found}) < 2:
        raise InputError("one prompt_size * batch_size only: nothing to interpolate", file=path, line=found[0].line)
    return found


def _row(path: str | Path, line: int, record: dict[str, str]) -> _Row:
    def figure(name: str, low: float) -> float:
        try:
            value = float(record[name])
        except ValueError:
            value = math.nan
        if not low < value < math.inf:
            raise InputError(f"{record[name]!r} is not a positive number", file=path, line=line, field=name)
        return value

    size = figure("prompt_size", 0) * figure("batch_size", 0)
    if size != int(size):
        raise InputError(f"prompt_size * batch_size is {size:g}, not whole", file=path, line=line, field="prompt_size")
    powers = [figure(name, -1e-9) for name in _POWER if record.get(name)]
    return _Row(
        line, int(size), figure("prompt_time", 0) / 1e3, figure("token_time", 0) / 1e3, max(powers, default=None)
    )


def _medians(rows: list[_Row], value: Callable[[_Row], float]) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for row in rows:
        groups.setdefault(row.size, []).append(value(row))
    return {size: statistics.median(groups[size]) for size in sorted(groups)}


def _down_to_one(curve: dict[int, float], what: str, notes: list[str]) -> dict[int, float]:
    """The first line carried down to size 1, where it stays positive."""
    (x0, y0), (x1, y1) = list(curve.items())[:2]
    at_one = y0 + (y1 - y0) * (1 - x0) / (x1 - x0)
    if x0 <= 1:
        return curve
    if at_one <= 0:
        notes.append(f"{what}: the line through {x0} and {x1} is not positive at 1: held at {x0} below it")
        return curve
    return {1: at_one, **curve}


def _power_notes(rows: list[_Row]) -> list[str]:
    stated = [row.power for row in rows if row.power is not None]
    zero = sum(1 for power in stated if power == 0)
    if not stated:
        return ["no power columns: power_w is 0 and means unknown"]
    if zero == len(stated):
        return [f"the power columns are 0 in all {zero} rows: power_w is 0 and means unknown"]
    rest = "fractions of TDP" if max(stated) <= 2 else "of no stated unit"
    return [f"the power columns are 0 in {zero} of {len(stated)} rows, else {rest}: not used, power_w means unknown"]


def _odd(prompt: dict[int, float]) -> list[str]:
    """More prompt tokens in less than .7 of the time: measured in error, kept because splitwise-sim keeps it."""
    pairs = list(prompt.items())
    return [
        f"prefill falls from {y0:.3g} s at {x0} tokens to {y1:.3g} s at {x1}: implausible, kept as splitwise-sim does"
        for (x0, y0), (x1, y1) in zip(pairs, pairs[1:], strict=False)
        if y1 < 0.7 * y0
    ]
