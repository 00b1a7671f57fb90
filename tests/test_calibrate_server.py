"""The openai runner and the load generator against a server of known physics, and against broken ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from calibrate.bench import kv_bytes_per_token, kv_capacity
from calibrate.client import Prompter, Server, ServerError
from calibrate.clock import RealClock
from calibrate.errors import BenchError
from calibrate.load import replay
from calibrate.meters import NullMeter
from calibrate.phases import Mix, separate
from calibrate.points import decode, prefill
from calibrate.sampler import Sampler
from calibrate.server_bench import ServerGrid, measure_server
from calibrate.serving import Pace, ServerBench
from profiles.catalog import llm
from profiles.profile import POWER_UNKNOWN, load, save
from profiles.step import StepModel
from sim import against
from sim.trace import read_trace
from tests.fake_server import IDLE_W, OUTPUT_J, PROMPT_J, SEQUENCE_S, STEP_S, TOKEN_S, ServerMeter, serving

GRID = ServerGrid((1, 4, 8), (64,), (32, 128), (4,), ((100, 1), (100, 8), (20, 20), (10, 40)))
PACE = Pace(1, 0.6, 1.2, 64, 3, 0.4)


def with_server(url: str, work: Any) -> Any:
    async def go() -> Any:
        server = Server(url)
        try:
            await server.open()
            prompter = Prompter(32000)
            await prompter.fit(server)
            return await work(server, prompter)
        finally:
            await server.close()

    return asyncio.run(go())


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    raw = tmp_path_factory.mktemp("raw") / "samples.parquet"
    with serving() as (url, fake):
        profile = measure_server(
            llm("llama-3.1-8b"),
            Server(url),
            ServerMeter(fake),
            raw=raw,
            engine="fake-1",
            kv_capacity_tokens=100_000,
            max_batch=8,
            max_chunk=256,
            grid=GRID,
            pace=PACE,
            date="2026-11-21",
        )
    return profile, raw


def test_a_known_server_is_found_again(calibrated: Any) -> None:
    """Real sockets and sleeps on a shared machine: within a third: its own oracle is only as punctual."""
    profile, raw = calibrated
    assert (profile.gpu, profile.engine, profile.layer) == ("h100-sxm-80gb", "fake-1", "step")
    assert (profile.provenance.kind, profile.provenance.tier) == ("measured", "T0")
    for batch, time_s in zip(profile.decode.batch, profile.decode.time_s, strict=True):
        assert time_s == pytest.approx(STEP_S + SEQUENCE_S * batch, rel=0.35)
    for new, time_s in zip(profile.prefill.new_tokens, profile.prefill.time_s, strict=True):
        assert time_s == pytest.approx(STEP_S + SEQUENCE_S + TOKEN_S * new, rel=0.35)
    assert profile.mixed.points is not None
    rows = profile.mixed.points
    for new, batch, time_s in zip(rows.new_tokens, rows.batch, rows.time_s, strict=True):
        assert time_s == pytest.approx(STEP_S + SEQUENCE_S * (batch + 1) + TOKEN_S * new, rel=0.4)
    samples = pq.read_table(raw)
    assert samples.num_rows > 50
    assert set(samples["point"].to_pylist()) >= {"prefill 1 x 32", "decode batch 8 context 64", "mixed 128 beside 4"}


def test_its_energy_is_told_apart_by_phase(calibrated: Any) -> None:
    profile, _ = calibrated
    assert profile.idle.loaded_w == pytest.approx(IDLE_W, rel=0.05)
    note = next(text for text in profile.provenance.notes if text.startswith("energy above idle"))
    prompt_j, output_j = float(note.split()[3]), float(note.split()[10])
    assert prompt_j == pytest.approx(PROMPT_J, rel=0.1)
    assert output_j == pytest.approx(OUTPUT_J, rel=0.1)
    big = profile.decode.batch.index(8)
    assert profile.decode.power_w[big] * profile.decode.time_s[big] == pytest.approx(
        8 * OUTPUT_J + IDLE_W * profile.decode.time_s[big], rel=0.15
    )


def test_the_profile_compiles_and_says_what_it_took_off(calibrated: Any, tmp_path: Path) -> None:
    profile, _ = calibrated
    model = StepModel(load(save(profile, tmp_path / "p.json")))
    assert model.decode_time_s(8, 64) > model.decode_time_s(1, 64)
    assert any("front door" in note for note in profile.provenance.notes)
    assert profile.memory.kv_capacity_tokens == 100_000


def test_without_a_meter_power_is_unknown_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "points.jsonl"
    asked: dict[str, Any] = {"engine": "fake-1", "kv_capacity_tokens": 9999, "max_batch": 4, "max_chunk": 64}
    asked |= {"grid": GRID, "pace": Pace(1, 0.2, 0.5, 32, 2, 0.1), "gpu": "l4", "checkpoint": checkpoint}
    with serving() as (url, _):

        def stop(step: Any) -> None:
            if step.done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure_server(llm("llama-3.1-8b"), Server(url), NullMeter(), progress=stop, **asked)
        kept = checkpoint.read_text().count('"point"')
        assert kept == 3
        labels: list[str] = []
        profile = measure_server(
            llm("llama-3.1-8b"), Server(url), NullMeter(), progress=lambda s: labels.append(s.label), **asked
        )
    assert "prefill 1 x 4" not in labels
    assert profile.gpu == "l4"
    assert set(profile.prefill.flags or []) == set(profile.decode.flags or []) == {POWER_UNKNOWN}
    assert profile.provenance.notes[0].startswith("no meter")


def test_open_loop_replay_writes_what_against_reads(tmp_path: Path) -> None:
    log, trace = tmp_path / "log.jsonl", ([0.0, 0.05, 0.1, 0.4], [20, 200, 30, 40], [30, 4, 10, 5])
    with serving() as (url, fake):
        sent = with_server(url, lambda server, prompter: replay(server, prompter, *trace, log))
        assert all("ignore_eos" in body for body in fake.seen)
    assert (sent.completed, sent.failed, sent.late) == (4, 0, 0)
    found = read_trace(log)
    assert found.prompt_tokens.tolist() == [20, 200, 30, 40]
    assert found.output_tokens.tolist() == [30, 4, 10, 5]
    assert np.allclose(found.arrival_s, trace[0], atol=0.04)
    measured = against.read_log(log)
    assert measured.tpot_s[0] == pytest.approx(STEP_S + 2 * SEQUENCE_S, rel=0.5)
    assert (measured.ttft_s > 0).all()


@pytest.mark.parametrize("mode", ["strict", "text"])
def test_servers_that_take_less_are_asked_for_less(mode: str) -> None:
    with serving(mode) as (url, fake):
        reply = with_server(url, lambda server, prompter: server.complete(prompter.make(101), 3))
        assert (reply.prompt_tokens, reply.output_tokens, len(reply.stamps_s)) == (101, 3, 3)
        if mode == "strict":
            assert "ignore_eos" not in fake.seen[-1]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("refuses", "refuses a completion (404"),
        ("no usage", "streams no usage, so tokens cannot be counted"),
        ("breaks", "broke off a completion|streams no usage"),
    ],
)
def test_a_broken_server_is_one_line(mode: str, says: str) -> None:
    with serving(mode) as (url, _), pytest.raises(ServerError) as refused:
        with_server(url, lambda server, prompter: server.complete(prompter.make(5), 8))
    assert any(part in str(refused.value) for part in says.split("|"))
    assert "\n" not in str(refused.value)


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(ServerError, match=r"does not answer .*is the server up"):
        with_server("http://127.0.0.1:9", lambda server, prompter: None)


def test_load_and_calibrate_from_the_command_line(tmp_path: Path) -> None:
    from carbonfleet.cli.calibrate import command

    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,20,5\n0.1,30,6\n0.2,10,4\n")
    with serving() as (url, _):
        made = CliRunner().invoke(
            command, ["load", str(trace), "--url", url, "-o", str(tmp_path / "l.jsonl"), "--json"]
        )
        assert made.exit_code == 0, made.output
        assert json.loads(made.output)["completed"] == 3
        line = ["llama-3.1-8b", "--runner", "openai", "--url", url, "--meter", "nothing"]
        refused = CliRunner().invoke(command, line)
        assert refused.exit_code == 2
        assert "write nvml, rapl" in refused.output


@pytest.mark.parametrize("seed", range(5))
def test_phases_are_separated_with_an_honest_covariance(seed: int) -> None:
    """Known energies, 1 % noise on each window: within three standard errors, and those are small."""
    dice = np.random.default_rng(seed)
    mixes = []
    for prompt, output in ((1000, 1), (500, 10), (250, 60), (60, 60), (60, 250), (16, 250)):
        n, time_s = 100.0, 20.0
        energy = IDLE_W * time_s + n * (prompt * PROMPT_J + output * OUTPUT_J)
        mixes.append(Mix(n * prompt, n * output, time_s, energy * (1 + dice.normal(0, 0.01))))
    found = separate(mixes, IDLE_W)
    assert abs(found.prefill_j - PROMPT_J) < 4 * found.prefill_sd_j + 1e-12
    assert abs(found.decode_j - OUTPUT_J) < 4 * found.decode_sd_j + 1e-12
    assert found.prefill_sd_j < 0.03 * PROMPT_J
    assert -1 < found.correlation < 0


def test_exact_mixes_give_exact_energies() -> None:
    mixes = [Mix(a, b, 3.0, 30.0 + 0.5 * a + 2.0 * b) for a, b in ((10, 1), (5, 5), (1, 10), (7, 2))]
    found = separate(mixes, 10.0)
    assert (found.prefill_j, found.decode_j) == (pytest.approx(0.5), pytest.approx(2.0))


def test_mixes_that_cannot_tell_are_refused() -> None:
    with pytest.raises(BenchError, match="all alike"):
        separate([Mix(10.0 * k, 10.0 * k, 1.0, 100.0 * k) for k in range(1, 6)], 1.0)
    with pytest.raises(BenchError, match="at least 4"):
        separate([Mix(1, 2, 3, 4)], 1.0)


def test_what_was_measured_before_a_stop_still_sizes_the_rest() -> None:
    """A resumed run does not know less of the server than one that was never stopped."""
    with serving() as (url, fake):

        async def look(server: Server, prompter: Prompter) -> tuple[int, int, int]:
            with Sampler(ServerMeter(fake), RealClock()) as sampler:
                first = ServerBench(server, prompter, sampler, PACE)
                windows = {prefill(100): [await first.prefill(100)], decode(4, 64): [await first.decode(4, 64)]}
                resumed, blind = (ServerBench(server, prompter, sampler, PACE) for _ in range(2))
                for point, found in windows.items():
                    resumed.learn(point, found)
                return tuple(each._output_tokens(4, 64) for each in (first, resumed, blind))  # type: ignore[return-value]

        whole, again, without = with_server(url, look)
    assert whole == again != without


def test_eight_bit_weights_leave_a_served_cache_at_sixteen_bits() -> None:
    shape = llm("llama-3.1-8b")
    assert kv_bytes_per_token(shape, "fp8") == shape.kv_bytes_per_token("bf16")
    assert kv_capacity(shape, "fp8", 80e9, 0.0) == kv_capacity(shape, "bf16", 80e9, 0.0)
