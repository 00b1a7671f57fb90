"""A trace: which requests arrive when, and how many tokens each brings and asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import InputError
from sim.columns import blocks, release

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival; the arrays are read-only.

    arrival_s: seconds since the first arrival (the first is 0.0), ascending; equal times keep their order.
    prompt_tokens, output_tokens: at least one each.
    start_utc_s: when the first request came, in seconds since 1970 UTC, where the source has dates.
    source: the file, or the generator's settings; format: which format was recognised.
    skipped_rows: bad rows the user allowed and that were left out.
    model, slo_class: each request's, as an index into the run's models and classes; None where there is one of it.
    hash_ids, hash_offsets: prefix blocks; request i has hash_ids[hash_offsets[i]:hash_offsets[i + 1]], each naming
        `hash_tokens` tokens and all before them (the last may be cut short).
    notes: what a reader of the result must know (time zone assumed, columns ignored).
    maps: of temporary files that hold the arrays of a long trace (sim.columns); they go with it.

    Raises:
        InputError: lengths differ, no request, times not ascending from 0.0, fewer than one token.
    """

    name: str
    arrival_s: Floats
    prompt_tokens: Tokens
    output_tokens: Tokens
    start_utc_s: float | None = None
    source: str = ""
    skipped_rows: int = 0
    hash_ids: Ints | None = None
    hash_offsets: Ints | None = None
    hash_tokens: int = 512
    model: Tokens | None = None
    slo_class: Tokens | None = None
    format: str = ""
    notes: tuple[str, ...] = ()
    maps: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("arrival_s", np.float64), ("prompt_tokens", np.int32), ("output_tokens", np.int32)):
            self._freeze(name, kind)
        if self.hash_ids is not None:
            self._freeze("hash_ids", np.int64)
            self._freeze("hash_offsets", np.int64)
        for name in ("model", "slo_class"):
            if getattr(self, name) is not None:
                self._freeze(name, np.int32)
        self._check()

    def _freeze(self, name: str, kind: type[np.generic]) -> None:
        array = np.asarray(getattr(self, name), dtype=kind).view()  # a view: what was given stays as it is
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check(self) -> None:
        n = len(self.arrival_s)
        if not n:
            raise InputError("no requests", file=self.name, mend="a trace needs at least one")
        if len(self.prompt_tokens) != n or len(self.output_tokens) != n:
            raise InputError("arrays of different length", file=self.name)
        if self.arrival_s[0] != 0 or not np.isfinite(self.arrival_s[-1]):
            raise InputError("times must ascend from 0.0", file=self.name, field="arrival_s")
        for part in blocks(n):
            times = self.arrival_s[max(0, part.start - 1) : part.stop]
            if not (times[1:] >= times[:-1]).all():  # NaN is neither above nor below anything
                raise InputError("times must ascend from 0.0", file=self.name, field="arrival_s")
            if min(self.prompt_tokens[part].min(), self.output_tokens[part].min()) < 1:
                raise InputError("every request needs at least one prompt and one output token", file=self.name)
            release(self.maps)
        if self.hash_ids is not None and (self.hash_offsets is None or len(self.hash_offsets) != n + 1):
            raise InputError("hash_offsets must have one entry more than there are requests", file=self.name)

    @property
    def requests(self) -> int:
        """How many requests."""
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.arrival_s[-1])

    @property
    def prompt_total(self) -> int:
        """Prompt tokens of all requests."""
        return int(self.prompt_tokens.sum())

    @property
    def output_total(self) -> int:
        """Output tokens of all requests."""
        return int(self.output_tokens.sum())

    def head(self, n: int) -> Trace:
        """The first `n` requests (all, when there are fewer).

        Raises:
            InputError: n is below one.
        """
        return self._rows(0, min(n, self.requests))

    def slice(self, from_s: float, to_s: float) -> Trace:
        """The requests that arrive in [from_s, to_s); the first of them becomes second 0.0.

        Raises:
            InputError: none arrives then.
        """
        low, high = np.searchsorted(self.arrival_s, [from_s, to_s])
        return self._rows(int(low), int(high))

    def _rows(self, low: int, high: int) -> Trace:
        if high <= low:
            raise InputError(
                "no requests in that part", file=self.name, mend=f"{self.requests} arrive in {self.span_s:g} s"
            )
        first_s = float(self.arrival_s[low])
        ids, offsets = self.hash_ids, self.hash_offsets
        if ids is not None and offsets is not None:
            ids, offsets = ids[offsets[low] : offsets[high]], offsets[low : high + 1] - offsets[low]
        return replace(
            self,
            arrival_s=self.arrival_s[low:high] - first_s,
            prompt_tokens=self.prompt_tokens[low:high],
            output_tokens=self.output_tokens[low:high],
            start_utc_s=None if self.start_utc_s is None else self.start_utc_s + first_s,
            hash_ids=ids,
            hash_offsets=offsets,
            model=None if self.model is None else self.model[low:high],
            slo_class=None if self.slo_class is None else self.slo_class[low:high],
        )

    def summary(self) -> str:
        """One line on what was recognised: format, requests, span, tokens, start."""
        start = "" if self.start_utc_s is None else f", from {datetime.fromtimestamp(self.start_utc_s, UTC):%FT%TZ}"
        skipped = f", {self.skipped_rows} bad rows skipped" if self.skipped_rows else ""
        return (
            f"{self.name}: {self.format or 'trace'}, {self.requests:,} requests in {self.span_s:,.0f} s, "
            f"{self.prompt_total:,} prompt and {self.output_total:,} output tokens{start}{skipped}"
        )
