"""Plans corrected by their replays, and plans beside other fleets: single types, fronts, replace or keep."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import optimizer
from carbonfleet.cli.optimize import command
from optimizer.beside import front, replace_or_keep, rivals
from optimizer.hours import redispatch
from optimizer.refine import confirmed
from optimizer.study import Infeasible, Study
from profiles import catalog
from profiles.inputs import InputError
from sim.run import run as simulate

H100, A100, L4 = "h100-sxm-80gb", "a100-sxm-80gb", "l4"


def study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "demand": {
            "model": "llama-3.1-8b",
            "rate_per_s": 8,
            "buckets": [{"prompt_tokens": 500, "output_tokens": 200}],
        },
        "slo": {"ttft_s": 3.0, "tpot_s": 0.15},
        "sites": [{"name": "here", "grid": "300"}],
        "catalogue": [{"gpu": H100}, {"gpu": A100}],
        "accounting": {"gpu_price_usd_per_h": {H100: 2.5, A100: 1.5}},
        "gap": 1e-6,
    }
    return Study.model_validate({**data, **changes})


def drawing(times: float) -> Any:
    """The simulator, but its GPUs at work draw `times` as much as their profiles say."""

    def run(given: Any, trace: Any = None) -> Any:
        summary = dict(simulate(given, trace=trace).summary)
        more = (times - 1.0) * summary["energy_j"]["gpu_busy"] * 1.2  # the site's PUE
        grams = more / 3.6e6 * summary["sites"][0]["intensity"]["mean_g_per_kwh"]
        summary["energy_j"] = summary["energy_j"] | {"total": summary["energy_j"]["total"] + more}
        summary["carbon_g"] = summary["carbon_g"] | {"operational": summary["carbon_g"]["operational"] + grams}
        busy = sum(pool["parts_g"]["gpu_busy"] for pool in summary["pools"])
        summary["pools"] = [
            pool | {"energy_j": pool["energy_j"] + more * pool["parts_g"]["gpu_busy"] / busy}
            for pool in summary["pools"]
        ]
        return SimpleNamespace(summary=summary)

    return run


def test_a_plan_is_corrected_until_its_replay_agrees() -> None:
    plan, verdict, rounds = confirmed(study(), run=drawing(1.105))
    assert len(rounds) == 2
    assert abs(rounds[0].energy_difference or 0.0) > 0.05 > abs(rounds[1].energy_difference or 0.0)
    assert rounds[0].joules == {}
    (factor,) = rounds[1].joules.values()
    assert 1.05 < factor < 1.151
    assert verdict.verified
    assert plan.objective == rounds[-1].objective > rounds[0].objective
    assert verdict.notes[-1].startswith("judged on requests of a seed")


def test_a_planted_wrong_profile_is_caught() -> None:
    """Real GPUs at work draw 20 % of everything more than the profile says: no correction, but a wrong profile."""
    _, verdict, _ = confirmed(study(), run=drawing(1.2))
    assert not verdict.verified
    assert "check the profile" in verdict.misses[-1]


def test_promises_that_are_not_kept_make_the_next_fleet_less_busy() -> None:
    def failing(given: Any, trace: Any = None) -> Any:
        summary = simulate(given, trace=trace).summary
        return SimpleNamespace(summary=summary | {"slo": summary["slo"] | {"attainment": 0.5}})

    _, verdict, rounds = confirmed(study(), run=failing, rounds=3)
    safe = [each.safe_utilisation for each in rounds]
    assert safe == pytest.approx([0.8, 0.8 * 0.93, 0.8 * 0.93**2])
    assert not verdict.verified
    assert len(rounds) == 3


def test_no_other_fleet_has_less_carbon_than_the_least() -> None:
    owned = [{"gpu": L4, "site": "here", "units": 40}]
    asked = study(owned=owned)
    plan = optimizer.solve(asked)
    rows = rivals(asked, plan)
    names = [row.name for row in rows]
    assert names[:3] == ["this plan", f"{H100} alone, new", f"{A100} alone, new"]
    assert {"least cost", "least energy", "all new", "what is owned, nothing bought"} <= set(names)
    best = rows[0].carbon_g
    assert best is not None
    # joules are priced at each fleet's own utilisation, so that two programs differ by a little more than their gaps
    assert all(row.carbon_g is None or row.carbon_g >= best * (1 - 0.03) for row in rows)
    least = next(row for row in rows if row.name == "least energy")
    assert least.energy_j is not None
    assert least.energy_j <= (rows[0].energy_j or 0.0) * 1.03


def test_at_one_site_with_nothing_embodied_least_carbon_is_least_energy() -> None:
    free = {"embodied_kg": {H100: 0.0, A100: 0.0}, "boundary": "card", "host_power": False}
    green, frugal = (optimizer.solve(study(accounting=free, objective=o)) for o in ("carbon", "energy"))
    assert green.carbon_g == pytest.approx(frugal.carbon_g, rel=1e-5)
    assert green.energy_j == pytest.approx(frugal.energy_j, rel=1e-5)


def test_a_front_goes_from_the_cheapest_to_the_greenest() -> None:
    sites = [
        {"name": "dirty", "grid": "700", "price_usd_per_kwh": 0.05},
        {"name": "clean", "grid": "30", "price_usd_per_kwh": 0.4},
    ]
    rows = front(study(sites=sites), 6)
    assert len(rows) > 1
    assert [row["usd"] for row in rows] == sorted(row["usd"] for row in rows)
    assert [row["carbon_g"] for row in rows] == sorted((row["carbon_g"] for row in rows), reverse=True)
    with pytest.raises(InputError, match="no price"):
        front(study(accounting={}))


def test_old_units_win_where_the_grid_is_clean_and_lose_where_it_is_dirty() -> None:
    """HotCarbon'24's direction. At the intensity printed as even, both emit the same."""

    def asked(intensity: float) -> Study:
        owned = [{"gpu": L4, "site": "here", "units": 60, "host": "l4-server-8"}]
        return study(owned=owned, sites=[{"name": "here", "grid": str(intensity)}], catalogue=[{"gpu": H100}])

    dirty = replace_or_keep(asked(800.0))
    server = next(row for row in dirty if (row["preset"], row["boundary"]) == ("pcf-card", "server"))
    even = server["breakeven_intensity_g_per_kwh"]
    if even is None:  # the old units draw less than the new ones: then keeping wins at any intensity
        assert all(row["keep_wins"] for row in dirty if row["boundary"] == "server")
        return
    assert server["keep_wins"] == (even > 800.0)
    below = next(iter(replace_or_keep(asked(0.5 * even))))
    above = next(iter(replace_or_keep(asked(min(2.0 * even, 2900.0)))))
    assert below["keep_wins"]
    assert not above["keep_wins"] or 2.0 * even > 2900.0
    with pytest.raises(InputError, match="needs owned units"):
        replace_or_keep(study())


def test_at_the_printed_host_power_keeping_and_replacing_emit_the_same(tmp_path: Any) -> None:
    """Both hosts' watts are multiplied by what is printed, and the question is put again."""

    def asked(factor: float) -> Study:
        folder = tmp_path / str(factor)
        folder.mkdir()
        head = "name,gpu,gpus,cpus,dram_gb,ssd_tb,nics,chassis_2u,fans,power_w,source"
        rows = [f"old,{L4},8,2,512,8,2,1,2,{factor * 900},test", f"new,{H100},4,2,512,8,2,1,2,{factor * 700},test"]
        (folder / "hosts.csv").write_text("\n".join([head, *rows]))
        return study(
            sites=[{"name": "here", "grid": "60"}],
            own_catalog=str(folder),
            owned=[{"gpu": L4, "site": "here", "units": 60, "host": "old", "max_batch": [8]}],
            catalogue=[{"gpu": H100, "host": "new", "max_batch": [64]}],
        )

    first = asked(1.0)
    with catalog.using(first.own_catalog):
        row = next(iter(replace_or_keep(first)))
    even = row["breakeven_host_power_share"]
    assert row["paper_direction_holds"]
    assert 0.0 < even < 10.0
    again = asked(round(even, 6))
    with catalog.using(again.own_catalog):
        row = next(iter(replace_or_keep(again)))
    assert row["keep_g"] == pytest.approx(row["new_g"], rel=0.01)  # joules are priced anew at each fleet's utilisation


