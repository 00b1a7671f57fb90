"""StepModel: a Profile compiled to step time and step power.

Pure decode of B sequences holding K tokens takes a(B) + c(B) K seconds, piecewise affine in K where the measured
points bend; its power depends on B alone. Interpolation is linear in B (never in logs), power linear in log2 B.
Outside the measured range the last measured line goes on, and the step is marked extrapolated.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from profiles.mixed import MixedTable, SkewTable
from profiles.profile import DecodePoints, PrefillPoints, Profile


class Line(NamedTuple):
    """Decode at one batch size: time = a_s + c_s * K while K < kv_end, at power_w."""

    a_s: float
    c_s: float
    power_w: float
    kv_end: float
    extrapolated: bool


class MixedStep(NamedTuple):
    """A step that carries prefill chunks: its time, power and who caused it.

    `prefill_s` belongs to the chunks; each decoding sequence of context x owns decode_a_s / B + decode_c_s * x.
    """

    time_s: float
    power_w: float
    prefill_s: float
    decode_a_s: float
    decode_c_s: float
    extrapolated: bool


Unlike = tuple[float, float]  # of a batch: longest less mean context, (mean - shortest) / (longest - shortest)

# A NamedTuple's own constructor costs twice the tuple's; one step in two of a busy engine is mixed.
_tuple = tuple.__new__


class StepModel:
    """Step times and powers of one profile; see the module's text for the rules.

    Args:
        profile: the profile to compile.
        engine: add the profile's engine term (host work per step and per sequence) where it has one.
    """

    def __init__(self, profile: Profile, engine: bool = True) -> None:
        self.profile = profile
        self.kv_capacity_tokens = profile.memory.kv_capacity_tokens
        self.idle_w = profile.idle.loaded_w
        term = profile.engine_term if engine else None
        self._step_s, self._sequence_s = (term.step_s, term.sequence_s) if term else (0.0, 0.0)
        self._rows = _decode_rows(profile.decode)
        self._batches = sorted(self._rows)
        self._fastest_s = min(time_s for row in self._rows.values() for _, time_s in row)
        self._decode_power = _PowerByLog2(profile.decode.batch, profile.decode)
        self._prefill = _Prefill(profile.prefill)
        self._lines: dict[int, tuple[list[float], list[Line]]] = {}  # by batch: where each line ends, the lines
        self._whole: dict[int, MixedStep] = {}
        points = profile.mixed.points
        self._table = MixedTable(points, self._prefill.curve_s) if points is not None else None
        self.skew = SkewTable(profile.skew) if profile.skew is not None else None
        shared = profile.lockstep
        self._shared = list(zip(map(float, shared.tokens), shared.time_s, strict=True)) if shared else None
        self._scaled, self._factor = profile.mixed.rule == "scaled", profile.mixed.factor

    def decode(self, batch: int, kv_tokens: float) -> Line:
        """The line a decode step of `batch` sequences holding `kv_tokens` lies on."""
        try:
            ends, lines = self._lines[batch]
        except KeyError:
            lines = self._compile(batch)
            ends, lines = self._lines[batch] = [line.kv_end for line in lines], lines
        return lines[bisect_right(ends, kv_tokens)]

    def unlike(self, line: Line, batch: int, unlike: Unlike) -> Line:
        """The line for unlike contexts: while the batch stays, so does how unlike they are."""
        gap, rate = unlike
        share = self.skew.share(0, batch, rate) if self.skew is not None else 0.0
        return line._replace(a_s=line.a_s + share * line.c_s * batch * gap)

    def decode_time_s(self, batch: int, kv_tokens: float) -> float:
        """Seconds of one decode step."""
        line = self.decode(batch, kv_tokens)
        return line.a_s + line.c_s * kv_tokens

    def shared_s(self, tokens: int) -> float:
        """Seconds of experts and exchange in a step of ranks in lockstep that hold so many tokens together."""
        row = self._shared
        if not row:
            return 0.0
        return row[0][1] if tokens < row[0][0] else _at(row, float(tokens))

    def prefill(self, chunks: Sequence[tuple[int, int]]) -> MixedStep:
        """A step of prefill chunks alone, each (new tokens, past tokens)."""
        if len(chunks) == 1 and not chunks[0][1]:
            return self.prefill_one(chunks[0][0])
        return self._prefilled(chunks)

    def prefill_one(self, tokens: int) -> MixedStep:
        """One prompt from its beginning, whole or its first chunk: the common step, remembered."""
        step = self._whole.get(tokens)
        if step is None:
            step = self._whole[tokens] = self._prefilled([(tokens, 0)])
        return step

    def _prefilled(self, chunks: Sequence[tuple[int, int]]) -> MixedStep:
        tokens = sum([new for new, _ in chunks])
        time_s = self._prefill.time_s(chunks, tokens) + self._step_s + self._sequence_s * len(chunks)
        outside = tokens > self._prefill.longest
        return MixedStep(time_s, self._prefill.power_w(tokens), time_s, 0.0, 0.0, outside)

    def mixed(
        self, chunks: Sequence[tuple[int, int]], batch: int, kv_tokens: float, unlike: Unlike | None = None
    ) -> MixedStep:
        """Prefill chunks beside a decode batch, by the profile's `mixed` rule; with no batch, plain prefill."""
        if batch == 0:
            return self.prefill(chunks)
        if len(chunks) == 1:
            return self.mixed_one(*chunks[0], batch, kv_tokens, unlike)
        tokens, past = sum([new for new, _ in chunks]), sum([past for _, past in chunks])
        chunk_s = 0.0 if self._table is not None else self._prefill.time_s(chunks, tokens, batch)
        if unlike is not None:
            chunk_s += self._unlike_s(tokens, past, batch, kv_tokens, unlike)
        return self._beside(self._prefilled(chunks), len(chunks), tokens, past, chunk_s, batch, kv_tokens)

    def mixed_one(self, new: int, past: int, batch: int, kv_tokens: float, unlike: Unlike | None = None) -> MixedStep:
        """One chunk of `new` tokens, `past` of its prompt being there, beside a decode batch: the common mixed step."""
        alone = self._prefilled([(new, past)]) if past else self._whole.get(new) or self.prefill_one(new)
        chunk_s = 0.0 if self._table is not None else self._prefill.one_s(new, past, batch)
        if unlike is not None:
            chunk_s += self._unlike_s(new, past, batch, kv_tokens, unlike)
        return self._beside(alone, 1, new, past, chunk_s, batch, kv_tokens)

    def _unlike_s(self, new: int, past: int, batch: int, kv_tokens: float, unlike: Unlike) -> float:
        """What unlike contexts add to a mixed step, where its rule knows contexts."""
        if self.skew is None or self._scaled:
            return 0.0
        gap, rate = unlike
        if self._table is None:
            more_s = self._factor * self.decode(batch, kv_tokens).c_s * batch * gap
        else:
            mean = kv_tokens / batch
            more_s = self._table.beyond_s(new, past, batch, mean + gap) - self._table.beyond_s(new, past, batch, mean)
        return self.skew.share(new, batch, rate) * max(0.0, more_s)

    def _beside(
        self, alone: MixedStep, prompts: int, tokens: int, past: int, chunk_s: float, batch: int, kv_tokens: float
    ) -> MixedStep:
        """The step of `prompts` chunks (alone it is `alone`, with the batch's tokens `chunk_s`) beside a batch."""
        alone_s, alone_w, _, _, _, outside = alone
        a_s, c_s, power_w, _, beyond = self.decode(batch, kv_tokens)
        time_s = chunk_s + (self._step_s + self._sequence_s * (prompts + batch))
        decode_c = 0.0
        if self._table is not None:
            time_s += self._prefill.curve_s(tokens + batch)
            time_s += self._table.beyond_s(tokens, past, batch, kv_tokens / batch)
        elif self._scaled:
            time_s *= self._factor
        else:
            decode_c = self._factor * c_s
            time_s += decode_c * kv_tokens
        decode_s = a_s + c_s * kv_tokens
        if time_s < decode_s:
            time_s = decode_s
        if time_s < alone_s:
            time_s = alone_s
        rest = time_s - alone_s
        if decode_c:
            most = rest / kv_tokens
            if most < decode_c:
                decode_c = most
            rest -= decode_c * kv_tokens
            if rest < 0.0:
                rest = 0.0
        if power_w < alone_w:
            power_w = alone_w
        return _tuple(MixedStep, (time_s, power_w, alone_s, rest, decode_c, outside or beyond))

    def _compile(self, batch: int) -> list[Line]:
        """The affine pieces in K at one batch size, from the measured batches on either side."""
        below, above, weight, outside = _around(self._batches, batch)
        rows = (self._rows[below], self._rows[above])
        knots = sorted({context for row in rows for context, _ in row})
        # beyond the measured batches noise can bend the line down: no step is faster than the fastest measured
        times = [max(_mix(_at(rows[0], x), _at(rows[1], x), weight), self._fastest_s) for x in knots]
        times = [time_s + self._host_s(batch) for time_s in times]
        power = self._decode_power(batch)
        if len(knots) == 1:
            return [Line(times[0], 0.0, power, math.inf, outside)]
        lines = []
        for (x0, x1), (t0, t1) in zip(_pairs(knots), _pairs(times), strict=True):
            slope = max(0.0, (t1 - t0) / ((x1 - x0) * batch))
            lines.append(Line(t0 - slope * x0 * batch, slope, power, x1 * batch, outside))
        if lines[0].a_s < 0.1 * self._fastest_s:  # a wild slope, which would reach zero: hold the first point instead
            lines.insert(0, Line(times[0], 0.0, power, knots[0] * batch, outside))
        last = lines[-1]
        return [*_merged(lines), last._replace(kv_end=math.inf, extrapolated=True)]

    def _host_s(self, batch: int) -> float:
        return self._step_s + self._sequence_s * batch


