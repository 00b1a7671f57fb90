"""From study and demand to the program: every configuration of every unit at every site, priced in grams and dollars.

A powered unit draws idle and host watts all horizon; a request adds its joules above idle. Grams of new units are
avoidable carbon: embodied whole at purchase minus what remains at the end of the horizon, linear over lifetime.
Owned units are sunk: no embodied carbon and no price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from optimizer.demand import HOURS, Load, Slice
from optimizer.program import Cap, Column, Option, Program
from optimizer.study import Infeasible, Offer, Owned, Study, StudySite
from profiles import catalog, embodied, grid
from profiles.inputs import InputError
from profiles.profile import Profile, load_all, shipped_folder
from profiles.serve import Served, serve, within
from profiles.step import StepModel
from profiles.units import GRAMS_PER_KG, JOULES_PER_KWH, SECONDS_PER_HOUR, SECONDS_PER_YEAR
from sim.fleet import find_profile

_WATTS_PER_GPU = 1000.0  # what a missing kilowatt weighs against a missing GPU in the elastic solve


@dataclass(frozen=True, slots=True)
class Amount:
    """Grams of operational and embodied carbon, dollars, and joules drawn from the grid (PUE included)."""

    operational_g: float = 0.0
    embodied_g: float = 0.0
    usd: float = 0.0
    energy_j: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.operational_g + other.operational_g,
            self.embodied_g + other.embodied_g,
            self.usd + other.usd,
            self.energy_j + other.energy_j,
        )

    def times(self, factor: float) -> Amount:
        """All of it, `factor` times."""
        return Amount(self.operational_g * factor, self.embodied_g * factor, self.usd * factor, self.energy_j * factor)

    @property
    def carbon_g(self) -> float:
        """Operational and embodied grams."""
        return self.operational_g + self.embodied_g


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One unit in one configuration at one site; `served` has a request's cost per class, or why it cannot be."""

    site: StudySite
    host: catalog.Host
    tp: int
    max_batch: int
    owned: bool
    source: int  # position in catalogue (or owned): configurations of one entry share its stock
    instances: int
    idle_w: float
    nameplate_w: float
    profile: Profile
    served: list[Served | str]
    unit: Amount

    @property
    def gpu(self) -> str:
        """The GPU's name."""
        return self.host.gpu

    @property
    def label(self) -> str:
        """How a plan calls it."""
        kept = ", owned" if self.owned else ""
        return f"{self.host.name} ({self.gpu}) tp{self.tp} batch {self.max_batch} at {self.site.name}{kept}"


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


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A site with its intensity: mean of the year, and of each slice."""

    site: StudySite
    hours: list[float]
    note: str


def build(study: Study, load: Load) -> Market:
    """The program of a study.

    Raises:
        InputError: unknown GPU, host, model or zone; no profile; a price is needed and missing.
        Infeasible: a class of requests fits no configuration.
    """
    catalog.llm(study.demand.model)  # an unknown model is named before any missing profile
    places = [_place(study, site) for site in study.sites]
    slices, intensity = merged(load.slices, {place.site.name: place.hours for place in places})
    seconds = np.array([part.seconds for part in slices])
    sums = {name: float(seconds @ np.array(values)) for name, values in intensity.items()}  # (g/kWh) s
    choices = undominated(list(_choices(study, load, sums, float(seconds.sum()))))
    columns, priced = _columns(study, load, slices, intensity, choices)
    caps, shortage = _caps(study, choices)
    options = [Option(worth(study, choice.unit)) for choice in choices]
    demands = [t for _ in load.classes for t in range(len(slices))]
    program = Program(options, columns, demands, caps)
    for demand in program.unserved():
        raise Infeasible(_why_unserved(study, load, choices, demand // len(slices)))
    notes = list(dict.fromkeys(f"{place.site.name}: {place.note}" for place in places if place.note))
    return Market(program, choices, slices, priced, shortage, intensity, study.safe_utilisation, notes)


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
    window = grid.load(site.grid, scope=site.scope).window(study.start.timestamp(), year, align=study.align)
    integral = np.array([window.integral(SECONDS_PER_HOUR * i) for i in range(365 * HOURS + 1)])
    hourly = np.roll((np.diff(integral) / SECONDS_PER_HOUR).reshape(365, HOURS).mean(axis=0), study.start.hour)
    return _Place(site, [float(value) for value in hourly], window.note)


def _choices(study: Study, load: Load, sums: dict[str, float], seconds: float) -> Iterator[Choice]:
    library = load_all([*study.profiles, shipped_folder()])
    sites = {site.name: site for site in study.sites}
    offers: list[tuple[Offer | Owned, list[str], int]] = [
        (offer, offer.sites or list(sites), i) for i, offer in enumerate(study.catalogue)
    ]
    offers += [(owned, [owned.site], i) for i, owned in enumerate(study.owned)]
    for offer, at, source in offers:
        gpu = catalog.gpu(offer.gpu)
        for host, tp in _hosts_and_tps(study, offer, library):
            _, profile = find_profile(library, gpu.name, study.demand.model, tp, study.precision, study.engine)
            model = StepModel(profile)
            idle_w = model.idle_w / tp * host.gpus + (host.power_w if study.accounting.host_power else 0.0)
            embodied_g, price = _bought(study, offer, host)
            for batch in sorted(set(offer.max_batch)):
                served = [_served(study, model, each.prompt_tokens, each.output_tokens, batch) for each in load.classes]
                if all(isinstance(one, str) for one in served) and batch > min(offer.max_batch):
                    continue  # the smallest batch stays, to tell why nothing fits
                for name in at:
                    site = sites[name]
                    power_j = idle_w * site.pue * seconds
                    unit = Amount(idle_w * site.pue * sums[name] / JOULES_PER_KWH, embodied_g, price, power_j)
                    yield Choice(
                        site=site,
                        host=host,
                        tp=tp,
                        max_batch=batch,
                        owned=isinstance(offer, Owned),
                        source=source,
                        instances=host.gpus // tp,
                        idle_w=idle_w,
                        nameplate_w=gpu.tdp_w * host.gpus + host.power_w,
                        profile=profile,
                        served=served,
                        unit=unit + _electricity(site, power_j),
                    )


def _hosts_and_tps(
    study: Study, offer: Offer | Owned, library: list[tuple[Path, Profile]]
) -> Iterator[tuple[catalog.Host, int]]:
    """Every host unit of the offer with every tensor parallelism that fits it."""
    hosts = [catalog.host(offer.host)] if offer.host else catalog.hosts_for(offer.gpu)
    if offer.host and hosts[0].gpu != offer.gpu:
        raise InputError(f"host {offer.host} carries {hosts[0].gpu}, not {offer.gpu}", field="host")
    known = sorted(
        {
            profile.tp
            for _, profile in library
            if (profile.gpu, profile.model, profile.precision) == (offer.gpu, study.demand.model, study.precision)
        }
    )
    tps = offer.tp or known or [1]  # with no profile at all, looking for tp1 says so
    pairs = [(host, tp) for host in hosts for tp in sorted(set(tps)) if tp <= host.gpus]
    if not pairs:
        raise InputError(
            f"no host of {offer.gpu} holds an instance of {min(tps)} GPUs", field="tp", mend="lower tp or name a host"
        )
    yield from pairs


def _bought(study: Study, offer: Offer | Owned, host: catalog.Host) -> tuple[float, float]:
    """Avoidable embodied grams and dollars of one unit over the horizon."""
    if isinstance(offer, Owned):
        return 0.0, 0.0
    rules = study.accounting
    chips = embodied.gpu_embodied(catalog.gpu(host.gpu), rules.preset).mid_kg * host.gpus
    body = embodied.host_embodied(host).mid_kg if rules.boundary == "server" else 0.0
    used_kg = chips * min(1.0, study.horizon_years / rules.lifetime_years)
    used_kg += body * min(1.0, study.horizon_years / rules.host_lifetime_years)
    price = offer.price_usd_per_h
    if price is None and offer.gpu in rules.gpu_price_usd_per_h:
        price = rules.gpu_price_usd_per_h[offer.gpu] * host.gpus
    if price is None and study.objective == "cost":
        raise InputError(
            f"no price for {offer.gpu}", field="catalogue", mend="add price_usd_per_h (one unit); no price ships"
        )
    return used_kg * GRAMS_PER_KG, (price or 0.0) * study.horizon_years * SECONDS_PER_YEAR / SECONDS_PER_HOUR


def _electricity(site: StudySite, energy_j: float) -> Amount:
    return Amount(usd=energy_j / JOULES_PER_KWH * (site.price_usd_per_kwh or 0.0))


def _served(study: Study, model: StepModel, prompt: int, output: int, batch: int) -> Served | str:
    """A request's cost, or in words which promise it breaks."""
    served = serve(model, prompt, output, batch)
    if served is None:
        return f"needs {prompt + output} KV tokens, {model.kv_capacity_tokens} fit"
    ttft_s = served.ttft_s(study.safe_utilisation)
    if not within(ttft_s, study.slo.ttft_s):
        return f"TTFT {ttft_s:.3g} s, limit {study.slo.ttft_s:g} s"
    if not within(served.tpot_s, study.slo.tpot_s):
        return f"TPOT {served.tpot_s:.3g} s, limit {study.slo.tpot_s:g} s"
    return served


