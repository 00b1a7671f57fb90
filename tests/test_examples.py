"""Every example gives its committed result, and says what its comment promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbonfleet.compare import compare
from carbonfleet.sweep import crew, design
from carbonfleet.sweep import run as sweeps
from carbonfleet.sweep.folder import Folder
from sim import scenario
from sim.run import Run, run
from tests.committed import close

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCENARIOS = sorted(path.stem for path in EXAMPLES.glob("*.yaml") if not path.stem.startswith(("study", "sweep")))
CLOCK = {"wall_s", "loop_s", "requests_per_wall_s"}
TIGHT: dict[str, Any] = {"rel": 1e-6, "abs": 1e-12, "exact_types": True}
_made: dict[str, Run] = {}


def made(name: str) -> Run:
    if name not in _made:
        _made[name] = run(scenario.read(EXAMPLES / f"{name}.yaml"))
    return _made[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_gives_its_committed_result(name: str) -> None:
    """Write it anew with: simulate examples/NAME.yaml -o DIR, then DIR/summary.json without the clock's keys."""
    committed = json.loads((EXAMPLES / f"{name}.summary.json").read_text(encoding="utf-8"))
    found = json.loads(json.dumps({key: value for key, value in made(name).summary.items() if key not in CLOCK}))
    found["balance"] = committed["balance"] = {}  # rounding noise; other tests hold it to 1e-9
    close(found, committed, **TIGHT)


def test_there_are_at_least_five_and_each_is_commented() -> None:
    assert len(SCENARIOS) >= 5
    for path in EXAMPLES.glob("*.yaml"):
        assert path.read_text().startswith("# "), path.name


def test_old_hardware_wins_only_where_what_is_made_is_made(tmp_path: Path) -> None:
    made("keep-the-old").write(tmp_path / "old")
    made("buy-the-new").write(tmp_path / "new")
    pair = compare([tmp_path / "old", tmp_path / "new"])["pairs"][0]
    assert pair["difference_g"] < 0
    assert pair["flips_under"] == ["what was bought before (sunk) emits no embodied carbon"]


def test_eight_gpus_emit_1_76_times_what_four_do() -> None:
    four, eight = (pool["carbon_g"] for pool in made("big-model").summary["pools"])
    assert eight / four == pytest.approx(1.76, abs=0.005)


def test_own_files_keep_the_promise() -> None:
    summary = made("own-trace").summary
    assert summary["slo"]["attainment"] == pytest.approx(0.999, abs=5e-4)
    assert summary["energy_j"]["host"] / summary["energy_j"]["total"] == pytest.approx(0.65, abs=0.01)
    assert summary["start_utc"].startswith("2026-03-02T09:00")


def test_the_sweep_gives_its_committed_result_and_says_what_its_comment_promises(tmp_path: Path) -> None:
    """Write it anew with: carbonfleet sweep examples/sweep-fleet.yaml --json, its points without their keys."""
    asked, folder = design.read(EXAMPLES / "sweep-fleet.yaml"), Folder(tmp_path)
    found = sweeps.run(asked, folder, sweeps.plan(asked, folder), lambda: crew.Here(2))
    rows = [{key: value for key, value in row.items() if key != "key"} for row in found.rows]
    committed = json.loads((EXAMPLES / "sweep-fleet.points.json").read_text(encoding="utf-8"))
    close(json.loads(json.dumps(rows)), committed, **TIGHT)
    at = {(row["set.pools.chat.gpu"], row["set.pools.chat.instances"], row["set.sites.here.grid"]): row for row in rows}
    kept = [row for row in rows if row["slo.attainment"] >= 0.99 and row["set.sites.here.grid"] == "CA-QC"]
    assert min(kept, key=lambda row: row["carbon_g.total"]) is at["a100-sxm-80gb", 3, "CA-QC"]
    assert all(row["tpot_s.p50"] > 0.05 for row in rows if row["set.pools.chat.gpu"] == "l4")
    two = at["a100-sxm-80gb", 2, "CA-QC"]
    assert two["carbon_g.total"] < at["a100-sxm-80gb", 3, "CA-QC"]["carbon_g.total"]
    assert two["slo.attainment"] < 0.99
    factors = [at[gpu, n, "PL"]["carbon_g.total"] / at[gpu, n, "CA-QC"]["carbon_g.total"] for gpu, n, _ in at]
    assert 16.5 < min(factors) < max(factors) < 18.5
