"""The figures as Vega-Lite specifications, drawn from the document alone."""

from __future__ import annotations

from typing import Any

from carbonfleet.report.charts import Spec
from carbonfleet.reproduce.drawn import DOT, FRAME, Rows, colour, dash
from carbonfleet.reproduce.greener.knobs import KNOBS

MAPS = {
    "ttft_s": ("TTFT, ms", 1e3),
    "tbt_s": ("TBT, ms", 1e3),
    "output_tokens_per_s": ("output tokens/s", 1.0),
    "power_w": ("W", 1.0),
    "j_per_output_token": ("J an output token", 1.0),
}
SHOWN = "medium-medium"


def figures(d: dict[str, Any]) -> dict[str, Spec]:
    """All charts by name."""
    drawn = {"savings": _savings(d)}
    for name, (title, scale) in MAPS.items():
        drawn[f"map_{name}"] = _map(d, name, title, scale)
    drawn["tokens_by_class"] = _by_class(d)
    for name, title in (("energy", "energy, share of full clock's"), ("time", "time, multiple of full clock's")):
        drawn[f"phase_{name}"] = _phases(d, name, title)
    drawn["week_power"] = _week(d)
    drawn["week_plan"] = _plan(d)
    drawn["week_savings"] = _week_savings(d)
    return drawn


def _savings(d: dict[str, Any]) -> Spec:
    """Classes and loads down, knobs across."""
    rows = []
    for row in d["knobs"]:
        if row["baseline"]:
            shares = {name: knob["saving"] for name, knob in row["knobs"].items()}
            shares["unharmed"] = row["harmless"]["saving"]
            rows += [{"y": f"{row['class']}, {row['load']}", "x": name, "v": v} for name, v in shares.items()]
    return _heat(rows, [*KNOBS, "unharmed"], "", "%", "saved", reverse=False, height=20)


def _map(d: dict[str, Any], name: str, title: str, scale: float) -> Spec:
    """Batch across, tp and clock down, of one class."""
    rows = []
    for row in d["maps"]:
        if row["class"] == SHOWN:
            for batch, value in zip(d["setting"]["map_batches"], row[name], strict=True):
                rows.append(
                    {"y": f"tp{row['tp']}, clock {row['clock']:g}", "x": str(batch), "v": _scaled(value, scale)}
                )
    batches = [str(batch) for batch in d["setting"]["map_batches"]]
    return _heat(
        rows,
        batches,
        "batch of an instance",
        ",.3~s" if name in ("output_tokens_per_s", "power_w") else ",.3~r",
        title,
        log=True,
    )


def _by_class(d: dict[str, Any]) -> Spec:
    """Batch across, class and tp down, at full clock."""
    rows = [
        {"y": f"{row['class']}, tp{row['tp']}", "x": str(batch), "v": value}
        for row in d["maps"]
        if row["clock"] == 1.0
        for batch, value in zip(d["setting"]["map_batches"], row["j_per_output_token"], strict=True)
    ]
    batches = [str(batch) for batch in d["setting"]["map_batches"]]
    return _heat(rows, batches, "batch of an instance", ",.3~r", "J an output token", log=True, height=20)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _heat(
    rows: Rows,
    across: list[str],
    x: str,
    form: str,
    title: str,
    *,
    log: bool = False,
    reverse: bool = True,
    height: int = 22,
) -> Spec:
    """Cells with their figures; empty where memory ends."""
    known = [row for row in rows if row["v"] is not None]
    lost = [row | {"text": "no room"} for row in rows if row["v"] is None]
    values = [row["v"] for row in known]
    middle = (min(values) * max(values)) ** 0.5 if log else 0.5 * (min(values) + max(values))
    form = ".0%" if form == "%" else form
    places: Spec = {
        "x": {
            "field": "x",
            "type": "nominal",
            "sort": across,
            "title": x or None,
            "axis": {"labelAngle": 0, "orient": "top"},
        },
        "y": {"field": "y", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 180}},
    }
    scale: Spec = {"scheme": "yellowgreenblue", "type": "log" if log else "linear"}
    tone: Spec = {"field": "v", "type": "quantitative", "title": title, "scale": scale, "legend": None}
    ink = {"condition": {"test": f"datum.v > {middle}", "value": "white"}, "value": "black"}
    tip = [{"field": "y"}, {"field": "x"}, {"field": "v", "format": form, "title": title}]
    layers: list[Spec] = [
        {"data": {"values": known}, "mark": "rect", "encoding": places | {"color": tone, "tooltip": tip}},
        {
            "data": {"values": known},
            "mark": {"type": "text", "fontSize": 10},
            "encoding": places | {"text": {"field": "v", "format": form}, "color": ink},
        },
    ]
    if lost:
        words = {"type": "text", "fontSize": 9, "color": "#767676"}
        layers.append({"data": {"values": lost}, "mark": words, "encoding": places | {"text": {"field": "text"}}})
    down = len(dict.fromkeys(row["y"] for row in rows))
    return FRAME | {"height": height * down, "layer": layers}


