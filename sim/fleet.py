"""The fleet: a scenario's sites and pools with everything looked up, checked and packed on hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from profiles import catalog, dvfs, embodied, grid
from profiles.inputs import InputError
from profiles.llm import Llm
from profiles.lookup import find_profile
from profiles.profile import Profile, load_all, shipped_folder
from profiles.step import StepModel
from sim.control.forecast import DAY_S, Believed
from sim.scenario import Accounting, Pool, Scenario, Site

Range = tuple[float, float, float]  # low, mid, high


@dataclass(frozen=True, slots=True, eq=False)
class LiveSite:
    """A site with its intensity over the run."""

    spec: Site
    signal: grid.Signal
    window: grid.Window
    believed: Believed  # what decisions know of the intensity ahead


@dataclass(frozen=True, slots=True, eq=False)
class LivePool:
    """A pool with its profile, its hosts and what the router needs to know of it.

    `units` hosts of `host.gpus` GPUs carry the pool; `spare_gpus` of them stay empty but powered and paid for.
    `gpus_kg` and `host_kg` are the embodied kilograms (low, mid, high) of one unit's GPUs and of the rest of it.
    `prompt_j` and `output_j` are busy joules per token at the pool's full batch; `token_limit` the tokens one
    instance may hold outstanding before the router calls it full.
    """

    spec: Pool
    site: LiveSite
    gpu: catalog.Gpu
    llm: Llm
    host: catalog.Host
    units: int
    profile: Profile
    profile_path: Path | None  # None: predicted
    model: StepModel
    gpus_kg: Range
    host_kg: Range
    embodied_source: str
    numbers: range
    prompt_j: float
    output_j: float
    token_limit: float

    @property
    def pue(self) -> float:
        """The site's power usage effectiveness."""
        return self.site.spec.pue

    @property
    def intensity_now(self) -> Callable[[float], float]:
        """Grid intensity at a time of the run, in g/kWh."""
        return self.site.window.at

    @property
    def ahead(self) -> bool:
        """Whether its engines plan a step while the one before it runs."""
        asked = self.spec.async_scheduling
        return self.profile.async_scheduling if asked is None else asked

    @property
    def spare_gpus(self) -> int:
        """GPUs that are bought with the units but carry no instance."""
        return self.units * self.host.gpus - self.spec.gpus


def build(scenario: Scenario, start_epoch_s: float, duration_s: float, perfect: bool = False) -> list[LivePool]:
    """Look everything up and check that it fits.

    Args:
        perfect: what decisions believe of the grid is what comes.

    Raises:
        InputError: an unknown GPU, model, zone or host, no profile for a pool, a model that does not fit its GPUs,
            a time outside a grid series.
    """
    sites = {}
    for site in scenario.sites:
        signal = grid.load(site.grid, scope=site.scope, kind=site.kind)
        window = signal.window(start_epoch_s, duration_s, align=scenario.align)
        before = _day_before(signal, start_epoch_s, scenario) if scenario.controls else None
        believed = Believed(window, before, _issued(site, signal), start_epoch_s, perfect)
        sites[site.name] = LiveSite(site, signal, window, believed)
    grid.check_alike({name: site.signal for name, site in sites.items()})
    library = load_all([*scenario.profiles, shipped_folder()])
    pools: list[LivePool] = []
    first = 0
    for pool in _in_lanes(scenario.pools):
        live = _pool(pool, sites[pool.site], library, scenario, first)
        pools.append(live)
        first = live.numbers.stop
    return pools


def _day_before(signal: grid.Signal, start_s: float, scenario: Scenario) -> grid.Window | None:
    """What came in the day before the run, where the series has it: yesterday is what is believed of the first day."""
    try:
        return signal.window(start_s - DAY_S, DAY_S, align=scenario.align)
    except InputError:
        return None


def _issued(site: Site, signal: grid.Signal) -> grid.Forecast | None:
    """The site's forecast file.

    Raises:
        InputError: not a forecast, or of another scope than the series.
    """
    if site.forecast is None:
        return None
    issued = grid.read_forecast(site.forecast)
    if issued.scope != signal.scope:
        what = f"a forecast of {issued.scope} intensity beside a {signal.scope} series"
        raise InputError(what, file=site.forecast, field=f"sites.{site.name}.forecast", mend="use one scope")
    return issued


