"""Branch and price gives what the whole program gives: the same optimum, a bound below it, infeasible where it is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import optimize
from optimizer import solver
from optimizer.program import Cap, Column, Option, Program, loads_of, objective_of
from optimizer.solver import Solution, solve_program
from tests import test_optimizer_program as plain
from tests import test_optimizer_years as years


def by_pricing(program: Program, gap_rel: float = 0.0, time_limit_s: float = 60.0) -> Solution:
    """The program solved as if it were large."""
    with mock.patch.object(solver, "MANY", 0):
        return solve_program(program, gap_rel=gap_rel, time_limit_s=time_limit_s)


@settings(max_examples=60, deadline=None)
@given(plain.programs())
def test_equals_the_whole_program(program: Program) -> None:
    program = replace(program, steps=None)
    whole, priced = solve_program(program, gap_rel=0.0), by_pricing(program)
    assert priced.status == whole.status
    if whole.objective is not None:
        assert priced.objective == pytest.approx(whole.objective, abs=1e-5)
        assert (priced.bound or 0.0) <= whole.objective + 1e-5


@settings(max_examples=60, deadline=None)
@given(years.vintages())
def test_purchases_over_years_equal_brute_force(program: Program) -> None:
    known = years.brute_force(program)
    solution = by_pricing(program)
    if known is None:
        assert solution.status == "infeasible"
    else:
        assert solution.status == "optimal"
        assert solution.objective == pytest.approx(known, abs=1e-5)


@st.composite
def apart(draw: st.DrawFn) -> Program:
    """Two sites on which prefill and decode are linked, one slice that is cold, and one group rented by the hour."""
    money = st.integers(1, 40).map(lambda n: n / 4)
    load = st.integers(1, 30).map(lambda n: n / 8)
    columns, links = [], []
    for slice_ in range(2):
        for site in range(2):
            first = len(columns)
            columns.append(Column(slice_, 2 * site, draw(load), draw(money)))
            columns.append(Column(2 + slice_, 2 * site + 1, draw(load), draw(money)))
            links.append({first: 1.0, first + 1: -1.0})
        columns.append(Column(slice_, 4, draw(load), draw(money), also=2 + slice_))
    options = [Option(draw(money), draw(st.sampled_from([None, 2]))) for _ in range(4)]
    cold = frozenset({1}) if draw(st.booleans()) else frozenset[int]()
    running = tuple((draw(money),) for _ in range(5))
    return Program(options, columns, [0, 1, 0, 1], [], links=links, hourly=frozenset({4}), cold=cold, running=running)


@settings(max_examples=60, deadline=None)
@given(apart())
def test_links_roles_rent_and_losses_equal_the_whole_program(program: Program) -> None:
    whole, priced = solve_program(program, gap_rel=0.0), by_pricing(program)
    assert (priced.status, whole.status) == ("optimal", "optimal")
    assert priced.objective == pytest.approx(whole.objective, abs=1e-5)


def test_where_all_is_rented_nothing_is_branched_on() -> None:
    columns = [Column(d, g, 0.5 + g, 3.0 - g) for d, g in itertools.product(range(2), range(2))]
    found = by_pricing(Program([], columns, [0, 1], [], hourly=frozenset({0, 1})))
    assert (found.status, found.units, found.objective) == ("optimal", [], pytest.approx(4.0))


@pytest.fixture(scope="module")
def market() -> Program:
    """The benchmark's market with few slices."""
    return optimize.market(slices=6)


def test_the_bound_holds_for_the_columns_that_never_joined(market: Program) -> None:
    """The whole program, solved by HiGHS, lies between the bound and the plan."""
    whole, priced = solve_program(market, gap_rel=1e-4), by_pricing(market, gap_rel=1e-3)
    assert priced.status == "optimal"
    assert (priced.gap or 0.0) <= 1e-3
    assert (priced.bound or 0.0) <= (whole.objective or 0.0) * (1 + 1e-7)
    assert (priced.objective or 0.0) >= (whole.bound or 0.0) * (1 - 1e-7)


def test_the_plan_serves_everything_within_its_units(market: Program) -> None:
    found = by_pricing(market, gap_rel=5e-3)
    served = np.zeros(len(market.slice_of))
    for column, share in zip(market.columns, found.shares, strict=True):
        served[column.demand] += share
    assert served == pytest.approx(1.0, abs=1e-6)
    for (group, slice_), load in loads_of(market, found.shares).items():
        assert load <= sum(found.units[o] for o in market.members(group, market.period(slice_))) + 1e-5
    assert found.objective == objective_of(market, found.units, found.shares, found.kept_on)


def test_out_of_time_is_never_called_optimal(market: Program) -> None:
    found = by_pricing(market, time_limit_s=0.05)
    assert found.status in ("no_solution", "time_limit")


def test_what_cannot_be_served_is_infeasible() -> None:
    demands = range(4)
    columns = [Column(d, o, 2.0, 1.0) for d, o in itertools.product(demands, range(2))]
    program = Program([Option(1.0), Option(2.0)], columns, [0] * 4, [Cap(7.0, {0: 1.0, 1: 1.0}, whole=True)])
    assert by_pricing(program).status == "infeasible"
    assert by_pricing(replace(program, caps=[Cap(8.0, {0: 1.0, 1: 1.0}, whole=True)])).units == [8, 0]
