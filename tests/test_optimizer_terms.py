"""What a planner may ask beyond units and sites: tenure, limits, reserves, charges, clocks, roles, several models."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import optimizer
from optimizer.drawn import draw, windows
from optimizer.plan import Plan
from optimizer.refine import replay
from optimizer.study import Infeasible, Study
from optimizer.survival import losses
from optimizer.written import plan_scenario, replay_trace, simulated
from profiles import catalog, embodied
from profiles.inputs import InputError
from profiles.units import SECONDS_PER_YEAR
from tests.test_optimizer_study import study as plain

H100, A100, L4 = "h100-sxm-80gb", "a100-sxm-80gb", "l4"
HOURS_5Y = 5 * SECONDS_PER_YEAR / 3600.0
CHEAP = {"gpu": L4, "host": "l4-server-4", "max_batch": [8]}


def study(**changes: Any) -> Study:
    return plain(**({"catalogue": [CHEAP | {"price_usd": 20_000}], "gap": 1e-7} | changes))


def demand(**changes: Any) -> dict[str, Any]:
    return plain().demand.model_dump(exclude={"streams"}) | changes


def count(plan: Plan) -> int:
    return sum(row.units for row in plan.fleet)


def test_a_budget_is_kept_and_what_it_lacks_is_said_in_dollars() -> None:
    offers = [CHEAP | {"price_usd": 20_000}, {"gpu": H100, "max_batch": [64], "price_usd": 300_000}]
    sites = [{"name": "clean", "grid": "20", "price_usd_per_kwh": 0.4}, {"name": "cheap", "grid": "500"}]
    free = optimizer.solve(study(catalogue=offers, sites=sites))
    assert free.usd is not None
    assert {row.site for row in free.fleet} == {"clean"}
    limits = {"budget_usd": 0.95 * free.usd}
    bound = optimizer.solve(study(catalogue=offers, sites=sites, limits=limits))
    assert bound.usd is not None
    assert bound.usd <= 0.95 * free.usd * (1 + 1e-9)
    assert bound.objective > free.objective
    with pytest.raises(Infeasible, match=r"missing \d+ more dollars of budget"):
        optimizer.solve(study(limits={"budget_usd": 1000}))


def test_a_carbon_cap_is_kept_at_least_cost() -> None:
    sites = [{"name": "clean", "grid": "20", "price_usd_per_kwh": 0.4}, {"name": "cheap", "grid": "500"}]
    free = optimizer.solve(study(objective="cost", sites=sites))
    cap_t = 0.5 * free.carbon_g / 1e6
    bound = optimizer.solve(study(objective="cost", sites=sites, limits={"carbon_t": cap_t}))
    assert bound.carbon_g <= cap_t * 1e6 * (1 + 1e-6)
    assert bound.objective > free.objective
    with pytest.raises(Infeasible, match=r"more grams of carbon"):
        optimizer.solve(study(sites=sites, limits={"carbon_t": 0.001}))


def test_units_in_all_are_limited() -> None:
    few = count(optimizer.solve(study()))
    with pytest.raises(Infeasible, match="missing 1 more units that may be bought"):
        optimizer.solve(study(limits={"units": few - 1}))


def test_a_demand_charge_is_paid_on_the_highest_hour() -> None:
    site = {"name": "here", "grid": "300", "demand_charge_usd_per_kw_month": 15.0}
    shaped = demand(shape="diurnal")
    plan = optimizer.solve(study(sites=[site], objective="cost", demand=shaped))
    (charge,) = plan.charges
    (row,) = plan.fleet
    idle_kw = (row.energy_j - row.dynamic_j) / plan.horizon_s / 1000.0
    mean_kw = row.dynamic_j / plan.horizon_s / 1000.0
    crest = max(part["rate_per_s"] for part in plan.slices if part["seconds"]) / 30.0
    assert charge["kw"] == pytest.approx(idle_kw + crest * mean_kw, rel=1e-6)
    assert charge["usd"] == pytest.approx(charge["kw"] * 15.0 * 60.0, rel=1e-9)
    assert plan.usd == pytest.approx(row.usd + charge["usd"])
    assert plan.objective == pytest.approx(plan.usd)


def test_what_a_site_draws_is_capped_peaks_included() -> None:
    free = optimizer.solve(study(sites=[{"name": "here", "grid": "300", "max_drawn_w": 1e9}]))
    drawn_w = 1000.0 * free.charges[0]["kw"]
    sites = [{"name": "here", "grid": "300", "max_drawn_w": 0.6 * drawn_w}, {"name": "dirty", "grid": "900"}]
    plan = optimizer.solve(study(sites=sites))
    assert {row.site for row in plan.fleet} == {"here", "dirty"}
    assert plan.charges[0]["kw"] <= 0.6 * drawn_w / 1000.0 * (1 + 1e-6)
    with pytest.raises(Infeasible, match=r"more W drawn at here"):
        optimizer.solve(study(sites=sites[:1]))


def test_leases_follow_a_falling_demand_and_carry_their_embodied_carbon_by_the_year() -> None:
    falling = demand(growth_per_year=-0.3, rate_per_s=120)
    lease = [CHEAP | {"tenure": "lease", "price_usd_per_h": 3.0}]
    plan = optimizer.solve(study(catalogue=lease, demand=falling))
    (row,) = plan.fleet
    assert row.tenure == "lease"
    assert row.on == sorted(row.on, reverse=True)
    assert row.on[-1] < row.on[0] == row.units
    kg = embodied.gpu_embodied(catalog.gpu(L4), "pcf-card").mid_kg * 4 / 5.0
    kg += embodied.host_embodied(catalog.host("l4-server-4")).mid_kg / 6.0
    assert plan.embodied_g == pytest.approx(1000.0 * kg * sum(row.bought.values()))
    assert plan.usd == pytest.approx(3.0 * 8760 * sum(row.bought.values()))


def test_units_are_sold_when_they_are_no_longer_needed() -> None:
    falling = demand(growth_per_year=-0.4, rate_per_s=120)
    offer = CHEAP | {"price_usd": 20_000, "resale_per_year": 0.7}
    plan = optimizer.solve(study(catalogue=[offer], demand=falling, objective="cost"))
    (row,) = plan.fleet
    assert sum(row.sold.values()) > 0
    held = optimizer.solve(study(catalogue=[CHEAP | {"price_usd": 20_000}], demand=falling, objective="cost"))
    assert plan.usd is not None
    assert held.usd is not None
    assert plan.usd < held.usd
    kept = row.units - sum(row.sold.values())  # those go at the horizon's end, for what is left of them then
    known = 20_000 * (row.units - sum(n * 0.7 ** int(y) for y, n in row.sold.items()) - kept * 0.7**5)
    assert plan.usd == pytest.approx(known)
    assert plan.embodied_g == pytest.approx(held.embodied_g)  # selling early credits no carbon


def test_owned_units_that_lose_little_are_kept_and_others_sold() -> None:
    owned = CHEAP | {"site": "here", "units": 40, "resale_usd": 10_000, "resale_per_year": 0.8}
    plan = optimizer.solve(study(owned=[owned], objective="cost"))
    (row,) = plan.fleet
    assert row.owned
    assert plan.usd == pytest.approx(row.units * 10_000 * (1 - 0.8**5))


def test_overflow_is_rented_for_the_peak_alone() -> None:
    bursty = demand(peak_quantile=0.9999, rate_per_s=12)
    own = optimizer.solve(study(demand=bursty))
    rent = CHEAP | {"tenure": "on-demand", "price_usd_per_h": 30.0}
    both = study(demand=bursty, catalogue=[CHEAP | {"price_usd": 20_000}, rent], objective="cost")
    plan = optimizer.solve(both)
    (bought,) = [row for row in plan.fleet if row.tenure == "buy"]
    rented = [row for row in plan.fleet if row.tenure == "on-demand"]
    assert bought.units < count(own)
    assert sum(row.usd for row in rented) < 20_000 * (count(own) - bought.units)
    (row,) = rented
    assert max(row.by_hour) == row.units
    scenario = plan_scenario(plan, both)
    assert [control.kind for control in scenario.controls] == ["schedule"]
    summary = simulated(scenario, replay_trace(both, scenario))
    assert summary["requests"]["completed"] == summary["requests"]["total"]


def test_rented_hours_cost_what_they_are_used() -> None:
    rent = CHEAP | {"tenure": "on-demand", "price_usd_per_h": 2.0}
    plan = optimizer.solve(study(catalogue=[rent], objective="cost"))
    (row,) = plan.fleet
    hours = sum(part["seconds"] / 3600.0 + part["busy_s"] / 3600.0 * part["rate_per_s"] / 30.0 for part in plan.slices)
    busy = plan.usd / 2.0 / hours  # units at the mean rate
    assert row.units - 1 <= busy * plan.slices[-1]["rate_per_s"] / 30.0 <= row.units


def test_reserves() -> None:
    few = count(optimizer.solve(study()))
    assert count(optimizer.solve(study(reserve={"headroom": 0.5}))) >= 1.3 * few
    spare = study(reserve={"spare_units": 2})
    plan = optimizer.solve(spare)
    assert count(plan) == few + 2
    (lost,) = losses(plan, spare)
    assert lost.lost.startswith("2 x l4-server-4")
    assert lost.kept(0.99)
    assert replay(plan, spare).misses == []
    two = [{"name": "here", "grid": "300"}, {"name": "there", "grid": "400"}]
    either = optimizer.solve(study(sites=two, reserve={"lose_site": True}))
    assert {row.site: row.units for row in either.fleet} == {"here": few, "there": few}
    assert {row.site: row.on for row in either.fleet} == {"here": [few], "there": [0]}  # off until it is needed
    gone = losses(either, study(sites=two, reserve={"lose_site": True}))
    assert [loss.lost for loss in gone] == ["site here"]
    assert all(loss.kept(0.99) for loss in gone)


def test_a_slower_clock_is_chosen_where_the_limits_allow_it() -> None:
    fast = optimizer.solve(study(objective="energy"))
    slow = optimizer.solve(study(objective="energy", catalogue=[CHEAP | {"clocks": [0.6, 0.8, 1.0]}]))
    assert slow.objective < fast.objective
    assert {row.clock for row in slow.fleet} < {0.6, 0.8, 1.0}
    asked = study(objective="energy", catalogue=[CHEAP | {"clocks": [0.6, 0.8, 1.0]}])
    assert [pool.clock for pool in plan_scenario(slow, asked).pools] == [row.clock for row in slow.fleet]
    energy = replay(slow, asked).rows[0]
    assert energy.difference == pytest.approx(0.0, abs=0.1)


def test_prefill_and_decode_on_units_of_their_own() -> None:
    link = {"gb_per_s": 25.0, "joules_per_gb": 5.0}
    offers = [
        {"gpu": H100, "max_batch": [64], "roles": ["prefill"], "host": "hgx-h100-8"},
        {"gpu": A100, "max_batch": [64], "roles": ["decode"], "host": "hgx-a100-80gb-4"},
    ]
    busy = demand(rate_per_s=60)
    asked = study(catalogue=offers, kv_transfer=link, demand=busy)
    plan = optimizer.solve(asked)
    assert {(row.gpu, row.role) for row in plan.fleet} == {(H100, "prefill"), (A100, "decode")}
    served = [row for row in plan.dispatch if row["role"] == "decode"]
    assert sum(row["share"] for row in served) == pytest.approx(len(plan.classes) * len(plan.slices))
    assert sum(row.share for row in plan.fleet) == pytest.approx(1.0)
    scenario = plan_scenario(plan, asked)
    assert scenario.kv_transfer is not None
    summary = simulated(scenario, replay_trace(asked, scenario))
    assert summary["slo"]["attainment"] > 0.99
    assert summary["energy_j"]["transfer"] > 0.0
    whole = optimizer.solve(study(catalogue=[{"gpu": H100, "max_batch": [64], "host": "hgx-h100-8"}], demand=busy))
    every = [offers[0] | {"roles": ["both", "prefill", "decode"]}, offers[1] | {"roles": ["both", "decode"]}]
    mixed = optimizer.solve(study(catalogue=every, kv_transfer=link, demand=busy))
    assert mixed.objective <= min(whole.objective, plan.objective) * (1 + 1e-6)
    apart = [offers[0] | {"sites": ["a"]}, offers[1] | {"sites": ["b"]}]
    sites = [{"name": "a", "grid": "300"}, {"name": "b", "grid": "300"}]
    with pytest.raises(Infeasible):  # a KV cache does not leave its site
        optimizer.solve(study(catalogue=apart, sites=sites, kv_transfer=link, demand=busy))


def test_units_that_reconfigure_keep_their_role_and_model() -> None:
    """tp and batch change by the hour; what a unit does, does not, so that the replay can carry the plan out."""
    offers = [{"gpu": H100, "host": "hgx-h100-4", "max_batch": [16, 64, 128], "roles": ["prefill", "decode"]}]
    link = {"gb_per_s": 25.0, "joules_per_gb": 5.0}
    asked = study(catalogue=offers, kv_transfer=link, demand=demand(rate_per_s=40), reconfigure=True)
    plan = optimizer.solve(asked)
    assert {row.role for row in plan.fleet} == {"prefill", "decode"}
    assert {row["pool"] for row in plan.dispatch if row["role"] == "decode"}.isdisjoint(
        row["pool"] for row in plan.dispatch if row["role"] == "prefill"
    )
    found = replay(plan, asked)
    assert found.rows[0].difference == pytest.approx(0.0, abs=0.05)
    assert found.verified


def test_several_models_with_promises_of_their_own_share_a_stock() -> None:
    table = [{"prompt_tokens": 500, "output_tokens": 100}]
    streams = [
        {"name": "chat", "model": "llama-3.1-8b", "rate_per_s": 20, "buckets": table, "slo": {"tpot_s": 0.1}},
        {"name": "deep", "model": "llama-3.1-70b", "rate_per_s": 1, "buckets": table, "slo": {"ttft_s": 5.0}},
    ]
    offers = [{"gpu": H100, "host": "hgx-h100-8", "max_batch": [32], "max_units": 12}]
    asked = study(demand={"streams": streams}, catalogue=offers)
    plan = optimizer.solve(asked)
    assert {row.model for row in plan.fleet} == {"llama-3.1-8b", "llama-3.1-70b"}
    assert plan.requests == pytest.approx(21 * 5 * SECONDS_PER_YEAR)
    scenario = plan_scenario(plan, asked)
    assert [stream.name for stream in scenario.streams] == ["chat", "deep"]
    assert [(each.name, each.ttft_s, each.tpot_s) for each in scenario.classes] == [
        ("chat", None, 0.1),
        ("deep", 5.0, None),
    ]
    assert [part.requests for part in draw(asked, windows(asked, [None, None])[0])] == pytest.approx(
        [20 * 3600, 3600], rel=0.1
    )
    verdict = replay(plan, asked)
    assert verdict.requests == pytest.approx(21 * 3600, rel=0.05)
    assert {row.unit for row in verdict.rows} == {"J", "g", "share"}
    with pytest.raises(Infeasible, match=r"missing \d more hgx-h100-8"):
        optimizer.solve(study(demand={"streams": streams}, catalogue=[offers[0] | {"max_units": 1}]))


def test_dollars_later_are_worth_less() -> None:
    site = {"name": "here", "grid": "300", "price_usd_per_kwh": 0.1}
    now = optimizer.solve(study(sites=[site], objective="cost"))
    later = optimizer.solve(study(sites=[site], objective="cost", discount_rate=0.1))
    power = sum(year["energy_j"] for year in later.years) / 3.6e6 * 0.1 / 5
    paid = sum(power * 1.1 ** -(year + 0.5) for year in range(5))
    assert later.usd == pytest.approx(20_000 * count(later) + paid, rel=1e-6)
    assert now.usd > later.usd


def test_paths_by_year_and_units_as_they_come() -> None:
    site = {"name": "here", "grid": "100"}
    flat = optimizer.solve(study(sites=[site], by_year=True))
    path = optimizer.solve(study(sites=[site | {"intensity_by_year": [1, 0.5, 0.5, 0.5, 0.5]}]))
    assert path.operational_g == pytest.approx(0.6 * flat.operational_g, rel=1e-6)
    assert flat.trends[1]["operational_g"] == pytest.approx(
        flat.operational_g * sum(0.93**y for y in range(5)) / 5, rel=1e-6
    )
    few = count(flat)
    dear = [CHEAP | {"price_usd": 20_000, "units_by_year": [few - 1, 1, 0, 0, 0]}, {"gpu": H100, "max_batch": [64]}]
    plan = optimizer.solve(study(sites=[site], catalogue=dear, purchase_years=[0, 1]))
    assert sum(n for row in plan.fleet for y, n in row.bought.items() if row.gpu == L4 and y == "0") <= few - 1
    late = [CHEAP | {"price_usd": 20_000, "lead_time_years": 0.5}, {"gpu": H100, "max_batch": [64]}]
    plan = optimizer.solve(study(sites=[site], catalogue=late, purchase_years=[0, 1]))
    assert all(year != "0" for row in plan.fleet if row.gpu == L4 for year in row.bought)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": [{"name": "here", "grid": "300", "intensity_by_year": [1, 1]}]}, "ends after 2 of 5 years"),
        ({"catalogue": [CHEAP | {"price_usd": 1, "price_usd_per_h": 1}]}, "not both"),
        ({"catalogue": [CHEAP | {"tenure": "lease", "price_usd": 1}]}, "goes with price_usd_per_h"),
        ({"catalogue": [CHEAP | {"resale_per_year": 0.5}]}, "bought at a price_usd"),
        ({"catalogue": [CHEAP | {"units_by_year": [1]}]}, "ends after 1 of 5 years"),
        ({"catalogue": [CHEAP | {"lead_time_years": 9}]}, "too late"),
        ({"catalogue": [CHEAP | {"roles": ["prefill"]}]}, "kv_transfer"),
        ({"owned": [CHEAP | {"site": "here", "units": 1, "resale_usd": 5}]}, "go together"),
        ({"reserve": {"lose_site": True}}, "second site"),
        ({"demand": {"streams": [{"name": "a", "model": "llama-3.1-8b"}]}}, "one of trace, generator and buckets"),
        ({"demand": {"model": "llama-3.1-8b", "streams": [{"name": "a"}]}}, "belong to each stream"),
    ],
)
def test_what_contradicts_itself_is_refused_at_the_door(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study(**changes)


def test_a_budget_needs_prices() -> None:
    with pytest.raises(InputError, match="no price for l4"):
        optimizer.solve(study(catalogue=[CHEAP], limits={"budget_usd": 1e6}))
