"""From choices to the program: demands, columns priced in the objective, caps, and the words for what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from optimizer.choices import Amount, Choice, Kind, choices, electricity, undominated
from optimizer.demand import HOURS, Load, Slice
from optimizer.program import Cap, Column, Option, Program
from optimizer.study import Infeasible, Study, StudySite
from profiles import catalog, grid
from profiles.inputs import InputError
from profiles.units import JOULES_PER_KWH, SECONDS_PER_HOUR

_WATTS_PER_GPU = 1000.0  # what a missing kilowatt weighs against a missing GPU in the elastic solve


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """The program and what its positions mean.

    `priced[k]` is column k's amount when it takes all of its demand; demand d is (class, slice) = divmod(d, slices).
    `shortage[i]` says what one unit of cap i is, for people.
    """

    program: Program
    choices: list[Choice]
    slices: list[Slice]
    priced: list[Amount]
    shortage: list[str]
    intensity: dict[str, list[float]]  # site -> g/kWh of each slice
    safe_utilisation: float
    notes: list[str]
    kind_of_intensity: str  # the same at all sites, such as "average, lifecycle"


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A site with its intensity: mean of the year, and of each slice."""

    site: StudySite
    hours: list[float]
    note: str
    signal: grid.Signal


def build(study: Study, load: Load, seen: dict[Kind, float] | None = None) -> Market:
    """The program of a study.

    Args:
        study, load: the question.
        seen: utilisation found by an earlier round for kinds of unit; others are priced at `operating_point`.

    Raises:
        InputError: unknown GPU, host, model or zone; no profile; a price is needed and missing.
        Infeasible: a class of requests fits no configuration.
    """
    catalog.llm(study.demand.model)  # an unknown model is named before any missing profile
    places = [_place(study, site) for site in study.sites]
    grid.check_alike({place.site.name: place.signal for place in places})
    slices, intensity = merged(load.slices, {place.site.name: place.hours for place in places})
    seconds = np.array([part.seconds for part in slices])
    sums = {name: float(seconds @ np.array(values)) for name, values in intensity.items()}  # (g/kWh) s
    kept = undominated(list(choices(study, load, sums, float(seconds.sum()), seen or {})))
    columns, priced = _columns(study, load, slices, intensity, kept)
    caps, shortage = _caps(study, kept)
    options = [Option(worth(study, choice.unit)) for choice in kept]
    demands = [t for _ in load.classes for t in range(len(slices))]
    program = Program(options, columns, demands, caps)
    for demand in program.unserved():
        raise Infeasible(_why_unserved(study, load, kept, demand // len(slices)))
    notes = list(dict.fromkeys(f"{place.site.name}: {place.note}" for place in places if place.note))
    kind = f"{places[0].signal.kind}, {places[0].signal.scope}"
    return Market(program, kept, slices, priced, shortage, intensity, study.safe_utilisation, notes, kind)


def worth(study: Study, amount: Amount) -> float:
    """The objective: grams, or dollars plus grams at the carbon price."""
    if study.objective == "carbon":
        return amount.carbon_g
    return amount.usd + amount.carbon_g * study.carbon_price_usd_per_t / 1e6


def merged(slices: list[Slice], hours: dict[str, list[float]]) -> tuple[list[Slice], dict[str, list[float]]]:
    """Slices of equal rate and intensity at every site joined into one: the program stays exact and gets smaller."""
    groups: dict[tuple[float, ...], list[Slice]] = {}
    for part in slices:
        at = [hours[name][part.hour] if part.hour is not None else 0.0 for name in hours]
        groups.setdefault((part.rate_per_s, float(part.hour is None), *at), []).append(part)
    joined = [
        Slice("+".join(part.name for part in parts), sum(part.seconds for part in parts), key[0], parts[0].hour)
        for key, parts in groups.items()
    ]
    names = list(hours)
    return joined, {name: [key[2 + i] for key in groups] for i, name in enumerate(names)}


def _place(study: Study, site: StudySite) -> _Place:
    """Mean intensity of each hour of the day (UTC) over the year that begins at the study's start."""
    year = timedelta(days=365).total_seconds()
    signal = grid.load(site.grid, scope=site.scope, kind=site.kind)
    window = signal.window(study.start.timestamp(), year, align=study.align)
    integral = np.array([window.integral(SECONDS_PER_HOUR * i) for i in range(365 * HOURS + 1)])
    hourly = np.roll((np.diff(integral) / SECONDS_PER_HOUR).reshape(365, HOURS).mean(axis=0), study.start.hour)
    return _Place(site, [float(value) for value in hourly], window.note, signal)


def _columns(
    study: Study, load: Load, slices: list[Slice], intensity: dict[str, list[float]], kept: list[Choice]
) -> tuple[list[Column], list[Amount]]:
    columns, priced = [], []
    for o, choice in enumerate(kept):
        values = intensity[choice.site.name]
        for c, served in enumerate(choice.served):
            if isinstance(served, str):
                continue
            busy_s = served.instance_s / (choice.instances * study.safe_utilisation)
            grid_j = choice.joules[c] * choice.site.pue
            for t, part in enumerate(slices):
                rate = part.rate_per_s * load.classes[c].share
                energy_j = grid_j * rate * part.seconds
                amount = Amount(energy_j / JOULES_PER_KWH * values[t], 0.0, 0.0, energy_j)
                amount += electricity(choice.site, energy_j)
                columns.append(Column(c * len(slices) + t, o, rate * busy_s, worth(study, amount)))
                priced.append(amount)
    return columns, priced


def _caps(study: Study, kept: list[Choice]) -> tuple[list[Cap], list[str]]:
    """Stock and availability per entry, room and power per site; with the words for one missing unit of each."""
    caps: list[Cap] = []
    words: list[str] = []

    def add(limit: float | None, use: dict[int, float], weight: float, word: str, whole: bool = True) -> None:
        if limit is not None and use:
            caps.append(Cap(float(limit), use, weight, whole))
            words.append(word)

    def of(owned: bool, source: int) -> dict[int, float]:
        return {o: 1.0 for o, c in enumerate(kept) if c.owned == owned and c.source == source}

    for i, offer in enumerate(study.catalogue):
        use = of(False, i)
        hosts = sorted({kept[o].host.name for o in use})
        gpus = max((kept[o].host.gpus for o in use), default=1)
        add(offer.max_units, use, gpus, f"{' or '.join(hosts)} ({offer.gpu})")
    for i, stock in enumerate(study.owned):
        use = of(True, i)
        gpus = max((kept[o].host.gpus for o in use), default=1)
        add(stock.units, use, gpus, f"{kept[next(iter(use))].host.name} ({stock.gpu}) at {stock.site}" if use else "")
    for site in study.sites:
        here = {o: c for o, c in enumerate(kept) if c.site.name == site.name}
        add(site.max_gpus, {o: float(c.host.gpus) for o, c in here.items()}, 1.0, f"GPUs of room at {site.name}")
        if site.max_power_w is None:
            continue
        power = {o: _nameplate_w(c) for o, c in here.items()}
        add(site.max_power_w, power, 1.0 / _WATTS_PER_GPU, f"W of power at {site.name}", whole=False)
    return caps, words


def _nameplate_w(choice: Choice) -> float:
    if choice.nameplate_w is None:
        raise InputError(f"no TDP is known for {choice.gpu}, so max_power_w cannot be held", field=choice.site.name)
    return choice.nameplate_w


def _why_unserved(study: Study, load: Load, kept: list[Choice], number: int) -> str:
    """One line on a class that fits nowhere: it, and what each GPU lacks at its smallest batch."""
    each = load.classes[number]
    lacks: dict[str, str] = {}
    for choice in sorted(kept, key=lambda c: (c.max_batch, -c.tp)):
        reason = choice.served[number]
        if isinstance(reason, str):
            lacks.setdefault(choice.gpu, f"{choice.gpu} tp{choice.tp} batch {choice.max_batch}: {reason}")
    return (
        f"no configuration serves requests of {each.prompt_tokens} tokens in and {each.output_tokens} out "
        f"({100 * each.share:.2g} % of them) within the limits ({'; '.join(lacks.values())}); "
        "allow smaller max_batch or more tp, add a faster GPU, or loosen slo"
    )
