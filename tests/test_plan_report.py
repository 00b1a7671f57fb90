"""A plan's directory and its page: complete, offline, inert whatever the names; --explain in every output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from carbonfleet import plan_folder, report
from carbonfleet.cli.optimize import command
from carbonfleet.cli.report import command as report_command
from carbonfleet.explain_text import explained_report, shadow_lines
from carbonfleet.report import plan_charts
from profiles import catalog
from profiles.inputs import InputError
from tests.pages import visit
from tests.test_report import HOSTILE

PRICED = {"h100-sxm-80gb": 2.5, "a100-sxm-80gb": 1.5, "l4": 0.4}
TWO = [
    {"name": f"{HOSTILE} clean", "grid": "30", "max_gpus": 4, "max_power_w": 60_000},
    {"name": f"{HOSTILE} dirty", "grid": "US-CAL-CISO", "price_usd_per_kwh": 0.1},
]


def study_file(folder: Path, **changes: Any) -> Path:
    """A study whose every name is an attack."""
    document = {
        "name": HOSTILE,
        "demand": {
            "model": "llama-3.1-8b",
            "rate_per_s": 90,
            "shape": "diurnal",
            "buckets": [
                {"prompt_tokens": 500, "output_tokens": 200},
                {"prompt_tokens": 900, "output_tokens": 100},
            ],
        },
        "slo": {"ttft_s": 3.0, "tpot_s": 0.15},
        "sites": TWO,
        "catalogue": [
            {"gpu": "h100-sxm-80gb", "host": "hgx-h100-4", "tp": [1], "max_batch": [64], "max_units": 3},
            {"gpu": "a100-sxm-80gb", "host": "hgx-a100-80gb-4", "tp": [1], "max_batch": [64]},
        ],
        "owned": [
            {"gpu": "l4", "host": "l4-server-8", "site": TWO[1]["name"], "units": 30, "max_batch": [32], "tp": [1]}
        ],
        "futures": [{"name": f"{HOSTILE} 12h", "intensity": 0.5}, {"name": "as stated"}],
        "by_year": False,
        "accounting": {"gpu_price_usd_per_h": PRICED},
        "gap": 1e-3,
    }
    file = folder / "study.yaml"
    file.write_text(json.dumps(document | changes))
    return file


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan's directory with everything that can be asked for but the replay."""
    folder = tmp_path_factory.mktemp("plan")
    asked = [str(study_file(folder)), "--no-verify", "--explain", "--compare", "--pareto", "3", "-q"]
    shown = CliRunner().invoke(command, [*asked, "-o", str(folder / "out")])
    assert shown.exit_code == 0, shown.output
    (folder / "shown.txt").write_text(shown.output)
    return folder / "out"


def test_everything_is_in_the_text(planned: Path) -> None:
    text = (planned.parent / "shown.txt").read_text()
    heads = ("for the board", "one more of a limit", "runner-up fleets", "the recommended fleet changes")
    for words in (*heads, "counted otherwise", "in the futures of the study", "wins in ", "buy nothing", "today"):
        assert words in text
    assert "8 more GPUs of room at" in text or "4 more GPUs of room at" in text


def test_everything_is_in_the_directory(planned: Path) -> None:
    names = {path.name for path in planned.iterdir()}
    parts = {f"{name}.json" for name in plan_folder.PARTS if name != "verdict"}
    assert names == {"plan.json", "scenario.yaml", "study.yaml", "manifest.json", "report.html", *parts}
    told = json.loads((planned / "manifest.json").read_text())
    assert [Path(name).name for name in told["inputs"]] == ["study.yaml"]


