"""The scenario a user writes in YAML: sites, pools, SLO classes, accounting. Studies use the same words.

docs/scenario.md shows every key; `json_schema()` serves editors.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from profiles.fields import Name, NonNegative, Positive, Spec
from profiles.inputs import InputError, near_miss, read_yaml, validate
from profiles.schemas import described
from sim.control.specs import Control
from sim.plan import RoutingPlan
from sim.routing import ROUTERS
from sim.trace.generator import GeneratorSpec
from sim.words import SCENARIO


class Site(Spec):
    """A place with a grid: its intensity series (zone, file or a number in g/kWh), PUE and electricity price."""

    name: Name
    grid: str
    scope: Literal["lifecycle", "direct"] | None = None  # what a grid file states, else lifecycle
    kind: Literal["average", "marginal"] | None = None  # where the series does not say
    pue: Annotated[float, Field(ge=1, le=5)] = 1.2
    forecast: str | None = None  # a forecast file; else the last day that is known is believed of the next
    price_usd_per_kwh: NonNegative | None = None

    @field_validator("grid", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Pool(Spec):
    """Identical instances at one site: `instances` engines of `tp` GPUs each, serving one model."""

    name: Name
    site: Name
    gpu: Name
    model: Name
    instances: Annotated[int, Field(ge=1, le=1_000_000)]
    tp: Annotated[int, Field(ge=1, le=64)] = 1
    dp: Annotated[int, Field(ge=1, le=64)] = 1  # engine replicas in one instance, each on tp GPUs
    ep: bool = False  # the dp replicas of an instance share the experts and step in lockstep
    precision: str = "bf16"
    clock: Annotated[float, Field(ge=0.2, le=1)] = 1.0  # SM clock as a share of the full one; below it modelled
    engine: str | None = None  # which profile to take when several fit
    host: Name | None = None  # the unit that is bought; default: the one that leaves the fewest spare GPUs
    age_years: NonNegative = 0.0
    sunk: bool = False  # bought before the study: decisions count no embodied carbon, reports amortise it
    batching: Literal["chunked", "prefill-first", "static", "splitwise"] = "chunked"
    role: Literal["both", "prefill", "decode"] = "both"  # prefill hands the KV cache over to decode
    async_scheduling: bool | None = None  # plan a step while the one before it runs; default: as the profile's engine
    max_num_seqs: Annotated[int, Field(ge=1, le=65536)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = 8192
    max_model_len: Annotated[int, Field(ge=2)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None  # the longest prompt that by-length sends here
    kv: Literal["paged", "whole-request"] = "paged"
    prefix_cache: bool = True  # find blocks again where the trace names its prefixes
    prefix_hit_rate: Annotated[float, Field(ge=0, le=1)] | None = None  # stated: this share of every prompt is found
    block_tokens: Annotated[int, Field(ge=1, le=4096)] = 16

    @property
    def engines(self) -> int:
        """Independent serving engines: instances times data-parallel replicas."""
        return self.instances * self.dp

    @property
    def gpus(self) -> int:
        """GPUs the pool runs on."""
        return self.engines * self.tp

    @property
    def ranks(self) -> int:
        """Engines that step in lockstep: the dp replicas of an instance with expert parallelism."""
        return self.dp if self.ep else 1

    @model_validator(mode="after")
    def _experts_need_ranks(self) -> Pool:
        if self.ep and self.dp < 2:
            raise ValueError("ep spreads experts over dp replicas: give dp of at least 2")
        return self

    @model_validator(mode="after")
    def _budget_feeds_the_batch(self) -> Pool:
        if self.batching == "chunked" and self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs ({self.max_num_seqs}): "
                "a chunked step carries one token for each running sequence; raise the first or lower the second"
            )
        return self


class KvTransfer(Spec):
    """The link over which a prefilled request's KV cache goes to who decodes it: gigabytes (1e9) a second, joules."""

    gb_per_s: Positive
    latency_s: NonNegative = 0.0
    joules_per_gb: NonNegative = 0.0


class Slo(Spec):
    """What is promised: limits on TTFT and on each request's TPOT, in seconds; none given means no limit."""

    ttft_s: Positive | None = None
    tpot_s: Positive | None = None


