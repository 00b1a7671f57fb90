"""A plan's books against a recomputation of their own (tests/books_oracle.py), over studies that mix every term."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import optimizer
from optimizer import demand, market, placed
from optimizer.again import again
from optimizer.explained import boarded
from optimizer.plan import answer
from optimizer.program import Cap, Column, Level, Option, Program, Total
from optimizer.solver import Solution, shortfall, solve_program
from optimizer.study import Infeasible, Study
from optimizer.survival import losses
from optimizer.written import plan_scenario
from profiles import catalog
from tests.books_oracle import check

H100, A100, L4 = "h100-sxm-80gb", "a100-sxm-80gb", "l4"
LLAMA, LARGE = "llama-3.1-8b", "llama-3.1-70b"
BUY = {"gpu": L4, "host": "l4-server-4", "max_batch": [8], "price_usd": 20_000}
RENT = {"gpu": A100, "host": "hgx-a100-80gb-4", "max_batch": [32], "tenure": "on-demand", "price_usd_per_h": 30.0}
LEASE = {"gpu": H100, "host": "hgx-h100-8", "max_batch": [32], "tenure": "lease", "price_usd_per_h": 60.0}
OWNED = {"gpu": A100, "host": "hgx-a100-80gb-4", "max_batch": [16], "site": "here", "units": 3}
LINK = {"gb_per_s": 25.0, "joules_per_gb": 5.0}
FUTURES = [{"name": "low", "demand": 0.5}, {"name": "high", "intensity": 2, "weight": 2}]
TABLE = [{"prompt_tokens": 500, "output_tokens": 200, "share": 3}, {"prompt_tokens": 2000, "output_tokens": 100}]


def either(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@st.composite
def sites(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for name in ["here", "there"][: draw(st.integers(1, 2))]:
        site: dict[str, Any] = {"name": name, "grid": draw(either("20", "300", "700", "US-CAL-CISO"))}
        site["price_usd_per_kwh"] = draw(either(0.05, 0.3))
        site["demand_charge_usd_per_kw_month"] = draw(either(0.0, 15.0))
        site |= draw(either({}, {}, {"intensity_trend_per_year": -0.1}, {"price_trend_per_year": 0.05}))
        site |= draw(either({}, {}, {}, {"max_gpus": 24}, {"max_units": 8}, {"max_drawn_w": 9000.0}))
        found.append(site)
    zones = {site["grid"] == "US-CAL-CISO" for site in found}
    if len(zones) > 1:  # kinds of intensity are not mixed
        for site in found:
            site["grid"] = "US-CAL-CISO"
    return found


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Small ones, any term with any other."""
    places = draw(sites())
    years = draw(st.integers(1, 3))
    late = draw(either([0], [0], list(range(years))))
    buy = BUY | draw(either({}, {"resale_per_year": 0.7}, {"usable_years": 1}, {"clocks": [0.6, 1.0]}))
    buy |= draw(either({}, {}, {"max_units": 6}, {"units_by_year": [3] * years}))
    rent = RENT | draw(
        either({}, {"max_units": 1}, {"max_batch": [16, 32], "max_units": 1}, {"units_by_year": [1] * 3})
    )
    lease = LEASE | draw(either({}, {"max_units": 1}, {"roles": ["both", "prefill", "decode"]}))
    extra = draw(either([], [rent], [lease], [rent, lease]))
    old = OWNED | draw(either({}, {"usable_years": 1}, {"resale_usd": 9000, "resale_per_year": 0.6}))
    demand: dict[str, Any] = {"shape": draw(either("flat", "diurnal")), "buckets": TABLE[: draw(st.integers(1, 2))]}
    demand |= {"model": LLAMA, "rate_per_s": draw(either(3, 12, 30)), "growth_per_year": draw(either(0.0, 0.5, -0.4))}
    demand["peak_quantile"] = draw(either(0.99, 0.9999))
    if draw(either(False, False, True)):
        other = {"name": "deep", "model": LARGE, "rate_per_s": 0.3, "buckets": TABLE[:1]}
        demand = {"streams": [demand | {"name": "chat"}, other]}
        lease |= {"roles": ["both"]}
        extra = [*(each for each in extra if each["gpu"] != H100), lease]
    data = {
        "demand": demand,
        "slo": {"ttft_s": 5.0, "tpot_s": 0.2},
        "sites": places,
        "catalogue": [buy, *extra],
        "owned": draw(either([], [old])),
        "kv_transfer": LINK,
        "objective": draw(either("carbon", "cost", "energy")),
        "discount_rate": draw(either(0.0, 0.1)),
        "horizon_years": float(years),
        "purchase_years": late,
        "by_year": draw(either(None, None, True)),
        "slices": draw(either("day", "day", "day", "seasons")),
        "futures": draw(
            either([], [], [{"name": "low", "demand": 0.5}, {"name": "high", "intensity": 2, "weight": 2}])
        ),
        "reserve": {
            "spare_units": draw(either(0, 0, 1)),
            "lose_site": len(places) > 1 and draw(either(False, True)),
            "headroom": draw(either(0.0, 0.2)),
        },
        "limits": draw(either({}, {}, {"units": 8}, {"budget_usd": 250_000.0}, {"carbon_t": 60.0})),
        "time_limit_s": 6.0,
        "gap": 1e-3,
    }
    if data["objective"] == "cost":
        data["carbon_price_usd_per_t"] = draw(either(0.0, 100.0))
    return Study.model_validate(data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(studies())
def test_books_equal_a_recomputation_from_the_document(study: Study) -> None:
    try:
        plan = optimizer.solve(study)
    except Infeasible:
        return
    check(plan.document(), study)


def small(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "demand": {"model": LLAMA, "rate_per_s": 30, "buckets": TABLE},
        "slo": {"ttft_s": 3.0, "tpot_s": 0.1},
        "sites": [{"name": "here", "grid": "300"}],
        "catalogue": [BUY],
        "gap": 1e-6,
    }
    return Study.model_validate(data | changes)


CHEAP = BUY | {"tenure": "on-demand", "price_usd": None, "price_usd_per_h": 0.01}


def test_what_is_rented_is_limited_over_all_sites_and_configurations() -> None:
    two = [{"name": "here", "grid": "300"}, {"name": "there", "grid": "300"}]
    rent = CHEAP | {"max_batch": [4, 8], "max_units": 2}
    plan = optimizer.solve(small(sites=two, catalogue=[BUY, rent], objective="cost"))
    assert sum(row.units for row in plan.fleet if row.tenure == "on-demand") == 2
    with pytest.raises(Infeasible, match=r"missing \d+ more l4-server-4 \(l4\) by the hour in year 0"):
        optimizer.solve(small(catalogue=[rent]))


def test_what_is_rented_comes_no_earlier_than_it_is_offered_and_no_more_than_there_is() -> None:
    rent = CHEAP | {"from_year": 1, "units_by_year": [9, 1, 2]}
    asks = {"model": LLAMA, "rate_per_s": 30, "buckets": TABLE, "growth_per_year": 0.3}
    plan = optimizer.solve(small(demand=asks, catalogue=[BUY, rent], objective="cost", horizon_years=3))
    (rented,) = [row for row in plan.fleet if row.tenure == "on-demand"]
    assert rented.on == [0, 0, 2]


def test_what_is_rented_takes_room_and_power() -> None:
    room = [{"name": "here", "grid": "300", "max_gpus": 76}]
    plan = optimizer.solve(small(sites=room, catalogue=[BUY, CHEAP], objective="cost"))
    assert sum(row.gpus for row in plan.fleet) <= 76
    for limits in ({"max_gpus": 7}, {"max_units": 1}, {"max_power_w": 2000.0}):
        with pytest.raises(Infeasible, match=r"missing .* at here"):
            optimizer.solve(small(sites=[room[0] | limits], catalogue=[CHEAP]))


def test_rented_units_draw_as_full_ones_do() -> None:
    plan = optimizer.solve(small(catalogue=[CHEAP]))
    (row,) = plan.fleet
    check(plan.document(), small(catalogue=[CHEAP]))
    assert row.utilisation == 0.8


def test_hours_are_paid_at_mid_year() -> None:
    lease = BUY | {"tenure": "lease", "price_usd": None, "price_usd_per_h": 2.0}
    for offer in (lease, lease | {"tenure": "buy"}):
        study = small(catalogue=[offer], objective="cost", discount_rate=0.1)
        plan = optimizer.solve(study)
        assert plan.usd == pytest.approx(plan.fleet[0].units * 2 * 8760 * sum(1.1 ** -(y + 0.5) for y in range(5)))


def test_a_peak_without_a_site_is_carried_by_what_is_there() -> None:
    two = [{"name": "here", "grid": "300"}, {"name": "there", "grid": "400"}]
    plan = optimizer.solve(small(sites=two, reserve={"lose_site": True}))
    assert [row.peak_utilisation > 0 for row in plan.fleet] == [True, True]
    assert all(row.peak_utilisation <= 0.8 + 1e-6 for row in plan.fleet)
    idle_w = 1.2 * (catalog.host("l4-server-4").power_w + 4 * 15.0)  # what is switched on then draws, too
    units = plan.fleet[0].units
    capped = [two[0] | {"max_drawn_w": units * idle_w}, two[1] | {"max_drawn_w": units * idle_w}]
    with pytest.raises(Infeasible, match=r"W drawn at .* when a site is lost"):
        optimizer.solve(small(sites=capped, reserve={"lose_site": True}))


def test_leases_are_no_purchases() -> None:
    lease = BUY | {"tenure": "lease", "price_usd": None, "price_usd_per_h": 2.0}
    plan = optimizer.solve(small(catalogue=[lease], limits={"units": 0}))
    assert plan.fleet[0].tenure == "lease"


def test_a_plan_without_whole_numbers_has_a_bound() -> None:
    plan = optimizer.solve(small(catalogue=[CHEAP], objective="cost"))
    assert plan.status == "optimal"
    assert plan.bound == pytest.approx(plan.objective, rel=1e-6)
    assert any("predicted" in each for each in plan.warnings)  # its profile is; the reader must know


@pytest.mark.parametrize("changes", [{}, {"by_year": True}])
def test_what_costs_nothing_is_not_kept_without_need(changes: dict[str, Any]) -> None:
    old = {"gpu": L4, "host": "l4-server-4", "site": "here", "units": 90, "max_batch": [8]}
    few = sum(row.units for row in optimizer.solve(small(objective="carbon")).fleet)
    plan = optimizer.solve(small(**({"objective": "cost", "owned": [old]} | changes)))
    assert sum(row.units for row in plan.fleet) == few
    assert {sum(on) for on in zip(*(row.on for row in plan.fleet), strict=True)} == {few}


@pytest.mark.parametrize(
    "changes",
    [
        {"purchase_years": [0, 2]},
        {"discount_rate": 0.1},
        {"catalogue": [BUY | {"usable_years": 2}]},
        {"sites": [{"name": "here", "grid": "300", "intensity_trend_per_year": -0.03}]},
    ],
)
def test_years_that_differ_cannot_be_told_as_one(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"by_year: false .* leave by_year out"):
        small(by_year=False, **changes)


def test_the_elastic_solve_names_what_it_misses_in_order() -> None:
    """An option that is ruled out (or short by itself) does not shift the words of totals and levels."""
    program = Program(
        [Option(1.0, 0), Option(1.0, 2)],
        [Column(0, 1, 2.5, 0.0)],
        [0],
        [Cap(9.0, {1: 1.0})],
        levels=[Level((0,), {1: 100.0}, {}, limit=120.0, weight=0.01)],
        totals=[Total(3.0, {1: 4.0})],
    )
    assert shortfall(program).missing[:3] == pytest.approx([0.0, 9.0, 180.0])  # cap, total, level


def test_what_is_missing_is_never_told_as_nothing() -> None:
    usd = optimizer.solve(small(objective="cost")).usd
    assert usd is not None
    with pytest.raises(Infeasible, match="missing 1 more dollars of budget"):
        optimizer.solve(small(limits={"budget_usd": usd - 0.3}))


def test_a_round_without_a_plan_leaves_the_plan_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(9))

    def only_once(program: Program, **limits: float) -> Solution:
        found = solve_program(program, **limits)
        return found if next(calls) == 0 else replace(found, status="no_solution", objective=None)

    monkeypatch.setattr("optimizer.plan.solve_program", only_once)
    plan = optimizer.solve(small(demand={"model": LLAMA, "rate_per_s": 30, "buckets": TABLE, "shape": "diurnal"}))
    assert plan.status == "optimal"
    assert any("joules were not priced" in each for each in plan.warnings)


