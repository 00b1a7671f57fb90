"""The torch runner: a LLaMA-family decoder of any catalogue shape with random weights on the device.

Grouped-query attention, rotary positions, SwiGLU, RMSNorm, a static KV cache, attention over the tokens that exist,
the head on the last position and the sampler's argmax. On a GPU each point is one CUDA graph, so the figures are
kernels without an engine's host work. Weights and cache are random normal numbers, never zeros: power depends on
how many bits toggle. torch is imported inside functions only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from calibrate.clock import RealClock
from calibrate.errors import BenchError, DoesNotFit, NoGpu
from calibrate.runners import MemoryInfo, workspace_bytes
from profiles.inputs import InputError, near_miss
from profiles.llm import GATED_MLP, Llm

T = TypeVar("T")
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_CONTEXT_BYTES = 1.5e9  # CUDA context, cuBLAS workspaces and graph pools on a GPU
_ROPE_BASE = 500000.0
_NORM_EPS = 1e-5


class Decoder:
    """The model: weights, and one forward step over a KV cache.

    Args:
        llm: layers and widths.
        device: a torch device.
        dtype: a torch dtype.
        seed: of the random weights.
    """

    def __init__(self, llm: Llm, device: Any, dtype: Any, seed: int = 0) -> None:
        import torch

        self.llm, self.device, self.dtype = llm, device, dtype
        self._random = torch.Generator(device=device).manual_seed(seed)
        hidden, width = llm.hidden, llm.heads * llm.head_dim
        qkv = width + 2 * llm.kv_heads * llm.head_dim
        self.embedding = self._normal(llm.vocab, hidden)
        self.layers = [
            {
                "norm": torch.ones(hidden, device=device, dtype=dtype),
                "qkv": self._normal(qkv, hidden),
                "out": self._normal(hidden, width),
                "mlp_norm": torch.ones(hidden, device=device, dtype=dtype),
                "gate_up": self._normal(2 * llm.intermediate, hidden),
                "down": self._normal(hidden, llm.intermediate),
            }
            for _ in range(llm.layers)
        ]
        self.norm = torch.ones(hidden, device=device, dtype=dtype)
        self.head = self.embedding if llm.tied_embeddings else self._normal(llm.vocab, hidden)

    def weights_bytes(self) -> int:
        """Bytes of every weight."""
        tensors = [self.embedding, self.norm, *(w for layer in self.layers for w in layer.values())]
        tensors += [] if self.head is self.embedding else [self.head]
        return int(sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    def cache(self, sequences: int, length: int) -> Any:
        """Keys and values for `sequences` x `length` tokens, filled with what keys of such weights look like."""
        size = (self.llm.layers, 2, sequences, self.llm.kv_heads, length, self.llm.head_dim)
        return self._normal(*size, std=1.0)

    def rotation(self, start: int, new: int) -> tuple[Any, Any]:
        """Cosines and sines of the rotary embedding for positions start .. start + new - 1."""
        import torch

        half = torch.arange(0, self.llm.head_dim, 2, device=self.device, dtype=torch.float32) / self.llm.head_dim
        positions = torch.arange(start, start + new, device=self.device, dtype=torch.float32)
        angles = torch.outer(positions, _ROPE_BASE**-half)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def tokens(self, sequences: int, new: int) -> Any:
        """Random token numbers."""
        import torch

        size = (sequences, new)
        return torch.randint(0, self.llm.vocab, size, device=self.device, generator=self._random)

    def logits(
        self, tokens: Any, cache: Any, start: int, rotation: tuple[Any, Any], all_positions: bool = False
    ) -> Any:
        """One step: `tokens` (sequences, new) stand at `start` and attend to all before; logits of the last one.

        Keys and values of the new tokens are written into `cache`, whose first `start` tokens are the past.
        """
        import torch.nn.functional as F  # noqa: N812 - the name everyone gives it

        hidden = F.embedding(tokens, self.embedding)
        norm = (self.llm.hidden,)
        for weights, kv in zip(self.layers, cache, strict=True):
            x = F.rms_norm(hidden, norm, weights["norm"], _NORM_EPS)
            hidden = hidden + F.linear(self._attend(F.linear(x, weights["qkv"]), kv, start, rotation), weights["out"])
            x = F.rms_norm(hidden, norm, weights["mlp_norm"], _NORM_EPS)
            gate, up = F.linear(x, weights["gate_up"]).chunk(2, dim=-1)
            hidden = hidden + F.linear(F.silu(gate) * up, weights["down"])
        last = hidden if all_positions else hidden[:, -1:]
        return F.linear(F.rms_norm(last, norm, self.norm, _NORM_EPS), self.head)

    def _attend(self, qkv: Any, kv: Any, start: int, rotation: tuple[Any, Any]) -> Any:
        """Attention of the new tokens over the cache's first start + new tokens, causal among the new ones."""
        import torch.nn.functional as F  # noqa: N812
        from torch.nn.attention.bias import causal_lower_right

        llm = self.llm
        sequences, new, _ = qkv.shape
        heads = qkv.view(sequences, new, -1, llm.head_dim).transpose(1, 2)
        rotated = _rotate(heads[:, : llm.heads + llm.kv_heads], rotation)
        query = rotated[:, : llm.heads]
        kv[0, :, :, start : start + new] = rotated[:, llm.heads :]
        kv[1, :, :, start : start + new] = heads[:, llm.heads + llm.kv_heads :]
        keys, values = kv[0, :, :, : start + new], kv[1, :, :, : start + new]
        grouped = llm.heads != llm.kv_heads
        if new == 1:
            seen = F.scaled_dot_product_attention(query, keys, values, enable_gqa=grouped)
        elif start == 0:
            seen = F.scaled_dot_product_attention(query, keys, values, is_causal=True, enable_gqa=grouped)
        else:
            mask = causal_lower_right(new, start + new)
            seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=grouped)
        return seen.transpose(1, 2).reshape(sequences, new, llm.heads * llm.head_dim)

    def _normal(self, *size: int, std: float = 0.02) -> Any:
        import torch

        empty = torch.empty(size, device=self.device, dtype=self.dtype)
        return empty.normal_(0.0, std, generator=self._random)


