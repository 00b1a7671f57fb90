"""The plan beside other fleets on the same demand, promises and profiles: what it is worth, where that turns round.

Single types, the least cost and the least energy, what is owned alone; a front of cost against carbon by a sweep of the
carbon price; and, where old units stand against new ones, the intensity and the lifetime at which the answer flips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from optimizer.plan import NoPlan, Plan, solve
from optimizer.purchase import priced
from optimizer.study import Infeasible, Study
from profiles import catalog
from profiles.inputs import InputError
from profiles.units import JOULES_PER_KWH

PRICES_USD_PER_T = (0.0, 10.0, 30.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 5000.0, 20000.0)
TIE_USD_PER_T = 0.01  # of fleets that cost the same, the greenest
PRESETS = (("pcf-card", "server"), ("pcf-card", "card"), ("act", "server"), ("act", "chip"), ("boavizta", "server"))


@dataclass(frozen=True, slots=True)
class Rival:
    """Another fleet for the same question; what cannot be has a reason in `why` and no figures."""

    name: str
    fleet: dict[str, int]
    carbon_g: float | None
    operational_g: float | None
    embodied_g: float | None
    energy_j: float | None
    usd: float | None
    status: str
    why: str = ""

    @classmethod
    def of(cls, name: str, plan: Plan) -> Rival:
        """A plan in these figures."""
        fleet: dict[str, int] = {}
        for row in plan.fleet:
            key = f"{row.host} at {row.site}{' (owned)' if row.owned else ''}"
            fleet[key] = fleet.get(key, 0) + row.units
        grams = plan.carbon_g, plan.operational_g, plan.embodied_g
        return cls(name, fleet, *grams, plan.energy_j, plan.usd, plan.status)

    @classmethod
    def missing(cls, name: str, why: str) -> Rival:
        """A fleet that cannot be."""
        return cls(name, {}, None, None, None, None, None, "infeasible", why)


def rivals(study: Study, plan: Plan, tell: Callable[[str], None] | None = None) -> list[Rival]:
    """The plan first, then: each type alone, least cost (where prices are given), least energy, what is owned alone."""
    found = [Rival.of("this plan", plan)]
    for name, other in _others(study):
        if tell is not None:
            tell(name)
        try:
            found.append(Rival.of(name, solve(other)))
        except (Infeasible, NoPlan) as error:
            found.append(Rival.missing(name, str(error)))
    return found


def _others(study: Study) -> Iterator[tuple[str, Study]]:
    for gpu in dict.fromkeys(catalog.gpu(offer.gpu).name for offer in study.catalogue):
        only = [offer for offer in study.catalogue if catalog.gpu(offer.gpu).name == gpu]
        yield f"{gpu} alone, new", study.model_copy(update={"catalogue": only, "owned": []})
    if all(priced(study, offer) for offer in study.catalogue):
        tie = {"objective": "cost", "carbon_price_usd_per_t": TIE_USD_PER_T}
        yield "least cost", study.model_copy(update=tie)
    if study.objective != "carbon":
        yield "least carbon", study.model_copy(update={"objective": "carbon", "carbon_price_usd_per_t": 0.0})
    yield "least energy", study.model_copy(update={"objective": "energy", "carbon_price_usd_per_t": 0.0})
    if study.owned:
        yield "what is owned, nothing bought", study.model_copy(update={"catalogue": []})
    if study.owned and study.catalogue:
        yield "all new", study.model_copy(update={"owned": []})


def front(study: Study, points: int = len(PRICES_USD_PER_T)) -> list[dict[str, Any]]:
    """Fleets that no other of the sweep beats in both dollars and grams, from the cheapest to the greenest.

    Raises:
        InputError: an offer without a price, or fewer than two points.
    """
    if not 2 <= points <= 50:
        raise InputError(f"a front of {points} points", field="--pareto", mend="2 to 50")
    step = (len(PRICES_USD_PER_T) - 1) / (points - 1)
    prices = [_price_at(step * k) for k in range(points)]
    rows = []
    for price in prices:
        plan = solve(study.model_copy(update={"objective": "cost", "carbon_price_usd_per_t": price}))
        rows.append({"carbon_price_usd_per_t": price, **asdict(Rival.of(f"{price:g} $/t", plan))})
    kept: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (r["usd"] or 0.0, r["carbon_g"])):
        if not kept or row["carbon_g"] < kept[-1]["carbon_g"] * (1 - 1e-9):
            kept.append(row)
    return kept


def _price_at(place: float) -> float:
    """The sweep's carbon price at a place of the list, straight lines between."""
    low = min(int(place), len(PRICES_USD_PER_T) - 2)
    return PRICES_USD_PER_T[low] + (PRICES_USD_PER_T[low + 1] - PRICES_USD_PER_T[low]) * (place - low)


