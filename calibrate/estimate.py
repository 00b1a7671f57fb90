"""What a calibration will take before it starts: points, bytes and minutes."""

from __future__ import annotations

from typing import Any

from calibrate import points as grids
from calibrate import protocol, serving
from calibrate.server_bench import ServerGrid
from calibrate.server_profile import mixed_label
from profiles.llm import Llm

_POINT_OVERHEAD_S = 1.5  # allocating, capturing the graph, first calls


def estimate(llm: Llm, runner: str, precision: str, quick: bool, device: str, max_batch: int) -> dict[str, Any]:
    """Labels of the points, gigabytes of weights and minutes, as the stated windows add up.

    Nothing is opened: what does not fit the memory is only left out when the GPU is there.
    """
    if runner == "openai":
        pace = serving.QUICK if quick else serving.FULL
        grid = ServerGrid().within(max_batch, max(ServerGrid().prompts), 1 << 40)
        labels = [grids.prefill(n).label for n in grid.prompts]
        labels += [grids.decode(b, c).label for b in grid.batches for c in grid.contexts]
        labels += [mixed_label(n, b) for b in grid.mixed_batches for n in grid.prompts[1:]]
        labels += [f"mix {a} + {b}" for a, b in grid.mixes]
        alone = len(labels) - len(grid.mixes)
        seconds = pace.repeats * alone * 2 * pace.window_s + len(grid.mixes) * pace.mix_s + pace.idle_s
    else:
        timing = protocol.QUICK if quick else protocol.FULL
        chosen = grids.CPU if device == "cpu" else grids.QUICK if quick else grids.FULL
        planned, _ = grids.plan(chosen, 1 << 40, llm.max_context)
        labels = [point.label for point in planned]
        each = timing.settle_s + timing.window_s + _POINT_OVERHEAD_S
        seconds = (timing.repeats * len(labels) + 3) * each + timing.warm_up_max_s / 2 + timing.period_probe_s
        seconds += 2 * (timing.idle_rest_s + timing.idle_s)
    return {
        "model": llm.name,
        "weights_gb": llm.weights_bytes(precision) / 1e9,
        "points": labels,
        "minutes": seconds / 60.0,
    }
