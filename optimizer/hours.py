"""The exact dispatch of every hour of the first year with the plan's fleet fixed: what typical days smooth away.

Each hour is a program of its own (the same rows as the plan's, units given), so that they are solved in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from optimizer import columns, demand
from optimizer.choices import Amount, Choice, choices, electricity
from optimizer.columns import worth
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
        InputError: it has futures, or units that reconfigure.
    """
    for asked, what in ((study.reconfigure, "reconfigure"), (bool(study.futures), "futures")):
        if asked:
            mend = f"leave {what} out for it"
            raise InputError("the dispatch by the hour knows one configuration and one future", field=what, mend=mend)


def redispatch(study: Study, plan: Plan) -> Year:
    """Dispatch all 8,760 hours of the study's first year at its hourly rates and intensities.

    Raises:
        InputError: the study has futures or reconfigures.
        Infeasible: an hour's requests do not fit the fleet (the plan's peak covers less than that hour).
    """
    check(study)
    with catalog.using(study.own_catalog):
        return _redispatch(study, plan)


def _redispatch(study: Study, plan: Plan) -> Year:
    load = demand.build(study)
    places = {site.name: columns.place(study, site) for site in study.sites}
    rate = load.rate_per_s * np.tile(demand.shape_of(study.demand), 365)
    units = _units(study, load, plan)
    intensity = {name: place.year.ravel() for name, place in places.items()}
    total, hours = Amount(), rate.size
    shares: dict[str, list[float]] = {unit.name: [] for unit in units}
    for unit in units:
        gkwh_s = float(intensity[unit.choice.site.name].sum()) * SECONDS_PER_HOUR
        total += unit.choice.kept_on(gkwh_s, hours * SECONDS_PER_HOUR).times(unit.on)
    weights = np.array([each.share for each in load.classes])
    for first in range(0, hours, BLOCK):
        block = range(first, min(first + BLOCK, hours))
        taken, amount = _block(study, units, weights, block, rate, intensity)
        total += amount
        for u, unit in enumerate(units):
            shares[unit.name] += [float(value) for value in taken[:, u]]
    whole = plan.years[0]
    planned_g = whole["operational_g"] * hours * SECONDS_PER_HOUR / whole["seconds"]
    return Year(hours, total.operational_g, total.energy_j, planned_g, shares)


def _units(study: Study, load: demand.Load, plan: Plan) -> list[_Unit]:
    """The plan's pools with what a request of each class costs there, as the plan priced it."""
    known = {(c.site.name, c.host.name, c.tp, c.max_batch, c.owned): c for c in choices(study, load, {}, {})}
    found = []
    for row in plan.fleet:
        choice = known[row.site, row.host, row.tp, row.max_batch, row.owned]
        busy = [
            None if isinstance(s, str) else s.instance_s / (choice.instances * study.safe_utilisation)
            for s in choice.served
        ]
        planned_j = row.years[0]["dynamic_j"]
        bare_j = [j * choice.site.pue for j in choice.joules]
        found.append(_Unit(row.pool, choice, row.on[0], busy, _as_planned(plan, row.pool, bare_j, planned_j)))
    return found


def _as_planned(plan: Plan, pool: str, bare_j: list[float], planned_j: float) -> list[float]:
    """Joules of requests scaled so that the plan's own dispatch draws what the plan says (its operating point)."""
    seconds = {part["name"]: (part["seconds"], part["rate_per_s"]) for part in plan.slices if part["year"] == 0}
    drawn = 0.0
    for row in plan.dispatch:
        if row["pool"] == pool and row["slice"] in seconds:
            length, rate = seconds[row["slice"]]
            drawn += length * rate * plan.classes[row["class"]]["share"] * row["share"] * bare_j[row["class"]]
    return [j * planned_j / drawn if drawn else j for j in bare_j]


def _block(
    study: Study,
    units: list[_Unit],
    weights: np.ndarray,
    block: range,
    rate: np.ndarray,
    intensity: dict[str, np.ndarray],
) -> tuple[np.ndarray, Amount]:
    """Some hours at once: each pool's share of the requests of every hour, and what requests drew."""
    pairs = [(u, c) for u, unit in enumerate(units) for c, busy in enumerate(unit.busy_s) if busy is not None]
    rows = np.array([c for _, c in pairs]), np.array([u for u, _ in pairs])
    requests = [rate[h] * weights[rows[0]] * SECONDS_PER_HOUR for h in block]
    joules = np.array([units[u].grid_j[c] for u, c in pairs])
    busy = np.array([units[u].busy_s[c] for u, c in pairs], dtype=float)
    kinds = len(pairs)
    serve = sparse.csr_matrix((np.ones(kinds), (rows[0], np.arange(kinds))), shape=(weights.size, kinds))
    cost, room = [], []
    for place, h in enumerate(block):
        grams = np.array([intensity[units[u].choice.site.name][h] for u, _ in pairs]) / JOULES_PER_KWH
        one = [
            worth(study, Amount(g * j, 0.0, 0.0, j) + electricity(units[u].choice.site, j))
            for (u, _), g, j in zip(pairs, grams, joules, strict=True)
        ]
        cost.append(np.array(one) * requests[place])
        held = busy * requests[place] / SECONDS_PER_HOUR
        room.append(sparse.csr_matrix((held, (rows[1], np.arange(kinds))), shape=(len(units), kinds)))
    scale = float(np.median(np.concatenate(cost))) or 1.0
    solve: Any = linprog
    found = solve(
        np.concatenate(cost) / scale,
        A_ub=sparse.block_diag(room, format="csr"),
        b_ub=np.tile([float(unit.on) for unit in units], len(block)),
        A_eq=sparse.block_diag([serve] * len(block), format="csr"),
        b_eq=np.ones(weights.size * len(block)),
        bounds=(0.0, 1.0),
        method="highs",
    )
    if found.status != 0:
        what = f"the fleet does not carry every request of hours {block.start} to {block.stop - 1} of the year"
        raise Infeasible(f"{what}; raise demand.peak_quantile or lower safe_utilisation")
    x = found.x.reshape(len(block), kinds)
    amount, taken = Amount(), np.zeros((len(block), len(units)))
    for place, h in enumerate(block):
        drawn = joules * requests[place] * x[place]
        grams = np.array([intensity[units[u].choice.site.name][h] for u, _ in pairs])
        amount += Amount(float(drawn @ grams) / JOULES_PER_KWH, 0.0, 0.0, float(drawn.sum()))
        np.add.at(taken[place], rows[1], weights[rows[0]] * x[place])
    return taken, amount
