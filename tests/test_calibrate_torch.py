"""The torch runner on a CPU with a tiny shape: the cache is right, and the profile it gives is honest and usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibrate import NoGpu, measure
from calibrate.errors import BenchError
from calibrate.points import Grid
from calibrate.protocol import Timing
from calibrate.runners.decoder import Decoder, Pass, Shard
from calibrate.runners.linear import Linear
from calibrate.runners.torch_llama import TorchRunner
from profiles.catalog import llm
from profiles.inputs import InputError
from profiles.llm import Llm
from profiles.profile import save
from profiles.step import StepModel
from sim.run import run
from sim.scenario import Scenario

torch = pytest.importorskip("torch", reason="torch is an extra")

torch.set_num_threads(1)  # two threads spinning against each other on a busy machine cost seconds
SHORT = Timing(1, 0.05, 0.0, 2, 0.2, 0.02, 0.05, 0.1, 0.02, 0.05, 0.05)


def tiny(**changes: Any) -> Llm:
    """Two layers, grouped-query attention."""
    sizes = {"layers": 2, "hidden": 64, "intermediate": 128, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 97}
    return replace(llm("llama-3.1-8b"), **{"name": "tiny", "params": 100_000} | sizes | changes)


def test_prefill_in_chunks_and_decode_through_the_cache_equal_a_full_pass() -> None:
    model = Decoder(tiny(), torch.device("cpu"), torch.float32, seed=3)
    tokens = model.tokens(2, 12)

    def step(cache: object, start: int, end: int) -> object:
        group = Pass(tokens[:, start:end], cache, start, model.rotation(start, end - start))
        return model.logits(group, all_positions=True)

    full = step(model.cache(2, 12), 0, 12)
    cache = model.cache(2, 12)
    parts = torch.cat([step(cache, 0, 5), step(cache, 5, 9), *(step(cache, n, n + 1) for n in (9, 10, 11))], dim=1)
    assert full.shape == (2, 12, 97)
    assert full.std() > 0.01
    assert torch.allclose(full, parts, atol=1e-4)
    shifted = model.logits(Pass(tokens, model.cache(2, 12), 0, model.rotation(1, 12)), all_positions=True)
    assert torch.allclose(full, shifted, atol=1e-4)  # rotary attention sees distances only
    last = model.logits(Pass(tokens, model.cache(2, 12), 0, model.rotation(0, 12)))
    assert torch.allclose(last[:, 0], full[:, -1], atol=1e-4)


@pytest.mark.parametrize(("precision", "error"), [("fp8", 0.06), ("int8", 0.03)])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_eight_bits_compute_the_same_to_their_precision(precision: str, error: float, rows: int) -> None:
    x, weight = torch.randn(1, rows, 64, dtype=torch.bfloat16), torch.randn(48, 64, dtype=torch.bfloat16)
    exact = x.float() @ weight.float().T
    layer = Linear(weight, precision)
    assert layer.weight.element_size() == 1
    off = (layer(x).float() - exact).norm() / exact.norm()
    assert layer(x).shape == (1, rows, 48)
    assert off < error


def test_an_fp8_profile_has_eight_bit_weights_and_a_sixteen_bit_cache() -> None:
    grid = Grid((16, 32), (), (1, 4), (16, 64))
    shape = tiny(vocab=96)
    profile = measure(shape, device="cpu", precision="fp8", timing=SHORT, grid=grid)
    linear = 2 * (128 * 64 + 64 * 64 + 3 * 128 * 64)
    assert profile.memory.weights_bytes == linear + 2 * (2 * 96 * 64 + 64 + 2 * 2 * 64)
    assert profile.memory.kv_bytes_per_token == shape.kv_bytes_per_token("bf16")


def test_shards_of_one_model_add_up_to_it() -> None:
    """Two halves summed where tensor parallel sums them, and heads side by side: the logits of the whole."""
    shape = tiny(vocab=99)
    whole = Decoder(shape, torch.device("cpu"), torch.float32, seed=9)
    parts = [Decoder(shape, torch.device("cpu"), torch.float32, seed=9, shard=Shard(rank, 2)) for rank in (0, 1)]
    x = torch.randn(1, 3, 64)
    for i in range(2):
        halves = [part._mlp(x, part.layers[i]) for part in parts]
        assert torch.allclose(halves[0] + halves[1], whole._mlp(x, whole.layers[i]), atol=1e-5)
        q, k, v = whole.layers[i]["qkv"](x).split([64, 32, 32], dim=-1)
        mine = parts[1].layers[i]["qkv"](x)
        assert torch.allclose(mine, torch.cat([q[..., 32:], k[..., 16:], v[..., 16:]], dim=-1), atol=1e-6)
    scores = torch.cat([x @ part.head.T for part in parts], dim=-1)[..., :99]
    assert torch.allclose(scores, x @ whole.head.T, atol=1e-5)


def test_two_processes_step_together_and_one_that_dies_is_said(tmp_path: Path) -> None:
    """The real thing over gloo: ranks are spawned and step through their all-reduces together."""
    from calibrate.runners.parallel import ParallelRunner

    runner = ParallelRunner(tiny(), "cpu", "fp32", [None, None], seed=3)
    try:
        runner.load()
        work = runner.decode(3, 16)
        tickets = [work.enqueue(4), work.enqueue(2)]
        while not all(ticket.done() for ticket in tickets):
            runner.clock.sleep(0.001)
        assert all(ticket.elapsed_s() > 0 for ticket in tickets)
        work.release()
        one = TorchRunner(tiny(), "cpu", "fp32", seed=3)
        one.load()
        whole, parts = one.memory().weights_bytes, runner.memory().weights_bytes
        assert whole < parts < 1.5 * whole  # embedding and norms are held by both
        runner._ranks[1].kill()
        runner._ranks[1].join(10)
        with pytest.raises(BenchError, match="rank 1 died"):
            runner.decode(1, 16)
    finally:
        runner.close()


def test_a_tensor_parallel_profile_says_so() -> None:
    grid = Grid((16, 32), (), (1, 4), (16, 64), ((16,), (4,), (16,)))
    profile = measure(tiny(), device="cpu", precision="fp32", timing=SHORT, grid=grid, tensor_parallel=2)
    assert profile.tp == 2
    assert len(profile.decode.batch) == 4
    with pytest.raises(InputError, match="cannot be cut into 3"):
        measure(tiny(), device="cpu", precision="fp32", tensor_parallel=3)


def test_a_mixed_step_is_its_two_parts_at_once() -> None:
    """A prompt's chunk beside three decodes: the logits of each alone, from one pass over the weights."""
    model = Decoder(tiny(), torch.device("cpu"), torch.float32, seed=4)
    chunk, batch = Pass.of(model, 1, 7, 5), Pass.of(model, 3, 1, 9)
    both = model.logits(chunk, batch)
    assert both.shape == (4, 1, 97)
    assert torch.allclose(both[:1], model.logits(chunk), atol=1e-5)
    assert torch.allclose(both[1:], model.logits(batch), atol=1e-5)


