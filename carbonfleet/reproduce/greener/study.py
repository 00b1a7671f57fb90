"""The whole reproduction as one document: maps, phases, knobs, week, doubts, checks, assumptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from carbonfleet.reproduce.greener import checks, doubts, maps, phases, week
from carbonfleet.reproduce.greener.assumptions import CALIFORNIA_UTC_H, LIFETIME_YEARS, assumptions
from carbonfleet.reproduce.greener.knobs import LOADS, Knobs
from carbonfleet.reproduce.greener.paper import (
    CLASSES,
    DYNAMO,
    ENGINE,
    GPU,
    GREENER,
    MODEL,
    PRECISION,
    TBT_LIMIT_S,
    ZONE,
)
from carbonfleet.reproduce.greener.server import Server
from carbonfleet.reproduce.result import Study, rounded
from profiles import dvfs, grid

NAME = "greener-llms"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is looked at; the defaults are the papers', as far as they are known."""

    gpu: str = GPU
    model: str = MODEL
    precision: str = PRECISION
    zone: str = ZONE
    utc_offset_h: float = CALIFORNIA_UTC_H
    lifetime_years: float = LIFETIME_YEARS


def study(asked: Setting) -> Study:
    """Predict, map, choose, replay, run the week, doubt, judge.

    Raises:
        InputError: an unknown name, a model that does not fit, or one that no tp serves within the limits.
    """
    signal = grid.load(asked.zone)
    server = Server(asked.gpu, asked.model, asked.precision, ENGINE)
    profiles = [server.profiles[tp] for tp in server.tps]
    document: dict[str, Any] = {
        "reproduction": NAME,
        "papers": [GREENER, DYNAMO],
        "setting": asdict(asked)
        | {
            "gpu": profiles[0].gpu,
            "model": profiles[0].model,
            "zone": signal.name,
            "host": server.host.name,
            "gpus": server.host.gpus,
            "tps": server.tps,
            "map_batches": list(maps.BATCHES),
            "classes": [asdict(lengths) for lengths in CLASSES],
            "tbt_limit_s": TBT_LIMIT_S,
            "loads": LOADS,
        },
        "tp_without_room": {str(tp): why for tp, why in server.without.items()},
        "profiles": [_profile(profile) for profile in profiles],
        "maps": maps.rows(server),
        "batch": maps.batch_rows(server),
        "phases": phases.rows(server),
        "optimum_by_idle": phases.optimum_by_idle(server),
        "knobs": Knobs(server).rows(),
        "week": week.rows(server, signal, asked.utc_offset_h, asked.lifetime_years),
        "doubts": doubts.rows(server),
        "beside_measured": doubts.beside(server),
    }
    document["checks"] = checks.physics(document)
    document["findings"] = checks.findings(document)
    document["assumptions"] = assumptions(asked.utc_offset_h, asked.lifetime_years, server, signal)
    document["warnings"] = list(_warnings(asked, server))
    return Study(rounded(document), profiles)


def _profile(profile: Any) -> dict[str, Any]:
    return {
        "key": profile.key,
        "tp": profile.tp,
        "kind": profile.provenance.kind,
        "tier": profile.provenance.tier,
        "source": profile.provenance.source,
        "time_band": profile.band.time,
        "power_band": profile.band.power,
        "kv_capacity_tokens": profile.memory.kv_capacity_tokens,
        "loaded_idle_w": profile.idle.loaded_w,
    }


def _warnings(asked: Setting, server: Server) -> Iterable[str]:
    one = server.profiles[server.tps[0]]
    yield (
        f"every step is predicted (tier {one.provenance.tier}; factor {one.band.time:g} in time and {one.band.power:g} "
        "in power): the papers' measurements are not public"
    )
    yield (
        f"clocks are modelled (profiles.dvfs, voltage at rest {dvfs.VOLTAGE_AT_REST:g}): no measurement at another "
        "clock was found"
    )
    for tp, why in server.without.items():
        yield f"tp {tp} is left out: {why}"
    if asked != Setting():
        yield "the papers' figures are of Llama-2 70B on 8 H100: what stands beside them here is of another setting"
