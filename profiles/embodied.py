"""Embodied carbon: kilograms by preset, each with range, boundary and source. docs/carbon.md explains the choice.

Presets: `act` (die and memory by ACT's formula, Gupta et al. 2022), `pcf-card` (default: a card model calibrated on
NVIDIA's HGX H100 product carbon footprint), `boavizta` (totals published by Boavizta), `hotcarbon24` (Table 1 of
"Towards Sustainable LLM Serving", HotCarbon'24). They differ by a factor of five: the boundary decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profiles.catalog import Gpu, Host
from profiles.inputs import InputError, near_miss

Boundary = Literal["chip", "card", "server"]
PRESETS = ("pcf-card", "act", "boavizta", "hotcarbon24")

# ACT: CPA = (CI_fab EPA + GPA + MPA) / Y in g/cm2; EPA kWh/cm2, GPA g/cm2 at 95 % and 99 % abatement (97 % = mean).
_FAB_G_PER_KWH, _YIELD, _MPA_G = 583.0, 0.875, 500.0
_EPA_KWH = {28: 0.90, 20: 1.2, 14: 1.2, 10: 1.475, 8: 1.52, 7: 2.15, 5: 2.75, 3: 3.25}
_GPA_G = {28: (175, 100), 20: (190, 110), 14: (200, 125), 10: (240, 150), 8: (240, 150), 7: (350, 200)} | {
    5: (430, 225),
    3: (470, 275),
}
_DRAM_G_PER_GB, _PACKAGE_G = 65.0, 150.0  # DDR4 10 nm, the nearest memory ACT knows; per IC package

# Card model: kg per GB of HBM, kg of ICs beside an 814 mm2 die, kg per watt of cooling, kg fixed, assembly uplift:
# the split of the HGX H100 PCF (1312 kg for 8 GPUs). GDDR is taken as half of HBM.
_HBM_KG_PER_GB, _IC_KG, _IC_DIE_MM2, _COOLING_KG_PER_W, _FIXED_KG, _UPLIFT = 0.853, 18.9, 814.0, 0.0411, 10.47, 1.101
_PCF = "card model calibrated on NVIDIA's HGX H100 PCF summary (1312 kg per 8 GPUs, ISO 14067; quoted second-hand)"

_BOAVIZTA_KG = {"l4": 113.6, "a100-pcie-40gb": 275.7, "a100-sxm-40gb": 273.4, "h100-sxm-80gb": 575.2}
_BOAVIZTA = "Boavizta boaviztapi 15878f0 factors"
_HIGH_RATIO = 575.2 / 164.0  # the largest published Boavizta total over the card model (H100): the range's upper end
_HOTCARBON_KG = {"rtx-6000-ada": 26.6, "t4": 10.3}

# Host components in kg (public host models) and the range of published hosts around the estimate: 1,670 kg for
# a p4d host (Chien 2023 minus its GPUs) to 5,700 kg (EcoLogits) where the estimate for an 8-GPU host is about 4,800.
_CPU_KG, _DRAM_KG_PER_GB, _SSD_KG_PER_TB, _NIC_KG, _CHASSIS_2U_KG = 30.7, 1.647, 17.3, 58.1, 375.0
_HOST_LOW, _HOST_HIGH = 0.35, 1.2
_HOST = "modelled from components: CPU 30.7 kg, DDR5 1.647 kg/GB, SSD 17.3 kg/TB, 100G NIC 58.1 kg, 2U chassis 375 kg"


@dataclass(frozen=True, slots=True)
class Embodied:
    """Kilograms of CO2e to make something: the range, what is inside the boundary, and whose figure it is."""

    preset: str
    low_kg: float
    mid_kg: float
    high_kg: float
    boundary: Boundary
    source: str


def act_g_per_cm2(node_nm: int) -> float:
    """ACT's carbon per area of logic at its defaults (Taiwan's grid, 97 % abatement, yield .875), in g/cm2.

    Raises:
        InputError: ACT has no row for the node.
    """
    if node_nm not in _EPA_KWH:
        raise InputError(f"ACT has no {node_nm} nm row", mend=f"known: {', '.join(map(str, sorted(_EPA_KWH)))}")
    gas_g = sum(_GPA_G[node_nm]) / 2
    return (_FAB_G_PER_KWH * _EPA_KWH[node_nm] + gas_g + _MPA_G) / _YIELD


def gpu_embodied(gpu: Gpu, preset: str = "pcf-card") -> Embodied:
    """One GPU under a preset. The middle figure is the preset's own; the range spans the other published methods.

    Raises:
        InputError: unknown preset, or a preset that cannot say anything about this GPU.
    """
    if preset == "act":
        mid = act_kg(gpu)
        high = card_kg(gpu)
        return Embodied("act", mid, mid, max(mid, high), "chip", "ACT: die, DDR4-class memory and IC packages")
    if preset == "pcf-card":
        mid = card_kg(gpu)
        high = _BOAVIZTA_KG.get(gpu.name, mid * _HIGH_RATIO)
        told = (
            "Boavizta's total" if gpu.name in _BOAVIZTA_KG else "modelled: the H100's ratio of Boavizta to this model"
        )
        source = f"{_PCF}; low: ACT, high: {told}"
        return Embodied("pcf-card", min(act_kg(gpu), mid), mid, max(mid, high), "card", source)
    if preset == "boavizta":
        if gpu.name not in _BOAVIZTA_KG:
            raise InputError(f"Boavizta publishes no total for {gpu.name}", mend="it has: " + ", ".join(_BOAVIZTA_KG))
        mid = _BOAVIZTA_KG[gpu.name]
        return Embodied("boavizta", min(card_kg(gpu), mid), mid, mid, "card", f"{_BOAVIZTA}; low: the pcf-card model")
    if preset == "hotcarbon24":
        if gpu.name not in _HOTCARBON_KG:
            raise InputError(
                f"HotCarbon'24 states no figure for {gpu.name}", mend="it has: " + ", ".join(_HOTCARBON_KG)
            )
        mid = _HOTCARBON_KG[gpu.name]
        return Embodied("hotcarbon24", mid, mid, mid, "chip", "HotCarbon'24 Table 1 (chip and memory, no range given)")
    raise InputError(f"unknown preset {preset!r}", mend=near_miss(preset, PRESETS))


def act_kg(gpu: Gpu) -> float:
    """ACT: die area x CPA + memory at DDR4's factor + 150 g for the GPU's and each memory package.

    Raises:
        InputError: die area, node or package count of this GPU is unknown.
    """
    die_kg = _die_kg(gpu)
    packages = _known(gpu, "memory_packages", gpu.memory_packages)
    memory_g = gpu.memory_gb * _DRAM_G_PER_GB / _YIELD
    return die_kg + (memory_g + _PACKAGE_G * (gpu.dies + packages)) / 1000.0


def card_kg(gpu: Gpu) -> float:
    """The card model: 1.101 x (ACT die + ICs by area + memory + cooling by TDP + fixed parts).

    Raises:
        InputError: die area, node or TDP of this GPU is unknown.
    """
    tdp_w = _known(gpu, "tdp_w", gpu.tdp_w)
    area = _known(gpu, "die_mm2", gpu.die_mm2)
    per_gb = _HBM_KG_PER_GB if gpu.memory_type.startswith("HBM") else _HBM_KG_PER_GB / 2
    memory_kg = per_gb * gpu.memory_gb
    ics_kg = _IC_KG * area / _IC_DIE_MM2
    return _UPLIFT * (_die_kg(gpu) + ics_kg + memory_kg + _COOLING_KG_PER_W * tdp_w + _FIXED_KG)


def _die_kg(gpu: Gpu) -> float:
    area = _known(gpu, "die_mm2", gpu.die_mm2)
    node = _known(gpu, "act_node_nm", gpu.act_node_nm)
    return area / 100.0 * act_g_per_cm2(int(node)) / 1000.0


def _known(gpu: Gpu, figure: str, value: float | None) -> float:
    if value is None:
        raise InputError(f"the {figure} of {gpu.name} is unknown", mend="choose another preset or GPU")
    return value


def host_embodied(host: Host) -> Embodied:
    """The server around a unit's GPUs: components of its list, one 2U chassis for every two fans."""
    chassis = max(1, round(host.fans / 2))
    mid = (
        host.cpus * _CPU_KG
        + host.dram_gb * _DRAM_KG_PER_GB
        + host.ssd_tb * _SSD_KG_PER_TB
        + host.nics * _NIC_KG
        + chassis * _CHASSIS_2U_KG
    )
    return Embodied("components", mid * _HOST_LOW, mid, mid * _HOST_HIGH, "server", _HOST)


def unit_embodied(host: Host, gpu: Gpu, preset: str = "pcf-card", boundary: Boundary = "server") -> Embodied:
    """A whole unit: its GPUs, and at the server boundary the host around them.

    Raises:
        InputError: the preset cannot say anything about the GPU.
    """
    card = gpu_embodied(gpu, preset)
    n = host.gpus
    if boundary != "server":
        return Embodied(preset, card.low_kg * n, card.mid_kg * n, card.high_kg * n, card.boundary, card.source)
    body = host_embodied(host)
    return Embodied(
        preset,
        card.low_kg * n + body.low_kg,
        card.mid_kg * n + body.mid_kg,
        card.high_kg * n + body.high_kg,
        "server",
        f"{card.source}; host: {body.source}",
    )
