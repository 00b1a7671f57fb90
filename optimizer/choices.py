"""What can be chosen: each unit in each configuration at each site, and what a request costs on it.

A powered unit draws idle and host watts as long as it is on; a request adds its joules above idle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optimizer.amount import Amount, drawn
from optimizer.demand import Load, RequestClass
from optimizer.offers import Offer, Owned, Role, Unit
from optimizer.study import Study, StudySite
from profiles import catalog, dvfs
from profiles.inputs import InputError
from profiles.lookup import find_profile
from profiles.profile import Profile, load_all, shipped_folder
from profiles.serve import Mix, Served, part_load_j, serve, within
from profiles.step import StepModel

Kind = tuple[str, str, int, str, bool, int]  # what shares a utilisation
Setting = tuple[str, str, int, str, float, str, bool]  # what a replay's correction of joules is for


@dataclass(frozen=True, slots=True)
class Config:
    """How a unit's instances run: model, GPUs an instance, precision, share of the full clock, role, max_num_seqs."""

    model: str
    tp: int
    precision: str
    clock: float
    role: Role
    max_batch: int


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One unit in one configuration at one site.

    `served` has a request's cost per class, or why it cannot be; `joules` per class above idle at the operating point,
    the KV transfer of who only prefills included.
    """

    site: StudySite
    host: catalog.Host
    unit: Offer | Owned
    source: int  # position in catalogue (or owned): configurations of one entry share its stock
    config: Config
    idle_w: float
    nameplate_w: float | None
    profile: Profile
    served: list[Served | str]
    joules: list[float]
    embodied_factor: float = 1.0  # on what the accounting says of a new unit: turned by optimizer/knobs.py alone

    @property
    def owned(self) -> bool:
        """Whether it was bought before the study."""
        return isinstance(self.unit, Owned)

    @property
    def hourly(self) -> bool:
        """Whether it is rented by the hour."""
        return self.tenure == "on-demand"

    @property
    def tenure(self) -> str:
        """How it is had: owned, or bought, leased or rented as the offer says."""
        return self.unit.tenure if isinstance(self.unit, Offer) else "owned"

    @property
    def first_year(self) -> int:
        """The first year of the study in which it can serve."""
        return self.unit.first_year if isinstance(self.unit, Offer) else 0

    @property
    def instances(self) -> int:
        """Instances on one unit."""
        return self.host.gpus // self.config.tp

    @property
    def kind(self) -> Kind:
        """What shares a utilisation: host, model, tp, role, owned or new, and the entry it comes from."""
        return self.host.name, self.config.model, self.config.tp, self.config.role, self.owned, self.source

    @property
    def setting(self) -> Setting:
        """What a correction of joules is for: the batch apart, all of the configuration."""
        own = self.config
        return self.host.name, own.model, own.tp, own.precision, own.clock, own.role, self.owned

    @property
    def gpu(self) -> str:
        """The GPU's name."""
        return self.host.gpu

    @property
    def label(self) -> str:
        """How a plan calls it."""
        own = self.config
        words = [f"{self.host.name} ({self.gpu}) tp{own.tp} batch {own.max_batch}"]
        words += [f"clock {own.clock:g}"] if own.clock < 1.0 else []
        words += [own.role] if own.role != "both" else []
        return f"{' '.join(words)} at {self.site.name}{', owned' if self.owned else ''}"

    def busy_s(self, c: int, safe: float) -> float | None:
        """Unit seconds that a request of class c takes of a unit used up to its safe share; None where it cannot be."""
        served = self.served[c]
        return None if isinstance(served, str) else served.instance_s / (self.instances * safe)

    def grid_j(self, c: int) -> float:
        """Joules from the grid that a request of class c adds."""
        return self.joules[c] * self.site.pue

    def kept_on(self, gkwh_s: float, seconds: float, year: int = 0) -> Amount:
        """What one unit draws that is on for `seconds`, with `gkwh_s` the integral of the intensity over them."""
        mean = gkwh_s / seconds if seconds else 0.0
        return drawn(self.site, self.idle_w * self.site.pue * seconds, mean, year)


