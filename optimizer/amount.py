"""What things cost: grams, dollars and joules together, and their worth in the objective."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.study import Study, StudySite
from profiles.units import JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Amount:
    """Grams of operational and embodied carbon, dollars, and joules drawn from the grid (PUE included)."""

    operational_g: float = 0.0
    embodied_g: float = 0.0
    usd: float = 0.0
    energy_j: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.operational_g + other.operational_g,
            self.embodied_g + other.embodied_g,
            self.usd + other.usd,
            self.energy_j + other.energy_j,
        )

    def times(self, factor: float) -> Amount:
        """All of it, `factor` times."""
        return Amount(self.operational_g * factor, self.embodied_g * factor, self.usd * factor, self.energy_j * factor)

    @property
    def carbon_g(self) -> float:
        """Operational and embodied grams."""
        return self.operational_g + self.embodied_g

    def dollars(self, factor: float) -> Amount:
        """The same with its dollars, and nothing else, `factor` times."""
        return Amount(self.operational_g, self.embodied_g, self.usd * factor, self.energy_j)


def drawn(site: StudySite, energy_j: float, intensity_g_per_kwh: float, year: int = 0) -> Amount:
    """Joules drawn from a site's grid: grams at an intensity, dollars where the site has a price (and its trend)."""
    kwh = energy_j / JOULES_PER_KWH
    usd = kwh * (site.price_usd_per_kwh or 0.0) * (1.0 + site.price_trend_per_year) ** year
    return Amount(kwh * intensity_g_per_kwh, 0.0, usd, energy_j)


def worth(study: Study, amount: Amount) -> float:
    """The objective: grams, joules, or dollars plus grams at the carbon price."""
    if study.objective == "carbon":
        return amount.carbon_g
    if study.objective == "energy":
        return amount.energy_j
    return amount.usd + amount.carbon_g * study.carbon_price_usd_per_t / 1e6
