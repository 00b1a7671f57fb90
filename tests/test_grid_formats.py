"""JSON formats, kinds and scopes kept apart, forecasts, and broken files: each with its one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.grid import check_alike, constant, is_forecast, load, read_forecast, read_series
from profiles.inputs import InputError
from sim import scenario
from sim.run import run

HOUR = 3600.0
EPOCH = 1704067200.0  # 2024-01-01T00:00Z


def hours(n: int) -> list[str]:
    return [f"2024-01-01T{k:02d}:00:00Z" for k in range(n)]


MAPS = {"zone": "FR", "history": [{"datetime": t, "carbonIntensity": 50 + k, "emissionFactorType": "lifecycle",
                                   "isEstimated": k == 0} for k, t in enumerate(hours(4))]}  # fmt: skip
WATTTIME = {"data": [{"point_time": t, "value": 1000.0} for t in hours(3)],
            "meta": {"region": "CAISO_NORTH", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh"}}  # fmt: skip
UK = {"data": [{"from": f"2024-01-01T{k // 2:02d}:{30 * (k % 2):02d}Z", "to": "x",
                "intensity": {"forecast": 200, "actual": None if k == 2 else 240 + k}} for k in range(5)]}  # fmt: skip
SDK = {"Emissions": [{"Location": "eastus", "Time": t, "Rating": "400.5", "Duration": "01:00"} for t in hours(3)]}
ISSUES = {"meta": {"units": "lbs_co2_per_mwh"},
          "data": [{"generated_at": h, "forecast": [{"point_time": t, "value": 100.0 * (k + 1)} for t in hours(6)]}
                   for k, h in enumerate(hours(2))]}  # fmt: skip
COLUMNS = "datetime_utc,marginal_direct_co2_lbs_per_mwh\n2024-01-01T00:00:00,1000\n2024-01-01T01:00:00,500\n"
# two forecasts of three hours, made at 00:00 (90 where 100 came) and at 01:00 (110)
FORECAST = ",UTC time,actual_carbon_intensity_lifecycle,forecasted_carbon_intensity_lifecycle\n" + "".join(
    f"{3 * made + k},2021-07-01 0{made + k}:00:00,100,{90 + 20 * made}\n" for made in (0, 1) for k in range(3)
)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def put(content: Any, name: str = "x.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


def test_electricity_maps_api(file):
    signal = read_series(file(MAPS))
    assert (signal.zone, signal.kind, signal.scope, signal.estimated_share) == ("FR", "average", "lifecycle", 0.25)
    assert signal.g_per_kwh.tolist() == [50, 51, 52, 53]
    assert signal.start_s[0] == EPOCH
    shuffled = MAPS | {"history": MAPS["history"][::-1]}
    assert read_series(file(shuffled)).g_per_kwh.tolist() == [50, 51, 52, 53]
    past = {"zone": "FR", "data": MAPS["history"]}
    assert read_series(file(past)).g_per_kwh.tolist() == [50, 51, 52, 53]
    assert "forecast" in read_series(file({"zone": "FR", "forecast": MAPS["history"]})).notes[0]


def test_watttime_is_marginal_pounds_at_the_stack(file):
    signal = read_series(file(WATTTIME), "direct")
    assert signal.g_per_kwh[0] == pytest.approx(453.59237)
    assert (signal.kind, signal.scope, signal.zone) == ("marginal", "direct", "CAISO_NORTH")


def test_uk_half_hours_with_a_gap(file):
    signal = read_series(file(UK), "direct")
    assert np.diff(signal.start_s).tolist() == [1800.0] * 4
    assert np.isnan(signal.g_per_kwh[2])
    assert any("0.5 h are missing" in note for note in signal.notes)
    region = {"data": [{"regionid": 3, "shortname": "North West", "data": [
        {"from": x["from"], "intensity": {"forecast": 10}} for x in UK["data"]]}]}  # fmt: skip
    found = read_series(file(region), "direct")
    assert found.zone == "GB North West"
    assert "not what happened" in found.notes[0]


def test_carbon_aware_sdk_must_be_told_its_kind(file):
    with pytest.raises(InputError, match="does not say whether it is average or marginal"):
        read_series(file(SDK))
    assert read_series(file(SDK), kind="marginal").kind == "marginal"
    listed = [{"location": "x", "time": t, "rating": 5} for t in hours(2)]
    assert read_series(file(listed), kind="average").g_per_kwh.tolist() == [5, 5]
    ahead = {"generatedAt": "x", "forecastData": [{"location": "x", "timestamp": t, "value": 5} for t in hours(2)]}
    assert "forecast" in read_series(file(ahead), kind="average").notes[0]


def test_two_columns_in_pounds(file):
    signal = read_series(file(COLUMNS, "x.csv"), "direct")
    assert signal.g_per_kwh.tolist() == pytest.approx([453.59237, 226.796185])
    assert signal.kind == "marginal"


def test_kinds_and_scopes_are_never_added():
    average, marginal = constant(5.0), constant(5.0, kind="marginal")
    with pytest.raises(InputError, match=r"the grid of a is average, that of b marginal.*cannot be added"):
        check_alike({"a": average, "b": marginal})
    with pytest.raises(InputError, match="lifecycle"):
        check_alike({"a": average, "b": constant(5.0, "direct")})
    check_alike({"a": average, "b": constant(9.0)})
    with pytest.raises(InputError, match="is average, asked was marginal"):
        load("FR", kind="marginal")


def test_a_run_of_two_kinds_is_refused_and_one_kind_is_said():
    pool = {"gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 1}
    document: dict[str, Any] = {
        "generator": {"duration_s": 10, "rate_per_s": 1, "lengths": "azure-conv"},
        "sites": [{"name": "a", "grid": "5", "kind": "marginal"}, {"name": "b", "grid": "6"}],
        "pools": [pool | {"name": "p", "site": "a"}, pool | {"name": "q", "site": "b"}],
    }
    with pytest.raises(InputError, match="cannot be added"):
        run(scenario.Scenario.model_validate(document))
    document["sites"][1]["kind"] = "marginal"
    found = run(scenario.Scenario.model_validate(document)).summary["sites"]
    assert [site["intensity"]["kind"] for site in found] == ["marginal", "marginal"]


def test_forecasts_beside_what_came(file):
    path = file(FORECAST, "f.csv")
    found = read_forecast(path)
    assert is_forecast(path)
    assert len(found.issues) == 2
    assert found.errors() == {1: pytest.approx(0.1)}
    first = found.issues[0].issued_s
    assert found.believed(first + 10, first + HOUR) == 90
    assert found.believed(first + HOUR, first + HOUR) == 110
    with pytest.raises(InputError, match="no forecast had been made"):
        found.at(first - 1)
    with pytest.raises(InputError, match="says nothing of"):
        found.believed(first, first + 3 * HOUR)


def test_watttime_historical_forecasts(file):
    path = file(ISSUES)
    assert is_forecast(path)
    found = read_forecast(path)
    assert found.believed(EPOCH + 10, EPOCH + HOUR) == pytest.approx(45.359237)
    assert found.believed(EPOCH + HOUR, EPOCH + HOUR) == pytest.approx(90.718474)
    assert found.errors() == {}


def test_carboncast_forecast_errors_are_the_published_ones(shared):
    days = {"CISO": (6.5, 14.7, 19.7, 21.8), "ERCO": (7.9, 15.4, 19.0, 20.9), "PJM": (3.1, 5.5, 7.1, 8.2)}
    days["PL"] = (2.4, 4.2, 4.9, 5.6)
    for region, expected in days.items():
        name = f"{region}_96h_forecast_lifecycle_Jul_Dec_2021.csv"
        found = read_forecast(shared / "grid" / "carboncast_forecast" / name)
        assert len(found.issues) == 181
        assert [round(100 * error, 1) for error in found.errors().values()] == pytest.approx(expected, abs=0.11)
        if region == "PJM":
            assert round(100 * found.errors()[1], 2) == 3.08


BROKEN: list[tuple[Any, str]] = [
    ({"zone": "FR", "history": []}, "JSON of no known"),
    ({}, "JSON of no known"),
    ([], "JSON of no known"),
    ("{", "not JSON"),
    ({"zone": "FR", "history": [{"carbonIntensity": 5}]}, "item 1: the time is missing"),
    ({"zone": "FR", "history": [{"datetime": "2024-01-01", "carbonIntensity": 5}]}, "item 1: .*no UTC offset"),
    ({"zone": "FR", "history": [{"datetime": hours(1)[0], "carbonIntensity": -5}]}, "item 1: '-5' is not a carbon"),
    ({"zone": "FR", "history": [{"datetime": hours(1)[0], "carbonIntensity": [1]}]}, "is not a carbon intensity"),
    ({"zone": "FR", "history": MAPS["history"][:1]}, r"1 row\(s\) of figures"),
    ({"zone": "FR", "history": [*MAPS["history"], MAPS["history"][1]]}, "item 5: 2024-01-01T01:00Z is there twice"),
    (WATTTIME | {"meta": {}}, "WattTime's unit is not given"),
    (WATTTIME | {"meta": {"units": "kg_per_furlong"}}, "unit is kg_per_furlong"),
    (SDK, "state the kind"),
    ({"Emissions": [*SDK["Emissions"], SDK["Emissions"][0] | {"Location": "west"}]}, "2 locations"),
    ("", "the file is empty"),
    ("a,b\n1,2\n", "no known carbon-intensity format"),
    (COLUMNS.replace("direct", "lca") + "2024-01-01T02:00:00,1e9\n", ":4: .*'1e9' is not a carbon intensity"),
    (COLUMNS.replace("direct", "lca") + "2024-01-01T02:00:00\n", ":4: 1 columns where the header has 2"),
    (COLUMNS.replace("direct", "lca") + "2024-13-01T02:00:00,5\n", ":4: .*is not a time"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_file_is_answered_with_one_line(file, content, message):
    path = file(content, "x.json" if not isinstance(content, str) or content == "{" else "x.csv")
    with pytest.raises(InputError, match=message) as caught:
        read_series(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


DIRECT = {"history": [x | {"emissionFactorType": "direct"} for x in MAPS["history"]]}


@pytest.mark.parametrize("content", [DIRECT, WATTTIME, UK, COLUMNS])
def test_a_file_that_states_its_scope_keeps_it(file, content):
    path = file(content, "x.json" if not isinstance(content, str) else "x.csv")
    assert read_series(path).scope == read_series(path, "direct").scope == "direct"
    with pytest.raises(InputError, match=r"direct, asked was lifecycle.*ask for scope direct"):
        read_series(path, "lifecycle")


GOOD = [json.dumps(x) for x in (MAPS, WATTTIME, UK, SDK, ISSUES)] + [COLUMNS, FORECAST]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from(GOOD),
    at=st.floats(0, 1),
    cut=st.integers(0, 12),
    put=st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"-", b"nan", b"Infinity", b"1e400", b"null", b"[]", b"{}", b'"', b"\n", b",", b"\xff", b"true"]
        ),
    ),
    scope=st.sampled_from(["direct", "lifecycle"]),
)
def test_no_mutation_gets_through_as_nonsense(tmp_path, text, at, cut, put, scope):
    raw = text.encode()
    place = int(at * len(raw))
    path = tmp_path / "x.dat"
    path.write_bytes(raw[:place] + put + raw[place + cut :])
    for read in (
        lambda: read_series(path, scope, "marginal"),
        lambda: read_series(path, scope),
        lambda: read_forecast(path),
    ):
        try:
            found = read()
        except InputError as error:
            one_line = "\n" not in str(error)
        else:
            one_line = True
            values = found.g_per_kwh if hasattr(found, "g_per_kwh") else found.issues[0].g_per_kwh
            known = values[~np.isnan(values)]
            assert ((known >= 0) & (known <= 3000)).all()
        assert one_line
