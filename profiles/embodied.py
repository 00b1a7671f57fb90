"""Embodied carbon: kilograms by preset, each with range, boundary and source. docs/carbon.md explains the choice.

Presets: `act` (die, memory and packages by ACT's formula, Gupta et al., ISCA 2022), `pcf-card` (default: a card model
calibrated on NVIDIA's HGX H100 product carbon footprint), `boavizta` (BoaviztAPI's GPU model), `hotcarbon24` (Table 1
of the HotCarbon'24 paper). They differ by more than a factor of ten: the boundary decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from profiles import boavizta
from profiles.catalog import Gpu, Host
from profiles.catalog import gpu as gpu_named
from profiles.inputs import InputError, near_miss
from profiles.units import lifetime_rate_g_per_s

Boundary = Literal["chip", "card", "server"]
PRESETS = ("pcf-card", "act", "boavizta", "hotcarbon24")

# ACT: CPA = (CI_fab EPA + GPA + MPA) / Y in g/cm2. By node: EPA kWh/cm2, GPA g/cm2 at 95 % and at 99 % abatement,
# and kg/cm2 of the imec.netzero table that ACT's repository carries beside its own.
_NODES: dict[int, tuple[float, float, float, float | None]] = {
    28: (0.90, 175, 100, 0.91),
    20: (1.2, 190, 110, 0.91),
    14: (1.2, 200, 125, 0.97),
    10: (1.475, 240, 150, 1.09),
    8: (1.52, 240, 150, None),
    7: (2.15, 350, 200, 1.44),
    5: (2.75, 430, 225, 1.54),
    3: (3.25, 470, 275, 1.75),
}
_MPA_G, _YIELD, _PACKAGE_G = 500.0, 0.875, 150.0
_TAIWAN_G_PER_KWH, _COAL_G_PER_KWH = 583.0, 820.0
_DDR4_10NM_G_PER_GB, _DDR3_40NM_G_PER_GB = 65.0, 315.0  # ACT knows no GDDR and no HBM

# Card model: the split of the HGX H100 PCF (1312 kg for 8 GPUs with their baseboard): kg per GB of HBM (GDDR taken as
# half), kg of other ICs beside an 814 mm2 die, kg per watt of cooling, fixed kg, uplift for assembly and transport.
_HBM_KG_PER_GB, _IC_KG, _IC_DIE_MM2, _COOLING_KG_PER_W, _FIXED_KG, _UPLIFT = 0.853, 18.9, 814.0, 0.0411, 10.47, 1.101
_PCF = "card model calibrated on NVIDIA's HGX H100 PCF summary (1312 kg per 8 GPUs, ISO 14067; quoted second-hand)"

_HOTCARBON_KG = {"rtx-6000-ada": 26.6, "t4": 10.3}

# Host components (GreenSKU's and Boavizta's public host models). Low: LLMCarbon's 0.4 kg/GB of DRAM, the largest term.
# High: EcoLogits' 5,700 kg for an 8-GPU server without its GPUs, over the 5,168 kg that hgx-h100-8 comes to here.
_CPU_KG, _DRAM_KG_PER_GB, _SSD_KG_PER_TB, _NIC_KG, _CHASSIS_2U_KG = 30.7, 1.647, 17.3, 58.1, 375.0
_LOW_DRAM_KG_PER_GB, _HOST_HIGH = 0.4, 5700.0 / 5168.0
_HOST = (
    "modelled: {cpus} CPU x 30.7 kg + {dram_gb:g} GB DDR5 x 1.647 + {ssd_tb:g} TB SSD x 17.3 + {nics} NIC x 58.1 + "
    "{chassis_2u} 2U chassis x 375 (GreenSKU, Boavizta); low: DRAM at LLMCarbon's 0.4 kg/GB; high: EcoLogits' 5,700 kg "
    "host over the 5,168 kg of hgx-h100-8"
)


@dataclass(frozen=True, slots=True)
class Embodied:
    """Kilograms of CO2e to make something: low <= mid <= high, what is inside the boundary, and whose figure it is."""

    preset: str
    low_kg: float
    mid_kg: float
    high_kg: float
    boundary: Boundary
    source: str

    def rate_g_per_s(self, lifetime_years: float) -> tuple[float, float, float]:
        """Low, mid and high grams per second, spread evenly over a life (ACT's T/LT).

        Raises:
            InputError: the life is not a positive, finite number of years.
        """
        if not 0.0 < lifetime_years < math.inf:
            raise InputError(f"{lifetime_years:g} years is no lifetime", field="lifetime_years", mend="give some years")
        low, mid, high = (lifetime_rate_g_per_s(kg, lifetime_years) for kg in (self.low_kg, self.mid_kg, self.high_kg))
        return low, mid, high


def gpu_embodied(gpu: Gpu, preset: str = "pcf-card", given_kg: Mapping[str, float] | None = None) -> Embodied:
    """One GPU under a preset. `mid_kg` is the preset's own figure; docs/carbon.md says what its range holds.

    Args:
        given_kg: kilograms of a card by GPU name that stand instead of the preset's, with no range.

    Raises:
        InputError: unknown preset, or one that has no figure for this GPU: because a figure of the GPU is unknown, or
            because the preset's authors state none. Nothing is guessed.
    """
    for name, kg in (given_kg or {}).items():
        if gpu_named(name).name == gpu.name:
            return Embodied("given", kg, kg, kg, "card", "accounting.embodied_kg: given by the user, no range")
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}", field="preset", mend=near_miss(preset, PRESETS))
    return _MAKERS[preset](gpu)


def host_embodied(host: Host) -> Embodied:
    """The server around a unit's GPUs, from its component counts; boards of SXM GPUs are in the GPUs' own figure."""
    rest = host.cpus * _CPU_KG + host.ssd_tb * _SSD_KG_PER_TB + host.nics * _NIC_KG + host.chassis_2u * _CHASSIS_2U_KG
    mid = rest + host.dram_gb * _DRAM_KG_PER_GB
    told = _HOST.format(
        cpus=host.cpus, dram_gb=host.dram_gb, ssd_tb=host.ssd_tb, nics=host.nics, chassis_2u=host.chassis_2u
    )
    return Embodied("components", rest + host.dram_gb * _LOW_DRAM_KG_PER_GB, mid, mid * _HOST_HIGH, "server", told)


def unit_embodied(host: Host, preset: str = "pcf-card", boundary: Boundary = "server") -> Embodied:
    """A whole unit: all its GPUs and, at the server boundary, the host around them.

    Raises:
        InputError: the preset has no figure for the GPU, or its figure has another boundary than was asked for.
    """
    one, n = gpu_embodied(gpu_named(host.gpu), preset), host.gpus
    if boundary not in ("server", one.boundary):
        what = f"preset {preset} draws its boundary at the {one.boundary}, not at the {boundary}"
        raise InputError(what, field="boundary", mend=f"choose boundary {one.boundary} or server, or another preset")
    if boundary != "server":
        return Embodied(preset, one.low_kg * n, one.mid_kg * n, one.high_kg * n, boundary, one.source)
    body = host_embodied(host)
    return Embodied(
        preset,
        one.low_kg * n + body.low_kg,
        one.mid_kg * n + body.mid_kg,
        one.high_kg * n + body.high_kg,
        "server",
        f"{n} GPUs to the {one.boundary}: {one.source}; host: {body.source}",
    )


def act_g_per_cm2(node_nm: int, fab_g_per_kwh: float = _TAIWAN_G_PER_KWH) -> float:
    """ACT's carbon per area of logic in g/cm2: CPA = (CI_fab EPA + GPA + MPA) / Y, at 97 % abatement and yield .875.

    Raises:
        InputError: ACT has no row for the node.
    """
    if node_nm not in _NODES:
        raise InputError(f"ACT has no {node_nm} nm row", mend=f"known: {', '.join(map(str, sorted(_NODES)))}")
    epa_kwh, gpa95_g, gpa99_g, _ = _NODES[node_nm]
    return (fab_g_per_kwh * epa_kwh + (gpa95_g + gpa99_g) / 2 + _MPA_G) / _YIELD


def act_kg(gpu: Gpu) -> float:
    """ACT: die area x CPA + memory at DDR4's factor + 150 g for the GPU's package and each memory package.

    Raises:
        InputError: die area, node or package count of this GPU is unknown.
    """
    return _act_kg(gpu, act_g_per_cm2(_node(gpu)), _DDR4_10NM_G_PER_GB)


def card_kg(gpu: Gpu) -> float:
    """The card model: 1.101 x (ACT die + ICs by area + memory + cooling by TDP + fixed parts).

    Raises:
        InputError: die area, node or TDP of this GPU is unknown.
    """
    tdp_w, area_mm2 = _known(gpu, "tdp_w", gpu.tdp_w), _known(gpu, "die_mm2", gpu.die_mm2)
    die_kg = area_mm2 / 100.0 * act_g_per_cm2(_node(gpu)) / 1000.0
    memory_kg = gpu.memory_gb * _HBM_KG_PER_GB * (1.0 if gpu.memory_type.startswith("HBM") else 0.5)
    ics_kg = _IC_KG * area_mm2 / _IC_DIE_MM2
    return _UPLIFT * (die_kg + ics_kg + memory_kg + _COOLING_KG_PER_W * tdp_w + _FIXED_KG)


def boavizta_kg(gpu: Gpu) -> float:
    """BoaviztAPI's GPU model for the cards whose figures Boavizta lists in full.

    Raises:
        InputError: Boavizta lists no complete set of figures for this GPU.
    """
    cards = boavizta.cards()
    if gpu.name not in cards:
        what = f"Boavizta lists no complete figures for {gpu.name}"
        raise InputError(what, field="preset", mend="it has " + ", ".join(cards))
    return boavizta.card_total_kg(cards[gpu.name], gpu.memory_gb)


def _act(gpu: Gpu) -> Embodied:
    node, mid = _node(gpu), act_kg(gpu)
    netzero_kg = _NODES[node][3]
    low = mid if netzero_kg is None else _act_kg(gpu, netzero_kg * 1000.0, _DDR4_10NM_G_PER_GB)
    high = _act_kg(gpu, act_g_per_cm2(node, _COAL_G_PER_KWH), _DDR3_40NM_G_PER_GB)
    told = f"imec.netzero logic table: no {node} nm row, so none" if netzero_kg is None else "imec.netzero logic table"
    source = (
        "ACT (Gupta et al., ISCA 2022), its defaults: die, DDR4-class memory, IC packages; "
        f"low: {told}; high: coal-powered fab and DDR3-class memory"
    )
    return Embodied("act", min(low, mid), mid, max(high, mid), "chip", source)


def _pcf_card(gpu: Gpu) -> Embodied:
    mid, low = card_kg(gpu), act_kg(gpu)
    if gpu.name in boavizta.cards():
        high, told = boavizta_kg(gpu), "Boavizta"
    else:
        area_mm2, dies = _known(gpu, "die_mm2", gpu.die_mm2), _known(gpu, "dies", gpu.dies)
        packages = _known(gpu, "memory_packages", gpu.memory_packages)
        high = boavizta.silicon_kg(area_mm2, dies, gpu.memory_gb, packages)
        told = "Boavizta's terms for die and memory alone (it lists no such card)"
    return Embodied("pcf-card", min(low, mid), mid, max(mid, high), "card", f"{_PCF}; low: ACT; high: {told}")


def _boavizta(gpu: Gpu) -> Embodied:
    mid, low = boavizta_kg(gpu), card_kg(gpu)
    source = f"BoaviztAPI 15878f0 factors, {boavizta.cards()[gpu.name].source}; low: pcf-card; high: none is above it"
    return Embodied("boavizta", min(low, mid), mid, mid, "card", source)


def _hotcarbon24(gpu: Gpu) -> Embodied:
    if gpu.name not in _HOTCARBON_KG:
        what = f"HotCarbon'24 states no figure for {gpu.name}"
        raise InputError(what, field="preset", mend="it has " + " and ".join(_HOTCARBON_KG))
    mid = _HOTCARBON_KG[gpu.name]
    return Embodied("hotcarbon24", mid, mid, mid, "chip", "HotCarbon'24 Table 1: die and memory; no range is given")


_MAKERS: dict[str, Callable[[Gpu], Embodied]] = {
    "act": _act,
    "pcf-card": _pcf_card,
    "boavizta": _boavizta,
    "hotcarbon24": _hotcarbon24,
}


def _act_kg(gpu: Gpu, logic_g_per_cm2: float, dram_g_per_gb: float) -> float:
    die_g = _known(gpu, "die_mm2", gpu.die_mm2) / 100.0 * logic_g_per_cm2
    packages = 1 + _known(gpu, "memory_packages", gpu.memory_packages)
    return (die_g + gpu.memory_gb * dram_g_per_gb / _YIELD + packages * _PACKAGE_G) / 1000.0


def _node(gpu: Gpu) -> int:
    return int(_known(gpu, "act_node_nm", gpu.act_node_nm))


def _known(gpu: Gpu, figure: str, value: float | None) -> float:
    if value is None:
        what = f"the {figure} of {gpu.name} is unknown, so this preset has no figure for it"
        raise InputError(what, field="preset", mend="choose another preset, or give accounting.embodied_kg")
    return value