def _in_lanes(pools: list[Pool]) -> list[Pool]:
    """Pools of one model and role beside each other, so that a router's instances have consecutive numbers."""
    if len({(pool.model, pool.role) for pool in pools}) == 1:
        return pools
    name = {pool.model: catalog.llm(pool.model).name for pool in pools}
    models = list(dict.fromkeys(name[pool.model] for pool in pools))
    return sorted(pools, key=lambda pool: (models.index(name[pool.model]), pool.role == "decode"))


def _pool(pool: Pool, site: LiveSite, library: list[tuple[Path, Profile]], scenario: Scenario, first: int) -> LivePool:
    gpu, llm = catalog.gpu(pool.gpu), catalog.llm(pool.model)
    _check_weights(pool, gpu, llm.weights_bytes(pool.precision) / pool.ranks)
    if pool.ep and not llm.moe:
        what = f"{llm.name} is dense: it has no experts to spread"
        raise InputError(what, field=f"pool {pool.name}.ep", mend="drop ep")
    ep = pool.tp * pool.dp if pool.ep else 1
    wanted = (gpu.name, llm.name, pool.tp, pool.precision, pool.engine, ep)
    path, profile = find_profile(library, *wanted, predict=scenario.predict)
    profile = dvfs.at_clock(profile, pool.clock)
    _check_memory(pool, gpu, profile)
    host, units = pack(pool, gpu.name)
    model = StepModel(profile)
    gpus_kg, host_kg, embodied_source = _embodied(gpu, host, scenario.accounting)
    prompt_j, output_j = _busy_joules(model, pool.max_num_seqs)
    return LivePool(
        spec=pool,
        site=site,
        gpu=gpu,
        llm=llm,
        host=host,
        units=units,
        profile=profile,
        profile_path=path,
        model=model,
        gpus_kg=gpus_kg,
        host_kg=host_kg,
        embodied_source=embodied_source,
        numbers=range(first, first + pool.engines),
        prompt_j=prompt_j,
        output_j=output_j,
        token_limit=_token_limit(model, pool, _strictest(scenario)),
    )


def _check_weights(pool: Pool, gpu: catalog.Gpu, weights_bytes: float) -> None:
    have = gpu.memory_bytes * pool.tp
    if weights_bytes >= have:
        raise InputError(
            f"{pool.model} at {pool.precision} needs {weights_bytes / 1e9:.0f} GB for its weights, "
            f"{pool.tp} x {gpu.name} have {have / 1e9:.0f} GB",
            field=f"pool {pool.name}",
            mend="use more tensor parallelism (tpN) or a larger GPU",
        )


def _check_memory(pool: Pool, gpu: catalog.Gpu, profile: Profile) -> None:
    """The profile's weights must fit the GPUs, and it must not claim more KV than is left beside them."""
    _check_weights(pool, gpu, profile.memory.weights_bytes)
    room = gpu.board_bytes * pool.tp
    kv = profile.memory.kv_capacity_tokens * profile.memory.kv_bytes_per_token
    if profile.memory.weights_bytes + kv > room * 1.001:
        raise InputError(
            f"the profile claims {kv / 1e9:.0f} GB of KV beside the weights, more than {pool.tp} x {gpu.name} hold",
            field=f"pool {pool.name}",
            mend="correct memory.kv_capacity_tokens in the profile",
        )


