"""Rows of one configuration to a Profile: what cannot be is left out and told, the rest fitted, written as points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from profiles.importers.serving import Fitted, Row, Step, fit, groups, jumps, spread
from profiles.importers.work import Work
from profiles.points import CHUNKS, CONTEXTS, PAST_CHUNKS, POWER_CONTEXT, digits
from profiles.profile import (
    POWER_UNKNOWN,
    Band,
    DecodePoints,
    EngineTerm,
    Memory,
    Mixed,
    PrefillPoints,
    Profile,
    Provenance,
    Systematic,
    Tier,
)

POWER_PREDICTED = "power_predicted"  # flag of points whose watts a law gave
LEAST_BATCHES = 3  # fewer distinct batches leave nothing to interpolate
_IMPOSSIBLE = 0.85  # of the time that reading the weights takes at the data sheet's bandwidth
_SENSOR = 0.05  # gain of a board's power sensor, common to all its rows
_BUSY = 1.02  # times idle: the least a step draws
_KERNEL = 0.05  # of a step at least that is kernels and no host work


@dataclass(frozen=True)
class Law:
    """Watts for a configuration whose watts nobody measured: parameters of the form, tier, band and where from."""

    parameters: dict[str, float]
    tier: Tier
    band: float
    source: str


@dataclass(frozen=True)
class Measured:
    """A configuration and its rows, with what a source says of them."""

    work: Work
    engine: str
    rows: list[Row]
    source: str
    licence: str
    date: str
    met: float = 1.0  # see serving.Step.mean
    ran: bool = False  # batches are means of what ran, not limits: whether they fit is no question
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    law: Law | None = None  # of watts, where the rows have none; without it they stay unknown

    @property
    def name(self) -> str:
        """For messages."""
        w = self.work
        return f"{w.gpu.name} {w.llm.name} x{w.gpus} {w.precision} {self.engine}"


def sift(work: Work, rows: Sequence[Row], ran: bool = False) -> tuple[list[Row], list[str]]:
    """The rows that can be true, and one line for each reason others were left out."""
    kept, dropped = [], Counter[str]()
    seen = set()
    for row in rows:
        key = (row.kind, row.batch, row.prompt, row.output, row.time_s, row.power_w)
        why = "given twice, figure for figure" if key in seen else _impossible(work, row, ran)
        seen.add(key)
        if why:
            dropped[why] += 1
        else:
            kept.append(row)
    return kept, [f"{n} row{'s' if n > 1 else ''} left out: {why}" for why, n in dropped.items()]


def _impossible(work: Work, row: Row, ran: bool) -> str | None:
    steps = row.output if row.kind == "whole" else 1.0
    if row.kind != "ttft":
        least = float(work.linear_bytes(row.batch)) / work.bandwidth
        if row.time_s / steps < _IMPOSSIBLE * least:
            return "faster than the weights can be read (early stop, speculative decoding or another model)"
    if not ran and not work.fits(row.batch, row.prompt + (0.5 if row.kind == "mean" else 1.0) * row.output):
        return "its KV does not fit, so requests queued or ran in waves"
    if row.power_w is not None and work.limit_w and row.power_w > 1.05 * work.limit_w:
        return f"draws more than {work.gpus} x {work.gpu.tdp_w:g} W"
    return None


def profile(measured: Measured, tell: Any = None) -> Profile | None:
    """The profile of a configuration; None, told, where its rows do not carry one."""
    say = tell or (lambda _: None)
    work = measured.work
    if work.kv_capacity < 1:
        say(f"{measured.name}: the weights do not fit {work.gpus} x {work.gpu.memory_gb:g} GB; left out")
        return None
    rows, complaints = sift(work, measured.rows, measured.ran)
    for text in complaints:
        say(f"{measured.name}: {text}")
    batches = set(groups([r.batch for r in rows if r.kind != "ttft"]))
    if len(batches) < LEAST_BATCHES:
        say(f"{measured.name}: {len(batches)} distinct batches, {LEAST_BATCHES} are needed; left out")
        return None
    fitted = fit(work, rows, measured.met)
    if measured.law is not None and "power_mape" not in fitted.error:
        step = Step(work, fitted.step.p | measured.law.parameters)
        fitted = replace(fitted, step=step)
    odd = spread(fitted, rows, measured.met)
    notes = [*complaints, *jumps(fitted), *([odd] if odd else [])]
    return _profile(measured, fitted, min(batches), max(batches), notes)


def _profile(measured: Measured, fitted: Fitted, low: int, high: int, notes: list[str]) -> Profile:
    work, error = measured.work, {k: round(v, 3) for k, v in fitted.error.items()}
    law = measured.law if "power_mape" not in error else None
    powered = "power_mape" in error or law is not None
    idle, idle_source = work.idle
    notes = [*measured.notes, *notes, idle_source, f"measured batches {low} to {high}; others are extrapolated"]
    notes.append("what was measured blends prefill and decode; the fit separates them")
    if law is not None:
        notes.append(f"times measured (T0); watts predicted ({law.tier}): {law.source}")
    elif not powered:
        notes.append("no power in the source: power_w is 0 and means unknown")
    engine = EngineTerm(step_s=digits(fitted.step.p["host_s"]), sequence_s=digits(fitted.step.p["sequence_s"]))
    return Profile(
        gpu=work.gpu.name,
        model=work.llm.name,
        tp=work.gpus,
        precision=work.precision,
        engine=measured.engine,
        layer="kernels",
        provenance=Provenance(
            kind="imported",
            tier=law.tier if law is not None else "T0",
            source=measured.source,
            licence=measured.licence,
            date=measured.date,
            versions=measured.versions,
            notes=notes,
            fit_error=error,
        ),
        band=Band(time=_band(error, "held", "tpot"), power=_power_band(error, powered, law)),
        memory=Memory(
            weights_bytes=work.weights_bytes,
            kv_bytes_per_token=work.llm.kv_bytes_per_token(work.kv_precision) * work.gpus / work.shards,
            kv_capacity_tokens=int(work.kv_capacity),
        ),
        idle=idle,
        prefill=prefill_points(fitted, powered, predicted=law is not None),
        decode=decode_points(fitted, low, high, powered, predicted=law is not None),
        mixed=Mixed(rule="attention", factor=1.0),
        engine_term=engine,
        systematic=Systematic(power_rel=_SENSOR if powered else 0.0),
    )


def decode_points(fitted: Fitted, low: int, high: int, powered: bool, predicted: bool = False) -> DecodePoints:
    """Every measured batch and the powers of two between, at four contexts, less the engine's host work.

    More sequences take no less time: where an engine changed its ways so that they would, the longer time stands.
    """
    step = fitted.step
    longest = dict.fromkeys(CONTEXTS, 0.0)
    batches = sorted({low, high, *fitted.time_factor, *(1 << k for k in range(14) if low < 1 << k < high)})
    rows = []
    for batch in batches:
        host = step.p["host_s"] + step.p["sequence_s"] * batch
        watts = 0.0
        if powered:
            usual = float(step.time_s(0.0, 0.0, float(batch), float(POWER_CONTEXT)))
            watts = float(step.power_w(usual, 0.0, 0.0, float(batch), float(POWER_CONTEXT)))
            watts = within(watts * fitted.at(fitted.power_factor, batch), step.work)
        for context in CONTEXTS:
            time_s = float(step.time_s(0.0, 0.0, float(batch), float(context)))
            time_s *= fitted.at(fitted.time_factor, batch)
            longest[context] = max(longest[context], time_s - host, _KERNEL * time_s)
            rows.append((batch, batch * context, digits(longest[context]), digits(watts)))
    batch_, kv, times, power = (list(column) for column in zip(*rows, strict=True))
    return DecodePoints(
        batch=batch_, kv_tokens=kv, time_s=times, power_w=power, flags=_flags(len(rows), powered, predicted)
    )


def within(watts: float, work: Work) -> float:
    """Watts between those of a GPU with a context and the limit: a GPU that waits for its host draws no less."""
    return min(max(watts, _BUSY * work.idle[0].loaded_w), work.limit_w)


def prefill_points(fitted: Fitted, powered: bool, predicted: bool = False) -> PrefillPoints:
    """Chunks with no past and two with one, less the engine's host work; watts capped at the limit."""
    step = fitted.step
    asked = [(n, 0) for n in CHUNKS] + list(PAST_CHUNKS)
    rows = []
    for new, past in asked:
        pairs = new * (past + 0.5 * new)
        time_s = float(step.time_s(float(new), pairs, 0.0, 0.0))
        watts = float(step.power_w(time_s, float(new), pairs, 0.0, 0.0)) if powered else 0.0
        rows.append((digits(time_s - step.p["host_s"]), digits(within(watts, step.work) if powered else 0.0)))
    times, power = (list(column) for column in zip(*rows, strict=True))
    return PrefillPoints(
        new_tokens=[n for n, _ in asked],
        past_tokens=[p for _, p in asked],
        sequences=[1] * len(asked),
        time_s=times,
        power_w=power,
        flags=_flags(len(asked), powered, predicted),
    )


def _flags(rows: int, powered: bool, predicted: bool) -> list[str] | None:
    if predicted:
        return [POWER_PREDICTED] * rows
    return None if powered else [POWER_UNKNOWN] * rows


def _band(error: dict[str, float], *names: str) -> float:
    """At least 5 %; the 90th percentile of rows held out, else of the rows themselves."""
    p90 = next((error[f"{n}_p90"] for n in names if f"{n}_p90" in error), 0.0)
    return round(1.0 + max(0.05, p90, error.get(f"{names[1]}_p90", 0.0)), 3)


def _power_band(error: dict[str, float], powered: bool, law: Law | None) -> float:
    if law is not None:
        return law.band
    return _band(error, "held_power", "power") if powered else 1.0
