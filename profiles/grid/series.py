"""Times and intensities as they were read, made into a Signal: steps checked, gaps found, nothing guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from profiles.grid.signal import MAX_G_PER_KWH, Kind, Scope, Signal, utc
from profiles.inputs import InputError
from profiles.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Origin:
    """What a format says about its figures."""

    source: str
    licence: str
    kind: Kind
    scope: Scope
    zone: str = ""
    estimated_share: float | None = None
    notes: tuple[str, ...] = ()


def assemble(
    path: str | Path,
    times_s: Sequence[float],
    g_per_kwh: Sequence[float],
    origin: Origin,
    refuse: Callable[[int, str], InputError],
) -> Signal:
    """Ascending times and their values as a Signal; hours that are missing, and NaN values, become gaps.

    Args:
        refuse: makes the error for a row by its index.

    Raises:
        InputError: fewer than two rows, or a row off the series' own step.
    """
    if len(times_s) < 2:
        what = f"{len(times_s)} row(s) of figures, and an interval's length shows only from two"
        raise InputError(what, file=path, mend="give a longer series or a number for a constant")
    start, values = np.array(times_s, dtype=np.float64), np.array(g_per_kwh, dtype=np.float64)
    steps = np.diff(start)
    lengths, counts = np.unique(steps, return_counts=True)
    step = float(lengths[np.argmax(counts)])
    odd = np.flatnonzero(steps % step)
    if odd.size:
        raise refuse(
            int(odd[0]) + 1, f"{steps[odd[0]]:g} s after the time before, where the series steps by {step:g} s"
        )
    holes = np.flatnonzero(steps > step)
    missing_s = float((steps[holes] - step).sum()) + step * int(np.isnan(values).sum())
    notes = origin.notes
    if missing_s:
        first = min([*(start[holes[:1]] + step), *start[np.isnan(values)][:1]])
        notes = (*notes, f"{missing_s / SECONDS_PER_HOUR:g} h are missing in the series, the first at {utc(first)}")
    name = Path(path).name
    return Signal(
        name=f"{origin.zone} ({name})" if origin.zone else name,
        zone=origin.zone,
        kind=origin.kind,
        scope=origin.scope,
        source=f"{origin.source}, file {name}",
        licence=origin.licence,
        estimated_share=origin.estimated_share,
        start_s=np.insert(start, holes + 1, start[holes] + step),
        end_s=float(start[-1]) + step,
        g_per_kwh=np.insert(values, holes + 1, np.nan),
        notes=notes,
    )


def epoch_s(text: str, naive_is_utc: bool) -> float | str:
    """UTC epoch seconds of an ISO 8601 time, or what is wrong with it."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return f"{text!r} is not a time such as 2023-01-01T00:00:00Z"
    if moment.tzinfo is None:
        if not naive_is_utc:
            return f"{text!r} has no UTC offset and the header does not say UTC; end it in Z or name the column *_utc"
        moment = moment.replace(tzinfo=UTC)
    if not 1970 <= moment.year < 2200:
        return f"{text!r} is not in the years 1970 to 2199"
    return moment.timestamp()


def intensity(text: str, factor: float = 1.0) -> float | str:
    """g/kWh of a figure times `factor`, or what is wrong with it."""
    try:
        value = float(text) * factor
    except ValueError:
        value = float("nan")
    if "_" in text or not 0 <= value <= MAX_G_PER_KWH:
        return f"{text!r} is not a carbon intensity from 0 to {MAX_G_PER_KWH:g} g/kWh"
    return value


def state_kind(found: Kind | None, asked: Kind | None, what: str) -> Kind:
    """The kind a format states, or the one asked for where it states none.

    Raises:
        InputError: neither is stated, or they contradict each other.
    """
    if found is None and asked is None:
        raise InputError(f"{what} does not say whether it is average or marginal", field="kind", mend="state the kind")
    if found is not None and asked is not None and found != asked:
        raise InputError(f"{what} is {found}, asked was {asked}", field="kind", mend=f"ask for kind {found}")
    return found or asked or "average"


def state_scope(found: Scope | None, asked: Scope | None, what: str) -> tuple[Scope, tuple[str, ...]]:
    """The scope, and a note where the format states none.

    Raises:
        InputError: the format states another than was asked for.
    """
    if found is not None and asked is not None and found != asked:
        raise InputError(f"{what} is {found}, asked was {asked}", field="scope", mend=f"ask for scope {found}")
    scope: Scope = asked or found or "lifecycle"
    return scope, () if found else (f"{what} names no scope: taken as {scope}",)
