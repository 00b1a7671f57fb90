"""The report page: HTML with its style, scripts and data inside, nothing to fetch.

Every text that came from a user's file is escaped; data stands as JSON whose `<` are written `\\u003c`, and the content
security policy lets nothing run but the two scripts of this page, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from carbonfleet.report import charts as drawn
from carbonfleet.report import folder as run_folder
from carbonfleet.report import vega
from carbonfleet.report.folder import Folder
from carbonfleet.text import energy, figure, grams, share
from profiles.units import SECONDS_PER_HOUR

FILE = "report.html"
ICON = "data:,"  # an empty favicon: a browser would ask for one


def build(folder: str | Path) -> str:
    """The whole page of a run directory.

    Raises:
        InputError: not a run directory.
    """
    found = run_folder.read(folder)
    specs = drawn.charts(found, start_ms(found))
    return whole(f"{found.summary['name']}: carbon of a fleet", _body(found, specs), specs)


def whole(name: str, body: Iterable[str], specs: dict[str, Any]) -> str:
    """A page around a body whose markup is safe already, with the charts it has places for."""
    scripts = [vega.javascript(), _asset("page.js")]
    allowed = " ".join(f"'sha256-{_hash(text)}'" for text in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
    title = escape(name)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{title}</title><link rel="icon" href="{ICON}"><style>{_asset("style.css")}</style></head><body>',
        *body,
        f'<script type="application/json" id="charts">{as_json(specs)}</script>',
        *(f'<script type="module">{text}</script>' for text in scripts),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def as_json(document: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def start_ms(found: Folder) -> float | None:
    """Epoch milliseconds of run time 0."""
    text = found.summary.get("start_utc")
    return None if text is None else datetime.fromisoformat(text).timestamp() * 1000.0


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _body(found: Folder, specs: dict[str, Any]) -> Iterable[str]:
    s = found.summary
    yield f"<header><h1>{escape(s['name'])}</h1><p>{_what(s)}</p></header><main>"
    yield _headline(s)
    yield warnings(s["warnings"])
    yield "<h2>Where every gram comes from</h2>"
    yield _chart("sources", specs, _range(s))
    yield _pools(s)
    yield "<h2>Latency against the promise</h2>"
    yield _chart("latency", specs, _promise(s) + " Dashed lines are the limits.")
    yield _latency(s)
    if "power" in specs:
        yield "<h2>Over time</h2>"
        each = "a minute" if found.thinned == 1 else f"{found.thinned} minutes"
        yield _chart("power", specs, f"Power of each pool, hosts and PUE included; each step is the mean of {each}.")
        yield _chart(
            "running", specs, "Requests in each pool from their first step to their last, preempted ones included."
        )
        yield _chart("waiting", specs, "Requests that wait for their first step: a pool that cannot keep up.")
        yield _chart("carbon", specs, "Operational carbon by pool; embodied carbon is spread evenly and not drawn.")
        yield _chart("intensity", specs, "Carbon intensity of each pool's grid.")
    yield from _assumptions(s)
    yield from _auditor(found)
    yield "</main>"


def _what(s: dict[str, Any]) -> str:
    """Which traffic, how long, on what."""
    r, hours = s["requests"], s["horizon_s"] / SECONDS_PER_HOUR
    gpus = ", ".join(f"{pool['gpus']:,} {pool['gpu']} at {pool['site']}" for pool in s["pools"])
    models = ", ".join(dict.fromkeys(pool["model"] for pool in s["pools"]))
    start = f" from {s['start_utc'][:16].replace('T', ' ')} UTC" if s.get("start_utc") else ""
    return escape(f"{r['total']:,} requests to {models} over {figure(hours)} h{start}, served by {gpus}. Simulated.")


def _headline(s: dict[str, Any]) -> str:
    c = s["carbon_g"]
    per_1k = s["carbon_g_per_1k_output_tokens"]
    operational = f"{share(c['operational'], c['total'])} operational, {share(c['embodied'], c['total'])} embodied"
    cards = [
        ("", f"{grams(c['total'])} CO2e", f"{grams(c['low'])} to {grams(c['high'])}; {operational}"),
        ("", f"{grams(per_1k)} CO2e", "per 1,000 output tokens"),
        _kept(s),
        ("", energy(s["energy_j"]["total"]), "energy, hosts and cooling included"),
    ]
    if s.get("cost_usd") is not None:
        cards.append(("", f"${figure(s['cost_usd'])}", "rent and electricity"))
    return headline(cards)


def headline(cards: Iterable[tuple[str, str, str]]) -> str:
    """Cards of a kind ("miss" stands out), a figure and what it is."""
    made = [f'<div class="{kind}"><b>{escape(head)}</b><span>{escape(text)}</span></div>' for kind, head, text in cards]
    return f'<div class="headline">{"".join(made)}</div>'


def _kept(s: dict[str, Any]) -> tuple[str, str, str]:
    slo = s["slo"]
    if not slo.get("ttft_s") and not slo.get("tpot_s") and not slo.get("classes"):
        lost = s["requests"]["total"] - s["requests"]["completed"]
        return ("miss" if lost else "", f"{lost:,} lost", "no latency is promised; requests rejected or unfinished")
    kept = slo["attainment"]
    return (
        "" if kept is not None and kept >= 0.99 else "miss",
        "-" if kept is None else f"{100 * kept:.2f} %",
        f"of requests within {_limits(slo)}; worst hour {100 * slo['worst_hour']:.2f} %",
    )


def _limits(slo: dict[str, Any]) -> str:
    if slo.get("classes"):
        return "; ".join(f"{each['name']}: {_own_limits(each)}" for each in slo["classes"])
    return _own_limits(slo)


def _own_limits(slo: dict[str, Any]) -> str:
    named = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("done within", "deadline_s"))
    return " and ".join(f"{label} {figure(slo[key])} s" for label, key in named if slo.get(key))


def _promise(s: dict[str, Any]) -> str:
    limits = _limits(s["slo"])
    return f"Promised: {limits}." if limits else "No latency is promised in this run."


def _range(s: dict[str, Any]) -> str:
    c = s["carbon_g"]
    return (
        f"{grams(c['total'])} CO2e in all, {grams(c['low'])} to {grams(c['high'])} by the range of the embodied "
        f"figures ({grams(c['embodied'])} of it embodied). Bands of the profiles are under sources."
    )


def _chart(name: str, specs: dict[str, Any], caption: str) -> str:
    if name not in specs:
        return f"<p>{escape(caption)} Nothing to draw: no request was completed.</p>"
    return figure_of(name, caption)


def figure_of(name: str, caption: str) -> str:
    """The place of a chart, with its caption."""
    text = escape(caption)
    label = escape(caption, quote=True)
    place = f'<div data-chart="{name}" role="img" aria-label="{label}"></div>'
    return f"<figure><figcaption>{text}</figcaption>{place}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A table that scrolls inside its own box; the first columns are text, the others figures."""

    def row(cells: Sequence[str], tag: str) -> str:
        made = (
            f"<{tag}{' class=text' if i < text_columns else ''}>{escape(str(cell))}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table><thead>{row(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def _pools(s: dict[str, Any]) -> str:
    rows, parts = [], []
    for p in s["pools"]:
        counts = [f"{p['instances']:,}", f"{p['gpus']:,}", f"{p['requests']:,}", f"{100 * p['utilisation']:.0f} %"]
        hardware = f"{p['gpu']}, tp {p['tp']}, in {p['units']:,} x {p['host']}"
        evidence = f"{p['kind']}, {p['tier']}"
        rows.append([p["name"], p["site"], hardware, evidence, *counts, energy(p["energy_j"])])
        parts.append([p["name"], *(grams(p["parts_g"][name]) for name in drawn.PARTS), grams(p["carbon_g"])])
    head = ["pool", "site", "hardware", "profile", "instances", "GPUs", "requests", "busy", "energy"]
    return table(["pool", *drawn.PARTS.values(), "total CO2e"], parts) + table(head, rows, 4)


def _latency(s: dict[str, Any]) -> str:
    named = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("TBT", "tbt_s"), ("E2E", "e2e_s"), ("queue", "queue_s"))
    rows = [
        [f"{label}, s", *(figure(s[key].get(q)) for q in ("p50", "p90", "p99", "mean")), figure(s["slo"].get(key))]
        for label, key in named
    ]
    return table(["", "p50", "p90", "p99", "mean", "limit"], rows)


