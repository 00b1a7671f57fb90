"""What one can buy and serve: GPUs, the hosts they are sold in, and the shapes of LLMs.

Three CSV tables under profiles/data whose columns carry their units and whose figures carry their sources. An empty
cell is an unknown figure (None), never a guess; `verify` names figures that were recalled and not re-read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from profiles.inputs import InputError, near_miss
from profiles.tables import Entry, Row, read_table
from profiles.units import BYTES_PER_GB

DATA = Path(__file__).parent / "data"
PRECISION_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}

# Watts of host components beside the GPUs, and losses: figures of the public host model of GreenSKU and Boavizta.
CPU_W = 145.0  # half of a 290 W Genoa: serving leaves most of a host's CPU idle (EcoServe: 6 % used)
DRAM_W_PER_GB, SSD_W_PER_TB, NIC_W, CHASSIS_W, FAN_W = 0.37, 5.0, 19.0, 35.0, 112.0
CONVERSION_LOSS = 1.05 / 0.95  # voltage regulators and power supplies

_SPEC_COLUMNS = ("memory_gb", "bandwidth_gb_s", "tdp_w", "die_mm2", "memory_type", "release_year")
_IDLE_UNKNOWN = "unknown: no vendor publishes it; calibrate measures it"
_NODE_RULE = "ACT's nearest row to {}: 12 nm as 14, 6 nm as 7, 4 nm as 5"
_PACKAGE_RULE = "one per GDDR chip (2 GB, 3 GB of GDDR7) or HBM site, as Boavizta's gpu_specs counts the cards it lists"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator: memory in bytes, bandwidth in bytes/s, board power and idle in watts, dense bf16 in FLOP/s.

    `die_mm2` sums its `dies` logic dies, `memory_packages` counts DRAM packages or HBM sites. `sources` gives the
    source of each column of gpus.csv, `verify` the columns whose figures were recalled and not re-read.
    """

    name: str
    vendor: str
    aliases: tuple[str, ...]
    memory_bytes: float
    bandwidth_bytes_per_s: float
    tdp_w: float | None
    idle_w: float | None
    flops_bf16: float
    die_mm2: float | None
    dies: int | None
    process: str | None
    act_node_nm: int | None
    memory_type: str
    memory_packages: int | None
    release_year: int
    sources: dict[str, str] = field(compare=False)
    verify: tuple[str, ...]

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


@dataclass(frozen=True, slots=True)
class Llm:
    """The shape of a decoder; experts is 0 for a dense model, `intermediate` is the MLP width one token passes."""

    name: str
    aliases: tuple[str, ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    params: int
    experts: int
    experts_per_token: int
    expert_intermediate: int
    tied_embeddings: bool
    max_context: int
    source: str

    @property
    def moe(self) -> bool:
        """Whether the MLPs are mixtures of experts."""
        return self.experts > 0

    @property
    def active_params(self) -> int:
        """Parameters that one token passes through."""
        idle = self.experts - self.experts_per_token
        return self.params - self.layers * idle * 3 * self.hidden * self.expert_intermediate

    @property
    def linear_flops_per_token(self) -> float:
        """FLOPs of one token outside attention: two for each weight it meets (the embedding is only looked up)."""
        looked_up = 0 if self.tied_embeddings else self.vocab * self.hidden
        return 2.0 * (self.active_params - looked_up)

    def weights_bytes(self, precision: str) -> float:
        """Bytes of all weights.

        Raises:
            InputError: unknown precision.
        """
        return self.params * _bytes(precision)

    def kv_bytes_per_token(self, precision: str = "bf16") -> float:
        """Bytes of keys and values of one token over all layers.

        Raises:
            InputError: unknown precision.
        """
        return 2.0 * self.layers * self.kv_heads * self.head_dim * _bytes(precision)


def _bytes(precision: str) -> float:
    if precision not in PRECISION_BYTES:
        raise InputError(f"unknown precision {precision!r}", mend=near_miss(precision, PRECISION_BYTES))
    return PRECISION_BYTES[precision]


def _gpu(row: Row) -> Gpu:
    verify = row.words("verify")
    for column in verify:
        if column not in row.columns():
            raise row.refuse("verify", f"no column {column!r}", near_miss(column, row.columns()))
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
        die_mm2=row.maybe("die_mm2"),
        dies=row.maybe_count("dies"),
        process=process,
        act_node_nm=row.maybe_count("act_node_nm"),
        memory_type=row.text("memory_type"),
        memory_packages=row.maybe_count("memory_packages"),
        release_year=row.count("release_year"),
        sources={
            **dict.fromkeys(_SPEC_COLUMNS, spec),
            "bf16_tflops": row.text("bf16_source"),
            "idle_w": row.text("idle_source") if idle_w is not None else _IDLE_UNKNOWN,
            "act_node_nm": _NODE_RULE.format(process) if process else "unknown",
            "memory_packages": _PACKAGE_RULE,
        },
        verify=verify,
    )


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
    shape: dict[str, Any] = {
        column: row.count(column)
        for column in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "params")
    }
    moe = {column: row.maybe_count(column) or 0 for column in ("experts", "experts_per_token", "expert_intermediate")}
    return Llm(
        name=row.name("name"),
        aliases=row.words("aliases"),
        **shape,
        **moe,
        tied_embeddings=row.yes("tied_embeddings"),
        max_context=row.count("max_context"),
        source=row.text("source"),
    )


@cache
def _load(folder: Path, kind: str) -> dict[str, Any]:
    """One of the three tables, read once."""
    if kind == "gpus":
        return read_table(folder / "gpus.csv", _gpu)
    if kind == "hosts":
        return read_table(folder / "hosts.csv", _host)
    return read_table(folder / "llms.csv", _llm)


def gpus() -> dict[str, Gpu]:
    """Every GPU of the catalogue by name."""
    return dict(_load(DATA, "gpus"))


def hosts() -> dict[str, Host]:
    """Every unit of the catalogue by name."""
    return dict(_load(DATA, "hosts"))


def llms() -> dict[str, Llm]:
    """Every LLM of the catalogue by name."""
    return dict(_load(DATA, "llms"))


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