def _mix(low: float, high: float, weight: float) -> float:
    """Linear between `low` and `high`; equal ends stay exactly equal."""
    return low + (high - low) * weight


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    return list(zip(values, values[1:], strict=False))


def _merged(lines: list[Line]) -> list[Line]:
    """Join neighbouring pieces that are the same line, so that a straight table costs one piece."""
    kept = [lines[0]]
    for line in lines[1:]:
        before = kept[-1]
        same = math.isclose(before.a_s, line.a_s, rel_tol=1e-12) and math.isclose(before.c_s, line.c_s, rel_tol=1e-12)
        if same:
            kept[-1] = before._replace(kv_end=line.kv_end)
        else:
            kept.append(line)
    return kept


def _decode_rows(points: DecodePoints) -> dict[int, list[tuple[float, float]]]:
    """Measured batch -> sorted (mean context, time)."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for i in points.valid:
        rows.setdefault(points.batch[i], []).append((points.kv_tokens[i] / points.batch[i], points.time_s[i]))
    return {batch: sorted(row) for batch, row in rows.items()}


def _at(row: list[tuple[float, float]], x: float) -> float:
    """Linear interpolation in a sorted row; beyond its ends the outer piece goes on."""
    if len(row) == 1:
        return row[0][1]
    i = min(max(bisect_left(row, (x, -math.inf)), 1), len(row) - 1)
    (x0, y0), (x1, y1) = row[i - 1], row[i]
    return y0 if x == x0 else y1 if x == x1 else _mix(y0, y1, (x - x0) / (x1 - x0))


def _around(measured: list[int], batch: int) -> tuple[int, int, float, bool]:
    """The measured batches to interpolate between, the weight of the upper one, and whether this is outside."""
    if len(measured) == 1:
        return measured[0], measured[0], 0.0, batch != measured[0]
    i = min(max(bisect_left(measured, batch), 1), len(measured) - 1)
    low, high = measured[i - 1], measured[i]
    return low, high, (batch - low) / (high - low), not measured[0] <= batch <= measured[-1]


class _PowerByLog2:
    """Power against a size: linear in log2, constant beyond the ends; repeated sizes are averaged."""

    def __init__(self, sizes: list[int], points: DecodePoints | PrefillPoints) -> None:
        by_size: dict[int, list[float]] = {}
        for i in points.valid:
            by_size.setdefault(sizes[i], []).append(points.power_w[i])
        self._row = [(math.log2(size), sum(w) / len(w)) for size, w in sorted(by_size.items())]
        self._known: dict[int, float] = {}

    def __call__(self, size: int) -> float:
        power_w = self._known.get(size)
        if power_w is None:
            x = min(max(math.log2(size), self._row[0][0]), self._row[-1][0])
            power_w = self._known[size] = _at(self._row, x)
        return power_w


class _Prefill:
    """Time of prefill: a curve P(n) of first chunks, and seconds per attended pair for what came before.

    P(n) holds n^2/2 pairs of its own; a step of several chunks is corrected to the pairs it really has.
    """

    def __init__(self, points: PrefillPoints) -> None:
        curve: dict[int, list[float]] = {}
        for i in points.valid:
            if points.past_tokens[i] == 0 and points.sequences[i] == 1:
                curve.setdefault(points.new_tokens[i], []).append(points.time_s[i])
        if not curve:
            for i in points.valid:
                if points.past_tokens[i] == 0:
                    curve.setdefault(points.new_tokens[i], []).append(points.time_s[i])
        self._row = [(float(n), sum(t) / len(t)) for n, t in sorted(curve.items())]
        self.longest = self._row[-1][0]  # more tokens than that are extrapolated
        self._fastest_s = min(time_s for _, time_s in self._row)
        self._known: dict[int, float] = {}
        self.power_w = _PowerByLog2(points.new_tokens, points)
        self.pair_s = self._fit_pairs(points)

    def _fit_pairs(self, points: PrefillPoints) -> float:
        """Seconds per attended (new, past) pair: least squares over the points with a past, 0 without any."""
        top = bottom = 0.0
        for i in points.valid:
            pairs = points.new_tokens[i] * points.past_tokens[i] / points.sequences[i]
            if pairs:
                top += pairs * (points.time_s[i] - _at(self._row, points.new_tokens[i]))
                bottom += pairs * pairs
        return max(0.0, top / bottom) if bottom else 0.0

    def time_s(self, chunks: Sequence[tuple[int, int]], tokens: int, extra: int = 0) -> float:
        """Seconds; `extra` decode tokens ride along in the linear layers."""
        if len(chunks) == 1:
            return self.one_s(*chunks[0], extra)
        linear = tokens + extra
        curve = self.curve_s(linear)
        if self.pair_s:
            pairs = sum([new * (past + 0.5 * new) for new, past in chunks])
            curve += self.pair_s * (pairs - 0.5 * linear * linear)
            least = self.curve_s(max(chunks)[0])
            if curve < least:
                return least
        return curve

    def one_s(self, new: int, past: int, extra: int) -> float:
        """As `time_s` of one chunk."""
        linear = new + extra
        known, pair_s = self._known, self.pair_s
        curve = known.get(linear) or self.curve_s(linear)
        if pair_s:
            curve += pair_s * (new * (past + 0.5 * new) - 0.5 * linear * linear)
            least = known.get(new) or self.curve_s(new)
            if curve < least:
                return least
        return curve

    def curve_s(self, tokens: int) -> float:
        """P(n): linear between points and beyond the last; the smallest measured time is a floor."""
        time_s = self._known.get(tokens)
        if time_s is None:
            time_s = self._row[0][1] if tokens < self._row[0][0] else _at(self._row, tokens)
            self._known[tokens] = time_s = max(time_s, self._fastest_s)
        return time_s