def replace_or_keep(study: Study) -> list[dict[str, Any]]:
    """Where buying new and keeping the old emit the same, for each way to count embodied carbon.

    With O the operational grams of what is owned alone, N those of the best new fleet and E its avoidable embodied
    grams: keeping wins below intensity x E / (O - N), and with new hardware that lives shorter than E's lifetime x
    E / (O - N) (of lives at least as long as the horizon; host and GPU lives moved together). With the hosts' part of O
    and N scaled together, keeping wins while hosts draw less than a share of what they are billed; None: they all turn
    nothing. The paper's direction (old GPUs where the grid is clean, new ones where it is not) holds where O > N.

    Raises:
        InputError: nothing is owned, or nothing can be bought.
        Infeasible: the old units alone, or new ones alone, do not carry the demand.
    """
    if not study.owned or not study.catalogue:
        raise InputError("replace or keep needs owned units and a catalogue", field="owned", mend="give both")
    keep = solve(study.model_copy(update={"catalogue": [], "objective": "carbon", "carbon_price_usd_per_t": 0.0}))
    rows = []
    for preset, boundary in PRESETS:
        counted = {"preset": preset, "boundary": boundary, "host_power": boundary == "server"}
        rules = study.accounting.model_copy(update=counted)
        changes = {"owned": [], "accounting": rules, "objective": "carbon", "carbon_price_usd_per_t": 0.0}
        new = solve(study.model_copy(update=changes))
        old = keep
        if boundary != "server":  # hosts are billed with a server boundary only, on both sides
            old = solve(study.model_copy(update={**changes, "owned": study.owned, "catalogue": []}))
        saved = old.operational_g - new.operational_g
        factor = new.embodied_g / saved if saved > 0 else None
        mean = old.operational_g / old.energy_j * JOULES_PER_KWH
        rows.append(
            {
                "preset": preset,
                "boundary": boundary,
                "keep_g": old.carbon_g,
                "new_g": new.carbon_g,
                "keep_wins": old.carbon_g < new.carbon_g,
                "paper_direction_holds": saved > 0,
                "breakeven_host_power_share": _even_hosts(study, old, new) if boundary == "server" else None,
                "mean_intensity_g_per_kwh": mean,
                "breakeven_intensity_g_per_kwh": None if factor is None else mean * factor,
                "breakeven_lifetime_years": None
                if factor is None
                else max(study.horizon_years, rules.lifetime_years * factor),
            }
        )
    return rows


def _even_hosts(study: Study, old: Plan, new: Plan) -> float | None:
    """By what all hosts' power must be multiplied for both to emit the same; None where no factor does that."""
    hosts_old, hosts_new = _host_g(study, old), _host_g(study, new)
    if hosts_old == hosts_new:
        return None
    even = (new.carbon_g - hosts_new - (old.carbon_g - hosts_old)) / (hosts_old - hosts_new)
    return even if even >= 0.0 else None


def _host_g(study: Study, plan: Plan) -> float:
    """Grams of a plan's hosts beside their GPUs."""
    pue = {site.name: site.pue for site in study.sites}
    found = 0.0
    for row in plan.fleet:
        watts = catalog.host(row.host).power_w * pue[row.site]
        for part in plan.slices:
            found += watts * row.on[part["year"]] * part["seconds"] * part["intensity_g_per_kwh"][row.site]
    return found / JOULES_PER_KWH
