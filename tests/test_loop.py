"""The loop closes: a calibrated profile feeds the simulator, and the example plan is borne out by its replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibrate import measure
from optimizer import refine, solve, study
from optimizer.written import plan_scenario
from profiles.profile import load, save
from sim.run import run
from sim.scenario import Scenario

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_a_calibrated_profile_is_simulated(tmp_path):
    profile = measure("llama-3.1-8b", runner="fake", quick=True, date="2026-11-21")
    save(profile, tmp_path / "p.json")
    assert load(tmp_path / "p.json") == profile
    assert profile.provenance.kind == "synthetic"
    scenario = Scenario.model_validate(
        {
            "generator": {"duration_s": 120, "rate_per_s": 5, "lengths": "azure-conv"},
            "start": "2023-06-01T00:00:00Z",
            "profiles": [str(tmp_path)],
            "sites": [{"name": "s", "grid": "CA-QC"}],
            "pools": [{"name": "p", "site": "s", "gpu": profile.gpu, "model": profile.model, "instances": 1}],
        }
    )
    summary = run(scenario).summary
    assert summary["requests"]["completed"] == summary["requests"]["total"] > 0
    assert summary["pools"][0]["kind"] == "synthetic"
    assert any("synthetic" in text for text in summary["warnings"])
    assert any("kernels alone" in text for text in summary["warnings"])


def test_the_example_study_gives_its_committed_plan_and_the_replay_bears_it_out():
    asked = study.read(EXAMPLES / "study-two-sites.yaml")
    plan = solve(asked)
    committed = json.loads((EXAMPLES / "study-two-sites.plan.json").read_text(encoding="utf-8"))
    fleet = [{"host": row.host, "site": row.site, "units": row.units, "tp": row.tp} for row in plan.fleet]
    assert fleet == committed["fleet"]
    assert plan.status == committed["status"] == "optimal"
    assert plan.objective == pytest.approx(committed["objective_g"], rel=1e-3)
    assert plan.bound is not None
    assert plan.bound <= plan.objective * (1 + 1e-9)
    verdict = refine.replay(plan, asked)
    assert verdict.verified, verdict.misses
    assert plan_scenario(plan, asked).pools[0].gpu == "h100-sxm-80gb"
