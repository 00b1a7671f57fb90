"""The checked door: one line for every refusal, and nothing but refusals for broken files."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles import inputs, outputs
from profiles.grid.readers import read_series
from profiles.inputs import CarbonfleetError, InputError, near_miss, read_json, read_text, read_yaml
from profiles.profile import load, shipped_folder
from sim import scenario
from sim.trace import read_trace

GOOD_YAML = """trace: t.csv
sites:
  - {name: s, grid: "100"}
pools:
  - {name: p, site: s, gpu: l4, model: llama-3.1-8b, instances: 1}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", ":2: not YAML (a is given twice)"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("- 1\n", "mapping"),
        ("", "empty"),
        ("a: [1\n", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("? [1, 2]\n: 3\n", "a key must be a word"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(tmp_path, text, told):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml(file)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("trace:", "trece:"), ":1: trece: unknown key; did you mean trace"),
        (("gpu: l4", "gpv: l4"), ":5: pools.0.gpv: unknown key; did you mean gpu"),
        (("instances: 1", "instances: 0"), ":5: pools.0.instances"),
        (("site: s,", "site: z,"), "unknown site z"),
        (("instances: 1", "instances: one"), ":5: pools.0.instances"),
        (('grid: "100"', "grid: 100"), None),
    ],
)
def test_a_scenario_names_line_and_field(tmp_path, change, told):
    file = tmp_path / "s.yaml"
    file.write_text(GOOD_YAML.replace(*change))
    if told is None:
        assert scenario.read(file).sites[0].grid == "100"
        return
    with pytest.raises(InputError) as caught:
        scenario.read(file)
    assert told in str(caught.value)


def test_json_without_numbers_that_are_none(tmp_path):
    file = tmp_path / "x.json"
    for text, told in (("{,}", ":1: not JSON"), ('{"a": NaN}', "NaN"), ("[" * 100_000, "nested")):
        file.write_text(text)
        with pytest.raises(InputError, match=told):
            read_json(file)


def test_packed_text_is_unpacked_and_a_cut_one_refused(tmp_path):
    import pyarrow as pa

    plain = "héllo\n" * 1000
    packed = gzip.compress(plain.encode(), mtime=0)
    (tmp_path / "a.gz").write_bytes(packed)
    (tmp_path / "b.zst").write_bytes(pa.compress(plain.encode(), codec="zstd", asbytes=True))
    (tmp_path / "c.gz").write_bytes(packed[:-12])
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00x")
    assert read_text(tmp_path / "a.gz") == read_text(tmp_path / "b.zst") == plain
    for name in ("c.gz", "d.txt", "missing", "."):
        with pytest.raises(InputError):
            read_text(tmp_path / name)


def test_near_misses():
    assert near_miss("h100-sxm-80", ["h100-sxm-80gb", "t4"]).startswith("did you mean h100-sxm-80gb")
    assert near_miss("zzz", ["a", "b"]) == "known: a, b"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, code):
    target = tmp_path / "out.json"
    outputs.write_json(target, {"a": 1})
    before = target.read_text()

    def broken(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(outputs.os, "replace", broken)
    with pytest.raises(outputs.OutputError, match=r"out\.json"):
        outputs.write_json(target, {"a": 2})
    assert target.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def stopped(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outputs.write_with(tmp_path / "x", stopped)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_none_become_null():
    assert json.loads(outputs.dumps({"a": float("nan"), "b": [float("inf"), 1.5]})) == {"a": None, "b": [None, 1.5]}


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{46 + k}.6805900,{100 + k},{5 + k}\n" for k in range(6)
)
MOONCAKE = "".join(
    json.dumps({"timestamp": k, "input_length": 9, "output_length": 3, "hash_ids": [k]}) + "\n" for k in range(5)
)
SERIES = "datetime_utc,carbon_intensity_lca_gco2eq_per_kwh\n" + "".join(
    f"2022-01-01T{k:02}:00:00Z,{20 + k}.5\n" for k in range(6)
)


READERS = {
    "azure": (read_trace, AZURE),
    "mooncake": (read_trace, MOONCAKE),
    "series": (read_series, SERIES),
    "scenario": (scenario.read, GOOD_YAML),
    "profile": (load, next(iter(sorted(shipped_folder().glob("*.json")))).read_text(encoding="utf-8")),
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(READERS)),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "put"]), st.binary(min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_a_mutated_file_is_read_or_refused(tmp_path, name, edits):
    reader, text = READERS[name]
    raw = bytearray(text.encode())
    for where, how, what in edits:
        at = int(where * len(raw))
        if how == "put":
            raw[at:at] = what
        else:
            raw[at : at + len(what)] = what if how == "flip" else b""
    file = tmp_path / "mutated"
    file.write_bytes(bytes(raw))
    said = "fine"
    try:
        reader(file)
    except CarbonfleetError as error:
        said = str(error)
    assert said
    assert "\n" not in said


def test_the_good_files_are_read(tmp_path):
    for name, (reader, text) in READERS.items():
        file = tmp_path / name
        file.write_text(text)
        reader(file)
    assert inputs.sha256(tmp_path / "azure")
