"""Comparing runs: hand arithmetic, what turns the answer round, what is refused; and verifying a run directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from carbonfleet.compare import compare, differences, load, pareto
from carbonfleet.report import comparison
from carbonfleet.verify import verify
from profiles.inputs import InputError
from sim import scenario
from sim.engine.interrupt import Interrupt
from sim.run import run

BASE: dict[str, Any] = {
    "generator": {"duration_s": 120, "rate_per_s": 5, "lengths": "azure-conv"},
    "sites": [{"name": "s", "grid": "100", "pue": 1.25}],
    "pools": [{"name": "p", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 2}],
    "horizon_s": 600,
}


def written(folder: Path, **changes: Any) -> str:
    run(scenario.Scenario.model_validate(BASE | changes)).write(folder)
    return str(folder)


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())
    return found


def test_runs_that_differ_only_in_the_grid_agree_with_hand_arithmetic(tmp_path):
    a = written(tmp_path / "a")
    b = written(tmp_path / "b", sites=[{"name": "s", "grid": "40", "pue": 1.25}])
    (pair,) = compare([a, b])["pairs"]
    assert pair["differs_in"] == ["sites[s].grid: 100 / 40"]
    assert pair["basis"].startswith("totals")
    operational = summary(a)["carbon_g"]["operational"]
    assert operational == pytest.approx(summary(a)["energy_j"]["total"] / 3.6e6 * 100)
    assert pair["difference_g"] == pytest.approx(-0.6 * operational)
    under = {row["assumption"]: row for row in pair["under"]}
    assert under["every grid x 2"]["difference_g"] == pytest.approx(-1.2 * operational)
    assert under["PUE 1 everywhere"]["difference_g"] == pytest.approx(-0.6 * operational / 1.25)
    assert under["operational carbon alone"]["difference_rel"] == pytest.approx(-0.6)
    assert under["embodied at its high figure"]["difference_g"] == pytest.approx(-0.6 * operational)
    assert pair["flips_under"] == []
    assert pair["flips_at_intensity_factor"] is None


def test_the_preset_of_a_world_is_what_a_run_with_it_says(tmp_path):
    a = written(tmp_path / "a")
    b = written(tmp_path / "b", pools=[BASE["pools"][0] | {"gpu": "a100-sxm-80gb", "instances": 3}])
    under = {row["assumption"]: row for row in compare([a, b])["pairs"][0]["under"]}
    for preset in ("act", "boavizta"):
        again = summary(written(tmp_path / preset, accounting={"preset": preset}))
        assert under[f"embodied preset {preset}"]["base_g"] == pytest.approx(again["carbon_g"]["total"])
    bare = summary(written(tmp_path / "bare", accounting={"boundary": "card", "host_power": False}))
    assert under["no host: neither its power nor its making"]["base_g"] == pytest.approx(bare["carbon_g"]["total"])


def test_what_turns_the_answer_round_is_named(tmp_path):
    a = written(tmp_path / "a", sites=[{"name": "s", "grid": "12", "pue": 1.0}])
    pools = [BASE["pools"][0] | {"instances": 9}]
    b = written(tmp_path / "b", sites=[{"name": "s", "grid": "1", "pue": 1.0}], pools=pools)
    (pair,) = compare([a, b])["pairs"]
    assert pair["difference_g"] > 0  # three hosts more outweigh the cleaner grid
    factor = pair["flips_at_intensity_factor"]
    left, right = summary(a)["carbon_g"], summary(b)["carbon_g"]
    assert factor > 1
    assert left["operational"] * factor + left["embodied"] == pytest.approx(
        right["operational"] * factor + right["embodied"]
    )
    assert ("every grid x 2" in pair["flips_under"]) == (factor < 2)
    assert "operational carbon alone" in pair["flips_under"]


def test_other_horizons_and_tokens_are_normalised_and_said(tmp_path):
    a = written(tmp_path / "a")
    b = written(tmp_path / "b", horizon_s=1200)
    (pair,) = compare([a, b])["pairs"]
    assert pair["basis"] == "per 1,000 output tokens, because horizon differs"
    assert pair["under"][0]["other_g"] == pytest.approx(1000 * summary(b)["carbon_g_per_1k_output_tokens"] / 1000)
    c = written(tmp_path / "c", generator=BASE["generator"] | {"duration_s": 240})
    assert "traffic and completed tokens differ" in compare([a, c])["pairs"][0]["basis"]


def test_other_traffic_is_refused(tmp_path):
    a = written(tmp_path / "a")
    b = written(tmp_path / "b", generator=BASE["generator"] | {"lengths": "azure-code"})
    with pytest.raises(InputError, match="serve different traffic"):
        compare([a, b])
    with pytest.raises(InputError, match="one run alone"):
        compare([a])
    with pytest.raises(InputError, match=r"has no summary\.json"):
        compare([a, str(tmp_path)])


def test_pareto_keeps_what_nothing_beats(tmp_path):
    runs = [load(written(tmp_path / name)) for name in ("a", "b", "c")]
    for loaded, (grams, ttft) in zip(runs, [(1.0, 3.0), (2.0, 2.0), (2.0, 4.0)], strict=True):
        loaded.summary["carbon_g_per_1k_output_tokens"], loaded.summary["ttft_s"]["p99"] = grams, ttft
    assert pareto(runs) == ["a", "b"]


def test_the_page_is_escaped(tmp_path):
    found = compare([written(tmp_path / "<b>x"), written(tmp_path / "y")])
    text = comparison.build(found)
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text


def test_differences_name_the_part():
    a = {"name": "x", "pools": [{"name": "p", "gpu": "t4"}], "seed": 0}
    assert list(differences(a, a | {"name": "y"})) == []
    b = {"name": "y", "pools": [{"name": "p", "gpu": "l4"}], "seed": 1}
    assert list(differences(a, b)) == ["pools[p].gpu: t4 / l4", "seed: 0 / 1"]


# ---- verify --------------------------------------------------------------------------------------------------------


def trace_run(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,100,20\n1,200,30\n")
    changes: dict[str, Any] = {"trace": str(tmp_path / "t.csv"), "generator": None}
    return run(scenario.Scenario.model_validate(BASE | changes)).write(tmp_path / "run")


def test_a_run_is_the_same_also_after_it_moved(tmp_path):
    made = trace_run(tmp_path)
    assert verify(made).same
    moved = tmp_path / "elsewhere"
    shutil.move(made, moved)
    assert verify(moved).same
    shutil.move(tmp_path / "t.csv", moved / "t.csv")  # the input came along
    assert verify(moved).same


def test_what_changed_is_named(tmp_path):
    made = trace_run(tmp_path)
    document = json.loads((made / "summary.json").read_text())
    document["carbon_g"]["total"] *= 1.001
    (made / "summary.json").write_text(json.dumps(document))
    found = verify(made)
    assert [where for where, _, _ in found.differences] == ["carbon_g.total"]
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,100,20\n1,200,31\n")
    assert "t.csv: has changed" in verify(made).inputs[0]
    (tmp_path / "t.csv").unlink()
    assert "t.csv: is missing" in verify(made).inputs[0]


def test_a_changed_request_is_named(tmp_path):
    import pyarrow.parquet as pq

    made = trace_run(tmp_path)
    table = pq.read_table(made / "requests.parquet")
    column = table["ttft_s"].to_pylist()
    changed = table.set_column(table.column_names.index("ttft_s"), "ttft_s", [[column[0], 9.0]])
    pq.write_table(changed, made / "requests.parquet")
    (found,) = verify(made).differences
    assert found[0] == "ttft_s of request 1"
    assert found[1] == 9.0


# ---- interrupted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 7, 40])
def test_an_interrupted_run_keeps_books_that_meet(tmp_path, at):
    interrupt = Interrupt()
    trace = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{0.05 * k},{90 + 7 * k},60\n" for k in range(60))
    (tmp_path / "t.csv").write_text(trace)
    asked = scenario.Scenario.model_validate(BASE | {"trace": str(tmp_path / "t.csv"), "generator": None})
    import sim.engine.dispatch as loop

    seen = iter(range(10_000))
    route = loop.ROUTERS["least-outstanding-tokens"].route

    def counting(self: Any, *args: Any) -> int:
        if next(seen) == at:
            interrupt.ask()
        return route(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.ROUTERS["least-outstanding-tokens"], "route", counting)
        result = run(asked, interrupt=interrupt)
    document = result.summary
    assert document["partial"]
    assert document["warnings"][0].startswith("a partial run")
    assert document["requests"]["unfinished"] > 0
    assert max(document["balance"].values()) < 1e-9
    assert document["horizon_s"] <= 3.0
    made = result.write(tmp_path / "run")
    with pytest.raises(InputError, match="partial run"):
        verify(made)
    with pytest.raises(InputError, match="partial run"):
        load(made)
