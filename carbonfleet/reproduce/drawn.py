"""Parts of charts that reproductions share."""

from __future__ import annotations

import math
from typing import Any

from carbonfleet.report.charts import SCHEMA, Spec

Rows = list[dict[str, Any]]
FRAME: Spec = {"$schema": SCHEMA, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
DOT: Spec = {"type": "point", "filled": True, "size": 40, "opacity": 1}
DASHES = [[1, 0], [6, 3], [2, 2], [10, 3, 2, 3], [1, 4], [12, 4]]


def log_axis(values: Rows, title: str) -> Spec:
    """A logarithmic axis around the values, with ticks at 1, 2 and 5 or closer."""
    ys = [row["y"] for row in values]
    low, high = 0.8 * min(ys), 1.25 * max(ys)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high > 30.0 * low else (1, 2, 3, 5, 7)
    ticks = [m * 10.0**k for k in decades for m in steps if low <= m * 10.0**k <= high]
    scale = {"type": "log", "domain": [low, high], "nice": False}
    axis = {"values": ticks, "format": ",~g"}
    return {"field": "y", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def colour(field: str, domain: list[str], clear: int = 8) -> Spec:
    """A colour for each value of a field; the legend `clear` pixels above the chart."""
    legend = {"orient": "top", "symbolStrokeWidth": 3, "offset": clear}
    return {"field": field, "type": "nominal", "title": None, "scale": {"domain": domain}, "legend": legend}


def dash(field: str, domain: list[str], clear: int = 8) -> Spec:
    """A dash for each value of a field."""
    ranged = [DASHES[k % len(DASHES)] for k in range(len(domain))]
    legend = {"orient": "top", "symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2, "offset": clear}
    scale = {"domain": domain, "range": ranged}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": legend}
