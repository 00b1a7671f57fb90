"""Grid intensity: golden means, known windows, recurrence, and bad files answered in one line."""

from __future__ import annotations

import copy
import gzip
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.grid import Signal, Window, constant, load, read_series, zones
from profiles.inputs import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "grid"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/grid is not beside this checkout")

HOUR = 3600.0
DAY = 86400.0
OLD = (
    "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),Carbon Intensity gCO₂eq/kWh (LCA),"
    "Low Carbon Percentage,Renewable Percentage,Data Source,Data Estimated,Data Estimation Method"
)
NEW = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO2eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),Renewable energy percentage (RE%),"
    "Data source,Data estimated,Data estimation method"
)
PLAIN = "datetime_utc,carbon_intensity_lca_gco2eq_per_kwh"


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def em_row(hour: int, direct: str = "10", lca: str = "20", flag: str = "false", zone: str = "XX") -> str:
    return f"2023-01-01 {hour:02d}:00:00,Land,Place,{zone},{direct},{lca},90,80,grid.example,{flag},"


def save(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes((end.join(lines) + end).encode())
    return path


def make(start: str, values: list[float], step_s: float = HOUR, **more: object) -> Signal:
    begin = epoch(start)
    given = {
        "name": "test",
        "zone": "XX",
        "kind": "average",
        "scope": "lifecycle",
        "source": "made up",
        "licence": "none",
        "estimated_share": None,
        "start_s": begin + step_s * np.arange(len(values)),
        "end_s": begin + step_s * len(values),
        "g_per_kwh": np.array(values),
    }
    return Signal(**(given | more))  # type: ignore[arg-type]


# windows


def test_window_known_answers() -> None:
    window = Window(np.array([0.0, 10.0, 30.0, 40.0]), np.array([100.0, 200.0, 50.0]))
    assert [window.at(t) for t in (0.0, 9.5, 10.0, 30.0, 39.0)] == [100.0, 100.0, 200.0, 50.0, 50.0]
    assert [window.integral(t) for t in (0.0, 10.0, 20.0, 40.0)] == [0.0, 1000.0, 3000.0, 5500.0]
    assert window.mean_g_per_kwh == 137.5
    assert (window.min_g_per_kwh, window.max_g_per_kwh, window.duration_s) == (50.0, 200.0, 40.0)
    assert [window.next_edge_s(t) for t in (0.0, 10.0, 35.0, 40.0)] == [10.0, 30.0, 40.0, math.inf]


def test_beyond_its_end_the_last_value_holds_and_the_flag_says_so() -> None:
    window = Window(np.array([0.0, 10.0, 20.0]), np.array([100.0, 200.0]))
    assert window.at(1000.0) == 200.0
    assert window.integral(30.0) == 5000.0
    assert not window.beyond(20.0)
    assert window.beyond(20.5)


def test_equal_neighbours_are_merged_and_arrays_are_read_only() -> None:
    window = Window(np.array([0.0, 1.0, 2.0, 3.0]), np.array([5.0, 5.0, 6.0]))
    assert window.edges_s.tolist() == [0.0, 2.0, 3.0]
    assert window.g_per_kwh.tolist() == [5.0, 6.0]
    with pytest.raises(ValueError, match="read-only"):
        window.g_per_kwh[0] = 1.0


def test_constant_window() -> None:
    window = Window.constant(262.0)
    assert (window.at(1e9), window.integral(2.0), window.mean_g_per_kwh) == (262.0, 524.0, 262.0)
    assert window.next_edge_s(0.0) == math.inf
    assert not window.beyond(1e12)


def test_window_refuses_nonsense_and_can_be_copied() -> None:
    for edges, values in (([0.0, 1.0], []), ([1.0, 2.0], [1.0]), ([0.0, 0.0], [1.0]), ([0.0, 1.0], [math.nan])):
        with pytest.raises(ValueError, match="window"):
            Window(np.array(edges), np.array(values))
    window = Window(np.array([0.0, 1.0, 2.0]), np.array([5.0, 6.0]), "said")
    for negative in (-1.0, math.nan):
        with pytest.raises(ValueError, match="run time"):
            window.at(negative)
    with pytest.raises(ValueError, match="run time"):
        window.integral(np.array([1.0, -1.0]))
    again = copy.deepcopy(window)
    assert (again.integral(1.5), again.note) == (8.0, "said")


_VALUES = st.lists(st.floats(0, 3000), min_size=1, max_size=60)


@given(_VALUES, st.data())
def test_integral_equals_an_independent_sum(values: list[float], data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.floats(0.001, 1e4), min_size=len(values), max_size=len(values)))
    window = Window(np.concatenate(([0.0], np.cumsum(lengths))), np.array(values))
    t = data.draw(st.floats(0, 1.5 * float(np.sum(lengths))))
    terms, left = [], t
    for value, length in zip(values, lengths, strict=True):
        terms.append(value * min(length, left))
        left -= min(length, left)
    terms.append(values[-1] * left)
    expected = math.fsum(terms)
    assert window.integral(t) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    several = np.array([0.0, t / 2, t])
    assert window.integral(several).tolist() == [window.integral(float(x)) for x in several]
    assert window.at(several).tolist() == [window.at(float(x)) for x in several]


