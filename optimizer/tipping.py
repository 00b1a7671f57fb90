"""Tipping points: the value of a figure at which the recommended fleet stops being the best.

From the plan's value to the end of the range: where the fleet no longer carries the demand, the last value at which it
does is the end. There the program is solved anew; if another fleet is better by more than the gap, the value at which
both cost the same is found with both fleets held (their dispatch is free), and the program is solved again at it, until
no other fleet is better nearer by. At a given dispatch a fleet's objective is a straight line in intensity, embodied
carbon, host power and carbon price, so that a fleet which is best at both ends is best between them; in lifetime and
growth it is not quite straight, and a fleet that is better only in between would be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.again import Best, Fleet, Tell, best, better, decided, fleet_of, held, market_or_none, sure, words
from optimizer.choices import Choice
from optimizer.knobs import Knob, knobs
from optimizer.market import Market
from optimizer.plan import Answer

TOLERANCE = 1e-3  # of the way to the end of the range, for a value that is not found in closed form
_TURNS = 8  # of solving anew nearer by
_HALVINGS = 40
NOTHING = "nothing carries the demand"


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the recommended fleet gives way, going down and up; None: nowhere down to `low` or up to `high`.

    `proved`: every solve that this rests on was proved to its gap.
    """

    what: str
    unit: str
    now: float
    low: float
    high: float
    down: float | None
    down_to: str
    up: float | None
    up_to: str
    proved: bool
    words: str


def tipping_points(answer: Answer, tell: Tell | None = None) -> list[Tip]:
    """Every figure that bears on the study, in both directions."""
    return [tip(answer, knob, tell) for knob in knobs(answer)]


def tip(answer: Answer, knob: Knob, tell: Tell | None = None) -> Tip:
    """Where one figure turns the recommended fleet out."""
    search = _Search(answer, knob, tell)
    down, down_to = search.towards(knob.low) if knob.low < knob.now else (None, "")
    up, up_to = search.towards(knob.high) if knob.high > knob.now else (None, "")
    told = _told(knob, down, down_to, up, up_to) + ("" if search.proved else "; not proved")
    ends = min(knob.now, knob.low), max(knob.now, knob.high)
    return Tip(knob.name, knob.unit, knob.now, *ends, down, down_to, up, up_to, search.proved, told)


def _told(knob: Knob, down: float | None, down_to: str, up: float | None, up_to: str) -> str:
    low, high, now = f"{knob.low:.4g}", f"{knob.high:.4g}", f"(now {knob.now:.4g})"
    if down is None and up is None:
        return f"none between {low} and {high} {knob.unit} {now}"
    below = f"none down to {low}" if down is None else f"below {down:.4g} {knob.unit}: {down_to}"
    above = f"none up to {high}" if up is None else f"above {up:.4g} {knob.unit}: {up_to}"
    return f"{below}; {above} {now}"


class _Search:
    """One knob turned: what was solved, and what held fleets come to, is kept by value."""

    def __init__(self, answer: Answer, knob: Knob, tell: Tell | None) -> None:
        self.answer, self.knob, self.tell, self.proved = answer, knob, tell, True
        self.mine = fleet_of(answer.market, answer.solution.units)
        self._held: dict[tuple[float, str], float | None] = {}
        self._more = ""  # years apart: owned units are no part of the decision

    def towards(self, end: float) -> tuple[float | None, str]:
        """The nearest value on the way at which another fleet is better (or this one fails), and that fleet."""
        edge = None
        if self._of(self.mine, end) is None:
            end, edge = self._last_carried(end)
        rival = self._rival(end)
        if rival is not None:
            return self._nearest(end, rival)
        if edge is None:
            return None, ""
        beyond = self._rival(edge)
        return end, self._words(beyond) if beyond else NOTHING

    def _last_carried(self, end: float) -> tuple[float, float]:
        """By halving: the last value at which the recommended fleet carries the demand, and the first at which not."""
        inner, width = self.knob.now, abs(end - self.knob.now)
        while abs(end - inner) > TOLERANCE * width:
            middle = (inner + end) / 2
            inner, end = (middle, end) if self._of(self.mine, middle) is not None else (inner, middle)
        return inner, end

    def _nearest(self, outer: float, rival: Fleet) -> tuple[float, str]:
        for _ in range(_TURNS):
            self.proved &= self._of(rival, outer) is not None  # else there is nothing to find the crossing by
            value = self._crossing(rival, outer)
            closer = self._rival(value) if value != outer else None
            if closer is None or closer == rival:
                return value, self._words(rival)
            outer, rival = value, closer
        self.proved = False
        return outer, self._words(rival)

    def _solved(self, value: float) -> tuple[Market, Best] | None:
        if self.tell is not None:
            self.tell(f"{self.knob.name} at {value:.4g} {self.knob.unit}")
        market = market_or_none(lambda: self.knob.at(value, self.answer.market.choices))
        if market is None:
            return None
        one = best(self.answer, market)
        self.proved &= sure(self.answer, one)
        as_needed = ["what is owned"] if market.program.running and self.answer.study.owned else []
        as_needed += ["what is rented by the hour"] if market.program.hourly else []
        self._more = f", and {' and '.join(as_needed)} as needed" if as_needed else ""
        return market, one

    def _words(self, fleet: Fleet) -> str:
        return words(fleet) + self._more

    def _rival(self, value: float) -> Fleet | None:
        """The fleet that beats the recommended one at a value; None where none does."""
        solved = self._solved(value)
        if solved is None or solved[1].objective is None:
            return None
        market, one = solved
        fleet = decided(market, one.fleet)
        if fleet == decided(market, self.mine):
            return None
        return fleet if better(self.answer, self._of(self.mine, value), one.objective) else None

    def _of(self, fleet: Fleet, value: float) -> float | None:
        """What a held fleet comes to; its own choices (and what is owned) make a market small enough to be quick."""
        key = value, words(fleet)
        if key not in self._held:
            mine = [choice for choice in self.answer.market.choices if _part_of(choice, fleet)]
            market = market_or_none(lambda: self.knob.at(value, mine)) if mine else None
            self._held[key] = None if market is None else held(self.answer, market, decided(market, fleet))
        return self._held[key]

    def _crossing(self, rival: Fleet, outer: float) -> float:
        """Where a rival draws level: it does not beat the recommended fleet at the plan's value, at `outer` it does.

        False position where both fleets can be had, else halving; to TOLERANCE.
        """
        a, b, width = self.knob.now, outer, abs(outer - self.knob.now)
        for turn in range(_HALVINGS):
            if abs(b - a) <= TOLERANCE * width:
                break
            middle, low, high = (a + b) / 2, self._lead(rival, a), self._lead(rival, b)
            if low is not None and high is not None and low < 0.0 < high and turn % 3 < 2:
                middle = a + (b - a) * -low / (high - low)
            lead, mine = self._lead(rival, middle), self._of(self.mine, middle)
            if lead is not None and mine is not None and abs(lead) <= 1e-7 * abs(mine):
                return middle
            beaten = mine is None or (lead is not None and lead > 0.0)
            a, b = (a, middle) if beaten else (middle, b)
        return b

    def _lead(self, rival: Fleet, value: float) -> float | None:
        """By how much the rival is better; None where one of them cannot be had."""
        mine, other = self._of(self.mine, value), self._of(rival, value)
        return None if mine is None or other is None else mine - other


def _part_of(choice: Choice, fleet: Fleet) -> bool:
    name = choice.host.name, choice.gpu, choice.site.name, choice.tenure
    return choice.owned or choice.hourly or any(unit[:4] == name for unit in fleet)