def test_an_elastic_solve_that_ran_out_of_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Solution("no_solution", None, None, None, [], [], [], 30.0)
    monkeypatch.setattr("optimizer.plan.shortfall", lambda _, **limits: none)
    with pytest.raises(Infeasible, match="was not found in time"):
        optimizer.solve(small(limits={"units": 1}))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1e-6, 1.0, 1e6, 1e9, 1e12]))
def test_a_limit_holds_in_any_unit(each: int, load: int, scale: float) -> None:
    """The same rows in micrograms or tonnes have the same answer."""
    base = Program(
        [Option(3.0), Option(1.0)],
        [Column(0, 0, load / 2, 0.0), Column(0, 1, load / 2, 0.1)],
        [0],
        [],
        levels=[Level((0,), {1: scale}, {1: scale / 3}, limit=scale * each / 2)],
        totals=[Total(scale * each, {0: scale * 0.9, 1: scale * 0.5}, {1: scale / 7})],
    )
    plain = replace(
        base,
        levels=[Level((0,), {1: 1.0}, {1: 1 / 3}, limit=each / 2)],
        totals=[Total(float(each), {0: 0.9, 1: 0.5}, {1: 1 / 7})],
    )
    one, other = solve_program(base, gap_rel=0.0), solve_program(plain, gap_rel=0.0)
    assert one.status == other.status
    if other.objective is not None:
        assert one.objective == pytest.approx(other.objective, rel=1e-6)
    weighed = replace(
        base,
        levels=[replace(level, weight=1 / scale) for level in base.levels],
        totals=[replace(total, weight=1 / scale) for total in base.totals],
    )
    assert shortfall(weighed).objective == pytest.approx(shortfall(plain).objective, abs=1e-3)


