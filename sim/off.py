"""Time that instances and the hosts that carry them were off or booting, and what was drawn instead of idle power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.ledger import Ledger
from sim.fleet import LivePool

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Stretches of time with a power each."""

    from_s: Floats
    to_s: Floats
    watts: Floats

    def clipped(self, end_s: float) -> Spans:
        """The part before `end_s`."""
        return Spans(np.minimum(self.from_s, end_s), np.minimum(self.to_s, end_s), self.watts)


@dataclass(frozen=True, slots=True, eq=False)
class OffTimes:
    """Of one pool: its instances' stretches without idle power, by instance, and its hosts' without any.

    Watts of `hosts` and `spares` are what such a host, and its spare GPUs, would have drawn.
    """

    instances: list[Spans]
    hosts: Spans
    spares: Spans


def off_times(pool: LivePool, ledgers: list[Ledger], host_power: bool) -> OffTimes:
    """What the ledgers of a pool's instances say.

    Instances fill hosts in order; a host is off while all instances on it are, and then its spare GPUs are too.
    """
    tables = [np.frombuffer(ledger.off).reshape(-1, 4) for ledger in ledgers]
    instances = [Spans(t[:, 0].copy(), t[:, 1].copy(), t[:, 2].copy()) for t in tables]
    tp, slots = pool.spec.tp, pool.host.gpus // pool.spec.tp
    spare_w = pool.model.idle_w / tp
    host_w = pool.host.power_w if host_power else 0.0
    rows: list[tuple[float, float, float, float]] = []
    if any(t.size for t in tables):
        for host in range(pool.units):
            mine = tables[host * slots : (host + 1) * slots]
            spares_w = spare_w * (pool.host.gpus - tp * len(mine))
            rows += [(a, b, host_w, spares_w) for a, b in _all_off([t[t[:, 3] == 1.0][:, :2] for t in mine])]
    from_s, to_s, hosts_w, spares = np.array(rows).reshape(-1, 4).T
    return OffTimes(instances, Spans(from_s, to_s, hosts_w), Spans(from_s, to_s, spares))


def _all_off(spans: list[Floats]) -> list[tuple[float, float]]:
    """When all of several instances are off; nothing on an empty host counts as always off."""
    if not spans:
        return [(0.0, np.inf)]
    events = sorted([(float(a), 1) for s in spans for a in s[:, 0]] + [(float(b), -1) for s in spans for b in s[:, 1]])
    found, off, since = [], 0, 0.0
    for time_s, change in events:
        if off == len(spans) and time_s > since:
            found.append((since, time_s))
        off += change
        since = time_s
    return found
