"""The integer program against brute force, and what must hold whatever the numbers are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.program import Cap, Column, Option, Program, objective_of, restricted
from optimizer.solver import shortfall, solve_program

MOST = 3  # units of an option in the brute force
money = st.integers(0, 40).map(lambda n: n / 4)
loads = st.integers(1, 12).map(lambda n: n / 8)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Up to three options, three demands in two slices, traffic in halves, one cap."""
    options = [Option(draw(money), MOST) for _ in range(draw(st.integers(1, 3)))]
    slice_of = draw(st.lists(st.integers(0, 1), min_size=1, max_size=3))
    columns = [
        Column(demand, option, draw(loads), draw(money))
        for demand in range(len(slice_of))
        for option in range(len(options))
        if option == 0 or draw(st.booleans())
    ]
    use = {option: float(draw(st.integers(1, 3))) for option in range(len(options))}
    return Program(options, columns, slice_of, [Cap(float(draw(st.integers(1, 12))), use)], steps=2)


def brute_force(program: Program) -> float | None:
    """The least objective over all unit counts and all splits of each demand in steps; None when none fits."""
    steps = program.steps or 1
    ways = [[c for c in program.columns if c.demand == d] for d in range(len(program.slice_of))]
    splits = [
        [split for split in itertools.product(range(steps + 1), repeat=len(way)) if sum(split) == steps] for way in ways
    ]
    best: float | None = None
    for chosen in itertools.product(*splits):
        cost, load = 0.0, {}
        for way, split in zip(ways, chosen, strict=True):
            for column, part in zip(way, split, strict=True):
                cost += column.cost * part / steps
                key = (column.option, program.slice_of[column.demand])
                load[key] = load.get(key, 0.0) + column.load * part / steps
        units = [0] * len(program.options)
        for (option, _), need in load.items():
            units[option] = max(units[option], -int(-need // 1))
        if any(n > MOST for n in units):
            continue
        if any(sum(use * units[o] for o, use in cap.use.items()) > cap.limit for cap in program.caps):
            continue
        cost += sum(option.cost * n for option, n in zip(program.options, units, strict=True))
        best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=80, deadline=None)
@given(programs())
def test_equals_brute_force(program: Program) -> None:
    solution = solve_program(program, gap_rel=0.0)
    known = brute_force(program)
    if known is None:
        assert solution.status == "infeasible"
        return
    assert solution.status == "optimal"
    assert solution.objective == pytest.approx(known, abs=1e-6)
    assert solution.bound is not None
    assert solution.bound <= known + 1e-6


@settings(max_examples=40, deadline=None)
@given(programs())
def test_the_answer_keeps_every_row(program: Program) -> None:
    solution = solve_program(replace(program, steps=None), gap_rel=0.0)
    if solution.status != "optimal":
        return
    for demand in range(len(program.slice_of)):
        served = sum(x for c, x in zip(program.columns, solution.shares, strict=True) if c.demand == demand)
        assert served == pytest.approx(1.0, abs=1e-6)
    for option, part in itertools.product(range(len(program.options)), range(2)):
        load = sum(
            c.load * x
            for c, x in zip(program.columns, solution.shares, strict=True)
            if c.option == option and program.slice_of[c.demand] == part
        )
        assert load <= solution.units[option] + 1e-6
    assert solution.objective == pytest.approx(objective_of(program, solution.units, solution.shares))


@settings(max_examples=40, deadline=None)
@given(programs(), money, loads)
def test_one_more_option_never_worsens_the_optimum(program: Program, price: float, load: float) -> None:
    before = solve_program(program, gap_rel=0.0)
    new = len(program.options)
    more = replace(
        program,
        options=[*program.options, Option(price, MOST)],
        columns=[*program.columns, *(Column(d, new, load, 0.5) for d in range(len(program.slice_of)))],
    )
    after = solve_program(more, gap_rel=0.0)
    if before.objective is not None:
        assert after.objective is not None
        assert after.objective <= before.objective + 1e-6
    back = solve_program(restricted(more, set(range(new))), gap_rel=0.0)
    assert (back.status, back.objective) == (before.status, pytest.approx(before.objective, abs=1e-6))


def test_divisible_is_never_dearer_than_slices() -> None:
    program = Program([Option(5.0), Option(3.0)], [Column(0, 0, 0.9, 0), Column(0, 1, 1.4, 0)], [0], [], steps=1)
    whole = solve_program(program)
    split = solve_program(replace(program, steps=None))
    assert whole.objective == 5.0
    assert split.objective == 5.0
    cheap = replace(program, options=[Option(5.0), Option(1.0)], steps=None)
    assert solve_program(cheap).units == [0, 2]


def test_slices_do_not_share_load_but_share_units() -> None:
    one = Program([Option(1.0)], [Column(0, 0, 0.8, 0), Column(1, 0, 0.8, 0)], [0, 0], [])
    two = replace(one, slice_of=[0, 1])
    assert solve_program(one).units == [2]
    assert solve_program(two).units == [1]


def test_infeasible_is_a_status_and_the_elastic_solve_counts_what_is_missing() -> None:
    program = Program([Option(1.0)], [Column(0, 0, 4.5, 0.0)], [0], [Cap(3.0, {0: 1.0}, whole=True)])
    assert solve_program(program).status == "infeasible"
    assert shortfall(program).missing == [pytest.approx(2.0)]


def test_a_demand_without_a_column_is_infeasible() -> None:
    program = Program([Option(1.0)], [Column(0, 0, 1.0, 0.0)], [0, 0], [])
    assert program.unserved() == [1]
    assert solve_program(program).status == "infeasible"


def test_large_and_small_costs_stay_exact() -> None:
    program = Program([Option(3e9), Option(2e9)], [Column(0, 0, 1.0, 5e-3), Column(0, 1, 1.9, 1e-3)], [0], [])
    solution = solve_program(program, gap_rel=1e-9)
    assert solution.units == [1, 0]
    assert solution.objective == pytest.approx(3e9 + 5e-3, rel=1e-12)


def test_at_a_time_limit_nothing_is_called_optimal() -> None:
    # 60 options of nearly equal price over 60 indivisible demands: far beyond what a few milliseconds can prove.
    options = [Option(10.0 + (7 * i % 11) / 10) for i in range(60)]
    columns = [
        Column(d, o, 0.11 + ((d * 31 + o * 17) % 23) / 40, ((d * 13 + o * 7) % 29) / 30)
        for d in range(60)
        for o in range(60)
    ]
    program = Program(options, columns, [0] * 60, [], steps=1)
    solution = solve_program(program, time_limit_s=0.3, gap_rel=0.0)
    assert solution.status in ("time_limit", "no_solution")
    if solution.objective is not None and solution.bound is not None:
        assert solution.bound <= solution.objective
