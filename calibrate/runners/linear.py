"""A linear layer in the precision asked for: bf16, fp16, fp32, or 8 bits with the cost of quantising on the way."""

from __future__ import annotations

from typing import Any

_FP8_MOST, _INT8_MOST = 448.0, 127.0  # largest value of e4m3 and of a signed byte
_LEAST_ROWS = 32  # CUDA's integer product wants more than 16 rows
EIGHT_BITS = ("fp8", "int8")


class Linear:
    """x @ weight^T. In 8 bits the weight is scaled as a whole, and x by its own largest value at every call.

    Args:
        weight: (out, in) in the working precision.
        precision: fp8 (e4m3) or int8; anything else keeps the weight as it is.
    """

    def __init__(self, weight: Any, precision: str) -> None:
        import torch

        self._precision, self._dtype = precision, weight.dtype
        self.weight, self._scale = weight, None
        if precision == "fp8":
            self._scale = (weight.abs().amax().float() / _FP8_MOST).clamp(min=1e-12)
            self.weight = (weight.float() / self._scale).to(torch.float8_e4m3fn)
        elif precision == "int8":
            self._scale = (weight.abs().amax().float() / _INT8_MOST).clamp(min=1e-12)
            self.weight = (weight.float() / self._scale).round().to(torch.int8)

    def __call__(self, x: Any) -> Any:
        """The product, in the working precision."""
        import torch
        import torch.nn.functional as F  # noqa: N812

        if self._precision not in EIGHT_BITS:
            return F.linear(x, self.weight)
        rows = x.reshape(-1, x.shape[-1])
        most = _FP8_MOST if self._precision == "fp8" else _INT8_MOST
        scale = (rows.abs().amax().float() / most).clamp(min=1e-12)
        if self._precision == "fp8":
            small = (rows.float() / scale).to(torch.float8_e4m3fn)
            out = torch._scaled_mm(small, self.weight.t(), scale_a=scale, scale_b=self._scale, out_dtype=self._dtype)
        else:
            small = (rows.float() / scale).round().to(torch.int8)
            padded = F.pad(small, (0, 0, 0, max(0, _LEAST_ROWS - small.shape[0])))
            out = (torch._int_mm(padded, self.weight.t())[: rows.shape[0]] * (scale * self._scale)).to(self._dtype)
        return out.reshape(*x.shape[:-1], -1)
