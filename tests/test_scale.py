"""Long runs: columns in files, ledgers added up as they grow, blocks instead of whole columns; the same results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonfleet.verify import verify
from profiles.outputs import OutputError
from sim import columns, gaps, quantiles
from sim.columns import Shelf, Spool
from sim.engine import loop, past
from sim.routing import LeastLoaded
from sim.run import run
from sim.scenario import Scenario
from sim.tables import requests_table, timeline_table
from sim.trace import GeneratorSpec, generate, read_trace, write_trace

CLOCK = {"wall_s", "loop_s", "requests_per_wall_s", "balance"}
POOL = {"site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b"}
ONE = [POOL | {"name": "p", "instances": 3}]
APART = [
    POOL | {"name": "p", "instances": 2, "role": "prefill"},
    POOL | {"name": "d", "instances": 2, "role": "decode"},
]
KINDS = {
    "chunked": {"pools": ONE},
    "prefill-first": {"pools": [ONE[0] | {"batching": "prefill-first"}]},
    "short of memory": {"pools": [ONE[0] | {"instances": 1, "max_num_seqs": 32}]},
    "roles apart": {"pools": APART, "kv_transfer": {"gb_per_s": 25, "joules_per_gb": 2}},
    "failures": {
        "pools": [ONE[0], ONE[0] | {"name": "q", "instances": 2}],
        "controls": [{"kind": "failures", "mtbf_h": 0.2, "repair_h": 0.02}],
    },
}


def scenario(**changes) -> Scenario:
    asked = {
        "generator": {"duration_s": 700, "rate_per_s": 6, "lengths": "azure-conv"},
        "sites": [{"name": "s", "grid": "FR"}],
        "horizon_s": 600,
        "pools": ONE,
    }
    return Scenario.model_validate(asked | changes)


@pytest.fixture
def long(monkeypatch):
    """Runs as if they were long: blocks of so many requests, ledgers that are let go of early and often."""

    def settings(block: int, let_go: int = 4096, every: int = 100) -> None:
        monkeypatch.setattr(columns, "BLOCK", block)
        monkeypatch.setattr(gaps, "MOST_OPEN", block)
        monkeypatch.setattr(past, "LET_GO_BYTES", let_go)
        monkeypatch.setattr(loop, "LOOK_EVERY", every)

    return settings


def assert_close(found, whole, where=""):
    if isinstance(whole, dict):
        for key in whole:
            if key not in CLOCK:
                assert_close(found[key], whole[key], f"{where}.{key}")
    elif isinstance(whole, list):
        for k, pair in enumerate(zip(found, whole, strict=True)):
            assert_close(*pair, f"{where}[{k}]")
    elif isinstance(whole, float):
        assert found == pytest.approx(whole, rel=1e-11, abs=1e-12), where
    else:
        assert found == whole, where


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block", "let_go", "every"), [(1000, 4096, 100), (257, 1, 10), (4000, 1 << 20, 1000)])
def test_a_long_run_gives_what_a_short_one_gives(long, kind, block, let_go, every):
    whole = run(scenario(**KINDS[kind]))
    assert not whole.played.requests.shelf.on_disk
    table, timeline = requests_table(whole), timeline_table(whole)
    long(block, let_go, every)
    parts = run(scenario(**KINDS[kind]))
    assert parts.played.requests.shelf.on_disk
    assert parts.played.gaps.size or let_go > 4096
    assert_close(parts.summary, whole.summary)
    assert max(parts.summary["balance"].values()) < 1e-12
    found = requests_table(parts)
    for name in table.column_names:
        mine, theirs = (each[name].to_numpy() for each in (found, table))
        if name.endswith(("_g", "_j")):
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, err_msg=name)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
    for name in timeline.column_names:
        mine, theirs = (each[name].to_numpy() for each in (timeline_table(parts), timeline))
        if name != "pool":
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9, err_msg=name)


def test_long_runs_leap_as_they_step(long):
    long(500)
    leap, step = (run(scenario(), engine=engine) for engine in ("leap", "step"))
    for name in ("first_token_s", "finish_s"):
        a, b = (np.array(getattr(each.played.requests, name)) for each in (leap, step))
        assert np.max(np.abs(a - b) / np.maximum(1.0, a)) <= 1e-9
    for one, two in zip(*(each.shares.of(slice(None)) for each in (leap, step)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_a_long_run_is_written_by_row_groups_twice_the_same_and_verified(long, tmp_path):
    whole = run(scenario())
    whole.write(tmp_path / "whole")
    long(1000)
    for name in ("one", "two"):
        run(scenario()).write(tmp_path / name)
    for name in ("requests.parquet", "timeline.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    file = pq.ParquetFile(tmp_path / "one" / "requests.parquet")
    assert file.metadata.num_row_groups == -(-file.metadata.num_rows // 1000)
    assert file.schema_arrow.equals(pq.ParquetFile(tmp_path / "whole" / "requests.parquet").schema_arrow)
    assert verify(tmp_path / "one").same
    assert verify(tmp_path / "whole").same  # other row groups, the same rows


def test_a_changed_cell_of_a_later_block_is_found(long, tmp_path):
    long(1000)
    run(scenario()).write(tmp_path / "run")
    path = tmp_path / "run" / "requests.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("energy_j")
    values = table["energy_j"].to_numpy().copy()
    values[2345] *= 2
    pq.write_table(table.set_column(place, "energy_j", [values]), path)
    assert [where for where, _, _ in verify(tmp_path / "run").differences] == ["energy_j of request 2345"]


def test_temporary_files_lie_in_the_scratch_folder_and_have_no_name(long, tmp_path):
    long(1000)
    result = run(scenario(), scratch=tmp_path / "new")
    assert (tmp_path / "new").is_dir()
    assert not [*(tmp_path / "new").iterdir()]
    assert result.played.requests.finish_s[0] > 0  # and still are there


def test_a_full_disk_is_one_line(long, monkeypatch, tmp_path):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

        def write(self, _):
            raise OSError(28, "No space left on device")

    short = generate(scenario().generator, 0)
    long(1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    for trace in (None, short):  # the trace's columns, or those of the run
        with pytest.raises(OutputError, match=r"temporary files \(No space left on device\); free some space"):
            run(scenario(), scratch=tmp_path, trace=trace)


def test_a_scratch_folder_that_cannot_be_made_is_one_line(long, tmp_path):
    (tmp_path / "file").write_text("")
    long(1000)
    with pytest.raises(OutputError, match="cannot hold the run's temporary files"):
        run(scenario(), scratch=tmp_path / "file")


INTERRUPTED = """
import signal, sys
from sim import columns
from sim.engine import loop, past

