"""Pictures of what goes in: a grid's year, week and day; a trace's load and lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from carbonfleet.report.charts import SCHEMA, Spec
from profiles.inputs import InputError

if TYPE_CHECKING:
    from profiles.grid import Signal
    from sim.trace import Trace

LOAD_BINS = 400
_GREEN, _BROWN, _BLUE = "#2f6f4f", "#c98a3d", "#5b7db1"
_HOUR_S, _DAY_S = 3600, 86400


def grid(signal: Signal) -> Spec:
    """The year by day (mean, and the least and most of each day), the mean week and the mean day, in UTC.

    Raises:
        InputError: a constant, which has no hours.
    """
    known = np.isfinite(signal.start_s) & np.isfinite(signal.g_per_kwh)
    if not known.any():
        raise InputError(f"{signal.name} is the same at all times", field="--plot", mend="there is nothing to draw")
    start_s, values = signal.start_s[known].astype(np.int64), signal.g_per_kwh[known]
    panels = []
    if not signal.recurring:  # a typical year has a month and an hour, but neither days nor weekdays
        panels.append(_bands(start_s // _DAY_S, values, "day", lambda day: day * _DAY_S * 1000, "temporal"))
        hour_of_week = (start_s // _HOUR_S + 72) % 168  # 1970 began on a Thursday
        title = "hour of the week, from Monday 0 h UTC"
        panels.append(_bands(hour_of_week, values, title, lambda hour: hour, "quantitative"))
    else:
        month = start_s.astype("datetime64[s]").astype("datetime64[M]").astype(int) % 12
        panels.append(_bands(month, values, "month", lambda m: m + 1, "ordinal"))
    panels.append(_bands(start_s // _HOUR_S % 24, values, "hour of the day, UTC", lambda hour: hour, "quantitative"))
    heading = {"text": signal.name, "subtitle": f"{signal.kind}, {signal.scope}; {signal.source}", "anchor": "start"}
    return _page(panels, heading)


def _bands(group: Any, values: Any, title: str, place: Any, kind: str) -> Spec:
    """Mean of each group as a line in a band from its least to its most."""
    order = np.argsort(group, kind="stable")
    keys, first = np.unique(group[order], return_index=True)
    parts = np.split(values[order], first[1:])
    rows = [
        {"x": int(place(int(key))), "mean": float(part.mean()), "low": float(part.min()), "high": float(part.max())}
        for key, part in zip(keys, parts, strict=True)
    ]
    x: Spec = {"field": "x", "type": kind, "title": title, "axis": {"grid": False, "labelAngle": 0}}
    if kind == "quantitative":
        last = int(keys[-1])
        x["scale"] = {"domain": [0, last], "nice": False}
        x["axis"]["values"] = list(range(0, last + 1, 24 if last > 24 else 3))
    if kind == "temporal":
        x["scale"] = {"type": "utc"}
    y: Spec = {"type": "quantitative", "title": "g CO2e per kWh"}
    band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    line = {"x": x, "y": {**y, "field": "mean"}}
    return {
        "width": 720,
        "height": 130,
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.25, "color": _GREEN}, "encoding": band},
            {"mark": {"type": "line", "strokeWidth": 1.5, "color": _GREEN}, "encoding": line},
        ],
    }


def trace(found: Trace) -> Spec:
    """Requests per second over the span, and the share of requests up to each length."""
    counts, edges = np.histogram(found.arrival_s, bins=LOAD_BINS, range=(0.0, max(found.span_s, 1.0)))
    width = edges[1] - edges[0]
    load = [{"s": float(at), "rate": float(n / width)} for at, n in zip(edges, counts, strict=False)]
    shares = np.linspace(0.0, 1.0, 201)
    lengths = [
        {"tokens": max(1.0, float(value)), "share": float(share), "of": name}
        for name, tokens in (("prompt", found.prompt_tokens), ("output", found.output_tokens))
        for share, value in zip(shares, np.quantile(tokens, shares), strict=True)
    ]
    rate: Spec = {
        "width": 720,
        "height": 160,
        "data": {"values": load},
        "mark": {"type": "area", "interpolate": "step-after", "color": _BLUE, "opacity": 0.8},
        "encoding": {
            "x": {
                "field": "s",
                "type": "quantitative",
                "title": "seconds",
                "axis": {"grid": False},
                "scale": {"nice": False},
            },
            "y": {"field": "rate", "type": "quantitative", "title": f"requests per second ({width:.3g} s bins)"},
        },
    }
    lines: Spec = {
        "width": 720,
        "height": 160,
        "data": {"values": lengths},
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": {
                "field": "tokens",
                "type": "quantitative",
                "scale": {"type": "log"},
                "title": "tokens (log)",
                "axis": {"tickCount": 6},
            },
            "y": {"field": "share", "type": "quantitative", "title": "share of requests", "axis": {"format": ".0%"}},
            "color": {
                "field": "of",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["prompt", "output"], "range": [_GREEN, _BROWN]},
            },
            "order": {"field": "share", "type": "quantitative"},
        },
    }
    return _page([rate, lines], {"text": found.name, "subtitle": found.summary().partition(": ")[2], "anchor": "start"})


def _page(panels: list[Spec], title: Spec) -> Spec:
    return {"$schema": SCHEMA, "background": "white", "title": title, "vconcat": panels}
