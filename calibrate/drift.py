"""Has a profile drifted? Three of its points measured again, against the interval it states."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from calibrate.bench import measure
from calibrate.errors import BenchError
from calibrate.points import Grid
from calibrate.runners.fake import FakeGpu
from calibrate.schedule import Progress
from profiles.catalog import llm
from profiles.profile import Profile

WIDE = 1.96  # standard errors
FLOOR = 0.03  # what two runs on different days may differ by without anything being wrong


@dataclass(frozen=True, slots=True)
class Drift:
    """One point then and now: relative changes of time and power, and what is allowed."""

    point: str
    time_rel: float
    power_rel: float
    allowed_time_rel: float
    allowed_power_rel: float

    @property
    def agrees(self) -> bool:
        """Whether both changes are within what is allowed."""
        return abs(self.time_rel) <= self.allowed_time_rel and abs(self.power_rel) <= self.allowed_power_rel

    def line(self) -> str:
        """The point in words."""
        return (
            f"{self.point}: time {100 * self.time_rel:+.1f} % (allowed {100 * self.allowed_time_rel:.1f}), "
            f"power {100 * self.power_rel:+.1f} % (allowed {100 * self.allowed_power_rel:.1f})"
            f"{'' if self.agrees else ': DRIFTED'}"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "agrees": self.agrees}


def drift(
    profile: Profile,
    *,
    runner: str = "torch",
    device: str = "cuda",
    gpu_index: int = 0,
    progress: Callable[[Progress], None] | None = None,
    fake_gpu: str | FakeGpu = "h100-sxm-80gb",
) -> list[Drift]:
    """Measure a prefill, the smallest and the largest decode of a profile again.

    Raises:
        BenchError: the profile was not made by this bench (its engine is another's).
    """
    if profile.layer != "kernels":
        what = f"{profile.key} was measured with its engine ({profile.engine}); check it with run --runner openai"
        raise BenchError(what)
    p, d = profile.prefill, profile.decode
    alone = [i for i in p.valid if not p.past_tokens[i]]
    middle = sorted(alone, key=lambda i: p.new_tokens[i])[len(alone) // 2]
    ordered = sorted(d.valid, key=lambda i: (d.batch[i], d.kv_tokens[i]))
    small, large = ordered[0], ordered[-1]
    low, high = (round(d.kv_tokens[i] / d.batch[i]) for i in (small, large))
    contexts = (low, high) if low < high else (low, 2 * low)
    grid = Grid((p.new_tokens[middle],), (), tuple(sorted({d.batch[small], d.batch[large]})), contexts)
    now = measure(
        llm(profile.model),
        runner=runner,
        device=device,
        gpu_index=gpu_index,
        precision=profile.precision,
        quick=True,
        grid=grid,
        progress=progress,
        fake_gpu=fake_gpu,
    )
    found = [_compare(f"prefill of {p.new_tokens[middle]}", profile.prefill, middle, now.prefill, 0)]
    for i in (small, large):
        key = (d.batch[i], d.kv_tokens[i])
        j = next((k for k in now.decode.valid if (now.decode.batch[k], now.decode.kv_tokens[k]) == key), None)
        if j is not None:
            found.append(_compare(f"decode of {key[0]} x {key[1] // key[0]}", d, i, now.decode, j))
    return found


def _compare(label: str, then: Any, i: int, now: Any, j: int) -> Drift:
    return Drift(
        label,
        now.time_s[j] / then.time_s[i] - 1.0,
        now.power_w[j] / then.power_w[i] - 1.0 if then.power_w[i] else 0.0,
        max(FLOOR, WIDE * math.hypot(_at(then.time_random_rel, i), _at(now.time_random_rel, j))),
        max(FLOOR, WIDE * math.hypot(_at(then.power_random_rel, i), _at(now.power_random_rel, j))),
    )


def _at(column: list[float] | None, i: int) -> float:
    return 0.0 if column is None else column[i]
