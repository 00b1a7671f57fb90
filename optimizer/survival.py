"""What a plan does when a unit or a site is lost: its scenario replayed without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optimizer.placed import Placement
from optimizer.plan import Plan
from optimizer.study import Study
from optimizer.written import Runner, plan_scenario, pool_of, replay_trace, simulated
from sim.scenario import Pool, Scenario


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss, and the share of requests that keep every limit all the same; None where nothing is left to serve."""

    lost: str
    attainment: float | None

    def kept(self, share: float) -> bool:
        """Whether the loss is survived."""
        return self.attainment is not None and self.attainment >= share


def losses(plan: Plan, study: Study, run: Runner | None = None) -> list[Loss]:
    """Replay the plan without one unit of each pool, and without each site, where the study reserves for it.

    Raises:
        InputError: the scenario cannot be run.
    """
    scenario = plan_scenario(plan, study)
    trace = replay_trace(study, scenario)
    found = []
    for what, pools in _without(plan, study, scenario):
        left = _left(scenario, pools)
        found.append(Loss(what, None if left is None else simulated(left, trace, run)["slo"]["attainment"]))
    return found


def _without(plan: Plan, study: Study, scenario: Scenario) -> Iterator[tuple[str, list[Pool]]]:
    """Each loss with the pools that remain."""
    rows = {row.pool: row for row in plan.fleet}
    if study.reserve.spare_units:
        for lost in scenario.pools:
            row = rows[lost.name]
            if row.by_hour:  # another one is rented
                continue
            fewer = lost.instances - study.reserve.spare_units * row.instances // row.units
            rest = [pool for pool in scenario.pools if pool is not lost]
            kept = [lost.model_copy(update={"instances": fewer})] if fewer > 0 else []
            count = study.reserve.spare_units
            yield f"{count} x {row.host} of {lost.name}", [*rest, *kept]
    for site in sorted({pool.site for pool in scenario.pools}) if study.reserve.lose_site else []:
        there = (row for row in plan.fleet if row.site != site)  # what is off is switched on
        yield f"site {site}", [pool_of(row, study, units) for row in there if (units := _first_year(row))]


def _first_year(row: Placement) -> int:
    """Units that are there in the first year, on or off, or can be rented."""
    if row.by_hour:
        return row.units
    return sum(count for year, count in row.bought.items() if year == "0") or row.on[0]


def _left(scenario: Scenario, pools: list[Pool]) -> Scenario | None:
    """The scenario on the pools that remain, routed by load; None where a model or a role has none left."""
    asked = {(pool.model, role) for pool in scenario.pools for role in _does(pool)}
    if asked - {(pool.model, role) for pool in pools for role in _does(pool)}:
        return None
    changes: dict[str, Any] = {
        "pools": pools,
        "sites": [site for site in scenario.sites if any(pool.site == site.name for pool in pools)],
        "routing": "least-outstanding-tokens",
        "plan": None,
        "controls": [],  # all that is there, and all that can be rented, is on
    }
    return scenario.model_copy(update=changes)


def _does(pool: Pool) -> tuple[str, ...]:
    return ("prefill", "decode") if pool.role == "both" else (pool.role,)
