"""Exports as people have them: what is harmless is read, what changes a number is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from profiles.grid import load, read_series
from profiles.inputs import InputError, read_json

HEAD = "Data estimated,Zone id,More,Carbon intensity gCO₂eq/kWh (Life cycle),Datetime (UTC)"


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def export(*values: str) -> str:
    rows = [f'"false",ZA,,{value},"2024-01-15 {hour:02d}:00:00"' for hour, value in enumerate(values)]
    return "\r\n".join([HEAD, *rows]) + "\r\n"


def test_what_is_harmless_is_read(tmp_path: Path) -> None:
    text = export("700", "710", "710.5")
    last = text.splitlines()[-1]
    text = "\ufeff" + text + f"{last}\r\n,,,,\r\n\r\n"
    for delimiter in (",", ";", "\t"):
        signal = read_series(save(tmp_path / "x", text.replace(",", delimiter)))
        assert signal.g_per_kwh.tolist() == [700, 710, 710.5]
        assert (signal.zone, signal.estimated_share) == ("ZA", 0)
        assert "1 rows are there twice" in signal.notes[0]


def test_an_empty_value_is_a_gap_and_said(tmp_path: Path) -> None:
    signal = read_series(save(tmp_path / "x", export("700", "", "710")))
    assert math.isnan(signal.g_per_kwh[1])
    assert "1 h are missing in the series, the first at 2024-01-15T01:00Z" in signal.notes[0]
    with pytest.raises(InputError, match="no value for 2024-01-15T01:00Z"):
        signal.at(1705280400.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (export("700", '"12,5"'), ":3: column 4 "),
        (
            export("700", "710") + 'false,ZA,,711,"2024-01-15 01:00:00"\r\n',
            ":4: column 5 (Datetime (UTC)): 2024-01-15T01",
        ),
        (export("700", "710").replace("false", "perhaps"), ":2: column 1 (Data estimated): 'perhaps' is neither"),
        (export("", ""), "x"),
    ],
)
def test_what_changes_a_number_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_series(save(tmp_path / "x", text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hour_that_daylight_saving_repeats_is_two_by_its_offset(tmp_path: Path) -> None:
    stamps = ["2024-10-27T01:00+02:00", "2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00", "2024-10-27T03:00+01:00"]
    text = "time,lca g/kWh\n" + "".join(f"{stamp},{k}\n" for k, stamp in enumerate(stamps))
    signal = read_series(save(tmp_path / "x", text))
    assert signal.g_per_kwh.tolist() == [0, 1, 2, 3]
    assert signal.end_s - signal.start_s[0] == 4 * 3600


@pytest.mark.parametrize("header", ["point_time,value,region", "timestamp,MOER,region"])
def test_watttime_csv_is_marginal_pounds(tmp_path: Path, header: str) -> None:
    rows = "2024-01-15T00:00:00+00:00,1000,CAISO_NORTH\n2024-01-15T00:05:00+00:00,1001,CAISO_NORTH\n"
    signal = load(save(tmp_path / "x", f"{header}\n{rows}"), "direct")
    assert signal.g_per_kwh[0] == pytest.approx(453.59237, rel=1e-12)
    assert (signal.kind, signal.scope, signal.zone) == ("marginal", "direct", "US-CAL-CISO")
    with pytest.raises(InputError, match="WattTime is direct"):
        load(tmp_path / "x", "lifecycle")
    assert load(tmp_path / "x").scope == "direct"  # what the file is, where nothing is asked for


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a number is too long"):
        read_json(save(tmp_path / "x", "[" + "9" * 5000 + "]"))
