"""Towards Greener LLMs and DynamoLLM: the committed result, what physics demands of it, and that checks can fail."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from benchmarks import studies
from carbonfleet import cli
from carbonfleet.reproduce.greener import checks, doubts, knobs, page, phases, plan, reading, week
from carbonfleet.reproduce.greener import study as of
from carbonfleet.reproduce.greener.figures import figures
from carbonfleet.reproduce.greener.paper import CLASSES, GPU, MODEL, PRECISION
from carbonfleet.reproduce.greener.server import Gear, Server, gears
from carbonfleet.reproduce.result import Study
from profiles import dvfs, grid
from profiles.inputs import InputError
from profiles.profile import load
from sim.run import run
from sim.scenario import Scenario
from tests.committed import close
from tests.pages import drawn_in_silence, specifications

COMMITTED = studies.document("greener-llms")
SOME = (plan.STATIC, plan.ALL)  # of the policies of the week: the others are the same code


@pytest.fixture(scope="module")
def made() -> Study:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(week, "REACHES", SOME)
        return of.study(of.Setting())


@cache
def _server() -> Server:
    return Server(GPU, MODEL, PRECISION)


@pytest.fixture(scope="module")
def server() -> Server:
    return _server()


def test_it_gives_the_committed_result(made: Study) -> None:
    """Written anew with: python -m benchmarks.studies --anew greener-llms."""
    committed = copy.deepcopy(COMMITTED)
    assert committed.pop("schema_version") == 1
    names = [reach.name for reach in SOME]
    committed["week"]["policies"] = [row for row in committed["week"]["policies"] if row["policy"] in names]
    close(json.loads(json.dumps(made.document)), committed, "result")


# What physics demands


def test_every_demand_of_physics_holds() -> None:
    assert all(row["holds"] for row in COMMITTED["checks"]), COMMITTED["checks"]
    prefill = [row for row in COMMITTED["phases"] if row["phase"] == "prefill"]
    assert {row["tp"] for row in prefill} == {2, 4, 8}
    assert all(0.25 <= row["best_clock"] <= 0.95 and row["best_energy"] < 1.0 for row in prefill)


def _spoil_prefill(d: dict[str, Any]) -> None:
    d["phases"][0]["time_at_half_clock"] = 1.1


def _spoil_decode(d: dict[str, Any]) -> None:
    next(row for row in d["phases"] if row["phase"] == "decode")["time_at_half_clock"] = 1.5


def _spoil_batch(d: dict[str, Any]) -> None:
    d["maps"][0]["j_per_output_token"][1] = 99.0


def _spoil_interior(d: dict[str, Any]) -> None:
    d["phases"][0]["interior"] = False


def _spoil_idle(d: dict[str, Any]) -> None:
    d["optimum_by_idle"][0]["best_clock"] = 0.9


def _spoil_order(d: dict[str, Any]) -> None:
    next(row for row in d["phases"] if row["phase"] == "decode")["best_clock"] = 0.9


def _spoil_slower(d: dict[str, Any]) -> None:
    d["maps"][0]["ttft_s"][0] = 1e-6


def _spoil_replays(d: dict[str, Any]) -> None:
    for row in d["knobs"]:
        row["baseline"]["power_w"] *= 1.2


@pytest.mark.parametrize(
    ("spoil", "which"),
    [
        (_spoil_prefill, "prefill slows"),
        (_spoil_decode, "decode hardly"),
        (_spoil_batch, "J/token falls"),
        (_spoil_interior, "between the ends"),
        (_spoil_idle, "comes out of idle"),
        (_spoil_order, "below prefill's"),
        (_spoil_slower, "never shortens"),
        (_spoil_replays, "simulator agree"),
    ],
)
def test_a_demand_can_fail(spoil: Any, which: str) -> None:
    document = copy.deepcopy(COMMITTED)
    spoil(document)
    failed = [row["check"] for row in checks.physics(document) if not row["holds"]]
    assert any(which in check for check in failed), failed


def test_the_best_clock_is_where_idle_and_dynamic_joules_balance(server: Server) -> None:
    """An independent oracle: a compute-bound prompt takes idle / s + active (m + (1 - m) v(s)^2) joules."""
    tp = 8
    profile = server.profiles[tp]
    step = server.model(Gear(tp, 1.0, 1.0, 1)).prefill_one(phases.PROMPT)
    idle_w, active_w = profile.idle.loaded_w, step.power_w - profile.idle.loaded_w
    read = profile.memory.weights_bytes / (3350e9 * tp) / step.time_s

    def joules(share: float) -> float:
        return idle_w / share + active_w * (read + (1.0 - read) * (0.6 + 0.4 * share) ** 2)

    oracle = minimize_scalar(joules, bounds=(0.2, 1.0), method="bounded").x
    found = next(r for r in COMMITTED["phases"] if r["phase"] == "prefill" and r["tp"] == tp)
    assert found["best_clock"] == pytest.approx(oracle, abs=0.05)


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_voltage_that_stays_saves_less(server: Server, share: float) -> None:
    profile = server.profiles[4]
    usual, stays = dvfs.at_clock(profile, share), dvfs.at_clock(profile, share, 1.0)
    assert usual == dvfs.at_clock(profile, share, dvfs.VOLTAGE_AT_REST)
    assert usual.prefill.time_s == stays.prefill.time_s
    assert all(a < b for a, b in zip(usual.prefill.power_w, stays.prefill.power_w, strict=True))


# The steady state and the knobs


@settings(max_examples=30, deadline=None)
@given(load=st.floats(0.02, 0.98), lengths=st.sampled_from(CLASSES), tp=st.sampled_from([2, 4, 8]))
def test_a_load_draws_idle_and_its_joules(load: float, lengths: Any, tp: int) -> None:
    one = _server()
    gear = Gear(tp, 1.0, 1.0, 8 // tp)
    full = one.full(gear, lengths.prompt, lengths.output)
    assert full is not None
    most = gear.used * full.requests_per_s
    point, more = (one.point(gear, lengths.prompt, lengths.output, r) for r in (load * most, (load + 0.02) * most))
    assert one.point(gear, lengths.prompt, lengths.output, 1.01 * most) is None
    assert point is not None
    assert more is not None
    assert one.idle_w[tp] < point.power_w <= more.power_w * (1 + 1e-9)
    assert point.batch <= more.batch + 1e-9 <= full.batch + 1e-6
    assert point.ttft_s <= more.ttft_s * (1 + 1e-9)
    # Little: sequences in an instance are its rate times their time in it
    inside_s = (lengths.output - 1) * point.tbt_s + full.prefill_s
    if point.batch > 2.0:
        assert point.batch == pytest.approx(load * most / gear.used * inside_s, rel=0.1)


def test_a_knob_saves_nothing_or_something_and_all_no_less() -> None:
    for row in COMMITTED["knobs"]:
        saved = {name: knob["saving"] for name, knob in row["knobs"].items()}
        assert all(0.0 <= value < 0.6 for value in saved.values())
        assert saved["all"] >= max(saved.values())
        assert row["best"] is None or saved[row["best"]] == max(saved[name] for name in knobs.SINGLE)
        for knob in row["knobs"].values():
            assert knob["replay"]["attainment"] >= min(knobs.KEPT, row["baseline"]["replay"]["attainment"])
            assert knob["ttft_s"] <= next(c.ttft_s for c in CLASSES if c.name == row["class"])
            assert knob["tbt_s"] <= COMMITTED["setting"]["tbt_limit_s"]


def test_knobs_reach_what_they_say(server: Server) -> None:
    assert {(g.tp, g.used) for g in gears(server, clock="both")} == {(8, 1)}
    assert {(g.tp, g.used, g.decode_clock) for g in gears(server, tps=True)} == {(2, 4, 1.0), (4, 2, 1.0), (8, 1, 1.0)}
    assert {g.prefill_clock for g in gears(server, clock="decode")} == {1.0}
    assert {(g.tp, g.used) for g in gears(server, tps=True, used=True)} == {
        *((2, k) for k in (1, 2, 3, 4)), *((4, k) for k in (1, 2)), (8, 1)
    }  # fmt: skip


def test_phases_at_clocks_of_their_own(server: Server) -> None:
    mixed, full = server.profile(Gear(8, 1.0, 0.5, 1)), server.profiles[8]
    assert mixed.prefill == full.prefill
    assert mixed.decode == dvfs.at_clock(full, 0.5).decode


def test_doubts_leave_the_server_as_it_was(server: Server) -> None:
    before = dict(server.profiles)
    rows = doubts.rows(server)
    assert server.profiles == before
    by_case = {row["case"]: row for row in rows}
    stays = next(row for case, row in by_case.items() if case.startswith("voltage stays"))
    assert stays["clock_median"] < by_case["as taken"]["clock_median"]
    assert stays["prefill_best_clock"] > by_case["as taken"]["prefill_best_clock"]


# The week


def test_a_plan_that_may_do_more_never_takes_more(server: Server) -> None:
    planner = plan.Planner(server, 1000, 200)
    rates = np.array([3.0, 9.0, 20.0, 33.0])
    watts = {reach.name: [choice.power_w for choice in planner.plan(reach, rates)] for reach in plan.REACHES}
    for less, more in (
        *(("static", "clock"), ("static", "tp"), ("static", "instances"), ("clock", "instances and clock")),
        *(("instances", "instances and clock"), ("instances and clock", "all")),
    ):
        assert sum(watts[more]) <= sum(watts[less]) + 1e-6, (less, more)
    assert watts["all"] == sorted(watts["all"])
    static = planner.plan(plan.STATIC, rates)
    assert len({(choice.tp, choice.instances, choice.clock) for choice in static}) == 1
    assert planner.standing(8, 33.0, 2.0) > static[0].instances


def test_a_plan_keeps_its_promise_with_headroom(server: Server) -> None:
    rates = np.array([5.0, 25.0])
    for rate, choice in zip(rates, plan.Planner(server, 1000, 200).plan(plan.ALL, rates), strict=True):
        gear = Gear(choice.tp, choice.clock, choice.clock, choice.instances)
        point = server.point(gear, 1000, 200, plan.HEADROOM * rate)
        assert point is not None
        assert point.ttft_s <= plan.MEAN_TO_LIMIT * plan.TTFT_LIMIT_S


def test_what_no_fleet_keeps_is_an_error(server: Server) -> None:
    with pytest.raises(InputError, match="no fleet keeps"):
        plan.Planner(server, 100_000, 200).plan(plan.STATIC, np.array([1.0]))


def test_hours_of_the_grid_are_local_and_begin_on_monday(tmp_path: Path) -> None:
    assert week.intensity(grid.load("300"), -8.0) == pytest.approx(np.full(week.HOURS, 300.0))
    file = tmp_path / "grid.csv"
    hours = np.arange("2022-12-25", "2024-01-05", dtype="datetime64[h]")
    weekday = (hours.astype("datetime64[D]").astype(int) - 4) % 7
    lines = [f"{h}:00:00,{100 * w + int(h.astype(int) % 24)}" for h, w in zip(hours, weekday, strict=True)]
    file.write_text("datetime_utc,intensity_lca_gco2eq_per_kwh\n" + "\n".join(lines) + "\n")
    expected = [100.0 * (hour // 24) + hour % 24 for hour in range(week.HOURS)]
    assert week.intensity(grid.load(str(file)), 0.0) == pytest.approx(expected)
    assert week.intensity(grid.load(str(file)), -8.0) == pytest.approx([*expected[8:], *expected[:8]])


def test_hours_hold_all_joules_of_the_run() -> None:
    scenario = Scenario.model_validate(
        {
            "generator": {"duration_s": 200.0, "rate_per_s": 4.0},
            "horizon_s": 240.0,
            "sites": [{"name": "s", "grid": "0", "pue": 1.0}],
            "pools": [{"name": "p", "site": "s", "gpu": GPU, "model": "llama-3.1-70b", "tp": 8, "instances": 1}],
        }
    )
    made = run(scenario)
    joules, gpus = week.hourly(made)
    energy = made.summary["energy_j"]
    assert joules.sum() / week.FAST == pytest.approx(energy["total"] - energy["drain"])
    assert gpus.sum() / week.FAST == pytest.approx(energy["total"] - energy["drain"] - energy["host"])


def test_the_week_by_its_own_columns() -> None:
    w = COMMITTED["week"]
    static, every = w["policies"][0], w["policies"][-1]
    grams = np.array(w["intensity_g_per_kwh"])
    for row in w["policies"]:
        joules = 3600.0 * np.array(row["power_w"])
        assert joules.sum() == pytest.approx(row["energy_j"], rel=1e-4)
        assert (joules * grams).sum() / 3.6e6 == pytest.approx(row["operational_g"], rel=1e-4)
        assert row["energy_j_saving"] == pytest.approx(1 - row["energy_j"] / static["energy_j"], abs=1e-4)
        assert row["attainment"] >= 0.99
        assert row["completed"] == w["requests"]
    shifts = w["operational_saving_by_shift"]
    assert shifts[0] == pytest.approx(every["operational_g_saving"], abs=1e-4)
    assert min(shifts) < every["energy_j_saving"] < max(shifts)


# The page and the command


def test_statements_are_computed() -> None:
    """Another document says other things: no statement is a constant but for its words."""
    other = copy.deepcopy(COMMITTED)
    for row in other["knobs"]:
        for knob in row["knobs"].values():
            knob["saving"] /= 2
    other["week"]["policies"][-1]["gpu_energy_j_saving"] = 0.123
    other["findings"] = checks.findings(other)
    assert other["findings"] != COMMITTED["findings"]
    before, after = reading.lines(COMMITTED), reading.lines(other)
    assert sum(a != b for a, b in zip(before, after, strict=True)) >= 4


def test_every_chart_has_its_place_and_can_be_drawn() -> None:
    import vl_convert

    from carbonfleet.report.vega import VERSION

    specs = specifications(page.build(COMMITTED))
    for name, spec in figures(COMMITTED).items():
        assert "<path" in vl_convert.vegalite_to_svg(spec | {"width": 700}, vl_version=VERSION), name
    assert "no room" in vl_convert.vegalite_to_svg(specs["map_ttft_s"] | {"width": 700}, vl_version=VERSION)


def test_a_hostile_name_stays_text() -> None:
    hostile = "</script><script>alert(1)</script>"
    other = copy.deepcopy(COMMITTED)
    other["setting"]["model"] = other["assumptions"][0]["value"] = other["profiles"][0]["key"] = hostile
    other["warnings"] = [hostile]
    assert "<script>alert" not in page.build(other)


def test_the_page_is_silent_in_a_browser(browser: Any, tmp_path: Path) -> None:
    assert drawn_in_silence(browser, page.build(COMMITTED), tmp_path) == len(figures(COMMITTED))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, server: Server) -> list[of.Setting]:
    """The command with the committed result in place of a minute of work; what it was asked."""
    asked: list[of.Setting] = []
    document = {key: value for key, value in COMMITTED.items() if key != "schema_version"}

    def study(setting: of.Setting) -> Study:
        asked.append(setting)
        return Study(document, list(server.profiles.values()))

    monkeypatch.setattr(of, "study", study)
    return asked


def test_the_command_writes_its_folder(
    quick: list[of.Setting], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SystemExit) as leaving:
        cli.main(f"reproduce greener-llms --zone 300 --lifetime-years 4 -q --json -o {folder}".split())
    assert leaving.value.code == 0
    assert quick == [of.Setting(zone="300", lifetime_years=4.0)]
    document = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "result.json").read_text()) == document == COMMITTED
    assert "profiles/data/gpus.csv" in json.loads((folder / "manifest.json").read_text())["inputs"]
    assert {load(file).tp for file in (folder / "profiles").iterdir()} == {2, 4, 8}
    assert (folder / "report.html").read_text() == page.build(COMMITTED)


def test_the_text_tells_findings_knobs_week_and_checks(
    quick: list[of.Setting], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "greener-llms", "-q"])
    out = capsys.readouterr().out
    assert quick == [of.Setting()]
    for text in ("DynamoLLM publishes", "long-long", "instances and clock", "prefill slows with the clock", "w3"):
        assert text in out