class SloClass(Slo):
    """Requests that are promised the same. Lower `priority` goes first; `deadline_s` after arrival all must be done."""

    name: Name
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    deadline_s: Positive | None = None  # such requests may wait for a greener hour (controls: defer)


class Stream(Spec):
    """One of several sources of requests: a trace or a generator, the model it asks for, the class it belongs to."""

    name: Name
    model: Name
    slo_class: Name | None = None
    trace: str | None = None
    generator: GeneratorSpec | None = None
    starts_at_s: NonNegative = 0.0  # when its first request comes
    rate_scale: Positive = 1.0
    repeat: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _one_source(self) -> Stream:
        if (self.trace is None) == (self.generator is None):
            raise ValueError(f"stream {self.name}: give either a trace or a generator")
        return self


class Accounting(Spec):
    """The rules of the books; every default is printed in the result under `assumptions`."""

    preset: Literal["pcf-card", "act", "boavizta", "hotcarbon24"] = "pcf-card"
    boundary: Literal["server", "card", "chip"] = "server"
    lifetime_years: Positive = 5.0
    host_lifetime_years: Positive = 6.0
    idle_rule: Literal["capacity-share", "busy-time", "none"] = "capacity-share"
    host_power: bool = True
    gpu_price_usd_per_h: dict[str, NonNegative] = Field(default={})
    embodied_kg: dict[str, NonNegative] = Field(default={})  # a card of that GPU, instead of the preset's figure


class Scenario(Spec):
    """One simulation: a trace or a generator, sites and pools, and the rules."""

    name: str = "run"
    trace: str | None = None
    workload: str | None = None  # token ids of the trace's prompts, from which prefixes are found again
    generator: GeneratorSpec | None = None
    streams: list[Stream] = Field(default=[])  # several sources at once, instead of trace or generator
    start: datetime | None = None
    horizon_s: Positive | None = None
    align: Literal["recur"] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    sites: list[Site] = Field(min_length=1)
    pools: list[Pool] = Field(min_length=1)
    routing: str = "least-outstanding-tokens"
    plan: RoutingPlan | None = None  # for routing: planned
    decode_routing: str = "least-kv"  # who decodes what a pool of role prefill prefilled
    kv_transfer: KvTransfer | None = None
    output_predictor: Literal["running-mean", "oracle"] = "running-mean"
    slo: Slo = Slo()
    classes: list[SloClass] = Field(default=[])  # instead of slo, where requests are promised different things
    controls: list[Control] = Field(default=[])
    regret: bool = True  # replay under perfect forecasts too, where decisions rest on forecasts
    accounting: Accounting = Accounting()
    profiles: list[str] = Field(default=[])
    predict: bool = False  # a profile that is missing is predicted, with its tier and band
    own_catalog: str | None = None  # folder of gpus.csv, hosts.csv, llms.csv beside the shipped tables
    rate_scale: Positive = 1.0  # the trace's requests so many times as fast
    repeat: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    shape: Literal["flat", "diurnal", "weekly"] = "flat"  # laid over the trace's own rate
    sort_trace: bool = False
    allow_bad_rows: Annotated[int, Field(ge=0)] = 0

    @field_validator("start")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @field_validator("routing", "decode_routing")
    @classmethod
    def _known_router(cls, value: str) -> str:
        if value not in ROUTERS:
            raise ValueError(f"unknown router {value!r}; {near_miss(value, ROUTERS)}")
        return value

    @model_validator(mode="after")
    def _names_hang_together(self) -> Scenario:
        sources = (self.trace is not None) + (self.generator is not None) + bool(self.streams)
        if sources != 1:
            raise ValueError("give either a trace, a generator, or streams")
        if self.workload is not None and self.trace is None:
            raise ValueError("a workload belongs to a trace; give the trace too")
        if self.trace is None and (self.rate_scale, self.repeat, self.shape) != (1.0, 1, "flat"):
            raise ValueError("rate_scale, repeat and shape change a trace; a generator has keys of its own for that")
        named = {
            "site": [each.name for each in self.sites],
            "pool": [each.name for each in self.pools],
            "stream": [each.name for each in self.streams],
            "class": [each.name for each in self.classes],
        }
        for kind, names in named.items():
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{kind} {sorted(twice)[0]} is defined twice")
        known = {site.name for site in self.sites}
        for pool in self.pools:
            if pool.site not in known:
                raise ValueError(
                    f"pool {pool.name} stands at unknown site {pool.site}; known: {', '.join(sorted(known))}"
                )
        if len({pool.model for pool in self.pools}) > 1 and not self.streams:
            raise ValueError("pools serve different models, but a trace names none; give one model, or streams")
        return self

    @model_validator(mode="after")
    def _classes_hang_together(self) -> Scenario:
        if self.classes and self.slo != Slo():
            raise ValueError("give either slo or classes")
        known = {each.name for each in self.classes}
        for stream in self.streams:
            if stream.slo_class is not None and stream.slo_class not in known:
                what = f"stream {stream.name} is of unknown class {stream.slo_class}"
                raise ValueError(f"{what}; known: {', '.join(sorted(known)) or 'none'}")
            if stream.slo_class is None and len(known) > 1:
                raise ValueError(f"stream {stream.name} must say its slo_class")
        if len(known) > 1 and not self.streams:
            raise ValueError("several classes need streams that say which is whose")
        return self

    @property
    def slo_classes(self) -> list[SloClass]:
        """The classes; without any the one that `slo` makes."""
        return self.classes or [SloClass(name="default", **self.slo.model_dump())]

    @model_validator(mode="after")
    def _prefill_and_decode_pair_up(self) -> Scenario:
        for model in {pool.model for pool in self.pools}:
            mine = [pool for pool in self.pools if pool.model == model]
            roles = {pool.role for pool in mine}
            if ("prefill" in roles) != ("decode" in roles):
                raise ValueError(f"{model}: pools of role prefill and decode need each other")
            if "prefill" in roles and self.kv_transfer is None:
                raise ValueError("a KV cache that moves needs a link: give kv_transfer, like {gb_per_s: 25}")
            if "prefill" in roles and any(pool.ep for pool in mine):
                raise ValueError(f"{model}: ep and roles apart are not simulated together")
            if getattr(ROUTERS[self.routing], "pairs", False) and roles != {"prefill", "decode"}:
                raise ValueError(f"routing {self.routing} needs pools of role prefill and decode, and no others")
        return self


