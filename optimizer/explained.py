"""All that stands behind a plan: shadow prices, what brings in the losers, runner-ups, tipping points."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from optimizer.again import Tell
from optimizer.board import board, todays_fleet
from optimizer.cases import cases
from optimizer.entry import entries
from optimizer.plan import Answer
from optimizer.runners_up import WITHIN, RunnersUp, runners_up
from optimizer.shadow import shadow_prices
from optimizer.tipping import tipping_points
from optimizer.wins import Wins, wins
from profiles import catalog

METHOD = (
    "each figure is a difference of two solves of the plan's own program (joules of a request priced as in the plan), "
    "none is a dual; what the time limit left unproved is said to be so"
)


def boarded(answer: Answer) -> list[dict[str, Any]]:
    """The board's page as a document."""
    with catalog.using(answer.study.own_catalog):
        return [asdict(row) for row in board(answer)]


def explained(answer: Answer, tell: Tell | None = None) -> dict[str, Any]:
    """Every analysis of a plan; takes tens of solves.

    Args:
        answer: of `optimizer.plan.answer`.
        tell: told in a few words what is being solved.
    """
    with catalog.using(answer.study.own_catalog):
        shadows = shadow_prices(answer, tell)
        others = runners_up(answer, tell=tell)
        return {
            "method": METHOD,
            "objective_unit": answer.plan.objective_unit,
            "shadow_prices": [asdict(row) for row in shadows],
            "runners_up": _runners_up(others),
            "entries": [asdict(row) for row in entries(answer, tell)],
            "tipping_points": [asdict(row) for row in tipping_points(answer, tell)],
            "cases": [asdict(row) for row in cases(answer, tell)],
            "wins": [asdict(row) for row in _wins(answer, others, tell)],
        }


def _runners_up(others: RunnersUp) -> dict[str, Any]:
    rows = []
    for row in others.fleets:
        units = [{**unit._asdict(), "owned": unit.owned, "units": count} for unit, count in sorted(row.units.items())]
        rows.append(asdict(replace(row, units={})) | {"units": units})
    return {"within": WITHIN, "complete": others.complete, "note": others.note, "fleets": rows}


def _wins(answer: Answer, others: RunnersUp, tell: Tell | None) -> list[Wins]:
    rivals = {"the runner-up": others.fleets[0].units} if others.fleets else {}
    today = todays_fleet(answer) if answer.study.futures and answer.study.owned else {}
    return wins(answer, rivals | ({"today's fleet": today} if today else {}), tell)
