"""The report: drawn in a real browser with the network off, silent, inert whatever the names, small, and complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from carbonfleet import report
from carbonfleet.report import charts, folder, page, vega
from carbonfleet.report import sweep as sweep_page
from carbonfleet.sweep import crew, design
from carbonfleet.sweep import run as sweeps
from carbonfleet.sweep.folder import Folder
from profiles.inputs import InputError
from sim import scenario
from sim.run import run
from tests.pages import visit

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = '</script><img src=x onerror="alert(1)">&{"'


def written(tmp: Path, **changes: Any) -> Path:
    asked = scenario.read(ROOT / "examples" / "two-sites.yaml").model_dump(mode="json", exclude_none=True)
    asked["generator"]["duration_s"] = 60
    return run(scenario.Scenario.model_validate(asked | changes)).write(tmp / "run", command=["simulate", HOSTILE])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every name is an attack."""
    asked = scenario.read(ROOT / "examples" / "two-sites.yaml").model_dump(mode="json", exclude_none=True)
    for part in (*asked["sites"], *asked["pools"]):
        part["name"] = f"{HOSTILE} {part['name']}"
    for pool in asked["pools"]:
        pool["site"] = f"{HOSTILE} {pool['site']}"
    return written(
        tmp_path_factory.mktemp("hostile"), name=HOSTILE, sites=asked["sites"], pools=asked["pools"], horizon_s=720_000
    )


def test_it_is_silent_and_asks_for_nothing(browser, hostile):
    path = report.write(hostile)
    said, asked, tab = visit(browser, path)
    assert said == []
    assert asked == [path.as_uri()]
    assert tab.locator("svg.marks").count() == 7  # every chart is drawn
    assert tab.locator("img").count() == 0  # a hostile name became no element
    assert tab.locator("h1").text_content() == HOSTILE


def test_a_sweep_s_page_is_silent_too(browser, tmp_path):
    asked = scenario.read(ROOT / "examples" / "two-sites.yaml").model_dump(mode="json", exclude_none=True)
    asked["generator"]["duration_s"] = 60
    gpus = ["h100-sxm-80gb", HOSTILE]  # the second cannot be found, and its error tells its name
    parts = {"name": HOSTILE, "scenario": asked, "grid": {"name": [HOSTILE, "b"], "pools.h100.gpu": gpus}}
    (tmp_path / "s.yaml").write_text(json.dumps(parts))
    found, place = design.read(tmp_path / "s.yaml"), Folder(tmp_path / "out")
    results = sweeps.run(found, place, sweeps.plan(found, place), lambda: crew.Here(1))
    path = sweep_page.write(found, results, place.path)
    said, requests, tab = visit(browser, path, width=360)
    assert said == []
    assert requests == [path.as_uri()]
    assert tab.locator("svg.marks").count() == 3  # grams against latency, and by each key
    assert tab.locator("img").count() == 0
    assert tab.locator("h1").text_content() == HOSTILE
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert results.counts == {"failed": 2, "ok": 2}


def test_a_page_that_misbehaves_is_caught_by_the_same_check(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html data-drawn=yes><img src='http://127.0.0.1:9/x.png'><script>console.log('hello')</script></html>"
    )
    said, asked, _ = visit(browser, bad)
    assert "hello" in said
    assert len(asked) == 2


def test_the_policy_stops_what_is_not_the_page_s_own(browser, hostile, tmp_path):
    text = report.build(hostile).replace("</main>", "<script>document.title = 'taken'</script></main>")
    (tmp_path / "taken.html").write_text(text)
    said, _, tab = visit(browser, tmp_path / "taken.html")
    assert tab.title() != "taken"
    assert any("Content Security Policy" in line for line in said)


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out_of_the_window(browser, hostile, width):
    _, _, tab = visit(browser, report.write(hostile), width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_twelve_thousand_minutes_stay_under_two_megabytes(hostile):
    # 720,000 s are 12,000 minutes for each of two pools
    found = folder.read(hostile)
    assert found.thinned == 18
    assert all(columns["time_s"].size <= folder.POINTS for columns in found.timeline.values())
    assert len(report.build(hostile).encode()) < 2_000_000


def test_thinning_keeps_the_mean(hostile):
    import pyarrow.parquet as pq

    table = pq.read_table(hostile / "timeline.parquet")
    pools = table["pool"].to_pylist()
    power = table["power_w"].to_pylist()
    for pool, columns in folder.read(hostile).timeline.items():
        mine = [value for name, value in zip(pools, power, strict=True) if name == pool]
        whole = [sum(mine[k : k + 18]) / len(mine[k : k + 18]) for k in range(0, len(mine), 18)]
        assert columns["power_w"] == pytest.approx(whole)


def test_what_it_shows_is_the_summary(tmp_path):
    made = written(tmp_path)
    text = report.build(made)
    summary = json.loads((made / "summary.json").read_text())
    for pool in summary["pools"]:
        assert sum(pool["parts_g"].values()) == pytest.approx(pool["carbon_g"])
    for warning in summary["warnings"]:
        assert warning in text
    drawn = json.loads(re.findall(r'id="charts">(.*?)</script>', text, flags=re.S)[0])
    bars = [row["g"] for row in drawn["sources"]["data"]["values"]]
    assert sum(bars) == pytest.approx(summary["carbon_g"]["total"])
    for reason in (entry["reason"] for entry in summary["reports"].values()):
        assert page.escape(reason) in text


def test_charts_become_pictures_without_a_browser(tmp_path):
    found = folder.read(written(tmp_path))
    specs = charts.charts(found, page.start_ms(found))
    files = vega.export(specs, tmp_path / "svg", "svg") + vega.export(
        {"power": specs["power"]}, tmp_path / "png", "png"
    )
    assert [file.name for file in files] == [*(f"{name}.svg" for name in specs), "power.png"]
    assert files[0].read_text().startswith("<svg")
    assert files[-1].read_bytes().startswith(b"\x89PNG")


def test_json_in_the_page_cannot_end_its_element():
    assert json.loads(page.as_json({"a": HOSTILE})) == {"a": HOSTILE}
    assert "<" not in page.as_json({"a": HOSTILE})


@pytest.mark.parametrize("breakage", ["missing", "not a run", "no parquet", "cut parquet"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, breakage):
    made = tmp_path / "nothing" if breakage == "missing" else written(tmp_path)
    if breakage == "not a run":
        (made / "summary.json").write_text("{}")
    elif breakage == "no parquet":
        (made / "timeline.parquet").unlink()
    elif breakage == "cut parquet":
        (made / "requests.parquet").write_bytes((made / "requests.parquet").read_bytes()[:100])
    with pytest.raises(InputError, match="simulate -o"):
        report.build(made)
