"""The page of a comparison: its table, the Pareto plot and what turns the answer round."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from carbonfleet.report.charts import SCHEMA, Spec
from carbonfleet.report.page import figure_of, table, whole
from carbonfleet.text import PAIR_HEAD, RUNS_HEAD, pair_intro, pair_rows, runs_rows
from profiles.outputs import write_text


def write(found: dict[str, Any], target: str | Path) -> Path:
    """Write the page of what `carbonfleet.compare.compare` found.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_text(target, build(found))


def build(found: dict[str, Any]) -> str:
    """The whole page."""
    specs = {"pareto": pareto(found, "ttft_p99_s", "p99 time to first token, s")}
    body = [f"<header><h1>{len(found['runs'])} runs compared</h1></header><main>"]
    body.append(table(RUNS_HEAD, runs_rows(found)))
    body.append("<h2>Grams against latency</h2>")
    best = ", ".join(found["pareto"])
    body.append(figure_of("pareto", f"No other run is better at everything than: {best}."))
    if all(row["cost_usd"] is not None for row in found["runs"]):
        specs["dollars"] = pareto(found, "cost_usd_per_1k_output_tokens", "USD per 1,000 output tokens")
        body.append(figure_of("dollars", "The same against dollars."))
    for pair in found["pairs"]:
        body.append(f"<h2>{escape(pair['other'])} against {escape(pair['base'])}</h2>")
        body += [f"<p>{escape(line)}</p>" for line in pair_intro(pair)]
        body.append(table(PAIR_HEAD, pair_rows(pair)))
    return whole("runs compared", [*body, "</main>"], specs)


def pareto(found: dict[str, Any], key: str, title: str) -> Spec:
    """Each run by grams per 1,000 output tokens and another figure."""
    rows = [
        {
            "run": row["run"],
            "g": row["carbon_g_per_1k_output_tokens"],
            "y": row[key],
            "best": row["run"] in found["pareto"],
        }
        for row in found["runs"]
    ]
    x = {"field": "g", "type": "quantitative", "title": "g CO2e per 1,000 output tokens", "scale": {"zero": False}}
    y = {"field": "y", "type": "quantitative", "title": title, "scale": {"zero": False}}
    colour = {"field": "best", "type": "nominal", "legend": None}
    colour |= {"scale": {"domain": [True, False], "range": ["#2f6f4f", "#a3a79b"]}}  # type: ignore[dict-item]
    tip = [{"field": "run"}, {"field": "g", "format": ".4~g"}, {"field": "y", "format": ".4~g"}]
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": 260,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": rows},
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"color": colour, "tooltip": tip},
            },
            {"mark": {"type": "text", "align": "left", "dx": 9, "limit": 240}, "encoding": {"text": {"field": "run"}}},
        ],
    }