def test_the_manifest_names_every_file_the_plan_rests_on(tmp_path: Path) -> None:
    """Traces of streams, forecasts of sites and tables of one's own too; relative paths are the study's."""
    rows = "".join(f"{0.5 * i},{400 + i % 7},{90 + i % 5}\n" for i in range(300))
    (tmp_path / "chat.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    hours = "".join(f"2023-01-01 {h:02d}:00,{30 + h},{31 + h}\n" for h in range(24))
    head = ",UTC time,actual_carbon_intensity_lifecycle,forecasted_carbon_intensity_lifecycle\n"
    (tmp_path / "ahead.csv").write_text(head + "".join(f"{i},{row}\n" for i, row in enumerate(hours.splitlines())))
    (tmp_path / "own").mkdir()
    own = (Path(catalog.__file__).parent / "data" / "gpus.csv").read_text().splitlines(True)
    (tmp_path / "own" / "gpus.csv").write_text(own[0] + own[1].replace("t4,tesla-t4 nvidia-t4", "mine,", 1))
    stream = {"name": "chat", "model": "llama-3.1-8b", "trace": "chat.csv"}
    sites = [site | {"forecast": "ahead.csv"} for site in TWO]
    file = study_file(tmp_path, demand={"streams": [stream]}, sites=sites, own_catalog="own")
    shown = CliRunner().invoke(command, [str(file), "--no-verify", "-q", "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sorted(Path(name).name for name in told["inputs"]) == ["ahead.csv", "chat.csv", "gpus.csv", "study.yaml"]
    scenario = yaml.safe_load((tmp_path / "out" / "scenario.yaml").read_text())
    assert {site["forecast"] for site in scenario["sites"]} == {str(tmp_path / "ahead.csv")}


def test_a_plain_plan_has_its_board_in_json_and_no_stale_parts(planned: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(planned, tmp_path / "out")
    file = study_file(tmp_path, futures=[])
    shown = CliRunner().invoke(command, [str(file), "--no-verify", "--json", "-q", "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert [row["name"] for row in found["board"]] == ["today", "recommended", "least cost", "buy nothing"]
    assert set(found) == {"schema_version", "plan", "replay", "board"}
    mine = found["board"][1]
    assert mine["operational_g"] == pytest.approx(found["plan"]["operational_g"])
    assert not (tmp_path / "out" / "explained.json").exists()
    assert "--explain adds" in (tmp_path / "out" / "report.html").read_text()


def test_the_page_is_silent_inert_and_complete(browser: Any, planned: Path) -> None:
    said, asked, tab = visit(browser, planned / "report.html")
    assert said == []
    assert asked == [(planned / "report.html").as_uri()]
    assert tab.locator("img").count() == 0
    assert tab.locator("h1").text_content() == HOSTILE
    assert tab.locator("svg.marks").count() == len(report.drawings(planned)) == 4
    heads = tab.locator("h2").all_text_contents()
    assert heads == [
        "For the board",
        "The recommended fleet",
        "Plan and replay",
        "Cost against carbon",
        "Beside other fleets",
        "Who serves what, and when",
        "What one more of a limit is worth",
        "Runner-up fleets",
        "Where the recommended fleet changes",
        "In the study's futures",
        *(["Why the others are not in it"] if "Why the others are not in it" in heads else []),
        "Assumptions",
        "Sources",
    ]


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out_of_the_window(browser: Any, planned: Path, width: int) -> None:
    _, _, tab = visit(browser, planned / "report.html", width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_no_name_becomes_markup(planned: Path) -> None:
    text = (planned / "report.html").read_text()
    assert HOSTILE not in text
    assert "<img src=x" not in text


def test_the_report_command_takes_a_plan(planned: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    shown = CliRunner().invoke(
        report_command, [str(planned), "-o", str(tmp_path / "page.html"), "--charts", str(pictures), "--json"]
    )
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "page.html").read_text() == (planned / "report.html").read_text()
    assert {path.stem for path in pictures.iterdir()} == {"board", "pareto", "dispatch", "intensity"}


def test_a_folder_that_is_no_plan_is_said(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(InputError, match="holds no table"):
        report.build(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="is no plan"):
        report.build(tmp_path)


def test_hours_of_the_page_add_up_to_the_demand(planned: Path) -> None:
    """Of the first future; merged slices are taken apart again."""
    plan = json.loads((planned / "plan.json").read_text())
    rates, intensity = plan_charts.by_hour(plan)
    hours = {row["hour"] for row in rates}
    assert hours == set(range(24))
    total = sum(row["rate"] for row in rates) / 24
    assert total == pytest.approx(90, rel=1e-6)
    dirty = [row["g"] for row in intensity if row["site"].endswith("dirty")]
    clean = [row["g"] for row in intensity if row["site"].endswith("clean")]
    assert clean == pytest.approx([15.0] * 24)
    assert max(dirty) > min(dirty) > 50


def test_years_are_drawn_where_they_are_told_apart(tmp_path: Path) -> None:
    file = study_file(tmp_path, by_year=True, horizon_years=3, futures=[], sites=[{**TWO[1]}])
    shown = CliRunner().invoke(command, [str(file), "--no-verify", "-q", "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    drawn = report.drawings(tmp_path / "out")
    assert {"board", "fleet"} <= set(drawn)
    years = {row["year"] for row in drawn["board"]["data"]["values"]}
    assert years == {"year 0", "year 1", "year 2"}


def test_what_is_not_proved_is_said_in_words() -> None:
    row = {"limit": "1 MW more power at quebec", "saved": 5e6, "per_year": 1e6, "at_least": 0.0, "at_most": None}
    found: dict[str, Any] = {"objective_unit": "g", "shadow_prices": [row | {"fleet": "2 x a at quebec"}]}
    assert shadow_lines(found) == [
        "1 MW more power at quebec would save 1.00 t a year (no bound was proved); the fleet is then 2 x a at quebec"
    ]
    found["shadow_prices"][0] |= {"at_most": 6e6}
    assert "proved: between 0 g and 1.20 t" in shadow_lines(found)[0]
    fleet = {"fleet": "3 x b", "objective": 2e6, "more": 0.004, "gap": 0.05, "proved": False}
    found["runners_up"] = {"fleets": [fleet], "note": "the time ran out; there may be others within 1 %"}
    found |= {"entries": [], "tipping_points": [], "cases": [], "wins": [], "method": "by solving again"}
    text = explained_report(found)
    assert "3 x b: 2.00 t, +0.40 %, gap 5 %, not proved to be the next best" in text
    assert "the time ran out" in text


def test_explain_goes_with_a_study(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, ["--melange", str(study_file(tmp_path)), "--explain"]).exit_code == 2
