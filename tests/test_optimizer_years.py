"""Years apart: purchases, growth, trends, retirement, several futures, and units whose configuration may change."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import optimizer
from optimizer import demand
from optimizer.plan import Plan
from optimizer.program import Column, Option, Program, objective_of
from optimizer.pruned import hull
from optimizer.solver import solve_program
from optimizer.study import Infeasible, Study
from tests.test_optimizer_study import study as plain

H100, L4 = "h100-sxm-80gb", "l4"
MOST = 2
money = st.integers(0, 40).map(lambda n: n / 4)
loads = st.integers(1, 12).map(lambda n: n / 8)


@st.composite
def vintages(draw: st.DrawFn) -> Program:
    """Two periods; up to two groups, each bought in either; one demand a period, in halves; units on at a cost."""
    groups = draw(st.integers(1, 2))
    options = [
        Option(draw(money), MOST, group=g, periods=frozenset(range(first, 2)))
        for g in range(groups)
        for first in range(2)
        if first == 0 or draw(st.booleans())
    ]
    columns = [Column(d, g, draw(loads), draw(money)) for d in range(2) for g in range(groups)]
    running = tuple((draw(money), draw(money)) for _ in range(groups))
    return Program(options, columns, [0, 1], [], steps=2, period_of=(0, 1), running=running)


def brute_force(program: Program) -> float | None:
    """The least objective over all purchases and all splits; units are on as the load needs them."""
    running, groups = program.running or (), range(len(program.running or ()))
    ways = [[c for c in program.columns if c.demand == d] for d in range(2)]
    splits = [[s for s in itertools.product(range(3), repeat=len(way)) if sum(s) == 2] for way in ways]
    best: float | None = None
    for units in itertools.product(range(MOST + 1), repeat=len(program.options)):
        there = {(g, p): sum(units[o] for o in program.members(g, p)) for g in groups for p in range(2)}
        bought = sum(option.cost * n for option, n in zip(program.options, units, strict=True))
        for chosen in itertools.product(*splits):
            cost = bought
            for p, (way, split) in enumerate(zip(ways, chosen, strict=True)):
                load = dict.fromkeys(groups, 0.0)
                for column, part in zip(way, split, strict=True):
                    load[column.option] += column.load * part / 2
                    cost += column.cost * part / 2
                need = {g: -int(-load[g] // 1) for g in groups}
                if any(need[g] > there[g, p] for g in groups):
                    break
                cost += sum(running[g][p] * need[g] for g in groups)
            else:
                best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=120, deadline=None)
@given(vintages())
def test_purchases_over_years_equal_brute_force(program: Program) -> None:
    solution, known = solve_program(program, gap_rel=0.0), brute_force(program)
    if known is None:
        assert solution.status == "infeasible"
        return
    assert solution.objective == pytest.approx(known, abs=1e-6)
    assert objective_of(program, solution.units, solution.shares, solution.kept_on) == pytest.approx(known, abs=1e-6)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12))
def test_the_hull_has_the_best_of_every_price(points: list[tuple[int, int]]) -> None:
    kept = hull([(float(a), float(b), i) for i, (a, b) in enumerate(points)])
    for weight in (0.0, 0.1, 0.5, 1.0, 3.0, 100.0):
        cost = [a + weight * b for a, b in points]
        assert min(cost[i] for i in kept) == min(cost) or weight == 0.0
    assert min(a for a, _ in points) == min(points[i][0] for i in kept)


def study(**changes: Any) -> Study:
    """The study of test_optimizer_study with an L4 on offer too."""
    offers = {"catalogue": [{"gpu": H100, "max_batch": [16, 64]}, {"gpu": L4, "max_batch": [16]}]}
    return plain(**(offers | changes))


def grown(growth: float, **changes: Any) -> Study:
    base = study(**changes)
    return base.model_copy(update={"demand": base.demand.model_copy(update={"growth_per_year": growth})})


def test_apart_or_not_a_steady_demand_costs_the_same() -> None:
    one, apart = optimizer.solve(study()), optimizer.solve(study(by_year=True))
    assert apart.objective == pytest.approx(one.objective, rel=2e-6)
    assert apart.requests == pytest.approx(one.requests, rel=1e-12)
    assert apart.operational_g == pytest.approx(apart.energy_j / 3.6e6 * 300, rel=1e-9)
    assert apart.objective == pytest.approx(apart.operational_g + apart.embodied_g, rel=1e-9)


def test_growth_is_bought_when_it_comes_where_that_is_allowed() -> None:
    early = optimizer.solve(grown(0.6))
    later = optimizer.solve(grown(0.6, purchase_years=[0, 1, 2, 3, 4]))
    assert later.objective <= early.objective * (1 + 1e-6)  # one more choice never worsens
    bought = {year for row in later.fleet for year in row.bought}
    assert len(bought) > 1
    for row in later.fleet:
        assert row.units == sum(row.bought.values())
        assert max(row.on) <= row.units
    on = [sum(row.on[year] for row in later.fleet) for year in range(5)]
    assert on == sorted(on)


def test_a_cleaner_grid_every_year_emits_less() -> None:
    steady = optimizer.solve(study(by_year=True))
    falling = optimizer.solve(study(sites=[{"name": "here", "grid": "300", "intensity_trend_per_year": -0.07}]))
    assert falling.operational_g < steady.operational_g
    mean = sum(0.93**year for year in range(5)) / 5
    assert falling.operational_g / falling.energy_j * 3.6e6 == pytest.approx(300 * mean, rel=1e-3)
    assert "-7 % a year" in " ".join(falling.assumptions)


def test_what_can_no_longer_be_used_is_replaced() -> None:
    owned = [{"gpu": H100, "site": "here", "units": 9, "max_batch": [64], "usable_years": 2}]
    plan = optimizer.solve(study(owned=owned, purchase_years=[0, 1, 2, 3, 4]))
    old = [row for row in plan.fleet if row.owned]
    new = [row for row in plan.fleet if not row.owned]
    assert old
    assert all(row.on[2:] == [0, 0, 0] for row in old)
    assert {int(year) for row in new for year in row.bought} == {2}
    with pytest.raises(Infeasible, match="in year 2 nothing"):
        optimizer.solve(study(owned=owned, catalogue=[], sites=[{"name": "here", "grid": "300"}]))


def test_a_unit_comes_no_earlier_than_it_is_sold() -> None:
    catalogue = [{"gpu": "a100-sxm-80gb", "max_batch": [16]}, {"gpu": H100, "max_batch": [64], "from_year": 3}]
    plan = optimizer.solve(grown(1.0, catalogue=catalogue, purchase_years=[0, 3]))
    assert all(set(row.bought) <= {"3"} for row in plan.fleet if row.gpu == H100)


def test_one_purchase_serves_every_future() -> None:
    futures = [{"name": "low", "demand": 0.5}, {"name": "high", "demand": 2.0, "intensity": 1.5}]
    both = optimizer.solve(study(futures=futures))
    high = optimizer.solve(study(futures=futures[1:]))
    low = optimizer.solve(study(futures=futures[:1]))
    fleets = [sum(row.gpus for row in plan.fleet) for plan in (low, both, high)]
    assert fleets[0] <= fleets[1]
    assert both.objective >= 0.5 * (low.objective + high.objective) * (1 - 1e-6)  # foresight would cost no more
    assert {part["future"] for part in both.slices} == {0, 1}


def test_a_unit_that_may_change_its_configuration_costs_no_more() -> None:
    shaped = study().demand.model_copy(update={"shape": "diurnal"})
    changes = {"catalogue": [{"gpu": H100, "max_batch": [4, 16, 64]}]}
    fixed = optimizer.solve(study(**changes).model_copy(update={"demand": shaped}))
    free = optimizer.solve(study(**changes, reconfigure=True).model_copy(update={"demand": shaped}))
    assert free.objective <= fixed.objective * (1 + 1e-6)
    assert free.fleet[0].units <= fixed.fleet[0].units


def test_seasons_share_the_year_and_its_intensity() -> None:
    sites = [{"name": "ca", "grid": "US-CAL-CISO"}]
    seasons, day = study(slices="seasons", sites=sites), study(sites=sites)
    parts = demand.build(seasons).slices
    assert sum(part.seconds for part in parts) == pytest.approx(
        sum(p.seconds for p in demand.build(day).slices), rel=1e-9
    )
    assert len(parts) == 193
    one, many = optimizer.solve(day), optimizer.solve(seasons)
    per_j = [plan.operational_g / plan.energy_j for plan in (one, many)]
    assert per_j[0] == pytest.approx(per_j[1], rel=0.02)
    assert units(one) == units(many) or many.objective > 0


def units(plan: Plan) -> dict[str, int]:
    return {row.gpu: row.units for row in plan.fleet}


def test_doubling_intensity_doubles_operational_grams_of_the_same_plan() -> None:
    catalogue = [{"gpu": H100, "max_batch": [64]}]
    once = optimizer.solve(study(catalogue=catalogue))
    twice = optimizer.solve(study(catalogue=catalogue, sites=[{"name": "here", "grid": "600"}]))
    assert twice.operational_g == pytest.approx(2.0 * once.operational_g, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purchase_years": [0, 5]}, "comes too late"),
        ({"purchase_years": [2, 1]}, "ascend"),
        ({"purchase_years": [0, 1], "horizon_years": 2.5}, "whole where years"),
    ],
)
def test_years_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study(**changes)
