"""HotCarbon'24: the committed result, what must hold of it, and that nothing withheld reaches the fit."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import studies
from carbonfleet import cli
from carbonfleet.reproduce.hotcarbon24 import books, claims, fit, page, paper, trial, verdicts
from carbonfleet.reproduce.hotcarbon24.figures import figures
from carbonfleet.reproduce.hotcarbon24.setting import Setting, Zone, setting
from carbonfleet.reproduce.hotcarbon24.study import study
from profiles import catalog, embodied, grid
from profiles.inputs import InputError
from profiles.predict import eager
from profiles.profile import load
from profiles.step import StepModel
from tests.committed import close
from tests.pages import drawn_in_silence, specifications

COMMITTED = studies.document("hotcarbon24")
ROWS = {row["id"]: row for row in COMMITTED["claims"]}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return study(setting()).document


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, Any]:
    return study(setting(["h100-sxm-80gb", "l4"], [], ["PL", "SE"])).document


def test_it_gives_the_committed_result(made: dict[str, Any]) -> None:
    """Written anew with: python -m benchmarks.studies --anew hotcarbon24."""
    committed = dict(COMMITTED)
    assert committed.pop("schema_version") == 1
    close(json.loads(json.dumps(made)), committed, "result")


def test_the_claims_are_the_ones_collected(shared: Path) -> None:
    file = shared.parent / "facts" / "hotcarbon24-claims.csv"
    if not file.is_file():
        pytest.skip("no table of claims beside this checkout")
    rows = {row["id"]: row for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}
    assert list(rows) == [claim.id for claim in paper.CLAIMS]
    for claim in paper.CLAIMS:
        row = rows[claim.id]
        assert claim.kind == row["kind"], claim.id
        assert claim.section == row["section"], claim.id
        if claim.value is not None:
            assert claim.value == float(row["value"]), claim.id
        assert claim.region == row["region"] or claim.id == "c31", claim.id


# What must hold


def test_every_input_row_is_equal() -> None:
    inputs = [row for row in ROWS.values() if row["kind"] == "input"]
    assert len(inputs) == 7
    assert all(row["verdict"] == "equal" and row["ours"] == row["paper"] for row in inputs)


def test_the_score_of_what_was_not_fitted() -> None:
    score = COMMITTED["score"]
    assert set(score["fitted_on"]) == {"c10", "c11", "c13", "c22"}
    scored = [claim.id for claim in paper.CLAIMS if claim.scored and not claim.fitted]
    assert len(scored) == score["fit"]["claims"] == 11
    assert not {"c20", "c21", *(f"c{k}" for k in range(24, 30)), *score["fitted_on"]} & set(scored)
    for strict in ("", "strict_"):
        assert score["fit"][f"{strict}share_within_20_percent"] >= 0.7
        assert score["fit"][f"{strict}share_within_10_percent"] >= 0.5


def test_what_is_missed_is_what_the_page_explains() -> None:
    missed = {name for name, row in ROWS.items() if row["verdict"].startswith("miss")}
    assert missed == {"c14", "c23"}
    assert [name for name, row in ROWS.items() if row["right_direction"] is False] == ["c14"]
    assert "slip" in ROWS["c14"]["note"]
    random = COMMITTED["score"]["random_subsets"]
    assert random["share_within_20_percent"]["median"] < 0.7  # the reading says so
    assert random["share_within_10_percent"]["median"] < 0.5


def test_a_best_batch_is_one_step_off_or_on_a_flat_top() -> None:
    for name in ("c16", "c17", "c18", "c19"):
        row = ROWS[name]
        assert 0.5 <= row["ours"] / row["paper"] <= 2.0 or abs(row["error"]) <= 0.05


def test_identities_by_hand() -> None:
    watts, g_per_h = {"t4": 30.9, "rtx-6000-ada": 44.2}, {"t4": 10300 / 43800, "rtx-6000-ada": 26600 / 43800}
    zones = {"QC": 31, "CISO": 262, "PACE": 647}
    rows = [row for row in ROWS.values() if row["identity"] and row["paper"] is not None]
    assert [row["id"] for row in rows] == ["c24", "c25", "c26", "c27", "c28", "c29"]
    for row in rows:
        rate = g_per_h[row["gpu"]]
        share = rate / (rate + watts[row["gpu"]] / 1000 * zones[row["region"]])
        assert row["ours"] == pytest.approx(share, rel=1e-5)
        assert round(share, 3) == row["paper"]
        assert row["verdict"] == "identity holds"
    assert ROWS["c31"]["verdict"] == "identity holds"


def test_takeaways_are_computed_and_hold(made: dict[str, Any], elsewhere: dict[str, Any]) -> None:
    assert [row["holds"] for row in made["takeaways"]] == [True] * 5
    assert False in [row["holds"] for row in elsewhere["takeaways"]]  # so they can fail
    for row in (*made["takeaways"], *elsewhere["takeaways"]):
        assert row["holds"] == all(check["holds"] for check in row["checks"])


def test_out_of_memory_is_never_a_number(made: dict[str, Any]) -> None:
    lost = {(c["gpu"], c["model"], c["batch"]) for c in made["cells"] if c["out_of_memory"]}
    assert lost == {("t4", "llama-3b", 64), *(("t4", "llama-7b", b) for b in (8, 16, 32, 64))}
    for cell in made["cells"]:
        if cell["out_of_memory"]:
            assert set(cell) == {"gpu", "model", "batch", "out_of_memory"}
    for rows in (*made["energy"].values(), *made["carbon"].values()):
        assert not lost & {(row["gpu"], row["model"], row["batch"]) for row in rows}
    spec = figures(made, "chip")["1_latency"]
    drawn = {(row["gpu"], row["model"], row["batch"]) for row in spec["layer"][0]["data"]["values"]}
    assert len(drawn) == 42 - len(lost)
    assert not lost & drawn
    named = [row["text"] for layer in spec["layer"][2:] for row in layer["data"]["values"]]
    assert sorted(named) == ["llama-3b: OOM"] + ["llama-7b: OOM"] * 4


# The fit


def test_withheld_claims_do_not_reach_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fit.fit(paper.FITTED)
    changed = tuple(
        claim if claim.fitted or claim.value is None else replace(claim, value=7.0 * claim.value)
        for claim in paper.CLAIMS
    )
    monkeypatch.setattr(fit, "CLAIMS", changed)
    assert fit.fit(paper.FITTED) == before


def test_a_fit_comes_back_to_what_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = (0.9, 1.6, 4.0, 1.05, 0.9, 1.1)
    planted = fit.Fit(tuple(p.assumed * f for p, f in zip(fit.PARAMETERS, factors, strict=True)), ())
    cells = planted.cells()
    values = {claim: claims.ours(cells, claim) for claim in paper.FITTED}
    told = tuple(replace(c, value=values[c.id]) if c.fitted else c for c in paper.CLAIMS)
    monkeypatch.setattr(fit, "CLAIMS", told)
    powers = {gpu: cell.power_w for gpu in paper.GPUS if (cell := cells[gpu, paper.SMALL, 1])}
    monkeypatch.setattr(fit, "STATED_W", powers)
    found = fit.fit(paper.FITTED)
    again = found.cells()
    for claim, value in values.items():
        assert claims.ours(again, claim) == pytest.approx(value, rel=0.02)
    assert found.habits.layer_s == pytest.approx(planted.habits.layer_s, rel=0.1)
    assert found.habits.sequence_ops == pytest.approx(planted.habits.sequence_ops, rel=0.1)
    assert found.habits.stall_s == pytest.approx(planted.habits.stall_s, rel=0.1)


def test_random_choices_are_different_and_the_same_every_time() -> None:
    subsets = fit.random_subsets(4)
    assert subsets == fit.random_subsets(4)
    assert len(set(subsets)) == fit.SUBSETS
    assert all(len(set(subset)) == 4 for subset in subsets)


def test_a_wrong_figure_is_judged_wrong() -> None:
    """The verdicts can fail: cells of a model without host work, padding cost or stall."""
    poor = fit.Fit((1e-6, 1.0, 1e-9, 3.0, 0.5, 0.01), ())
    rows = verdicts.judged(poor.cells())
    assert sum(row["verdict"].startswith("miss") for row in rows) >= 6
    assert verdicts.score(rows)["share_within_20_percent"] < 0.5


def test_formulas_and_profiles_agree() -> None:
    found = fit.fit(paper.FITTED)
    cells = found.cells()
    for gpu in paper.GPUS:
        for model in paper.MODELS:
            made = eager.profile(found.eager(gpu, model), catalog.gpu(gpu), trial.batches(), "2026-11-21", [])
            for batch, cell in trial.measured(StepModel(made)).items():
                other = cells[gpu, model, batch]
                assert (cell is None) == (other is None)
                if cell and other:
                    assert cell.latency_s == pytest.approx(other.latency_s, rel=2e-3)
                    assert cell.energy_j == pytest.approx(other.energy_j, rel=2e-3)


@pytest.mark.parametrize("batch", paper.BATCHES)
def test_padding_is_the_expected_longest_prompt(batch: int) -> None:
    mean_log = math.log(20.0) - 0.7**2 / 2
    drawn = np.random.default_rng(5).lognormal(mean_log, 0.7, (40_000, batch)).max(axis=1)
    assert trial.padded_tokens(batch) == pytest.approx(drawn.mean(), abs=0.9)


# The books


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.sampled_from(paper.BATCHES), st.floats(0, 1000))
def test_tokens_and_prompts_carry_the_same_grams(prefill_s: float, decode_s: float, batch: int, grid_g: float) -> None:
    cell = trial.Cell(batch, prefill_s, 70.0, decode_s, 50.0)
    for book in (books.chips(["t4"], 5.0), books.servers(["t4"], 5.0)):
        prompts = batch * book.prompt("t4", cell, grid_g).total
        tokens = book.token("t4", cell, "prefill", grid_g).total * cell.prefill_tokens
        tokens += book.token("t4", cell, "decode", grid_g).total * cell.decode_tokens
        assert tokens == pytest.approx(prompts)


def test_a_prompt_s_grams_by_hand() -> None:
    cell = trial.Cell(2, 1.0, 60.0, 3599.0, 60.0)  # an hour at 60 W for two prompts
    chip = books.chips(["t4"], 5.0).prompt("t4", cell, 100.0)
    assert chip.operational == pytest.approx(60 / 1000 * 100 / 2)
    assert chip.embodied == pytest.approx(10300 / (5 * 8760) / 2)
    host = catalog.host("t4-server-8")
    server = books.servers(["t4"], 5.0).prompt("t4", cell, 100.0)
    assert server.operational == pytest.approx((60 + host.power_w / 8) / 1000 * 100 / 2)
    card, body = embodied.gpu_embodied(catalog.gpu("t4")).mid_kg, embodied.host_embodied(host).mid_kg / 8
    assert server.embodied == pytest.approx((card / 5 + body / 6) * 1000 / 8760 / 2)


def test_whole_servers_change_shares_and_the_greenest_card(made: dict[str, Any]) -> None:
    changes = made["changes"]
    assert all(row["server"] > row["chip"] for row in changes["embodied_shares"])
    assert 0 < len(changes["greenest_differs"]) < changes["compared"]
    carbon = {
        book: {(r["gpu"], r["model"], r["batch"], r["zone"]): r["operational_g"] + r["embodied_g"] for r in rows}
        for book, rows in made["carbon"].items()
    }
    for row in changes["greenest_differs"]:
        for book in ("chip", "server"):
            totals = {g: carbon[book][g, row["model"], row["batch"], row["zone"]] for g in paper.GPUS}
            assert min(totals, key=totals.__getitem__) == row[book]


# Elsewhere


def test_elsewhere_no_value_of_the_paper_stands_beside(elsewhere: dict[str, Any]) -> None:
    assert elsewhere["claims"] == []
    assert elsewhere["score"] is None
    assert elsewhere["beside_paper"] is False
    assert elsewhere["beside_paper_reason"].endswith("other GPUs and zones")
    assert [z["g_per_kwh"] for z in elsewhere["setting"]["zones"]] == [
        pytest.approx(grid.load(name).mean(), rel=1e-5) for name in ("PL", "SE")
    ]
    assert elsewhere["embodied"]["chip"]["l4"]["preset"] == "act"
    text = page.build(elsewhere)
    assert "No value of the paper stands beside ours" in text
    assert "Claim by claim" not in text


def test_the_order_of_the_paper_s_own_cards_does_not_matter() -> None:
    assert setting(["t4", "rtx-6000-ada"]).differs == []
    assert setting(lifetime_years=4.0).differs == ["years of life"]
    assert setting(zones=["QC"]).differs == ["zones"]


@pytest.mark.parametrize(("gpus", "zones"), [(["t4", "t4"], []), ([], ["QC", "quebec"])])
def test_nothing_is_named_twice(gpus: list[str], zones: list[str]) -> None:
    with pytest.raises(InputError, match="given twice"):
        setting(gpus, [], zones)


def test_where_nothing_fits_nothing_is_drawn() -> None:
    made = study(setting(["t4"], ["llama-2-70b"])).document
    assert all(cell["out_of_memory"] for cell in made["cells"])
    assert figures(made, "chip") == {}
    assert "nothing to draw" in page.build(made)


# The page and the command


def test_a_hostile_zone_stays_text() -> None:
    hostile = "</script><script>alert(1)</script>"
    asked = Setting(("t4",), ("llama-1b",), (Zone(hostile, 100.0, hostile),), 5.0)
    assert "<script>alert" not in page.build(study(asked).document)


def test_every_chart_has_its_place_and_can_be_drawn(made: dict[str, Any]) -> None:
    import vl_convert

    from carbonfleet.report.vega import VERSION

    text = page.build(made)
    specs = specifications(text)
    assert re.findall(r'data-chart="([^"]+)"', text) == list(specs)
    numbers = {name.split("_")[1] for name in specs if name.startswith("chip_")}
    assert numbers == set("1234567")
    svg = vl_convert.vegalite_to_svg(specs["chip_1_latency"] | {"width": 700}, vl_version=VERSION)
    assert svg.count("OOM") >= 5
    for name in ("chip_5_prompt_0", "server_6_token_prefill", "server_7_lifetime"):
        assert "<path" in vl_convert.vegalite_to_svg(specs[name] | {"width": 700}, vl_version=VERSION)


def test_the_page_is_silent_in_a_browser(made: dict[str, Any], browser: Any, tmp_path: Path) -> None:
    assert drawn_in_silence(browser, page.build(made), tmp_path) > 15


def test_the_command_writes_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "grid.csv"
    own.write_text(
        "datetime_utc,intensity_lca_gco2eq_per_kwh\n2023-01-01T00:00:00,50\n2023-01-01T01:00:00,150\n"
        "2023-01-01T02:00:00,100\n"
    )
    folder = tmp_path / "out"
    arguments = f"reproduce hotcarbon24 --gpus l4,t4 --models llama-1b --zones {own},300 -q --json -o {folder}"
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments.split())
    assert leaving.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["setting"]["zones"][0]["g_per_kwh"] == pytest.approx(100.0)
    assert json.loads((folder / "result.json").read_text()) == document
    inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
    assert str(own) in inputs
    assert "profiles/data/gpus.csv" in inputs
    assert {load(file).gpu for file in (folder / "profiles").iterdir()} == {"l4", "t4"}
    assert "elsewhere" in (folder / "report.html").read_text()


def test_the_text_shows_claims_and_takeaways(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "hotcarbon24", "-q"])
    out = capsys.readouterr().out
    assert all(name in out for name in ROWS)
    assert "miss: wrong direction" in out
    assert "5. A longer life" in out
