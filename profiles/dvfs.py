"""A profile at another SM clock: modelled from what a step must compute and read, until points are measured there.

Time: a step is as long as the slower of its arithmetic, which goes with the clock, and everything else, which does not
(weights and KV come over memory whose clock is another): T(s) = max(T, C / s), s the share of the full clock and C the
time of its arithmetic at the best rate the profile itself reaches. Power above idle is split by the same roofline: the
share of the step that memory is busy draws as before; the rest goes with s v(s)^2 (dynamic power f V^2), voltage with
the clock as v(s) = 0.6 + 0.4 s, about the slope of published V-f curves. What comes out, and is not put in: prefill
slows down, decode hardly, and energy against clock is U-shaped where arithmetic rules.
"""

from __future__ import annotations

from typing import Any

from profiles import catalog
from profiles.inputs import InputError
from profiles.llm import Llm
from profiles.profile import DecodePoints, MixedPoints, PrefillPoints, Profile

LEAST = 0.2  # of the full clock: below it nothing published was found to check against
VOLTAGE_AT_REST = 0.6  # v(0), as a share of the voltage at full clock


def at_clock(profile: Profile, share: float, voltage_at_rest: float = VOLTAGE_AT_REST) -> Profile:
    """The profile with the SM clock at `share` of what it was measured at; power marked modelled in its provenance.

    `voltage_at_rest` is v(0) of the module's text, for asking what rests on it: 1 is a voltage that stays.

    Raises:
        InputError: a share outside 0.2 to 1, or an unknown GPU or model.
    """
    if not LEAST <= share <= 1.0:
        raise InputError(f"a clock at {share:g} of the full one", field="clock", mend=f"{LEAST:g} to 1")
    if share == 1.0:
        return profile
    scale = _Scale(profile, share, voltage_at_rest)
    mixed = profile.mixed
    if mixed.points is not None:
        mixed = mixed.model_copy(update={"points": scale.points(mixed.points)})
    note = f"clock at {share:g} of the full one: time and power modelled (profiles.dvfs)"
    made = profile.provenance.model_copy(
        update={
            "kind": "predicted",
            "tier": max(profile.provenance.tier, "cfg"),
            "notes": [*profile.provenance.notes, note],
        }
    )
    shared = profile.lockstep
    if shared is not None:  # experts by the same rule: what goes with the clock is tokens at the best rate there is
        best = max(n / time_s for n, time_s in zip(shared.tokens, shared.time_s, strict=True))
        times = [max(t, n / best / share) for n, t in zip(shared.tokens, shared.time_s, strict=True)]
        shared = shared.model_copy(update={"time_s": times})
    clock = None if profile.clock_mhz is None else profile.clock_mhz * share
    return profile.model_copy(
        update={
            "prefill": scale.points(profile.prefill),
            "decode": scale.points(profile.decode),
            "mixed": mixed,
            "lockstep": shared,
            "provenance": made,
            "clock_mhz": clock,
        }
    )


class _Scale:
    """How a profile's points change with the clock."""

    def __init__(self, profile: Profile, share: float, at_rest: float) -> None:
        self._llm, self._gpu = catalog.llm(profile.model), catalog.gpu(profile.gpu)
        self._profile, self._share = profile, share
        self._dynamic = share * (at_rest + (1.0 - at_rest) * share) ** 2
        best = max(self._flops(profile.prefill, i) / profile.prefill.time_s[i] for i in profile.prefill.valid)
        self._rate = max(
            best, *(self._flops(profile.decode, i) / profile.decode.time_s[i] for i in profile.decode.valid)
        )

    def points(self, points: Any) -> Any:
        """Points of any kind at the new clock."""
        times, powers = [], []
        for i, time_s in enumerate(points.time_s):
            compute_s = self._flops(points, i) / self._rate / self._share
            read_s = self._bytes(points, i) / (self._gpu.bandwidth_bytes_per_s * self._profile.tp)
            idle_w = min(self._profile.idle.loaded_w, points.power_w[i])
            memory = min(1.0, read_s / time_s)
            longer = max(time_s, compute_s)
            # memory's part of the energy above idle stays the same over a longer step; the rest is power times time
            active_w = (points.power_w[i] - idle_w) * (memory * time_s / longer + (1.0 - memory) * self._dynamic)
            times.append(longer)
            powers.append(idle_w + active_w)
        return points.model_copy(update={"time_s": times, "power_w": powers})

    def _flops(self, points: Any, i: int) -> float:
        """Linear layers by token, attention by pair (2 FLOPs in QK and 2 in AV, for each head and dimension)."""
        llm = self._llm
        tokens, pairs = _work(points, i)
        return llm.linear_flops_per_token * tokens + 4.0 * llm.layers * llm.heads * llm.head_dim * pairs

    def _bytes(self, points: Any, i: int) -> float:
        """Weights once, and the KV that is attended."""
        memory = self._profile.memory
        return memory.weights_bytes * _active(self._llm, _work(points, i)[0]) + memory.kv_bytes_per_token * _cached(
            points, i
        )


def _work(points: Any, i: int) -> tuple[float, float]:
    """Tokens of a step, and pairs of tokens that attend each other."""
    if isinstance(points, DecodePoints):
        return points.batch[i], points.kv_tokens[i]
    if isinstance(points, MixedPoints):
        new, past = points.new_tokens[i], points.past_tokens[i]
        return new + points.batch[i], new * (past + 0.5 * new) + points.kv_tokens[i]
    assert isinstance(points, PrefillPoints)
    new, past, each = points.new_tokens[i], points.past_tokens[i], points.sequences[i]
    return new, new / each * (past + 0.5 * new)


def _cached(points: Any, i: int) -> float:
    """KV tokens a step reads."""
    kv = getattr(points, "kv_tokens", None)
    past = getattr(points, "past_tokens", None)
    return (kv[i] if kv else 0.0) + (past[i] if past else 0.0)


def _active(llm: Llm, tokens: float) -> float:
    """Share of the weights that a step of so many tokens reads: a mixture's experts only where a token goes there."""
    if not llm.moe:
        return 1.0
    met: float = 1.0 - (1.0 - llm.experts_per_token / llm.experts) ** tokens
    idle = 1.0 - llm.active_params / llm.params
    return 1.0 - idle + idle * met