# signals


def test_window_starts_inside_an_interval() -> None:
    signal = make("2023-03-01", [10.0, 20.0, 30.0, 40.0])
    window = signal.window(epoch("2023-03-01T00:45"), 5400.0)
    assert window.edges_s.tolist() == [0.0, 900.0, 4500.0, 5400.0]
    assert window.g_per_kwh.tolist() == [10.0, 20.0, 30.0]
    assert window.note == ""
    assert signal.at(epoch("2023-03-01T03:59:59")) == 40.0
    assert signal.mean() == 25.0


@pytest.mark.parametrize(("start", "hours"), [("2023-02-28T23:00", 2), ("2023-03-01T03:00", 2), ("2024-01-01", 1)])
def test_outside_the_series_says_its_span_and_the_way_out(start: str, hours: int) -> None:
    signal = make("2023-03-01", [10.0, 20.0, 30.0, 40.0])
    with pytest.raises(InputError, match=r"2023-03-01T00:00Z to 2023-03-01T04:00Z.*align: recur"):
        signal.window(epoch(start), hours * HOUR)


def test_the_whole_series_is_inside_and_its_end_is_not() -> None:
    signal = make("2023-03-01", [10.0, 20.0])
    assert signal.window(epoch("2023-03-01"), 2 * HOUR).duration_s == 2 * HOUR
    with pytest.raises(InputError, match="2023-03-01T02:00Z is outside"):
        signal.at(epoch("2023-03-01T02:00"))


def test_a_gap_is_an_error_only_when_it_is_used() -> None:
    signal = make("2023-03-01", [10.0, math.nan, 30.0, 40.0])
    assert signal.window(epoch("2023-03-01T02:00"), 2 * HOUR).g_per_kwh.tolist() == [30.0, 40.0]
    assert signal.mean() == pytest.approx(80.0 / 3)
    with pytest.raises(InputError, match="no value for 2023-03-01T01:00Z"):
        signal.window(epoch("2023-03-01T00:30"), HOUR)


def test_recur_takes_the_nearest_day_of_the_same_month_and_weekday_class() -> None:
    # 2022-11-01 was a Tuesday; each day's value is its day of the month, plus hour / 100
    values = [day + hour / 100 for day in range(1, 31) for hour in range(24)]
    signal = make("2022-11-01", values)
    # Thursday 2023-11-16 -> Wednesday 2022-11-16; Saturday 2023-11-18 -> 19 (Saturday, 1 away) before 20;
    # Sunday 2023-11-26 -> Saturday 26; Monday 2023-11-20 -> 18 and 21 weekdays: 21 is nearer
    for day, like in ((16, 16), (18, 19), (26, 26), (20, 21)):
        assert signal.at(epoch(f"2023-11-{day}T07:30"), "recur") == like + 0.07
    window = signal.window(epoch("2023-11-17T23:00"), 2 * HOUR, "recur")
    assert window.g_per_kwh.tolist() == [17.23, 19.0]
    assert "2 of 2 h" in window.note
    assert "2023-11-17 as 2022-11-17" in window.note


def test_recur_ties_go_to_the_earlier_day_then_the_later_year() -> None:
    values = [float(day) for day in range(1, 31) for _ in range(24)]
    values[19 * 24] = math.nan  # Sunday 20 is not whole
    signal = make("2022-11-01", values)
    # Sunday 2024-11-24: the weekend days left are 5 6 12 13 19 26 27
    assert signal.at(epoch("2024-11-24T05:00"), "recur") == 26.0
    # Saturday 2024-11-16: 13 and 19 are both 3 away
    assert signal.at(epoch("2024-11-16T05:00"), "recur") == 13.0
    two_years = make("2022-01-01", [2022.0] * 8760 + [2023.0] * 8760)
    # 14 June 2022 is a Tuesday, 14 June 2023 a Wednesday
    assert two_years.at(epoch("2024-06-14T12:00"), "recur") == 2023.0


