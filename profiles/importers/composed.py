"""Profiles written from functions of time: what formulas, layers or operations give for prefill and decode steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from profiles.importers.work import Work
from profiles.inputs import InputError
from profiles.points import BATCHES, CHUNKS, CONTEXTS, PAST_CHUNKS, POWER_CONTEXT, digits
from profiles.profile import POWER_UNKNOWN, Band, DecodePoints, Memory, Mixed, PrefillPoints, Profile, Provenance

# Sums of kernels are .4 to 1 of the real step: from it at small batches of large models to 2.2 times below it.
NO_ENGINE_BAND = 2.2
NO_ENGINE = "no engine layer: host work and what runs between the kernels is not in it; real steps take up to 2.2 times"
Curve: TypeAlias = dict[float, float]


@dataclass(frozen=True)
class Steps:
    """Seconds of a prefill of (new, past) tokens and of a decode step of (batch, mean context), watts where known."""

    prefill_s: Callable[[int, int], float]
    decode_s: Callable[[int, int], float]
    prefill_w: Callable[[int, int], float] | None = None
    decode_w: Callable[[int, int], float] | None = None
    batches: Sequence[int] = BATCHES
    contexts: Sequence[int] = CONTEXTS
    chunks: Sequence[int] = CHUNKS
    past_chunks: Sequence[tuple[int, int]] = PAST_CHUNKS
    noisy: bool = True  # of tables: where more sequences take less time, the longer time stands


@dataclass(frozen=True)
class Origin:
    """What is said of a composed profile."""

    engine: str
    provenance: Provenance
    band: Band
    layer: str = "kernels"
    extra: dict[str, Any] = field(default_factory=dict)  # more keys of the profile, or others


def compose(work: Work, steps: Steps, origin: Origin) -> Profile:
    """The profile of functions at the usual points.

    Raises:
        InputError: the weights do not fit, or a function gives a time that is not positive.
    """
    if work.kv_capacity < 1:
        raise InputError(
            f"{work.llm.name} at {work.precision} does not fit {work.gpus} x {work.gpu.memory_gb:g} GB",
            mend="give more GPUs (--tp)",
        )
    asked = [(n, 0) for n in steps.chunks] + list(steps.past_chunks)
    grid = [(b, c) for b in steps.batches for c in steps.contexts]
    times: dict[int, float] = dict.fromkeys(steps.contexts, 0.0)
    decode = []
    for b, c in grid:
        time_s = _positive(steps.decode_s(b, c), f"decode of {b} at {c} tokens")
        times[c] = max(times[c], time_s) if steps.noisy else time_s
        decode.append(times[c])
    provenance = origin.provenance
    if steps.decode_w is None:
        told = [*provenance.notes, "no power in the source: power_w is 0 and means unknown"]
        provenance = provenance.model_copy(update={"notes": told})
    idle, idle_source = work.idle
    provenance = provenance.model_copy(update={"notes": [*provenance.notes, idle_source]})
    document: dict[str, Any] = {
        "memory": Memory(
            weights_bytes=work.weights_bytes,
            kv_bytes_per_token=work.llm.kv_bytes_per_token(work.kv_precision) * work.gpus / work.shards,
            kv_capacity_tokens=int(work.kv_capacity),
        ),
        "mixed": Mixed(rule="attention", factor=1.0),
        **origin.extra,
    }
    return Profile(
        gpu=work.gpu.name,
        model=work.llm.name,
        tp=work.gpus,
        precision=work.precision,
        engine=origin.engine,
        layer=origin.layer,
        provenance=provenance,
        band=origin.band,
        idle=idle,
        prefill=PrefillPoints(
            new_tokens=[n for n, _ in asked],
            past_tokens=[p for _, p in asked],
            sequences=[1] * len(asked),
            time_s=[_positive(steps.prefill_s(n, p), f"prefill of {n} tokens after {p}") for n, p in asked],
            **_power(asked, steps.prefill_w),
        ),
        decode=DecodePoints(
            batch=[b for b, _ in grid],
            kv_tokens=[b * c for b, c in grid],
            time_s=decode,
            **_power([(b, POWER_CONTEXT) for b, _ in grid], steps.decode_w),
        ),
        **document,
    )


def _power(asked: list[tuple[int, int]], watts: Callable[[int, int], float] | None) -> dict[str, Any]:
    if watts is None:
        return {"power_w": [0.0] * len(asked), "flags": [POWER_UNKNOWN] * len(asked)}
    return {"power_w": [digits(watts(a, b)) for a, b in asked]}


def _positive(time_s: float, what: str) -> float:
    if not 0.0 < time_s < 1e4:
        raise InputError(f"the {what} would take {time_s:g} s", mend="the source cannot be right there")
    return digits(time_s)


def at(curve: Curve, x: float) -> float:
    """Linear between the points of a curve in ascending order; its outer pieces go on, never below the least value."""
    xs = list(curve)
    if x in curve:
        return curve[x]
    if len(xs) == 1 or x < xs[0]:
        return curve[xs[0]]
    i = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    x0, x1 = xs[i - 1], xs[i]
    return max(curve[x0] + (curve[x1] - curve[x0]) * (x - x0) / (x1 - x0), min(curve.values()))
