"""What can be chosen: each unit in each configuration at each site, what it costs and what a request costs on it.

A powered unit draws idle and host watts all horizon; a request adds its joules above idle. Grams of new units are
avoidable carbon: embodied whole at purchase minus what remains at the end of the horizon, linear over lifetime.
Owned units are sunk: no embodied carbon and no price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimizer.demand import Load
from optimizer.study import Offer, Owned, Study, StudySite
from profiles import catalog, embodied
from profiles.inputs import InputError
from profiles.profile import Profile, load_all, shipped_folder
from profiles.serve import Mix, Served, part_load_j, serve, within
from profiles.step import StepModel
from profiles.units import GRAMS_PER_KG, JOULES_PER_KWH, SECONDS_PER_HOUR, SECONDS_PER_YEAR
from sim.fleet import find_profile

Kind = tuple[str, int, bool, int]
Setting = tuple[str, int, bool]  # host, tp, owned: what a replay's correction of joules is for


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
    nameplate_w: float | None
    profile: Profile
    served: list[Served | str]
    joules: list[float]  # above idle, per request of each class at the operating point
    embodied_kg: tuple[float, float]  # of a new unit: its GPUs, and the rest of it; nothing for owned ones
    usd_per_h: float
    from_year: int = 0
    usable_years: int | None = None

    def bought(self, study: Study, year: int) -> Amount:
        """What one unit bought in a year costs: avoidable embodied grams, and its price to the horizon's end."""
        left, rules = study.horizon_years - year, study.accounting
        if self.usable_years is not None:
            left = min(left, self.usable_years)
        used_kg = self.embodied_kg[0] * min(1.0, left / rules.lifetime_years)
        used_kg += self.embodied_kg[1] * min(1.0, left / rules.host_lifetime_years)
        return Amount(0.0, used_kg * GRAMS_PER_KG, self.usd_per_h * left * SECONDS_PER_YEAR / SECONDS_PER_HOUR)

    def kept_on(self, gkwh_s: float, seconds: float) -> Amount:
        """What one unit draws that is on for `seconds`, with `gkwh_s` the integral of the intensity over them."""
        power_j = self.idle_w * self.site.pue * seconds
        grams = self.idle_w * self.site.pue * gkwh_s / JOULES_PER_KWH
        return Amount(grams, 0.0, 0.0, power_j) + electricity(self.site, power_j)

    @property
    def kind(self) -> Kind:
        """What shares a utilisation: host, tp, owned or new, and the entry it comes from."""
        return self.host.name, self.tp, self.owned, self.source

    @property
    def gpu(self) -> str:
        """The GPU's name."""
        return self.host.gpu

    @property
    def label(self) -> str:
        """How a plan calls it."""
        kept = ", owned" if self.owned else ""
        return f"{self.host.name} ({self.gpu}) tp{self.tp} batch {self.max_batch} at {self.site.name}{kept}"


def choices(study: Study, load: Load, seen: dict[Kind, float], factors: dict[Setting, float]) -> Iterator[Choice]:
    """Every configuration of every entry at every site where it may stand.

    Args:
        study, load: the question.
        seen: utilisation by kind of unit from an earlier round.
        factors: what replays found a request's joules to be, over what was priced.

    Raises:
        InputError: an unknown name, no profile, a price that is needed and missing.
    """
    library = load_all([*study.profiles, shipped_folder()])
    sites = {site.name: site for site in study.sites}
    offers: list[tuple[Offer | Owned, list[str], int]] = [
        (offer, offer.sites or list(sites), i) for i, offer in enumerate(study.catalogue)
    ]
    offers += [(owned, [owned.site], i) for i, owned in enumerate(study.owned)]
    llm = catalog.llm(study.demand.model).name
    for entry, at, source in offers:
        gpu = catalog.gpu(entry.gpu)
        offer = entry.model_copy(update={"gpu": gpu.name})
        for host, tp in _hosts_and_tps(study, offer, llm, library):
            _, profile = find_profile(library, gpu.name, llm, tp, study.precision, study.engine)
            model = StepModel(profile)
            idle_w = model.idle_w / tp * host.gpus + (host.power_w if study.accounting.host_power else 0.0)
            embodied_kg, price = _bought(study, offer, host)
            kind = (host.name, tp, isinstance(offer, Owned), source)
            at_load = seen.get(kind, operating_point(study, load))
            for batch in sorted(set(offer.max_batch)):
                served = _served(study, load, model, batch)
                factor = factors.get((host.name, tp, isinstance(offer, Owned)), 1.0)
                joules = [factor * each for each in _joules(load, model, served, at_load)]
                if all(isinstance(one, str) for one in served) and batch > min(offer.max_batch):
                    continue  # the smallest batch stays, to tell why nothing fits
                for name in at:
                    yield Choice(
                        site=sites[name],
                        host=host,
                        tp=tp,
                        max_batch=batch,
                        owned=isinstance(offer, Owned),
                        source=source,
                        instances=host.gpus // tp,
                        idle_w=idle_w,
                        nameplate_w=None if gpu.tdp_w is None else gpu.tdp_w * host.gpus + host.power_w,
                        profile=profile,
                        served=served,
                        joules=joules,
                        embodied_kg=embodied_kg,
                        usd_per_h=price,
                        from_year=0 if isinstance(offer, Owned) else offer.from_year,
                        usable_years=offer.usable_years,
                    )


