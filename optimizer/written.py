"""A plan on paper: the scenario that `simulate` runs, the plan's directory, its headline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from optimizer import drawn
from optimizer.demand import DAY_S, HOURS
from optimizer.drawn import Window, draw, replaced
from optimizer.placed import Placement
from optimizer.plan import Plan
from optimizer.routed import routing_plan
from optimizer.study import Study
from profiles.outputs import write_json, write_text
from profiles.units import GRAMS_PER_KG, JOULES_PER_KWH
from sim.control.specs import Schedule
from sim.scenario import Pool, Scenario, Site, Slo, SloClass, Stream
from sim.streams import merged
from sim.trace.generator import GeneratorSpec
from sim.trace.model import Trace


class Replayed(Protocol):
    """What is needed of a run: its summary as docs/metrics.md defines it."""

    @property
    def summary(self) -> dict[str, Any]: ...  # noqa: D102


Runner = Callable[..., Replayed]


def plan_scenario(plan: Plan, study: Study, window: Window | None = None) -> Scenario:
    """The plan as a scenario that `simulate` runs as it is: the study's trace (or its mix, generated) on the fleet.

    Args:
        window: the hours of the day that are generated; default: the first of those that are replayed.
    """
    asked = study.demand
    own = not replaced(study)
    placement = routing_plan(plan, study)
    likes = drawn.traces(study)
    shown = None if own else window or drawn.windows(study, likes)[0]
    specs = [] if shown is None else drawn.specs(study, likes, shown)
    begins = shown.begins if shown is not None else 0
    several = bool(asked.streams)

    def located(text: str) -> str:
        return str(Path(text).resolve()) if Path(text).exists() else text

    return Scenario(
        name=f"{study.name}-plan",
        trace=located(asked.trace or "") if own else None,
        generator=None if own or several else specs[0],
        streams=_streams(study, specs) if several else [],
        classes=[SloClass(name=each.name, **study.promise(each).model_dump()) for each in asked.streams],
        start=study.start + timedelta(hours=begins),
        align=study.align,
        seed=study.seed,
        sites=[_site(site, located) for site in study.sites],
        pools=[pool_of(row, study, row.on[0]) for row in plan.fleet if row.on[0]],
        routing="planned" if placement is not None else "least-outstanding-tokens",
        plan=placement,
        kv_transfer=study.kv_transfer,
        slo=Slo() if several else study.promise(asked),
        controls=[_rented(row, begins) for row in plan.fleet if row.by_hour and row.on[0]],
        accounting=study.accounting,
        profiles=[located(folder) for folder in study.profiles],
        predict=study.predict,
        own_catalog=located(study.own_catalog) if study.own_catalog else None,
    )


def pool_of(row: Placement, study: Study, units: int) -> Pool:
    """Some units of a placement as a scenario's pool."""
    return Pool(
        name=row.pool,
        site=row.site,
        gpu=row.gpu,
        model=row.model,
        instances=row.instances // row.units * units,
        tp=row.tp,
        precision=row.precision,
        clock=row.clock,
        role=row.role,
        engine=study.engine,
        host=row.host,
        sunk=row.owned,
        max_num_seqs=row.max_batch,
    )


def _streams(study: Study, specs: list[GeneratorSpec]) -> list[Stream]:
    return [
        Stream(name=each.name, model=each.llm, slo_class=each.name, generator=spec)
        for each, spec in zip(study.demand.streams, specs, strict=True)
    ]


def _rented(row: Placement, begins: int) -> Schedule:
    """Units on by the hour, from the hour at which the run begins."""
    each = row.instances // row.units
    counts = [each * row.by_hour[(begins + h) % HOURS] for h in range(HOURS)]
    at = [(3600.0 * h, n) for h, n in enumerate(counts) if h == 0 or n != counts[h - 1]]
    return Schedule(kind="schedule", pools=[row.pool], at=at, every_s=DAY_S, keep=0)


def replay_trace(study: Study, scenario: Scenario, window: Window | None = None) -> Trace | None:
    """The requests of the replay: None for the study's own trace as it is, else drawn with its joint lengths."""
    if not replaced(study):
        return None
    parts = draw(study, window or drawn.windows(study, drawn.traces(study))[0])
    return merged(scenario, parts) if study.demand.streams else parts[0]


def simulated(scenario: Scenario, trace: Trace | None, run: Runner | None = None) -> dict[str, Any]:
    """The summary of a run of a scenario, by `sim.run.run` or a stand-in with the same call."""
    if run is None:
        from sim.run import run as simulate

        run = simulate
    return run(scenario, trace=trace).summary


def _site(site: Site, located: Callable[[str], str]) -> Site:
    fields = {name: getattr(site, name) for name in Site.model_fields}
    ahead = located(site.forecast) if site.forecast else None
    return Site.model_validate({**fields, "grid": located(site.grid), "forecast": ahead})


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
    gap = "no bound" if plan.gap is None else f"gap {100 * plan.gap:.3g} %"
    return f"{fleet}: {amount}, {gap}, {plan.status}, {plan.energy_j / JOULES_PER_KWH:.4g} kWh"
