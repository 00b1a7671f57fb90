"""The report's charts as Vega-Lite specifications, with their data inside."""

from __future__ import annotations

from typing import Any

from carbonfleet.report.folder import QUANTILES, Folder

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name, never fetched
PARTS = {
    "gpu_busy": "GPUs at work",
    "gpu_idle": "GPUs idle",
    "host": "hosts",
    "overhead": "cooling and losses (PUE)",
    "embodied": "embodied in hardware",
}
PART_COLOURS = ["#2f6f4f", "#8fb996", "#5b7db1", "#b9c4d6", "#c98a3d"]
METRICS = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "whole request"}


def charts(folder: Folder, start_ms: float | None) -> dict[str, Spec]:
    """All charts of a run by name; `start_ms` is the epoch of run time 0, where the run has a date."""
    found = {"sources": sources(folder)}
    if any(values.size for values in folder.latency.values()):
        found["latency"] = latency(folder)
    if folder.timeline:
        found["power"] = over_time(folder, "power_w", "kW at the plug", 1e-3, start_ms)
        found["running"] = over_time(folder, "running", "requests being served", 1.0, start_ms)
        found["waiting"] = over_time(folder, "waiting", "requests waiting", 1.0, start_ms)
        found["carbon"] = over_time(folder, "operational_g_per_h", "operational g CO2e per hour", 1.0, start_ms)
        found["intensity"] = over_time(folder, "intensity_g_per_kwh", "grid, g CO2e per kWh", 1.0, start_ms)
    return found


def sources(folder: Folder) -> Spec:
    """Where every gram comes from: one bar a pool."""
    pools = folder.summary["pools"]
    rows = [
        {"pool": pool["name"], "part": title, "order": k, "g": pool["parts_g"][name]}
        for pool in pools
        for k, (name, title) in enumerate(PARTS.items())
    ]
    titles = list(PARTS.values())
    return spec(
        rows,
        height=34 * len(pools),  # a step would not do: Vega-Lite cannot fit a width beside it
        mark={"type": "bar", "height": 20},
        encoding={
            "y": {"field": "pool", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 220}},
            "x": {"field": "g", "type": "quantitative", "title": "g CO2e over the run", "stack": "zero"},
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "scale": {"domain": titles, "range": PART_COLOURS},
                "legend": {"orient": "top", "columns": 2},
            },
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": "pool"}, {"field": "part"}, {"field": "g", "format": ".4~g"}],
        },
    )


def latency(folder: Folder) -> Spec:
    """Share of requests within a time, by metric, with the promised limits."""
    rows = [
        {"metric": title, "seconds": float(value), "share": float(share)}
        for name, title in METRICS.items()
        for share, value in zip(QUANTILES, folder.latency[name], strict=False)
        if value > 0
    ]
    limits = [
        {"metric": title, "seconds": folder.summary["slo"][name]}
        for name, title in METRICS.items()
        if folder.summary["slo"].get(name)
    ]
    colour: Spec = {"field": "metric", "type": "nominal", "title": None, "legend": {"orient": "top"}}
    colour |= {"scale": {"domain": list(METRICS.values()), "range": ["#2f6f4f", "#c98a3d", "#5b7db1"]}}
    x: Spec = {"field": "seconds", "type": "quantitative", "scale": {"type": "log"}, "title": "seconds (log)"}
    x["axis"] = {"format": "~g", "tickCount": 8}
    y: Spec = {"field": "share", "type": "quantitative", "title": "share of requests", "axis": {"format": ".0%"}}
    layers = [
        {
            "data": {"values": rows},
            "mark": {"type": "line", "strokeWidth": 2, "interpolate": "linear"},
            "encoding": {"x": x, "y": y, "color": colour, "order": {"field": "share", "type": "quantitative"}},
        },
        {
            "data": {"values": limits},
            "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5},
            "encoding": {"x": x, "color": colour},
        },
    ]
    return frame() | {"height": 240, "layer": layers if limits else layers[:1]}


def over_time(folder: Folder, column: str, title: str, scale: float, start_ms: float | None) -> Spec:
    """One column of the timeline, a line for each pool."""
    rows = [
        {"pool": pool, "t": _time(float(t), start_ms), "y": round(float(y) * scale, 6)}
        for pool, columns in folder.timeline.items()
        for t, y in zip(columns["time_s"], columns[column], strict=True)
    ]
    x: Spec = {"field": "t", "type": "quantitative", "title": "hours since the start"}
    if start_ms is not None:
        shown = "%d %b %H:%M" if folder.summary["horizon_s"] > 86_400 else "%H:%M"
        axis = {"format": shown, "labelOverlap": True, "tickCount": 8}
        x = {"field": "t", "type": "temporal", "title": "UTC", "scale": {"type": "utc"}, "axis": axis}
    return spec(
        rows,
        height=170,
        mark={"type": "line", "interpolate": "step-after", "strokeWidth": 1.5},
        encoding={
            "x": x,
            "y": {"field": "y", "type": "quantitative", "title": title},
            "color": {"field": "pool", "type": "nominal", "title": None, "sort": None, "legend": {"orient": "top"}},
        },
    )


def _time(time_s: float, start_ms: float | None) -> float:
    return round(time_s / 3600.0, 5) if start_ms is None else start_ms + 1000.0 * time_s


def frame() -> Spec:
    """What every chart that is as wide as its place begins with."""
    return {"$schema": SCHEMA, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}


def spec(rows: list[dict[str, Any]], **rest: Any) -> Spec:
    """A chart as wide as its place, with its rows inside."""
    return frame() | {"data": {"values": rows}} | rest
