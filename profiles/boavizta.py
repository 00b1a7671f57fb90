"""BoaviztAPI's GPU model, cradle to grave: kilograms from effective silicon area, board, heatsink, casing and mass.

The factors are those of its factors.yml, the formula that of its GPU component; its own test has 575.1 kg for the H100
(here 575.2). The figures of its cards (gpu_specs.csv) that the catalogue knows are in data/embodied_boavizta.csv.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from profiles.catalog import DATA, gpu
from profiles.tables import Row, read_table

# kg per mm2 of effective die and of effective DRAM, per cm2 of board, per kg of heatsink and of casing
_DIE_KG_PER_MM2, _DRAM_KG_PER_MM2, _BOARD_KG_PER_CM2 = 0.042592, 0.18379, 0.032549
_HEATSINK_KG_PER_KG, _CASING_KG_PER_KG = 5.7412, 8.2542
# per kg of card: upstream transport, 1,000 km by lorry, 19,000 km by ship, end of life
_MASS_KG_PER_KG = 0.25955 + 1000 * 5.04e-5 + 19000 * 1.33e-5 + 1.5062
_DRAM_MM2_PER_GB, _WAFER_MM, _KERF_MM, _DEFECTS_PER_CM2 = 15.5, 300.0, 0.2, 0.1


@dataclass(frozen=True, slots=True)
class Card:
    """What the model asks of a card; `effective_die_mm2` is the wafer area of one good die (see effective_mm2)."""

    name: str
    dram_dies: int
    effective_die_mm2: float
    board_cm2: float
    casing_kg: float
    heatsink_kg: float
    card_kg: float
    source: str


@cache
def cards(file: Path = DATA / "embodied_boavizta.csv") -> dict[str, Card]:
    """The cards with complete figures in Boavizta's gpu_specs.csv, by catalogue name.

    Raises:
        InputError: the table is broken; file and line are named.
    """
    return read_table(file, _card)


def card_total_kg(card: Card, memory_gb: float) -> float:
    """Kilograms of CO2e of one card with `memory_gb` of memory."""
    return (
        card.effective_die_mm2 * _DIE_KG_PER_MM2
        + _memory_kg(memory_gb, card.dram_dies)
        + card.board_cm2 * _BOARD_KG_PER_CM2
        + card.heatsink_kg * _HEATSINK_KG_PER_KG
        + card.casing_kg * _CASING_KG_PER_KG
        + card.card_kg * _MASS_KG_PER_KG
    )


def silicon_kg(die_mm2: float, dies: float, memory_gb: float, dram_dies: float) -> float:
    """The terms of logic dies (`die_mm2` over all `dies`) and memory, where a card's other figures are unknown."""
    return dies * effective_mm2(die_mm2 / dies) * _DIE_KG_PER_MM2 + _memory_kg(memory_gb, dram_dies)


def effective_mm2(die_mm2: float) -> float:
    """Wafer area in mm2 that one good die takes, with kerf, the rim of a 300 mm wafer and yield."""
    sawn = (math.sqrt(die_mm2) + _KERF_MM) ** 2
    wafer = math.pi * (_WAFER_MM / 2) ** 2
    dies = wafer / sawn - math.pi * _WAFER_MM / math.sqrt(2 * sawn)
    return wafer / dies * math.exp(math.sqrt(sawn / 100.0 * _DEFECTS_PER_CM2))


def _memory_kg(memory_gb: float, dies: float) -> float:
    return dies * effective_mm2(memory_gb * _DRAM_MM2_PER_GB / dies) * _DRAM_KG_PER_MM2


def _card(row: Row) -> Card:
    return Card(
        name=gpu(row.name("gpu")).name,
        dram_dies=row.count("dram_dies"),
        effective_die_mm2=row.number("effective_die_mm2"),
        board_cm2=row.number("board_cm2"),
        casing_kg=row.maybe("casing_kg") or 0.0,  # low-profile cards have none
        heatsink_kg=row.number("heatsink_kg"),
        card_kg=row.number("card_kg"),
        source=row.text("source"),
    )