GAP = 1e-4


def least(study: Study) -> Solution | None:
    """The optimum at joules as they are before any round, so that two studies differ in what was changed alone."""
    try:
        program = market.build(study, demand.build(study)).program
    except Infeasible:
        return None
    found = solve_program(program, gap_rel=GAP, time_limit_s=10.0)
    return found if found.status != "infeasible" else None


def looser(study: Study) -> dict[str, dict[str, Any]]:
    """Changes that only add to what can be done."""
    told = study.model_dump(mode="json", exclude_unset=True)
    sites, limits = told["sites"], told["limits"]
    other = {"name": "third", "grid": sites[0]["grid"], "pue": 1.05}
    own = next(iter(told["catalogue"]))
    found: dict[str, dict[str, Any]] = {
        "a type": {"catalogue": [*told["catalogue"], {"gpu": "h200-sxm-141gb", "max_batch": [32], "price_usd": 1e5}]},
        "a site": {"sites": [*sites, other | {"price_usd_per_kwh": 0.01}]},
        "a lease": {"catalogue": [*told["catalogue"], LEASE | {"price_usd_per_h": 5.0}]},
        "overflow": {"catalogue": [*told["catalogue"], RENT | {"price_usd_per_h": 5.0}]},
        "resale": {"catalogue": [own | {"resale_per_year": 0.5}, *told["catalogue"][1:]]},
        "a lower charge": {"sites": [site | {"demand_charge_usd_per_kw_month": 0.0} for site in sites]},
    }
    more = {"max_gpus": 8, "max_units": 1, "max_drawn_w": 1000.0}
    roomy = [site | {key: site[key] + step for key, step in more.items() if key in site} for site in sites]
    found["room"] = {"sites": roomy}
    found["a limit"] = {"limits": {key: 1.1 * limit if key != "units" else limit + 1 for key, limit in limits.items()}}
    if "resale_per_year" in own:
        del found["resale"]
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(studies().filter(lambda study: study.slices == "day"), st.integers(0, 7))
def test_one_more_of_anything_never_worsens_the_optimum(study: Study, which: int) -> None:
    study = Study.model_validate(study.model_dump(mode="json", exclude_unset=True) | {"by_year": True})
    changes = looser(study)
    name = sorted(changes)[which % len(changes)]
    before = least(study)
    if before is None or before.objective is None or before.status != "optimal":
        return
    after = least(Study.model_validate(study.model_dump(mode="json", exclude_unset=True) | changes[name]))
    assert after is not None, name
    assert after.bound is not None
    assert after.bound <= before.objective * (1 + 1e-6), name


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(studies().filter(lambda study: all(site.grid.isdigit() for site in study.sites)))
def test_twice_the_intensity_is_twice_the_operational_grams_of_the_same_plan(study: Study) -> None:
    try:
        found = answer(study)
    except Infeasible:
        return
    sites = [site.model_copy(update={"grid": str(2 * int(site.grid))}) for site in study.sites]
    twice = again(found, study=study.model_copy(update={"sites": sites}))
    rows, _ = placed.fleet(twice, found.solution)
    assert sum(row.operational_g for row in rows) == pytest.approx(2 * found.plan.operational_g, rel=1e-9)
    assert sum(row.embodied_g for row in rows) == pytest.approx(found.plan.embodied_g, rel=1e-9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([3.0, 12.0, 40.0]), either("flat", "diurnal"), either([1.0], [0.6, 1.0]), either(8, 16))
