"""How the shipped typical years were made: month x hour-of-day (UTC) means of hourly series.

Run `python benchmarks/derive_zones.py FOLDER` with a folder that holds the series named in RECIPE (exports of
the Electricity Maps portal; CarbonCast's public data). The series stay with their user; only the means, which
are facts about them, are written to profiles/data/zones.csv and profiles/data/typical_years.csv. To add a
zone, add a row and run it again.
"""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from profiles.grid.readers import read_series
from profiles.grid.signal import Scope, Signal
from profiles.outputs import write_text

DATA = Path(__file__).resolve().parents[1] / "profiles" / "data"
_EM = "Electricity Maps {} hourly {} carbon intensity (flow-traced consumption; zone {})"
_EM_LICENCE = "derived means only; the series is under Electricity Maps' terms (licence text not verified)"
_CC = "CarbonCast {} hourly {} carbon intensity (from generation by source; region {})"
_CC_LICENCE = "derived means only; the series is Apache-2.0"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One zone: its id (Electricity Maps), names others give it, and the series in the user's folder."""

    zone: str
    place: str
    aliases: str
    series: str
    year: int = 2022
    scope: Scope = "lifecycle"

    @property
    def from_carboncast(self) -> bool:
        return self.series.startswith("carboncast/")


_CISO = ("US-CAL-CISO", "California ISO", "CISO|CAISO|CAISO_NORTH|california")
_CISO_SERIES = "electricitymaps/US-CAL-CISO_2023_hourly.csv"
_NO = ("NO", "Norway", "norway|NOR")
_NO_SERIES = "electricitymaps/NO_2023_hourly.csv"
RECIPE = (
    Recipe("CA-QC", "Quebec, Canada", "QC|quebec|québec|HQT|hydro-quebec", "lca_2022/CA-QC_2022_hourly_lca.csv"),
    Recipe("SE", "Sweden", "sweden|SWE", "carboncast/SE_lifecycle_emissions.csv", 2021),
    Recipe(*_NO, _NO_SERIES, 2023),
    Recipe(*_NO, _NO_SERIES, 2023, "direct"),
    Recipe("FR", "France", "france|FRA", "lca_2022/FR_2022_hourly_lca.csv"),
    Recipe("GB", "Great Britain", "UK|great-britain|GBR", "lca_2022/GB_2022_hourly_lca.csv"),
    Recipe(*_CISO, _CISO_SERIES, 2023),
    Recipe(*_CISO, _CISO_SERIES, 2023, "direct"),
    Recipe("US-TEX-ERCO", "Texas (ERCOT)", "ERCO|ERCOT|texas", "lca_2022/US-TEX-ERCO_2022_hourly_lca.csv"),
    Recipe("US-MIDA-PJM", "PJM Interconnection, USA", "PJM", "lca_2022/US-MIDA-PJM_2022_hourly_lca.csv"),
    Recipe("DE", "Germany", "germany|DEU", "lca_2022/DE_2022_hourly_lca.csv"),
    Recipe("IN-WE", "Western India", "india-west|western-india", "lca_2022/IN-WE_2022_hourly_lca.csv"),
    Recipe(
        "AU-QLD",
        "Queensland, Australia",
        "QLD|AUS_QLD|NEM_QLD|queensland",
        "carboncast/AUS_QLD_lifecycle_emissions.csv",
        2021,
    ),
    Recipe("US-NW-PACE", "PacifiCorp East, USA", "PACE|pacificorp-east", "lca_2022/US-NW-PACE_2022_hourly_lca.csv"),
    Recipe("PL", "Poland", "poland|POL", "lca_2022/PL_2022_hourly_lca.csv"),
)


def month_by_hour(signal: Signal, year: int) -> tuple[np.ndarray, np.ndarray]:
    """The 12 x 24 means of one year of an hourly series, and the values they were taken from."""
    cells: list[list[list[float]]] = [[[] for _ in range(24)] for _ in range(12)]
    used = []
    for start_s, value in zip(signal.start_s.tolist(), signal.g_per_kwh.tolist(), strict=True):
        moment = datetime.fromtimestamp(start_s, UTC)
        if moment.year == year and not np.isnan(value):
            cells[moment.month - 1][moment.hour].append(value)
            used.append(value)
    return np.array([[np.mean(cell) for cell in month] for month in cells]), np.array(used)


def derive(folder: Path) -> tuple[str, str]:
    """The texts of zones.csv and typical_years.csv."""
    figures = [f"{name}_g_per_kwh" for name in ("mean", "series_mean", "series_min", "series_max")]
    zones = [["zone", "scope", "place", "aliases", "year", "hours", *figures, "source", "licence"]]
    years = [["zone", "scope", "month", *(f"h{hour:02d}" for hour in range(24))]]
    days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    for item in RECIPE:
        table, used = month_by_hour(read_series(folder / item.series, item.scope), item.year)
        table = table.round(1)
        mean = np.average(table.mean(axis=1), weights=days)
        source, licence = (_CC, _CC_LICENCE) if item.from_carboncast else (_EM, _EM_LICENCE)
        region = Path(item.series).name.split("_lifecycle")[0] if item.from_carboncast else item.zone
        figures = [f"{figure:.2f}" for figure in (mean, used.mean(), used.min(), used.max())]
        identity = [item.zone, item.scope, item.place, item.aliases, str(item.year), str(used.size)]
        zones.append([*identity, *figures, source.format(item.year, item.scope, region), licence])
        for month, row in enumerate(table, start=1):
            years.append([item.zone, item.scope, str(month), *(f"{value:.1f}" for value in row)])
    return _csv(zones), _csv(years)


def _csv(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def main() -> None:
    zones, years = derive(Path(sys.argv[1]))
    write_text(DATA / "zones.csv", zones)
    write_text(DATA / "typical_years.csv", years)


if __name__ == "__main__":
    main()