def undominated(choices: list[Choice]) -> list[Choice]:
    """Without configurations that another one of the same unit beats or equals at every class and in idle power."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (-c.max_batch, c.tp)):
        if not any(_beats(other, choice) for other in kept):
            kept = [other for other in kept if not _beats(choice, other)] + [choice]
    order = {id(choice): i for i, choice in enumerate(choices)}
    return sorted(kept, key=lambda c: order[id(c)])


def _beats(a: Choice, b: Choice) -> bool:
    same = (a.site.name, a.host.name, a.owned, a.source) == (b.site.name, b.host.name, b.owned, b.source)
    if not same or a.idle_w > b.idle_w:
        return False
    for mine, theirs in zip(a.served, b.served, strict=True):
        if isinstance(theirs, str):
            continue
        if isinstance(mine, str) or mine.dynamic_j > theirs.dynamic_j:
            return False
        if mine.instance_s / a.instances > theirs.instance_s / b.instances:
            return False
    return True


def _columns(
    study: Study, load: Load, slices: list[Slice], intensity: dict[str, list[float]], choices: list[Choice]
) -> tuple[list[Column], list[Amount]]:
    columns, priced = [], []
    for o, choice in enumerate(choices):
        values = intensity[choice.site.name]
        for c, served in enumerate(choice.served):
            if isinstance(served, str):
                continue
            busy_s = served.instance_s / (choice.instances * study.safe_utilisation)
            grid_j = served.dynamic_j * choice.site.pue
            for t, part in enumerate(slices):
                rate = part.rate_per_s * load.classes[c].share
                energy_j = grid_j * rate * part.seconds
                amount = Amount(energy_j / JOULES_PER_KWH * values[t], 0.0, 0.0, energy_j)
                amount += _electricity(choice.site, energy_j)
                columns.append(Column(c * len(slices) + t, o, rate * busy_s, worth(study, amount)))
                priced.append(amount)
    return columns, priced


def _caps(study: Study, choices: list[Choice]) -> tuple[list[Cap], list[str]]:
    """Stock and availability per entry, room and power per site; with the words for one missing unit of each."""
    caps: list[Cap] = []
    words: list[str] = []

    def add(limit: float | None, use: dict[int, float], weight: float, word: str, whole: bool = True) -> None:
        if limit is not None and use:
            caps.append(Cap(float(limit), use, weight, whole))
            words.append(word)

    def of(owned: bool, source: int) -> dict[int, float]:
        return {o: 1.0 for o, c in enumerate(choices) if c.owned == owned and c.source == source}

    for i, offer in enumerate(study.catalogue):
        use = of(False, i)
        hosts = sorted({choices[o].host.name for o in use})
        gpus = max((choices[o].host.gpus for o in use), default=1)
        add(offer.max_units, use, gpus, f"{' or '.join(hosts)} ({offer.gpu})")
    for i, stock in enumerate(study.owned):
        use = of(True, i)
        gpus = max((choices[o].host.gpus for o in use), default=1)
        add(
            stock.units, use, gpus, f"{choices[next(iter(use))].host.name} ({stock.gpu}) at {stock.site}" if use else ""
        )
    for site in study.sites:
        here = {o: c for o, c in enumerate(choices) if c.site.name == site.name}
        add(site.max_gpus, {o: float(c.host.gpus) for o, c in here.items()}, 1.0, f"GPUs of room at {site.name}")
        power = {o: c.nameplate_w for o, c in here.items()}
        add(site.max_power_w, power, 1.0 / _WATTS_PER_GPU, f"W of power at {site.name}", whole=False)
    return caps, words


def _why_unserved(study: Study, load: Load, choices: list[Choice], number: int) -> str:
    """One line on a class that fits nowhere: it, and what each GPU lacks at its smallest batch."""
    each = load.classes[number]
    lacks: dict[str, str] = {}
    for choice in sorted(choices, key=lambda c: (c.max_batch, -c.tp)):
        reason = choice.served[number]
        if isinstance(reason, str):
            lacks.setdefault(choice.gpu, f"{choice.gpu} tp{choice.tp} batch {choice.max_batch}: {reason}")
    return (
        f"no configuration serves requests of {each.prompt_tokens} tokens in and {each.output_tokens} out "
        f"({100 * each.share:.2g} % of them) within the limits ({'; '.join(lacks.values())}); "
        "allow smaller max_batch or more tp, add a faster GPU, or loosen slo"
    )
