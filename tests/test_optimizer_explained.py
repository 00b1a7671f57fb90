"""What stands behind a plan, against all fleets enumerated: runner-ups, shadow prices, entries, tipping points."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from optimizer import demand
from optimizer.again import Fleet, again, altered, best, fleet_of, found, held, recounted, unit_of, words
from optimizer.board import board, todays_fleet
from optimizer.cases import cases
from optimizer.entry import Kind, entries, greener
from optimizer.explained import boarded, explained
from optimizer.knobs import knobs
from optimizer.plan import Answer, answer
from optimizer.runners_up import RunnerUp, runners_up
from optimizer.shadow import amount, shadow_prices
from optimizer.solver import solve_program
from optimizer.study import Study
from optimizer.tipping import tip, tipping_points
from optimizer.why import used
from optimizer.wins import wins

H100, A100, L4 = "h100-sxm-80gb", "a100-sxm-80gb", "l4"
MOST = 3
OWNED = [{"gpu": L4, "host": "l4-server-8", "site": "here", "units": 3, "tp": [1], "max_batch": [32]}]


def study(**changes: Any) -> Study:
    """One class on two unlike grids; three kinds of unit, small enough to try every fleet of up to MOST of each."""
    data: dict[str, Any] = {
        "demand": {
            "model": "llama-3.1-8b",
            "rate_per_s": 30,
            "buckets": [{"prompt_tokens": 500, "output_tokens": 200}],
        },
        "slo": {"ttft_s": 3.0, "tpot_s": 0.15},
        "sites": [{"name": "here", "grid": "300"}],
        "catalogue": [
            {"gpu": H100, "host": "hgx-h100-4", "tp": [1], "max_batch": [64], "max_units": MOST},
            {"gpu": A100, "host": "hgx-a100-80gb-4", "tp": [1], "max_batch": [64], "max_units": MOST},
            {"gpu": L4, "host": "l4-server-8", "tp": [1], "max_batch": [32], "max_units": MOST},
        ],
        "gap": 1e-7,
    }
    return Study.model_validate({**data, **changes})


@pytest.fixture(scope="module")
def plain() -> Answer:
    return answer(study())


def enumerated(asked: Answer, market: Any = None) -> list[tuple[float, Fleet]]:
    """Every fleet of up to MOST of each kind that carries the demand, cheapest first, each dispatched by itself."""
    market = market or asked.market
    units = [unit_of(market, option) for option in range(len(market.bought))]
    found = []
    for counts in itertools.product(range(MOST + 1), repeat=len(units)):
        fleet = {unit: count for unit, count in zip(units, counts, strict=True) if count}
        objective = held(asked, market, fleet) if fleet else None
        if objective is not None:
            found.append((objective, fleet))
    return sorted(found, key=lambda pair: pair[0])


def test_runner_ups_are_the_next_best_of_all_fleets(plain: Answer) -> None:
    known = enumerated(plain)
    assert plain.plan.objective == pytest.approx(known[0][0], rel=1e-6)
    for most, within in ((1, 0.0), (4, 10.0)):
        found = _runners_up(plain, most, within)
        assert [row.objective for row in found] == pytest.approx([each for each, _ in known[1 : most + 1]], rel=1e-6)
        assert [row.fleet for row in found] == [words(fleet) for _, fleet in known[1 : most + 1]]
        assert all(row.proved and row.gap is not None for row in found)


def _runners_up(asked: Answer, most: int, within: float) -> list[RunnerUp]:
    from optimizer import runners_up as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WITHIN", within)
        return runners_up(asked, most).fleets


def test_that_no_other_fleet_is_near_is_proved_or_not_said(plain: Answer) -> None:
    found = runners_up(plain)
    near = [each for each, _ in enumerated(plain)[1:] if each <= 1.01 * plain.plan.objective]
    assert len(found.fleets) == max(1, len(near))
    assert found.complete
    assert "proved" in found.note


def test_what_the_time_left_unproved_is_never_called_proved(plain: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    from optimizer import again as module

    def cut_short(*args: Any, **kwargs: Any) -> Any:
        solution = solve_program(*args, **kwargs)
        return replace(solution, status="time_limit", bound=0.5 * (solution.objective or 0.0), gap=0.5)

    monkeypatch.setattr(module, "solve_program", cut_short)
    found = explained(plain)
    others = found["runners_up"]
    assert not others["complete"]
    assert "proved: " not in others["note"]
    assert not any(row["proved"] for row in [*others["fleets"], *found["tipping_points"]])
    assert not any(row["confirmed"] for row in found["entries"])
    assert all(row["words"].endswith("; not proved") for row in [*found["entries"], *found["tipping_points"]])
    assert all(row["status"] == "time_limit" for row in found["shadow_prices"])


def test_the_only_fleet_has_no_runner_up() -> None:
    only = answer(study(catalogue=[study().catalogue[1].model_dump() | {"max_units": 2}]))
    assert sum(fleet_of(only.market, only.solution.units).values()) == 2
    found = runners_up(only)
    assert (found.fleets, found.complete) == ([], True)


def test_one_more_of_a_limit_saves_what_a_plan_without_it_shows() -> None:
    """A clean site with little room and a dirty one; power is there for twice of what finds room."""
    sites = [{"name": "clean", "grid": "20", "max_gpus": 4, "max_power_w": 60_000}, {"name": "dirty", "grid": "600"}]
    given = study(sites=sites).model_dump(mode="json")
    given["demand"]["rate_per_s"] = 90
    asked = answer(Study.model_validate(given))
    rows = {row.limit: row for row in shadow_prices(asked)}
    room = rows["8 more GPUs of room at clean"]
    given["sites"][0]["max_gpus"] = 12
    wider = best(asked, again(asked, study=Study.model_validate(given)))
    assert wider.objective is not None
    assert room.saved == pytest.approx(asked.plan.objective - wider.objective, rel=1e-6)
    assert room.saved > 0.0
    assert room.at_most is not None
    assert room.at_least <= room.saved <= room.at_most * (1 + 1e-9)
    assert room.per_year == pytest.approx(room.saved / 5)
    assert room.fleet == words(wider.fleet)
    assert "dirty" not in room.fleet
    power = rows["10 kW more power at clean"]
    assert (power.saved, power.step, power.fleet) == (0.0, 10_000.0, "")
    assert next(iter(rows)) == room.limit


def test_watts_are_told_in_kilowatts_and_megawatts() -> None:
    assert amount(1e6, "W of power at quebec") == "1 MW more power at quebec"
    assert amount(10_000, "W of power at quebec") == "10 kW more power at quebec"
    assert amount(1, "l4-server-8 (l4)") == "1 more l4-server-8 (l4)"


def test_where_nothing_binds_no_limit_is_worth_anything(plain: Answer) -> None:
    told: list[str] = []
    rows = shadow_prices(plain, told.append)
    assert told == ["all limits loosened at once"]
    assert all(row.saved == 0.0 and row.at_most == pytest.approx(0.0, abs=1.0) for row in rows)
    assert len(rows) == 3


def test_a_loser_enters_at_the_figure_that_is_printed(plain: Answer) -> None:
    """Just below it a fleet with that type is the best of all enumerated ones, just above it none is."""
    rows = entries(plain)
    own = [row for row in rows if row.figure in ("embodied", "power") and row.factor is not None]
    assert {row.figure for row in own} == {"embodied", "power"}
    for row in own:
        assert row.factor is not None
        assert row.value == pytest.approx(row.now * row.factor)
        for side, inside in ((0.999, True), (1.001, False)):
            market = _lowered(plain, row, row.factor * side)
            fleet = enumerated(plain, market)[0][1]
            assert (row.host in {unit.host for unit in fleet}) == inside, (row, side)


TERMS = {"gpu": H100, "host": "hgx-h100-4", "tp": [1], "max_batch": [64]}
DEAR = [
    TERMS | {"price_usd": 200_000},
    TERMS | {"tenure": "lease", "price_usd_per_h": 20.0},
    TERMS | {"tenure": "on-demand", "price_usd_per_h": 40.0},
    TERMS | {"host": "hgx-h100-8", "price_usd": 500_000, "from_year": 3},
]


@pytest.fixture(scope="module")
def dear() -> Answer:
    """Every way to have one GPU, and one that comes after the last purchase."""
    sites = [{"name": "here", "grid": "300", "price_usd_per_kwh": 0.1}]
    return answer(study(catalogue=DEAR, sites=sites, objective="cost", horizon_years=4, discount_rate=0.05))


def test_every_offer_that_lost_is_told_apart_by_how_it_is_had(dear: Answer) -> None:
    assert {row.tenure for row in dear.plan.fleet} == {"buy"}
    lost = {(row["host"], row["tenure"]): row["why"] for row in dear.plan.unused}
    assert set(lost) == {("hgx-h100-4", "lease"), ("hgx-h100-4", "on-demand"), ("hgx-h100-8", "buy")}
    assert lost["hgx-h100-8", "buy"] == "it cannot be had in any year in which units may be bought"
    assert all("alone it comes to" in lost["hgx-h100-4", tenure] for tenure in ("lease", "on-demand"))


def test_what_is_rented_or_leased_enters_below_its_printed_price(dear: Answer) -> None:
    rows = {row.tenure: row for row in entries(dear) if row.figure == "price" and row.host == "hgx-h100-4"}
    assert set(rows) == {"lease", "on-demand"}
    for tenure, row in rows.items():
        assert row.factor is not None
        assert row.unit == "$/h"
        for side, inside in ((0.99, True), (1.01, False)):
            kind, low = Kind.of(_lead(dear, tenure)), {"price_usd_per_h": row.now * row.factor * side}
            market = again(
                dear,
                offered=altered(
                    dear.market.choices,
                    lambda choice, kind=kind: Kind.of(choice) == kind,  # type: ignore[misc]
                    lambda choice, low=low: {"unit": choice.unit.model_copy(update=low)},  # type: ignore[misc]
                ),
            )
            assert (kind in used(market, found(dear, market))) == inside, (row, side)


def _lead(asked: Answer, tenure: str) -> Any:
    return next(choice for choice in asked.market.choices if choice.tenure == tenure)


def test_a_held_lease_is_not_a_held_purchase(dear: Answer) -> None:
    bought = fleet_of(dear.market, dear.solution.units)
    leased = {unit._replace(tenure="lease", year=year): n for unit, n in bought.items() for year in range(4)}
    mine, other = held(dear, dear.market, bought), held(dear, dear.market, leased)
    assert mine == pytest.approx(dear.plan.objective, rel=1e-6)
    assert other is not None
    assert other > dear.plan.objective
    assert "(lease)" in words(leased)
    assert "(" not in words(bought)


def _lowered(asked: Answer, row: Any, factor: float) -> Any:
    kind = Kind(row.gpu, row.host, row.tenure)

    def change(choice: Any) -> dict[str, Any]:
        if row.figure == "embodied":
            return {"embodied_factor": factor}
        return {"idle_w": choice.idle_w * factor, "joules": [j * factor for j in choice.joules]}

    return again(asked, offered=altered(asked.market.choices, lambda choice: Kind.of(choice) == kind, change))


def test_intensities_that_bring_in_a_type_are_where_the_best_fleet_has_it(plain: Answer) -> None:
    for row in entries(plain):
        if row.figure != "intensity":
            continue
        for factor in [0.1, 10.0] if row.factor is None else [row.factor]:
            market = again(plain, study=greener(plain.study, factor))
            fleet = enumerated(plain, market)[0][1]
            assert (row.host in {unit.host for unit in fleet}) == (row.factor is not None)


@pytest.mark.parametrize("intensity", [100, 30])
def test_a_figure_tips_where_enumerated_optima_cross(intensity: float) -> None:
    """On each side of every tipping point the best of all enumerated fleets is the recommended one, or is not."""
    asked = answer(study(owned=OWNED, catalogue=study().catalogue[:2], sites=[{"name": "here", "grid": intensity}]))
    mine = fleet_of(asked.market, asked.solution.units)
    tipped = 0
    for knob in knobs(asked):
        if "growth" in knob.name:
            continue  # years apart: another program, below
        row = tip(asked, knob)
        assert row.proved
        for value, end in ((row.down, row.low), (row.up, row.high)):
            at, width = end if value is None else value, 2e-3 * abs(end - row.now)
            sign = 1.0 if end > row.now else -1.0
            if end == row.now:
                continue
            inside = enumerated(asked, knob.at(at - sign * width, asked.market.choices))
            assert inside[0][1] == mine, (row.what, at)
            if value is not None:
                tipped += 1
                beyond = enumerated(asked, knob.at(at + sign * width, asked.market.choices))
                assert beyond[0][1] != mine, (row.what, at)
                assert words(beyond[0][1]) == (row.down_to if sign < 0 else row.up_to)
    assert tipped >= 3


def test_two_fleets_tip_into_each_other_at_the_same_value() -> None:
    """From the clean side and from the dirty side the crossing of the same two fleets is found alike."""
    found = []
    for intensity, side in ((100, "down"), (30, "up")):
        asked = answer(study(owned=OWNED, sites=[{"name": "here", "grid": intensity}]))
        knob = next(each for each in knobs(asked) if each.unit == "g/kWh")
        found.append(getattr(tip(asked, knob), side))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_growth_tips_where_the_fleet_can_no_longer_carry_it(plain: Answer) -> None:
    growth = next(row for row in tipping_points(plain) if "growth" in row.what)
    assert growth.up is not None
    mine = fleet_of(plain.market, plain.solution.units)
    carried = []
    for value in (growth.up - 1.0, growth.up + 1.0):
        more = plain.study.demand.model_copy(update={"growth_per_year": value / 100})
        asked = plain.study.model_copy(update={"demand": more})
        market = again(plain, study=asked, load=demand.build(asked))
        carried.append(held(plain, market, mine) is not None)
    assert carried[0]
    assert "at here" in growth.up_to


def test_no_tipping_point_is_said_with_its_range() -> None:
    alone = answer(study(catalogue=[{"gpu": H100, "host": "hgx-h100-4", "tp": [1], "max_batch": [64]}]))
    for row in tipping_points(alone):
        if "growth" not in row.what:
            assert row.words.startswith("none between ")
            assert (row.down, row.up) == (None, None)


def test_other_ways_to_count_name_their_best_fleet(plain: Answer) -> None:
    rows = {row.what: row for row in cases(plain)}
    assert rows["embodied preset hotcarbon24"].status == "unknown"
    assert "not known" in rows["embodied preset hotcarbon24"].words
    act = rows["embodied preset act"]
    asked = plain.study.model_copy(update={"accounting": plain.study.accounting.model_copy(update={"preset": "act"})})
    objective, fleet = enumerated(plain, recounted(plain, asked))[0]
    if act.same:
        assert held(plain, recounted(plain, asked), fleet_of(plain.market, plain.solution.units)) == pytest.approx(
            objective, rel=1e-6
        )
    else:
        assert act.fleet == words(fleet)
    assert {"all grids -3 % a year", "all grids -7 % a year", "host power left out"} <= set(rows)


def test_wins_are_counted_future_by_future() -> None:
    futures = [{"name": f"f{i}", "demand": d, "intensity": g} for i, (d, g) in enumerate(((0.6, 0.2), (1, 1), (1, 4)))]
    asked = answer(study(futures=futures))
    mine = fleet_of(asked.market, asked.solution.units)
    rival = next(fleet for _, fleet in enumerated(asked) if fleet != mine)
    row = wins(asked, {"the runner-up": rival})[0]
    won = 0
    for future in asked.study.futures:
        alone = asked.study.model_copy(update={"futures": [future]})
        market = again(asked, study=alone, load=demand.build(alone))
        own, other = held(asked, market, mine), held(asked, market, rival)
        assert own is not None
        won += other is None or own <= other
    assert (row.wins, row.of) == (won, 3)
    assert row.words.startswith(f"wins in {won} of 3 futures against the runner-up")
    assert wins(answer(study()), {"the runner-up": rival}) == []


def test_the_board_has_four_fleets_year_by_year() -> None:
    priced = {"gpu_price_usd_per_h": {H100: 2.5, A100: 1.5, L4: 0.4}}
    sites = [{"name": "here", "grid": "300", "price_usd_per_kwh": 0.1}]
    asked = answer(study(owned=OWNED, accounting=priced, sites=sites))
    rows = {row.name: row for row in board(asked)}
    assert list(rows) == ["today", "recommended", "least cost", "buy nothing"]
    mine = rows["recommended"]
    assert len(mine.years) == 5
    assert sum(year["operational_g"] for year in mine.years) == pytest.approx(asked.plan.operational_g)
    assert sum(year["embodied_g"] for year in mine.years) == pytest.approx(asked.plan.embodied_g)
    assert asked.plan.usd is not None
    assert sum(year["usd"] for year in mine.years) == pytest.approx(asked.plan.usd)
    assert mine.years[0]["mean_kw"] == pytest.approx(asked.plan.energy_j / asked.plan.horizon_s / 1e3)
    assert all(row.carbon_g is None or row.carbon_g >= (mine.carbon_g or 0) * (1 - 1e-6) for row in rows.values())
    assert (rows["least cost"].usd or 0.0) <= asked.plan.usd * (1 + 1e-6)
    if rows["today"].years:
        assert sum(todays_fleet(asked).values()) == 3
        assert (rows["today"].operational_g or 0) >= (rows["buy nothing"].operational_g or 0) * (1 - 1e-6)
    assert rows["today"].embodied_g in (None, 0.0)


def test_the_board_with_years_apart_keeps_today_on() -> None:
    """Six usable years of owned units and growth: today is all of them, in every year."""
    base = study(owned=[OWNED[0] | {"units": 9}], by_year=True, horizon_years=3)
    asked = answer(base.model_copy(update={"gap": 1e-3}))
    rows = {row.name: row for row in board(asked)}
    assert len(rows["today"].years) == 3
    assert [year["units_on"] for year in rows["today"].years] == [9, 9, 9]
    assert [year["year"] for year in rows["recommended"].years] == [0, 1, 2]
    assert (rows["buy nothing"].operational_g or 0.0) < (rows["today"].operational_g or 0.0)


def test_a_fleet_that_cannot_be_says_what_it_lacks() -> None:
    rows = {row["name"]: row for row in boarded(answer(study(owned=[OWNED[0] | {"units": 1}])))}
    assert "missing" in rows["today"]["why"]
    assert rows["today"]["years"] == []
    assert rows["least cost"]["why"] == "not every unit on offer has a price"
    bare = {row["name"]: row for row in boarded(answer(study()))}
    assert bare["today"]["why"] == bare["buy nothing"]["why"] == "nothing is owned"


def test_the_whole_document_is_json(plain: Answer) -> None:
    import json

    told: list[str] = []
    found = explained(plain, told.append)
    assert json.loads(json.dumps(found)) == found
    assert {"shadow_prices", "runners_up", "entries", "tipping_points", "cases", "wins"} <= set(found)
    assert told