def test_recur_keeps_own_values_and_fills_gaps_only() -> None:
    values = [float(day) for day in range(1, 31) for _ in range(24)]
    values[9 * 24 + 3] = math.nan  # Thursday 10 November, 03:00
    window = make("2022-11-01", values).window(epoch("2022-11-10"), DAY, "recur")
    assert [window.at(h * HOUR) for h in (2, 3, 4)] == [10.0, 9.0, 10.0]
    assert "1 of 24 h" in window.note


def test_recur_without_a_like_day_is_an_error() -> None:
    signal = make("2022-11-01", [5.0] * 48)
    with pytest.raises(InputError, match="no whole weekend day of November"):
        signal.at(epoch("2023-11-18T00:00"), "recur")
    with pytest.raises(InputError, match="no whole weekday day of May"):
        signal.at(epoch("2023-05-16T00:00"), "recur")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * 8760), st.floats(0, HOUR), st.floats(1, 40 * HOUR), st.data())
def test_recur_windows_agree_with_at(offset: int, within: float, duration: float, data: st.DataObject) -> None:
    values = [float((7 * hour) % 1009) for hour in range(8760)]
    for hole in data.draw(st.lists(st.integers(0, 8759), max_size=5)):
        values[hole] = math.nan
    signal = make("2022-01-01", values)
    start = epoch("2021-06-01") + offset * HOUR + within
    window = signal.window(start, duration, "recur")
    assert window.edges_s[0] == 0.0
    assert window.duration_s == duration
    for share in data.draw(st.lists(st.floats(0, 0.999), min_size=1, max_size=5)):
        t = share * duration
        edge = round((start + t) / HOUR) * HOUR
        if abs(start + t - edge) > 1e-3:  # at an edge, start + t is rounded to the one or the other side
            assert window.at(t) == signal.at(start + t, "recur")


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 4e9), st.floats(1e-6, 1e6))
def test_a_typical_year_serves_any_date(start: float, duration: float) -> None:
    signal = load("CISO")
    window = signal.window(start, duration)
    moment = datetime.fromtimestamp(start, UTC)
    same = epoch(f"2023-{moment.month:02d}-01T{moment.hour:02d}:00")
    assert window.at(0.0) == signal.g_per_kwh[int(np.searchsorted(signal.start_s, same))]
    assert window.duration_s == duration
    assert "extremes are smoothed" in window.note


def test_a_typical_year_on_a_leap_day_and_over_a_whole_year() -> None:
    signal = load("CA-QC")
    assert signal.at(epoch("2024-02-29T12:30")) == signal.at(epoch("2023-02-01T12:00"))
    assert signal.at(epoch("2024-02-29T12:30"), "recur") == signal.at(epoch("2024-02-29T12:30"))
    year = signal.window(epoch("2023-01-01"), 8760 * HOUR)
    assert year.mean_g_per_kwh == pytest.approx(signal.mean(), rel=1e-12)


def test_signal_refuses_bad_arguments() -> None:
    signal = constant(30.0)
    for start, duration in ((math.nan, 1.0), (1.7e12, 1.0), (1.7e9, 0.0), (1.7e9, math.inf)):
        with pytest.raises(InputError):
            signal.window(start, duration)
    with pytest.raises(InputError, match="unknown align"):
        signal.window(1.7e9, 1.0, "nearest")  # type: ignore[arg-type]
    for values in ([], [-1.0], [3001.0], [math.nan]):
        with pytest.raises(InputError):
            make("2023-01-01", values)
    with pytest.raises(InputError, match="typical year"):
        make("2023-01-01", [1.0] * 8759 + [2.0], recurring=True)


# readers


