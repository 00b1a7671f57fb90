"""MLPerf power: wall watts of whole nodes, of which what stands beside the GPUs is the host's.

Wall watts are means between the power log's begin and end. n GPUs at their limit leave wall - n x limit to CPUs,
memory, NICs, fans and conversion. In a run whose GPUs draw less the host draws more than that: every figure is a least
one, and the runs of language models nearest to the highest wall count.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiles import catalog
from profiles.catalog import Gpu
from profiles.importers.formats import Asked
from profiles.importers.reading import Cells, grouped
from profiles.inputs import InputError, csv_records
from profiles.spellings import gpu

COLUMNS = ("submitter", "system", "benchmark", "scenario", "wall_W", "seconds")
LANGUAGE = ("llama", "mixtral", "gptj", "deepseek")
LEAST_S = 600.0  # MLPerf's shortest run with power
_NEAR = 0.05  # of the highest wall: the GPUs of such a run are at their limit
_CAPS_W = {"H200-SXM-141GBx8_TRT_MaxQ": 500.0}  # limits that submitters set, from their system descriptions
_SYSTEM = re.compile(r"(A100|H100|H200|B200|B300|L40S|MI300X)[\w-]*?x(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Raw:
    """One run: wall watts of the node and what ran; `gpu` is None where the system's name holds none that is known."""

    line: int
    submitter: str
    system: str
    benchmark: str
    scenario: str
    gpu: str | None
    gpus: int
    wall_w: float
    time_s: float


@dataclass(frozen=True, slots=True)
class NodePower:
    """What a node draws beside its GPUs: mean, spread and the highest of the runs that count."""

    system: str
    submitter: str
    gpu: Gpu
    gpus: int
    limit_w: float
    host_w: float
    residual_w: float
    least_w: float
    runs: int


def rows(path: str | Path) -> Iterator[Raw]:
    """Every run.

    Raises:
        InputError: no such table, or a figure that cannot be (with its line and field).
    """
    for line, record in csv_records(path, COLUMNS, "MLPerf's power figures"):
        c = Cells(path, line, record)
        known = _SYSTEM.search(c.text("system"))
        yield Raw(
            line, c.text("submitter"), c.text("system"), c.text("benchmark"), c.text("scenario"),
            known.group(1).lower() if known else None, int(known.group(2)) if known else 0,
            c.number("wall_W"), c.number("seconds"),
        )  # fmt: skip


def nodes(path: str | Path, asked: Asked) -> list[NodePower]:
    """The nodes whose host can be told; what is left out is told.

    Raises:
        InputError: see `rows`; or no node in it can be told.
    """
    found = [_node(own) for own in grouped(rows(path), _unfit, lambda raw: raw.system, asked.tell)]
    if not found:
        raise InputError("no node in it whose host can be told", file=path, mend="the warnings say why")
    return found


def _unfit(raw: Raw) -> str | None:
    """Why a run tells nothing of its host."""
    if raw.gpu is None:
        return "no GPU that is known in the system's name"
    if raw.time_s < LEAST_S:
        return f"shorter than {LEAST_S:g} s"
    return None if raw.benchmark.startswith(LANGUAGE) else "no language model: its GPUs may be far from their limit"


def _node(own: list[Raw]) -> NodePower:
    first = own[0]
    card = gpu(first.gpu or "")
    limit_w = _CAPS_W.get(first.system, card.tdp_w or 0.0)
    walls = sorted({raw.wall_w for raw in own})  # rows of 99 and 99.9 % of one run are one run
    beside = [wall - first.gpus * limit_w for wall in walls if wall >= (1.0 - _NEAR) * walls[-1]]
    spread = statistics.stdev(beside) if len(beside) > 1 else math.nan
    return NodePower(
        first.system,
        first.submitter,
        card,
        first.gpus,
        limit_w,
        statistics.fmean(beside),
        spread,
        beside[-1],
        len(beside),
    )


def hosts_csv(found: list[NodePower]) -> str:
    """The nodes as a hosts.csv of the catalogue's form; component counts are those of its unit of that GPU.

    Raises:
        InputError: the catalogue has no unit of that GPU and number.
    """
    columns = ("name", "gpu", "gpus", "cpus", "dram_gb", "ssd_tb", "nics", "chassis_2u", "fans", "power_w", "source")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for node in found:
        alike = next((h for h in catalog.hosts_for(node.gpu.name) if h.gpus == node.gpus), None)
        if alike is None:
            raise InputError(f"no unit of {node.gpus} x {node.gpu.name} to take component counts from")
        if node.host_w <= 0:
            raise InputError(f"{node.system} draws less than its GPUs' limit: at which limit did they run?")
        counts = (alike.cpus, alike.dram_gb, alike.ssd_tb, alike.nics, alike.chassis_2u, alike.fans)
        table.writerow((_name(node), node.gpu.name, node.gpus, *counts, round(node.host_w), _source(node, alike.name)))
    return text.getvalue()


def _name(node: NodePower) -> str:
    words = re.findall(r"[a-z0-9]+", f"{node.submitter} {node.system}".lower())
    return "-".join(("mlperf", *words))


def _source(node: NodePower, alike: str) -> str:
    spread = f"{node.residual_w:.0f} W standard deviation" if math.isfinite(node.residual_w) else "one run: no residual"
    return (
        f"MLPerf inference power ({node.submitter} {node.system}): wall less {node.gpus} x {node.limit_w:g} W over "
        f"{node.runs} runs of language models, {spread}, highest {node.least_w:.0f} W; a least figure, for GPUs may "
        f"draw less than their limit; component counts as {alike}"
    )
