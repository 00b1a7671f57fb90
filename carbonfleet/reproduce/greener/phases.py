"""Joules and seconds of a prompt and of a decode step against the clock, and where least energy lies."""

from __future__ import annotations

from typing import Any

from carbonfleet.reproduce.greener.server import Gear, Server, clocks
from profiles import dvfs
from profiles.step import StepModel

SHARES = clocks(0.05, dvfs.LEAST)
PROMPT = 2048
CONTEXT = 1024
BATCHES = (8, 64, 256)
IDLES = (0.5, 1.0, 2.0)  # of the idle power, for what the optimum rests on


def rows(server: Server) -> list[dict[str, Any]]:
    """Curves over the clock: prefill of a long prompt, decode steps of three batches; by tp."""
    found = []
    for tp in server.tps:
        models = [server.model(Gear(tp, share, share, 1)) for share in SHARES]
        if models[0].kv_capacity_tokens >= PROMPT:
            found.append(_curve(tp, "prefill", PROMPT, [prefill(model) for model in models]))
        for batch in BATCHES:
            if batch * CONTEXT <= models[0].kv_capacity_tokens:
                found.append(_curve(tp, "decode", batch, [decode(model, batch) for model in models]))
    return found


def prefill(model: StepModel) -> tuple[float, float]:
    """Seconds and joules of a prompt of PROMPT tokens."""
    step = model.prefill_one(PROMPT)
    return step.time_s, step.time_s * step.power_w


def decode(model: StepModel, batch: int) -> tuple[float, float]:
    """Seconds and joules of a step of `batch` sequences at a context of CONTEXT tokens."""
    time_s = model.decode_time_s(batch, batch * CONTEXT)
    return time_s, time_s * model.decode(batch, batch * CONTEXT).power_w


def _curve(tp: int, phase: str, size: int, points: list[tuple[float, float]]) -> dict[str, Any]:
    full_s, full_j = points[-1]
    joules = [energy / full_j for _, energy in points]
    place = min(range(len(joules)), key=joules.__getitem__)
    half = SHARES.index(0.5)
    return {
        "tp": tp,
        "phase": phase,
        "size": size,
        "time_at_full_clock_s": full_s,
        "energy_at_full_clock_j": full_j,
        "clock": list(SHARES),
        "time": [time_s / full_s for time_s, _ in points],
        "energy": joules,
        "best_clock": SHARES[place],
        "best_energy": joules[place],
        "time_at_best_clock": points[place][0] / full_s,
        "time_at_half_clock": points[half][0] / full_s,
        "interior": 0 < place < len(SHARES) - 1,
    }


def optimum_by_idle(server: Server) -> list[dict[str, Any]]:
    """Prefill's best clock if idle power were other: it comes from idle joules against dynamic ones."""
    tp = server.tps[-1]
    found = []
    for factor in IDLES:
        profile = server.profiles[tp]
        idle = profile.idle.model_copy(update={"loaded_w": factor * profile.idle.loaded_w, "no_context_w": None})
        other = profile.model_copy(update={"idle": idle})
        joules = [prefill(StepModel(dvfs.at_clock(other, share)))[1] for share in SHARES]
        found.append({"idle_factor": factor, "best_clock": SHARES[joules.index(min(joules))]})
    return found
