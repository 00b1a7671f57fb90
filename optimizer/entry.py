"""What would bring in a type that lost: its embodied carbon, price or power, or the grids' intensity.

A type's own figure is lowered to where the best fleet with it costs what the plan costs. At a given fleet the objective
is a straight line in that figure, so that every solve gives the value at which its fleet draws level, and the next
solve confirms it or finds a better fleet (Dinkelbach's method): two to five solves, each proved to its gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from optimizer.again import Tell, again, altered, found, market_or_none, slack, sure
from optimizer.amount import Amount, worth
from optimizer.choices import Choice
from optimizer.market import Market
from optimizer.placed import units_on
from optimizer.plan import Answer
from optimizer.purchase import new_kg, per_hour
from optimizer.solver import Solution
from optimizer.study import Future, Study
from optimizer.why import Kind, groups_of, used
from profiles.units import SECONDS_PER_HOUR

Figure = Literal["embodied", "price", "power"]
_NEARLY_NOTHING = 1e-4  # of the figure: where the search begins, and what "no" stands for
_ROUNDS = 12  # of Dinkelbach; two to four are usual
INTENSITIES = (0.1, 10.0)  # times the grids' own, how far is looked
_STEPS = 7  # of halving the way there: to 2 %


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a figure at which a type enters the best fleet (over today's: `factor`); None: none was found.

    `confirmed`: the solves on both sides of it were proved to their gaps; `within` is how far off the factor may be for
    them.
    """

    gpu: str
    host: str
    owned: bool
    tenure: str
    figure: str
    unit: str
    now: float
    value: float | None
    factor: float | None
    within: float | None
    confirmed: bool
    words: str


def entries(answer: Answer, tell: Tell | None = None) -> list[Entry]:
    """For every type that is not in the plan: each of its figures that bears on the objective, then the intensity."""
    rows: list[Entry] = []
    for row in answer.plan.unused:
        kind = Kind(row["gpu"], row["host"], row["tenure"])
        mine = [choice for choice in answer.market.choices if Kind.of(choice) == kind]
        if all(isinstance(served, str) for choice in mine for served in choice.served):
            continue  # it breaks the promises in every configuration: no figure here mends that
        for figure in _figures(answer.study, mine[0]):
            if tell is not None:
                tell(f"{kind.host}: {figure}")
            rows.append(_own(answer, kind, mine[0], figure))
    if worth(answer.study, Amount(operational_g=1.0)):
        rows += _intensities(answer, tell)
    return rows


def _figures(study: Study, choice: Choice) -> list[Figure]:
    """Figures of a type that the objective counts."""
    figures: list[Figure] = []
    if new_kg(study, choice) and worth(study, Amount(embodied_g=1.0)):
        figures.append("embodied")
    if _price(choice) and worth(study, Amount(usd=1.0)):
        figures.append("price")
    return [*figures, "power"]


def _own(answer: Answer, kind: Kind, choice: Choice, figure: Figure) -> Entry:
    """Where one of a type's own figures lets it in, from next to nothing upwards."""
    level, tolerance = answer.plan.objective, slack(answer) * abs(answer.plan.objective)
    factor, slope, proved = _NEARLY_NOTHING, 0.0, True
    for _ in range(_ROUNDS):
        market = again(
            answer, offered=altered(answer.market.choices, lambda c: Kind.of(c) == kind, _change(figure, factor))
        )
        solution = found(answer, market)
        proved &= sure(answer, solution)
        if solution.objective is None or level - solution.objective <= tolerance:
            break
        rises = _part(answer.study, market, solution, kind, figure) / factor
        if rises <= 0.0:
            break  # what is better is not this type's doing: the plan had a gap
        factor, slope = min(1.0, factor + (level - solution.objective) / rises), rises
    now, unit = _now(answer.study, choice, figure)
    if not slope:
        told = f"not even at no {_NAMES[figure]}" + _doubt(proved)
        return Entry(*_key(kind), figure, unit, now, None, None, None, proved, told)
    told = f"enters at {_digits(now * factor)} {unit} of {_NAMES[figure]} (now {_digits(now)})" + _doubt(proved)
    return Entry(*_key(kind), figure, unit, now, now * factor, factor, tolerance / slope, proved, told)


_NAMES = {"embodied": "embodied carbon a unit", "price": "price of a unit", "power": "power at idle, joules alike"}


def _change(figure: Figure, factor: float) -> Callable[[Choice], dict[str, Any]]:
    def change(choice: Choice) -> dict[str, Any]:
        if figure == "embodied":
            return {"embodied_factor": factor}
        if figure == "price":
            prices = {key: value * factor for key, value in _prices(choice).items()}
            return {"unit": choice.unit.model_copy(update=prices)}
        return {"idle_w": choice.idle_w * factor, "joules": [each * factor for each in choice.joules]}

    return change


