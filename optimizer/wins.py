"""In how many of a study's futures the recommended fleet beats another, each dispatched at its best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from optimizer import demand
from optimizer.again import Fleet, Tell, again, decided, fleet_of, held, market_or_none, words
from optimizer.market import Market
from optimizer.plan import Answer
from optimizer.study import Future


@dataclass(frozen=True, slots=True)
class Wins:
    """Futures in which the recommended fleet comes to less (ties count for it), of all and by their weights.

    `lost` names the others; a fleet that cannot carry a future's demand loses it. `regret` is the most that the
    recommended fleet comes to beyond the other one, relative.
    """

    against: str
    fleet: str
    wins: int
    of: int
    weight_share: float
    lost: list[str]
    regret: float
    words: str


def wins(answer: Answer, rivals: dict[str, Fleet], tell: Tell | None = None) -> list[Wins]:
    """The recommended fleet against each of some others in every future; none where the study has no futures."""
    study = answer.study
    if not study.futures:
        return []
    mine = fleet_of(answer.market, answer.solution.units)
    rows: dict[str, list[tuple[float | None, float | None]]] = {name: [] for name in rivals}
    for way in study.futures:
        if tell is not None:
            tell(f"future {way.name}")
        market = market_or_none(partial(_alone, answer, way))
        own = None if market is None else held(answer, market, decided(market, mine))
        for name, fleet in rivals.items():
            other = None if market is None else held(answer, market, decided(market, fleet))
            rows[name].append((own, other))
    return [_row(answer, name, rivals[name], pairs) for name, pairs in rows.items()]


def _alone(answer: Answer, way: Future) -> Market:
    """The market of one future by itself."""
    asked = answer.study.model_copy(update={"futures": [way]})
    return again(answer, study=asked, load=demand.build(asked))


def _row(answer: Answer, name: str, fleet: Fleet, pairs: list[tuple[float | None, float | None]]) -> Wins:
    futures = answer.study.futures
    won = [own is not None and (other is None or own <= other * (1 + 1e-9)) for own, other in pairs]
    weight = sum(way.weight for way, win in zip(futures, won, strict=True) if win) / sum(w.weight for w in futures)
    lost = [way.name for way, win in zip(futures, won, strict=True) if not win]
    regrets = [own / other - 1.0 for own, other in pairs if own is not None and other]
    told = f"wins in {sum(won)} of {len(won)} futures against {name}"
    if lost:
        told += f"; loses in {', '.join(lost[:3])}{' and others' if len(lost) > 3 else ''}"
    return Wins(name, words(fleet), sum(won), len(won), weight, lost, max([0.0, *regrets]), told)
