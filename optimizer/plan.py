"""The plan: which units, where and in which configuration, with its objective, bound, gap and true status.

`solve(study)` is the optimizer's front door as a library. The plan's books are added up from its units and its
dispatch, not taken from the solver.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from optimizer import demand
from optimizer.assumed import assumptions, doubts
from optimizer.choices import Kind, Setting
from optimizer.demand import Load
from optimizer.market import Market, build
from optimizer.placed import Placement, charges, fleet, units_on, years
from optimizer.solver import Solution, shortfall, solve_program
from optimizer.study import Infeasible, Study
from optimizer.why import unused
from profiles import catalog
from profiles.inputs import CarbonfleetError
from profiles.units import SECONDS_PER_YEAR

TRENDS = (-0.03, -0.07)  # of a grid's intensity a year, shown beside every plan
_ROUNDS = 6  # of pricing joules at the utilisation the round before found
_SETTLED = 0.05  # relative change of utilisation below which the pricing has settled
_MISSING_LIMIT_S = 30.0
_NOTHING = 1e-4  # of a unit of a limit: less is the solver's tolerance
_UNSETTLED = (
    "joules were not priced at the utilisation the plan ends with: fleets kept changing, or the time ran out; "
    "several are about as good, and the replay says what this one draws"
)


class NoPlan(CarbonfleetError):  # noqa: N818 - says what is the matter
    """The time limit came before any plan was found; nothing is known about feasibility."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to a study. `bound` is a proved lower bound of `objective`, `gap` their relative distance.

    `status` is optimal (within the study's gap), rounded (proved but for units kept on, which were rounded up; the gap
    holds) or time_limit (the best found, not proved). Objective and bound are in
    `objective_unit`; `usd` is None where no price was given. `unused` says of each type that was not taken why.
    `dispatch` has the share of each class in each slice by pool. `charges` has the kilowatts and dollars of demand
    charges and drawn-power caps, `trends` the operational grams of this fleet and dispatch on grids that get cleaner.
    """

    study: str
    status: str
    objective: float
    objective_unit: str
    bound: float | None
    gap: float | None
    fleet: list[Placement]
    horizon_s: float
    requests: float
    output_tokens: float
    operational_g: float
    embodied_g: float
    usd: float | None
    energy_j: float
    unused: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    years: list[dict[str, float]]
    charges: list[dict[str, Any]]
    trends: list[dict[str, float]]
    dispatch: list[dict[str, Any]]
    assumptions: list[str]
    warnings: list[str]
    sources: list[str]
    wall_s: float

    @property
    def carbon_g(self) -> float:
        """Operational grams plus avoidable embodied grams."""
        return self.operational_g + self.embodied_g

    @property
    def carbon_g_per_1k_output_tokens(self) -> float:
        """Grams per thousand output tokens."""
        return self.carbon_g / self.output_tokens * 1000.0

    def document(self) -> dict[str, Any]:
        """What plan.json holds."""
        return {
            "schema_version": 1,
            **asdict(self),
            "carbon_g": self.carbon_g,
            "carbon_g_per_1k_output_tokens": self.carbon_g_per_1k_output_tokens,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A plan with what it was read from: `seen` and `factors` are what the market's joules were priced with."""

    plan: Plan
    study: Study
    load: Load
    market: Market
    solution: Solution
    seen: dict[Kind, float]
    factors: dict[Setting, float]


def solve(study: Study, factors: dict[Setting, float] | None = None) -> Plan:
    """Find the fleet of a study: `answer`'s plan alone."""
    return answer(study, factors).plan


def answer(study: Study, factors: dict[Setting, float] | None = None) -> Answer:
    """Find the fleet of a study, and keep the program that was solved.

    Args:
        factors: corrections of joules that a replay asked for (optimizer.refine).

    Raises:
        InputError: an unknown name, a missing profile or price, a broken trace or grid file.
        Infeasible: no fleet within the limits keeps the promises (exit code 3).
        NoPlan: none found within the time limit.
    """
    with catalog.using(study.own_catalog):
        return _solve(study, factors or {})


def _solve(study: Study, factors: dict[Setting, float]) -> Answer:
    load = demand.build(study)
    began, rounds, settled = perf_counter(), 1, False
    priced: dict[Kind, float] = {}
    market, solution = _solved(study, load, priced, factors, study.time_limit_s)
    seen = utilisations(market, solution)
    while not settled and rounds < _ROUNDS and solution.status in ("optimal", "rounded"):
        left = study.time_limit_s - (perf_counter() - began)
        if left <= 0.0:
            break
        try:
            market, solution = _solved(study, load, seen, factors, left)
        except NoPlan:  # what was left of the time did not suffice: the plan before it stands
            break
        priced, rounds = seen, rounds + 1
        found = utilisations(market, solution)
        settled = all(abs(used - seen.get(kind, -1.0)) <= _SETTLED * used for kind, used in found.items())
        seen = {**seen, **found}
    plan = _plan(study, load, market, solution, rounds)
    plan = plan if settled else replace(plan, warnings=[*plan.warnings, _UNSETTLED])
    return Answer(plan, study, load, market, solution, priced, factors)


