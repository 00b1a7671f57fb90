"""sweep: designs, keys, what a row says, resuming, and the commands that take points up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from carbonfleet.cli.sweep import command
from carbonfleet.compare import compare
from carbonfleet.sweep import crew, design, results, run
from carbonfleet.sweep.figures import non_dominated
from carbonfleet.sweep.folder import Folder
from carbonfleet.sweep.work import REFUSED, Task, key_of, make, parsed
from profiles.inputs import InputError
from tests.tiny import SCENARIO

ROOT = Path(__file__).resolve().parents[1]
STUDY: dict[str, Any] = {
    "demand": {
        "model": "llama-3.1-8b",
        "buckets": [{"prompt_tokens": 512, "output_tokens": 128}],
        "rate_per_s": 5.0,
    },
    "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
    "sites": [{"name": "here", "grid": 400, "max_gpus": 16}],
    "catalogue": [{"gpu": "h100-sxm-80gb", "tp": [1], "max_batch": [64]}],
}
Write = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path) -> Write:
    """Writes a sweep over the tiny scenario."""

    def write(name: str = "s.yaml", **parts: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump({"scenario": SCENARIO} | parts, sort_keys=False))
        return path

    return write


class Inline:
    """A crew of nobody: each point is made as it is begun. Real workers are in test_sweep_crew.py."""

    deaths: tuple[type[BaseException], ...] = ()
    tries = 1

    def submit(self, work: Callable[[Task], str], task: Task) -> Future[str]:
        future: Future[str] = Future()
        future.set_result(work(task))
        return future

    def room(self) -> int:
        return 1

    def falls_together(self) -> bool:
        return False

    def mend(self) -> None: ...

    def look(self) -> None: ...

    def stop(self) -> None: ...


def swept(path: Path, folder: Path, who: Callable[[], crew.Crew] = Inline) -> results.Results:
    asked, kept = design.read(path), Folder(folder)
    return run.run(asked, kept, run.plan(asked, kept), who)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        design.read(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# designs


def test_cases_meet_every_cell_and_every_sample(file: Write) -> None:
    drawn = {"points": 2, "method": "random", "keys": {"seed": {"values": [5]}}}
    cases = [{"sites.here.pue": 1.1, "name": "a"}, {"sites.here.pue": 1.5, "name": "b"}]
    found = design.read(file(grid={"pools.p.instances": [1, 2]}, cases=cases, sample=drawn))
    rows = [tuple(point.settings.values()) for point in found.points]
    assert rows == [(pue, n, i, 5) for pue, n in ((1.1, "a"), (1.5, "b")) for i in (1, 2) for _ in range(2)]
    assert found.keys == ["sites.here.pue", "name", "pools.p.instances", "seed"]
    last = found.points[-1].config
    assert last is not None
    assert (last["sites"][0]["pue"], last["pools"][0]["instances"], last["seed"]) == (1.5, 2, 5)
    assert last["accounting"]["preset"] == "pcf-card"  # defaults are in it


@pytest.mark.parametrize("method", ["latin-hypercube", "sobol"])
def test_a_drawn_design_has_one_point_in_every_stratum(method: str) -> None:
    keys = {"a": {"low": 0, "high": 1}, "b": {"low": 1, "high": 16, "scale": "log"}}
    asked = {"points": 16, "method": method, "seed": 4, "keys": keys}
    rows = design.Sample.model_validate(asked).rows()
    assert sorted(int(row["a"] * 16) for row in rows) == list(range(16))
    log = sorted(row["b"] for row in rows)
    ratio = 16 ** (1 / 16)
    assert all(ratio**k <= value < ratio ** (k + 1) for k, value in enumerate(log))
    assert rows == design.Sample.model_validate(asked).rows()
    assert rows != design.Sample.model_validate({**asked, "seed": 5}).rows()


@given(st.integers(-5, 5), st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.sampled_from(["linear", "log"]))
def test_drawn_values_stay_within_their_ends(low: int, more: int, share: float, scale: str) -> None:
    low = abs(low) + 1 if scale == "log" else low
    whole = design.Drawn(low=low, high=low + more, integer=True, scale=scale)
    assert isinstance(whole.at(share), int)
    assert low <= whole.at(share) <= low + more
    assert whole.at(0.0) == low
    assert whole.at(1.0 - 2**-53) == low + more
    assert low <= design.Drawn(low=low, high=low + more, scale=scale).at(share) <= low + more


def test_whole_numbers_are_equally_likely() -> None:
    drawn = design.Drawn(low=1, high=4, integer=True)
    assert [drawn.at(k / 8) for k in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "nothing varies"),
    ({"grid": {"seed": [1]}, "gird": {}}, "did you mean grid"),
    ({"grid": {"pools.p.instanzes": [1]}}, "s.yaml:21: pools.p.instanzes: unknown key; did you mean instances"),
    ({"grid": {"pools.q.instances": [1]}}, "s.yaml:21: pools.q.instances: no item 'q' among 1"),
    ({"grid": {"slo.ttft": [1]}}, "did you mean ttft_s"),
    ({"grid": {"seed.deep.er": [1]}}, "nothing stands below"),
    ({"grid": {"pools.p.instances": [1, 0]}}, "greater than or equal to 1"),
    ({"grid": {"pools.p.instances": ["many"]}}, "valid integer"),
    ({"grid": {"seed": []}}, "at least 1 item"),
    ({"grid": {"seed": 1}}, "valid list"),
    ({"grid": {"seed": [1]}, "cases": [{"seed": 2}]}, "seed is varied twice"),
    ({"grid": {f"k{i}": [*range(100)] for i in range(3)}}, "1,000,000 points are more than"),
    ({"sample": {"points": 4, "keys": {"pools.p.instances": {"low": 1, "high": 4}}}}, "add integer: true"),
    ({"sample": {"points": 12, "method": "sobol", "keys": {"seed": {"values": [1]}}}}, "give 8 or 16 points"),
    ({"sample": {"points": 4, "keys": {"seed": {"low": 4, "high": 1}}}}, "is not below high"),
    ({"sample": {"points": 4, "keys": {"seed": {"low": 0, "high": 1, "scale": "log"}}}}, "a low above 0"),
    ({"sample": {"points": 4, "keys": {"seed": {"low": 1}}}}, "either low and high, or values"),
    ({"sample": {"points": 4, "keys": {"seed": {"low": 1, "hihg": 2}}}}, "did you mean high"),
    ({"sample": {"points": 4, "method": "sobel", "keys": {"seed": {"values": [1]}}}}, "'sobol'"),
    ({"grid": {"seed": [1]}, "study": STUDY}, "either a scenario or a study"),
    ({"grid": {"seed": [1]}, "objectives": {"energy_j.total": "least"}}, "'min'"),
    ({"grid": {"seed": [1]}, "scenario": "nowhere.yaml"}, "nowhere.yaml"),
    ({"grid": {"seed": [1]}, "scenario": SCENARIO | {"sitez": 1}}, "did you mean sites"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_file_is_refused_in_one_line(file: Write, parts: dict[str, Any], said: str) -> None:
    assert said in refusal(file(**parts))


def test_paths_are_those_of_the_file_they_stand_in(file: Write, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    rows = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,100,10\n"
    (tmp_path / "base" / "t.csv").write_text(rows)
    (tmp_path / "other.csv").write_text(rows)
    scenario = {key: value for key, value in SCENARIO.items() if key != "generator"} | {"trace": "t.csv"}
    (tmp_path / "base" / "b.yaml").write_text(yaml.safe_dump(scenario))
    found = design.read(file(scenario="base/b.yaml", grid={"trace": ["other.csv"], "seed": [1]}))
    assert found.points[0].config is not None
    assert found.points[0].config["trace"] == str(tmp_path / "other.csv")
    found = design.read(file(scenario="base/b.yaml", grid={"seed": [1]}))
    assert found.points[0].config is not None
    assert found.points[0].config["trace"] == str(tmp_path / "base" / "t.csv")


# keys


def test_a_key_follows_from_contents_not_from_places(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    key = {name: key_of("scenario", {"trace": str(tmp_path / name)}, True) for name in "abc"}
    assert key["a"] == key["b"] != key["c"]
    (tmp_path / "a").write_text("z")
    assert key_of("scenario", {"trace": str(tmp_path / "a")}, True) != key["a"]
    assert key_of("study", {"trace": str(tmp_path / "b")}, True) != key["b"]
    assert key_of("scenario", {"name": "b"}, True) != key_of("scenario", {"name": "c"}, True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "p.json").write_text("1")
    folder = {"profiles": [str(tmp_path / "own")]}
    before = key_of("scenario", folder, True)
    (tmp_path / "own" / "q.json").write_text("1")
    assert key_of("scenario", folder, True) != before


def test_a_worker_with_other_files_refuses() -> None:
    task = Task("0" * 24, "scenario", SCENARIO, True)
    assert parsed(make(task), task.key)["status"] == REFUSED


def test_a_sweep_stops_when_a_worker_refuses(file: Write, tmp_path: Path) -> None:
    path = file(grid={"seed": [1, 2]})
    asked, folder = design.read(path), Folder(tmp_path / "out")
    planned = run.plan(asked, folder)
    left = [task._replace(key="0" * 24) for task in planned.left]
    planned = run.Plan(planned.keys, left, 0, 0)
    with pytest.raises(crew.CrewError, match="another carbonfleet"):
        run.run(asked, folder, planned, Inline)
    assert set(pq.read_table(tmp_path / "out" / "sweep.parquet")["status"].to_pylist()) == {"pending"}


# results


@given(st.lists(st.lists(st.integers(0, 4).map(float), min_size=2, max_size=2), max_size=12))
def test_the_front_is_that_of_brute_force(points: list[list[float]]) -> None:
    def beaten(mine: list[float]) -> bool:
        return any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in points)

    assert non_dominated(points) == [not beaten(mine) for mine in points]


def test_rows_are_the_simulations_of_their_points(file: Write, tmp_path: Path) -> None:
    from sim.run import run as simulate
    from sim.scenario import Scenario

    path = file(grid={"pools.p.instances": [1, 2], "sites.here.grid": [30, "PL"]}, objectives={"slo.attainment": "max"})
    found = swept(path, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "sweep.parquet")
    assert table.column_names[:6] == [
        *("point", "status", "error", "pareto"), "set.pools.p.instances", "set.sites.here.grid",
    ]  # fmt: skip
    rows = table.to_pylist()
    for row, point in zip(rows, design.read(path).points, strict=True):
        assert point.config is not None
        summary = simulate(Scenario.model_validate(point.config)).summary
        assert row["carbon_g.total"] == summary["carbon_g"]["total"]
        assert row["ttft_s.p99"] == summary["ttft_s"]["p99"]
        assert row["pools.p.energy_j"] == summary["pools"][0]["energy_j"]
        assert row["sites.here.intensity.mean_g_per_kwh"] == summary["sites"][0]["intensity"]["mean_g_per_kwh"]
        assert row["warnings"] == summary["warnings"]
        assert row["status"] == "ok"
    assert rows[0]["set.sites.here.grid"] == "30"
    assert not {"wall_s", "loop_s", "cost_usd", "schema_version"} & set(table.column_names)
    assert found.counts == {"ok": 4}
    assert found.objectives == {"slo.attainment": "max"}
    assert any("name" in each for each in found.assumptions)
    assert any(each["what"].startswith("profile h100-sxm-80gb_llama-3.1-8b") for each in found.sources)


def test_a_combination_nothing_can_have_is_a_failed_point_and_the_rest_go_on(file: Write, tmp_path: Path) -> None:
    grid = {"pools.p.max_num_seqs": [64, 512], "pools.p.max_num_batched_tokens": [128, 1024], "align": [None]}
    found = swept(file(grid=grid), tmp_path / "out")
    assert [row["status"] for row in found.rows] == ["ok", "ok", "failed", "ok"]
    assert "below max_num_seqs" in found.rows[2]["error"]
    found = swept(file(grid={"pools.p.gpu": ["h100-sxm-80gb", "h100-sxm-80g", "t4"]}), tmp_path / "gpus")
    assert [row["status"] for row in found.rows] == ["ok", "failed", "failed"]
    assert "did you mean h100-sxm-80gb" in found.rows[1]["error"]
    assert all("\n" not in row["error"] for row in found.rows[1:])


def test_dates_and_parts_can_be_varied(file: Write, tmp_path: Path) -> None:
    path = file(grid={"slo": [{"ttft_s": 1.0}, {"tpot_s": 0.1}]})
    path.write_text(path.read_text() + "  start: [2023-01-01T00:00:00Z, 2023-07-01]\n")  # YAML reads both as dates
    found = swept(path, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "sweep.parquet")
    assert found.counts == {"ok": 4}
    assert table["set.start"].to_pylist()[:2] == ["2023-01-01T00:00:00+00:00", "2023-07-01"]
    assert json.loads(table["set.slo"].to_pylist()[0]) == {"ttft_s": 1.0}
    done = CliRunner().invoke(command, [str(path), "-o", str(tmp_path / "out"), "--json", "-q"])
    assert json.loads(done.output)["points"][3]["set.start"] == "2023-07-01"


def test_studies(file: Write, tmp_path: Path) -> None:
    grid = {"demand.rate_per_s": [5.0, 500.0], "sites.here.grid": [20, 600]}
    path = file(study=STUDY, replay=False, grid=grid)
    text = yaml.safe_load(path.read_text())
    del text["scenario"]
    path.write_text(yaml.safe_dump(text))
    found = swept(path, tmp_path / "out")
    assert [row["status"] for row in found.rows] == ["ok", "ok", "infeasible", "infeasible"]
    assert "more" in found.rows[2]["error"]
    assert found.rows[0]["carbon_g"] < found.rows[1]["carbon_g"]
    assert found.rows[0]["objective_g"] == pytest.approx(found.rows[0]["carbon_g"], rel=1e-6)
    units = {key: value for key, value in found.rows[0].items() if key.startswith("units.")}
    assert len(units) == 1
    assert next(iter(units)).endswith("@here")
    assert found.objectives == {"carbon_g": "min", "energy_j": "min"}
    with pytest.raises(InputError, match="is a plan, not a run"):
        compare([f"{tmp_path / 'out'}:0", f"{tmp_path / 'out'}:1"])


def test_an_objective_that_is_no_figure_stops_the_sweep_at_its_first_point(file: Write, tmp_path: Path) -> None:
    path = file(grid={"seed": [*range(50)]}, objectives={"carbon_g.totl": "min"})
    with pytest.raises(InputError, match=r"s\.yaml: objectives: unknown objective.*carbon_g\.total"):
        swept(path, tmp_path / "out")
    assert len([*(tmp_path / "out" / "points").iterdir()]) < 50
    found = swept(file(grid={"seed": [*range(3)]}, objectives={"cost_usd": "min"}), tmp_path / "out")
    assert found.front == []  # no prices are given: said, not guessed
    from carbonfleet.sweep.text import report

    assert "no point has cost_usd" in report(design.read(path), found)


# resuming


def contents(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "points").iterdir()}


def test_what_is_there_is_not_made_again_and_a_changed_file_is_noticed(file: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    swept(file(grid={"seed": [1, 2, 3]}), out)
    first, table = contents(out), (out / "sweep.parquet").read_bytes()

    def nobody() -> crew.Crew:
        raise AssertionError("nothing was left to do")

    swept(file(grid={"seed": [1, 2, 3]}), out, nobody)
    assert contents(out) == first
    assert (out / "sweep.parquet").read_bytes() == table

    changed = design.read(file(grid={"seed": [2, 3, 4]}))
    planned = run.plan(changed, Folder(out))
    assert (planned.kept, len(planned.left), planned.gone) == (2, 1, 1)

    scenario = json.loads(json.dumps(SCENARIO))
    scenario["sites"][0]["pue"] = 1.5
    found = swept(file(scenario=scenario, grid={"seed": [1, 2, 3]}), out)
    assert {row["sites.here.pue"] for row in found.rows} == {1.5}
    assert len(contents(out)) == 6
    damaged = Folder(out).place(found.rows[0]["key"])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    swept(tmp_path / "s.yaml", out)
    assert damaged.read_bytes() == whole


def test_an_input_that_changed_is_noticed(file: Write, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = ["arrival_s,prompt_tokens,output_tokens", *(f"{k},100,10" for k in range(20))]
    trace.write_text("\n".join(rows))
    scenario = {key: value for key, value in SCENARIO.items() if key != "generator"} | {"trace": "t.csv"}
    path = file(scenario=scenario, grid={"pools.p.instances": [1, 2]})
    assert {row["requests.total"] for row in swept(path, tmp_path / "out").rows} == {20}
    trace.write_text("\n".join(rows[:11]))
    planned = run.plan(design.read(path), Folder(tmp_path / "out"))
    assert (planned.kept, planned.gone) == (0, 2)
    assert {row["requests.total"] for row in swept(path, tmp_path / "out").rows} == {10}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(InputError, match="something else than a sweep"):
        Folder(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        Folder(tmp_path / "x")


def command_line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "carbonfleet", "sweep", *map(str, arguments)]


def test_ctrl_c_loses_nothing_and_the_rest_is_done_later(file: Write, tmp_path: Path) -> None:
    scenario = SCENARIO | {"generator": {**SCENARIO["generator"], "duration_s": 300.0}}
    path, out = file(scenario=scenario, grid={"seed": [*range(24)]}), tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    going = subprocess.Popen(
        command_line(path, "-o", out, "--jobs", "2"), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    limit = time.monotonic() + 60
    while time.monotonic() < limit and len([*(out / "points").glob("*.json")]) < 3:
        time.sleep(0.01)
    going.send_signal(signal.SIGINT)
    said, told = going.communicate(timeout=30)
    assert going.returncode == 130, told
    assert b"Traceback" not in told
    assert b"goes on" in told
    assert said == b""
    first = contents(out)
    assert 3 <= len(first) < 24
    assert json.loads((out / "sweep.json").read_text())["partial"] is True
    states = pq.read_table(out / "sweep.parquet")["status"].to_pylist()
    assert states.count("ok") == len(first)
    assert set(states) == {"ok", "pending"}
    done = CliRunner().invoke(command, [str(path), "-o", str(out), "--jobs", "2", "--json", "-q"])
    document = json.loads(done.output)
    assert document["kept"] == len(first)
    assert document["counts"] == {"ok": 24}
    assert first.items() <= contents(out).items()  # not one of them was touched
    swept(path, tmp_path / "clean")
    assert (out / "sweep.parquet").read_bytes() == (tmp_path / "clean" / "sweep.parquet").read_bytes()


# commands


def test_from_the_command_line(file: Write, tmp_path: Path) -> None:
    path, out = file(grid={"pools.p.instances": [1, 2], "pools.p.gpu": ["h100-sxm-80gb", "h100"]}), tmp_path / "out"
    dry = CliRunner().invoke(command, [str(path), "-o", str(out), "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "4 points, 4 to be made" in dry.output
    assert not out.exists()
    states = json.loads(CliRunner().invoke(command, [str(path), "-o", str(out), "--dry-run", "--json"]).output)
    assert [point["set"]["pools.p.instances"] for point in states["points"]] == [1, 1, 2, 2]
    printed = CliRunner().invoke(command, [str(path), "--print-config", "2"])
    assert yaml.safe_load(printed.output)["pools"][0]["instances"] == 2
    done = CliRunner().invoke(command, [str(path), "-o", str(out), "--set", "sites.here.pue=1.5", "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "4 points: 2 failed, 2 ok" in done.output
    assert "warning: point 1 failed: " in done.output
    assert {row["sites.here.pue"] for row in pq.read_table(out / "sweep.parquet").to_pylist()} == {1.5, None}
    page = (out / "report.html").read_text()
    assert "Points that no other beats" in page
    assert "Points with an error" in page
    both = CliRunner().invoke(command, [str(path), "--jobs", "2", "--cluster", "tcp://127.0.0.1:1"])
    assert both.exit_code == 2
    again = json.loads(CliRunner().invoke(command, [str(path), "-o", str(out), "--json", "-q"]).output)
    assert again["gone"] == 4  # without --set they are other points
    nothing = CliRunner().invoke(command, [str(file(grid={"pools.p.gpu": ["h100"]})), "-o", str(tmp_path / "no"), "-q"])
    assert nothing.exit_code == 1


def test_a_failed_point_is_tried_again_only_where_asked(file: Write, tmp_path: Path) -> None:
    path, out = file(grid={"pools.p.gpu": ["h100-sxm-80gb", "h100"]}), tmp_path / "out"
    swept(path, out)
    asked = design.read(path)
    assert run.plan(asked, Folder(out)).left == []
    assert len(run.plan(asked, Folder(out), retry_failed=True).left) == 1


def test_points_are_compared_as_runs_are(file: Write, tmp_path: Path) -> None:
    from sim.run import run as simulate
    from sim.scenario import Scenario

    path, out = file(grid={"pools.p.instances": [1, 3]}), tmp_path / "out"
    swept(path, out)
    folders = []
    for point in design.read(path).points:
        made = simulate(Scenario.model_validate(point.config))
        folders.append(str(made.write(tmp_path / f"out:{point.number}x")))
    ours = compare([f"{out}:0", f"{out}:1"])
    theirs = compare(folders)
    assert ours["pairs"][0]["under"] == theirs["pairs"][0]["under"]
    assert ours["pairs"][0]["differs_in"] == ["pools[p].instances: 1 / 3"]
    assert [row["run"] for row in ours["runs"]] == ["out:0", "out:1"]
    with pytest.raises(InputError, match="has no point 7; it has 0 to 1"):
        compare([f"{out}:0", f"{out}:7"])
    with pytest.raises(InputError, match=r"has no sweep\.json"):
        compare([f"{tmp_path}:0", f"{out}:1"])


def test_fields_are_documented() -> None:
    text = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    fields = {name for part in (design.Sweep, design.Sample, design.Drawn) for name in part.model_fields}
    assert {name for name in fields if f"`{name}" not in text and f".{name}`" not in text} == set()
