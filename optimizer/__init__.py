"""Demand and catalogue in, a plan out; the simulator replays it.

`solve(study) -> Plan` is the whole of it; `optimizer.study.read` reads a study and `optimizer.refine.replay` checks
a plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimizer.plan import Plan
    from optimizer.study import Study


def solve(study: Study) -> Plan:
    """Find the fleet of a study; see optimizer.plan.solve."""
    from optimizer import plan

    return plan.solve(study)
