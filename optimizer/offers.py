"""What a study may choose from: units on offer, units owned, and how an owner comes by and rids of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from profiles.fields import Name, NonNegative, Spec

Batches = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)]
Tps = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1)]
Clocks = Annotated[list[Annotated[float, Field(ge=0.2, le=1)]], Field(min_length=1)]
Precisions = Annotated[list[Name], Field(min_length=1)]
Role = Literal["both", "prefill", "decode"]
Years = Annotated[int, Field(ge=1)]
_BATCHES = [8, 16, 32, 64, 128, 256]


class Unit(Spec):
    """A host with its GPUs, whole, and the configurations it may run in.

    `host` left out: every host the GPU is sold in. `tp` left out: every tp there is a profile for. `clocks` are shares
    of the full SM clock (below it time and power are modelled: profiles.dvfs). `resale_per_year` is the share of its
    price that a unit keeps every year; it may then be sold again.
    """

    gpu: Name
    host: Name | None = None
    tp: Tps | None = None
    max_batch: Batches = _BATCHES
    clocks: Clocks = Field(default=[1.0])
    precisions: Precisions | None = None  # default: the study's
    roles: list[Role] = Field(default=["both"], min_length=1)
    usable_years: Years | None = None  # after purchase, or from the study's start; default: to the horizon's end
    resale_per_year: Annotated[float, Field(gt=0, lt=1)] | None = None


class Offer(Unit):
    """A unit one can buy, lease by the year, or rent by the hour where the load asks for it (on-demand).

    `price_usd` is paid when it is bought; `price_usd_per_h` for every hour it is had (rent, lease, or a purchase spread
    over its life). `max_units` is over all sites and years, `units_by_year` what can be had in each year of the study.
    """

    tenure: Literal["buy", "lease", "on-demand"] = "buy"
    price_usd: NonNegative | None = None
    price_usd_per_h: NonNegative | None = None
    max_units: Annotated[int, Field(ge=0)] | None = None
    units_by_year: list[Annotated[int, Field(ge=0)]] | None = None
    sites: list[Name] | None = None
    from_year: Annotated[int, Field(ge=0)] = 0  # of the study; before it the unit is not sold
    lead_time_years: NonNegative = 0.0  # from the order, not before the study begins, to the first request served

    @property
    def first_year(self) -> int:
        """The first year of the study in which it can serve."""
        return self.from_year + -int(-self.lead_time_years // 1)

    @model_validator(mode="after")
    def _one_price(self) -> Offer:
        if self.price_usd is not None and self.price_usd_per_h is not None:
            raise ValueError("give price_usd (a purchase) or price_usd_per_h, not both")
        if self.tenure != "buy" and self.price_usd is not None:
            raise ValueError(f"tenure {self.tenure} goes with price_usd_per_h")
        if self.resale_per_year is not None and (self.tenure != "buy" or self.price_usd is None):
            raise ValueError("resale_per_year goes with a unit that is bought at a price_usd")
        return self


class Owned(Unit):
    """Units bought before the study: sunk, so decisions count no embodied carbon and no price for them.

    With `resale_usd` (of one unit today) keeping it costs what its value falls by until it is sold or the study ends.
    """

    site: Name
    units: Annotated[int, Field(ge=1, le=1_000_000)]
    resale_usd: NonNegative | None = None

    @model_validator(mode="after")
    def _worth(self) -> Owned:
        if (self.resale_usd is None) != (self.resale_per_year is None):
            raise ValueError(
                "resale_usd (one unit today) and resale_per_year (what is left of it each year) go together"
            )
        return self
