"""What one can buy and serve: GPUs, the hosts they are sold in, and the shapes of LLMs.

Three CSV tables under profiles/data whose columns carry their units and whose figures carry their sources. An empty
cell is an unknown figure (None), never a guess; `verify` names figures that were recalled and not re-read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from profiles.inputs import InputError, near_miss, read_text
from profiles.units import BYTES_PER_GB

DATA = Path(__file__).parent / "data"
PRECISION_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}

# Watts of host components beside the GPUs, and losses: facts of public host models (Boavizta, GreenSKU, vendor sheets).
CPU_W, DRAM_W_PER_GB, SSD_W_PER_TB, NIC_W, CHASSIS_W, FAN_W = 145.0, 0.37, 5.0, 19.0, 35.0, 112.0
CONVERSION_LOSS = 1.05 / 0.95  # voltage regulators and power supplies


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator; `die_mm2` sums its logic dies, `memory_packages` counts DRAM packages or HBM sites."""

    name: str
    vendor: str
    aliases: tuple[str, ...]
    memory_bytes: float
    bandwidth_bytes_per_s: float
    tdp_w: float | None
    idle_w: float | None
    flops_bf16: float
    die_mm2: float | None
    dies: int
    act_node_nm: int | None
    memory_type: str
    memory_packages: int | None
    release_year: int
    sources: dict[str, str]
    verify: tuple[str, ...]

    @property
    def memory_gb(self) -> float:
        """Memory in decimal gigabytes, as vendors state it."""
        return self.memory_bytes / BYTES_PER_GB


@dataclass(frozen=True, slots=True)
class Host:
    """A unit one can buy: `gpus` GPUs of one type with the server around them; `power_w` is what the server draws."""

    name: str
    gpu: str
    gpus: int
    cpus: int
    dram_gb: float
    ssd_tb: float
    nics: int
    fans: int
    power_w: float
    source: str


@dataclass(frozen=True, slots=True)
class Llm:
    """The shape of a decoder; experts is 0 for a dense model."""

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
    def active_params(self) -> int:
        """Parameters that one token passes through."""
        if not self.experts:
            return self.params
        idle = self.experts - self.experts_per_token
        return self.params - self.layers * idle * 3 * self.hidden * self.expert_intermediate

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


Entry = TypeVar("Entry", Gpu, Host, Llm)


class Row:
    """One CSV row whose cells are checked on reading."""

    def __init__(self, file: Path, line: int, cells: dict[str, str]) -> None:
        self._file, self._line, self._cells = file, line, cells

    def text(self, column: str) -> str:
        """A cell that must not be empty."""
        value = self._cells.get(column) or ""
        if not value:
            raise InputError("empty", file=self._file, line=self._line, field=column, mend="fill it in")
        return value

    def words(self, column: str) -> tuple[str, ...]:
        """Words between spaces; an empty cell gives none."""
        return tuple((self._cells.get(column) or "").split())

    def maybe(self, column: str) -> float | None:
        """A positive number, or None where it is unknown."""
        text = self._cells.get(column) or ""
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 < value < 1e13:
            raise InputError(f"{text!r} is not a positive number", file=self._file, line=self._line, field=column)
        return value

    def number(self, column: str) -> float:
        """A positive number that must be known."""
        value = self.maybe(column)
        if value is None:
            raise InputError("empty", file=self._file, line=self._line, field=column, mend="fill it in")
        return value

    def count(self, column: str) -> int:
        """A whole number; 0 where the cell is empty."""
        return int(self.maybe(column) or 0)


def read_table(file: Path, make: Callable[[Row], Entry]) -> dict[str, Entry]:
    """Read one catalogue table.

    Raises:
        InputError: a row is broken or a name is given twice; file and line are named.
    """
    entries: dict[str, Entry] = {}
    reader = csv.DictReader(io.StringIO(read_text(file)))
    for cells in reader:
        line = reader.line_num
        if None in cells or None in cells.values():
            raise InputError("wrong number of columns", file=file, line=line)
        entry = make(Row(file, line, cells))
        if entry.name in entries:
            raise InputError(f"{entry.name} is given twice", file=file, line=line)
        entries[entry.name] = entry
    return entries


