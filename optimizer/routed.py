"""A plan's dispatch as routing: which share of the requests of each prompt length every pool takes in each hour.

Routers do not know a request's output length, so that classes are told apart by their prompts alone; the shares of
the classes in between are weighed by their traffic.
"""

from __future__ import annotations

from optimizer.demand import RequestClass
from optimizer.plan import Plan
from optimizer.study import Study
from sim.plan import PlanBucket, PlanSlice, RoutingPlan

Shares = dict[int, dict[str, float]]  # class -> pool -> share


def routing_plan(plan: Plan, study: Study) -> RoutingPlan | None:
    """The first year's placement, hour by hour; None where it says nothing: one pool, seasons, futures, models."""
    pools = [row.pool for row in plan.fleet if row.on[0] and row.role != "decode"]
    if len(pools) < 2 or study.slices != "day" or study.futures or len(study.models) > 1:
        return None
    classes = [RequestClass(**each) for each in plan.classes]
    limits = sorted({each.prompt_to or 0 for each in classes if each.prompt_to})
    last = [k for k, each in enumerate(classes) if not each.prompt_to]
    groups = [[k for k, each in enumerate(classes) if each.prompt_to == limit] for limit in limits]
    buckets = [PlanBucket(max_prompt_tokens=limit) for limit in limits]
    if last:
        groups.append(last)
        buckets.append(PlanBucket())
    hours = {part["name"]: part["hours"] for part in plan.slices if part["year"] == 0}
    by_slice: dict[str, Shares] = {}
    for row in plan.dispatch:
        if row.get("role") == "decode":
            continue
        mine = by_slice.setdefault(row["slice"], {}).setdefault(row["class"], {})
        mine[row["pool"]] = mine.get(row["pool"], 0.0) + row["share"]
    slices = [
        PlanSlice(hours=list(hours[name]), shares=[_mixed(shares, classes, group) for group in groups])
        for name, shares in by_slice.items()
        if hours.get(name)
    ]
    return RoutingPlan(buckets=buckets, slices=slices)


def _mixed(shares: Shares, classes: list[RequestClass], group: list[int]) -> dict[str, float]:
    """Pools' shares of several classes together."""
    found: dict[str, float] = {}
    for k in group:
        for pool, share in shares.get(k, {}).items():
            found[pool] = found.get(pool, 0.0) + share * classes[k].share
    return found
