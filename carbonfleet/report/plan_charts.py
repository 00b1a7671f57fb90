"""The plan page's charts as Vega-Lite specifications, with their data inside."""

from __future__ import annotations

import re
from typing import Any

from carbonfleet.plan_folder import PlanFolder
from carbonfleet.report.charts import Spec, frame, spec

_COLOURS = {"today": "#8a8a5c", "recommended": "#2f6f4f", "least cost": "#c98a3d", "buy nothing": "#5b7db1"}
_HOUR = re.compile(r"(\d\d)h$")
PARTS = ("operational", "embodied")


def charts(found: PlanFolder) -> dict[str, Spec]:
    """All charts of a plan by name, as far as there is something to draw."""
    made = {}
    board = found.parts["board"]
    if board and any(row["years"] for row in board["fleets"]):
        made["board"] = by_year(board["fleets"])
    beside = found.parts["beside"] or {}
    if beside.get("pareto"):
        made["pareto"] = pareto(beside["pareto"])
    if len(found.plan["years"]) > 1 and found.plan["fleet"]:
        made["fleet"] = over_years(found.plan["fleet"])
    rates, intensity = by_hour(found.plan)
    if rates:
        made["dispatch"], made["intensity"] = dispatch(rates), intensities(intensity)
    return made


def by_year(fleets: list[dict[str, Any]]) -> Spec:
    """Tonnes of every fleet in every year: operational full, embodied pale on top."""
    rows = [
        {"fleet": row["name"], "year": f"year {year['year']:.0f}", "part": part, "t": year[f"{part}_g"] / 1e6}
        for row in fleets
        for year in row["years"]
        for part in PARTS
    ]
    names = [row["name"] for row in fleets if row["years"]]
    scale = {"domain": names, "range": [_COLOURS.get(name, "#7a6aa0") for name in names]}
    top: Spec = {"title": None, "legend": {"orient": "top"}}
    return spec(
        rows,
        height=260,
        mark={"type": "bar", "stroke": None},
        encoding={
            "x": {"field": "year", "type": "ordinal", "title": None, "sort": None, "axis": {"labelAngle": 0}},
            "xOffset": {"field": "fleet", "type": "nominal", "sort": names},
            "y": {"field": "t", "type": "quantitative", "title": "t CO2e in the year", "stack": "zero"},
            "color": {"field": "fleet", "type": "nominal", "scale": scale, **top},
            "opacity": {
                "field": "part",
                "type": "ordinal",
                "sort": list(PARTS),
                "scale": {"domain": list(PARTS), "range": [1.0, 0.45]},
                **top,
            },
            "order": {"field": "part", "type": "nominal", "sort": "descending"},
            "tooltip": [{"field": "fleet"}, {"field": "year"}, {"field": "part"}, {"field": "t", "format": ".4~g"}],
        },
    )


def pareto(rows: list[dict[str, Any]]) -> Spec:
    """Fleets of the front by dollars and tonnes."""
    values = [
        {
            "usd": row["usd"],
            "t": row["carbon_g"] / 1e6,
            "fleet": ", ".join(f"{n} x {k}" for k, n in row["fleet"].items()),
        }
        for row in rows
    ]
    x: Spec = {"field": "usd", "type": "quantitative", "title": "dollars over the horizon", "scale": {"zero": False}}
    x["axis"] = {"format": "~s"}
    y: Spec = {"field": "t", "type": "quantitative", "title": "t CO2e over the horizon", "scale": {"zero": False}}
    tip = [{"field": "fleet"}, {"field": "usd", "format": ",.0f"}, {"field": "t", "format": ".4~g"}]
    line: Spec = {"mark": {"type": "line", "color": "#8fb996", "interpolate": "step-after"}}
    dots: Spec = {"mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": "#2f6f4f"}}
    return frame() | {
        "height": 240,
        "data": {"values": values},
        "encoding": {"x": x, "y": y},
        "layer": [line, dots | {"encoding": {"tooltip": tip}}],
    }


