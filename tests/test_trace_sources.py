"""Traces from logs, documents and counters; scaled, repeated and shaped; a generator fitted; all of it mutated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.inputs import InputError
from sim.trace import Trace, read_trace
from sim.trace.change import repeated, scaled, shaped
from sim.trace.fit import fit
from sim.trace.modelled import prometheus, sharegpt
from sim.trace.shape import HOURLY_FACTORS

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
BURST += "45,ChatGPT,1087,0,1087,API log\n118,GPT-4,417,276,693,Conversation log\n"
LITELLM = [
    {"request_id": "a", "startTime": "2024-05-01T12:00:00.250000+00:00", "prompt_tokens": 10, "completion_tokens": 5},
    {"request_id": "b", "startTime": "2024-05-01T12:00:01", "prompt_tokens": 20, "completion_tokens": 0},
    {"request_id": "c", "startTime": "2024-05-01T14:00:02+02:00", "prompt_tokens": 30, "completion_tokens": 7},
]
VLLM = {"date": "x", "start_times": [100.5, 101.0], "input_lens": [10, 20], "output_lens": [3, 4]}


def span(start: str, tokens: tuple[str, str] | None) -> dict[str, Any]:
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    usage = [{"key": k, "value": {"intValue": v}} for k, v in zip(names, tokens or (), strict=False)]
    return {"startTimeUnixNano": start, "attributes": [{"key": "x", "value": {"stringValue": "y"}}, *usage]}


OTLP = {"resourceSpans": [{"scopeSpans": [{"spans": [
    span("1700000002000000000", ("7", "8")), span("1700000001000000000", ("5", "6")), span("1", None)]}]}]}  # fmt: skip
SHAREGPT = [{"id": "1", "conversations": [{"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "y" * 8},
             {"from": "human", "value": "z" * 4}, {"from": "gpt", "value": "w" * 9}]}]  # fmt: skip


def counter(name: str, values: list[float], **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, **labels}, "values": [[60 * k, str(v)] for k, v in enumerate(values)]}


PROM = {"data": {"resultType": "matrix", "result": [
    counter("vllm:request_success_total", [0, 100, 400]),
    counter("vllm:request_prompt_tokens_bucket", [0, 0, 100], le="100"),
    counter("vllm:request_prompt_tokens_bucket", [0, 0, 400], le="200"),
    counter("vllm:request_prompt_tokens_bucket", [0, 0, 400], le="+Inf"),
    counter("vllm:request_generation_tokens_bucket", [0, 0, 400], le="50")]}}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def put(content: Any, name: str = "x.dat") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


def test_burstgpt_leaves_failed_calls_out_and_says_so(file):
    trace = read_trace(file(BURST))
    assert trace.format == "BurstGPT"
    assert trace.arrival_s.tolist() == [0, 113]
    assert trace.output_tokens.tolist() == [18, 276]
    assert "1 calls that failed" in trace.notes[0]
    assert trace.skipped_rows == 0


def test_a_bad_row_behind_failed_calls_keeps_its_line(file):
    with pytest.raises(InputError, match=r"x\.dat:5: Timestamp: earlier"):
        read_trace(file(BURST + "7,GPT-4,1,1,2,API log\n"))


@pytest.mark.parametrize("form", ["list", "lines", "csv"])
def test_litellm_in_three_forms(file, form):
    text: Any = LITELLM
    if form == "lines":
        text = "\n".join(map(json.dumps, LITELLM))
    elif form == "csv":
        text = "request_id,startTime,prompt_tokens,completion_tokens\n"
        for row in LITELLM:
            stamp = str(row["startTime"]).replace("+00:00", "").replace("+02:00", "").replace("T14:", "T12:")
            text += f"{row['request_id']},{stamp},{row['prompt_tokens']},{row['completion_tokens']}\n"
    trace = read_trace(file(text))
    assert trace.format == "LiteLLM spend log"
    assert trace.arrival_s.tolist() == [0, 1.75]
    assert trace.prompt_tokens.tolist() == [10, 30]
    assert trace.start_utc_s == 1714564800.25
    assert any("1 calls that failed" in note for note in trace.notes)


def test_a_year_beyond_the_clock_is_refused(file):
    for text in (json.dumps(LITELLM), "\n".join(map(json.dumps, LITELLM))):
        with pytest.raises(InputError, match="8024"):
            read_trace(file(text.replace("2024-05-01T14", "8024-05-01T14")))


def test_opentelemetry_spans_are_sorted_and_others_passed_over(file):
    for text in (OTLP, json.dumps(OTLP) + "\n" + json.dumps(OTLP).replace("17000000", "17000001")):
        trace = read_trace(file(text))
        assert trace.prompt_tokens.tolist()[:2] == [5, 7]
        assert trace.arrival_s.tolist()[:2] == [0, 1]
        assert trace.start_utc_s == 1700000001


def test_vllm_benchmark_results(file):
    assert read_trace(file(VLLM)).arrival_s.tolist() == [0, 0.5]
    with pytest.raises(InputError, match="has no start_times"):
        read_trace(file({k: v for k, v in VLLM.items() if k != "start_times"}))
    with pytest.raises(InputError, match="differ in length"):
        read_trace(file(VLLM | {"input_lens": [1]}))
    with pytest.raises(InputError, match=r"item 2: '-4' is no output tokens"):
        read_trace(file(VLLM | {"output_lens": [3, -4]}))


def test_sharegpt_is_modelled_and_says_so(file):
    trace = sharegpt(file(SHAREGPT), 2.0, 4.0, 0)
    assert trace.prompt_tokens.tolist() == [10, 13]  # all that was said before
    assert trace.output_tokens.tolist() == [2, 3]
    assert all("modelled" in note for note in trace.notes)
    with pytest.raises(InputError, match="trace import sharegpt"):
        read_trace(file(SHAREGPT))


def test_prometheus_counters(file):
    trace = prometheus(file(PROM), 0)
    assert trace.requests == 400
    absolute = trace.arrival_s + trace.start_utc_s
    assert np.histogram(absolute, [0, 60, 120])[0].tolist() == [100, 300]
    short = (trace.prompt_tokens <= 100).mean()
    assert short == pytest.approx(0.25, abs=0.08)
    assert trace.prompt_tokens.max() <= 200
    assert trace.output_tokens.max() <= 50
    again = json.loads(json.dumps(PROM).replace('"400"', '"60"'))  # a counter that began anew: 60 more, not -40
    assert prometheus(file(again), 0).requests == 160
    with pytest.raises(InputError, match="lacks vllm:request_success_total"):
        prometheus(file({"data": {"resultType": "matrix", "result": PROM["data"]["result"][1:]}}), 0)


def trace_of(times: list[float], **more: Any) -> Trace:
    return Trace("t", np.array(times), np.full(len(times), 5), np.full(len(times), 6), **more)


def test_scaled_and_repeated():
    assert scaled(trace_of([0, 10]), 2.0).arrival_s.tolist() == [0, 5]
    ids = {"hash_ids": np.array([1, 2, 1]), "hash_offsets": np.array([0, 2, 3])}
    twice = repeated(trace_of([0, 10], **ids), 2)
    assert twice.arrival_s.tolist() == [0, 10, 20, 30]
    assert twice.hash_ids is not None
    assert twice.hash_ids.tolist() == [1, 2, 1, 4, 5, 4]  # no block of one copy is found in the other
    assert twice.hash_offsets.tolist() == [0, 2, 3, 5, 6]
    with pytest.raises(InputError, match="at most"):
        repeated(trace_of([0, 10]), 10**9)


def test_shaped_follows_the_shape_and_keeps_the_mean():
    hourly = trace_of((np.arange(7 * 24 * 60) * 60.0).tolist())
    day = shaped(hourly, "diurnal", 0.0)
    counts = np.bincount((day.arrival_s // 3600).astype(int))[: 6 * 24].reshape(6, 24).mean(axis=0)
    assert counts / 60 == pytest.approx(np.array(HOURLY_FACTORS), abs=0.03)
    assert day.span_s == pytest.approx(hourly.span_s, rel=0.01)
    late = shaped(hourly, "diurnal", 14.0)
    assert np.sum(late.arrival_s < 3600) == pytest.approx(90, abs=2)  # 14 h is the busiest: half as much again
    weekly = shaped(hourly, "weekly", 0.0)
    days = np.bincount((weekly.arrival_s // 86400).astype(int))[:7] / 1440
    assert days[5] == pytest.approx(0.7, abs=0.02)
    assert days[0] == pytest.approx(1.12, abs=0.02)


def test_a_generator_is_found_again():
    from sim.trace import GeneratorSpec, generate

    truth = GeneratorSpec(duration_s=20_000, rate_per_s=2.0, process="gamma", cv=2.0, lengths="azure-conv")
    spec, errors = fit(generate(truth, 3))
    assert spec.rate_per_s == pytest.approx(2.0, rel=0.05)
    assert spec.cv == pytest.approx(2.0, rel=0.05)
    assert abs(errors["mean prompt tokens"]) < 0.1
    with pytest.raises(InputError, match="too short"):
        fit(trace_of([0, 1]))


GOOD = [BURST, "\n".join(map(json.dumps, LITELLM)), *map(json.dumps, (LITELLM, VLLM, OTLP, SHAREGPT, PROM))]
JUNK = [b"-", b"nan", b"1e400", b"null", b"[]", b"{}", b'"', b"\n", b",", b"\xff", b"99999999999999999999", b"0", b".5"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from(GOOD),
    at=st.floats(0, 1),
    cut=st.integers(0, 12),
    put=st.one_of(st.binary(max_size=6), st.sampled_from(JUNK)),
)
def test_no_mutation_gets_through_as_nonsense(tmp_path, text, at, cut, put):
    raw = text.encode()
    place = int(at * len(raw))
    path = tmp_path / "x.dat"
    path.write_bytes(raw[:place] + put + raw[place + cut :])
    for read in (read_trace, lambda p: sharegpt(p, 1.0, 4.0, 0), lambda p: prometheus(p, 0)):
        try:
            trace = read(path)
        except InputError as error:
            one_line = "\n" not in str(error)
        else:
            one_line = True
            tokens = np.concatenate([trace.prompt_tokens, trace.output_tokens])
            assert ((tokens >= 1) & (tokens <= 10_000_000)).all()
            assert np.isfinite(trace.arrival_s).all()
            assert (np.diff(trace.arrival_s) >= 0).all()
        assert one_line
