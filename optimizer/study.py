"""The study a user writes in YAML: demand, promises, sites, what can be bought, what is owned, and the objective.

Sites, SLO and accounting are the scenario's own words (sim/scenario.py). docs/optimize.md shows every key.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from optimizer.offers import Offer, Owned
from optimizer.sources import Demand, Source
from optimizer.words import STUDY
from profiles.fields import Name, NonNegative, Positive, Spec
from profiles.inputs import CarbonfleetError, read_yaml, validate
from profiles.schemas import described
from sim.scenario import Accounting, KvTransfer, Site, Slo

Factor = Annotated[float, Field(ge=0, le=100)]


class Infeasible(CarbonfleetError):  # noqa: N818 - says what is the matter
    """No fleet within the limits keeps the promises; the message says in units what is missing."""

    exit_code = 3


class StudySite(Site):
    """A site with its limits and its years.

    `max_power_w` is nameplate (GPUs at TDP plus hosts), `max_drawn_w` what is really drawn, PUE included. A demand
    charge is paid on the highest hourly mean of the year (of each season, where these are told apart).
    """

    max_gpus: Annotated[int, Field(ge=0)] | None = None
    max_units: Annotated[int, Field(ge=0)] | None = None  # hosts that find room in its racks
    max_power_w: NonNegative | None = None
    max_drawn_w: NonNegative | None = None
    intensity_trend_per_year: Annotated[float, Field(gt=-1, le=1)] = 0.0  # -0.03: three per cent less every year
    intensity_by_year: list[Factor] | None = None  # instead of a trend: each year's intensity over the first's
    price_trend_per_year: Annotated[float, Field(gt=-1, le=1)] = 0.0  # of electricity
    demand_charge_usd_per_kw_month: NonNegative = 0.0

    def intensity_factor(self, year: int) -> float:
        """A year's intensity over that of the series."""
        if self.intensity_by_year is not None:
            return self.intensity_by_year[year]
        return float((1.0 + self.intensity_trend_per_year) ** year)

    @model_validator(mode="after")
    def _one_path(self) -> StudySite:
        if self.intensity_by_year is not None and self.intensity_trend_per_year:
            raise ValueError("give intensity_by_year or intensity_trend_per_year, not both")
        return self


class Limits(Spec):
    """What the whole plan may take over the horizon: dollars, tonnes of avoidable carbon, units bought."""

    budget_usd: NonNegative | None = None
    carbon_t: NonNegative | None = None
    units: Annotated[int, Field(ge=0)] | None = None