columns.BLOCK, past.LET_GO_BYTES, loop.LOOK_EVERY = 1000, 4096, 100
let_go, looks = past.Past.let_go, iter(range(100))


def let_go_and_stop(self):
    let_go(self)
    if next(looks) == 20:
        signal.raise_signal(signal.SIGINT)


past.Past.let_go = let_go_and_stop
from carbonfleet.cli import simulate_main

simulate_main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_leaves_a_readable_partial_run(tmp_path):
    spec = tmp_path / "scenario.yaml"
    spec.write_text(scenario().model_dump_json(exclude_none=True))
    command = [sys.executable, "-c", INTERRUPTED, str(spec), "--json", "-q", "-o", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, check=False)
    assert done.returncode == 130, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["partial"]
    assert 0 < summary["requests"]["completed"] < summary["requests"]["total"]
    assert max(summary["balance"].values()) < 1e-12
    assert pq.ParquetFile(tmp_path / "run" / "requests.parquet").metadata.num_rows == summary["requests"]["total"]
    assert {path.suffix for path in (tmp_path / "run").iterdir()} <= {".yaml", ".json", ".parquet", ".html"}


LENGTHS = {
    "prompt": {"distribution": "lognormal", "p50_tokens": 300, "p90_tokens": 2000},
    "output": {"distribution": "quantiles", "levels": (0, 0.5, 1), "tokens": (1, 100, 900)},
}