def _gpu(row: Row) -> Gpu:
    idle_w, die_mm2, node = row.maybe("idle_w"), row.maybe("die_mm2"), row.count("act_node_nm")
    return Gpu(
        name=row.text("name"),
        vendor=row.text("vendor"),
        aliases=row.words("aliases"),
        memory_bytes=row.number("memory_gb") * BYTES_PER_GB,
        bandwidth_bytes_per_s=row.number("bandwidth_gb_s") * BYTES_PER_GB,
        tdp_w=row.maybe("tdp_w"),
        idle_w=idle_w,
        flops_bf16=row.number("bf16_tflops") * 1e12,
        die_mm2=die_mm2,
        dies=row.count("dies"),
        act_node_nm=node or None,
        memory_type=row.text("memory_type"),
        memory_packages=row.count("memory_packages") or None,
        release_year=row.count("release_year"),
        sources={
            "spec": row.text("spec_source"),
            "bf16_tflops": row.text("bf16_source"),
            "idle_w": row.text("idle_source") if idle_w else "unknown: no vendor publishes it; calibrate measures it",
        },
        verify=row.words("verify"),
    )


def _host(row: Row) -> Host:
    cpus, dram_gb, ssd_tb = row.count("cpus"), row.number("dram_gb"), row.number("ssd_tb")
    nics, fans, source = row.count("nics"), row.count("fans"), row.text("source")
    power_w = row.maybe("power_w")
    if power_w is None:
        parts = cpus * CPU_W + dram_gb * DRAM_W_PER_GB + ssd_tb * SSD_W_PER_TB + nics * NIC_W + CHASSIS_W + fans * FAN_W
        power_w = round(parts * CONVERSION_LOSS)
        source = (
            f"{source}; watts = ({cpus} x {CPU_W:g} CPU + {dram_gb:g} GB x {DRAM_W_PER_GB} + {ssd_tb:g} TB x "
            f"{SSD_W_PER_TB:g} + {nics} x {NIC_W:g} NIC + {CHASSIS_W:g} chassis + {fans} x {FAN_W:g} fans) "
            "x 1.05 / 0.95"
        )
    return Host(
        name=row.text("name"),
        gpu=row.text("gpu"),
        gpus=row.count("gpus"),
        cpus=cpus,
        dram_gb=dram_gb,
        ssd_tb=ssd_tb,
        nics=nics,
        fans=fans,
        power_w=power_w,
        source=source,
    )


def _llm(row: Row) -> Llm:
    return Llm(
        name=row.text("name"),
        aliases=row.words("aliases"),
        layers=row.count("layers"),
        hidden=row.count("hidden"),
        intermediate=row.count("intermediate"),
        heads=row.count("heads"),
        kv_heads=row.count("kv_heads"),
        head_dim=row.count("head_dim"),
        vocab=row.count("vocab"),
        params=row.count("params"),
        experts=row.count("experts"),
        experts_per_token=row.count("experts_per_token"),
        expert_intermediate=row.count("expert_intermediate"),
        tied_embeddings=row.text("tied_embeddings") == "yes",
        max_context=row.count("max_context"),
        source=row.text("source"),
    )


@cache
def gpus() -> dict[str, Gpu]:
    """Every GPU of the catalogue by name."""
    return read_table(DATA / "gpus.csv", _gpu)


@cache
def hosts() -> dict[str, Host]:
    """Every unit of the catalogue by name."""
    return read_table(DATA / "hosts.csv", _host)


@cache
def llms() -> dict[str, Llm]:
    """Every LLM of the catalogue by name."""
    return read_table(DATA / "llms.csv", _llm)


def gpu(name: str) -> Gpu:
    """A GPU by name or alias; case, spaces and underscores do not matter.

    Raises:
        InputError: unknown; the near misses are named.
    """
    return _find(name, "GPU", gpus())


def llm(name: str) -> Llm:
    """An LLM by name or alias.

    Raises:
        InputError: unknown; the near misses are named.
    """
    return _find(name, "model", llms())


def host(name: str) -> Host:
    """A unit by name.

    Raises:
        InputError: unknown; the near misses are named.
    """
    return _find(name, "host", hosts())


def hosts_for(gpu_name: str) -> list[Host]:
    """The units a GPU is sold in, smallest first (none for a GPU that only a cloud has)."""
    return sorted((unit for unit in hosts().values() if unit.gpu == gpu_name), key=lambda unit: unit.gpus)


def _find(name: str, kind: str, known: dict[str, Entry]) -> Entry:
    plain = "-".join(name.lower().replace("_", " ").split())
    if plain in known:
        return known[plain]
    by_alias = [entry for entry in known.values() if plain in getattr(entry, "aliases", ())]
    if len(by_alias) == 1:
        return by_alias[0]
    raise InputError(f"unknown {kind} {name!r}", mend=near_miss(plain, known))
