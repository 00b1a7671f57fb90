"""The torch runner on a CPU with a tiny shape: the cache is right, and the profile it gives is honest and usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibrate import NoGpu, measure
from calibrate.points import Grid
from calibrate.protocol import Timing
from calibrate.runners.torch_llama import Decoder, TorchRunner
from profiles.catalog import Llm, llm
from profiles.inputs import InputError
from profiles.profile import save
from profiles.step import StepModel

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
        return model.logits(tokens[:, start:end], cache, start, model.rotation(start, end - start), True)

    full = step(model.cache(2, 12), 0, 12)
    cache = model.cache(2, 12)
    parts = torch.cat([step(cache, 0, 5), step(cache, 5, 9), *(step(cache, n, n + 1) for n in (9, 10, 11))], dim=1)
    assert full.shape == (2, 12, 97)
    assert full.std() > 0.01
    assert torch.allclose(full, parts, atol=1e-4)
    shifted = model.logits(tokens, model.cache(2, 12), 0, model.rotation(1, 12), True)
    assert torch.allclose(full, shifted, atol=1e-4)  # rotary attention sees distances only
    last = model.logits(tokens, model.cache(2, 12), 0, model.rotation(0, 12))
    assert torch.allclose(last[:, 0], full[:, -1], atol=1e-4)


def test_attention_is_that_of_a_plain_reference() -> None:
    """One layer's attention, written out with loops over heads and explicit masks."""
    shape = tiny()
    model = Decoder(shape, torch.device("cpu"), torch.float32, seed=5)
    qkv = torch.randn(1, 6, (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    cos, sin = torch.ones(6, shape.head_dim), torch.zeros(6, shape.head_dim)  # no rotation
    found = model._attend(qkv, model.cache(1, 6)[0], 0, (cos, sin))
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
        grid=Grid((8, 32), ((8, 32),), (1, 4), (16, 64)),
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
    save(profile, tmp_path / "p.json")
    assert StepModel(profile).decode_time_s(2, 64) > 0
    assert all(watts > 0 for watts in [*profile.prefill.power_w, *profile.decode.power_w, profile.idle.loaded_w])


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
        (tiny(experts=8), "cpu", "fp32", "mixture of experts"),
        (tiny(), "cpu", "fp8", "precision fp8 is not for the torch runner"),
        (tiny(), "cuda", "fp32", "fp32 is for --device cpu"),
        (tiny(kv_heads=3), "cpu", "fp32", "kv_heads divide heads"),
    ],
)
def test_refusals(shape: Llm, device: str, precision: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        TorchRunner(shape, device, precision)
