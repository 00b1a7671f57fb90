"""The books of a three-request run, worked by hand in three_requests.csv, and whole runs on real traces.

The run: prefill takes n/1024 s at 512 W, a decode step (8 + batch)/1024 + KV/2^20 s at 256 W, idle draws 64 W. A and B
are prefilled together (512 tokens, half a second), decode one step together (contexts 257 and 257), then A decodes
alone (context 258); C comes at second 1 and is done with its prefill. The horizon is 4 s, PUE 1.25, the grid 360 g/kWh:
a joule at the GPU is 1/8000 g. Embodied: 10.3 kg over five years of 8760 hours is R grams a second. In the table E is
the row's joules, b its busy seconds, B those of all rows, i = 4 - B the idle seconds and I = 64 i the idle joules.
"""

from __future__ import annotations

import ast
import csv
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profiles.profile import save
from sim.run import run
from sim.scenario import Scenario
from sim.trace import Trace

HORIZON_S = 4.0
RATE_G_PER_S = 10_300 / (5 * 8760 * 3600)
_DO = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def worked(text: str, **names: float) -> float:
    """The value of a sum written in the table."""

    def value(node: ast.AST) -> float:
        if isinstance(node, ast.BinOp):
            return _DO[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Name):
            return names[node.id]
        assert isinstance(node, ast.Constant)
        return node.value

    return value(ast.parse(text, mode="eval").body)


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    with (Path(__file__).parent / "three_requests.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def three(tmp_path: Path, paper: Callable[..., Any], table: list[dict[str, str]]):
    save(paper(gpu="t4", model="llama-2-7b"), tmp_path / "paper.json")

    def go(engine: str = "leap", **accounting: Any):
        scenario = Scenario.model_validate(
            {
                "trace": "by hand",
                "horizon_s": HORIZON_S,
                "profiles": [str(tmp_path)],
                "sites": [{"name": "s", "grid": "360", "pue": 1.25}],
                "pools": [
                    {
                        "name": "p",
                        "site": "s",
                        "gpu": "t4",
                        "model": "llama-2-7b",
                        "instances": 1,
                        "host": "t4-server-1",
                        "batching": "prefill-first",
                    }
                ],
                "accounting": {"preset": "hotcarbon24", "boundary": "chip", "host_power": False} | accounting,
            }
        )
        columns = {name: [float(row[name]) for row in table] for name in ("arrival_s", "prompt", "output")}
        trace = Trace("by hand", columns["arrival_s"], columns["prompt"], columns["output"])  # type: ignore[arg-type]
        return run(scenario, engine=engine, trace=trace)

    return go


@pytest.mark.parametrize("engine", ["leap", "step"])
def test_three_requests_by_hand(three, table, engine):
    result = three(engine)
    busy = [worked(row["busy_s"]) for row in table]
    idle_s = HORIZON_S - sum(busy)
    requests, owned = result.played.requests, result.shares.of(slice(None))
    for k, row in enumerate(table):
        energy = worked(row["energy_j"])
        names = {"E": energy, "R": RATE_G_PER_S, "b": busy[k], "B": sum(busy), "i": idle_s, "I": 64 * idle_s}
        got = {
            "first_token_s": requests.first_token_s[k],
            "finish_s": requests.finish_s[k],
            "busy_s": requests.busy_s[k],
            **dict(
                zip(("energy_j", "operational_g", "embodied_g", "idle_share_g"), np.array(owned)[:, k], strict=True)
            ),
        }
        for name, value in got.items():
            assert value == pytest.approx(worked(row[name], **names), rel=1e-12), (row["request"], name)
    summary = result.summary
    assert summary["energy_j"]["gpu_idle"] == pytest.approx(64 * idle_s, rel=1e-12)
    assert summary["energy_j"]["overhead"] == pytest.approx(0.25 * (516.9384765625 + 64 * idle_s), rel=1e-12)
    assert summary["carbon_g"]["embodied"] == pytest.approx(4 * RATE_G_PER_S, rel=1e-12)
    assert summary["balance"]["energy_rel_error"] < 1e-12
    assert summary["balance"]["carbon_rel_error"] < 1e-12
    assert summary["ttft_s"]["p50"] == 0.5
    assert summary["tbt_s"]["mean"] == pytest.approx((2 * (10 / 1024 + 514 / 2**20) + 9 / 1024 + 258 / 2**20) / 3)


def test_idle_rules_move_grams_and_lose_none(three):
    totals = {}
    for rule in ("capacity-share", "busy-time", "none"):
        result = three(idle_rule=rule)
        owned = result.shares
        requests_g = sum(float(grams.sum()) for grams in owned.of(slice(None))[1:])
        assert requests_g + owned.unowned_g == pytest.approx(result.summary["carbon_g"]["total"], rel=1e-12)
        totals[rule] = requests_g
    assert totals["capacity-share"] > totals["busy-time"] > totals["none"]


def test_work_after_the_horizon_is_drain(three, paper, tmp_path):
    result = three()
    short = run(result.scenario.model_copy(update={"horizon_s": 1.25}), trace=result.trace)
    energy = short.summary["energy_j"]
    assert energy["drain"] == pytest.approx(0.25 * 512 * 1.25, rel=1e-12)  # the last quarter second of C's prefill
    drain_g = energy["drain"] / 10_000 + 0.25 * RATE_G_PER_S
    assert short.summary["carbon_g"]["drain"] == pytest.approx(drain_g, rel=1e-9)
    assert short.summary["carbon_g"]["embodied"] == pytest.approx(1.5 * RATE_G_PER_S, rel=1e-12)
    assert energy["gpu_busy"] == pytest.approx(516.9384765625, rel=1e-12)
    assert short.summary["balance"]["energy_rel_error"] < 1e-12
    assert any("drain" in text for text in short.summary["warnings"])


def conv(shared: Path, name: str, **changes: Any) -> Scenario:
    grid = shared / "grid"
    pools = [
        {"name": "h", "site": "qc", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 2},
        {"name": "a", "site": "ca", "gpu": "a100-sxm-80gb", "model": "llama-3.1-8b", "instances": 4},
    ]
    return Scenario.model_validate(
        {
            "trace": str(shared / "traces" / name),
            "align": "recur",
            "sites": [
                {"name": "qc", "grid": str(grid / "lca_2022" / "CA-QC_2022_hourly_lca.csv")},
                {"name": "ca", "grid": str(grid / "electricitymaps" / "US-CAL-CISO_2023_hourly.csv")},
            ],
            "pools": pools,
            "slo": {"ttft_s": 1.0, "tpot_s": 0.1},
        }
        | changes
    )


@pytest.mark.parametrize(("name", "count"), [("azure_2023_conv.csv", 19_366), ("azure_2023_code.csv", 8_819)])
@pytest.mark.parametrize("routing", ["least-outstanding-tokens", "least-added-carbon"])
def test_real_traces_complete_and_balance(shared, name, count, routing):
    summary = run(conv(shared, name, routing=routing)).summary
    assert summary["requests"]["completed"] == summary["requests"]["total"] == count
    assert max(summary["balance"].values()) < 1e-9
    site = {row["name"]: row["intensity"] for row in summary["sites"]}
    assert site["ca"]["series_mean_g_per_kwh"] == pytest.approx(261.2, abs=0.05)
    assert sum(pool["requests"] for pool in summary["pools"]) == count
    assert sum(pool["carbon_g"] for pool in summary["pools"]) == pytest.approx(summary["carbon_g"]["total"], rel=1e-12)
    parts = summary["energy_j"]
    total = parts["gpu_busy"] + parts["gpu_idle"] + parts["host"] + parts["overhead"]
    assert total == pytest.approx(parts["total"], rel=1e-12)


def test_leap_and_stepping_agree_on_the_conv_trace(shared):
    scenario = conv(shared, "azure_2023_conv.csv")
    leap, step = run(scenario), run(scenario, engine="step")
    for name in ("first_token_s", "finish_s"):
        a, b = np.array(getattr(leap.played.requests, name)), np.array(getattr(step.played.requests, name))
        assert np.max(np.abs(a - b) / np.maximum(1.0, a)) <= 1e-9
    for one, two in zip(*(each.shares.of(slice(None)) for each in (leap, step)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_splitwise_micro_oracle_through_the_simulator(shared, tmp_path, replay):
    from profiles.importers.splitwise import read_perf_model

    folder = shared / "oracles" / "splitwise-sim"
    for hardware, runs in (
        ("h100-80gb", "micro_baseline_token_jsq_h1_a0"),
        ("a100-80gb", "micro_baseline_token_jsq_h0_a1"),
    ):
        profile = read_perf_model(folder / "perf_model.csv", hardware=hardware)
        with (folder / "micro.splitwise.csv").open() as stream:
            rows = [
                (float(r["arrival_timestamp"]), int(r["prompt_size"]), int(r["token_size"]))
                for r in csv.DictReader(stream)
            ]
        with (folder / runs / "requests.csv").open() as stream:
            truth = list(csv.DictReader(stream))
        played = replay(rows, profile=profile, batching="prefill-first", max_num_batched_tokens=8192)
        r = played.requests
        for k, true in enumerate(truth):
            ttft = r.first_token_s[k] - r.arrival_s[k]
            assert ttft == pytest.approx(float(true["ttft_times"]), abs=1e-9)
            decode = r.finish_s[k] - r.first_token_s[k]
            assert decode == pytest.approx(float(true["response_times"]) - float(true["ttft_times"]), abs=1e-9)
        assert len(truth) == 27


def test_same_seed_same_bytes(tmp_path):
    generator = {"duration_s": 300, "rate_per_s": 4, "lengths": "azure-conv"}
    scenario = Scenario.model_validate(
        {
            "generator": generator,
            "start": "2023-06-01T00:00:00Z",
            "sites": [{"name": "s", "grid": "FR"}],
            "pools": [{"name": "p", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 2}],
        }
    )
    clock = {"wall_s", "loop_s", "requests_per_wall_s"}
    one, two = (run(scenario) for _ in range(2))
    one.write(tmp_path / "one")
    two.write(tmp_path / "two")
    assert {k: v for k, v in one.summary.items() if k not in clock} == {
        k: v for k, v in two.summary.items() if k not in clock
    }
    for name in ("requests.parquet", "timeline.parquet", "config.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
