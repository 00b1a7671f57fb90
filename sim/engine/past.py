"""What a pool's instances did, added up: the rows of their ledgers are let go as they grow.

In a short run nothing is let go before its end. In a long one a ledger that has grown is added up to what its rows
stand for: who owns which seconds, joules and grams, the hardware's own sums, the minutes, the gaps between tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profiles.grid import Window
from sim.columns import Shelf, Spool
from sim.engine.charge import Owned
from sim.engine.instance import Instance
from sim.engine.ledger import Floats, Ledger
from sim.engine.minutes import add_minutes, by_minute, minute_edges

LET_GO_BYTES = 1 << 17  # rows of one instance, beyond which they are added up
LOOK_EVERY = 20_000  # arrivals


@dataclass(slots=True)
class Work:
    """Sums over rows before some end: seconds and joules of work, and both times g/kWh."""

    busy_s: float = 0.0
    busy_j: float = 0.0
    intensity_s: float = 0.0
    gram_j: float = 0.0

    def add(self, ledgers: list[Ledger], window: Window, end_s: float) -> None:
        """Add the rows of ledgers, each cut at `end_s`."""
        from_s, to_s, power_w = (np.concatenate([x.column(name) for x in ledgers]) for name in _OF_WORK)
        from_s, to_s = np.minimum(from_s, end_s), np.minimum(to_s, end_s)
        integrals = window.integral(to_s) - window.integral(from_s)
        self.busy_s += float(np.sum(to_s - from_s))
        self.busy_j += float(np.dot(power_w, to_s - from_s))
        self.intensity_s += float(np.sum(integrals))
        self.gram_j += float(np.dot(power_w, integrals))


_OF_WORK = ("from_s", "to_s", "power_w")


class Past:
    """One pool's.

    Args:
        instances: the pool's.
        horizon_s: the books' end as far as it is known.
        gaps: where gaps between tokens go that no ledger holds any more.
    """

    def __init__(
        self, instances: list[Instance], window: Window, horizon_s: float, requests: Shelf, gaps: Spool
    ) -> None:
        self.instances, self.window, self.horizon_s = instances, window, horizon_s
        self.owned, self._gaps = Owned(requests), gaps
        self._last_s, self._whole, self._inside = 0.0, Work(), Work()
        self._edges_s = minute_edges(horizon_s)
        self._minutes = np.zeros((4, self._edges_s.size - 1))

    def let_go(self) -> None:
        """Add up the ledgers that have grown, and empty them."""
        for instance in self.instances:
            if len(instance.rows) >= LET_GO_BYTES:
                instance.part()
                self._add_up(instance.ledger)
                instance.ledger.forget()

    def _add_up(self, ledger: Ledger) -> None:
        self.owned.charge(ledger)
        self._whole.add([ledger], self.window, np.inf)
        self._inside.add([ledger], self.window, self.horizon_s)
        self._last_s = max(self._last_s, float(ledger.column("to_s")[-1]))
        add_minutes(self._minutes, ledger, self._edges_s)
        self._gaps.append(np.column_stack(ledger.gaps()))

    def close(self) -> None:
        """The run is over: charge what the ledgers still hold, which they keep."""
        for instance in self.instances:
            self.owned.charge(instance.ledger)

    @property
    def last_s(self) -> float:
        """When the last step ended."""
        ends = [instance.ledger.column("to_s")[-1:] for instance in self.instances]
        return max(self._last_s, float(np.concatenate(ends).max(initial=0.0)))

    def work(self, end_s: float) -> Work:
        """The sums up to an end: the horizon, or one after all work (then nothing is cut)."""
        past = self._inside if end_s <= self.horizon_s else self._whole
        found = Work(past.busy_s, past.busy_j, past.intensity_s, past.gram_j)
        found.add([instance.ledger for instance in self.instances], self.window, end_s)
        return found

    def by_minute(self, edges_s: Floats) -> Floats:
        """What `minutes.by_minute` tells, over all instances; edges are those of the horizon or of an earlier end."""
        sums = np.zeros((4, edges_s.size - 1))
        for instance in self.instances:
            sums += by_minute(instance.ledger, edges_s)
        sums += self._minutes[:, : edges_s.size - 1]
        return sums