def choices(study: Study, load: Load, seen: dict[Kind, float], factors: dict[Setting, float]) -> Iterator[Choice]:
    """Every configuration of every entry at every site where it may stand.

    Args:
        study, load: the question.
        seen: utilisation by kind of unit from an earlier round.
        factors: what replays found a request's joules to be, over what was priced.

    Raises:
        InputError: an unknown name, no profile.
    """
    library = load_all([*study.profiles, shipped_folder()])
    sites = {site.name: site for site in study.sites}
    entries: list[tuple[Offer | Owned, list[str], int]] = [
        (offer, offer.sites or list(sites), i) for i, offer in enumerate(study.catalogue)
    ]
    entries += [(owned, [owned.site], i) for i, owned in enumerate(study.owned)]
    for entry, at, source in entries:
        gpu = catalog.gpu(entry.gpu)
        unit = entry.model_copy(update={"gpu": gpu.name})
        for host, config, profile in _configured(study, unit, library):
            model = StepModel(profile)
            idle_w = model.idle_w / config.tp * host.gpus + (host.power_w if study.accounting.host_power else 0.0)
            nameplate_w = None if gpu.tdp_w is None else gpu.tdp_w * host.gpus + host.power_w
            served = _served(study, load, model, config)
            if all(isinstance(one, str) for one in served) and config.max_batch > min(unit.max_batch):
                continue  # the smallest batch stays, to tell why nothing fits
            bare = Choice(sites[at[0]], host, unit, source, config, idle_w, nameplate_w, profile, served, [])
            # what is rented is on as its load asks for it
            usual = study.safe_utilisation if bare.hourly else operating_point(study, load)
            utilisation = seen.get(bare.kind, usual)
            factor = factors.get(bare.setting, 1.0)
            joules = [factor * each for each in _joules(study, load, model, config, served, utilisation)]
            for name in at:
                place = sites[name]
                yield Choice(place, host, unit, source, config, idle_w, nameplate_w, profile, served, joules)


def _configured(
    study: Study, unit: Unit, library: list[tuple[Path, Profile]]
) -> Iterator[tuple[catalog.Host, Config, Profile]]:
    """Every host of the unit with every configuration it may run in.

    A model that does not fit is left out where another one does.

    Raises:
        InputError: nothing of it has a profile.
    """
    missing: InputError | None = None
    found = False
    for name, precision in itertools.product(study.models, unit.precisions or [study.precision]):
        llm = catalog.llm(name).name
        try:
            pairs = list(_hosts_and_tps(unit, llm, precision, library))
            bare = {
                tp: find_profile(library, unit.gpu, llm, tp, precision, study.engine, predict=study.predict)[1]
                for _, tp in pairs
            }
        except InputError as error:
            missing = error
            continue
        found = True
        clocked = {(tp, c): dvfs.at_clock(bare[tp], c) for tp in bare for c in sorted(set(unit.clocks), reverse=True)}
        for (host, tp), clock, role, batch in itertools.product(
            pairs, sorted(set(unit.clocks), reverse=True), unit.roles, sorted(set(unit.max_batch))
        ):
            if role != "prefill" or batch == min(unit.max_batch):  # prefills are not batched by sequence
                yield host, Config(llm, tp, precision, clock, role, batch), clocked[tp, clock]
    if missing is not None and not found:
        raise missing


def _hosts_and_tps(
    unit: Unit, llm: str, precision: str, library: list[tuple[Path, Profile]]
) -> Iterator[tuple[catalog.Host, int]]:
    """Every host of the unit with every tensor parallelism that fits it."""
    hosts = [catalog.host(unit.host)] if unit.host else catalog.hosts_for(unit.gpu)
    if unit.host and hosts[0].gpu != unit.gpu:
        raise InputError(f"host {unit.host} carries {hosts[0].gpu}, not {unit.gpu}", field="host")
    wanted = unit.gpu, llm, precision
    known = sorted({p.tp for _, p in library if (p.gpu, p.model, p.precision) == wanted})
    tps = unit.tp or known or [1]  # with no profile at all, looking for tp1 says so
    pairs = [(host, tp) for host in hosts for tp in sorted(set(tps)) if tp <= host.gpus]
    if not pairs:
        raise InputError(
            f"no host of {unit.gpu} holds an instance of {min(tps)} GPUs", field="tp", mend="lower tp or name a host"
        )
    yield from pairs


