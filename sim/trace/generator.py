"""A trace made up by rule: when requests come and how long they are, the same for the same seed.

Arrivals: a renewal process is drawn in operational time, in which the mean rate is one a second, and every point is
moved to the real time at which the integral of the rate reaches it. Rates are constant within an hour, so the
integral is piecewise linear and its inverse exact (Cinlar, Introduction to Stochastic Processes, 1975: time change).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from profiles.fields import Positive, Spec
from profiles.inputs import InputError, near_miss
from profiles.units import SECONDS_PER_HOUR
from sim.columns import Spool, blocks
from sim.trace.faults import MAX_TOKENS
from sim.trace.joint import PRESETS, preset
from sim.trace.model import Floats, Trace
from sim.trace.model import Tokens as TokenColumn
from sim.trace.shape import DAY_FACTORS, HOURLY_FACTORS, SHAPE_NOTE, week_factors

MAX_REQUESTS = 50_000_000
_Z90 = 1.2815515655446004  # the 90 % point of the normal distribution
_MEAN_TOLERANCE = 0.005
_WEEK_HOURS = 168

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Fixed(Spec):
    """Every request has the same length."""

    distribution: Literal["fixed"]
    tokens: Tokens


class Lognormal(Spec):
    """Lengths whose logarithm is normal, given by median and 90 % point."""

    distribution: Literal["lognormal"]
    p50_tokens: Annotated[float, Field(ge=1, le=MAX_TOKENS)]
    p90_tokens: Annotated[float, Field(ge=1, le=MAX_TOKENS)]

    @model_validator(mode="after")
    def _p90_is_above(self) -> Lognormal:
        if self.p90_tokens < self.p50_tokens:
            raise ValueError("p90_tokens is below p50_tokens; the 90 % point is the higher one")
        return self


class Quantiles(Spec):
    """Lengths by a table of quantiles, straight lines between its points; levels go from 0 to 1."""

    distribution: Literal["quantiles"]
    levels: Annotated[tuple[float, ...], Field(min_length=2)]
    tokens: tuple[Tokens, ...]

    @model_validator(mode="after")
    def _is_a_table(self) -> Quantiles:
        if len(self.levels) != len(self.tokens):
            raise ValueError("levels and tokens differ in length; give one token count for each level")
        if self.levels[0] != 0 or self.levels[-1] != 1 or not (np.diff(self.levels) > 0).all():
            raise ValueError("levels must ascend from 0 to 1")
        if (np.diff(self.tokens) < 0).any():
            raise ValueError("tokens must not fall with the level")
        return self


Length = Annotated[Fixed | Lognormal | Quantiles, Field(discriminator="distribution")]


class Lengths(Spec):
    """Prompt and output lengths drawn independently of each other; a preset keeps them together."""

    prompt: Length
    output: Length


def _preset_or_own(value: Any) -> str:
    return "preset" if isinstance(value, str) else "own"


class GeneratorSpec(Spec):
    """What to generate.

    rate_per_s: mean requests a second over the shape's whole period (a day, a week).
    process: poisson, gamma (with cv, the coefficient of variation of the gaps: 1 is Poisson, more is burstier) or
        uniform (equal gaps).
    shape: flat; diurnal, 24 hourly factors; weekly, those times 7 day factors from Monday. Factors have mean 1;
        the shipped ones are modelled (sim.trace.shape).
    starts_at_hour: where in the shape the trace begins, in hours since Monday 0 h.
    lengths: a preset fitted to a public trace, or distributions of your own.
    max_prompt_tokens, max_output_tokens: longer ones are cut to this.
    """

    duration_s: Positive
    rate_per_s: Positive
    process: Literal["poisson", "gamma", "uniform"] = "poisson"
    cv: Annotated[float, Field(gt=0, le=30)] | None = None
    shape: Literal["flat", "diurnal", "weekly"] = "flat"
    hourly_factors: tuple[Positive, ...] | None = None
    day_factors: tuple[Positive, ...] | None = None
    starts_at_hour: Annotated[float, Field(ge=0, lt=_WEEK_HOURS)] = 0.0
    lengths: Annotated[
        Annotated[str, Tag("preset")] | Annotated[Lengths, Tag("own")], Discriminator(_preset_or_own)
    ] = "azure-conv"
    max_prompt_tokens: Tokens = MAX_TOKENS
    max_output_tokens: Tokens = MAX_TOKENS

    @field_validator("lengths")
    @classmethod
    def _preset_is_known(cls, value: str | Lengths) -> str | Lengths:
        if isinstance(value, str) and value not in PRESETS:
            raise ValueError(f"unknown preset {value!r}; {near_miss(value, PRESETS)}")
        return value

    @field_validator("hourly_factors", "day_factors")
    @classmethod
    def _mean_is_one(cls, value: tuple[float, ...] | None, info: Any) -> tuple[float, ...] | None:
        if value is None:
            return None
        count = 24 if info.field_name == "hourly_factors" else 7
        if len(value) != count:
            raise ValueError(f"has {len(value)} values; give {count}")
        mean = math.fsum(value) / count
        if abs(mean - 1.0) > _MEAN_TOLERANCE:
            raise ValueError(f"has the mean {mean:.4g}; divide all by it, so that rate_per_s stays the mean rate")
        return tuple(factor / mean for factor in value)

    @model_validator(mode="after")
    def _settings_fit(self) -> GeneratorSpec:
        if (self.process == "gamma") != (self.cv is not None):
            raise ValueError("cv belongs to process gamma: give both or neither")
        if self.hourly_factors is not None and self.shape == "flat":
            raise ValueError("hourly_factors have no effect on shape flat; write shape: diurnal or weekly")
        if self.day_factors is not None and self.shape != "weekly":
            raise ValueError("day_factors need shape: weekly")
        if self.starts_at_hour and self.shape == "flat":
            raise ValueError("starts_at_hour has no effect on shape flat")
        if self.duration_s * self.rate_per_s > MAX_REQUESTS / 2:
            raise ValueError(f"duration_s x rate_per_s is more than {MAX_REQUESTS // 2:,} requests")
        return self


def generate(spec: GeneratorSpec, seed: int, *, like: Trace | None = None, scratch: str | Path | None = None) -> Trace:
    """The trace of a spec and a seed. One request arrives at second 0, all before duration_s.

    like: draw pairs of lengths (with replacement) from this trace instead of `spec.lengths`.
    scratch: folder for the temporary files of a long trace; default: the system's.
    Arrivals and lengths have random streams of their own: other lengths leave the arrivals as they are.
    The same arrays come from the same seed and NumPy version.

    Raises:
        InputError: the seed is negative.
        OutputError: the temporary files do not fit the disk.
    """
    if seed < 0:
        raise InputError(f"{seed} is negative", field="seed", mend="give 0 or more")
    arrivals, lengths = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(2))
    columns = Spool("d", 1, scratch), Spool("i", 1, scratch), Spool("i", 1, scratch)
    for times in _arrivals(spec, arrivals):
        columns[0].append(times)
    for tokens, column in _lengths(spec, columns[0].size, lengths, like):
        columns[column].append(tokens)
    (arrival_s, prompt, output), maps = zip(*(each.column() for each in columns), strict=True)
    modelled = (spec.shape != "flat" and spec.hourly_factors is None) or (
        spec.shape == "weekly" and spec.day_factors is None
    )
    settings = spec.model_dump_json(exclude_defaults=True)
    return Trace(
        name="generated" if like is None else f"generated like {like.name}",
        arrival_s=arrival_s,
        prompt_tokens=prompt,
        output_tokens=output,
        source=f"generator {settings} seed {seed}" + (f" lengths of {like.source or like.name}" if like else ""),
        format="generator",
        notes=(SHAPE_NOTE,) if modelled else (),
        maps=sum(maps, ()),
    )


def rate_steps(spec: GeneratorSpec) -> tuple[Floats, Floats]:
    """The rate over the trace: times at which it changes (n + 1, from 0 to duration_s) and the n rates per second."""
    if spec.shape == "flat":
        return np.array([0.0, spec.duration_s]), np.array([spec.rate_per_s])
    hourly = spec.hourly_factors or HOURLY_FACTORS
    daily = (spec.day_factors or DAY_FACTORS) if spec.shape == "weekly" else (1.0,) * 7
    factors = week_factors(hourly, daily)
    first = math.floor(spec.starts_at_hour)
    last = max(math.ceil(spec.starts_at_hour + spec.duration_s / SECONDS_PER_HOUR), first + 1)
    hours = np.arange(first, last)
    edges = np.minimum((np.append(hours, last) - spec.starts_at_hour) * SECONDS_PER_HOUR, spec.duration_s)
    edges[0], edges[-1] = 0.0, spec.duration_s
    return edges, spec.rate_per_s * factors[hours % _WEEK_HOURS]


def _arrivals(spec: GeneratorSpec, rng: np.random.Generator) -> Iterator[Floats]:
    """Times of arrival, block by block."""
    edges, rates = rate_steps(spec)
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    for points in _unit_points(spec, float(expected[-1]), rng):
        arrival_s = np.interp(points, expected, edges)
        yield arrival_s[arrival_s < spec.duration_s]  # rounding may put the last one on the end


def _unit_points(spec: GeneratorSpec, end: float, rng: np.random.Generator) -> Iterator[Floats]:
    """Points of a renewal process with mean gap 1 in [0, end), the first at 0, block by block."""
    if spec.process == "uniform":
        for part in blocks(math.ceil(end)):
            yield np.arange(part.start, part.stop, dtype=np.float64)
        return
    cv = 1.0 if spec.cv is None else spec.cv
    yield np.zeros(1)
    last = 0.0
    while last < end:
        count = int((end - last) * 1.02 + 6.0 * cv * math.sqrt(end - last)) + 16
        passed = 0.0
        for part in blocks(count):
            size = part.stop - part.start
            gaps = rng.standard_exponential(size) if spec.cv is None else rng.gamma(cv**-2, cv**2, size)
            gaps[0] += passed
            sums = np.cumsum(gaps)
            passed = float(sums[-1])
            points = last + sums
            yield points[points < end]
            if last + passed >= end:
                return
        last += passed


def _lengths(
    spec: GeneratorSpec, count: int, rng: np.random.Generator, like: Trace | None
) -> Iterator[tuple[TokenColumn, int]]:
    """Tokens block by block, each with its column: 1 for prompts, 2 for outputs."""
    most, parts = (0, spec.max_prompt_tokens, spec.max_output_tokens), [*blocks(count)]
    again = copy.deepcopy(rng)
    for column in (1, 2):
        for part in parts:
            size = part.stop - part.start
            drawn: Any
            if like is not None:
                row = (rng, again)[column - 1].integers(0, like.requests, size)
                drawn = (like.prompt_tokens, like.output_tokens)[column - 1][row]
            elif not isinstance(spec.lengths, str):
                drawn = _draw((spec.lengths.prompt, spec.lengths.output)[column - 1], size, rng)
            elif column == 1:
                drawn = preset(spec.lengths).prompts(rng.random(size))
            else:  # outputs go with prompts: these are drawn again
                drawn = preset(spec.lengths).outputs(again.random(size), rng.random(size))
            yield _whole(drawn, most[column]), column


def _draw(length: Fixed | Lognormal | Quantiles, count: int, rng: np.random.Generator) -> Floats:
    if isinstance(length, Fixed):
        return np.full(count, float(length.tokens))
    if isinstance(length, Lognormal):
        sigma = math.log(length.p90_tokens / length.p50_tokens) / _Z90
        return length.p50_tokens * np.exp(sigma * rng.standard_normal(count))
    return np.interp(rng.random(count), length.levels, length.tokens)


def _whole(tokens: Any, cap: int) -> TokenColumn:
    """Whole token counts of at least one and at most `cap`."""
    whole: TokenColumn = np.clip(np.rint(tokens), 1, cap).astype(np.int32)
    return whole