def test_electricity_maps_old_and_new_headers(tmp_path: Path) -> None:
    rows = [em_row(0, "10", "20"), em_row(1, "12.5", "22.5", "true"), em_row(2), em_row(3)]
    for name, header in (("a.txt", OLD), ("b.csv", NEW), ("c.csv", OLD.lower())):
        file = save(tmp_path / name, header, *rows, end="\r\n")
        lifecycle, direct = read_series(file), read_series(file, "direct")
        assert lifecycle.g_per_kwh.tolist() == [20.0, 22.5, 20.0, 20.0]
        assert direct.g_per_kwh.tolist() == [10.0, 12.5, 10.0, 10.0]
        assert (lifecycle.scope, direct.scope, direct.kind) == ("lifecycle", "direct", "average")
        assert (lifecycle.zone, lifecycle.estimated_share, lifecycle.recurring) == ("XX", 0.25, False)
        assert lifecycle.start_s[0] == epoch("2023-01-01")
        assert lifecycle.end_s == epoch("2023-01-01T04:00")


def test_two_columns(tmp_path: Path) -> None:
    file = save(tmp_path / "x.csv", PLAIN, "2022-01-01T00:00:00Z,27.44", "2022-01-01T01:00:00Z,27.6")
    signal = read_series(file)
    assert signal.g_per_kwh.tolist() == [27.44, 27.6]
    assert (signal.scope, signal.estimated_share, signal.notes) == ("lifecycle", None, ())
    with pytest.raises(InputError, match="header says lifecycle, asked was direct"):
        read_series(file, "direct")
    packed = tmp_path / "x.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_series(packed).g_per_kwh.tolist() == [27.44, 27.6]


def test_two_columns_say_what_they_do_not_know(tmp_path: Path) -> None:
    rows = ("2022-01-01T02:00+02:00,1", "2022-01-01T02:30+02:00,2")
    signal = read_series(save(tmp_path / "x.csv", "time,marginal gCO₂/kWh", *rows), "direct")
    assert (signal.kind, signal.scope) == ("marginal", "direct")
    assert "names no scope" in signal.notes[0]
    assert signal.start_s[0] == epoch("2022-01-01")
    assert signal.end_s == epoch("2022-01-01T01:00")
    assert "names no scope" in signal.window(epoch("2022-01-01"), 60.0).note


def test_a_gap_of_minutes_is_named_by_its_start() -> None:
    signal = make("2023-03-01", [1.0, math.nan, math.nan, 4.0], step_s=900.0)
    with pytest.raises(InputError, match="no value for 2023-03-01T00:15Z"):
        signal.window(epoch("2023-03-01"), HOUR)


