"""The torch runner: a decoder of any LLaMA shape (calibrate/runners/decoder.py) on a GPU or a CPU.

On a GPU each point is one CUDA graph, so the figures are kernels without an engine's host work; decode includes the
head and the sampler's argmax. torch is imported inside functions only.
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
from calibrate.runners.decoder import Decoder, Pass, Shard
from calibrate.runners.linear import EIGHT_BITS
from profiles.inputs import InputError, near_miss
from profiles.llm import GATED_MLP, Llm

T = TypeVar("T")
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "bfloat16", "int8": "bfloat16"}
_CONTEXT_BYTES = 1.5e9  # CUDA context, cuBLAS workspaces and graph pools on a GPU


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

    def __init__(self, model: Decoder, *groups: Pass) -> None:
        self._cuda = model.device.type == "cuda"
        self._model, self._groups = model, groups
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
        self._graph = self._out = None
        self._groups = ()
        if self._cuda:
            torch.cuda.empty_cache()

    def _step(self) -> None:
        self._out = self._model.logits(*self._groups).argmax(dim=-1)

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
        llm: the model; latent and windowed attention are refused.
        device: "cuda" or "cpu".
        precision: of the linear layers: bf16, fp16, fp32 (on a CPU only), fp8 or int8; the cache keeps 16 bits then.
        uuid: the metered GPU's UUID; torch's device of that UUID is taken, whatever its index.
        seed: of weights and tokens.
        shard: the tensor-parallel part to be; the process group is there already.

    Raises:
        InputError: an unknown device or precision, a shape it cannot run.
        BenchError: torch is not installed, or the metered GPU is hidden from it.
        NoGpu: torch sees no GPU.
    """

    engine = "torch-kernels"

    def __init__(
        self,
        llm: Llm,
        device: str,
        precision: str,
        uuid: str | None = None,
        seed: int = 0,
        shard: Shard | None = None,
    ) -> None:
        check(llm, device, precision, 1 if shard is None else shard.size)
        self._precision, self._shard = precision, shard
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
        self.bind()
        self._model = self._or_too_big("the weights", self._decoder)
        self._synchronize()

    def bind(self) -> None:
        """Take the GPU of the UUID; a second call does no harm."""
        if self._device.type == "cuda" and self._device.index is None:
            import torch

            self._device = torch.device("cuda", _cuda_index(torch, self._uuid))
            torch.cuda.set_device(self._device)

    def _decoder(self) -> Decoder:
        return Decoder(self._llm, self._device, self._dtype, self._seed, self._precision, self._shard)

    def prefill(self, new: int, past: int, sequences: int) -> _TorchWork:
        """`sequences` prompts of `new` tokens behind `past` cached ones each."""
        return self._work(sequences, new, past)

    def decode(self, batch: int, context: int) -> _TorchWork:
        """One token for each of `batch` sequences, which then hold `context` tokens each."""
        return self._work(batch, 1, context - 1)

    def mixed(self, new: int, batch: int, context: int) -> _TorchWork:
        """A prompt of `new` tokens beside `batch` sequences that then hold `context` tokens each."""
        model = self._loaded()
        many = (batch, 1, context - 1)
        return self._or_too_big(
            "this point", lambda: _TorchWork(model, Pass.of(model, 1, new, 0), Pass.of(model, *many))
        )

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
        model = self._loaded()
        return self._or_too_big("this point", lambda: _TorchWork(model, Pass.of(model, sequences, new, start)))

    def _loaded(self) -> Decoder:
        assert self._model is not None, "load() first"
        return self._model

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


def check(llm: Llm, device: str, precision: str, tp: int) -> None:
    """Whether this bench can run the model so.

    Raises:
        InputError: an unknown device or precision, a shape it cannot run or cut.
    """
    if precision not in _DTYPES:
        raise InputError(f"precision {precision} is not for the torch runner", mend=near_miss(precision, _DTYPES))
    if device not in ("cuda", "cpu"):
        raise InputError(f"device {device} is unknown", mend=near_miss(device, ("cuda", "cpu")))
    if precision == "fp32" and device == "cuda":
        raise InputError("fp32 is for --device cpu", mend="use bf16 or fp16 on a GPU")
    if llm.mla or llm.window_layers or llm.mlp_matrices != GATED_MLP:
        raise InputError(
            f"{llm.name} has latent or windowed attention or a plain MLP, which the torch runner cannot run",
            mend="choose a model of the LLaMA family",
        )
    if precision in EIGHT_BITS and llm.moe:
        raise InputError(f"{llm.name}: experts in {precision} are not for the torch runner", mend="take bf16")
    widths = (llm.heads, llm.kv_heads, llm.intermediate, llm.expert_intermediate, llm.shared_intermediate)
    if any(width % tp for width in widths):
        raise InputError(f"{llm.name} cannot be cut into {tp} tensor-parallel parts", mend="take fewer GPUs")
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
