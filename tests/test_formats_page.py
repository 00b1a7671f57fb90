"""Every block of docs/formats.md is a file that the readers take as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from profiles.grid import read_series
from profiles.importers import formats
from profiles.predict import readers
from sim.trace import read_trace

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"### ([^\n]+)\n\n```\n(.*?)```", re.DOTALL)
_TRACES, _REST = PAGE.split("## Grids\n")
_GRIDS, _MEASURED = _REST.split("## Profiles\n")
_PROFILES, _ROWS = _MEASURED.split("## Measured rows\n")
TRACES, GRIDS, PROFILES, ROWS = (dict(BLOCK.findall(part)) for part in (_TRACES, _GRIDS, _PROFILES, _ROWS))


def test_every_format_of_the_table_has_a_block() -> None:
    table = (Path(__file__).resolve().parents[1] / "docs" / "traces.md").read_text().split("Columns may stand")[0]
    named = [line.split("|")[1].strip().split(" (")[0] for line in table.splitlines() if line.startswith("| ")][1:]
    shown = {name.removesuffix(" trace") for name in TRACES} | set(TRACES)
    assert [name for name in named if name not in shown] == []
    assert len(GRIDS) >= 8


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_block_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "trace"
    file.write_text(TRACES[name], encoding="utf-8")
    trace = read_trace(file)
    assert trace.requests >= 1
    assert name.split()[0].lower() in trace.format.lower()


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_block_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "grid"
    file.write_text(GRIDS[name], encoding="utf-8")
    signal = read_series(file)
    assert signal.scope == ("direct" if "direct" in name else "lifecycle")
    assert len(signal.g_per_kwh) >= 2
    whose = name.replace("Two columns", "two-column").replace("UK Carbon Intensity", "UK").split(",")[0].split()[0]
    assert whose in signal.source


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_block_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "source"
    file.write_text(PROFILES[name], encoding="utf-8")
    form, _, gpu = name.partition(" --gpu ")
    told: list[str] = []
    asked = formats.Asked(gpu=gpu or None, tell=told.append)
    if formats.FORMATS[form].hosts:
        assert "h200-sxm-141gb,8," in formats.hosts(form, file, asked)
        return
    found = formats.read(form, file, asked)
    assert len(found) == 1
    assert [line for line in told if "left out" in line] == []


def test_every_profile_format_is_on_the_page() -> None:
    shown = {name.split(" ")[0] for name in PROFILES}
    words = _PROFILES.split("###")[0].lower()
    spelt = {"helix": "helix", "llmservingsim": "llmservingsim", "splitwise": "splitwise-sim"}
    assert [form for form in formats.FORMATS if form not in shown and spelt[form] not in words] == []


@pytest.mark.parametrize("name", ROWS)
def test_a_block_of_measured_rows_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(ROWS[name], encoding="utf-8")
    (row,) = readers.read(file, name).rows
    assert row.tpot_s == pytest.approx({"aiconfigurator": 0.014, "mlenergy": 0.01}.get(name, 15.5 / 1024))
