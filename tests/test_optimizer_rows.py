"""Levels, totals, links, units by the hour and spare units, against brute force over every unit count and split."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.program import Cap, Column, Level, Option, Program, Total, level_of
from optimizer.solver import shortfall, solve_program

MOST, STEPS = 2, 2
money = st.integers(0, 40).map(lambda n: n / 4)
amounts = st.integers(0, 8).map(lambda n: n / 4)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Two bought groups and perhaps an hourly one, two or three demands in two slices, and some of every row."""
    slice_of = draw(st.lists(st.integers(0, 1), min_size=2, max_size=3))
    options = [Option(draw(money), MOST) for _ in range(2)]
    groups = 2 + draw(st.booleans())
    loads = st.integers(1, 10).map(lambda n: n / 8)
    columns = [Column(d, g, draw(loads), draw(money)) for d in range(len(slice_of)) for g in range(groups)]
    some = st.dictionaries(st.integers(0, len(columns) - 1), amounts, max_size=4)
    level = Level((0, 1), {0: draw(amounts)}, draw(some), draw(money), draw(st.none() | amounts.map(lambda a: 4 * a)))
    hourly = {k: c.load for k, c in enumerate(columns) if c.option == 2}
    rented = Level((0, 1), {}, hourly, limit=draw(st.sampled_from([None, 0.5, 1.0])))
    total = Total(2 + 4 * draw(amounts), {1: draw(amounts)}, draw(some), {(0, 0): draw(amounts)}, {0: draw(amounts)})
    return Program(
        options,
        columns,
        slice_of,
        [],
        steps=STEPS,
        levels=[level, rented],
        totals=draw(st.sampled_from([[], [total]])),
        links=draw(st.sampled_from([[], [{0: 1.0, len(columns) - 1: -1.0}]])),
        hourly=frozenset({2} if groups > 2 else {}),
        spare=draw(st.sampled_from([{}, {0: 1}])),
    )


def drawn(program: Program, units: tuple[int, ...], shares: dict[int, float]) -> float:
    """The program's first level, added up from its text."""
    level = program.levels[0]
    found = [level.on[0] * units[0]] * 2
    for k, use in level.columns.items():
        found[program.slice_of[program.columns[k].demand]] += use * shares[k]
    return max(found)


def allowed(program: Program, units: tuple[int, ...], shares: dict[int, float]) -> bool:
    """Whether every row holds."""
    for group, slice_ in itertools.product(range(3), range(2)):
        mine = [k for k, c in enumerate(program.columns) if (c.option, program.slice_of[c.demand]) == (group, slice_)]
        load = sum(program.columns[k].load * shares[k] for k in mine)
        if group in program.hourly:
            if load > (9.0 if (most := program.levels[1].limit) is None else most):
                return False
        elif group < 2 and (load or units[group]) and load + program.spare.get(group, 0) > units[group]:
            return False
    if any(abs(sum(c * shares[k] for k, c in link.items())) > 1e-9 for link in program.links):
        return False
    height = drawn(program, units, shares)
    if program.levels[0].limit is not None and height > program.levels[0].limit + 1e-9:
        return False
    for total in program.totals:
        found = total.options[1] * units[1] + total.running[0, 0] * units[0] + total.levels[0] * height
        if found + sum(use * shares[k] for k, use in total.columns.items()) > total.limit + 1e-9:
            return False
    return True


def brute_force(program: Program) -> float | None:
    ways = [[k for k, c in enumerate(program.columns) if c.demand == d] for d in range(len(program.slice_of))]
    splits = [[s for s in itertools.product(range(STEPS + 1), repeat=len(w)) if sum(s) == STEPS] for w in ways]
    best = None
    for chosen in itertools.product(*splits):
        shares = {
            k: n / STEPS for way, split in zip(ways, chosen, strict=True) for k, n in zip(way, split, strict=True)
        }
        for units in itertools.product(range(MOST + 1), repeat=2):
            if not allowed(program, units, shares):
                continue
            cost = sum(option.cost * n for option, n in zip(program.options, units, strict=True))
            cost += sum(program.columns[k].cost * x for k, x in shares.items())
            cost += program.levels[0].cost * drawn(program, units, shares)
            best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=60, deadline=None)
@given(programs())
def test_equals_brute_force(program: Program) -> None:
    solution, known = solve_program(program, gap_rel=0.0), brute_force(program)
    if known is None:
        assert solution.status == "infeasible"
        return
    assert solution.objective == pytest.approx(known, abs=1e-6)
    shares = dict(enumerate(solution.shares))
    height = level_of(program, program.levels[0], solution.units, solution.shares)
    assert height == pytest.approx(drawn(program, tuple(solution.units), shares))


@settings(max_examples=30, deadline=None)
@given(programs())
def test_a_looser_limit_never_worsens_the_optimum(program: Program) -> None:
    tight = solve_program(program, gap_rel=0.0)
    loose = replace(
        program,
        totals=[replace(total, limit=total.limit + 1.0) for total in program.totals],
        levels=[replace(v, limit=None if v.limit is None else v.limit + 1.0) for v in program.levels],
    )
    if tight.objective is not None:
        after = solve_program(loose, gap_rel=0.0)
        assert after.objective is not None
        assert after.objective <= tight.objective + 1e-6


def test_the_elastic_solve_counts_what_totals_and_levels_lack() -> None:
    program = Program(
        [Option(1.0)],
        [Column(0, 0, 2.0, 0.0)],
        [0],
        [Cap(5.0, {0: 1.0}, whole=True)],
        levels=[Level((0,), {0: 100.0}, {0: 50.0}, limit=120.0, weight=0.01)],
        totals=[Total(3.0, {0: 4.0})],
    )
    assert solve_program(program).status == "infeasible"
    assert shortfall(program).missing == pytest.approx([0.0, 5.0, 130.0])  # cap, total, level


def test_levels_and_totals_count_units_kept_on_by_period() -> None:
    """The second unit is dearer to buy and draws nothing that counts in the first period."""
    program = Program(
        [Option(1.0, group=0), Option(6.0, group=1)],
        [Column(0, 0, 0.5, 0.0), Column(1, 0, 0.5, 0.0), Column(0, 1, 0.5, 0.0), Column(1, 1, 0.5, 0.0)],
        [0, 1],
        [],
        period_of=(0, 1),
        running=((1.0, 1.0), (0.5, 0.5)),
        levels=[Level((0,), {0: 10.0}, {}, cost=1.0)],
    )
    found = solve_program(program, gap_rel=0.0)
    assert found.objective == pytest.approx(6 + 0.5 + 0.5)
    program = replace(program, options=[Option(1.0, group=0), Option(20.0, group=1)])
    assert solve_program(program, gap_rel=0.0).objective == pytest.approx(1 + 1 + 1 + 10)


def test_a_column_may_serve_two_demands() -> None:
    """Prefill and decode apart: half on the pair, half on the one that does both, where the link ties the halves."""
    columns = [Column(0, 0, 1.0, 4.0, also=1), Column(0, 1, 1.0, 1.0), Column(1, 1, 0.5, 1.0)]
    program = Program([Option(0.0), Option(0.0, 1)], columns, [0, 0], [], links=[{1: 1.0, 2: -1.0}])
    found = solve_program(program, gap_rel=0.0)
    assert found.shares == pytest.approx([1 / 3, 2 / 3, 2 / 3])
