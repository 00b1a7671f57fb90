"""The books: who owns every second, joule and gram of [0, horizon).

Two ledgers are kept apart and must meet. The hardware ledger comes from each instance's power timeline; the request
ledger from the steps. Work after the horizon is drain: its busy joules are billed and shown apart; idle, host and
embodied carbon of that time belong to whatever follows. docs/carbon.md has every formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.units import JOULES_PER_KWH, lifetime_rate_g_per_s
from sim.engine.loop import Played
from sim.fleet import LivePool
from sim.scenario import Accounting

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PoolBooks:
    """Joules and grams of one pool. Joules are at the plug of GPU and host; `overhead_j` is what PUE adds to them."""

    pool: LivePool
    busy_s: float  # instance-seconds of work inside the horizon
    utilisation: float  # busy_s over the instance-seconds of the horizon
    extrapolated_s: float
    gpu_busy_j: float  # drain included
    gpu_idle_j: float
    host_j: float
    drain_j: float  # part of gpu_busy_j after the horizon
    busy_g: float  # grams of the GPUs' busy joules, PUE included
    idle_g: float  # grams of idle and host joules, PUE included
    embodied_g: tuple[float, float, float]  # low, mid, high over the horizon

    @property
    def overhead_j(self) -> float:
        """Energy x (PUE - 1)."""
        return (self.gpu_busy_j + self.gpu_idle_j + self.host_j) * (self.pool.pue - 1.0)

    @property
    def energy_j(self) -> float:
        """Everything the pool draws, overhead included."""
        return (self.gpu_busy_j + self.gpu_idle_j + self.host_j) * self.pool.pue

    @property
    def operational_g(self) -> float:
        """Grams of everything the pool draws."""
        return self.busy_g + self.idle_g


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """What each request owns, in arrival order: busy joules at the GPU and grams by kind (PUE included)."""

    energy_j: Floats
    operational_g: Floats
    embodied_g: Floats
    idle_share_g: Floats
    unowned_g: float  # grams that no rule gives to a request


def pool_books(pool: LivePool, played: Played, horizon_s: float, rules: Accounting) -> PoolBooks:
    """The hardware ledger of one pool, from its instances' power timelines."""
    window = pool.site.window
    ledgers = [played.instances[number].ledger for number in pool.numbers]
    from_s = np.concatenate([np.frombuffer(ledger.from_s) for ledger in ledgers])
    to_s = np.concatenate([np.frombuffer(ledger.to_s) for ledger in ledgers])
    power_w = np.concatenate([np.frombuffer(ledger.power_w) for ledger in ledgers])
    inside_from, inside_to = np.minimum(from_s, horizon_s), np.minimum(to_s, horizon_s)
    busy_s = float(np.sum(inside_to - inside_from))
    busy_j, inside_j = float(np.dot(power_w, to_s - from_s)), float(np.dot(power_w, inside_to - inside_from))
    busy_gj = float(np.dot(power_w, window.integral(to_s) - window.integral(from_s)))
    busy_integral = float(np.sum(window.integral(inside_to) - window.integral(inside_from)))
    whole_integral = float(window.integral(horizon_s))
    engines, idle_w = pool.spec.engines, pool.model.idle_w
    spare_w = pool.spare_gpus * idle_w / pool.spec.tp
    host_w = pool.units * pool.host.power_w if rules.host_power else 0.0
    idle_j = idle_w * (engines * horizon_s - busy_s) + spare_w * horizon_s
    idle_gj = idle_w * (engines * whole_integral - busy_integral) + (spare_w + host_w) * whole_integral
    to_g = pool.pue / JOULES_PER_KWH
    return PoolBooks(
        pool=pool,
        busy_s=busy_s,
        utilisation=busy_s / (engines * horizon_s),
        extrapolated_s=sum(ledger.extrapolated_s for ledger in ledgers),
        gpu_busy_j=busy_j,
        gpu_idle_j=idle_j,
        host_j=host_w * horizon_s,
        drain_j=busy_j - inside_j,
        busy_g=busy_gj * to_g,
        idle_g=idle_gj * to_g,
        embodied_g=embodied_range(pool, horizon_s, rules),
    )


def embodied_range(pool: LivePool, seconds: float, rules: Accounting) -> tuple[float, float, float]:
    """Grams (low, mid, high) that the pool's units are charged for a time: a linear share of each part's life."""
    low, mid, high = (
        pool.units
        * seconds
        * (
            lifetime_rate_g_per_s(gpus_kg, rules.lifetime_years)
            + lifetime_rate_g_per_s(host_kg, rules.host_lifetime_years)
        )
        for gpus_kg, host_kg in zip(pool.gpus_kg, pool.host_kg, strict=True)
    )
    return low, mid, high


def shares(books: list[PoolBooks], played: Played, rules: Accounting) -> Shares:
    """The request ledger: own busy joules and grams, embodied by GPU-seconds, idle by the named rule.

    capacity-share gives a pool's idle, host and embodied grams to the requests it served, by GPU-seconds; busy-time
    charges embodied carbon for busy seconds only (HotCarbon'24's t/LT) and leaves idle unowned; none leaves both.
    """
    requests = played.requests
    busy_s, energy_j = np.frombuffer(requests.busy_s), np.frombuffer(requests.energy_j)
    instance = np.frombuffer(requests.instance, dtype=np.int64)
    operational_g = np.frombuffer(requests.gram_j) / JOULES_PER_KWH
    embodied_g, idle_g, unowned_g = np.zeros(requests.size), np.zeros(requests.size), 0.0
    for book in books:
        mine = (instance >= book.pool.numbers.start) & (instance < book.pool.numbers.stop)
        operational_g[mine] *= book.pool.pue
        total_s = float(busy_s[mine].sum())
        part = busy_s[mine] / total_s if total_s else np.zeros(int(mine.sum()))
        busy_embodied_g = book.embodied_g[1] * book.utilisation
        idle_embodied_g = book.embodied_g[1] - busy_embodied_g
        if rules.idle_rule != "none" and total_s:
            embodied_g[mine] = part * busy_embodied_g
        else:
            unowned_g += busy_embodied_g
        if rules.idle_rule == "capacity-share" and total_s:
            idle_g[mine] = part * (book.idle_g + idle_embodied_g)
        else:
            unowned_g += book.idle_g + idle_embodied_g
    return Shares(energy_j, operational_g, embodied_g, idle_g, unowned_g)
