"""Why a kind of unit is not in the plan: what a fleet of it alone comes to, or what that lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from optimizer.choices import Choice
from optimizer.market import Market
from optimizer.program import Program, restricted
from optimizer.solver import Solution, solve_program
from optimizer.study import Study

_LEAST_SHARE = 1e-9  # of a demand: less is the solver's tolerance
_WHY_LIMIT_S = 5.0  # seconds the solver may spend on telling why one unused type lost


class Kind(NamedTuple):
    """A type that can be chosen: a GPU in a host, and how it is had (owned, buy, lease, on-demand)."""

    gpu: str
    host: str
    tenure: str

    @classmethod
    def of(cls, choice: Choice) -> Kind:
        """The type of a choice."""
        return cls(choice.gpu, choice.host.name, choice.tenure)


def groups_of(market: Market) -> dict[Kind, list[int]]:
    """The groups of every type on offer or owned."""
    kinds: dict[Kind, list[int]] = {}
    for group in range(len(market.groups)):
        kinds.setdefault(Kind.of(market.lead(group)), []).append(group)
    return kinds


def used(market: Market, solution: Solution) -> set[Kind]:
    """The types that a solution has units of, or rents."""
    groups = {b.group for b, count in zip(market.bought, solution.units, strict=False) if count}
    shares = zip(market.program.columns, solution.shares, strict=True)
    groups |= {c.option for c, share in shares if share > _LEAST_SHARE and c.option in market.program.hourly}
    return {Kind.of(market.lead(group)) for group in groups}


def unused(study: Study, market: Market, solution: Solution, best: float) -> list[dict[str, Any]]:
    """Each type that was not taken, with the total of a fleet made of it alone, or what that lacks."""
    rows, taken = [], used(market, solution)
    for kind, groups in groups_of(market).items():
        if kind in taken:
            continue
        own = restricted(market.program, {o for o, b in enumerate(market.bought) if b.group in groups})
        own = replace(own, hourly=market.program.hourly.intersection(groups))
        alone = solve_program(own, time_limit_s=_WHY_LIMIT_S, gap_rel=1e-3)
        full = [full_load_g_per_1k(market, group) for group in groups]
        rows.append(
            {
                "gpu": kind.gpu,
                "host": kind.host,
                "owned": kind.tenure == "owned",
                "tenure": kind.tenure,
                "alone_objective": alone.objective,
                "carbon_g_per_1k_output_tokens_at_full_load": min((g for g in full if g is not None), default=None),
                "why": _why(study, market, groups, own, alone, best),
            }
        )
    return rows


def _why(study: Study, market: Market, groups: list[int], own: Program, alone: Solution, best: float) -> str:
    unit = {"carbon": "g", "energy": "J", "cost": "usd"}[study.objective]
    if alone.objective is not None:
        more = f"{100 * (alone.objective / best - 1):+.1f} %" if best else "more"
        proof = "" if alone.status == "optimal" else " (not proved optimal)"
        return f"alone it comes to {alone.objective:.4g} {unit}{proof}, {more} of this plan's {best:.4g}"
    if alone.status == "no_solution":
        return f"no fleet of it alone was found in {_WHY_LIMIT_S:g} s"
    broken = [s for g in groups for c in market.groups[g] for s in market.choices[c].served if isinstance(s, str)]
    if own.unserved() and broken:
        return f"alone it cannot keep every limit: {broken[0]}"
    if not own.alive:
        return "it cannot be had in any year in which units may be bought"
    return "its units, room or power do not carry the demand alone, and beside others it does not pay"


def full_load_g_per_1k(market: Market, group: int) -> float | None:
    """Grams per 1,000 output tokens of a unit kept at safe utilisation all horizon; None when a class does not fit.

    With several configurations, in the first of its group.
    """
    place, choice, load = market.groups[group][0], market.lead(group), market.load
    if any(isinstance(served, str) for served in choice.served) or choice.config.role != "both":
        return None
    seconds = sum(part.seconds for part in market.slices)
    columns = zip(market.program.columns, market.priced, market.choice_of, strict=True)
    grams = sum(amount.carbon_g for column, amount, c in columns if column.option == group and c == place)
    if not (choice.hourly or any(b.group == group for b in market.bought)):
        return None
    ways = [b.purchase.amount.carbon_g for b in market.bought if b.group == group]
    unit_g = min(ways, default=0.0) + sum(each.carbon_g for each in market.on[group])  # of hourly ones: in the columns
    for c, each in enumerate(load.classes):
        grams += load.of_class(each) * (choice.busy_s(c, market.safe_utilisation) or 0.0) * unit_g / seconds
    return grams / load.output_tokens * 1000.0