def operating_point(study: Study, load: Load) -> float:
    """The utilisation at which joules are taken: a fleet just large enough for the peak, at the mean rate."""
    first = [part.rate_per_s for part in load.slices if part.year == 0]
    return study.safe_utilisation * load.rate_per_s / max(first)


def _served(study: Study, load: Load, model: StepModel, config: Config) -> list[Served | str]:
    """Each class's cost per request, or in words which promise it breaks.

    A class is judged alone on its instances and within the mix of all classes of its model; the milder verdict counts,
    since the plan may send a pool either. The replay judges what it really sends.
    """
    role = config.role
    found: list[Served | str] = [f"asks for {each.model}, this runs {config.model}" for each in load.classes]
    fits: dict[int, Served] = {}
    for c, each in enumerate(load.classes):
        if each.model != config.model:
            continue
        one = serve(model, each.prompt_tokens, each.output_tokens, config.max_batch, role)
        tokens = each.prompt_tokens + (0 if role == "prefill" else each.output_tokens)
        found[c] = f"needs {tokens} KV tokens, {model.kv_capacity_tokens} fit"
        if one is not None:
            fits[c] = one
    rho = study.safe_utilisation
    busy = {c: one for c, one in fits.items() if one.instance_s}
    mix = Mix.of([load.of_class(load.classes[c]) for c in busy], list(busy.values()), rho) if busy else None
    for c, one in fits.items():
        found[c] = _broken(study, load.classes[c], model, config, one, mix) or one
    return found


def _broken(
    study: Study, each: RequestClass, model: StepModel, config: Config, one: Served, mix: Mix | None
) -> str | None:
    """The promise that a class cannot be kept; whoever does not make the first token is not asked for its TTFT."""
    rho = study.safe_utilisation
    if config.role != "decode" and mix is not None:
        ttft_s = min(one.ttft_s(rho), mix.ttft_s(one, rho))
        if not within(ttft_s, each.ttft_limit_s):
            return f"TTFT {ttft_s:.3g} s, limit {each.ttft_limit_s:g} s"
    alone, mixed = one.tpot_s, mix.tpot_s(one) if mix is not None else None
    tpot_s = None if alone is None or mixed is None else min(alone, mixed)
    if config.role == "decode" and tpot_s is not None and each.output_tokens > 1:
        tpot_s += transfer(study, model.profile, each)[0] / (each.output_tokens - 1)  # the second token waits for it
    if not within(tpot_s, each.tpot_limit_s):
        return f"TPOT {tpot_s:.3g} s, limit {each.tpot_limit_s:g} s"
    return None


def transfer(study: Study, profile: Profile, each: RequestClass) -> tuple[float, float]:
    """Seconds and joules to hand a request's KV cache over the study's link."""
    if study.kv_transfer is None:
        return 0.0, 0.0
    gigabytes = profile.memory.kv_bytes_per_token * each.prompt_tokens / 1e9
    link = study.kv_transfer
    return link.latency_s + gigabytes / link.gb_per_s, gigabytes * link.joules_per_gb


def _joules(
    study: Study, load: Load, model: StepModel, config: Config, served: list[Served | str], utilisation: float
) -> list[float]:
    found = []
    for each, one in zip(load.classes, served, strict=True):
        if isinstance(one, str):
            found.append(0.0)
            continue
        role = config.role
        joules = part_load_j(model, each.prompt_tokens, each.output_tokens, one, utilisation, role)
        found.append(joules + (transfer(study, model.profile, each)[1] if role == "prefill" else 0.0))
    return found