class Reserve(Spec):
    """Capacity beyond the peak: a share of it, units of every pool, and whether the loss of any site is survived."""

    headroom: Annotated[float, Field(ge=0, le=10)] = 0.0
    spare_units: Annotated[int, Field(ge=0, le=1000)] = 0
    lose_site: bool = False


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
    limits: Limits = Limits()
    reserve: Reserve = Reserve()
    kv_transfer: KvTransfer | None = None  # the link between prefill and decode, where roles are on offer
    objective: Literal["carbon", "cost", "energy"] = "carbon"
    carbon_price_usd_per_t: NonNegative = 0.0
    discount_rate: Annotated[float, Field(ge=0, le=1)] = 0.0  # of dollars, a year
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
    predict: bool = False  # profiles that are missing are predicted, with their tier and band
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

    @property
    def models(self) -> list[str]:
        """The models asked for."""
        return list(dict.fromkeys(source.llm for source in self.demand.sources))

    @property
    def apart_by_role(self) -> bool:
        """Whether prefill and decode may be on units of their own."""
        return any(unit.roles != ["both"] for unit in [*self.catalogue, *self.owned])

    def promise(self, source: Source) -> Slo:
        """What the requests of a source are promised."""
        return self.slo if source.slo is None else source.slo

    def usd_factor(self, year: float) -> float:
        """What a dollar paid after so many years is worth at the study's start."""
        return float((1.0 + self.discount_rate) ** -year)

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
        if self.by_year is False and _years_apart(self):
            what = "purchases, growth, trends, discounts, leases or lives that differ by year"
            raise ValueError(f"by_year: false cannot be held with {what}; leave by_year out")
        if self.years_apart and self.horizon_years != int(self.horizon_years):
            raise ValueError("horizon_years must be whole where years are told apart")
        if self.purchase_years[-1] >= self.horizon_years:
            raise ValueError(f"a purchase in year {self.purchase_years[-1]} of {self.horizon_years:g} comes too late")
        if self.objective != "cost" and self.carbon_price_usd_per_t:
            raise ValueError(f"carbon_price_usd_per_t goes with objective: cost; least {self.objective} knows no price")
        return self

    @model_validator(mode="after")
    def _every_year_is_known(self) -> Study:
        years = math.ceil(self.horizon_years)
        for site in self.sites:
            if site.intensity_by_year is not None and len(site.intensity_by_year) < years:
                known = len(site.intensity_by_year)
                raise ValueError(f"{site.name}: intensity_by_year ends after {known} of {years} years")
        for offer in self.catalogue:
            if offer.units_by_year is not None and len(offer.units_by_year) < years:
                raise ValueError(f"{offer.gpu}: units_by_year ends after {len(offer.units_by_year)} of {years} years")
            if offer.first_year >= self.horizon_years:
                raise ValueError(f"{offer.gpu} comes in year {offer.first_year} of {self.horizon_years:g}: too late")
        return self

    @model_validator(mode="after")
    def _limits_agree(self) -> Study:
        if self.reserve.lose_site and len(self.sites) < 2:
            raise ValueError("reserve.lose_site needs a second site")
        if self.apart_by_role and self.kv_transfer is None:
            raise ValueError("roles need kv_transfer: the link from who prefills to who decodes")
        return self


def _years_apart(study: Study) -> bool:
    moves = any(source.growth_per_year for source in study.demand.sources) or study.discount_rate
    for site in study.sites:
        moves = moves or site.intensity_trend_per_year or site.price_trend_per_year
        moves = moves or len(set(site.intensity_by_year or [])) > 1
    units = [*study.catalogue, *study.owned]
    ends = any(unit.usable_years is not None or unit.resale_per_year is not None for unit in units)
    later = study.purchase_years != [0] or any(offer.first_year or offer.units_by_year for offer in study.catalogue)
    leased = any(offer.tenure == "lease" for offer in study.catalogue)
    return bool(moves or ends or later or leased)


SourceT = TypeVar("SourceT", bound=Source)


def read(path: str | Path) -> Study:
    """Read a study; relative trace, grid and profile paths are taken from the file's folder.

    Raises:
        InputError: not readable, an unknown key (with its line and the near miss), a refused value.
    """
    data, lines = read_yaml(path)
    return anchored(validate(Study, data, file=path, lines=lines), Path(path).parent)


def anchored(study: Study, folder: Path) -> Study:
    """The study with its relative paths resolved against `folder` where such a file exists."""

    def place(text: str) -> str:
        inside = folder / text
        return str(inside) if not Path(text).is_absolute() and inside.exists() else text

    def found(source: SourceT) -> SourceT:
        return source.model_copy(update={"trace": place(source.trace)}) if source.trace else source

    demand = found(study.demand)
    demand = demand.model_copy(update={"streams": [found(stream) for stream in demand.streams]})
    sites = [
        site.model_copy(update={"grid": place(site.grid), "forecast": place(site.forecast) if site.forecast else None})
        for site in study.sites
    ]
    return study.model_copy(
        update={
            "demand": demand,
            "sites": sites,
            "profiles": [place(name) for name in study.profiles],
            "own_catalog": place(study.own_catalog) if study.own_catalog else None,
        }
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, its keys described."""
    return described(Study, STUDY)
