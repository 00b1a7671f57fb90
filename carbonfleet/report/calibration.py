"""The page of a calibration: fitted curves with their points, power and clocks over the windows, flags, provenance."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from carbonfleet.report.charts import SCHEMA, Spec
from carbonfleet.report.page import figure_of, table, whole
from carbonfleet.text import figure
from profiles.outputs import write_text
from profiles.profile import Profile
from profiles.step import StepModel

MOST_SAMPLES = 4000
_FRAME: Spec = {"$schema": SCHEMA, "width": "container", "height": 240}
_FRAME |= {"autosize": {"type": "fit-x", "contains": "padding"}}


def write(profile: Profile, raw: Path, target: Path) -> Path:
    """Write the page of a profile and its raw samples.

    Raises:
        OutputError: the file cannot be written.
    """
    specs = charts(profile, raw)
    return write_text(target, whole(f"calibration of {profile.key}", _body(profile, specs), specs))


def charts(profile: Profile, raw: Path) -> dict[str, Spec]:
    """Decode and prefill time and power against the fitted curves, and the raw windows."""
    found = {
        "decode_time": _curves(_decode_rows(profile), "running requests", "ms a decode step", "tokens each"),
        "prefill_time": _curves(_prefill_rows(profile), "new tokens", "ms a prefill step", "behind a past of"),
        "power": _power(profile),
    }
    samples = _samples(raw)
    if samples:
        found["samples"] = _over_time(samples)
    return found


def _decode_rows(profile: Profile) -> list[dict[str, Any]]:
    """Points, and the step model between them, in ms by batch and context."""
    model, d = StepModel(profile), profile.decode
    kept = [(d.batch[i], d.kv_tokens[i], d.time_s[i]) for i in range(len(d.batch))]
    host_s = _host_s(profile)
    rows = [
        {"x": batch, "ms": 1000.0 * (time_s + host_s(batch)), "of": str(round(kv / batch)), "what": "point"}
        for batch, kv, time_s in kept
    ]
    for context in sorted({round(kv / batch) for batch, kv, _ in kept}):
        for batch in sorted({*np.unique(np.geomspace(1, max(d.batch), 24).astype(int)).tolist(), *d.batch}):
            time_ms = 1000.0 * model.decode_time_s(batch, batch * context)
            rows.append({"x": batch, "ms": time_ms, "of": str(context), "what": "fit"})
    return rows


def _prefill_rows(profile: Profile) -> list[dict[str, Any]]:
    p, model, host_s = profile.prefill, StepModel(profile), _host_s(profile)
    rows = [
        {"x": new, "ms": 1000.0 * (time_s + host_s(0)), "of": str(past), "what": "point"}
        for new, past, time_s in zip(p.new_tokens, p.past_tokens, p.time_s, strict=True)
    ]
    for past in sorted(set(p.past_tokens)):
        lengths = [new for new, behind in zip(p.new_tokens, p.past_tokens, strict=True) if behind == past]
        for new in np.unique(np.linspace(min(lengths), max(lengths), 24).astype(int)).tolist():
            time_ms = 1000.0 * model.prefill([(new, past)]).time_s
            rows.append({"x": new, "ms": time_ms, "of": str(past), "what": "fit"})
    return rows


def _host_s(profile: Profile) -> Any:
    term = profile.engine_term
    return lambda sequences: 0.0 if term is None else term.step_s + term.sequence_s * sequences


def _curves(rows: list[dict[str, Any]], x: str, y: str, series: str) -> Spec:
    order = sorted({row["of"] for row in rows}, key=int)
    colour = {"field": "of", "type": "nominal", "title": series, "sort": order, "legend": {"orient": "top"}}
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "title": x},
        "y": {"field": "ms", "type": "quantitative", "title": y},
        "color": colour,
    }
    tip = [{"field": "x", "title": x}, {"field": "ms", "format": ".4~g"}, {"field": "of", "title": series}]
    return _FRAME | {
        "layer": [
            {"data": {"values": [r for r in rows if r["what"] == "fit"]}, "mark": "line", "encoding": encoding},
            {
                "data": {"values": [r for r in rows if r["what"] == "point"]},
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": encoding | {"tooltip": tip},
            },
        ]
    }


def _power(profile: Profile) -> Spec:
    """Watts of every point against its tokens a step, with idle as a rule."""
    p, d = profile.prefill, profile.decode
    rows = [{"x": n, "w": w, "phase": "prefill"} for n, w in zip(p.new_tokens, p.power_w, strict=True)]
    rows += [{"x": b, "w": w, "phase": "decode"} for b, w in zip(d.batch, d.power_w, strict=True)]
    scale = {"domain": ["prefill", "decode"], "range": ["#2f6f4f", "#c98a3d"]}
    return _FRAME | {
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {
                    "x": {
                        "field": "x",
                        "type": "quantitative",
                        "scale": {"type": "log"},
                        "title": "tokens a step (log)",
                    },
                    "y": {"field": "w", "type": "quantitative", "title": "W"},
                    "color": {"field": "phase", "type": "nominal", "title": None, "scale": scale},
                    "tooltip": [{"field": "x"}, {"field": "w", "format": ".4~g"}, {"field": "phase"}],
                },
            },
            {
                "data": {"values": [{"w": profile.idle.loaded_w}]},
                "mark": {"type": "rule", "strokeDash": [5, 4]},
                "encoding": {"y": {"field": "w", "type": "quantitative"}},
            },
        ]
    }


def _samples(raw: Path) -> list[dict[str, Any]]:
    """Every window one after the other, thinned to what a page can carry."""
    import pyarrow.parquet as pq

    found = pq.read_table(raw).to_pylist()
    rows, offset, before = [], 0.0, ("", -1)
    last = 0.0
    for sample in found:
        window = (sample["point"], sample["repeat"])
        if window != before:
            offset, before = offset + last + 0.5, window
        last = sample["at_s"]
        rows.append(
            {"s": offset + last, "w": sample["power_w"], "mhz": sample["sm_clock_mhz"], "point": sample["point"]}
        )
    return rows[:: max(1, len(rows) // MOST_SAMPLES)]


def _over_time(samples: list[dict[str, Any]]) -> Spec:
    """Watts and SM clock through all windows."""
    x = {"field": "s", "type": "quantitative", "title": "seconds of windows, one after the other"}
    tip = [{"field": "point"}, {"field": "w", "format": ".4~g"}, {"field": "mhz"}]
    panels = [("w", "W", "#2f6f4f"), ("mhz", "SM clock, MHz", "#5b7db1")]
    layers = [
        {
            "mark": {"type": "point", "filled": True, "size": 8, "color": colour},
            "encoding": {
                "x": x,
                "y": {"field": name, "type": "quantitative", "title": title, "axis": {"titleColor": colour}},
                "tooltip": tip,
            },
        }
        for name, title, colour in panels
        if any(sample[name] is not None for sample in samples)
    ]
    return _FRAME | {"data": {"values": samples}, "layer": layers, "resolve": {"scale": {"y": "independent"}}}


def _body(profile: Profile, specs: dict[str, Spec]) -> Iterable[str]:
    p = profile.provenance
    yield f"<header><h1>{escape(profile.key)}</h1>"
    yield f"<p>{escape(p.kind)}, tier {escape(p.tier)}, {escape(p.date)}; {escape(p.source)}</p></header><main>"
    yield "<h2>Decode</h2>"
    yield figure_of("decode_time", "Step time by batch; dots were measured, lines are what the simulator takes.")
    yield "<h2>Prefill</h2>"
    yield figure_of("prefill_time", "Step time by new tokens; dots were measured, lines are what the simulator takes.")
    yield "<h2>Power</h2>"
    yield figure_of("power", f"Watts of each point; dashed: loaded and idle, {figure(profile.idle.loaded_w)} W.")
    if "samples" in specs:
        yield figure_of("samples", "The meter's readings through every window, as they were taken.")
    yield "<h2>Points</h2>"
    yield table(_HEAD, _points(profile), 1)
    sensor = 100 * profile.systematic.power_rel
    yield f"<p>Common to all watts, and not in the column: {sensor:g} % of the sensor's gain, 1 sigma.</p>"
    yield "<h2>Provenance</h2>"
    yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in p.notes)}</ul></main>"


_HEAD = ("point", "ms", "random error", "W", "random error", "flags")


def _points(profile: Profile) -> Iterable[list[str]]:
    for name, part in (("prefill", profile.prefill), ("decode", profile.decode)):
        for i in range(len(part.time_s)):
            if name == "prefill":
                label = f"prefill {profile.prefill.new_tokens[i]:,} behind {profile.prefill.past_tokens[i]:,}"
            else:
                batch, kv = profile.decode.batch[i], profile.decode.kv_tokens[i]
                label = f"decode {batch:,} x {round(kv / batch):,}"
            yield [
                label,
                figure(1000 * part.time_s[i], 4),
                _percent(part.time_random_rel, i),
                figure(part.power_w[i]),
                _percent(part.power_random_rel, i),
                part.flags[i] if part.flags else "",
            ]


def _percent(column: list[float] | None, i: int) -> str:
    return "-" if column is None else f"{100 * column[i]:.2f} %"