def read(path: str | Path) -> Scenario:
    """Read a scenario; relative trace, grid and profile paths are taken from the file's folder.

    Raises:
        InputError: not readable, an unknown key (with its line and the near miss), a refused value.
    """
    data, lines = read_yaml(path)
    scenario = validate(Scenario, data, file=path, lines=lines)
    return anchored(scenario, Path(path).parent)


def anchored(scenario: Scenario, folder: Path) -> Scenario:
    """The scenario with its relative paths resolved against `folder` where such a file exists."""

    def place(text: str) -> str:
        inside = folder / text
        return str(inside) if not Path(text).is_absolute() and inside.exists() else text

    sites = [
        site.model_copy(update={"grid": place(site.grid), "forecast": place(site.forecast) if site.forecast else None})
        for site in scenario.sites
    ]
    streams = [
        each.model_copy(update={"trace": place(each.trace)}) if each.trace else each for each in scenario.streams
    ]
    return scenario.model_copy(
        update={
            "trace": place(scenario.trace) if scenario.trace else None,
            "workload": place(scenario.workload) if scenario.workload else None,
            "sites": sites,
            "streams": streams,
            "profiles": [place(folder_) for folder_ in scenario.profiles],
            "own_catalog": place(scenario.own_catalog) if scenario.own_catalog else None,
        }
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema of a scenario file, its keys described."""
    return described(Scenario, SCENARIO)


def parse_start(text: str) -> datetime:
    """An ISO 8601 instant; without an offset it is UTC.

    Raises:
        InputError: not an ISO 8601 date.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a date", field="start", mend="write it like 2023-06-01T00:00:00Z") from error
    return value if value.tzinfo else value.replace(tzinfo=UTC)
