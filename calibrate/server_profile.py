"""From the windows of a served model to its profile: the front door taken off, energies separated, steps mixed."""

from __future__ import annotations

import datetime
import statistics
from dataclasses import replace

from calibrate.bench import described, kv_bytes_per_token, observed, version
from calibrate.checkpoint import Checkpoint
from calibrate.client import ServerError
from calibrate.meter import Device, Meter
from calibrate.names import gpu_name, slug
from calibrate.phases import Phases, separate
from calibrate.points import Point, prefill
from calibrate.protocol import Window
from calibrate.serving import FEW_TOKENS
from calibrate.summary import columns
from profiles.llm import Llm
from profiles.profile import (
    POWER_UNKNOWN,
    Band,
    Idle,
    Memory,
    Mixed,
    MixedPoints,
    Profile,
    Provenance,
    Systematic,
)


def mixed_label(new: int, batch: int) -> str:
    """A mixed point in words; also its key in a checkpoint."""
    return f"mixed {new} beside {batch}"


def assemble(
    llm: Llm,
    meter: Meter,
    record: Checkpoint,
    points: list[Point],
    capacity: int,
    engine: str,
    gpu: str | None,
    tp: int,
    precision: str,
    date: str | None,
) -> Profile:
    """The profile of layer `step` from a record's windows.

    Raises:
        ServerError: the windows do not suffice.
    """
    about, idle_w = meter.device(), record.idle["loaded"].power_w
    front_s = _front_door_s(record, points)
    phases = separate(list(record.mixes.values()), idle_w) if record.mixes else None
    windows = {label: list(found) for label, found in record.windows.items()}
    least_s = min(w.time_s for p in points if p.phase == "decode" for w in windows.get(p.label, []))
    for point in points:
        if point.phase == "prefill":
            found = windows.get(point.label, [])
            windows[point.label] = [_prefill(window, front_s, least_s, idle_w, phases) for window in found]
    prefill_points, decode_points = columns(points, windows)
    return Profile(
        gpu=gpu or (gpu_name(about.name) if meter.kind == "nvml" else f"cpu-{slug(about.name)}"),
        model=llm.name,
        tp=tp,
        precision=precision,
        engine=engine,
        power_limit_w=about.power_limit_w,
        layer="step",
        provenance=_provenance(meter, about, engine, record, front_s, phases, date),
        band=Band(time=1.08, power=2.0 if meter.kind in ("estimate", "none") else 1.1),
        memory=Memory(
            weights_bytes=llm.weights_bytes(precision),
            kv_bytes_per_token=kv_bytes_per_token(llm, precision),
            kv_capacity_tokens=capacity,
        ),
        idle=Idle(loaded_w=idle_w),
        prefill=prefill_points,
        decode=decode_points,
        mixed=_mixed(record),
        systematic=Systematic(power_rel=meter.gain_rel),
    )


def _front_door_s(record: Checkpoint, points: list[Point]) -> float:
    """HTTP and tokenizer: what the time to first token of a few tokens has beyond one decode step."""
    few = [window.time_s for window in record.windows.get(prefill(FEW_TOKENS).label, [])]
    ones = [
        w.time_s for p in points if p.phase == "decode" and p.sequences == 1 for w in record.windows.get(p.label, [])
    ]
    if not few or not ones:
        raise ServerError("the server ran neither a single prompt nor a single decode; nothing can be told")
    return max(0.0, statistics.median(few) - min(ones))


def _prefill(window: Window, front_s: float, least_s: float, idle_w: float, phases: Phases | None) -> Window:
    """A prefill step without the front door; watts from a prompt token's energy, since single prompts leave gaps."""
    time_s = max(least_s, window.time_s - front_s)
    if phases is None or window.tokens is None:
        return replace(window, time_s=time_s, power_w=0.0, flags=[*window.flags, POWER_UNKNOWN])
    power_w = idle_w + max(0.0, phases.prefill_j) * window.tokens / time_s
    spread = phases.prefill_sd_j / phases.prefill_j if phases.prefill_j > 0 else 1.0
    return replace(window, time_s=time_s, power_w=power_w, polled_w=None, power_sem_rel=spread)


def _mixed(record: Checkpoint) -> Mixed:
    """The table of mixed steps, where any was measured."""
    rows = []
    for label, windows in record.windows.items():
        if label.startswith("mixed "):
            batch = int(label.rsplit(" ", 1)[1])
            tokens = round(statistics.fmean(w.tokens or 0.0 for w in windows))
            held = statistics.fmean(w.context or 1.0 for w in windows)
            rows.append((tokens, batch, held, statistics.fmean(w.time_s for w in windows)))
    if not rows:
        return Mixed()
    return Mixed(
        rule="table",
        points=MixedPoints(
            new_tokens=[tokens for tokens, _, _, _ in rows],
            past_tokens=[0] * len(rows),
            batch=[batch for _, batch, _, _ in rows],
            kv_tokens=[round(batch * held) for _, batch, held, _ in rows],
            time_s=[time_s for _, _, _, time_s in rows],
            power_w=[0.0] * len(rows),
            flags=[POWER_UNKNOWN] * len(rows),
        ),
    )


def _provenance(
    meter: Meter,
    about: Device,
    engine: str,
    record: Checkpoint,
    front_s: float,
    phases: Phases | None,
    date: str | None,
) -> Provenance:
    how = {"nvml": "NVML", "rapl": "RAPL, CPU packages alone", "csv": "wall power of the whole machine"}.get(meter.kind)
    notes = described(about)
    notes.append(f"the front door (HTTP, tokenizer) of {1000 * front_s:.1f} ms is taken off prefill times")
    if phases is not None:
        notes.append(
            f"energy above idle: {phases.prefill_j:.3g} J a prompt token (sd {phases.prefill_sd_j:.1g}), "
            f"{phases.decode_j:.3g} J an output token (sd {phases.decode_sd_j:.1g}), correlation "
            f"{phases.correlation:.2f}, residual {100 * phases.residual_rel:.1f} %"
        )
    if meter.kind == "estimate":
        notes.insert(0, "power is an ESTIMATE from the machine's CPU time, not a measurement; times are measured")
    if meter.kind == "none":
        notes.insert(0, "no meter: every power_w and idle watt is 0 and means unknown")
    versions = {"carbonfleet": version(), **({"driver": about.driver} if about.driver else {})}
    return Provenance(
        kind="predicted" if meter.kind == "estimate" else "measured",
        tier="T3" if meter.kind == "estimate" else "T0",
        source=f"carbonfleet calibrate, openai runner against {engine}" + (f", {how}" if how else ""),
        licence="own measurement",
        date=date or datetime.date.today().isoformat(),
        versions=versions,
        notes=[*notes, *observed(record), *record.notes],
    )