@pytest.mark.parametrize("block", [1, 7, 1000, 2999])
@pytest.mark.parametrize(
    "changes",
    [{}, {"process": "gamma", "cv": 4.0, "lengths": LENGTHS}, {"process": "uniform"}, {"shape": "weekly"}, {"like": 1}],
)
def test_a_long_trace_is_generated_as_a_short_one(monkeypatch, block, changes):
    like = generate(GeneratorSpec(duration_s=100, rate_per_s=5), 3) if "like" in changes else None
    spec = GeneratorSpec(duration_s=600, rate_per_s=5, **{k: v for k, v in changes.items() if k != "like"})
    whole = generate(spec, 1, like=like)
    monkeypatch.setattr(columns, "BLOCK", block)
    parts = generate(spec, 1, like=like)
    assert bool(parts.maps) == (parts.requests > block)
    assert not whole.maps
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("stamps", [False, True])
def test_a_long_file_is_read_as_a_short_one(monkeypatch, tmp_path, block, stamps):
    path = tmp_path / "trace.csv"
    write_trace(generate(GeneratorSpec(duration_s=300, rate_per_s=5), 1), path)
    if stamps:
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        lines = [f"2023-11-16 18:{int(float(t)) // 60:02d}:{float(t) % 60:09.6f},{p},{o}" for t, p, o in rows]
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n")
    whole = read_trace(path)
    monkeypatch.setattr(columns, "BLOCK", block)
    parts = read_trace(path, scratch=tmp_path)
    assert parts.maps
    assert parts.start_utc_s == whole.start_utc_s
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    write_trace(parts, tmp_path / "again.csv")
    np.testing.assert_array_equal(read_trace(tmp_path / "again.csv").arrival_s, whole.arrival_s)


values = st.lists(
    st.floats(0, 1e6, allow_nan=False).map(lambda x: round(x, 1)) | st.sampled_from([0.0, 1.0]), min_size=1
)


@settings(deadline=None)
@given(values=values, block=st.integers(1, 9), shares=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_of_blocks_are_numpys(values, block, shares):
    parts = [np.array(values[k : k + block]) for k in range(0, len(values), block)]
    for most in (1, 1 << 18):  # with pivots, and at once
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(columns, "BLOCK", most)
            patch.setattr(quantiles, "_ONE_IN", 2)
            found = quantiles.quantiles(lambda: parts, len(values), shares)
        assert found == np.quantile(values, shares).tolist()


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=60), data=st.data())
def test_weighted_ranks_of_blocks(rows, data):
    written = sorted(float(value) for value, weight in rows for _ in range(weight))
    rank = data.draw(st.floats(0.01, len(written)))
    parts = [np.array(rows[k : k + 7], float).T for k in range(0, len(rows), 7)]
    for most in (1, 1 << 18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(columns, "BLOCK", most)
            patch.setattr(quantiles, "_ONE_IN", 2)
            (found,) = quantiles.at_ranks(lambda: parts, len(rows), [rank], len(written))
        assert found == written[int(np.ceil(rank)) - 1]


def test_a_shelf_in_files_keeps_what_it_lets_go(monkeypatch, tmp_path):
    monkeypatch.setattr(columns, "BLOCK", 10)
    shelf = Shelf(1000, tmp_path)
    times, counts = shelf.column("d", np.nan), shelf.column("i")
    assert np.isnan(np.asarray(times)).all()
    for part in shelf.rows():
        np.asarray(times)[part] = np.arange(part.start, part.stop)
        counts[part.start] = part.start
    assert np.asarray(times).tolist() == [float(k) for k in range(1000)]
    assert sum(counts) == sum(range(0, 1000, 10))


def test_a_spool_gives_back_its_rows_in_order(monkeypatch, tmp_path):
    monkeypatch.setattr(columns, "BLOCK", 8)
    spool = Spool("d", 2, tmp_path)
    rows = np.arange(60.0).reshape(-1, 2)
    for k in range(0, 30, 3):
        spool.append(rows[k : k + 3])
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([*spool.blocks()]), rows)
    assert spool.size == 30


def test_a_long_fleets_heap_stays_short_and_right():
    size, rng = LeastLoaded.SCAN + 10, np.random.default_rng(0)
    index, load = LeastLoaded(range(size)), [0] * size
    for _ in range(5000):
        number = index.least()
        assert number == load.index(min(load))
        tokens = int(rng.integers(1, 1000))
        index.add(number, tokens)
        load[number] += tokens
        busy = int(rng.integers(size))
        index.take(busy, load[busy] // 2)
        load[busy] -= load[busy] // 2
        assert len(index._heap) <= LeastLoaded.STALE * size + 3