def over_years(fleet: list[dict[str, Any]]) -> Spec:
    """Units kept on, by pool and year."""
    rows = [
        {"pool": row["pool"] + (" (owned)" if row["owned"] else ""), "year": f"year {year}", "units": units}
        for row in fleet
        for year, units in enumerate(row["on"])
    ]
    return spec(
        rows,
        height=200,
        mark={"type": "bar"},
        encoding={
            "x": {"field": "year", "type": "ordinal", "title": None, "sort": None, "axis": {"labelAngle": 0}},
            "y": {"field": "units", "type": "quantitative", "title": "units on", "axis": {"tickMinStep": 1}},
            "color": {"field": "pool", "type": "nominal", "title": None, "sort": None, "legend": _pools(rows)},
            "tooltip": [{"field": "pool"}, {"field": "year"}, {"field": "units"}],
        },
    )


def by_hour(plan: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Requests per second of every pool, and g/kWh of every site, by hour of the day of the first year.

    A merged slice stands for several hours; seasons and kinds of day are weighed by their seconds, of several futures
    the first is shown.
    """
    slices = {
        part["name"]: part
        for part in plan["slices"]
        if part["year"] == 0 and part["future"] == 0 and part["hour"] is not None
    }
    hours = {name: [int(hit[1]) for each in name.split("+") if (hit := _HOUR.search(each))] for name in slices}
    weight: dict[int, float] = {}
    for name, part in slices.items():
        for hour in hours[name]:
            weight[hour] = weight.get(hour, 0.0) + part["seconds"] / len(hours[name])
    served: dict[tuple[str, int], float] = {}
    for row in plan["dispatch"]:
        part = slices.get(row["slice"])
        if part is None:
            continue
        rate = part["rate_per_s"] * plan["classes"][row["class"]]["share"] * row["share"]
        for hour in hours[row["slice"]]:
            share = part["seconds"] / len(hours[row["slice"]]) / weight[hour]
            served[row["pool"], hour] = served.get((row["pool"], hour), 0.0) + rate * share
    seen: dict[tuple[str, int], float] = {}
    for name, part in slices.items():
        for hour in hours[name]:
            share = part["seconds"] / len(hours[name]) / weight[hour]
            for site, value in part["intensity_g_per_kwh"].items():
                seen[site, hour] = seen.get((site, hour), 0.0) + value * share
    pools = [row["pool"] for row in plan["fleet"]]
    rates = [{"pool": pool, "hour": h, "rate": served.get((pool, h), 0.0)} for pool in pools for h in sorted(weight)]
    return rates, [{"site": site, "hour": hour, "g": value} for (site, hour), value in sorted(seen.items())]


def dispatch(rates: list[dict[str, Any]]) -> Spec:
    """Who serves how much in each hour, one pool on the other."""
    return spec(
        rates,
        height=200,
        mark={"type": "bar"},
        encoding={
            "x": _hour_axis(),
            "y": {"field": "rate", "type": "quantitative", "title": "requests per second", "stack": "zero"},
            "color": {"field": "pool", "type": "nominal", "title": None, "sort": None, "legend": _pools(rates)},
            "tooltip": [{"field": "pool"}, {"field": "hour"}, {"field": "rate", "format": ".4~g"}],
        },
    )


def intensities(rows: list[dict[str, Any]]) -> Spec:
    """Each site's intensity by hour, beside the dispatch."""
    return spec(
        rows,
        height=140,
        mark={"type": "line", "point": True, "strokeWidth": 2},
        encoding={
            "x": _hour_axis(),
            "y": {"field": "g", "type": "quantitative", "title": "g CO2e per kWh"},
            "color": {"field": "site", "type": "nominal", "title": None, "legend": {"orient": "top"}},
            "tooltip": [{"field": "site"}, {"field": "hour"}, {"field": "g", "format": ".4~g"}],
        },
    )


def _hour_axis() -> Spec:
    return {"field": "hour", "type": "ordinal", "title": "hour of the day, UTC", "axis": {"labelAngle": 0}}


def _pools(rows: list[dict[str, Any]]) -> Spec:
    """A legend that has as many columns as find room."""
    longest = max((len(row["pool"]) for row in rows), default=1)
    return {"orient": "top", "columns": max(1, 90 // (longest + 6))}
