"""The study a user writes in YAML: demand, promises, sites, what can be bought, what is owned, and the objective.

Sites, SLO and accounting are the scenario's own words (sim/scenario.py). docs/optimize.md shows every key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from profiles.inputs import CarbonfleetError, read_yaml, validate
from sim.scenario import Accounting, Name, NonNegative, Positive, Site, Slo, Spec
from sim.trace.generator import GeneratorSpec

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Batches = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)]
Tps = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1)]
_BATCHES = [8, 16, 32, 64, 128, 256]


class Infeasible(CarbonfleetError):  # noqa: N818 - says what is the matter
    """No fleet within the limits keeps the promises; the message says in units what is missing."""

    exit_code = 3


class Bucket(Spec):
    """A class of requests: its tokens in and out and its share of all requests (shares are normalised)."""

    prompt_tokens: Tokens
    output_tokens: Tokens
    share: Positive = 1.0


class Demand(Spec):
    """Who asks for what: the request mix of a trace, a generator or a table of buckets, at a mean rate.

    `rate_per_s` replaces the trace's or the generator's own mean rate and is needed with buckets. `shape` spreads it
    over the day. `peak_quantile` is the quantile of one-minute arrivals for which capacity must suffice.
    """

    model: Name
    trace: str | None = None
    generator: GeneratorSpec | None = None
    buckets: list[Bucket] | None = Field(default=None, min_length=1)
    rate_per_s: Positive | None = None
    growth_per_year: Annotated[float, Field(gt=-1, le=10)] = 0.0
    shape: Literal["flat", "diurnal"] = "flat"
    peak_quantile: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    prompt_edges: list[Tokens] = Field(default=[128, 512, 1024, 2048, 4096, 8192, 32768])
    output_edges: list[Tokens] = Field(default=[64, 256, 512, 1024, 4096])

    @model_validator(mode="after")
    def _one_source(self) -> Demand:
        if sum(source is not None for source in (self.trace, self.generator, self.buckets)) != 1:
            raise ValueError("give one of trace, generator and buckets")
        if self.buckets and self.rate_per_s is None:
            raise ValueError("buckets need a rate_per_s (requests per second)")
        for edges in (self.prompt_edges, self.output_edges):
            if edges != sorted(set(edges)):
                raise ValueError("edges must ascend")
        return self


class StudySite(Site):
    """A site with its limits: GPUs that find room, and nameplate watts of IT power (GPUs at TDP plus hosts)."""

    max_gpus: Annotated[int, Field(ge=0)] | None = None
    max_power_w: NonNegative | None = None
    intensity_trend_per_year: Annotated[float, Field(gt=-1, le=1)] = 0.0  # -0.03: three per cent less every year


class Offer(Spec):
    """A unit one can buy, whole: a host with its GPUs, in any of the configurations listed.

    `host` left out: every host the GPU is sold in. `tp` left out: every tp there is a profile for. `max_units` is over
    all sites, `price_usd_per_h` is for one whole unit, rent or purchase spread over its life.
    """

    gpu: Name
    host: Name | None = None
    tp: Tps | None = None
    max_batch: Batches = _BATCHES
    max_units: Annotated[int, Field(ge=0)] | None = None
    price_usd_per_h: NonNegative | None = None
    sites: list[Name] | None = None
    from_year: Annotated[int, Field(ge=0)] = 0  # of the study; before it the unit cannot be had
    usable_years: Annotated[int, Field(ge=1)] | None = None  # after purchase; default: to the horizon's end


class Owned(Spec):
    """Units bought before the study: sunk, so decisions count no embodied carbon and no price for them."""

    gpu: Name
    host: Name | None = None
    site: Name
    units: Annotated[int, Field(ge=1, le=1_000_000)]
    usable_years: Annotated[int, Field(ge=1)] | None = None  # from the study's start; default: to the horizon's end
    tp: Tps | None = None
    max_batch: Batches = _BATCHES


class Future(Spec):
    """One way things may go: factors on demand and on intensity, and how likely it is beside the others."""

    name: Name
    demand: Positive = 1.0
    intensity: Positive = 1.0
    weight: Positive = 1.0


class Study(Spec):
    """One question: which units to buy and keep where, for the least carbon, cost, or cost plus priced carbon."""

    name: str = "study"
    demand: Demand
    slo: Slo = Slo()
    sites: list[StudySite] = Field(min_length=1)
    catalogue: list[Offer] = Field(default=[])
    owned: list[Owned] = Field(default=[])
    objective: Literal["carbon", "cost", "energy"] = "carbon"
    carbon_price_usd_per_t: NonNegative = 0.0
    start: datetime = datetime(2023, 1, 1, tzinfo=UTC)
    align: Literal["recur"] | None = None
    horizon_years: Annotated[float, Field(gt=0, le=30)] = 5.0
    slices: Literal["day", "seasons"] = "day"  # 24 typical hours, or those by season, weekday and weekend
    purchase_years: list[Annotated[int, Field(ge=0, le=30)]] = Field(default=[0], min_length=1)
    by_year: bool | None = None  # years apart; default: where purchases, growth or a trend need it
    futures: list[Future] = Field(default=[])  # one purchase for all of them, a dispatch for each
    reconfigure: bool = False  # tp and batch of a unit may change by the hour, at no cost
    accounting: Accounting = Accounting()
    safe_utilisation: Annotated[float, Field(gt=0, le=1)] = 0.8
    slo_share: Annotated[float, Field(gt=0, le=1)] = 0.99  # of requests that must keep every limit in the replay
    precision: str = "bf16"
    engine: str | None = None
    profiles: list[str] = Field(default=[])
    own_catalog: str | None = None
    time_limit_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    gap: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def years_apart(self) -> bool:
        """Whether the program tells the years of the horizon apart."""
        return _years_apart(self) if self.by_year is None else self.by_year

    @property
    def ways(self) -> list[Future]:
        """The futures; without any the one that is as stated."""
        return self.futures or [Future(name="as stated")]

    @field_validator("start")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value

    @model_validator(mode="after")
    def _hangs_together(self) -> Study:
        names = [site.name for site in self.sites]
        if len(set(names)) < len(names):
            raise ValueError(f"site {next(n for n in names if names.count(n) > 1)} is defined twice")
        if not self.catalogue and not self.owned:
            raise ValueError("nothing to choose from: give a catalogue, owned units, or both")
        asked = [(offer.gpu, site) for offer in self.catalogue for site in offer.sites or []]
        for gpu, site in [*asked, *((owned.gpu, owned.site) for owned in self.owned)]:
            if site not in names:
                raise ValueError(f"{gpu} stands at unknown site {site}; known: {', '.join(sorted(names))}")
        if self.purchase_years != sorted(set(self.purchase_years)):
            raise ValueError("purchase_years ascend")
        if self.years_apart and self.horizon_years != int(self.horizon_years):
            raise ValueError("horizon_years must be whole where years are told apart")
        if self.purchase_years[-1] >= self.horizon_years:
            raise ValueError(f"a purchase in year {self.purchase_years[-1]} of {self.horizon_years:g} comes too late")
        if self.objective != "cost" and self.carbon_price_usd_per_t:
            raise ValueError(f"carbon_price_usd_per_t goes with objective: cost; least {self.objective} knows no price")
        return self


def _years_apart(study: Study) -> bool:
    moves = study.demand.growth_per_year or any(site.intensity_trend_per_year for site in study.sites)
    lives = [*(each.usable_years for each in study.catalogue), *(each.usable_years for each in study.owned)]
    ends = any(life is not None for life in lives)
    later = study.purchase_years != [0] or any(offer.from_year for offer in study.catalogue)
    return bool(moves or ends or later)


def read(path: str | Path) -> Study:
    """Read a study; relative trace, grid and profile paths are taken from the file's folder.

    Raises:
        InputError: not readable, an unknown key (with its line and the near miss), a refused value.
    """
    data, lines = read_yaml(path)
    study = validate(Study, data, file=path, lines=lines)
    folder = Path(path).parent

    def place(text: str) -> str:
        inside = folder / text
        return str(inside) if not Path(text).is_absolute() and inside.exists() else text

    demand = study.demand
    if demand.trace:
        demand = demand.model_copy(update={"trace": place(demand.trace)})
    sites = [site.model_copy(update={"grid": place(site.grid)}) for site in study.sites]
    return study.model_copy(
        update={
            "demand": demand,
            "sites": sites,
            "profiles": [place(folder_) for folder_ in study.profiles],
            "own_catalog": place(study.own_catalog) if study.own_catalog else None,
        }
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file."""
    return Study.model_json_schema()
