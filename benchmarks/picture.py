"""The README's picture: GPU power by pool and grid intensity over the demo's day, from its timeline.

    .venv/bin/carbonfleet demo && .venv/bin/python -m benchmarks.picture runs/demo docs/demo.svg

Needs vl-convert-python (not a dependency yet: the report will bring it).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import vl_convert

MINUTES = 15


def main(run: str, target: str) -> None:
    rows = pq.read_table(Path(run) / "timeline.parquet").to_pylist()
    sites = {pool["name"]: pool["site"] for pool in json.loads((Path(run) / "summary.json").read_text())["pools"]}
    data: dict[tuple[float, str], list[dict]] = {}
    for row in rows:
        data.setdefault((row["time_s"] // (60 * MINUTES), row["pool"]), []).append(row)
    power, grid = [], {}
    for (part, pool), minutes in data.items():
        hour = part * MINUTES / 60
        power.append({"hour": hour, "pool": pool, "kW": sum(m["gpu_power_w"] for m in minutes) / len(minutes) / 1e3})
        grid[hour, sites[pool]] = sum(m["intensity_g_per_kwh"] for m in minutes) / len(minutes)
    intensity = [{"hour": hour, "site": site, "g/kWh": value} for (hour, site), value in grid.items()]
    hours = {"field": "hour", "type": "quantitative", "title": "hour of the day (UTC)", "scale": {"domain": [0, 24]}}
    charts = [
        {
            "data": {"values": sorted(power, key=lambda row: (row["pool"], row["hour"]))},
            "width": 640,
            "height": 200,
            "mark": {"type": "area", "interpolate": "step-after"},
            "encoding": {
                "x": hours,
                "y": {"field": "kW", "type": "quantitative", "title": "GPU power, kW", "stack": "zero"},
                "color": {"field": "pool", "type": "nominal"},
            },
        },
        {
            "data": {"values": sorted(intensity, key=lambda row: (row["site"], row["hour"]))},
            "width": 640,
            "height": 120,
            "mark": {"type": "line", "interpolate": "step-after"},
            "encoding": {
                "x": hours,
                "y": {"field": "g/kWh", "type": "quantitative", "title": "grid, gCO2e/kWh"},
                "color": {"field": "site", "type": "nominal", "scale": {"scheme": "dark2"}},
            },
        },
    ]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": "white",
        "vconcat": charts,
        "resolve": {"scale": {"color": "independent"}},
    }
    svg = vl_convert.vegalite_to_svg(spec)
    Path(target).write_text(svg)
    Path(target).with_suffix(".png").write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))


if __name__ == "__main__":
    main(*sys.argv[1:])
