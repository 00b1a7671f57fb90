"""Which instance a request goes to. A router is one small class; it sees what is known now, never future truth.

Output lengths are predicted: by the running mean of what has completed (from a prior), or by the oracle where the
scenario says so. A policy of one's own is a class like these, put into ROUTERS under a name (docs/scenario.md).
"""

from __future__ import annotations

from collections.abc import Callable

from sim.routing.base import PRIOR_OUTPUT_TOKENS, LeastLoaded, Predictor, Router
from sim.routing.by_pool import ByLength, LeastAddedCarbon, SpillOver
from sim.routing.pairs import MixedPool
from sim.routing.plain import (
    LeastKv,
    LeastOutstandingRequests,
    LeastOutstandingTokens,
    LeastPrefillBacklog,
    PowerOfTwoChoices,
    RoundRobin,
)
from sim.routing.planned import Planned, PrefixAffine

__all__ = ["PRIOR_OUTPUT_TOKENS", "ROUTERS", "LeastLoaded", "Predictor", "Router"]

ROUTERS: dict[str, Callable[..., Router]] = {
    "round-robin": RoundRobin,
    "least-outstanding-requests": LeastOutstandingRequests,
    "least-outstanding-tokens": LeastOutstandingTokens,
    "least-kv": LeastKv,
    "power-of-two-choices": PowerOfTwoChoices,
    "least-prefill-backlog": LeastPrefillBacklog,
    "by-length": ByLength,
    "spill-over": SpillOver,
    "least-added-carbon": LeastAddedCarbon,
    "prefix-affine": PrefixAffine,
    "planned": Planned,
    "mixed-pool": MixedPool,
}