def test_without_embodied_carbon_least_carbon_is_least_energy(
    rate: float, shape: str, clocks: list[float], batch: int
) -> None:
    study = small(
        demand={"model": LLAMA, "rate_per_s": rate, "buckets": TABLE, "shape": shape},
        catalogue=[BUY | {"clocks": clocks, "max_batch": [batch]}, {"gpu": H100, "max_batch": [16, 64]}],
        accounting={"boundary": "card", "embodied_kg": {L4: 0.0, H100: 0.0}},
    )
    carbon, energy = least(study), least(study.model_copy(update={"objective": "energy"}))
    assert carbon is not None
    assert energy is not None
    assert carbon.objective is not None
    assert carbon.objective == pytest.approx((energy.objective or 0.0) / 3.6e6 * 300, rel=2 * GAP)


def test_what_is_rented_when_a_site_is_lost_is_not_on_before() -> None:
    two = [{"name": "here", "grid": "300"}, {"name": "there", "grid": "400"}]
    study = small(sites=two, catalogue=[CHEAP], objective="carbon", reserve={"lose_site": True, "spare_units": 1})
    found = answer(study)
    rows = {row.site: row for row in found.plan.fleet}
    assert rows["there"].on == [0]
    assert rows["there"].by_hour == [0] * 24
    assert rows["there"].units == rows["here"].units == 18
    assert [pool.site for pool in plan_scenario(found.plan, study).pools] == ["here"]
    lost = losses(found.plan, study)
    assert [each.lost for each in lost] == ["site here"]  # in place of a rented unit another one is rented
    assert lost[0].kept(0.99)
    told = {row["name"]: row["fleet"] for row in boarded(found)}
    assert told["recommended"] == "18 x l4-server-4 at here by the hour, 18 x l4-server-4 at there by the hour"


def test_the_board_says_what_todays_fleet_lacks() -> None:
    study = small(owned=[OWNED | {"usable_years": 1}], horizon_years=2, purchase_years=[0, 1])
    told = {row["name"]: row["why"] for row in boarded(answer(study))}
    assert told["today"] == "it does not carry the demand: some requests find nothing that serves them"


def test_units_on_are_whole_in_the_elastic_solve_too_where_what_they_draw_is_limited() -> None:
    program = Program([Option(1.0)], [Column(0, 0, 0.5, 0.0)], [0], [], running=((1.0,),))
    program = replace(program, totals=[Total(6.0, running={(0, 0): 10.0})])
    assert solve_program(program).status == "infeasible"
    assert shortfall(program).missing == pytest.approx([4.0])


def test_dollars_that_leave_something_out_say_so() -> None:
    free = BUY | {"price_usd": None}
    plan = optimizer.solve(small(catalogue=[free], sites=[{"name": "here", "grid": "300", "price_usd_per_kwh": 0.1}]))
    assert "dollars leave out what units of l4 cost: no price is known" in plan.warnings
    assert not any("no price" in each for each in optimizer.solve(small(catalogue=[free])).warnings)
