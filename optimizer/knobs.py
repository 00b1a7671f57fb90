"""The figures that can be turned to see when the recommended fleet gives way, each with its market."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from optimizer import demand
from optimizer.again import again, altered
from optimizer.amount import Amount, worth
from optimizer.choices import Choice
from optimizer.entry import greener, mean_intensity
from optimizer.market import Market
from optimizer.plan import Answer
from optimizer.purchase import new_kg
from optimizer.sources import Source
from optimizer.study import Study

SourceT = TypeVar("SourceT", bound=Source)
Change = Callable[[Choice, float], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Knob:
    """A figure that is turned between `low` and `high`: `at(value, choices)` is the market of these choices there."""

    name: str
    unit: str
    now: float
    low: float
    high: float
    at: Callable[[float, list[Choice]], Market]


def knobs(answer: Answer) -> Iterator[Knob]:
    """Intensity, embodied carbon, lifetime, host power, carbon price and growth, where the objective has them."""
    study, choices = answer.study, answer.market.choices
    rules, price = study.accounting, study.carbon_price_usd_per_t
    mean = mean_intensity(answer)
    if mean and worth(study, Amount(operational_g=1.0)):
        at = partial(_studied, answer, lambda value: greener(study, value / mean))
        yield Knob("mean intensity, all grids alike", "g/kWh", mean, mean / 10, mean * 10, at)
    if worth(study, Amount(embodied_g=1.0)) and any(new_kg(study, choice) for choice in choices):
        at = partial(_figured, answer, _embodied)
        yield Knob("embodied carbon of new units", "times the preset's", 1.0, 0.0, 5.0, at)
        at, life = partial(_studied, answer, partial(_living, study)), rules.lifetime_years
        name = "lifetime of new GPUs, hosts in proportion"
        yield Knob(name, "years", life, min(1.0, life), max(15.0, life), at)
    if rules.host_power and any(choice.host.power_w for choice in choices):
        yield Knob("host power", "times the catalogue's", 1.0, 0.0, 3.0, partial(_figured, answer, _hosted))
    if study.objective == "cost":
        at = partial(_studied, answer, lambda value: study.model_copy(update={"carbon_price_usd_per_t": value}))
        yield Knob("carbon price", "$/t", price, 0.0, max(1000.0, 2 * price), at)
    whole = study.horizon_years == int(study.horizon_years) and study.by_year is not False
    if whole and study.horizon_years > 1:
        now = 100.0 * study.demand.sources[0].growth_per_year
        at = partial(_studied, answer, partial(_growing, study))
        yield Knob("growth of demand", "% a year", now, max(-90.0, now - 20.0), now + 100.0, at)


def _studied(answer: Answer, of: Callable[[float], Study], value: float, choices: list[Choice]) -> Market:
    """The market of a study that was changed; its demand is built anew where that was."""
    asked = of(value)
    load = answer.load if asked.demand == answer.study.demand else demand.build(asked)
    return again(answer, study=asked, load=load, offered=choices)


def _figured(answer: Answer, change: Change, value: float, choices: list[Choice]) -> Market:
    """The market of choices of which every one was changed."""
    return again(answer, offered=altered(choices, lambda _: True, lambda choice: change(choice, value)))


def _embodied(choice: Choice, value: float) -> dict[str, Any]:
    return {"embodied_factor": choice.embodied_factor * value}


def _hosted(choice: Choice, value: float) -> dict[str, Any]:
    return {"idle_w": choice.idle_w + (value - 1.0) * choice.host.power_w}


def _living(study: Study, value: float) -> Study:
    rules = study.accounting
    lives = {"lifetime_years": value, "host_lifetime_years": rules.host_lifetime_years * value / rules.lifetime_years}
    return study.model_copy(update={"accounting": rules.model_copy(update=lives)})


def _growing(study: Study, value: float) -> Study:
    """All streams grow alike: by so much more than they do in the study as the first one does."""
    more = value / 100.0 - study.demand.sources[0].growth_per_year

    def grown(source: SourceT) -> SourceT:
        return source.model_copy(update={"growth_per_year": max(-0.99, source.growth_per_year + more)})

    streams = [grown(stream) for stream in study.demand.streams]
    return study.model_copy(update={"demand": grown(study.demand).model_copy(update={"streams": streams})})
