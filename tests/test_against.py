"""A run beside a request log: known errors from a made-up log, wrong logs refused, and real vLLM 0.19 logs held."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from carbonfleet.cli import cli
from carbonfleet.cli.simulate import command as simulate
from profiles.importers import llmservingsim
from profiles.inputs import InputError
from profiles.profile import save
from sim.against import compare, read_log
from sim.run import run
from sim.scenario import Scenario


def line(arrival_s: float, first_s: float, last_s: float, output: int = 5, **changes: object) -> str:
    """One request of a log whose monotonic clock is 1e6 s behind the epoch."""
    row = {"input_toks": 64, "output_toks": output, "arrival_time": 1e6 + arrival_s, "queued_ts": arrival_s + 0.001}
    return json.dumps(row | {"first_token_ts": first_s + 0.001, "last_token_ts": last_s + 0.001} | changes)


def test_errors_of_a_made_up_log(tmp_path, paper):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(line(10.0 * k, 10.0 * k + 0.125, 10.0 * k + 0.625) for k in range(2)))
    save(paper(), tmp_path / "paper.json")
    pool = {"name": "p", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 1}
    asked = {"trace": str(path), "sites": [{"name": "s", "grid": "100"}], "pools": [pool], "profiles": [str(tmp_path)]}
    found = compare(run(Scenario.model_validate(asked)), read_log(path))
    # the paper profile prefills 64 tokens in 1/16 s: half of the log's .125 s
    assert found["ttft_s"]["error"]["mean"] == pytest.approx(-0.5)
    assert found["ttft_s"]["measured"]["p99"] == pytest.approx(0.125)
    decode = 4 * 9 / 1024 + (65 + 66 + 67 + 68) / 2**20
    assert found["e2e_s"]["error"]["p50"] == pytest.approx((0.0625 + decode) / 0.625 - 1)
    assert found["tpot_s"]["error"]["p50"] == pytest.approx(decode / 0.5 - 1)
    assert found["left_out"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no request"),
        ("{}", "log.jsonl:1: not a request"),
        (line(0, 0.2, 0.1), "log.jsonl:1: a request that cannot be"),
        (line(0, float("nan"), 1.0), "cannot be"),
        (line(0, 0.1, 0.2, output=0), "cannot be"),
        (line(0, 0.1, 0.2).replace('"output_toks": 5', '"output_toks": 5e400'), "log.jsonl:1: not a request"),
    ],
)
def test_a_wrong_log_is_refused(tmp_path, text, message):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_log(path)


def errors(shared, tmp_path, hardware, bench, workload, pool, limits):
    """What the commands of docs/fidelity.md print: the import as it is, then the log replayed."""
    data = shared / "profiles" / "llmservingsim"
    taken = CliRunner().invoke(
        cli, ["profiles", "import", "llmservingsim", f"{data}/perf/{hardware}", "-o", str(tmp_path)]
    )
    assert taken.exit_code == 0, taken.output
    log = f"{data}/bench/{bench}/requests.jsonl"
    asked = ["--trace", log, "--pool", f"{pool}@CA-QC", "--profiles", str(tmp_path), "--batching", "chunked"]
    asked += ["--workload", f"{data}/workloads/{workload}", "--against", log, "--json", *limits]
    result = CliRunner().invoke(simulate, [*asked, "--max-num-batched-tokens", "2048", "--quiet"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


LLAMA, QWEN = "sharegpt-llama-3.1-8b-300-sps10.jsonl", "sharegpt-qwen3-30b-a3b-300-sps10.jsonl"


@pytest.mark.parametrize(
    ("bench", "workload", "pool", "model"),
    [
        ("RTXPRO6000_Llama-3.1-8B", LLAMA, "rtx-pro-6000:1", "llama-3.1-8b"),
        ("RTXPRO6000_Qwen3-30B-A3B-Instruct-2507", QWEN, "rtx-pro-6000:1:dp2:ep", "qwen3-30b-a3b"),
    ],
)
def test_vllm_on_rtx_pro_6000(shared, tmp_path, bench, workload, pool, model):
    """The engine term is fitted on the first log alone; the second is two ranks that share a mixture's experts."""
    limits = ["--model", model, "--max-num-seqs", "128"]
    found = errors(shared, tmp_path, "RTXPRO6000", bench, workload, pool, limits)
    if model == "llama-3.1-8b":
        assert found["tokens"]["prompt_cached"] / found["tokens"]["prompt"] == pytest.approx(0.0759, abs=5e-5)
    for name, mean, p99 in (("tpot_s", 0.02, 0.03), ("e2e_s", 0.025, 0.03), ("ttft_s", 0.03, 1.0)):
        error = found["against"][name]["error"]
        assert abs(error["mean"]) < mean, name
        assert abs(error["p99"]) < p99, name
    assert found["against"]["request_e2e_error"]["p50"] < 0.015


