"""Reading traces: known answers, every kind of bad row, and mutations that may never end in a traceback."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.inputs import CarbonfleetError, InputError
from sim.trace import Trace, read_trace, write_trace

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
OWN = "arrival_s,prompt_tokens,output_tokens\n"
MOON = '{"timestamp": %s, "input_length": %s, "output_length": %s, "hash_ids": %s}\n'


def _file(folder: Path, text: str | bytes, name: str = "trace.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _shared(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} of the shared data is not here")
    return path


def _message(folder: Path, text: str | bytes, **options: int | bool) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(_file(folder, text), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert "trace.txt" in message
    assert caught.value.mend
    return message


@pytest.mark.parametrize(
    ("name", "requests", "prompt", "output", "span_s"),
    [
        ("traces/azure_2023_conv.csv", 19_366, 22_361_870, 4_088_665, 3501.721937),
        ("traces/azure_2023_code.csv", 8_819, 18_059_974, 245_896, 3435.948056),
        ("traces/mooncake_conversation.jsonl", 12_031, 144_793_823, 4_122_048, 3536.999),
        ("oracles/splitwise-sim/conv.splitwise.csv", 19_366, 22_361_870, 4_088_665, 3501.721936),
    ],
)
def test_public_traces_read_whole(name: str, requests: int, prompt: int, output: int, span_s: float) -> None:
    trace = read_trace(_shared(name))
    assert (trace.requests, trace.prompt_total, trace.output_total) == (requests, prompt, output)
    assert trace.span_s == pytest.approx(span_s, abs=2e-6)
    assert trace.skipped_rows == 0


def test_mooncake_blocks_are_kept() -> None:
    trace = read_trace(_shared("traces/mooncake_conversation.jsonl"))
    assert trace.hash_ids is not None
    assert trace.hash_offsets is not None
    assert trace.hash_ids[: trace.hash_offsets[1]].tolist() == list(range(14))
    assert np.array_equal(np.diff(trace.hash_offsets), -(-trace.prompt_tokens // 512))  # blocks of 512 tokens


def test_azure_seven_digits_are_exact_and_utc(tmp_path: Path) -> None:
    rows = "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n"
    trace = read_trace(_file(tmp_path, AZURE.replace("\n", "\r\n") + rows))
    assert trace.arrival_s.tolist() == [0.0, 4.314579]
    assert trace.start_utc_s == 1700158546.68059
    assert any("UTC" in note for note in trace.notes)
    assert trace.format == "Azure LLM inference trace"


def test_azure_2024_offsets(tmp_path: Path) -> None:
    text = AZURE + "2024-05-10 00:00:00.5+00:00,1,2\n2024-05-10 02:00:01+02:00,3,4\n2024-05-10T00:00:01.250Z,5,6\n"
    trace = read_trace(_file(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 0.5, 0.75]
    assert trace.start_utc_s == 1715299200.5
    assert trace.notes == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (OWN + "5.5,10,1\n5.5,20,2\n7,30,3\n", "carbonfleet"),
        ("num_decode_tokens,arrived_at,num_prefill_tokens\n1,5.5,10\n2,5.5,20\n3,7,30\n", "Vidur"),
        (
            "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
            "0,2,0,.5,1,10,1\n1,2,0,5e-1,1,20,2\n2,2,0,2.,1,30,3",
            "splitwise-sim",
        ),
        ("".join(MOON % row for row in ((500, 10, 1, [7]), (500.0, 20, 2, []), (2000, 30, 3, [7, 8]))), "Mooncake"),
    ],
)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst", "bom"])
def test_every_format_by_content(tmp_path: Path, text: str, name: str, packing: str) -> None:
    raw = text.encode()
    if packing == ".gz":
        raw = gzip.compress(raw)
    elif packing == ".zst":
        raw = pa.compress(raw, codec="zstd", asbytes=True)
    elif packing == "bom":
        raw, packing = b"\xef\xbb\xbf" + raw, ""
    trace = read_trace(_file(tmp_path, raw, "misleading.parquet" + packing))
    assert trace.format == name
    assert trace.arrival_s.tolist() == [0.0, 0.0, 1.5]
    assert trace.prompt_tokens.tolist() == [10, 20, 30]
    assert trace.output_tokens.tolist() == [1, 2, 3]
    assert trace.start_utc_s is None


@pytest.mark.parametrize(
    ("bad", "column", "says"),
    [
        ("1.0,x,5", "prompt_tokens", "'x' is not a whole number"),
        ("1.0,12.0,5", "prompt_tokens", "'12.0' is not a whole number"),
        ("1.0, 12,5", "prompt_tokens", "' 12' is not a whole number"),
        ("1.0,012,5", "prompt_tokens", "'012' is not a whole number"),
        ("1.0,+12,5", "prompt_tokens", "'+12' is not a whole number"),
        ("1.0,0x10,5", "prompt_tokens", "'0x10' is not a whole number"),
        ("1.0,-3,5", "prompt_tokens", "'-3' is negative"),
        ("1.0,0,5", "prompt_tokens", "is 0"),
        ("1.0,10000001,5", "prompt_tokens", "more than 10,000,000 tokens"),
        ("1.0,99999999999999999999,5", "prompt_tokens", "more than 10,000,000 tokens"),
        ("1.0,7,0", "output_tokens", "is 0"),
        ("1.0,7,", "output_tokens", "is empty"),
        ("1.0,7,nan", "output_tokens", "'nan' is not a whole number"),
        ("1.0,7,\xff", "output_tokens", "is not a whole number"),
        ('1.0,7,"5', "output_tokens", "is not a whole number"),
        ("nan,7,5", "arrival_s", "'nan' is not a time in seconds"),
        ("-1,7,5", "arrival_s", "'-1' is not a time in seconds"),
        ("1e400,7,5", "arrival_s", "'1e400' is not a time in seconds"),
        ("1700000000000,7,5", "arrival_s", "not a time in seconds"),
        ("inf,7,5", "arrival_s", "not a time in seconds"),
        (",7,5", "arrival_s", "is empty"),
        ("", "", "a blank line"),
        ("1.0,7", "", "2 columns where the header has 3"),
        ("1.0,7,5,9", "", "4 columns where the header has 3"),
    ],
)
def test_a_bad_row_is_named_and_may_be_allowed(tmp_path: Path, bad: str, column: str, says: str) -> None:
    good = ["0.5,10,1"] * 3
    text = (OWN + "\n".join([*good, bad, "1.5,20,2", "2.5,30,3"]) + "\n").encode("latin-1")
    message = _message(tmp_path, text)
    assert f"trace.txt:5: {column}" in message
    assert says in message
    assert "allow_bad_rows" in message
    trace = read_trace(tmp_path / "trace.txt", allow_bad_rows=1)
    assert trace.skipped_rows == 1
    assert trace.prompt_tokens.tolist() == [10, 10, 10, 20, 30]
    assert trace.arrival_s.tolist() == [0, 0, 0, 1, 2]
    assert any("1 bad rows" in note for note in trace.notes)


def test_one_bad_row_too_many_is_the_one_named(tmp_path: Path) -> None:
    text = OWN + "0,1,1\n0,x,1\n0,1\n\n0,1,0\n0,2,2\n"
    assert "trace.txt:6: output_tokens: is 0 (and 3 allowed bad rows before it)" in _message(
        tmp_path, text, allow_bad_rows=3
    )
    assert "trace.txt:4: 2 columns" in _message(tmp_path, text, allow_bad_rows=1)
    assert read_trace(tmp_path / "trace.txt", allow_bad_rows=4).skipped_rows == 4


def test_blank_lines_at_the_end_are_harmless(tmp_path: Path) -> None:
    assert read_trace(_file(tmp_path, OWN + "0,1,1\n1,1,1\n\n\n")).skipped_rows == 0
    moon = _file(tmp_path, MOON % (0, 1, 1, []) + "\n\n", "m")
    assert read_trace(moon).requests == 1


def test_lines_are_counted_right_far_into_a_file(tmp_path: Path) -> None:
    rows = [f"{i / 8},{i + 1},7" for i in range(200_000)]  # several blocks of pyarrow
    rows[60_000] = "1,2"
    rows[150_000] = "18750,1_000,7"
    text = OWN + "\n".join(rows) + "\n"
    assert "trace.txt:60002: 2 columns" in _message(tmp_path, text)
    assert "trace.txt:150002: prompt_tokens: '1_000'" in _message(tmp_path, text, allow_bad_rows=1)
    trace = read_trace(tmp_path / "trace.txt", allow_bad_rows=2)
    assert trace.requests == 199_998
    assert trace.prompt_tokens[60_000] == 60_002


@pytest.mark.parametrize(
    ("stamp", "says"),
    [
        ("2023-02-30 00:00:00", "is not a date and time"),
        ("2023-11-17", "is not a date and time"),
        ("2023-11-17 00:00:00.1234567890", "is not a date and time"),
        ("2400-01-01 00:00:00", "is not a date and time"),
        ("2023-11-17 00:00:00+00:00", "has a UTC offset where the first row has none"),
        ("", "is empty"),
    ],
)
def test_bad_stamps(tmp_path: Path, stamp: str, says: str) -> None:
    text = f"{AZURE}2023-11-16 00:00:00,1,2\n{stamp},3,4\n2023-11-18 00:00:00,5,6\n"
    message = _message(tmp_path, text)
    assert "trace.txt:3: TIMESTAMP" in message
    assert says in message
    assert read_trace(tmp_path / "trace.txt", allow_bad_rows=1).arrival_s.tolist() == [0, 172800]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"timestamp": 1, "input_length": 5', "not JSON"),
        ('{"timestamp": 1, "input_length": "5", "output_length": 1, "hash_ids": []}', "is not a whole number"),
        ('{"timestamp": 1, "input_length": 5.0, "output_length": 1, "hash_ids": []}', "is not a whole number"),
        ('{"timestamp": 1, "input_length": true, "output_length": 1, "hash_ids": []}', "is not a whole number"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 0, "hash_ids": []}', "is 0"),
        ('{"timestamp": 1, "input_length": 5, "output_length": null, "hash_ids": []}', "is not a whole number"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 1, "hash_ids": []}', "NaN is not a number"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 1, "hash_ids": []}', "is not a time in milliseconds"),
        ('{"timestamp": 1, "input_length": 5, "hash_ids": []}', "output_length: is missing"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1}', "hash_ids: is missing"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [1.5]}', "is not a list of whole"),
        ('{"timestamp": 1, "timestamp": 2, "input_length": 5, "output_length": 1}', "'timestamp' is given twice"),
        ('{"timestamp": 1, "input_length": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ("", "a blank line"),
    ],
)
def test_bad_json_rows(tmp_path: Path, line: str, says: str) -> None:
    text = MOON % (0, 1, 2, [3]) + line + "\n" + MOON % (1000, 4, 5, [3, 6])
    message = _message(tmp_path, text)
    assert "trace.txt:2: " in message
    assert says in message
    trace = read_trace(tmp_path / "trace.txt", allow_bad_rows=1)
    assert trace.hash_ids is not None
    assert trace.hash_ids.tolist() == [3, 3, 6]
    assert trace.arrival_s.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("  \n\n", "the file is empty"),
        (OWN, "a header and no request"),
        (OWN.strip(), "a header and no request"),
        (OWN + "\n\n", "a header and no request"),
        ("a,b,c\n1,2,3\n", "unknown trace format (it begins 'a,b,c'); known: Azure"),
        ("\n" + OWN + "0,1,1\n", "a blank line"),
        ("TIMESTAMP,ContextTokens\n1,2\n", "GeneratedTokens is missing"),
        ('{"timestamp": 0}\n', "input_length is missing"),
        ('{"a": 0}\n', "unknown trace format"),
        ("{\n", "not JSON"),
        ("arrival_s,prompt_tokens,output_tokens,prompt_tokens\n0,1,1,1\n", "'prompt_tokens' stands twice"),
        (
            "arrival_s,prompt_tokens,output_tokens,arrived_at,num_prefill_tokens,num_decode_tokens\n",
            "Vidur and of carb",
        ),
        (b"\x00\x01\x02" * 1000, "unknown trace format"),
        (gzip.compress(b"x", mtime=0), "is packed with gz"),
        (b"PAR1" + b"\x00" * 50, "is a parquet file"),
    ],
)
def test_files_that_are_no_trace(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in _message(tmp_path, text)


def test_a_batch_of_two_is_refused(tmp_path: Path) -> None:
    text = "arrival_timestamp,batch_size,prompt_size,token_size\n0,2,10,10\n"
    assert "trace.txt:2: batch_size: '2' is not 1" in _message(tmp_path, text)


def test_missing_file_and_cut_gzip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_trace(tmp_path / "none.csv")
    whole = gzip.compress((OWN + "0,1,1\n" * 300_000).encode(), mtime=0)
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(_file(tmp_path, whole[: len(whole) // 2], "cut.csv.gz"))
    with pytest.raises(InputError, match="0 or more"):
        read_trace(tmp_path / "cut.csv.gz", allow_bad_rows=-1)


def test_order_of_time(tmp_path: Path) -> None:
    message = _message(tmp_path, OWN + "2,1,1\n3,2,1\n1,3,1\n2,4,1\n")
    assert "trace.txt:4: arrival_s: earlier than the row before it" in message
    trace = read_trace(tmp_path / "trace.txt", sort=True)
    assert trace.prompt_tokens.tolist() == [3, 1, 4, 2]  # equal times keep the file's order
    assert trace.arrival_s.tolist() == [0, 1, 1, 2]
    moon = _file(tmp_path, MOON % (9, 1, 1, [5, 6]) + MOON % (3, 2, 1, [7]), "m")
    sorted_ = read_trace(moon, sort=True)
    assert sorted_.hash_ids is not None
    assert sorted_.hash_offsets is not None
    assert sorted_.hash_ids.tolist() == [7, 5, 6]
    assert sorted_.hash_offsets.tolist() == [0, 1, 3]


def test_unused_columns_are_said(tmp_path: Path) -> None:
    trace = read_trace(_file(tmp_path, "arrival_s,prompt_tokens,output_tokens,images\n0,1,1,x\n"))
    assert trace.notes == ("columns of the trace that are not used: images",)


def test_head_slice_and_read_only() -> None:
    ids, offsets = np.array([1, 2, 3, 4]), np.array([0, 1, 1, 3, 4])
    trace = Trace("t", np.array([0.0, 1, 1, 4]), np.arange(1, 5), np.ones(4), 100.0, hash_ids=ids, hash_offsets=offsets)
    part = trace.slice(1.0, 4.5)
    assert part.arrival_s.tolist() == [0, 0, 3]
    assert part.start_utc_s == 101.0
    assert part.hash_ids is not None
    assert part.hash_offsets is not None
    assert (part.hash_ids.tolist(), part.hash_offsets.tolist()) == ([2, 3, 4], [0, 0, 2, 3])
    assert trace.head(2).prompt_tokens.tolist() == [1, 2]
    assert trace.head(99).requests == 4
    assert trace.slice(1.0, 4.0).requests == 2
    with pytest.raises(InputError, match="no requests"):
        trace.slice(2, 3)
    with pytest.raises(InputError, match="no requests"):
        trace.head(0)
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 1.0
    with pytest.raises(InputError, match="ascend from 0"):
        Trace("t", np.array([0.0, 2, 1]), np.ones(3), np.ones(3))
    assert "4 requests in 4 s, 10 prompt and 4 output tokens, from 1970-01-01T00:01:40Z" in trace.summary()


@given(
    gaps=st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    tokens=st.integers(1, 10_000_000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_writing_and_reading_give_the_same_trace(tmp_path: Path, gaps: list[float], tokens: int) -> None:
    arrival_s = np.cumsum([0.0, *gaps])
    trace = Trace("t", arrival_s, np.full(len(arrival_s), tokens), np.arange(1, len(arrival_s) + 1))
    back = read_trace(write_trace(trace, tmp_path / "out.csv"))
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(back, name), getattr(trace, name))


_SEEDS = (
    AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
    OWN + "0,12,3\n1.5,7,8\n",
    MOON % (0, 5, 6, [1, 2]) + MOON % (27, 5, 6, [1, 3]),
)


def _outcome(path: Path, allowed: int) -> tuple[Trace | None, str]:
    try:
        return read_trace(path, allow_bad_rows=allowed), ""
    except CarbonfleetError as error:
        return None, str(error)


@given(
    seed=st.sampled_from(_SEEDS),
    edits=st.lists(
        st.tuples(
            st.integers(0, 120), st.binary(max_size=4) | st.sampled_from([b"\n", b'"', b",", b"\r", b"-", b"0x"])
        ),
        min_size=1,
        max_size=5,
    ),
    allowed=st.integers(0, 2),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_mutations_end_in_a_trace_or_in_one_line(
    tmp_path: Path, seed: str, edits: list[tuple[int, bytes]], allowed: int
) -> None:
    raw = seed.encode()
    for at, put in edits:
        raw = raw[:at] + put + raw[at + 1 :]
    trace, message = _outcome(_file(tmp_path, raw), allowed)
    if trace is None:
        assert "\n" not in message
        assert "trace.txt" in message
    else:
        assert trace.requests >= 1
        assert trace.skipped_rows <= allowed