def _rotate(x: Any, rotation: tuple[Any, Any]) -> Any:
    """Rotary position embedding, halves rotated against each other as LLaMA does."""
    import torch

    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@dataclass(frozen=True, slots=True)
class _HostTicket:
    """A chunk a CPU has already done."""

    steps: int
    seconds: float

    def done(self) -> bool:
        return True

    def elapsed_s(self) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class _EventTicket:
    """A chunk between two CUDA events."""

    steps: int
    begin: Any
    end: Any

    def done(self) -> bool:
        return bool(self.end.query())

    def elapsed_s(self) -> float:
        return float(self.begin.elapsed_time(self.end)) / 1000.0


class _TorchWork:
    """One point on the device: its cache and tokens, and on a GPU its graph."""

    def __init__(self, model: Decoder, sequences: int, new: int, start: int) -> None:
        self._cuda = model.device.type == "cuda"
        self._model, self._start = model, start
        self._cache = model.cache(sequences, start + new)
        self._tokens = model.tokens(sequences, new)
        self._rotation = model.rotation(start, new)
        self._out: Any = None
        self._graph = self._capture() if self._cuda else None

    def enqueue(self, steps: int) -> _HostTicket | _EventTicket:
        """Queue `steps` steps; on a CPU do them."""
        import torch

        if self._graph is None:
            begin_s = time.perf_counter()
            with torch.inference_mode():
                for _ in range(steps):
                    self._step()
            return _HostTicket(steps, time.perf_counter() - begin_s)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(steps):
            self._graph.replay()
        end.record()
        return _EventTicket(steps, begin, end)

    def release(self) -> None:
        """Drop graph and cache, so that the next point finds the memory free."""
        import torch

        if self._cuda:
            torch.cuda.synchronize(self._model.device)
        self._graph = self._cache = self._tokens = self._out = None
        if self._cuda:
            torch.cuda.empty_cache()

    def _step(self) -> None:
        logits = self._model.logits(self._tokens, self._cache, self._start, self._rotation)
        self._out = logits.argmax(dim=-1)

    def _capture(self) -> Any:
        """Three eager calls on a side stream, as CUDA graphs ask for, then the capture."""
        import torch

        with torch.inference_mode():
            side = torch.cuda.Stream(self._model.device)
            side.wait_stream(torch.cuda.current_stream(self._model.device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._step()
            torch.cuda.current_stream(self._model.device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
        return graph


class TorchRunner:
    """A StepRunner on one torch device.

    Args:
        llm: the model; mixture-of-experts shapes are refused.
        device: "cuda" or "cpu".
        precision: bf16, fp16 or fp32 (fp32 on a CPU only).
        uuid: the metered GPU's UUID; torch's device of that UUID is taken, whatever its index.
        seed: of weights and tokens.

    Raises:
        InputError: an unknown device or precision, a mixture of experts.
        BenchError: torch is not installed, or the metered GPU is hidden from it.
        NoGpu: torch sees no GPU.
    """

    engine = "torch-kernels"

    def __init__(self, llm: Llm, device: str, precision: str, uuid: str | None = None, seed: int = 0) -> None:
        _check(llm, device, precision)
        try:
            import torch
        except ImportError as error:
            raise BenchError("torch is not installed; pip install 'carbonfleet[calibrate]'") from error
        self.clock = RealClock()
        self._llm, self._seed = llm, seed
        self._dtype = getattr(torch, _DTYPES[precision])
        self.versions = {"torch": str(torch.__version__)}
        if device == "cuda":
            if torch.version.cuda is None:
                raise NoGpu(f"torch {torch.__version__} is built without CUDA")
            self.versions["cuda"] = str(torch.version.cuda)
        self._device, self._uuid = torch.device(device), uuid
        self._model: Decoder | None = None

    def load(self) -> None:
        """Create the weights on the device; a GPU's context begins here, not before."""
        if self._device.type == "cuda":
            import torch

            self._device = torch.device("cuda", _cuda_index(torch, self._uuid))
            torch.cuda.set_device(self._device)
        self._model = self._or_too_big("the weights", lambda: Decoder(self._llm, self._device, self._dtype, self._seed))
        self._synchronize()

    def prefill(self, new: int, past: int, sequences: int) -> _TorchWork:
        """`sequences` prompts of `new` tokens behind `past` cached ones each."""
        return self._work(sequences, new, past)

    def decode(self, batch: int, context: int) -> _TorchWork:
        """One token for each of `batch` sequences, which then hold `context` tokens each."""
        return self._work(batch, 1, context - 1)

    def memory(self) -> MemoryInfo:
        """The device's memory, the weights, and activations of 8192 tokens or 256 sequences beside them."""
        assert self._model is not None, "load() first"
        element = self._dtype.itemsize
        workspace = workspace_bytes(self._llm, 8192, 256, element)
        if self._device.type == "cpu":
            total = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) + self._model.weights_bytes()
            return MemoryInfo(total, float(self._model.weights_bytes()), workspace)
        import torch

        _, total = torch.cuda.mem_get_info(self._device)
        return MemoryInfo(float(total), float(self._model.weights_bytes()), workspace + _CONTEXT_BYTES)

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _work(self, sequences: int, new: int, start: int) -> _TorchWork:
        model = self._model
        assert model is not None, "load() first"
        return self._or_too_big("this point", lambda: _TorchWork(model, sequences, new, start))

    def _or_too_big(self, what: str, make: Callable[[], T]) -> T:
        """What `make` makes, or DoesNotFit after freeing what was allocated on the way."""
        import torch

        try:
            return make()
        except (torch.cuda.OutOfMemoryError, MemoryError):
            pass  # leave the handler first: the traceback holds the tensors
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        raise DoesNotFit(f"{what} of {self._llm.name} does not fit the device's memory; take fewer or smaller")

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)


def _check(llm: Llm, device: str, precision: str) -> None:
    if precision not in _DTYPES:
        raise InputError(f"precision {precision} is not for the torch runner", mend=near_miss(precision, _DTYPES))
    if device not in ("cuda", "cpu"):
        raise InputError(f"device {device} is unknown", mend=near_miss(device, ("cuda", "cpu")))
    if precision == "fp32" and device == "cuda":
        raise InputError("fp32 is for --device cpu", mend="use bf16 or fp16 on a GPU")
    if llm.experts:
        raise InputError(
            f"{llm.name} is a mixture of experts, which the torch runner cannot run", mend="choose a dense model"
        )
    if llm.mla or llm.window_layers or llm.mlp_matrices != GATED_MLP:
        raise InputError(
            f"{llm.name} has latent or windowed attention or a plain MLP, which the torch runner cannot run",
            mend="choose a model of the LLaMA family",
        )
    if llm.head_dim % 2 or llm.heads % llm.kv_heads:
        raise InputError(f"{llm.name}: head_dim must be even and kv_heads divide heads", mend="mend its catalogue row")


def _cuda_index(torch: Any, uuid: str | None) -> int:
    """torch's index of the GPU with this NVML UUID: the two libraries number GPUs differently."""
    if not torch.cuda.is_available():
        raise NoGpu("torch sees none; is CUDA_VISIBLE_DEVICES set?")
    if uuid is None:
        return 0
    wanted = uuid.removeprefix("GPU-").lower()
    found = [str(torch.cuda.get_device_properties(i).uuid).lower() for i in range(torch.cuda.device_count())]
    for index, name in enumerate(found):
        if name.removeprefix("gpu-") == wanted:
            return index
    raise BenchError(f"{uuid} is hidden from torch; unset CUDA_VISIBLE_DEVICES or choose another --gpu")
