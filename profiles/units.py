"""The only conversions: inside carbonfleet everything is SI with the unit in the name."""

from __future__ import annotations

SECONDS_PER_HOUR = 3600.0
HOURS_PER_YEAR = 8760.0  # 365 days, the year of the papers and of an 8760-hour series
SECONDS_PER_YEAR = HOURS_PER_YEAR * SECONDS_PER_HOUR
JOULES_PER_KWH = 3.6e6
GRAMS_PER_KG = 1000.0
GRAMS_PER_POUND = 453.59237
G_PER_KWH_PER_LB_PER_MWH = GRAMS_PER_POUND / 1000.0  # a pound per MWh
BYTES_PER_GB = 1e9
BYTES_PER_GIB = 2.0**30


def kwh(energy_j: float) -> float:
    """Joules to kilowatt-hours."""
    return energy_j / JOULES_PER_KWH


def operational_g(energy_j: float, intensity_g_per_kwh: float) -> float:
    """Grams of CO2e of `energy_j` joules at a grid intensity."""
    return energy_j / JOULES_PER_KWH * intensity_g_per_kwh


def lifetime_rate_g_per_s(embodied_kg: float, lifetime_years: float) -> float:
    """Embodied carbon spread evenly over a life (ACT's T/LT), in grams per second."""
    return embodied_kg * GRAMS_PER_KG / (lifetime_years * SECONDS_PER_YEAR)