def test_a_cut_archive_is_answered_in_one_line(tmp_path: Path) -> None:
    body = gzip.compress("\n".join([PLAIN, *OK]).encode())
    for name, content in (("x.csv.gz", body[:-12]), ("y.csv.gz", b"junk"), ("z.csv.zst", b"junk")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_series(tmp_path / name)


def test_missing_hours_become_a_gap(tmp_path: Path) -> None:
    rows = [f"2022-01-01T{hour:02d}:00Z,{hour}" for hour in (0, 1, 2, 5, 6)]
    signal = read_series(save(tmp_path / "x.csv", PLAIN, *rows))
    assert "3600" not in signal.notes[0]
    assert "2 h are missing in the series, the first at 2022-01-01T03:00Z" in signal.notes[0]
    assert signal.at(epoch("2022-01-01T05:00")) == 5.0
    with pytest.raises(InputError, match="no value for 2022-01-01T03:00Z"):
        signal.at(epoch("2022-01-01T03:30"))


OK = ("2022-01-01T00:00Z,1", "2022-01-01T01:00Z,2")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("2022-01-01T02:00Z", "1 columns where the header has 2"),
        ("2022-01-01T02:00Z,1,2", "3 columns"),
        ("2022-01-01T02:00Z,", "column 2"),
        ("2022-01-01T02:00Z,many", "'many' is not a carbon intensity"),
        ("2022-01-01T02:00Z,1_0", "column 2"),
        ("2022-01-01T02:00Z,-0.5", "column 2"),
        ("2022-01-01T02:00Z,nan", "column 2"),
        ("2022-01-01T02:00Z,inf", "column 2"),
        ("2022-01-01T02:00Z,3000.1", "0 to 3000 g/kWh"),
        ("2022-01-01T01:00Z,3", "is there twice"),
        ("2022-01-01T00:00Z,3", "comes after 2022-01-01T01:00Z"),
        ("yesterday,3", "column 1 (datetime_utc): 'yesterday' is not a time"),
        ("2022-02-30T00:00Z,3", "is not a time"),
        ("0001-01-01T00:00Z,3", "not in the years"),
        ("2022-01-01T02:30Z,3", "5400 s after the time before, where the series steps by"),
    ],
)
def test_a_bad_row_names_file_line_and_column(tmp_path: Path, row: str, says: str) -> None:
    rows = [*OK, row] if "02:30" not in row else [*OK, "2022-01-01T02:00Z,3", "2022-01-01T03:30Z,4"]
    file = save(tmp_path / "bad.csv", PLAIN, *rows)
    with pytest.raises(InputError) as caught:
        read_series(file)
    text = str(caught.value)
    assert says in text
    assert text.startswith(f"{file}:{len(rows) + 1}: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([""], "empty"),
        ([PLAIN], "0 row"),
        ([PLAIN, OK[0]], "1 row"),
        (["a,b", *OK], "no known carbon-intensity format"),
        (["datetime_utc,carbon_intensity", *OK], "no known"),
        (["datetime_utc,kgco2_per_kwh", *OK], "no known"),
        (["datetime,intensity g/kWh", "2022-01-01T00:00,1"], "no UTC offset"),
        (["datetime_utc,direct and lca g/kWh", *OK], "both"),
        ([OLD.replace("LCA", "x"), em_row(0)], "0 columns of lifecycle"),
        ([OLD, em_row(0), em_row(1, flag="maybe")], "neither true nor false"),
        ([OLD, em_row(0), em_row(1, zone="YY")], "one zone a file"),
        ([PLAIN, '"2022-01-01T00:00Z'], "not CSV"),
    ],
)
def test_a_bad_file_is_answered_in_one_line(tmp_path: Path, lines: list[str], says: str) -> None:
    file = save(tmp_path / "bad.csv", *lines)
    with pytest.raises(InputError, match=says) as caught:
        read_series(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_traceback(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    file = tmp_path_factory.mktemp("junk") / "x.csv"
    for content in (junk, PLAIN.encode() + b"\n" + junk, PLAIN.encode() + b"\n" + "\n".join(OK).encode() + junk):
        file.write_bytes(content)
        said = ""
        try:
            read_series(file)
        except InputError as error:
            said = str(error)
        assert "\n" not in said


# zones


def test_names_numbers_and_near_misses(tmp_path: Path) -> None:
    same = {"CISO": "US-CAL-CISO", "caiso_north": "US-CAL-CISO", "ERCOT": "US-TEX-ERCO", "ERCO": "US-TEX-ERCO"}
    same |= {"pjm": "US-MIDA-PJM", "PACE": "US-NW-PACE", "QC": "CA-QC", "quebec": "CA-QC", "us-cal-ciso": "US-CAL-CISO"}
    for alias, zone in same.items():
        assert load(alias).zone == zone
    for number in ("262", 262.0, " 262 "):
        assert load(number).window(1.7e9, 60.0).g_per_kwh.tolist() == [262.0]
    assert "constant" in load("262").window(1.7e9, 60.0).note
    assert load("262").window(1.7e9, 60.0, "recur").at(3.0) == 262.0
    with pytest.raises(InputError, match=r"did you mean .*quebec"):
        load("quebeck")
    for wrong in ("-1", "nan", "3001", "inf"):
        with pytest.raises(InputError, match="not a carbon intensity"):
            load(wrong)
    for wrong in ("", "x" * 5000, "\0", "IN"):
        with pytest.raises(InputError, match="unknown grid zone"):
            load(wrong)
    with pytest.raises(InputError, match="no such file"):
        load(str(tmp_path / "series.csv"))
    with pytest.raises(InputError, match="no direct series ships for PL"):
        load("PL", "direct")
    with pytest.raises(InputError, match="unknown scope"):
        load("PL", "marginal")  # type: ignore[arg-type]
    file = save(tmp_path / "mine.csv", PLAIN, *OK)
    assert load(str(file)).g_per_kwh.tolist() == load(file).g_per_kwh.tolist() == [1.0, 2.0]


def test_shipped_zones_are_consistent() -> None:
    rows = zones()
    assert len({row.zone for row in rows}) >= 12
    assert rows[0].mean_g_per_kwh < 30
    assert rows[-1].mean_g_per_kwh > 800
    owner: dict[str, str] = {}
    for row in rows:
        for name in (row.zone, *row.aliases):
            assert owner.setdefault(name.casefold(), row.zone) == row.zone, f"{name} means two zones"
        signal = load(row.zone, row.scope)
        assert signal.recurring
        assert signal.mean() == pytest.approx(row.mean_g_per_kwh, abs=0.006)
        assert signal.mean() == pytest.approx(row.series_mean_g_per_kwh, rel=0.005)
        assert row.series_min_g_per_kwh - 0.05 <= row.min_g_per_kwh
        assert row.max_g_per_kwh <= row.series_max_g_per_kwh + 0.05
        assert 8700 <= row.hours <= 8784
        assert all((row.source, row.licence, row.place, str(row.year) in row.source, row.scope in row.source))


def test_the_documentation_lists_the_shipped_zones() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "grids.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("| `") and " 202" in line]
    expected = [
        f"| `{row.zone}` | {', '.join(row.aliases)} | {row.scope} | {row.mean_g_per_kwh:.1f} | "
        f"{row.min_g_per_kwh:.1f} to {row.max_g_per_kwh:.1f} | "
        f"{row.series_min_g_per_kwh:.1f} to {row.series_max_g_per_kwh:.1f} | {row.source.split()[0]} {row.year} |"
        for row in zones()
    ]
    assert [line.replace("Electricity Maps", "Electricity") for line in listed] == expected


GOLDEN = {
    "US-CAL-CISO": 261.2,
    "CA-QC": 28.5,
    "US-NW-PACE": 663.4,
    "PL": 819.2,
    "FR": 99.5,
    "GB": 234.8,
    "DE": 481.5,
    "IN-WE": 614.8,
    "US-TEX-ERCO": 401.8,
    "US-MIDA-PJM": 425.3,
}


@pytest.mark.parametrize(("zone", "mean"), GOLDEN.items())
def test_golden_means_of_the_shipped_years(zone: str, mean: float) -> None:
    assert load(zone).mean() == pytest.approx(mean, abs=0.06)


def test_golden_direct_mean_of_ciso() -> None:
    assert load("CISO", "direct").mean() == pytest.approx(193.5, abs=0.06)


@needs_shared
@pytest.mark.parametrize(("zone", "mean"), GOLDEN.items())
def test_golden_means_of_the_series(zone: str, mean: float) -> None:
    ciso = zone == "US-CAL-CISO"
    file = "electricitymaps/US-CAL-CISO_2023_hourly.csv" if ciso else f"lca_2022/{zone}_2022_hourly_lca.csv"
    signal = read_series(SHARED / file)
    assert signal.mean() == pytest.approx(mean, abs=0.06)
    assert load(zone).mean() == pytest.approx(signal.mean(), rel=0.005)


@needs_shared
def test_ciso_2023_reads_both_scopes() -> None:
    file = SHARED / "electricitymaps" / "US-CAL-CISO_2023_hourly.csv"
    assert round(read_series(file).mean(), 1) == 261.2
    direct = read_series(file, "direct")
    assert round(direct.mean(), 1) == 193.5
    assert direct.zone == "US-CAL-CISO"
    assert direct.start_s.size == 8760
    assert not np.isnan(direct.g_per_kwh).any()


@needs_shared
def test_the_last_hour_of_quebec_2022_is_missing_and_recur_fills_it() -> None:
    signal = read_series(SHARED / "lca_2022" / "CA-QC_2022_hourly_lca.csv")
    last = epoch("2022-12-31T23:00")
    with pytest.raises(InputError, match="2022-12-31T23:00Z is outside"):
        signal.at(last)
    # Saturday 31 December: the nearest whole weekend day is Sunday 25
    assert signal.at(last, "recur") == signal.at(epoch("2022-12-25T23:00"))
    # a day of the Azure 2023 conversation trace: Thursday 16 November 2023 -> Wednesday 16 November 2022
    window = signal.window(epoch("2023-11-16T18:00"), 2 * HOUR, "recur")
    assert window.at(0.0) == signal.at(epoch("2022-11-16T18:00"))


@needs_shared
@pytest.mark.parametrize("file", sorted(SHARED.glob("carboncast/*.csv")), ids=lambda file: file.stem)
def test_carboncast_files_read(file: Path) -> None:
    signal = read_series(file, "direct" if "direct" in file.name else "lifecycle")
    assert signal.start_s[0] == epoch("2020-01-01")
    assert signal.end_s == epoch("2022-01-01")
    assert signal.start_s.size == 17544
    assert "name no scope" in signal.notes[0]
