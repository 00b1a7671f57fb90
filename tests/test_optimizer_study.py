"""From a study to a plan and its replay: books, limits, messages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimizer
from optimizer import demand
from optimizer.drawn import draw, windows
from optimizer.plan import Plan
from optimizer.refine import Unverified, replay, require
from optimizer.study import Infeasible, Study, read
from optimizer.written import headline, plan_scenario, replay_trace, write
from profiles import catalog
from profiles.inputs import InputError
from profiles.profile import load_all, shipped_folder
from profiles.units import SECONDS_PER_YEAR
from sim import scenario
from sim.run import run as simulate_run
from sim.trace.model import Trace

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "study-two-sites.yaml"
H100, L4 = "h100-sxm-80gb", "l4"


def study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "demand": {
            "model": "llama-3.1-8b",
            "rate_per_s": 30,
            "buckets": [
                {"prompt_tokens": 500, "output_tokens": 200, "share": 3},
                {"prompt_tokens": 2000, "output_tokens": 100, "share": 1},
            ],
        },
        "slo": {"ttft_s": 3.0, "tpot_s": 0.1},
        "sites": [{"name": "here", "grid": "300"}],
        "catalogue": [{"gpu": H100, "max_batch": [16, 64]}],
        "gap": 1e-6,
    }
    return Study.model_validate({**data, **changes})


def units(plan: Plan) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for row in plan.fleet:
        counts[row.gpu, row.site] = counts.get((row.gpu, row.site), 0) + row.units
    return counts


def test_plan_is_proved_and_its_books_add_up() -> None:
    plan = optimizer.solve(study(catalogue=[{"gpu": H100}, {"gpu": L4}]))
    assert plan.status == "optimal"
    assert plan.bound is not None
    assert plan.bound <= plan.objective * (1 + 1e-9)
    assert plan.objective == pytest.approx(plan.operational_g + plan.embodied_g, rel=1e-9)
    assert plan.operational_g == pytest.approx(plan.energy_j / 3.6e6 * 300, rel=1e-9)
    assert plan.requests == pytest.approx(30 * 5 * SECONDS_PER_YEAR)
    assert sum(row.share for row in plan.fleet) == pytest.approx(1.0)
    assert all(row.peak_utilisation <= 0.8 + 1e-6 for row in plan.fleet)
    assert f"{plan.fleet[0].units} x {plan.fleet[0].host}" in headline(plan)


def test_books_equal_a_recomputation_from_fleet_and_dispatch() -> None:
    plan = optimizer.solve(study(catalogue=[{"gpu": H100, "max_batch": [64]}], sites=[{"name": "here", "grid": "50"}]))
    served: dict[tuple[int, str], float] = {}
    for row in plan.dispatch:
        served[row["class"], row["slice"]] = served.get((row["class"], row["slice"]), 0.0) + row["share"]
    assert list(served.values()) == [pytest.approx(1.0)] * len(served)
    assert len(served) == len(plan.classes) * len(plan.slices)
    (row,) = plan.fleet
    host = catalog.host(row.host)
    profile = next(p for _, p in load_all([shipped_folder()]) if (p.gpu, p.model) == (H100, "llama-3.1-8b"))
    powered_w = row.units * (host.power_w + host.gpus * profile.idle.loaded_w / profile.tp) * 1.2
    assert row.energy_j - row.dynamic_j == pytest.approx(powered_w * plan.horizon_s, rel=1e-9)


def test_twice_the_intensity_is_twice_the_operational_carbon_of_the_same_fleet() -> None:
    one = optimizer.solve(study(sites=[{"name": "here", "grid": "100"}], catalogue=[{"gpu": L4, "max_batch": [8]}]))
    two = optimizer.solve(study(sites=[{"name": "here", "grid": "200"}], catalogue=[{"gpu": L4, "max_batch": [8]}]))
    assert units(one) == units(two)
    assert two.operational_g == pytest.approx(2 * one.operational_g, rel=1e-6)
    assert two.embodied_g == one.embodied_g


def test_one_more_site_never_worsens_the_plan() -> None:
    alone = optimizer.solve(study())
    both = optimizer.solve(study(sites=[{"name": "here", "grid": "300"}, {"name": "there", "grid": "30"}]))
    assert both.objective < alone.objective
    assert {row.site for row in both.fleet} == {"there"}


def test_owned_units_are_sunk() -> None:
    bought = optimizer.solve(study())
    kept = optimizer.solve(study(owned=[{"gpu": H100, "site": "here", "units": 50, "max_batch": [16, 64]}]))
    assert bought.embodied_g > 0
    assert kept.embodied_g == 0
    assert all(row.owned for row in kept.fleet)
    pools = plan_scenario(kept, study()).pools
    assert all(pool.sunk for pool in pools)


def test_a_short_horizon_leaves_a_remaining_value() -> None:
    five = optimizer.solve(study(horizon_years=5, accounting={"host_lifetime_years": 5}))
    one = optimizer.solve(study(horizon_years=1, accounting={"host_lifetime_years": 5}))
    assert units(five) == units(one)
    assert five.embodied_g == pytest.approx(5 * one.embodied_g)


def test_site_room_and_power_bind() -> None:
    host = min(catalog.hosts_for(H100), key=lambda h: h.gpus)
    offers = [{"gpu": H100, "host": host.name, "max_batch": [64]}]
    sites = [{"name": "green", "grid": "20", "max_gpus": host.gpus}, {"name": "brown", "grid": "600"}]
    plan = optimizer.solve(study(catalogue=offers, sites=sites, demand={**dump(study()), "rate_per_s": 400}))
    assert units(plan)[H100, "green"] == 1
    assert units(plan)[H100, "brown"] >= 1
    watts = catalog.gpu(H100).tdp_w * host.gpus + host.power_w
    capped = [{**sites[0], "max_gpus": None, "max_power_w": 1.5 * watts}, sites[1]]
    again = optimizer.solve(study(catalogue=offers, sites=capped, demand={**dump(study()), "rate_per_s": 400}))
    assert units(again) == units(plan)


def dump(of: Study) -> dict[str, Any]:
    return of.demand.model_dump()


def test_infeasible_says_in_units_what_is_missing() -> None:
    needed = sum(row.units for row in optimizer.solve(study(catalogue=[{"gpu": L4, "host": smallest(L4)}])).fleet)
    offer = {"gpu": L4, "host": smallest(L4), "max_units": needed - 2}
    with pytest.raises(Infeasible, match=rf"missing 2 more {smallest(L4)} \(l4\)") as caught:
        optimizer.solve(study(catalogue=[offer]))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def smallest(gpu: str) -> str:
    return min(catalog.hosts_for(gpu), key=lambda h: h.gpus).name


def test_infeasible_names_the_room_that_is_missing() -> None:
    with pytest.raises(Infeasible, match=r"more GPUs of room at here"):
        optimizer.solve(study(sites=[{"name": "here", "grid": "300", "max_gpus": 0}]))


def test_a_promise_no_configuration_keeps() -> None:
    with pytest.raises(Infeasible, match=r"no configuration serves requests of 500 tokens in and 200 out .*TPOT"):
        optimizer.solve(study(slo={"tpot_s": 1e-4}))


def test_aliases_are_the_same_card() -> None:
    assert units(optimizer.solve(study(catalogue=[{"gpu": "H100_SXM_80GB"}]))) == units(
        optimizer.solve(study(catalogue=[{"gpu": H100}]))
    )


def test_cost_without_a_price_names_the_gpu() -> None:
    with pytest.raises(InputError, match=rf"no price for {H100}"):
        optimizer.solve(study(objective="cost"))


def test_cost_and_the_carbon_price() -> None:
    offers = [{"gpu": H100, "host": smallest(H100), "price_usd_per_h": 3.0}]
    cheap = optimizer.solve(study(objective="cost", catalogue=offers))
    assert cheap.objective == pytest.approx(cheap.usd)
    assert cheap.usd == pytest.approx(3.0 * 5 * 8760 * sum(row.units for row in cheap.fleet))
    priced = optimizer.solve(study(objective="cost", carbon_price_usd_per_t=100, catalogue=offers))
    assert priced.usd is not None
    assert priced.objective == pytest.approx(priced.usd + priced.carbon_g * 100 / 1e6)


def test_unused_types_say_why_they_lost() -> None:
    plan = optimizer.solve(study(catalogue=[{"gpu": H100, "host": smallest(H100)}, {"gpu": L4, "host": smallest(L4)}]))
    lost = {row["gpu"]: row["why"] for row in plan.unused}
    assert {row.gpu for row in plan.fleet} | set(lost) == {H100, L4}
    assert all("of this plan's" in why or "cannot" in why or "does not" in why for why in lost.values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"catalogue": []}, "nothing to choose from"),
        ({"catalogue": [{"gpu": "h100-sxm-80g"}]}, H100),
        ({"catalogue": [{"gpu": H100, "host": "nothing"}]}, "nothing"),
        ({"catalogue": [{"gpu": H100, "tp": [64]}]}, "no host"),
        ({"catalogue": [{"gpu": H100, "tp": [4]}]}, "no profile"),
        ({"sites": [{"name": "here", "grid": "nowhere"}]}, "nowhere"),
        (
            {"demand": {"model": "llama-9", "rate_per_s": 1, "buckets": [{"prompt_tokens": 1, "output_tokens": 1}]}},
            "llama",
        ),
    ],
)
def test_wrong_studies_are_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises((InputError, ValueError), match=says):
        optimizer.solve(study(**changes))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("demand: {model: m, bucket: []}\nsites: []", r"demand\.bucket.*did you mean buckets"),
        ("sites: [{name: a, grid: FR}]", r"demand: missing"),
        (
            "demand: {model: m}\nsites: [{name: a, grid: FR}]\ncatalogue: [{gpu: l4}]",
            "one of trace, generator and buckets",
        ),
        ("demand: {model: m, buckets: [{prompt_tokens: 1, output_tokens: 1}]}", "rate_per_s"),
        ("demand: {model: m, rate_per_s: 0, buckets: []}", "demand"),
    ],
)
def test_bad_study_files(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read(path)


def test_trace_demand_keeps_its_mix_and_burst() -> None:
    # 10 minutes of one request a second but for one minute of three a second; two lengths in turn
    starts = np.concatenate([np.arange(60 * m, 60 * (m + 1), 1 / 3 if m == 5 else 1.0) for m in range(10)] + [[600.0]])
    turn = np.arange(len(starts)) % 2
    trace = Trace("t", starts, 100 + 900 * turn, 50 + 250 * turn)
    classes = demand._from_trace(trace, study().demand)
    assert [(c.prompt_tokens, c.output_tokens) for c in classes] == [(100, 50), (1000, 300)]
    assert sum(c.share for c in classes) == pytest.approx(1.0)
    assert demand.minute_burst(trace, 0.999) == pytest.approx(180 / 72, rel=0.01)
    assert demand.mean_rate(trace) == pytest.approx(720 / 600)


def test_slices_stand_for_the_whole_horizon_and_the_peak_weighs_nothing() -> None:
    load = demand.build(study(demand={**dump(study()), "shape": "diurnal"}))
    assert sum(part.seconds for part in load.slices) == pytest.approx(5 * SECONDS_PER_YEAR)
    assert load.requests == pytest.approx(30 * 5 * SECONDS_PER_YEAR)
    peak = load.slices[-1]
    assert peak.seconds == 0.0
    assert peak.rate_per_s > max(part.rate_per_s for part in load.slices[:-1])


def test_plan_directory_holds_a_scenario_that_reads_back(tmp_path: Path) -> None:
    asked = study()
    plan = optimizer.solve(asked)
    folder = write(plan, asked, tmp_path / "out")
    back = scenario.read(folder / "scenario.yaml")
    assert back == plan_scenario(plan, asked)
    assert [pool.instances for pool in back.pools] == [row.instances for row in plan.fleet]
    assert [pool.max_num_seqs for pool in back.pools] == [row.max_batch for row in plan.fleet]


def fake_run(plan: Plan, energy: float = 1.0, attainment: float = 1.0) -> Any:
    """A run that finds `energy` times what the plan says, over one hour at 300 g/kWh."""

    def run(given: scenario.Scenario, trace: Trace | None = None) -> Any:
        assert trace is not None
        found = {
            row.pool: energy
            * ((row.energy_j - row.dynamic_j) * 3600 / plan.horizon_s + row.dynamic_j * trace.requests / plan.requests)
            for row in plan.fleet
        }
        total = sum(found.values())
        return SimpleNamespace(
            summary={
                "horizon_s": 3600.0,
                "requests": {"total": trace.requests},
                "sites": [{"name": "here", "intensity": {"mean_g_per_kwh": 300.0}}],
                "pools": [{"name": name, "energy_j": j, "utilisation": 0.9} for name, j in found.items()],
                "energy_j": {"total": total},
                "carbon_g": {"operational": total / 3.6e6 * 300},
                "slo": {"attainment": attainment},
            }
        )

    return run


def test_replay_verdicts() -> None:
    asked = study()
    plan = optimizer.solve(asked)
    good = replay(plan, asked, fake_run(plan, energy=1.04))
    assert good.verified
    assert good.rows[0].difference == pytest.approx(0.04)
    require(good)
    for bad, says in ((fake_run(plan, energy=1.2), "20.0 % off"), (fake_run(plan, attainment=0.9), "90.00 %")):
        verdict = replay(plan, asked, bad)
        assert verdict.document()["verdict"] == "unverified"
        with pytest.raises(Unverified, match=says) as caught:
            require(verdict)
        assert caught.value.exit_code == 5


def test_replay_draws_the_studys_lengths_at_its_rate() -> None:
    trace = draw(study(), windows(study(), [None])[0])[0]
    assert trace is not None
    pairs = set(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    assert pairs == {(500, 200), (2000, 100)}
    assert demand.mean_rate(trace) == pytest.approx(30, rel=0.02)


def test_the_example_is_planned() -> None:
    asked = read(EXAMPLE)
    plan = optimizer.solve(asked)
    assert plan.status == "optimal"
    assert plan.gap is not None
    assert plan.gap <= asked.gap
    assert sum(row.gpus for row in plan.fleet if row.site == "quebec") <= 8


def test_a_real_replay_keeps_the_promises_near_the_planned_energy() -> None:
    asked = study(demand={**dump(study()), "rate_per_s": 6}, catalogue=[{"gpu": H100, "host": smallest(H100)}])
    plan = optimizer.solve(asked)
    verdict = replay(plan, asked)
    assert verdict.requests == pytest.approx(6 * 3600, rel=0.05)
    energy, carbon, kept = verdict.rows[:3]
    assert energy.difference is not None
    assert abs(energy.difference) < 0.15  # the steady state knows no bursts; refining is the next step
    assert carbon.difference == pytest.approx(energy.difference, abs=1e-6)
    assert kept.replayed >= 0.99


def test_a_plan_of_several_pools_is_placed_as_it_says() -> None:
    """The clean site has room for one unit only: the scenario routes by the plan's shares, not by load."""
    buckets = [
        {"prompt_tokens": 100, "output_tokens": 60, "share": 3},
        {"prompt_tokens": 600, "output_tokens": 60, "share": 1},
    ]
    asked = study(
        demand={"model": "llama-3.1-8b", "rate_per_s": 10, "buckets": buckets},
        slo={"ttft_s": 3.0, "tpot_s": 0.15},
        catalogue=[{"gpu": L4, "host": "l4-server-4", "max_batch": [8]}],
        sites=[{"name": "clean", "grid": "20", "max_gpus": 4}, {"name": "dirty", "grid": "500"}],
    )
    plan = optimizer.solve(asked)
    assert len(plan.fleet) == 2
    planned = plan_scenario(plan, asked)
    assert planned.routing == "planned"
    result = simulate_run(planned, trace=replay_trace(asked, planned))
    prompts, where = result.trace.prompt_tokens, np.frombuffer(result.played.requests.instance, dtype=np.int64)
    shares = {(d["class"], d["pool"]): d["share"] for d in plan.dispatch if "peak" not in d["slice"]}
    for pool in result.pools:
        mine = (where >= pool.numbers.start) & (where < pool.numbers.stop)
        for k, tokens in enumerate((100, 600)):
            wanted = shares.get((k, pool.spec.name), 0.0)
            assert mine[prompts == tokens].mean() == pytest.approx(wanted, abs=0.01)
