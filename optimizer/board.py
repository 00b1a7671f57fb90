"""The board's page in figures: today's fleet, the recommended one, the cheapest one and buying nothing, year by year.

All carry the same demand under the same promises, each with joules priced at its own utilisation.
"""

from __future__ import annotations

from dataclasses import replace

from optimizer import market as markets
from optimizer.again import Fleet, again, fleet_of, pinned
from optimizer.market import Market
from optimizer.plan import Answer, utilisations
from optimizer.program import Cap, Program, restricted
from optimizer.purchase import priced
from optimizer.solver import Solution, solve_program
from optimizer.standing import Standing, none, standing
from optimizer.study import Study

TIE_USD_PER_T = 0.01  # of fleets that cost the same, the greenest
_LEAST_LIMIT_S = 2.0  # the page may take as long as the plan did, and this at least


def board(answer: Answer) -> list[Standing]:
    """Today (all that is owned, all of it on), recommended, least cost (where every price is given), buy nothing."""
    owned = bool(_owned(answer.market))
    rows = [_today(answer, owned), standing(answer, "recommended", answer.market, answer.solution)]
    rows.append(_cheapest(answer))
    rows.append(_kept(answer, owned))
    return rows


def todays_fleet(answer: Answer) -> Fleet:
    """All units that are owned."""
    solution, market = _all_on(answer, answer.market)
    return fleet_of(market, solution.units) if solution.units else {}


def _today(answer: Answer, owned: bool) -> Standing:
    if not owned:
        return none("today", "nothing is owned")
    solution, market = _all_on(answer, answer.market)
    if solution.units:
        solution, market = _all_on(answer, _priced(answer, answer.study, market, solution))
    return standing(answer, "today", market, solution)


def _kept(answer: Answer, owned: bool) -> Standing:
    if not owned:
        return none("buy nothing", "nothing is owned")
    market = _only(answer.market, _owned(answer.market))
    solution = _quick(answer, market.program)
    if solution.units:
        again_ = _priced(answer, answer.study, market, solution)
        market = _only(again_, _owned(again_))
        solution = _quick(answer, market.program)
    return standing(answer, "buy nothing", market, solution)


def _cheapest(answer: Answer) -> Standing:
    """Found at the plan's joules, then dispatched once more at its own."""
    study = answer.study
    if not all(priced(study, offer) for offer in study.catalogue):
        return none("least cost", "not every unit on offer has a price")
    if study.objective == "cost" and study.carbon_price_usd_per_t <= TIE_USD_PER_T:
        return standing(answer, "least cost", answer.market, answer.solution)
    cheap = study.model_copy(update={"objective": "cost", "carbon_price_usd_per_t": TIE_USD_PER_T})
    market = again(answer, study=cheap)
    solution = _quick(answer, market.program)
    if not solution.units:
        return standing(answer, "least cost", market, solution)
    held = _priced(answer, cheap, market, solution)
    held = replace(held, program=pinned(held, fleet_of(market, solution.units)))
    dispatched = _quick(answer, held.program)
    if dispatched.units:  # what is proved of the fleet is what the first solve proved
        dispatched = replace(dispatched, status=solution.status, bound=solution.bound, gap=solution.gap)
    return standing(answer, "least cost", held, dispatched)


def _owned(market: Market) -> set[int]:
    return {o for o, bought in enumerate(market.bought) if bought.choice.owned}


def _priced(answer: Answer, study: Study, market: Market, solution: Solution) -> Market:
    """The market with joules priced at the utilisation that a fleet other than the plan's really has."""
    seen = answer.seen | utilisations(market, solution)
    return markets.build(study, answer.load, seen, answer.factors)


def _quick(answer: Answer, program: Program) -> Solution:
    limit = min(answer.study.time_limit_s, max(_LEAST_LIMIT_S, answer.plan.wall_s))
    return solve_program(program, time_limit_s=limit, gap_rel=answer.study.gap)


def _only(market: Market, keep: set[int]) -> Market:
    """A market of which only some options can be taken, and nothing is rented by the hour."""
    return replace(market, program=restricted(market.program, keep))


def _all_on(answer: Answer, market: Market) -> tuple[Solution, Market]:
    """Every owned unit on as long as it is usable, dispatched (and configured) as well as can be."""
    market = _only(market, _owned(market))
    caps = list(market.program.caps)
    for i, stock in enumerate(answer.study.owned):
        mine = [
            o for o, b in enumerate(market.bought) if b.choice.owned and b.choice.source == i and not b.purchase.sold
        ]
        caps.append(Cap(-float(stock.units), dict.fromkeys(mine, -1.0)))
    program = replace(market.program, caps=caps)
    if program.running is None:
        return _quick(answer, program), market
    costs = program.running
    options = [
        replace(option, cost=option.cost + sum(costs[g][year] for year in option.periods or range(len(costs[g]))))
        for option, g in zip(program.options, [bought.group for bought in market.bought], strict=True)
    ]
    solution = _quick(answer, replace(program, options=options, running=None))
    if not solution.units:
        return solution, market
    on = [
        [sum(solution.units[o] for o in program.members(g, year)) for year in range(len(row))]
        for g, row in enumerate(market.on)
    ]
    return replace(solution, kept_on=on), market