def _solved(
    study: Study, load: Load, seen: dict[Kind, float], factors: dict[Setting, float], time_limit_s: float
) -> tuple[Market, Solution]:
    market = build(study, load, seen, factors)
    solution = solve_program(market.program, time_limit_s=time_limit_s, gap_rel=study.gap)
    if solution.status == "infeasible":
        raise Infeasible(missing(market, study.time_limit_s))
    if solution.objective is None:
        raise NoPlan(f"no plan found in {study.time_limit_s:g} s; raise time_limit_s or offer fewer configurations")
    return market, solution


def utilisations(market: Market, solution: Solution) -> dict[Kind, float]:
    """Mean full-load utilisation over the horizon of each kind of unit taken."""
    seconds = sum(part.seconds for part in market.slices)
    load: dict[Kind, float] = {}
    units: dict[Kind, float] = {}
    for g, row in enumerate(units_on(market, solution)):
        if g in market.program.hourly:  # always at the safe share
            continue
        kind = market.lead(g).kind
        weights = [sum(part.seconds for part in market.slices if part.year == year) for year in range(len(row))]
        units[kind] = units.get(kind, 0.0) + sum(n * w for n, w in zip(row, weights, strict=True)) / seconds
    for column, share in zip(market.program.columns, solution.shares, strict=True):
        kind = market.lead(column.option).kind
        weight = market.slices[market.spot(column.demand)[1]].seconds / seconds
        load[kind] = load.get(kind, 0.0) + column.load * share * weight * market.safe_utilisation
    return {kind: load[kind] / count for kind, count in units.items() if count and load.get(kind)}


def missing(market: Market, time_limit_s: float) -> str:
    """One line in units of what the limits lack, from an elastic solve of no more than `time_limit_s` (and 30 s)."""
    found = shortfall(market.program, time_limit_s=min(_MISSING_LIMIT_S, time_limit_s))
    if found.status == "no_solution":
        return "infeasible; what is missing was not found in time; loosen limits or slo, or lower the demand"
    limits = zip(found.missing, market.shortage, strict=False)
    lacks = [f"{math.ceil(lack - _NOTHING)} more {word}" for lack, word in limits if lack > _NOTHING]
    if not lacks:
        return "infeasible, and loosening the limits on units, room and power does not help; loosen slo or demand"
    proof = " (less may do: the time ran out)" if found.status == "time_limit" else ""
    return f"infeasible: missing {' and '.join(lacks)}{proof}; raise these limits, lower the demand or loosen slo"


def _plan(study: Study, load: Load, market: Market, solution: Solution, rounds: int) -> Plan:
    placements, dispatch = fleet(market, solution)
    paid = charges(market, solution)
    by_year = years(market, placements, paid)
    total = {key: sum(row[key] for row in by_year) for key in ("operational_g", "embodied_g", "energy_j", "usd")}
    objective = solution.objective if solution.objective is not None else 0.0
    return Plan(
        study=study.name,
        status=solution.status,
        objective=objective,
        objective_unit={"carbon": "g", "energy": "J", "cost": "usd"}[study.objective],
        bound=solution.bound,
        gap=solution.gap,
        fleet=placements,
        horizon_s=study.horizon_years * SECONDS_PER_YEAR,
        requests=load.requests,
        output_tokens=load.output_tokens,
        operational_g=total["operational_g"],
        embodied_g=total["embodied_g"],
        usd=total["usd"] if total["usd"] else None,
        energy_j=total["energy_j"],
        unused=unused(study, market, solution, objective),
        classes=[asdict(each) for each in load.classes],
        slices=[
            {
                **asdict(part),
                "rate_per_s": part.rate_per_s,
                "intensity_g_per_kwh": {site: values[t] for site, values in market.intensity.items()},
            }
            for t, part in enumerate(market.slices)
        ],
        years=by_year,
        charges=paid,
        trends=_trends(study, placements),
        dispatch=dispatch,
        assumptions=assumptions(study, load, market, rounds),
        warnings=[*load.warnings, *market.notes, *doubts(study, market, solution)],
        sources=sorted({f"profile {c.profile.key}: {c.profile.provenance.source}" for c in market.choices}),
        wall_s=solution.wall_s,
    )


def _trends(study: Study, rows: list[Placement]) -> list[dict[str, float]]:
    """Operational grams of this fleet and dispatch, were every grid's path one of these instead of the stated one."""
    sites = {site.name: site for site in study.sites}
    whole = max(1, round(study.horizon_years))
    found = []
    for trend in TRENDS:
        grams = 0.0
        for row in rows:
            for year, books in enumerate(row.years):
                stated = sites[row.site].intensity_factor(year)
                apart = (1.0 + trend) ** year
                mean = apart if study.years_apart else sum((1.0 + trend) ** y for y in range(whole)) / whole
                grams += books["operational_g"] * mean / stated if stated else 0.0
        found.append({"intensity_trend_per_year": trend, "operational_g": grams})
    return found
