"""Pictures of grids and traces: what is in them, and what they cost to draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from carbonfleet.report import plots, vega
from profiles.grid import load
from profiles.inputs import InputError
from sim.trace import read_trace

HOURLY = "datetime_utc,average_carbon_intensity_lca_gco2eq_per_kwh\n"


@pytest.fixture
def fortnight(tmp_path: Path) -> Path:
    """Two weeks of hours from Monday 2 January 2023: 100 g by night, 300 g from 12 h on, 10 g more on the second."""
    rows = [
        f"2023-01-{2 + hour // 24:02}T{hour % 24:02}:00:00Z,{(100 if hour % 24 < 12 else 300) + 10 * (hour >= 168)}"
        for hour in range(336)
    ]
    file = tmp_path / "zone.csv"
    file.write_text(HOURLY + "\n".join(rows) + "\n")
    return file


def test_year_week_and_day_of_a_grid(fortnight: Path) -> None:
    year, week, day = (panel["data"]["values"] for panel in plots.grid(load(str(fortnight)))["vconcat"])
    assert len(year) == 14
    assert year[0] == {"x": 1672617600000, "mean": 200.0, "low": 100.0, "high": 300.0}
    assert (len(week), len(day)) == (168, 24)
    assert week[0] == {"x": 0, "mean": 105.0, "low": 100.0, "high": 110.0}  # Mondays at 0 h
    assert day[13] == {"x": 13, "mean": 305.0, "low": 300.0, "high": 310.0}


def test_a_typical_year_has_months_and_hours_but_no_week() -> None:
    months, hours = (panel["data"]["values"] for panel in plots.grid(load("FR"))["vconcat"])
    assert [row["x"] for row in months] == list(range(1, 13))
    assert len(hours) == 24


def test_a_constant_has_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="the same at all times"):
        plots.grid(load("400"))


def test_load_and_lengths_of_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},{10 + i},{2 * i + 1}\n" for i in range(101))
    )
    load_, lengths = (panel["data"]["values"] for panel in plots.trace(read_trace(file))["vconcat"])
    width = 100 / len(load_)
    assert sum(row["rate"] for row in load_) * width == pytest.approx(101)
    prompt = [row["tokens"] for row in lengths if row["of"] == "prompt"]
    assert np.allclose(prompt, np.linspace(10, 110, 201))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_pictures_are_written(fortnight: Path, tmp_path: Path, kind: str) -> None:
    path = vega.picture(plots.grid(load(str(fortnight))), tmp_path / f"zone.{kind}")
    assert path.read_bytes().startswith(b"<svg" if kind == "svg" else b"\x89PNG")


def test_an_unknown_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown picture format 'gif'"):
        vega.picture({}, tmp_path / "zone.gif")
