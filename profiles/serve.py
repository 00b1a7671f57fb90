"""One request class on one configuration, in the steady state of continuous batching.

P is the prefill time of the prompt alone, D(B) the time of a decode step of B sequences at the mean context
n_in + n_out / 2. An instance that keeps B sequences running finishes a request every P + (n_out - 1) D / B
seconds, because each decode step is shared by B and each prefill stops them all:

    instance time per request   P + (n_out - 1) D / B
    residence after first token (n_out - 1) D + B P     (while it decodes, B - 1 others and their successors prefill)
    TPOT                        D + B P / (n_out - 1)
    energy per request          prefill power x P + decode power x (n_out - 1) D / B

Little's law closes it: B = residence / instance time. All of this is for full load; the simulator judges a plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from profiles.step import StepModel

Role = Literal["both", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Served:
    """What one request of a class costs at steady state on one instance (all its `tp` GPUs together).

    Attributes:
        batch: sequences that really run together (the asked batch, or fewer where KV memory is full).
        prefill_s, step_s: P and D of the module's text, in seconds.
        tpot_s: seconds per output token after the first; None when there is only one output token.
        instance_s, gpu_s: instance seconds and GPU seconds one request occupies.
        energy_j: joules of the GPUs while they work on it; dynamic_j: the part above loaded idle power.
        requests_per_s: the instance's rate at full load, 1 / instance_s.
        extrapolated: a step lies outside the measured range of the profile.
    """

    batch: int
    prefill_s: float
    step_s: float
    tpot_s: float | None
    instance_s: float
    gpu_s: float
    energy_j: float
    dynamic_j: float
    extrapolated: bool

    @property
    def requests_per_s(self) -> float:
        """Requests per second of an instance that never idles."""
        return 1.0 / self.instance_s

    def ttft_s(self, utilisation: float) -> float:
        """Mean seconds from arrival to first token at a share of full load: P, half a decode step, a queue of prefills.

        Prefills are taken as an M/G/1 queue whose service times vary like an exponential (cv 1), a stated allowance
        for a mix of prompt lengths: wait = r P / (1 - r), r = utilisation x the prefill's share of instance time.
        Infinite when prefills alone fill the instance.
        """
        load = utilisation * self.prefill_s / self.instance_s
        if load >= 1.0:
            return math.inf
        return self.prefill_s * (1.0 + load / (1.0 - load)) + 0.5 * utilisation * self.step_s


def kv_batch(model: StepModel, prompt_tokens: int, output_tokens: int, role: Role = "both") -> int:
    """Sequences whose whole KV, prompt and output, fits at once, so that none is ever preempted; 0: not even one.

    Who only prefills hands the KV over before any output.
    """
    return model.kv_capacity_tokens // (prompt_tokens + (0 if role == "prefill" else output_tokens))


def serve(model: StepModel, prompt_tokens: int, output_tokens: int, batch: int, role: Role = "both") -> Served | None:
    """A request of `prompt_tokens` in and `output_tokens` out on an instance that runs `batch` sequences.

    The batch is lowered to what KV memory holds; None when not even one such request fits. With a `role` the instance
    does only the prefills, which take P each, or only the later tokens: (n_out - 1) D / B, TPOT D.

    Raises:
        ValueError: tokens or batch below one.
    """
    if min(prompt_tokens, output_tokens, batch) < 1:
        raise ValueError(f"tokens and batch are at least 1, not {prompt_tokens}, {output_tokens}, {batch}")
    running = min(batch, kv_batch(model, prompt_tokens, output_tokens, role))
    if running < 1:
        return None
    prefill = model.prefill([(prompt_tokens, 0)])
    kv_tokens = running * (prompt_tokens + output_tokens / 2.0)
    line = model.decode(running, kv_tokens)
    step_s = line.a_s + line.c_s * kv_tokens
    later = 0 if role == "prefill" else output_tokens - 1
    prefill_s = 0.0 if role == "decode" else prefill.time_s
    decode_s = later * step_s / running
    instance_s = prefill_s + decode_s
    energy_j = prefill.power_w * prefill_s + line.power_w * decode_s
    return Served(
        batch=running,
        prefill_s=prefill_s,
        step_s=step_s if later else 0.0,
        tpot_s=step_s + running * prefill_s / later if later else None,
        instance_s=instance_s,
        gpu_s=instance_s * model.profile.tp,
        energy_j=energy_j,
        dynamic_j=max(0.0, energy_j - model.idle_w * instance_s),
        extrapolated=(prefill_s > 0 and prefill.extrapolated) or (later > 0 and line.extrapolated),
    )


def best_batch(
    model: StepModel, prompt_tokens: int, output_tokens: int, tpot_limit_s: float | None, max_num_seqs: int = 256
) -> int:
    """The largest batch within the TPOT limit, KV memory and `max_num_seqs`; 0 when none is.

    TPOT grows with the batch, so it is found by bisection.
    """
    low, high = 0, min(max_num_seqs, kv_batch(model, prompt_tokens, output_tokens))
    while low < high:
        middle = (low + high + 1) // 2
        served = serve(model, prompt_tokens, output_tokens, middle)
        if served is not None and within(served.tpot_s, tpot_limit_s):
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Settled:
    """What an instance does at part load: it wavers between two whole batches.

    Attributes:
        above: the smallest batch that is fast enough.
        below: the next smaller one, too slow; None where one sequence at a time is enough and the instance idles.
        weight: of `below`, 0 to 1.
    """

    above: Served
    below: Served | None
    weight: float

    def mean(self, figure: Callable[[Served], float]) -> float:
        """A figure of both batches, linear between them."""
        above = figure(self.above)
        return above if self.below is None else above + self.weight * (figure(self.below) - above)


def settled(
    model: StepModel, prompt_tokens: int, output_tokens: int, full: Served, target_s: float, role: Role = "both"
) -> Settled:
    """The batch at which an instance takes `target_s` for a request, which is not below the time `full` takes.

    Below full load fewer sequences run together, so each decode step serves fewer tokens.
    """
    low, high = 0, full.batch  # instance time falls with the batch: at `high` it is within the target
    while high - low > 1:
        middle = (low + high) // 2
        tried = serve(model, prompt_tokens, output_tokens, middle, role)
        low, high = (low, middle) if tried is None or tried.instance_s <= target_s else (middle, high)
    above = serve(model, prompt_tokens, output_tokens, high, role) or full
    below = serve(model, prompt_tokens, output_tokens, low, role) if low else None
    if below is None or below.instance_s <= above.instance_s:
        return Settled(above, None, 0.0)
    weight = min(1.0, max(0.0, (target_s - above.instance_s) / (below.instance_s - above.instance_s)))
    return Settled(above, below, weight)


def part_load_j(
    model: StepModel, prompt_tokens: int, output_tokens: int, full: Served, utilisation: float, role: Role = "both"
) -> float:
    """Joules above loaded idle of one request on an instance that runs at a share of its full load.

    The batch settles where the instance finishes `utilisation` of its full rate; between two whole batches joules are
    linear in instance time.
    """
    target_s = full.instance_s / utilisation
    found = settled(model, prompt_tokens, output_tokens, full, target_s, role)
    return found.mean(lambda one: one.dynamic_j)


@dataclass(frozen=True, slots=True)
class Mix:
    """What an instance that is sent a mix of classes holds up each of them with.

    `prefill_share` of its full-load time is prefill; `wait_s` is the prefills' M/G/1 queue (Pollaczek-Khinchine) at
    the stated utilisation, with the mix's own second moment.
    """

    prefill_share: float
    wait_s: float

    @classmethod
    def of(cls, shares: list[float], served: list[Served], utilisation: float) -> Mix:
        """The mix of classes by their shares of requests."""
        total = sum(shares)
        each = [(share / total, one) for share, one in zip(shares, served, strict=True)]
        instance_s = sum(share * one.instance_s for share, one in each)
        prefill_share = sum(share * one.prefill_s for share, one in each) / instance_s
        squares = sum(share * one.prefill_s**2 for share, one in each)
        busy = utilisation * prefill_share
        return cls(prefill_share, utilisation * squares / instance_s / (2.0 * (1.0 - busy)) if busy < 1 else math.inf)

    def ttft_s(self, one: Served, utilisation: float) -> float:
        """Mean time to first token of a class in the mix: its prefill, the wait, half a decode step."""
        return one.prefill_s + self.wait_s + 0.5 * utilisation * one.step_s

    def tpot_s(self, one: Served) -> float | None:
        """TPOT of a class in the mix: its decode step, stretched by the prefills of the others."""
        return None if one.tpot_s is None else one.step_s / (1.0 - self.prefill_share)


def within(value_s: float | None, limit_s: float | None) -> bool:
    """Whether a latency keeps its limit; no limit is always kept, and so is a TPOT that is undefined."""
    return limit_s is None or value_s is None or value_s <= limit_s
