"""The savings again on other assumptions, and our profiles beside shipped ones that were fitted to measurements."""

from __future__ import annotations

from statistics import median
from typing import Any

from carbonfleet.reproduce.greener import phases
from carbonfleet.reproduce.greener.knobs import KNOBS, LOADS, harmless
from carbonfleet.reproduce.greener.paper import CLASSES, GPU, HEADLINE_SAVING, MODEL, PRECISION
from carbonfleet.reproduce.greener.server import Gear, Server, gears
from profiles.profile import Profile, load_all, shipped_folder
from profiles.step import StepModel

TWIN = "llama-3.1-70b"  # Llama 2 70B but for its vocabulary


def rows(server: Server) -> list[dict[str, Any]]:
    """Savings at steady state (no replay) under each assumption; the server is left as it was found."""
    own = dict(server.profiles)
    cases: list[tuple[str, dict[int, Profile], dict[str, float]]] = [
        ("as taken", own, {}),
        ("voltage falls further with the clock: v(0) = 0.4", own, {"voltage_at_rest": 0.4}),
        ("voltage falls less: v(0) = 0.8", own, {"voltage_at_rest": 0.8}),
        ("voltage stays: v(0) = 1", own, {"voltage_at_rest": 1.0}),
        ("idle power half", _idle(own, 0.5), {}),
        ("idle power 1.5 times", _idle(own, 1.5), {}),
        ("decode takes 10 % longer at half clock, whatever bounds it", own, {"drag": 0.1}),
        ("decode takes 30 % longer at half clock", own, {"drag": 0.3}),
    ]
    twins = twin_profiles(server)
    if twins:
        cases.append((f"shipped profiles of {TWIN} at tp {_tps(twins)}, fitted to measurements", own | twins, {}))
    found = []
    for name, profiles, other in cases:
        server.take(profiles, **other)
        found.append({"case": name, **_savings(server)})
    server.take(own)
    return found


def _savings(server: Server) -> dict[str, Any]:
    saved: dict[str, list[float]] = {"clock": [], "all": [], "harmless": []}
    for lengths in CLASSES:
        most = server.most_per_s(server.baseline, lengths)
        for load in LOADS.values() if most else ():
            base = server.point(server.baseline, lengths.prompt, lengths.output, load * most)
            if base is None:
                continue
            for name in ("clock", "all"):
                tried = (
                    server.point(g, lengths.prompt, lengths.output, load * most) for g in gears(server, **KNOBS[name])
                )
                least = min((p.power_w for p in tried if p and p.keeps(lengths.ttft_s)), default=base.power_w)
                saved[name].append(1.0 - min(1.0, least / base.power_w))
            saved["harmless"].append(harmless(server, lengths, load * most, base)["saving"])
    best = next((row for row in phases.rows(server) if row["tp"] == server.tps[-1] and row["phase"] == "prefill"), None)
    return {
        **{f"{name}_median": median(values) if values else 0.0 for name, values in saved.items()},
        **{f"{name}_cells_at_headline": sum(v >= HEADLINE_SAVING for v in values) for name, values in saved.items()},
        "cells": len(saved["clock"]),
        "prefill_best_clock": best["best_clock"] if best else None,
    }


def twin_profiles(server: Server) -> dict[int, Profile]:
    """The shipped profiles of the same network with another vocabulary, by tp."""
    one = next(iter(server.profiles.values()))
    if (one.gpu, one.model, one.precision) != (GPU, MODEL, PRECISION):
        return {}
    shipped = [p for _, p in load_all([shipped_folder()]) if (p.gpu, p.model, p.precision) == (GPU, TWIN, PRECISION)]
    return {p.tp: p for p in shipped if p.tp in server.profiles}


def beside(server: Server) -> list[dict[str, Any]]:
    """Our predicted steps over the shipped ones of the twin, at a long prompt and a decode batch of 64."""
    found = []
    for tp, twin in sorted(twin_profiles(server).items()):
        ours, theirs = server.model(Gear(tp, 1.0, 1.0, 1)), StepModel(twin)
        for name, step in (("prefill", phases.prefill), ("decode", lambda model: phases.decode(model, 64))):
            (time_s, energy_j), (their_s, their_j) = step(ours), step(theirs)
            found.append(
                {
                    "tp": tp,
                    "phase": name,
                    "size": phases.PROMPT if name == "prefill" else 64,
                    "tier": twin.provenance.tier,
                    "time_ratio": time_s / their_s,
                    "power_ratio": energy_j / time_s / (their_j / their_s),
                    "energy_ratio": energy_j / their_j,
                }
            )
    return found


def _idle(profiles: dict[int, Profile], factor: float) -> dict[int, Profile]:
    made = {}
    for tp, profile in profiles.items():
        idle = {"loaded_w": factor * profile.idle.loaded_w, "no_context_w": None}
        made[tp] = profile.model_copy(update={"idle": profile.idle.model_copy(update=idle)})
    return made


def _tps(profiles: dict[int, Profile]) -> str:
    return " and ".join(str(tp) for tp in sorted(profiles))
