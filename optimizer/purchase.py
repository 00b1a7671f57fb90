"""How units come and go: when each may be bought, leased or sold, and what that costs.

Grams of new units are avoidable carbon: embodied whole at purchase minus what remains at the end of the horizon, linear
over lifetime; selling or retiring early credits nothing. A leased or rented unit carries its embodied carbon by the
time it is had. Owned units are sunk: no embodied carbon, and no price but what their resale value falls by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from optimizer.amount import Amount
from optimizer.choices import Choice
from optimizer.offers import Offer, Owned
from optimizer.study import Study
from profiles import catalog, embodied
from profiles.inputs import InputError
from profiles.units import GRAMS_PER_KG, SECONDS_PER_HOUR, SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Purchase:
    """One unit from the year it is bought (leased, or already there) until it is gone.

    `until` is the first year without it; `sold` says whether it leaves for money before the study or its life ends.
    """

    year: int
    until: int
    amount: Amount
    sold: bool = False

    @property
    def years(self) -> frozenset[int]:
        """The years in which it is there."""
        return frozenset(range(self.year, self.until))


def purchases(study: Study, choice: Choice) -> Iterator[Purchase]:
    """Every way to have one unit of a choice, dollars discounted to the study's start; none for what is hourly."""
    unit, years = choice.unit, int(study.horizon_years) if study.years_apart else 1
    if isinstance(unit, Owned):
        last = min(years, unit.usable_years or years)
        for until in range(1, last + 1) if unit.resale_usd is not None else [last]:
            kept_usd = _value_lost(study, unit.resale_usd or 0.0, unit.resale_per_year, 0, until, years)
            yield Purchase(0, until, Amount(usd=kept_usd), until < last)
    elif unit.tenure == "buy":
        for year in (y for y in study.purchase_years if y >= unit.first_year):
            last = min(years, year + (unit.usable_years or years))
            for until in range(year + 1, last + 1) if unit.resale_per_year is not None else [last]:
                yield Purchase(year, until, _bought(study, choice, unit, year, until, years), until < last)
    elif unit.tenure == "lease":
        for year in range(unit.first_year, years):
            had = study.horizon_years / years
            amount = per_hour(study, choice).times(had * SECONDS_PER_YEAR / SECONDS_PER_HOUR)
            yield Purchase(year, year + 1, amount.dollars(study.usd_factor(year + 0.5)))


def _bought(study: Study, choice: Choice, unit: Offer, year: int, until: int, years: int) -> Amount:
    """A unit bought in a year and sold at `until` (or never): embodied grams to the horizon's end or its life's."""
    end = study.horizon_years if years == 1 else float(years)
    left, rules = end - year, study.accounting
    if unit.usable_years is not None:
        left = min(left, unit.usable_years)
    gpus_kg, host_kg = _kilograms(study, choice)
    used_kg = gpus_kg * min(1.0, left / rules.lifetime_years) + host_kg * min(1.0, left / rules.host_lifetime_years)
    if unit.price_usd is not None:
        usd = _value_lost(study, unit.price_usd, unit.resale_per_year, year, until, years)
    else:
        period_h = study.horizon_years / years * SECONDS_PER_YEAR / SECONDS_PER_HOUR
        paid = sum(study.usd_factor(y + 0.5) for y in range(year, until))
        usd = _price_per_h(study, unit, choice.host) * period_h * paid
    return Amount(0.0, used_kg * GRAMS_PER_KG, usd)


def _value_lost(study: Study, usd: float, keeps: float | None, year: int, until: int, years: int) -> float:
    """What a unit worth `usd` in `year` costs its owner by `until`: its price, minus what it is sold for then."""
    if keeps is None:
        return usd * study.usd_factor(year)
    held = (until - year) * study.horizon_years / years
    return usd * (study.usd_factor(year) - float(keeps**held) * study.usd_factor(year + held))


def per_hour(study: Study, choice: Choice) -> Amount:
    """What an hour of a leased or rented unit costs: its price, and its embodied carbon by the hours of its life."""
    assert isinstance(choice.unit, Offer)
    gpus_kg, host_kg = _kilograms(study, choice)
    rules, hours = study.accounting, SECONDS_PER_YEAR / SECONDS_PER_HOUR
    grams = (gpus_kg / rules.lifetime_years + host_kg / rules.host_lifetime_years) * GRAMS_PER_KG / hours
    return Amount(0.0, grams, _price_per_h(study, choice.unit, choice.host))


def new_kg(study: Study, choice: Choice) -> float:
    """Embodied kilograms of one new unit; nothing for what is owned."""
    return 0.0 if choice.owned else sum(_kilograms(study, choice))


def _kilograms(study: Study, choice: Choice) -> tuple[float, float]:
    """Embodied kilograms of a unit's GPUs, and of the rest of it."""
    rules, host, factor = study.accounting, choice.host, choice.embodied_factor
    gpus = embodied.gpu_embodied(catalog.gpu(host.gpu), rules.preset, rules.embodied_kg).mid_kg * host.gpus
    return gpus * factor, embodied.host_embodied(host).mid_kg * factor if rules.boundary == "server" else 0.0


def priced(study: Study, unit: Offer) -> bool:
    """Whether a price is known for a unit on offer."""
    return (unit.price_usd, unit.price_usd_per_h) != (None, None) or unit.gpu in study.accounting.gpu_price_usd_per_h


def _price_per_h(study: Study, unit: Offer, host: catalog.Host) -> float:
    """Dollars per hour of a unit.

    Raises:
        InputError: there is no price, and dollars count in the objective or in a limit.
    """
    if unit.price_usd_per_h is not None:
        return unit.price_usd_per_h
    if unit.gpu in study.accounting.gpu_price_usd_per_h:
        return study.accounting.gpu_price_usd_per_h[unit.gpu] * host.gpus
    if study.objective == "cost" or study.limits.budget_usd is not None:
        mend = "add price_usd or price_usd_per_h (one unit); no price ships"
        raise InputError(f"no price for {unit.gpu}", field="catalogue", mend=mend)
    return 0.0