def test_the_command_prints_what_stands_beside_the_plan(tmp_path: Any) -> None:
    file = tmp_path / "study.yaml"
    document = study(owned=[{"gpu": L4, "site": "here", "units": 40}]).model_dump(mode="json", exclude_none=True)
    file.write_text(json.dumps(document))
    asked = [str(file), "--no-verify", "--compare", "--pareto", "3", "--replace-or-keep", "--hours", "-q"]
    shown = CliRunner().invoke(command, [*asked, "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    for words in ("beside other fleets", "cost against carbon", "replace or keep", "least energy", "not chosen"):
        assert words in shown.output
    found = json.loads((tmp_path / "out" / "beside.json").read_text())
    assert set(found) == {"compare", "pareto", "replace_or_keep", "hours"}
    for odd in ({"reconfigure": True}, {"futures": [{"name": "a"}]}):
        file.write_text(json.dumps(document | odd))
        refused = CliRunner().invoke(command, [str(file), "--hours"])
        assert refused.exit_code == 1
        assert next(iter(odd)) in str(refused.exception)
    refused = CliRunner().invoke(command, ["--melange", str(file), "--compare"])
    assert refused.exit_code == 2


def test_every_hour_of_the_year_is_dispatched_on_the_fleet() -> None:
    """A constant grid: as planned. Two grids with weather: near the plan's own days, and every request served."""
    steady = study()
    plan = optimizer.solve(steady)
    year = redispatch(steady, plan)
    assert year.hours == 8760
    assert year.operational_g == pytest.approx(year.planned_g, rel=1e-9)
    assert year.energy_j == pytest.approx(plan.energy_j / 5, rel=1e-9)
    two = study(
        sites=[{"name": "ca", "grid": "US-CAL-CISO", "max_gpus": 4}, {"name": "qc", "grid": "CA-QC", "max_gpus": 4}],
        demand={
            "model": "llama-3.1-8b",
            "rate_per_s": 40,
            "shape": "diurnal",
            "buckets": [{"prompt_tokens": 500, "output_tokens": 200}],
        },
        catalogue=[{"gpu": A100, "host": "hgx-a100-80gb-4"}],
    )
    plan = optimizer.solve(two)
    year = redispatch(two, plan)
    assert len(plan.fleet) == 2
    assert year.operational_g == pytest.approx(year.planned_g, rel=0.02)
    for hour in (0, 4000, 8759):
        assert sum(shares[hour] for shares in year.share.values()) == pytest.approx(1.0)
    assert len(set(year.share[plan.fleet[0].pool])) > 1


def test_a_fleet_that_is_too_small_for_an_hour_is_said() -> None:
    asked = study()
    plan = optimizer.solve(asked)
    busier = study(demand=asked.demand.model_dump() | {"rate_per_s": 4000.0})
    with pytest.raises(Infeasible, match="does not carry every request of hours 0 to 95"):
        redispatch(busier, plan)