def test_vllm_on_rtx_4090_from_tables_alone(shared, tmp_path):
    limits = ["--model", "llama-3.1-8b", "--max-num-seqs", "256"]
    found = errors(shared, tmp_path, "RTX4090", "RTX4090_Llama-3.1-8B", LLAMA, "rtx-4090:1", limits)
    off = [found["against"][name]["error"] for name in ("ttft_s", "tpot_s", "e2e_s")]
    assert max(abs(error["mean"]) for error in off) < 0.025
    assert max(abs(error["p99"]) for error in off) < 0.05


def test_experts_of_a_mixture_are_added_or_shared(tmp_path):
    """One rank meets all 128 experts; of two, each holds half, and they exchange tokens around every layer."""
    (tmp_path / "meta.yaml").write_text("hardware: RTXPRO6000\nmodel: Qwen/Qwen3-30B-A3B\n")
    (tmp_path / "tp1").mkdir()
    (tmp_path / "tp2").mkdir()
    tables = {
        "dense.csv": ["layer,tokens,time_us", "embedding,1,10", "embedding,2,10", "embedding,18,10"],
        "per_sequence.csv": ["layer,sequences,time_us", "lm_head,1,100", "lm_head,3,100"],
        "attention.csv": ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", "0,0,1,16,5", "0,0,2,16,5"],
        "moe.csv": ["tokens,activated_experts,time_us", *(f"{n},{m},{m}" for n in (1, 4096) for m in (1, 128))],
    }
    tables["attention.csv"] += ["16,0,0,0,5", "16,0,2,16,5"]
    for name, lines in tables.items():
        (tmp_path / "tp1" / name).write_text("\n".join(lines))
    told: list[str] = []
    alone, both = llmservingsim.read_folder(tmp_path, tell=told.append)
    (tmp_path / "tp2" / "dense.csv").write_text("")
    assert "no moe.csv" in told[0]
    assert "tp 2" in told[0]
    token_us = 10 + 100 + 48 * 5
    assert alone.decode.time_s[0] == pytest.approx((token_us + 48 * 8) * 1e-6)  # a token meets 8 of 128
    assert both.decode.time_s[0] == pytest.approx(token_us * 1e-6)
    exchange_us = 2 * 48 * (20 + 0.5 * 2048 * 2 / 16e3)
    assert both.lockstep is not None
    assert both.lockstep.time_s[0] == pytest.approx((48 * 4 + exchange_us) * 1e-6)  # and 4 of this rank's 64
    assert (alone.ep, both.ep) == (1, 2)
    assert both.memory.weights_bytes < 0.55 * alone.memory.weights_bytes


def test_an_importer_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"no meta\.yaml"):
        llmservingsim.read_folder(tmp_path)
    (tmp_path / "meta.yaml").write_text("hardware: RTX9\nmodel: meta-llama/Llama-3.1-8B\n")
    (tmp_path / "tp1").mkdir()
    with pytest.raises(InputError, match="unknown hardware 'RTX9'"):
        llmservingsim.read_folder(tmp_path)
    (tmp_path / "meta.yaml").write_text("hardware: RTX4090\nmodel: meta-llama/Llama-3.1-8B\n")
    (tmp_path / "tp1" / "dense.csv").write_text("layer,tokens,time_us\nqkv_proj,1,-3\n")
    with pytest.raises(InputError, match=r"dense\.csv:2: .* is not a measurement"):
        llmservingsim.read_folder(tmp_path)


def test_layers_add_up_to_steps(tmp_path):
    (tmp_path / "meta.yaml").write_text("hardware: RTX4090\nmodel: meta-llama/Llama-3.1-8B\n")
    tables = {
        "dense.csv": [
            "layer,tokens,time_us",
            *(f"{n},{t},{t}" for n in ("layernorm", "embedding") for t in (1, 2, 18)),
        ],
        "per_sequence.csv": ["layer,sequences,time_us", "lm_head,1,100", "lm_head,3,300"],
        "attention.csv": ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"],
    }
    tables["attention.csv"] += ["0,0,1,16,5", "0,0,2,16,7", "0,0,1,32,4", "0,0,2,32,9", "16,0,0,0,11", "16,0,2,16,20"]
    (tmp_path / "tp1").mkdir()
    for name, lines in tables.items():
        (tmp_path / "tp1" / name).write_text("\n".join(lines))
    (profile,) = llmservingsim.read_folder(tmp_path)
    dense = {tokens: tokens * (2 * 32 + 1) for tokens in (1, 2, 18)}  # 32 layers, two norms each, one embedding
    decode = dict(
        zip(zip(profile.decode.batch, profile.decode.kv_tokens, strict=True), profile.decode.time_s, strict=True)
    )
    assert decode[2, 32] == pytest.approx((dense[2] + 200 + 32 * 7) * 1e-6)
    assert decode[1, 32] == decode[1, 16]  # more context is never faster
    points = profile.mixed.points
    assert points is not None
    assert points.time_s == pytest.approx([(dense[18] + 300 + 32 * 20) * 1e-6])
    assert profile.prefill.new_tokens == [1, 2]  # where dense layers were timed, as far as attention was
    assert profile.prefill.time_s[1] == pytest.approx((dense[2] + 100 + 32 * 11) * 1e-6)