def warnings(texts: Sequence[str], title: str = "Know before you believe") -> str:
    """What a reader must know first; nothing where there is nothing."""
    if not texts:
        return ""
    return f'<section class="warnings"><strong>{escape(title)}</strong>{bullets(texts)}</section>'


def bullets(lines: Iterable[str]) -> str:
    """A list; nothing where there is nothing."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _assumptions(s: dict[str, Any]) -> Iterable[str]:
    rows = [[a["name"], a["value"], a["source"], a["reason"]] for a in s["assumptions"]]
    yield "<h2>Assumptions</h2>" + table(["what", "value", "given by", "why"], rows, 4)
    sources = [
        [x["what"], x["kind"] + (f", {x['tier']}" if x.get("tier") else ""), x.get("band", ""), x["source"]]
        for x in s["sources"]
    ]
    yield "<h2>Sources</h2>" + table(["figure", "kind", "90 % band", "from"], sources, 4)


def _auditor(found: Folder) -> Iterable[str]:
    reports, names = found.summary["reports"], ("scope2_location", "scope2_market", "scope3_cat2", "scope3_cat3")
    titles = ("scope 2, location-based", "scope 2, market-based", "scope 3, category 2", "scope 3, category 3")
    rows = [
        [
            title,
            grams(reports[name]["g"]) if reports[name]["g"] is not None else "not available",
            reports[name]["reason"],
        ]
        for name, title in zip(names, titles, strict=True)
    ]
    sci = reports["sci"]
    rows.append(["SCI, per 1,000 output tokens", grams(sci["g_per_1k_output_tokens"]), sci["reason"]])
    yield "<h2>For auditors</h2>" + table(["report", "CO2e", "basis"], [[a, b, c] for a, b, c in rows], 3)
    balance = found.summary["balance"]
    worst = max(value or 0.0 for value in balance.values())
    yield f"<p class=soft>Requests' and hardware's books agree to {worst:.1e} relative.</p>"
    yield from made_of(found.manifest, "The scenario, with every default", found.config)


def made_of(manifest: dict[str, Any], title: str, config: str) -> Iterable[str]:
    """Inputs by their hashes, what was asked with every default, and versions."""
    inputs = [[Path(name).name, digest] for name, digest in manifest.get("inputs", {}).items()]
    if inputs:
        yield f"<details><summary>Inputs by SHA-256</summary>{table(['file', 'sha256'], inputs, 2)}</details>"
    if config:
        yield f"<details><summary>{escape(title)}</summary><pre>{escape(config)}</pre></details>"
    versions = ", ".join(f"{k} {v}" for k, v in manifest.get("versions", {}).items() if v)
    yield f"<p class=soft>{escape(versions)}</p>"
