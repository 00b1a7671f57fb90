"""A run directory as the report needs it: its summary, manifest, and thinned columns of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.inputs import InputError, read_json

Floats = NDArray[np.float64]
POINTS = 700  # of one pool in one chart; more would not be seen
QUANTILES = np.concatenate([np.linspace(0.0, 0.9, 91), np.linspace(0.9, 0.99, 31)[1:], np.linspace(0.99, 1.0, 21)[1:]])


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """What a run directory holds."""

    path: Path
    summary: dict[str, Any]
    manifest: dict[str, Any]
    config: str
    latency: dict[str, Floats]  # metric -> its values at QUANTILES; empty where nothing is defined
    timeline: dict[str, dict[str, Floats]]  # pool -> column -> values
    thinned: int  # minutes that one point of the timeline stands for


def read(folder: str | Path) -> Folder:
    """Read a run directory.

    Raises:
        InputError: a file is missing or not what `simulate -o` writes.
    """
    path = Path(folder)
    if not (path / "summary.json").is_file():
        raise InputError("has no summary.json", file=path, mend="give a folder that simulate -o wrote")
    summary = read_json(path / "summary.json")
    if not isinstance(summary, dict) or "carbon_g" not in summary or "pools" not in summary:
        raise InputError("is no run's summary", file=path / "summary.json", mend="write it anew with simulate -o")
    timeline, thinned = _timeline(path / "timeline.parquet")
    return Folder(
        path=path,
        summary=summary,
        manifest=read_json(path / "manifest.json") if (path / "manifest.json").is_file() else {},
        config=(path / "config.yaml").read_text("utf-8") if (path / "config.yaml").is_file() else "",
        latency=_latency(path / "requests.parquet"),
        timeline=timeline,
        thinned=thinned,
    )


def _columns(path: Path, names: list[str]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=names)
        missing = sorted(set(names) - set(table.column_names))
        if missing:
            raise InputError(f"has no column {missing[0]}", file=path, mend="write the run anew with simulate -o")
        return {name: table[name].to_numpy() for name in names}
    except (OSError, pa.ArrowException) as error:
        what = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read ({what})", file=path, mend="write the run anew with simulate -o") from error


def _latency(path: Path) -> dict[str, Floats]:
    found = {}
    for name, values in _columns(path, ["ttft_s", "tpot_s", "e2e_s"]).items():
        defined = values[~np.isnan(values)]
        found[name] = np.quantile(defined, QUANTILES) if defined.size else np.zeros(0)
    return found


def _timeline(path: Path) -> tuple[dict[str, dict[str, Floats]], int]:
    """Columns by pool, each point the mean of so many minutes that no more than POINTS are left."""
    names = ["power_w", "gpu_power_w", "busy_share", "waiting", "running", "intensity_g_per_kwh"]
    names.append("operational_g_per_h")
    columns = _columns(path, ["time_s", "pool", *names])
    pools = [str(name) for name in dict.fromkeys(columns["pool"].tolist())]
    longest = max((int(np.sum(columns["pool"] == pool)) for pool in pools), default=0)
    group = max(1, -(-longest // POINTS))
    found = {}
    for pool in pools:
        mine = columns["pool"] == pool
        starts = np.arange(0, int(mine.sum()), group)
        counts = np.diff(np.append(starts, mine.sum()))
        part = {name: np.add.reduceat(columns[name][mine], starts) / counts for name in names}
        found[pool] = {"time_s": columns["time_s"][mine][starts], **part}
    return found, group
