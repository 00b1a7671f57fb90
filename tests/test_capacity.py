"""Searches that end where brute force does, and intervals over seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from profiles.inputs import InputError
from sim.capacity import Unreachable, figures, find_instances, find_rate, replicate
from sim.run import load_trace, run
from sim.scenario import Scenario


def scenario(rate: float = 20.0, ttft_s: float | None = 0.5, pools: int = 1, **more: Any) -> Scenario:
    each = {"site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 1}
    return Scenario.model_validate(
        {
            "generator": {"rate_per_s": rate, "duration_s": 60.0, "lengths": "azure-conv"},
            "start": "2023-06-01T00:00:00Z",
            "seed": 1,
            "slo": {} if ttft_s is None else {"ttft_s": ttft_s},
            "sites": [{"name": "s", "grid": "400"}],
            "pools": [{"name": f"p{k}", **each} for k in range(pools)],
            **more,
        }
    )


def test_replications_are_the_same_in_several_processes() -> None:
    assert replicate(scenario(), 3, jobs=2) == replicate(scenario(), 3)


def test_the_rate_found_is_kept_and_two_per_cent_more_is_not() -> None:
    found = find_rate(scenario(), warm_up_s=5.0)
    best = found.answer
    assert best.kept
    assert best.attainment >= 0.99
    above = [each.value for each in found.tries if each.value > best.value]
    assert above
    assert min(above) / best.value <= 1.02 + 1e-9
    assert not any(each.kept for each in found.tries if each.value > best.value)
    assert len({each.value for each in found.tries}) == len(found.tries)
    n = load_trace(scenario()).requests
    assert best.rate_per_s == pytest.approx(best.value * (n - 1) / load_trace(scenario()).span_s)


def test_a_fleet_too_small_is_found_by_halving() -> None:
    found = find_rate(scenario(rate=200.0))
    assert found.answer.value < 0.5
    assert found.tries[0].value == 1.0
    assert not found.tries[0].kept


def test_the_instances_found_are_those_of_brute_force() -> None:
    asked = scenario(rate=120.0)
    found = find_instances(asked)
    count = 1
    while True:
        pools = [asked.pools[0].model_copy(update={"instances": count})]
        if (figures(run(asked.model_copy(update={"pools": pools})))["attainment"] or 0.0) >= 0.99:
            break
        count += 1
    assert found.answer.value == count > 1


def test_only_the_named_pool_grows() -> None:
    found = find_instances(scenario(rate=60.0, pools=2), "p1")
    assert found.answer.kept
    with pytest.raises(InputError, match="name one of p0, p1"):
        find_instances(scenario(pools=2))
    with pytest.raises(InputError, match="unknown pool 'p7'"):
        find_instances(scenario(pools=2), "p7")


def test_what_cannot_be_kept_is_infeasible() -> None:
    with pytest.raises(Unreachable, match="at any rate") as refused:
        find_rate(scenario(rate=0.2, ttft_s=1e-6))
    assert refused.value.exit_code == 3
    with pytest.raises(InputError, match="there is no limit to keep"):
        find_rate(scenario(ttft_s=None))


def test_replications_are_the_runs_of_their_seeds() -> None:
    asked = scenario()
    document = replicate(asked, 4)
    runs = [run(asked.model_copy(update={"seed": seed})) for seed in document["seeds"]]
    values = [each.summary["ttft_s"]["mean"] for each in runs]
    stats = document["figures"]["ttft_s_mean"]
    assert stats["mean"] == pytest.approx(statistics.fmean(values))
    assert stats["sd"] == pytest.approx(statistics.stdev(values))
    assert stats["half_width_95"] == pytest.approx(3.182446 * stats["sd"] / 2, rel=1e-6)  # Student's t, 3 degrees
    with pytest.raises(InputError, match="at least two"):
        replicate(asked, 1)


def test_a_warm_up_leaves_early_arrivals_out_of_latencies_alone() -> None:
    made = run(scenario())
    whole, late = figures(made), figures(made, 30.0)
    assert whole["energy_j"] == late["energy_j"]
    assert whole["ttft_s_mean"] != late["ttft_s_mean"]
    with pytest.raises(InputError, match="no request arrives after it"):
        figures(made, 1e6)


def test_from_the_command_line(tmp_path: Path) -> None:
    from carbonfleet.cli.simulate import command

    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(scenario().model_dump(mode="json", exclude_none=True)))
    found = json.loads(CliRunner().invoke(command, [str(file), "--find-instances", "-", "--json", "-q"]).output)
    assert found["what"] == "instances"
    assert found["answer"]["kept"]
    rate = CliRunner().invoke(command, [str(file), "--find-rate", "--target", "0.9", "-q"])
    assert rate.output.startswith("largest rate with the SLO kept by 90 % of the requests: ")
    seeds = CliRunner().invoke(command, [str(file), "--replications", "2", "-q"])
    assert "2 seeds, 1 to 2" in seeds.output
    both = CliRunner().invoke(command, [str(file), "--find-rate", "--replications", "2"])
    assert both.exit_code == 2
    assert "ask one thing" in both.output
    alone = CliRunner().invoke(command, [str(file), "--warm-up", "5"])
    assert alone.exit_code == 2
    assert "--warm-up goes with" in alone.output


def test_a_trace_cannot_be_replicated(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,10,10\n")
    asked = scenario().model_copy(update={"trace": str(tmp_path / "t.csv"), "generator": None})
    with pytest.raises(InputError, match="the same under every seed"):
        replicate(asked, 3)
