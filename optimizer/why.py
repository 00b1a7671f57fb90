"""Why a kind of unit is not in the plan: what a fleet of it alone comes to, or what that lacks."""

from __future__ import annotations

from typing import Any

from optimizer.market import Market
from optimizer.program import restricted
from optimizer.solver import Solution, solve_program
from optimizer.study import Study

_WHY_LIMIT_S = 5.0  # seconds the solver may spend on telling why one unused type lost


def unused(study: Study, market: Market, solution: Solution, best: float) -> list[dict[str, Any]]:
    """Each kind of unit that was not taken, with the total of a fleet made of it alone, or what that lacks."""
    kinds: dict[tuple[str, str, bool], set[int]] = {}
    for o, bought in enumerate(market.bought):
        choice = bought.choice
        kinds.setdefault((choice.gpu, choice.host.name, choice.owned), set()).add(o)
    rows = []
    for (gpu, host, owned), own in kinds.items():
        if any(solution.units[o] for o in own):
            continue
        alone = solve_program(restricted(market.program, own), time_limit_s=_WHY_LIMIT_S, gap_rel=1e-3)
        full = [full_load_g_per_1k(market, o) for o in own]
        rows.append(
            {
                "gpu": gpu,
                "host": host,
                "owned": owned,
                "alone_objective": alone.objective,
                "carbon_g_per_1k_output_tokens_at_full_load": min((g for g in full if g is not None), default=None),
                "why": _why(study, market, own, alone, best),
            }
        )
    return rows


def _why(study: Study, market: Market, own: set[int], alone: Solution, best: float) -> str:
    unit = {"carbon": "g", "energy": "J", "cost": "usd"}[study.objective]
    if alone.objective is not None:
        more = f"{100 * (alone.objective / best - 1):+.1f} %" if best else "more"
        proof = "" if alone.status == "optimal" else " (not proved optimal)"
        return f"alone it comes to {alone.objective:.4g} {unit}{proof}, {more} of this plan's {best:.4g}"
    if alone.status == "no_solution":
        return f"no fleet of it alone was found in {_WHY_LIMIT_S:g} s"
    mine = [market.choices[c] for o in own for c in market.groups[market.bought[o].group]]
    broken = [s for choice in mine for s in choice.served if isinstance(s, str)]
    if restricted(market.program, own).unserved() and broken:
        return f"alone it cannot keep every limit: {broken[0]}"
    return "its units, room or power do not carry the demand alone, and beside others it does not pay"


def full_load_g_per_1k(market: Market, option: int) -> float | None:
    """Grams per 1,000 output tokens of a unit kept at safe utilisation all horizon; None when a class does not fit.

    With several configurations, in the first of its group.
    """
    bought, load = market.bought[option], market.load
    place, choice = market.groups[bought.group][0], bought.choice
    if any(isinstance(served, str) for served in choice.served) or choice.config.role != "both":
        return None
    seconds = sum(part.seconds for part in market.slices)
    columns = zip(market.program.columns, market.priced, market.choice_of, strict=True)
    grams = sum(amount.carbon_g for column, amount, c in columns if column.option == bought.group and c == place)
    unit_g = bought.purchase.amount.carbon_g + sum(each.carbon_g for each in market.on[bought.group])
    for c, each in enumerate(load.classes):
        grams += load.of_class(each) * (choice.busy_s(c, market.safe_utilisation) or 0.0) * unit_g / seconds
    return grams / load.output_tokens * 1000.0