def _part(study: Study, market: Market, solution: Solution, kind: Kind, figure: Figure) -> float:
    """What a figure of a type makes of a solution's objective."""
    had, drawn, on, groups = Amount(), Amount(), units_on(market, solution), set(groups_of(market)[kind])
    for g in groups:
        drawn = sum((each.times(n) for each, n in zip(market.on[g], on[g], strict=True)), drawn)
    for k, column in enumerate(market.program.columns):
        if column.option in groups and solution.shares[k]:
            rent = _rent(study, market, k).times(solution.shares[k])
            had, drawn = had + rent, drawn + market.priced[k].times(solution.shares[k]) + rent.times(-1.0)
    for bought, count in zip(market.bought, solution.units, strict=True):
        if count and bought.group in groups:
            had += bought.purchase.amount.times(count)
    if figure == "power":
        return worth(study, drawn)
    return worth(study, Amount(embodied_g=had.embodied_g) if figure == "embodied" else Amount(usd=had.usd))


def _rent(study: Study, market: Market, k: int) -> Amount:
    """What taking all of column k's demand pays for the hours of units, and the embodied carbon they carry then."""
    choice, column = market.choices[market.choice_of[k]], market.program.columns[k]
    if not choice.hourly:
        return Amount()
    part = market.slices[market.spot(column.demand)[1]]
    hours = column.load * (part.seconds or part.busy_s) / SECONDS_PER_HOUR
    return per_hour(study, choice).times(hours).dollars(study.usd_factor(part.year + 0.5))


def _prices(choice: Choice) -> dict[str, float]:
    """The prices a unit on offer states itself."""
    known = {key: getattr(choice.unit, key, None) for key in ("price_usd", "price_usd_per_h")}
    return {key: value for key, value in known.items() if value}


def _price(choice: Choice) -> float:
    return sum(_prices(choice).values())


def _now(study: Study, choice: Choice, figure: Figure) -> tuple[float, str]:
    if figure == "embodied":
        return new_kg(study, choice), "kg"
    if figure == "price":
        return _price(choice), "$" if "price_usd" in _prices(choice) else "$/h"
    return choice.idle_w, "W"


def _key(kind: Kind) -> tuple[str, str, bool, str]:
    return kind.gpu, kind.host, kind.tenure == "owned", kind.tenure


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _doubt(proved: bool) -> str:
    return "" if proved else "; not proved"


def greener(study: Study, factor: float) -> Study:
    """The study on grids of `factor` times their intensity."""
    ways = study.futures or [Future(name="as stated")]
    return study.model_copy(
        update={"futures": [way.model_copy(update={"intensity": way.intensity * factor}) for way in ways]}
    )


def mean_intensity(answer: Answer) -> float:
    """g/kWh over the horizon, each slice by its seconds, the sites alike."""
    market = answer.market
    seconds = sum(part.seconds for part in market.slices)
    sites = [
        sum(value * part.seconds for value, part in zip(values, market.slices, strict=True)) / seconds
        for values in market.intensity.values()
    ]
    return sum(sites) / len(sites)


def _intensities(answer: Answer, tell: Tell | None) -> list[Entry]:
    """The nearest factor on all grids, down and up, at which the best fleet has a type; by halving the way."""
    seen: dict[float, tuple[set[Kind], bool]] = {}

    def at(factor: float) -> tuple[set[Kind], bool]:
        if factor not in seen:
            if tell is not None:
                tell(f"intensity x {factor:.3g}")
            market = market_or_none(lambda: again(answer, study=greener(answer.study, factor)))
            one = None if market is None else found(answer, market)
            types = set() if market is None or one is None or one.objective is None else used(market, one)
            seen[factor] = types, one is None or sure(answer, one)
        return seen[factor]

    now, rows = mean_intensity(answer), []
    for row in answer.plan.unused:
        key = Kind(row["gpu"], row["host"], row["tenure"])
        for end in INTENSITIES:
            if key in at(end)[0]:
                rows.append(_halved(key, at, end, now))
        if not any(key in at(end)[0] for end in INTENSITIES):
            low, high = INTENSITIES
            told = f"not in the best fleet at {low:g} or {high:g} times the intensity"
            proved = all(at(end)[1] for end in INTENSITIES)
            rows.append(Entry(*_key(key), "intensity", "g/kWh", now, None, None, None, proved, told + _doubt(proved)))
    return rows


def _halved(key: Kind, at: Callable[[float], tuple[set[Kind], bool]], end: float, now: float) -> Entry:
    out, inside, sound = 1.0, end, True
    for _ in range(_STEPS):
        middle = (out * inside) ** 0.5
        types, proved = at(middle)
        sound &= proved
        out, inside = (out, middle) if key in types else (middle, inside)
    word = "up" if end > 1.0 else "down"
    told = f"enters from {_digits(now * inside)} g/kWh {word}, all grids times {inside:.2g} (now {_digits(now)})"
    within = abs(inside - out)
    return Entry(*_key(key), "intensity", "g/kWh", now, now * inside, inside, within, sound, told + _doubt(sound))