def _phases(d: dict[str, Any], name: str, title: str) -> Spec:
    """Prefill and decode of the largest tp against the clock, and prefill of the others."""
    values = []
    for row in d["phases"]:
        size = "prefill" if row["phase"] == "prefill" else f"decode, batch {row['size']}"
        values += [
            {"what": size, "tp": f"tp{row['tp']}", "clock": clock, "y": y}
            for clock, y in zip(row["clock"], row[name], strict=True)
        ]
    x: Spec = {
        "field": "clock",
        "type": "quantitative",
        "title": "SM clock, share of full",
        "scale": {"domain": [0.2, 1]},
    }
    y = {"field": "y", "type": "quantitative", "title": title, "scale": {"zero": False}}
    return _lines(values, x, y, "what", "tp", 260)


def _lines(values: Rows, x: Spec, y: Spec, by: str, dashed: str | None, height: int) -> Spec:
    encoding: Spec = {"x": x, "y": y, "color": colour(by, list(dict.fromkeys(row[by] for row in values)))}
    if dashed:
        encoding["strokeDash"] = dash(dashed, list(dict.fromkeys(row[dashed] for row in values)))
    tip = [{"field": by}, {"field": x["field"]}, {"field": y["field"], "format": ".4~g"}]
    tip += [{"field": dashed}] if dashed else []
    mark = {"type": "line", "strokeWidth": 2}
    layers: list[Spec] = [{"mark": mark, "encoding": encoding}]
    if dashed:
        layers.append(
            {"mark": DOT | {"size": 14}, "encoding": {**encoding, "tooltip": tip} | {"strokeDash": {"value": [1, 0]}}}
        )
    return FRAME | {"height": height, "data": {"values": values}, "layer": layers}


def _week(d: dict[str, Any]) -> Spec:
    values = [
        {"policy": row["policy"], "hour": hour, "y": watts / 1e3}
        for row in d["week"]["policies"]
        for hour, watts in enumerate(row["power_w"])
    ]
    y = {"field": "y", "type": "quantitative", "title": "kW, hosts and PUE included"}
    return _lines(values, _hours(), y, "policy", None, 260)


def _plan(d: dict[str, Any]) -> Spec:
    """Instances in use by tp and hour under all knobs, over the load."""
    row = d["week"]["policies"][-1]
    values = [
        {"tp": f"tp{tp}", "hour": hour, "y": count, "clock": clock}
        for hour, (tp, count, clock) in enumerate(zip(row["tp"], row["instances"], row["planned_clock"], strict=True))
    ]
    tip = [{"field": "hour"}, {"field": "tp"}, {"field": "y", "title": "instances"}, {"field": "clock"}]
    encoding = {
        "x": _hours(),
        "y": {"field": "y", "type": "quantitative", "title": "instances", "axis": {"format": "d", "tickMinStep": 1}},
        "color": colour("tp", list(dict.fromkeys(value["tp"] for value in values))),
        "tooltip": tip,
    }
    return FRAME | {
        "height": 140,
        "data": {"values": values},
        "mark": {"type": "bar", "width": 3},
        "encoding": encoding,
    }


def _hours() -> Spec:
    axis = {
        "values": list(range(0, 169, 24)),
        "labelExpr": "['Mon','Tue','Wed','Thu','Fri','Sat','Sun',''][datum.value / 24]",
    }
    scale = {"domain": [0, 168], "nice": False}
    return {"field": "hour", "type": "quantitative", "title": None, "axis": axis, "scale": scale}


def _week_savings(d: dict[str, Any]) -> Spec:
    titles = {"gpu_energy_j": "GPU energy", "energy_j": "all energy", "operational_g": "operational carbon"}
    values = [
        {"policy": row["policy"], "what": title, "y": row[f"{name}_saving"]}
        for row in d["week"]["policies"][1:]
        for name, title in titles.items()
    ]
    published = d["week"]["published"]
    values += [
        {"policy": "DynamoLLM, published", "what": "GPU energy", "y": published["energy_saving"]},
        {"policy": "DynamoLLM, published", "what": "operational carbon", "y": published["operational_saving"]},
    ]
    order = list(dict.fromkeys(value["policy"] for value in values))
    whats = list(titles.values())
    encoding = {
        "y": {"field": "policy", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 200}},
        "yOffset": {"field": "what", "type": "nominal", "sort": whats},
        "x": {
            "field": "y",
            "type": "quantitative",
            "title": "saved against the static fleet",
            "axis": {"format": ".0%"},
        },
        "color": colour("what", whats),
        "tooltip": [{"field": "policy"}, {"field": "what"}, {"field": "y", "format": ".1%"}],
    }
    return FRAME | {"height": 46 * len(order), "data": {"values": values}, "mark": "bar", "encoding": encoding}
