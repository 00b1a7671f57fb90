"""The sweep a user writes in YAML: a scenario or a study, and the keys to vary over a grid, cases or drawn samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from carbonfleet.config import UsageError, put, setting
from optimizer import study as studies
from profiles.fields import Spec
from profiles.inputs import InputError, read_yaml, validate
from sim import scenario as scenarios

MOST_POINTS = 20_000  # all are resolved before the first is made: some 15 kB each, and 1 ms
Values = Annotated[list[Any], Field(min_length=1)]
Lines = dict[tuple[Any, ...], int]


class Drawn(Spec):
    """How a key is drawn: between `low` and `high` (evenly, or evenly in its logarithm), or one of `values`."""

    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False  # whole numbers, both ends included
    values: Values | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Drawn:
        if (self.values is None) == (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("give either low and high, or values")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) is not below high ({self.high:g})")
        if self.scale == "log" and (self.low is None or self.low <= 0):
            raise ValueError("a logarithmic scale needs a low above 0")
        if self.integer and (self.low is None or self.low % 1 or (self.high or 0.0) % 1):
            raise ValueError("integer needs a whole low and high")
        return self

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the range."""
        if self.values is not None:
            return self.values[int(share * len(self.values))]
        assert self.low is not None
        assert self.high is not None
        low, high = self.low, self.high + self.integer
        value = low * (high / low) ** share if self.scale == "log" else low + share * (high - low)
        return min(math.floor(value), int(self.high)) if self.integer else min(value, self.high)


class Sample(Spec):
    """A drawn design: so many points that fill the space of its keys, the same for the same seed."""

    points: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    method: Literal["latin-hypercube", "sobol", "random"] = "latin-hypercube"
    seed: Annotated[int, Field(ge=0)] = 0
    keys: dict[str, Drawn] = Field(min_length=1)

    @model_validator(mode="after")
    def _balanced(self) -> Sample:
        if self.method == "sobol" and self.points & (self.points - 1):
            below = 1 << self.points.bit_length() - 1
            raise ValueError(f"a Sobol sequence is balanced at powers of two: give {below} or {2 * below} points")
        return self

    def rows(self) -> list[dict[str, Any]]:
        """The settings of every point."""
        import numpy as np
        from scipy.stats import qmc

        if self.method == "random":
            shares = np.random.default_rng(self.seed).random((self.points, len(self.keys)))
        else:
            engine = {"latin-hypercube": qmc.LatinHypercube, "sobol": qmc.Sobol}[self.method]
            shares = engine(len(self.keys), rng=self.seed).random(self.points)
        return [
            {key: drawn.at(share) for (key, drawn), share in zip(self.keys.items(), row, strict=True)}
            for row in shares.tolist()
        ]


class Sweep(Spec):
    """One sweep: what to run, and what to vary. Every case meets every grid combination and every sample."""

    name: str | None = None
    scenario: str | dict[str, Any] | None = None
    study: str | dict[str, Any] | None = None
    replay: bool = True  # of a study: replay and correct each plan as optimize does
    grid: dict[str, Values] = Field(default={})
    cases: list[dict[str, Any]] = Field(default=[])  # keys that change together
    sample: Sample | None = None
    objectives: dict[str, Literal["min", "max"]] = Field(default={})

    @model_validator(mode="after")
    def _hangs_together(self) -> Sweep:
        if (self.scenario is None) == (self.study is None):
            raise ValueError("give either a scenario or a study, as a file's name or written out")
        if not (self.grid or self.cases or self.sample):
            raise ValueError("nothing varies: give grid, cases or sample")
        parts = [set(self.grid), {key for case in self.cases for key in case}]
        parts.append(set(self.sample.keys) if self.sample else set())
        twice = [key for i, part in enumerate(parts) for other in parts[i + 1 :] for key in sorted(part & other)]
        if twice:
            raise ValueError(f"{twice[0]} is varied twice; leave it in one of grid, cases and sample")
        count = (self.sample.points if self.sample else 1) * max(1, len(self.cases))
        count *= math.prod(len(values) for values in self.grid.values())
        if count > MOST_POINTS:
            raise ValueError(f"{count:,} points are more than {MOST_POINTS:,}; draw a sample instead of a grid")
        return self

    def settings(self) -> Iterator[dict[str, Any]]:
        """What each point sets, in order: cases slowest, samples fastest."""
        samples = self.sample.rows() if self.sample else [{}]
        grid = [dict(zip(self.grid, row, strict=True)) for row in product(*self.grid.values())]
        for case, cell, sample in product(self.cases or [{}], grid, samples):
            yield {**case, **cell, **sample}


