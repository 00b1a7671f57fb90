"""The books: who owns every second, joule and gram of [0, horizon).

Two ledgers are kept apart and must meet. The hardware ledger comes from each instance's power timeline; the request
ledger from the steps. Work after the horizon is drain: a pool stays on until its last request is done, and what that
takes (GPUs, hosts, embodied) is billed and shown apart. docs/carbon.md has every formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.grid import Window
from profiles.units import JOULES_PER_KWH, lifetime_rate_g_per_s
from sim.engine.charge import Owned
from sim.engine.loop import Played
from sim.engine.past import Past
from sim.fleet import LivePool
from sim.off import OffTimes, Spans
from sim.scenario import Accounting

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PoolBooks:
    """Joules and grams of one pool over [0, end_s). Joules are at the plug of GPU and host, before PUE."""

    pool: LivePool
    end_s: float  # the horizon, or the last completion where that is later
    busy_s: float  # instance-seconds of work
    off_s: float  # instance-seconds off or booting
    gpu_busy_j: float
    gpu_idle_j: float
    transfer_j: float  # KV caches that left for another instance
    host_j: float
    busy_g: float  # grams of the GPUs' busy joules and of transfers, PUE included
    idle_g: float  # grams of idle and host joules, PUE included
    host_g: float  # the hosts' part of it
    embodied_g: tuple[float, float, float]  # low, mid, high

    @property
    def utilisation(self) -> float:
        """Instance-seconds of work over all instance-seconds."""
        return self.busy_s / (self.pool.spec.engines * self.end_s)

    @property
    def on_share(self) -> float:
        """Instance-seconds neither off nor booting, over all."""
        return 1.0 - self.off_s / (self.pool.spec.engines * self.end_s)

    @property
    def overhead_j(self) -> float:
        """Energy x (PUE - 1)."""
        return self.drawn_j * (self.pool.pue - 1.0)

    @property
    def energy_j(self) -> float:
        """Everything the pool draws, overhead included."""
        return self.drawn_j * self.pool.pue

    @property
    def drawn_j(self) -> float:
        """Everything at the plug, before overhead."""
        return self.gpu_busy_j + self.gpu_idle_j + self.transfer_j + self.host_j

    @property
    def operational_g(self) -> float:
        """Grams of everything the pool draws."""
        return self.busy_g + self.idle_g

    @property
    def carbon_g(self) -> float:
        """Operational and embodied grams."""
        return self.operational_g + self.embodied_g[1]

    @property
    def parts_g(self) -> dict[str, float]:
        """Where every gram comes from; PUE's share stands as overhead."""
        pue = self.pool.pue
        return {
            "gpu_busy": self.busy_g / pue,
            "gpu_idle": (self.idle_g - self.host_g) / pue,
            "host": self.host_g / pue,
            "overhead": self.operational_g * (1.0 - 1.0 / pue),
            "embodied": self.embodied_g[1],
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Owner:
    """What a pool hands to the requests it served: its grams a joule times g/kWh, its other grams by busy seconds."""

    owned: Owned
    to_g: float
    total_s: float
    embodied_g: float
    idle_g: float


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """What each request owns, in arrival order: busy joules at the GPU and grams by kind (PUE included)."""

    size: int
    owners: list[_Owner]
    unowned_g: float  # grams that no rule gives to a request

    def of(self, part: slice) -> tuple[Floats, Floats, Floats, Floats]:
        """Of some requests: energy_j, operational_g, embodied_g, idle_share_g."""
        energy_j, operational_g, embodied_g, idle_g = np.zeros((4, len(range(self.size)[part])))
        for each in self.owners:
            mine, busy_s, joules, gram_j = each.owned.of(part)
            energy_j[mine] += joules
            operational_g[mine] += gram_j * each.to_g
            share = busy_s / each.total_s if each.total_s else busy_s
            embodied_g[mine] += share * each.embodied_g
            idle_g[mine] += share * each.idle_g
        return energy_j, operational_g, embodied_g, idle_g


def pool_books(
    pool: LivePool, past: Past, off: OffTimes, horizon_s: float, rules: Accounting
) -> tuple[PoolBooks, PoolBooks]:
    """The hardware ledger of one pool from its instances' power timelines: drain included, and the horizon alone."""
    drained_s = max(horizon_s, past.last_s)
    return _books(pool, past, off, drained_s, rules), _books(pool, past, off, horizon_s, rules)


def _books(pool: LivePool, past: Past, off: OffTimes, end_s: float, rules: Accounting) -> PoolBooks:
    window, owned, work = pool.site.window, past.owned, past.work(end_s)
    whole = float(window.integral(end_s))
    engines, idle_w = pool.spec.engines, pool.model.idle_w
    spare_w = pool.spare_gpus * idle_w / pool.spec.tp
    host_w = pool.units * pool.host.power_w if rules.host_power else 0.0
    off_s, off_i, off_j, off_gj = _summed(off.instances, window, end_s)
    _, _, hosts_j, hosts_gj = _summed([off.hosts], window, end_s)
    _, _, spares_j, spares_gj = _summed([off.spares], window, end_s)
    idle_gj = idle_w * (engines * whole - work.intensity_s - off_i) + off_gj
    idle_gj += (spare_w + host_w) * whole - hosts_gj - spares_gj
    to_g = pool.pue / JOULES_PER_KWH
    return PoolBooks(
        pool=pool,
        end_s=end_s,
        busy_s=work.busy_s,
        gpu_busy_j=work.busy_j,
        off_s=off_s,
        gpu_idle_j=idle_w * (engines * end_s - work.busy_s - off_s) + off_j + spare_w * end_s - spares_j,
        transfer_j=owned.transfer_j,
        host_j=host_w * end_s - hosts_j,
        busy_g=(work.gram_j + owned.transfer_gram_j) * to_g,
        idle_g=idle_gj * to_g,
        host_g=(host_w * whole - hosts_gj) * to_g,
        embodied_g=embodied_range(pool, end_s, rules),
    )


def _summed(spans: list[Spans], window: Window, end_s: float) -> tuple[float, float, float, float]:
    """Of stretches up to `end_s`: seconds, integral of intensity, joules, joules times g/kWh."""
    seconds = integral = joules = grams = 0.0
    for one in (each.clipped(end_s) for each in spans):
        length, within = one.to_s - one.from_s, window.integral(one.to_s) - window.integral(one.from_s)
        seconds += float(length.sum())
        integral += float(within.sum())
        joules += float(np.dot(one.watts, length))
        grams += float(np.dot(one.watts, within))
    return seconds, integral, joules, grams


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
    owners, unowned_g = [], 0.0
    for book, owned in zip(books, played.owned, strict=True):
        total_s = 0.0
        for part in played.requests.shelf.rows():
            total_s += float(owned.of(part)[1].sum())
        busy_g = book.embodied_g[1] * book.utilisation
        idle_g = book.idle_g + (book.embodied_g[1] - busy_g)
        if rules.idle_rule == "none" or not total_s:
            unowned_g, busy_g = unowned_g + busy_g, 0.0
        if rules.idle_rule != "capacity-share" or not total_s:
            unowned_g, idle_g = unowned_g + idle_g, 0.0
        owners.append(_Owner(owned, book.pool.pue / JOULES_PER_KWH, total_s, busy_g, idle_g))
    return Shares(played.requests.size, owners, unowned_g)