@pytest.mark.parametrize("shared", [0, 24])
def test_experts_are_those_of_a_plain_loop(shared: int) -> None:
    """Every token passes through k experts, evenly placed, each weighted by the router's softmax over its choice."""
    shape = tiny(experts=8, experts_per_token=2, expert_intermediate=32, shared_intermediate=shared, dense_layers=1)
    model = Decoder(shape, torch.device("cpu"), torch.float32, seed=6)
    assert "router" not in model.layers[0]
    weights, x = model.layers[1], torch.randn(1, 11, 64)
    found = model._mlp(x, weights)[0]
    expected = torch.zeros(11, 64)
    shares = (x[0] @ weights["router"].T).topk(2, dim=-1).values.softmax(-1).reshape(-1)
    hit = round(8 * (1 - (1 - 2 / 8) ** 11))
    each = -(-22 // hit)
    for slot in range(22):
        expert, token = slot // each, slot // 2
        gate, up = (x[0, token] @ weights["experts_in"][expert]).chunk(2)
        expected[token] += shares[slot] * ((torch.nn.functional.silu(gate) * up) @ weights["experts_out"][expert])
    if shared:
        gate, up = (x[0] @ weights["gate_up"].weight.T).chunk(2, dim=-1)
        expected += (torch.nn.functional.silu(gate) * up) @ weights["down"].weight.T
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_mixture_of_experts_is_calibrated(tmp_path: Path) -> None:
    shape = tiny(experts=8, experts_per_token=2, expert_intermediate=32, intermediate=64)
    grid = Grid((8, 32), (), (1, 4), (16, 64))
    profile = measure(shape, device="cpu", precision="fp32", timing=SHORT, grid=grid)
    counted = replace(shape, params=1).counted_params
    assert profile.memory.weights_bytes == 4 * counted


def test_attention_is_that_of_a_plain_reference() -> None:
    """One layer's attention, written out with loops over heads and explicit masks."""
    shape = tiny()
    model = Decoder(shape, torch.device("cpu"), torch.float32, seed=5)
    qkv = torch.randn(1, 6, (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    cos, sin = torch.ones(6, shape.head_dim), torch.zeros(6, shape.head_dim)  # no rotation
    found = model._attend(qkv, model.cache(1, 6)[0], Pass(None, None, 0, (cos, sin)))
    q, k, v = qkv[0].split([64, 32, 32], dim=-1)
    expected = []
    for head in range(shape.heads):
        mine, kv = slice(16 * head, 16 * head + 16), slice(16 * (head // 2), 16 * (head // 2) + 16)
        scores = (q[:, mine] @ k[:, kv].T) / 4.0
        scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf"))
        expected.append(scores.softmax(-1) @ v[:, kv])
    assert torch.allclose(found[0], torch.cat(expected, -1), atol=1e-5)


def test_cpu_profile_says_that_its_power_is_an_estimate_and_compiles(tmp_path: Path) -> None:
    profile = measure(
        tiny(),
        device="cpu",
        precision="fp32",
        timing=SHORT,
        grid=Grid((8, 32), ((8, 32),), (1, 4), (16, 64), ((8, 32), (4,), (16,))),
        date="2026-11-21",
        checkpoint=tmp_path / "run.jsonl",
    )
    assert profile.gpu.startswith("cpu-")
    assert profile.provenance.kind == "predicted"
    assert "ESTIMATE" in profile.provenance.notes[0]
    assert profile.systematic.power_rel == 0.5
    assert profile.engine == "torch-kernels"
    assert profile.layer == "kernels"
    assert profile.memory.weights_bytes == 4 * (2 * 97 * 64 + 64 + 2 * (128 + 128 * 64 + 64 * 64 + 3 * 128 * 64))
    assert profile.decode.kv_tokens == [16, 64, 64, 256]
    assert profile.prefill.past_tokens == [0, 32, 0]
    assert profile.mixed.points is not None
    assert profile.mixed.points.new_tokens == [8, 32]
    assert profile.mixed.points.kv_tokens == [64, 64]
    save(profile, tmp_path / "p.json")
    assert StepModel(profile).decode_time_s(2, 64) > 0
    assert all(watts > 0 for watts in [*profile.prefill.power_w, *profile.decode.power_w, profile.idle.loaded_w])


def test_a_cpu_profile_feeds_simulate(tmp_path: Path) -> None:
    """A user's own CPU and model: measured, put into tables of their own, simulated; what is estimated is said."""
    shape = tiny()
    grid = Grid((8, 64), (), (1, 4), (16, 64))
    profile = measure(shape, device="cpu", precision="fp32", timing=SHORT, grid=grid)
    save(profile, tmp_path / "p.json")
    (tmp_path / "gpus.csv").write_text(
        "name,vendor,memory_gb,bandwidth_gb_s,bf16_tflops,memory_type,release_year,spec_source,bf16_source\n"
        f"{profile.gpu},x,100000,40,1,DDR,2024,here,here\n"
    )
    (tmp_path / "hosts.csv").write_text(
        f"name,gpu,gpus,cpus,dram_gb,ssd_tb,nics,chassis_2u,fans,source\nbox,{profile.gpu},1,1,64,1,1,1,1,here\n"
    )
    columns = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "params", "max_context")
    (tmp_path / "llms.csv").write_text(
        f"name,{','.join(columns)},tied_embeddings,source\n"
        f"tiny,{','.join(str(getattr(shape, column)) for column in columns)},no,here\n"
    )
    asked = {
        "generator": {"duration_s": 2.0, "rate_per_s": 10.0, "lengths": "azure-conv", "max_output_tokens": 20},
        "start": "2023-06-01T00:00:00Z",
        "sites": [{"name": "here", "grid": "300"}],
        "pools": [
            {"name": "cpu", "site": "here", "gpu": profile.gpu, "model": "tiny", "instances": 1, "precision": "fp32"}
        ],
        "profiles": [str(tmp_path / "p.json")],
        "own_catalog": str(tmp_path),
        "accounting": {"embodied_kg": {profile.gpu: 20.0}},
    }
    summary = run(Scenario.model_validate(asked)).summary
    assert summary["requests"]["completed"] == summary["requests"]["total"] > 5
    assert any("kernels alone" in text for text in summary["warnings"])
    assert summary["pools"][0]["kind"] == "predicted"


def test_tied_embeddings_are_held_once() -> None:
    untied, tied = (Decoder(tiny(tied_embeddings=t), torch.device("cpu"), torch.float32) for t in (False, True))
    assert untied.weights_bytes() - tied.weights_bytes() == 4 * 97 * 64


def test_without_a_gpu_one_line_and_exit_code_4() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(NoGpu, match="use --device cpu or --runner fake, or install") as refused:
        measure(tiny())
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "device", "precision", "says"),
    [
        (tiny(kv_rank=8), "cpu", "fp32", "latent or windowed attention"),
        (tiny(window=8, window_layers=1), "cpu", "fp32", "latent or windowed attention"),
        (tiny(), "cpu", "fp4", "precision fp4 is not for the torch runner"),
        (tiny(experts=8), "cpu", "fp8", "experts in fp8 are not for the torch runner"),
        (tiny(), "cuda", "fp32", "fp32 is for --device cpu"),
        (tiny(kv_heads=3), "cpu", "fp32", "kv_heads divide heads"),
    ],
)
def test_refusals(shape: Llm, device: str, precision: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        TorchRunner(shape, device, precision)
