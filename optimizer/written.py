"""A plan on paper: the scenario that `simulate` runs, the plan's directory, its headline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimizer import demand
from optimizer.placement import routing_plan
from optimizer.plan import Plan
from optimizer.study import Study
from profiles.outputs import write_json, write_text
from profiles.units import GRAMS_PER_KG, JOULES_PER_KWH
from sim.scenario import Pool, Scenario, Site


def plan_scenario(plan: Plan, study: Study) -> Scenario:
    """The plan as a scenario that `simulate` runs as it is: the study's trace (or its mix, generated) on the fleet."""
    asked = study.demand
    own = not replaced(study)
    placement = routing_plan(plan, study)
    like = demand.source_trace(asked, study.seed) if asked.trace and not own else None

    def located(text: str) -> str:
        return str(Path(text).resolve()) if Path(text).exists() else text

    return Scenario(
        name=f"{study.name}-plan",
        trace=located(asked.trace or "") if own else None,
        generator=None if own else demand.replay_spec(study, like),
        start=study.start,
        align=study.align,
        seed=study.seed,
        sites=[Site.model_validate({**_site_fields(site), "grid": located(site.grid)}) for site in study.sites],
        pools=[
            Pool(
                name=row.pool,
                site=row.site,
                gpu=row.gpu,
                model=asked.model,
                instances=row.instances // row.units * row.on[0],
                tp=row.tp,
                precision=study.precision,
                engine=study.engine,
                host=row.host,
                sunk=row.owned,
                max_num_seqs=row.max_batch,
            )
            for row in plan.fleet
            if row.on[0]
        ],
        routing="planned" if placement is not None else "least-outstanding-tokens",
        plan=placement,
        slo=study.slo,
        accounting=study.accounting,
        profiles=[located(folder) for folder in study.profiles],
        own_catalog=located(study.own_catalog) if study.own_catalog else None,
    )


def replaced(study: Study) -> bool:
    """Whether the replay generates its requests: no trace, or a trace at another rate or shape."""
    asked = study.demand
    return asked.trace is None or asked.rate_per_s is not None or asked.shape != "flat"


def _site_fields(site: Site) -> dict[str, Any]:
    return {name: getattr(site, name) for name in Site.model_fields}


def write(plan: Plan, study: Study, folder: str | Path) -> Path:
    """Write plan.json and scenario.yaml (what `simulate` replays) into `folder`.

    Raises:
        OutputError: the folder cannot be written.
    """
    import yaml

    target = Path(folder)
    write_json(target / "plan.json", plan.document())
    scenario = plan_scenario(plan, study).model_dump(mode="json", exclude_none=True)
    write_text(target / "scenario.yaml", yaml.safe_dump(scenario, sort_keys=False, allow_unicode=True))
    return target


def headline(plan: Plan) -> str:
    """The plan in one line: fleet, objective, bound, gap, status."""
    fleet = ", ".join(
        f"{row.units} x {row.host} at {row.site} (tp{row.tp}, batch {row.max_batch})" for row in plan.fleet
    )
    if plan.objective_unit == "g":
        amount = f"{plan.objective / GRAMS_PER_KG:.4g} kg"
    else:
        amount = f"{plan.objective:.4g} {'$' if plan.objective_unit == 'usd' else 'J'}"
    gap = "no bound" if plan.gap is None else f"gap {100 * plan.gap:.2g} %"
    return f"{fleet}: {amount}, {gap}, {plan.status}, {plan.energy_j / JOULES_PER_KWH:.4g} kWh"