class Kind(NamedTuple):
    """Scenarios and studies as a sweep meets them: their model, how a file is read and how paths are resolved."""

    model: type[BaseModel]
    read: Any
    anchored: Any


KINDS = {
    "scenario": Kind(scenarios.Scenario, scenarios.read, scenarios.anchored),
    "study": Kind(studies.Study, studies.read, studies.anchored),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point: what it sets, and the resolved scenario or study, or why there is none."""

    number: int
    settings: dict[str, Any]
    config: dict[str, Any] | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """A sweep with its points resolved and checked."""

    sweep: Sweep
    file: Path
    kind: str  # "scenario" or "study"
    points: list[Point]

    @property
    def name(self) -> str:
        """What the sweep is called; by default as its file."""
        return self.sweep.name or self.file.stem

    @property
    def keys(self) -> list[str]:
        """The keys that are varied: of cases, grid and sample."""
        drawn = self.sweep.sample.keys if self.sweep.sample else {}
        return list(dict.fromkeys([*(key for case in self.sweep.cases for key in case), *self.sweep.grid, *drawn]))


def read(path: str | Path, settings: Sequence[str] = ()) -> Design:
    """Read a sweep and resolve every point; relative paths are taken from the file they stand in.

    A combination of values that no scenario can have becomes a point with an error; a key that does not exist and a
    value that no combination could save stop everything.

    Args:
        settings: `key=value` over the scenario or study before anything is varied.

    Raises:
        InputError: not readable, an unknown key (with its line and the near miss), a refused value.
    """
    file = Path(path)
    data, lines = read_yaml(file)
    sweep = validate(Sweep, data, file=file, lines=lines)
    kind = "scenario" if sweep.scenario is not None else "study"
    base = _base(sweep, kind, file, lines)
    for text in settings:
        key, value = setting(text)
        put(base, key, value, field=f"--set {text}")
    if settings:
        validate(KINDS[kind].model, base, file=f"{file} with --set")
    resolver = _Resolver(KINDS[kind], base, sweep, file, lines)
    return Design(sweep, file, kind, [resolver.point(n, row) for n, row in enumerate(sweep.settings())])


def _base(sweep: Sweep, kind: str, file: Path, lines: Lines) -> dict[str, Any]:
    """What the points have in common, with its paths resolved and every default in it, so that keys can be found."""
    asked = getattr(sweep, kind)
    if isinstance(asked, str):
        there = asked if Path(asked).is_absolute() else file.parent / asked
        model = KINDS[kind].read(there)
    else:
        inside = {where[1:]: line for where, line in lines.items() if where[:1] == (kind,)}
        found = validate(KINDS[kind].model, asked, file=file, lines=inside)
        model = KINDS[kind].anchored(found, file.parent)
    document: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return document


class _Resolver:
    """Lays settings over the base and checks what comes out."""

    def __init__(self, kind: Kind, base: dict[str, Any], sweep: Sweep, file: Path, lines: Lines) -> None:
        self._kind, self._base, self._sweep, self._file, self._lines = kind, base, sweep, file, lines
        self._here = Path.cwd()

    def point(self, number: int, settings: dict[str, Any]) -> Point:
        """One point of the design."""
        data = copy.deepcopy(self._base)
        paths = {}
        for key, value in settings.items():
            try:
                paths[key] = put(data, key, copy.deepcopy(value), field=key)
            except UsageError as error:
                raise self._refusal(key, error, key) from error
        try:
            model = validate(self._kind.model, data)
        except InputError as error:
            field = error.field or ""
            blamed = next((key for key, path in paths.items() if _within(path, field.split("."))), None)
            if blamed is not None:
                raise self._refusal(blamed, error, blamed) from error
            return Point(number, _plain(settings), None, str(error))
        whole = self._kind.anchored(self._kind.anchored(model, self._file.parent), self._here)
        return Point(number, _plain(settings), whole.model_dump(mode="json", exclude_none=True))

    def _refusal(self, key: str, error: InputError, field: str) -> InputError:
        """The complaint about a key of the sweep, at the line on which it stands."""
        mend = error.mend
        if "integer" in error.what and self._sweep.sample and key in self._sweep.sample.keys:
            mend = "add integer: true"
        lines = (line for where, line in self._lines.items() if where and where[-1] == key)
        return InputError(error.what, file=self._file, line=next(lines, None), field=field, mend=mend)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: what else YAML knows, like dates, as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _within(path: tuple[Any, ...], field: list[str]) -> bool:
    """Whether a complaint's place lies at or below a path; tags of alternatives may stand between its parts."""
    parts = iter(field)
    return all(str(step) in parts for step in path)
