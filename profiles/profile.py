"""A Profile: measured (or derived) time and power of prefill and decode steps, one JSON file each.

One file per (GPU, model, tp, precision, engine, clock or power limit). Every watt and every byte is the
sum over the instance's `tp` GPUs; host power is never in it. The format is documented in docs/profiles.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from profiles.fields import NonNegative, Positive, Spec
from profiles.inputs import InputError, read_json, validate
from profiles.outputs import write_json

# Flag of points whose source has no power: power_w is 0 there and means unknown.
POWER_UNKNOWN = "power_missing"
Tier = Literal["T0", "cfg", "T1", "T2", "T3"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # from measured to least known
Count = Annotated[int, Field(ge=0)]


class Provenance(Spec):
    """Where figures come from: measured here, imported from public measurements, predicted, or synthetic."""

    kind: Literal["measured", "imported", "predicted", "synthetic"]
    tier: Tier = "T0"
    source: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    versions: dict[str, str] = Field(default={})
    notes: list[str] = Field(default=[])
    fit_error: dict[str, float] = Field(default={})  # name of the error -> fraction, e.g. {"tpot_mape": 0.04}


class Band(Spec):
    """The 90 % interval as factors: the truth lies within [figure / factor, figure * factor]."""

    time: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    power: Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Memory(Spec):
    """Bytes over all `tp` GPUs: the weights, one KV token, and how many KV tokens fit beside the weights."""

    weights_bytes: Positive
    kv_bytes_per_token: Positive
    kv_capacity_tokens: Annotated[int, Field(gt=0)]


class Idle(Spec):
    """Idle watts over all `tp` GPUs: `no_context_w` before any process, `loaded_w` with weights and no work."""

    no_context_w: NonNegative | None = None
    loaded_w: NonNegative


class Points(Spec):
    """Columns of measured points; relative random uncertainties (1 sigma) and flags are optional columns."""

    time_s: list[Positive] = Field(min_length=1)
    power_w: list[NonNegative] = Field(min_length=1)
    time_random_rel: list[NonNegative] | None = None
    power_random_rel: list[NonNegative] | None = None
    flags: list[str] | None = None  # "" good, "power_capped" kept, "invalid: why" left out by the step model

    @model_validator(mode="after")
    def _columns_match(self) -> Points:
        lengths = {name: len(column) for name, column in self if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length ({lengths})")
        if not self.valid:
            raise ValueError("no valid point")
        return self

    @property
    def valid(self) -> list[int]:
        """Indices of the points that may be used."""
        flags = self.flags or [""] * len(self.time_s)
        return [index for index, flag in enumerate(flags) if not flag.startswith("invalid")]


class PrefillPoints(Points):
    """Prefill steps: `new_tokens` in all, beside `past_tokens` already in the cache, for `sequences` prompts."""

    new_tokens: list[Annotated[int, Field(gt=0)]]
    past_tokens: list[Count]
    sequences: list[Annotated[int, Field(gt=0)]]


class DecodePoints(Points):
    """Decode steps: one token for each of `batch` sequences that hold `kv_tokens` in all."""

    batch: list[Annotated[int, Field(gt=0)]]
    kv_tokens: list[Count]


class MixedPoints(Points):
    """Steps of `new_tokens` prefilled beside `past_tokens` in the cache, with a batch holding `kv_tokens` in all."""

    new_tokens: list[Annotated[int, Field(gt=0)]]
    past_tokens: list[Count]
    batch: list[Annotated[int, Field(gt=0)]]
    kv_tokens: list[Count]


class Mixed(Spec):
    """How a prefill chunk beside a decode batch is timed.

    `scaled`: prefill time times `factor` (splitwise-sim). `attention`: the prefill of chunk and decode tokens
    together plus `factor` times the decode batch's attention (1.6 to 3.0 in vLLM 0.19 request logs). `table`: the
    measured `points`, interpolated linearly in chunk, past, batch and mean context.
    """

    rule: Literal["scaled", "attention", "table"] = "attention"
    factor: Positive = 2.0
    points: MixedPoints | None = None

    @model_validator(mode="after")
    def _points_belong_to_the_table(self) -> Mixed:
        if (self.rule == "table") != (self.points is not None):
            raise ValueError("points and the rule 'table' belong together: give both or neither")
        return self


class Lockstep(Spec):
    """What a step of expert-parallel ranks takes beside each rank's own part: experts and the exchange between ranks.

    `time_s` by the `tokens` of all ranks together; every rank waits for the slowest. Linear between, the last line
    goes on beyond.
    """

    tokens: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    time_s: list[Positive] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_curve(self) -> Lockstep:
        if len(self.tokens) != len(self.time_s) or sorted(set(self.tokens)) != self.tokens:
            raise ValueError("tokens ascend, and there is one time for each")
        return self


class Skew(Spec):
    """How much longer attention takes where the contexts of a batch are unlike.

    `share` of what it would take more, were all contexts as long as the longest: by the prefill `chunk` beside the
    batch (0: decode alone), the `batch` and the `rate`, (mean - shortest) / (longest - shortest) context. Linear
    between, constant beyond.
    """

    chunk: list[Count] = Field(min_length=1)
    batch: list[Annotated[int, Field(gt=0)]]
    rate: list[Annotated[float, Field(ge=0, le=1)]]
    share: list[Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _columns_match(self) -> Skew:
        if len({len(column) for _, column in self}) > 1:
            raise ValueError("chunk, batch, rate and share differ in length")
        return self


class EngineTerm(Spec):
    """Host work of a serving engine: `step_s` each step plus `sequence_s` for each sequence in it."""

    step_s: NonNegative
    sequence_s: NonNegative


class Systematic(Spec):
    """Relative systematic uncertainty common to all points (sensor gain and the like), 1 sigma."""

    time_rel: NonNegative = 0.0
    power_rel: NonNegative = 0.0


class Profile(Spec):
    """Everything known about one model on one GPU configuration."""

    schema_version: Literal[1] = 1
    gpu: str = Field(min_length=1)
    model: str = Field(min_length=1)
    tp: Annotated[int, Field(ge=1, le=1024)] = 1
    ep: Annotated[int, Field(ge=1, le=1024)] = 1  # ranks that share the experts; above 1 all else is of one rank
    precision: str = "bf16"
    engine: str = Field(min_length=1)
    clock_mhz: Positive | None = None
    power_limit_w: Positive | None = None
    layer: Literal["kernels", "step"]
    provenance: Provenance
    band: Band
    memory: Memory
    idle: Idle
    prefill: PrefillPoints
    decode: DecodePoints
    mixed: Mixed = Mixed()
    lockstep: Lockstep | None = None
    async_scheduling: bool = False  # its engine plans a step while the one before it runs
    engine_term: EngineTerm | None = None
    skew: Skew | None = None
    systematic: Systematic = Systematic()

    @model_validator(mode="after")
    def _engine_term_once(self) -> Profile:
        if self.layer == "step" and self.engine_term is not None:
            raise ValueError("engine_term is already inside a profile of layer 'step'; drop one of them")
        return self

    @model_validator(mode="after")
    def _ranks_in_lockstep(self) -> Profile:
        if (self.ep > 1) != (self.lockstep is not None):
            raise ValueError("ep above 1 and lockstep belong together: give both or neither")
        return self

    @property
    def key(self) -> str:
        """The name of the profile: gpu, model, tp, precision and engine."""
        ep = f"_ep{self.ep}" if self.ep > 1 else ""
        return f"{self.gpu}_{self.model}_tp{self.tp}{ep}_{self.precision}_{self.engine}".replace("/", "-")


def load(path: str | Path) -> Profile:
    """Read and check one profile.

    Raises:
        InputError: not JSON, not a profile, or figures that contradict each other.
    """
    profile = validate(Profile, read_json(path), file=path)
    for complaint in contradictions(profile):
        raise InputError(complaint, file=path, mend="measure the point again or flag it 'invalid: why'")
    return profile


def save(profile: Profile, path: str | Path) -> Path:
    """Write a profile, whole or not at all."""
    return write_json(path, profile.model_dump(exclude_none=True))


def json_schema() -> dict[str, Any]:
    """The JSON schema of the format, for editors and other tools."""
    return Profile.model_json_schema()


def contradictions(profile: Profile) -> list[str]:
    """What cannot be true: decode that gets faster with more context or a larger batch, in lines for a user.

    A drop within three times the random uncertainty (at least 5 %) is noise and passes.
    """
    points = profile.decode
    noise = points.time_random_rel or [0.0] * len(points.time_s)
    rows = sorted((points.batch[i], points.kv_tokens[i], points.time_s[i], noise[i]) for i in points.valid)
    found = []
    for (b0, k0, t0, u0), (b1, k1, t1, u1) in zip(rows, rows[1:], strict=False):
        slack = 1.0 - max(0.05, 3.0 * math.hypot(u0, u1))
        if b0 == b1 and k1 > k0 and t1 < t0 * slack:
            found.append(f"decode.time_s falls from {t0:g} to {t1:g} s as KV grows from {k0} to {k1} at batch {b0}")
        if b0 == b1 and k0 == k1:
            found.append(f"decode point batch {b0}, kv_tokens {k0} is given twice")
    return found


def load_all(folders: Iterable[str | Path]) -> list[tuple[Path, Profile]]:
    """Every profile (*.json) in the folders, or the file itself where a file is named, in name order.

    Raises:
        InputError: a folder is missing or a file in it is not a profile.
    """
    found: list[tuple[Path, Profile]] = []
    for folder in map(Path, folders):
        if not folder.exists():
            raise InputError("no such file or folder", file=folder, mend="give --profiles DIR")
        paths = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
        found.extend((path, load(path)) for path in paths)
    return found


def shipped_folder() -> Path:
    """Where the profiles that come with carbonfleet lie."""
    return Path(__file__).parent / "library"