def pack(pool: Pool, gpu: str) -> tuple[catalog.Host, int]:
    """The host unit of a pool and how many are needed: the named one, else the one with the fewest spare GPUs.

    Raises:
        InputError: no unit of this GPU holds an instance of `tp` GPUs, or the named host carries another GPU.
    """
    hosts = [catalog.host(pool.host)] if pool.host else catalog.hosts_for(gpu)
    if pool.host and hosts[0].gpu != gpu:
        raise InputError(f"host {pool.host} carries {hosts[0].gpu}, not {gpu}", field=f"pool {pool.name}.host")
    fits = [host for host in hosts if host.gpus >= pool.tp]
    if not fits:
        largest = max((host.gpus for host in hosts), default=0)
        raise InputError(
            f"an instance needs {pool.tp} GPUs in one host, the largest host of {gpu} has {largest}",
            field=f"pool {pool.name}",
            mend="lower tp",
        )
    units = {host.name: -(-pool.engines // (host.gpus // pool.tp)) for host in fits}
    best = min(fits, key=lambda host: (units[host.name] * host.gpus, units[host.name], host.name))
    return best, units[best.name]


def _embodied(gpu: catalog.Gpu, host: catalog.Host, rules: Accounting) -> tuple[Range, Range, str]:
    """Kilograms of a unit's GPUs and of the host beside them (nothing at a chip or card boundary), and the source."""
    chip = embodied.gpu_embodied(gpu, rules.preset, rules.embodied_kg)
    gpus = (chip.low_kg * host.gpus, chip.mid_kg * host.gpus, chip.high_kg * host.gpus)
    if rules.boundary not in ("server", chip.boundary):
        raise InputError(
            f"preset {chip.preset} describes a {chip.boundary}, not a {rules.boundary}",
            field="accounting.boundary",
            mend=f"write server or {chip.boundary}",
        )
    if rules.boundary != "server":
        return gpus, (0.0, 0.0, 0.0), chip.source
    body = embodied.host_embodied(host)
    return gpus, (body.low_kg, body.mid_kg, body.high_kg), f"{chip.source}; host: {body.source}"


def _busy_joules(model: StepModel, batch: int) -> tuple[float, float]:
    """Busy joules per prompt token (at a 1,024-token prompt) and per output token (at the full batch)."""
    step = model.prefill([(1024, 0)])
    context = 1024
    batch = max(1, min(batch, model.kv_capacity_tokens // context))
    line = model.decode(batch, batch * context)
    time_s = line.a_s + line.c_s * batch * context
    return step.time_s * step.power_w / 1024, time_s * line.power_w / batch


def _strictest(scenario: Scenario) -> float | None:
    """The shortest TPOT that any class is promised."""
    return min((each.tpot_s for each in scenario.slo_classes if each.tpot_s is not None), default=None)


def _token_limit(model: StepModel, pool: Pool, tpot_s: float | None) -> float:
    """Tokens one instance may hold: its KV memory, or the batch at which a decode step takes half the TPOT limit.

    Half, because prefills of newcomers stretch the gaps between tokens; a routing rule of thumb, not a promise.
    """
    context = 1024
    batch = max(1, min(pool.max_num_seqs, model.kv_capacity_tokens // context))
    if tpot_s is not None:
        while batch > 1 and model.decode_time_s(batch, batch * context) > 0.5 * tpot_s:
            batch -= 1
    return float(batch * context)


def sources(pools: list[LivePool]) -> list[dict[str, str]]:
    """Every figure's origin: profiles, grid series and embodied presets in use."""
    rows: dict[str, dict[str, str]] = {}
    for pool in pools:
        made = pool.profile.provenance
        rows[f"profile {pool.profile.key}"] = {
            "what": f"profile {pool.profile.key}",
            "kind": made.kind,
            "tier": made.tier,
            "source": made.source,
            "licence": made.licence,
            "band": f"time x/{pool.profile.band.time:g}, power x/{pool.profile.band.power:g}",
        }
        signal = pool.site.signal
        rows[f"grid {pool.site.spec.name}"] = {
            "what": f"grid intensity at {pool.site.spec.name}",
            "kind": f"{signal.kind}, {signal.scope}",
            "source": signal.source,
            "licence": signal.licence,
        }
        rows[f"embodied {pool.host.name}"] = {
            "what": f"embodied carbon of {pool.host.name}",
            "kind": "modelled",
            "source": pool.embodied_source,
        }
        rows[f"host {pool.host.name}"] = {
            "what": f"host power of {pool.host.name}: {pool.host.power_w:g} W beside its GPUs",
            "kind": "catalogue",
            "source": pool.host.source,
        }
    return list(rows.values())
