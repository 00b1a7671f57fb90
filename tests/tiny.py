"""The smallest scenario worth running: one instance, twenty seconds of chat."""

from __future__ import annotations

from typing import Any

SCENARIO: dict[str, Any] = {
    "name": "tiny",
    "generator": {"duration_s": 20.0, "rate_per_s": 1.0, "lengths": "azure-conv"},
    "start": "2023-06-14T18:00:00Z",
    "horizon_s": 60.0,
    "slo": {"ttft_s": 1.0},
    "sites": [{"name": "here", "grid": 400}],
    "pools": [{"name": "p", "site": "here", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 1}],
}
