"""What in the catalogue cannot be true together: each figure is held against the others of its row.

The bounds are physics and habit, not statistics: the bandwidth is what the bus gives, a die is no larger than the
858 mm2 that a lithography field exposes, nothing idles above its TDP, a shape has the weights its publisher counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from profiles import catalog
from profiles.catalog import Gpu, Host
from profiles.profile import Profile, load_all, shipped_folder

RETICLE_MM2 = 858.0
BANDWIDTH_CLOSE = 0.03  # vendors round
MOST_TFLOPS_PER_W = 6.0  # dense bf16; 1.2 (H100) to about 2.5 in data sheets of 2025
MOST_GB_PER_PACKAGE = {"GDDR": 4.0, "HBM": 48.0}
HOST_W_PER_GPU = (20.0, 1500.0)
_ACT_NODE = {12: 14, 6: 7, 4: 5}  # nm that ACT has no row for -> the row taken


class Contradiction(NamedTuple):
    """One finding: in which table, of which entry, and what is wrong."""

    table: str
    name: str
    what: str


def contradictions() -> list[Contradiction]:
    """Everything wrong in the catalogue (with the user's own tables, within `catalog.using`) and the shipped profiles.

    Raises:
        InputError: a table or a profile cannot be read at all.
    """
    found = [Contradiction("gpus", gpu.name, what) for gpu in catalog.gpus().values() for what in _gpu(gpu)]
    found += [Contradiction("hosts", host.name, what) for host in catalog.hosts().values() for what in _host(host)]
    for llm in catalog.llms().values():
        found += [Contradiction("llms", llm.name, what) for what in llm.contradictions()]
    for table, entries in (("gpus", catalog.gpus()), ("llms", catalog.llms())):
        for entry in entries.values():
            hidden = sorted(set(entry.aliases) & set(entries))
            found += [Contradiction(table, entry.name, f"alias {alias} is another's name") for alias in hidden]
    for path, profile in load_all([shipped_folder()]):
        found += [Contradiction("profiles", path.name, what) for what in _profile(profile)]
    return found


def _gpu(gpu: Gpu) -> Iterator[str]:
    if gpu.bus_bits and gpu.pin_gbit_s:
        bus_gb_s, said_gb_s = gpu.bus_bits * gpu.pin_gbit_s / 8.0, gpu.bandwidth_bytes_per_s / 1e9
        if abs(bus_gb_s / said_gb_s - 1.0) > BANDWIDTH_CLOSE:
            yield (
                f"{gpu.bus_bits} bits at {gpu.pin_gbit_s:g} Gbit/s give {bus_gb_s:,.0f} GB/s, "
                f"but bandwidth_gb_s is {said_gb_s:,.0f}"
            )
    if gpu.die_mm2 and gpu.dies and gpu.die_mm2 / gpu.dies > RETICLE_MM2:
        yield f"a die of {gpu.die_mm2 / gpu.dies:,.0f} mm2 is larger than the {RETICLE_MM2:g} mm2 one can expose"
    if gpu.tdp_w and gpu.idle_w and gpu.idle_w >= gpu.tdp_w:
        yield f"idles at {gpu.idle_w:g} W, not below its TDP of {gpu.tdp_w:g} W"
    if gpu.tdp_w and gpu.flops_bf16 / 1e12 / gpu.tdp_w > MOST_TFLOPS_PER_W:
        yield f"{gpu.flops_bf16 / 1e12:,.0f} TFLOPS at {gpu.tdp_w:g} W: a sparse, fp8 or fp4 figure?"
    most = next((gb for family, gb in MOST_GB_PER_PACKAGE.items() if gpu.memory_type.startswith(family)), None)
    if most and gpu.memory_packages and gpu.memory_gb / gpu.memory_packages > most:
        each_gb = gpu.memory_gb / gpu.memory_packages
        yield f"{each_gb:.1f} GB in each of {gpu.memory_packages} {gpu.memory_type} packages"
    finest = min((int(nm) for nm in re.findall(r"([0-9]+) ?n?m?", gpu.process or "")), default=None)
    if finest and gpu.act_node_nm and gpu.act_node_nm != _ACT_NODE.get(finest, finest):
        yield f"act_node_nm is {gpu.act_node_nm}, but the process is {gpu.process}"
    if not 2006 <= gpu.release_year <= 2035:
        yield f"released in {gpu.release_year}"


def _host(host: Host) -> Iterator[str]:
    low, high = HOST_W_PER_GPU
    if not low <= host.power_w / host.gpus <= high:
        yield f"{host.power_w:g} W beside {host.gpus} GPUs is outside {low:g} to {high:g} W each"
    if host.dram_gb < 8 * host.gpus:
        yield f"{host.dram_gb:g} GB of DRAM for {host.gpus} GPUs"


def _profile(p: Profile) -> Iterator[str]:
    gpu, llm = catalog.gpu(p.gpu), catalog.llm(p.model)
    weights = llm.weights_bytes(p.precision)
    if not 0.98 <= p.memory.weights_bytes / weights <= 1.05:
        yield f"its weights are {p.memory.weights_bytes / 1e9:.1f} GB, the model's {weights / 1e9:.1f} GB"
    kept = p.memory.kv_capacity_tokens * p.memory.kv_bytes_per_token + p.memory.weights_bytes
    if kept > p.tp * gpu.board_bytes:
        yield f"weights and KV of {kept / 1e9:.0f} GB exceed {p.tp} x {gpu.memory_gb:g} GB"
    most_w = max(*p.prefill.power_w, *p.decode.power_w)
    if gpu.tdp_w and most_w > 1.02 * p.tp * gpu.tdp_w:
        yield f"draws {most_w:,.0f} W, above {p.tp} x {gpu.tdp_w:g} W"
