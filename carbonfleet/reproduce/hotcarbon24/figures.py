"""The paper's figures as Vega-Lite specifications, drawn from the document alone. Where memory ends it says OOM."""

from __future__ import annotations

from typing import Any

from carbonfleet.report.charts import Spec
from carbonfleet.reproduce.drawn import DOT, FRAME, Rows, colour, dash, log_axis

MILLI, MICRO = 1e3, 1e6


def figures(document: dict[str, Any], book: str) -> dict[str, Spec]:
    """Figures 1 to 7 under one book, by name; those of throughput and latency are the same under any.

    There is none where no cell has memory enough.
    """
    cells, energy = document["cells"], document["energy"][book]
    lost = [row for row in cells if row["out_of_memory"]]
    run = [row for row in cells if not row["out_of_memory"]]
    if not run:
        return {}
    drawn = {
        "1_latency": _by_batch(run, "latency_s", "s a batch (log)", lost),
        "2_energy": _by_batch(energy, "energy_j", "J a prompt (log)", lost),
    }
    for number, phase in ((3, "prefill"), (4, "decode")):
        name, field = f"{number}_{phase}", f"{phase}_tokens_per_s"
        drawn[f"{name}_throughput"] = _by_batch(run, field, "tokens/s (log)", lost)
        drawn[f"{name}_energy"] = _by_batch(energy, f"{phase}_j_per_token", "J a token (log)", lost)
    small = document["setting"]["models"][0]
    carbon = [row for row in document["carbon"][book] if row["model"] == small]
    none = [row for row in lost if row["model"] == small]
    for k, zone in enumerate(document["setting"]["zones"]):
        here = [row for row in carbon if row["zone"] == zone["name"]]
        drawn[f"5_prompt_{k}"] = _bars(here, none, f"mg CO2e a prompt, {zone['name']}")
    for phase in ("prefill", "decode"):
        drawn[f"6_token_{phase}"] = _tokens(carbon, f"{phase}_g_per_token")
    drawn["7_lifetime"] = _lifetime(document["embodied_share_by_lifetime"][book])
    return drawn


def _by_batch(rows: Rows, field: str, title: str, lost: Rows) -> Spec:
    """Lines over the batch, a colour for each GPU and a dash for each model; the lost cells named at the top."""
    values = [{"gpu": r["gpu"], "model": r["model"], "batch": r["batch"], "y": r[field]} for r in rows]
    pairs = list(dict.fromkeys((row["gpu"], row["model"]) for row in lost))
    marks = [
        {"gpu": r["gpu"], "batch": r["batch"], "row": pairs.index((r["gpu"], r["model"])), "text": _oom(r["model"])}
        for r in lost
    ]
    clear = 8 + 12 * len(pairs)  # pixels that the lines of OOM need below the legend
    by_gpu = colour("gpu", list(dict.fromkeys(r["gpu"] for r in (*rows, *lost))), clear)
    line: Spec = {
        "x": _batch_axis(),
        "y": log_axis(values, title),
        "color": by_gpu,
        "strokeDash": dash("model", list(dict.fromkeys(r["model"] for r in rows)), clear),
    }
    tip = [{"field": "gpu"}, {"field": "model"}, {"field": "batch"}, {"field": "y", "format": ".4~g", "title": title}]
    layers: list[Spec] = [
        {"data": {"values": values}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": line},
        {
            "data": {"values": values},
            "mark": DOT,
            "encoding": {"x": line["x"], "y": line["y"], "color": by_gpu, "tooltip": tip},
        },
    ]
    for row in range(len(pairs)):  # one line of text a model that does not fit, from the top down
        layers.append(
            {
                "data": {"values": [mark for mark in marks if mark["row"] == row]},
                "mark": {"type": "text", "fontSize": 10, "y": -6 - 12 * row},
                "encoding": {"x": line["x"], "text": {"field": "text"}, "color": by_gpu},
            }
        )
    return FRAME | {"height": 230, "layer": layers}


def _bars(rows: Rows, lost: Rows, title: str) -> Spec:
    """Operational and embodied grams stacked, a bar for each GPU and batch."""
    parts = ("operational", "embodied")
    values = [
        {"gpu": r["gpu"], "batch": r["batch"], "part": part, "order": k, "y": MILLI * r[f"{part}_g"]}
        for r in rows
        for k, part in enumerate(parts)
    ]
    gpus = list(dict.fromkeys(r["gpu"] for r in (*rows, *lost)))
    x: Spec = {"field": "batch", "type": "ordinal", "title": "batch", "axis": {"labelAngle": 0}}
    offset = {"field": "gpu", "type": "nominal", "sort": gpus}
    shade = {"domain": list(parts), "range": [1.0, 0.4]}
    opacity = {"field": "part", "type": "ordinal", "title": None, "scale": shade, "legend": {"orient": "top"}}
    bars: Spec = {
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "x": x,
            "xOffset": offset,
            "y": {"field": "y", "type": "quantitative", "title": title, "stack": "zero"},
            "color": colour("gpu", gpus),
            "opacity": opacity,
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": "gpu"}, {"field": "batch"}, {"field": "part"}, {"field": "y", "format": ".4~g"}],
        },
    }
    missing: Spec = {
        "data": {"values": [{"gpu": r["gpu"], "batch": r["batch"], "text": "OOM"} for r in lost]},
        "mark": {"type": "text", "angle": 270, "align": "left", "baseline": "middle", "fontSize": 10},
        "encoding": {"x": x, "xOffset": offset, "y": {"datum": 0}, "text": {"field": "text"}},
    }
    return FRAME | {"height": 180, "layer": [bars, missing] if lost else [bars]}


def _tokens(rows: Rows, field: str) -> Spec:
    values = [{"gpu": r["gpu"], "zone": r["zone"], "batch": r["batch"], "y": MICRO * r[field]} for r in rows]
    return _lines(values, _batch_axis(), log_axis(values, "µg CO2e a token (log)"), 230)


def _lifetime(rows: Rows) -> Spec:
    values = [{"gpu": r["gpu"], "zone": r["zone"], "years": r["years"], "y": r["embodied_share"]} for r in rows]
    x: Spec = {"field": "years", "type": "quantitative", "title": "years of life", "scale": {"zero": False}}
    x["axis"] = {"values": sorted({row["years"] for row in rows})}
    y = {"field": "y", "type": "quantitative", "title": "embodied share", "axis": {"format": ".0%"}}
    return _lines(values, x, y, 230)


def _lines(values: Rows, x: Spec, y: Spec, height: int) -> Spec:
    """A colour for each GPU, a dash for each zone."""
    encoding = {"x": x, "y": y, "color": colour("gpu", list(dict.fromkeys(row["gpu"] for row in values)))}
    by_zone = dash("zone", list(dict.fromkeys(row["zone"] for row in values)))
    tip = [{"field": "gpu"}, {"field": "zone"}, {"field": x["field"]}, {"field": "y", "format": ".4~g"}]
    return FRAME | {
        "height": height,
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding | {"strokeDash": by_zone}},
            {"mark": DOT, "encoding": encoding | {"tooltip": tip}},
        ],
    }


def _batch_axis() -> Spec:
    scale = {"type": "log", "base": 2, "nice": False}
    axis = {"values": [1, 2, 4, 8, 16, 32, 64], "format": "d"}
    return {"field": "batch", "type": "quantitative", "title": "batch (log)", "scale": scale, "axis": axis}


def _oom(model: str) -> str:
    return f"{model}: OOM"