def _hosts_and_tps(
    study: Study, offer: Offer | Owned, llm: str, library: list[tuple[Path, Profile]]
) -> Iterator[tuple[catalog.Host, int]]:
    """Every host unit of the offer with every tensor parallelism that fits it."""
    hosts = [catalog.host(offer.host)] if offer.host else catalog.hosts_for(offer.gpu)
    if offer.host and hosts[0].gpu != offer.gpu:
        raise InputError(f"host {offer.host} carries {hosts[0].gpu}, not {offer.gpu}", field="host")
    known = sorted(
        {
            profile.tp
            for _, profile in library
            if (profile.gpu, profile.model, profile.precision) == (offer.gpu, llm, study.precision)
        }
    )
    tps = offer.tp or known or [1]  # with no profile at all, looking for tp1 says so
    pairs = [(host, tp) for host in hosts for tp in sorted(set(tps)) if tp <= host.gpus]
    if not pairs:
        raise InputError(
            f"no host of {offer.gpu} holds an instance of {min(tps)} GPUs", field="tp", mend="lower tp or name a host"
        )
    yield from pairs


def _bought(study: Study, offer: Offer | Owned, host: catalog.Host) -> tuple[tuple[float, float], float]:
    """Embodied kilograms of a new unit's GPUs and of the rest of it, and its price per hour."""
    if isinstance(offer, Owned):
        return (0.0, 0.0), 0.0
    rules = study.accounting
    chips = embodied.gpu_embodied(catalog.gpu(host.gpu), rules.preset, rules.embodied_kg).mid_kg * host.gpus
    body = embodied.host_embodied(host).mid_kg if rules.boundary == "server" else 0.0
    price = offer.price_usd_per_h
    if price is None and offer.gpu in rules.gpu_price_usd_per_h:
        price = rules.gpu_price_usd_per_h[offer.gpu] * host.gpus
    if price is None and study.objective == "cost":
        raise InputError(
            f"no price for {offer.gpu}", field="catalogue", mend="add price_usd_per_h (one unit); no price ships"
        )
    return (chips, body), price or 0.0


def electricity(site: StudySite, energy_j: float) -> Amount:
    """Dollars of `energy_j` joules from the grid; nothing where no price is given."""
    return Amount(usd=energy_j / JOULES_PER_KWH * (site.price_usd_per_kwh or 0.0))


def operating_point(study: Study, load: Load) -> float:
    """The utilisation at which joules are taken: a fleet just large enough for the peak, at the mean rate."""
    first = [part.rate_per_s for part in load.slices if part.year == 0]
    return study.safe_utilisation * load.rate_per_s / max(first)


def _served(study: Study, load: Load, model: StepModel, batch: int) -> list[Served | str]:
    """Each class's cost per request, or in words which promise it breaks.

    A class is judged alone on its instances and within the whole demand's mix; the milder verdict counts, since the
    plan may send a pool either. The replay judges what it really sends.
    """
    all_ = [serve(model, each.prompt_tokens, each.output_tokens, batch) for each in load.classes]
    fits = [(each.share, one) for each, one in zip(load.classes, all_, strict=True) if one is not None]
    if not fits:
        room = model.kv_capacity_tokens
        return [f"needs {each.prompt_tokens + each.output_tokens} KV tokens, {room} fit" for each in load.classes]
    rho = study.safe_utilisation
    mix = Mix.of([share for share, _ in fits], [one for _, one in fits], rho)
    found: list[Served | str] = []
    for each, one in zip(load.classes, all_, strict=True):
        if one is None:
            tokens = each.prompt_tokens + each.output_tokens
            found.append(f"needs {tokens} KV tokens, {model.kv_capacity_tokens} fit")
            continue
        alone, mixed = one.tpot_s, mix.tpot_s(one)
        tpot_s = None if alone is None or mixed is None else min(alone, mixed)
        found.append(_broken(study, min(one.ttft_s(rho), mix.ttft_s(one, rho)), tpot_s) or one)
    return found


def _broken(study: Study, ttft_s: float, tpot_s: float | None) -> str | None:
    if not within(ttft_s, study.slo.ttft_s):
        return f"TTFT {ttft_s:.3g} s, limit {study.slo.ttft_s:g} s"
    if not within(tpot_s, study.slo.tpot_s):
        return f"TPOT {tpot_s:.3g} s, limit {study.slo.tpot_s:g} s"
    return None


def _joules(load: Load, model: StepModel, served: list[Served | str], utilisation: float) -> list[float]:
    return [
        0.0 if isinstance(one, str) else part_load_j(model, each.prompt_tokens, each.output_tokens, one, utilisation)
        for each, one in zip(load.classes, served, strict=True)
    ]


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
    for c, (mine, theirs) in enumerate(zip(a.served, b.served, strict=True)):
        if isinstance(theirs, str):
            continue
        if isinstance(mine, str) or a.joules[c] > b.joules[c]:
            return False
        if mine.instance_s / a.instances > theirs.instance_s / b.instances:
            return False
    return True


def hull(points: list[tuple[float, float, int]]) -> list[int]:
    """The lower left convex hull of (load, joules, which): no mix of the others takes less of either.

    Only these can be in an optimum where grams, dollars and room all follow from load and joules.
    """
    found: list[tuple[float, float, int]] = []
    for point in sorted(points):
        if found and point[1] >= found[-1][1]:
            continue  # more load and no fewer joules
        while len(found) > 1 and _above(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return [which for _, _, which in found]


def _above(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
