"""The grams of a cell under a boundary: operational of what is drawn, embodied by the time a card is in use (t / LT).

Two books are kept: the paper's (chips alone, PUE 1, no host) and the house's (pcf-card and its share of a server, whose
watts are then billed too; PUE 1 in both, so that the boundary alone makes the difference).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from carbonfleet.reproduce.hotcarbon24.paper import EMBODIED_KG
from carbonfleet.reproduce.hotcarbon24.trial import Cell
from profiles import catalog
from profiles.embodied import Embodied, gpu_embodied, host_embodied
from profiles.units import lifetime_rate_g_per_s, operational_g

HOST_LIFETIME_YEARS = 6.0  # the house's default for a server


@dataclass(frozen=True, slots=True)
class Owned:
    """What one GPU brings along: its embodied figure, its share of a host's, and the host watts it is billed."""

    card: Embodied
    host: Embodied | None = None
    host_name: str = ""
    beside_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Grams:
    """Grams of CO2e of something."""

    operational: float
    embodied: float

    @property
    def total(self) -> float:
        """Both."""
        return self.operational + self.embodied

    @property
    def embodied_share(self) -> float:
        """Embodied over both."""
        return self.embodied / self.total


@dataclass(frozen=True, slots=True)
class Book:
    """One boundary for all GPUs of a study."""

    name: str
    title: str
    owned: dict[str, Owned]
    lifetime_years: float

    def rate_g_per_s(self, gpu: str, lifetime_years: float | None = None) -> float:
        """Embodied grams a second in use; another life moves the card's alone."""
        one = self.owned[gpu]
        host = lifetime_rate_g_per_s(one.host.mid_kg, HOST_LIFETIME_YEARS) if one.host else 0.0
        return lifetime_rate_g_per_s(one.card.mid_kg, lifetime_years or self.lifetime_years) + host

    def energy_j(self, gpu: str, cell: Cell) -> float:
        """Joules of a prompt, host included where it is billed."""
        return cell.energy_j + self.owned[gpu].beside_w * cell.latency_s / cell.batch

    def prompt(self, gpu: str, cell: Cell, g_per_kwh: float, lifetime_years: float | None = None) -> Grams:
        """Grams of a prompt."""
        time_s = cell.latency_s / cell.batch
        rate = self.rate_g_per_s(gpu, lifetime_years)
        return Grams(operational_g(self.energy_j(gpu, cell), g_per_kwh), rate * time_s)

    def j_per_token(self, gpu: str, cell: Cell, phase: str) -> float:
        """Joules of a token of `prefill` or `decode`, host included where it is billed."""
        time_s, power_w, tokens = _phase(cell, phase)
        return (power_w + self.owned[gpu].beside_w) * time_s / tokens

    def token(self, gpu: str, cell: Cell, phase: str, g_per_kwh: float) -> Grams:
        """Grams of a token of `prefill` or `decode`."""
        time_s, _, tokens = _phase(cell, phase)
        joules = self.j_per_token(gpu, cell, phase)
        return Grams(operational_g(joules, g_per_kwh), self.rate_g_per_s(gpu) * time_s / tokens)

    def document(self) -> dict[str, Any]:
        """Figures and sources by GPU (Table 1)."""
        return {gpu: self._table(gpu, one) for gpu, one in self.owned.items()}

    def _table(self, gpu: str, one: Owned) -> dict[str, Any]:
        return {
            "preset": one.card.preset,
            "boundary": "server" if one.host else one.card.boundary,
            "card_kg": {"low": one.card.low_kg, "mid": one.card.mid_kg, "high": one.card.high_kg},
            "host_share_kg": one.host.mid_kg if one.host else 0.0,
            "host": one.host_name or None,
            "host_share_w": one.beside_w,
            "embodied_g_per_h": 3600.0 * self.rate_g_per_s(gpu),
            "source": one.card.source,
        }


def chips(gpus: Sequence[str], lifetime_years: float) -> Book:
    """The paper's book; cards that its Table 1 has not are taken from ACT, whose boundary it is.

    Raises:
        InputError: ACT lacks a figure of a GPU.
    """
    owned = {}
    for name in gpus:
        preset = "hotcarbon24" if name in EMBODIED_KG else "act"
        owned[name] = Owned(gpu_embodied(catalog.gpu(name), preset))
    return Book("chip", "chips alone, as the paper counts", owned, lifetime_years)


def servers(gpus: Sequence[str], lifetime_years: float) -> Book:
    """The house's book: pcf-card, and the GPU's share of the largest host it is sold in.

    Raises:
        InputError: the preset lacks a figure of a GPU.
    """
    owned = {}
    for name in gpus:
        one = Owned(gpu_embodied(catalog.gpu(name), "pcf-card"))
        hosts = catalog.hosts_for(name)
        if hosts:
            host, body = hosts[-1], host_embodied(hosts[-1])
            part = replace(
                body, low_kg=body.low_kg / host.gpus, mid_kg=body.mid_kg / host.gpus, high_kg=body.high_kg / host.gpus
            )
            one = replace(one, host=part, host_name=host.name, beside_w=host.power_w / host.gpus)
        owned[name] = one
    return Book("server", "pcf-card and the share of a server, its watts billed", owned, lifetime_years)


def _phase(cell: Cell, phase: str) -> tuple[float, float, float]:
    if phase == "prefill":
        return cell.prefill_s, cell.prefill_w, cell.prefill_tokens
    return cell.decode_s, cell.decode_w, cell.decode_tokens
