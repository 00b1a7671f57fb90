"""The exact dispatch of every hour of the first year with the plan's fleet fixed: what typical days smooth away.

Each hour is a program of its own (the same rows as the plan's, units given), so that they are solved in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from optimizer import demand, grids
from optimizer.amount import Amount, drawn, worth
from optimizer.choices import Choice, choices
from optimizer.plan import Plan
from optimizer.study import Infeasible, Study
from profiles import catalog
from profiles.inputs import InputError
from profiles.units import JOULES_PER_KWH, SECONDS_PER_HOUR

BLOCK = 96  # hours solved at once


@dataclass(frozen=True, slots=True)
class Year:
    """The first year, hour by hour: grams, joules, and each pool's share of the requests by hour."""

    hours: int
    operational_g: float
    energy_j: float
    planned_g: float  # the same year as the plan's typical days have it
    share: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A pool of the plan: its choice, units on, and per class busy seconds (of all its units' one) and grid joules."""

    name: str
    choice: Choice
    on: int
    busy_s: list[float | None]
    grid_j: list[float]


def check(study: Study) -> None:
    """Whether a study's plan can be dispatched by the hour.

    Raises:
        InputError: it has futures, roles, units that reconfigure or are rented by the hour.
    """
    rented = any(offer.tenure == "on-demand" for offer in study.catalogue)
    odd = {"reconfigure": study.reconfigure, "futures": bool(study.futures), "roles": study.apart_by_role}
    for what, asked in (odd | {"tenure on-demand": rented}).items():
        if asked:
            mend = f"leave {what} out for it"
            raise InputError("the dispatch by the hour knows bought units in one configuration", field=what, mend=mend)


def redispatch(study: Study, plan: Plan) -> Year:
    """Dispatch all 8,760 hours of the study's first year at its hourly rates and intensities.

    Raises:
        InputError: as `check`.
        Infeasible: an hour's requests do not fit the fleet (the plan's peak covers less than that hour).
    """
    check(study)
    with catalog.using(study.own_catalog):
        return _redispatch(study, plan)


def _redispatch(study: Study, plan: Plan) -> Year:
    load = demand.build(study)
    places = {site.name: grids.place(study, site) for site in study.sites}
    rate = _rates(load, next(iter(places.values())))
    units = _units(study, load, plan)
    intensity = {name: each.year.ravel() * each.site.intensity_factor(0) for name, each in places.items()}
    total, hours = Amount(), rate.shape[1]
    for unit in units:
        gkwh_s = float(intensity[unit.choice.site.name].sum()) * SECONDS_PER_HOUR
        total += unit.choice.kept_on(gkwh_s, hours * SECONDS_PER_HOUR).times(unit.on)
    year = _Hours(study, units, rate, intensity)
    shares = np.zeros((hours, len(units)))
    for first in range(0, hours, BLOCK):
        block = range(first, min(first + BLOCK, hours))
        shares[block.start : block.stop], amount = year.dispatch(block)
        total += amount
    whole = plan.years[0]
    planned_g = whole["operational_g"] * hours * SECONDS_PER_HOUR / whole["seconds"]
    by_pool = {unit.name: shares[:, u].tolist() for u, unit in enumerate(units)}
    return Year(hours, total.operational_g, total.energy_j, planned_g, by_pool)


def _rates(load: demand.Load, place: grids.Place) -> np.ndarray:
    """Requests per second of each class in each hour of the year, as the typical days of its first year have them."""
    found = np.zeros((len(load.classes), place.month.size, demand.HOURS))
    for part in load.slices:
        if part.year == 0 and part.hour is not None:
            each = np.array([part.rate(one) for one in load.classes])
            found[:, place.days(part), part.hour] = each[:, None]
    return found.reshape(len(load.classes), -1)


def _units(study: Study, load: demand.Load, plan: Plan) -> list[_Unit]:
    """The plan's pools with what a request of each class costs there, as the plan priced it."""
    known = {(c.site.name, c.setting, c.config.max_batch): c for c in choices(study, load, {}, {})}
    found = []
    for row in plan.fleet:
        setting = row.host, row.model, row.tp, row.precision, row.clock, row.role, row.owned
        choice = known[row.site, setting, row.max_batch]
        busy = [choice.busy_s(c, study.safe_utilisation) for c in range(len(load.classes))]
        bare_j = [choice.grid_j(c) for c in range(len(load.classes))]
        priced_j = _as_planned(plan, row.pool, bare_j, row.years[0]["dynamic_j"])
        found.append(_Unit(row.pool, choice, row.on[0], busy, priced_j))
    return found


def _as_planned(plan: Plan, pool: str, bare_j: list[float], planned_j: float) -> list[float]:
    """Joules of requests scaled so that the plan's own dispatch draws what the plan says (its operating point)."""
    parts = {part["name"]: part for part in plan.slices if part["year"] == 0}
    joules = 0.0
    for row in plan.dispatch:
        if row["pool"] == pool and row["slice"] in parts:
            part, each = parts[row["slice"]], plan.classes[row["class"]]
            rate = part["rates"][each["stream"]] * each["share"]
            joules += part["seconds"] * rate * row["share"] * bare_j[row["class"]]
    return [j * planned_j / joules if joules else j for j in bare_j]


class _Hours:
    """The dispatch program of any hours: a column for every unit that serves a class.

    What is the same in every hour is made once: the dollars and grams of a request's joules, and its busy time.
    """

    def __init__(self, study: Study, units: list[_Unit], rate: np.ndarray, intensity: dict[str, np.ndarray]) -> None:
        pairs = [(u, c, busy) for u, unit in enumerate(units) for c, busy in enumerate(unit.busy_s) if busy is not None]
        self._units, self._rate = units, rate
        self._unit, self._class = np.array([u for u, _, _ in pairs]), np.array([c for _, c, _ in pairs])
        self._busy_s = np.array([busy for _, _, busy in pairs])
        self._grid_j = np.array([units[u].grid_j[c] for u, c, _ in pairs])
        self._intensity = np.array([intensity[unit.choice.site.name] for unit in units])
        dollars = [drawn(units[u].choice.site, j, 0.0) for u, j in zip(self._unit, self._grid_j, strict=True)]
        self._worth_j = np.array([worth(study, each) for each in dollars])
        self._worth_g = np.array([worth(study, Amount(operational_g=j / JOULES_PER_KWH)) for j in self._grid_j])

    def dispatch(self, block: range) -> tuple[np.ndarray, Amount]:
        """Each unit's share of the requests of every hour of a block, and what requests drew.

        Raises:
            Infeasible: an hour's requests do not fit.
        """
        hours, kinds = slice(block.start, block.stop), len(self._class)
        requests = self._rate[self._class, hours].T * SECONDS_PER_HOUR  # hours x columns
        grams = self._intensity[self._unit, hours].T
        cost = (requests * (self._worth_j + grams * self._worth_g)).ravel()
        one = sparse.csr_matrix((np.ones(kinds), (self._class, np.arange(kinds))), shape=(len(self._rate), kinds))
        load = self._busy_s * requests / SECONDS_PER_HOUR
        places = np.tile(self._unit, len(block)) + np.repeat(np.arange(len(block)) * len(self._units), kinds)
        room = sparse.csr_matrix(
            (load.ravel(), (places, np.arange(load.size))), shape=(len(block) * len(self._units), load.size)
        )
        solve: Any = linprog
        found = solve(
            cost / (float(np.median(cost)) or 1.0),
            A_ub=room,
            b_ub=np.tile([float(unit.on) for unit in self._units], len(block)),
            A_eq=sparse.block_diag([one] * len(block), format="csr"),
            b_eq=np.ones(len(self._rate) * len(block)),
            bounds=(0.0, 1.0),
            method="highs",
        )
        if found.status != 0:
            what = f"the fleet does not carry every request of hours {block.start} to {block.stop - 1} of the year"
            raise Infeasible(f"{what}; raise demand.peak_quantile or lower safe_utilisation")
        served = found.x.reshape(len(block), kinds) * requests
        joules = served * self._grid_j
        amount = Amount(float((joules * grams).sum()) / JOULES_PER_KWH, 0.0, 0.0, float(joules.sum()))
        taken = np.zeros((len(block), len(self._units)))
        np.add.at(taken.T, self._unit, served.T)
        return taken / (self._rate[:, hours].sum(axis=0)[:, None] * SECONDS_PER_HOUR), amount
