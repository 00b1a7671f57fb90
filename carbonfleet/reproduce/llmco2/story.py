"""The document told: texts, tables and charts in the order of the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from carbonfleet.report.charts import Spec
from carbonfleet.reproduce.blocks import Block, Chart, Items, Table, Text, Title, page
from carbonfleet.reproduce.drawn import FRAME, colour, log_axis
from carbonfleet.text import figure, grams, percent

Document = dict[str, Any]
TITLE = "LLMCO2, reproduced"


def build(d: Document) -> str:
    """The whole page from the document alone."""
    return page(TITLE, f"{d['paper']}. Every figure of ours is predicted.", story(d), charts(d))


def headline(d: Document) -> str:
    """What was found, in a few sentences."""
    by = {row["id"]: row for row in d["claims"]}
    inputs = [row["verdict"] == "equal" for row in d["claims"] if row["kind"] == "input"]
    results = [row["verdict"] for row in d["claims"] if row["kind"] == "result"]
    judged = [verdict for verdict in results if verdict != "not computed"]
    good = sum(not verdict.startswith("miss") for verdict in judged)
    return (
        f"{good} of {len(judged)} results that could be computed agree with the paper ({len(results) - len(judged)} "
        f"could not), {sum(inputs)} of {len(inputs)} inputs are equal. A request uses {percent(by['r4']['ours'])} to "
        f"{percent(by['r3']['ours'])} of the GPUs' peak operations, and a decoded token takes at least "
        f"{figure(by['r5']['ours'])} times the joules of a prompt token."
    )


def story(d: Document) -> Iterable[Block]:
    """The whole page below its title."""
    yield Text(headline(d))
    yield Items(d["warnings"])
    yield Title("Claim by claim")
    yield Table(("claim", "what", "paper", "ours", "error", "verdict"), _claims(d), 2)
    yield Items(reading(d))
    yield Title("On the released rows")
    yield from _released(d["released"])
    yield Title("On withheld measurements")
    yield from _measured(d["measured"])
    yield Title("A request")
    yield Text("Predicted; tp 4; J are the GPUs'. The band is the factor of 90 % of held-out rows on J.")
    yield Chart("requests", "Carbon of a request at the first grid: operational and embodied.")
    yield Table(_request_head(d), _requests(d), 3)
    yield Title("Assumptions")
    yield Table(("what", "value", "given by", "why"), [[*row.values()] for row in d["assumptions"]], 4)


def reading(d: Document) -> Iterable[str]:
    """Sentences computed from the document."""
    fit = [row for row in d["requests"] if not row["no_room"]]
    off = [row["equations_energy_j"] / row["gpu_energy_j"] for row in fit]
    yield (
        f"The equations put a request between {figure(min(off))} and {figure(max(off))} times our joules: nearest "
        f"at batch {max(zip(off, fit, strict=True), key=lambda pair: -abs(pair[0] - 1.0))[1]['batch']}."
    )
    zones = d["setting"]["zones_g_per_kwh"]
    clean = min(zones, key=zones.__getitem__)
    parts = [(row["embodied_g"], row["operational_g"][clean]) for row in fit]
    card, die = ([e[key] / (e[key] + o) for e, o in parts] for key in ("mid", "die"))
    yield (
        f"In {clean} embodied carbon is {percent(min(card))} to {percent(max(card))} of a request by the card and its "
        f"host, {percent(min(die))} to {percent(max(die))} by LLMCarbon's dies alone."
    )
    if lost := sorted({f"{row['model']} on {row['gpu']}" for row in d["requests"] if row["no_room"]}):
        yield f"No room, so no figure: {', '.join(lost)}."
    if d["released"]:
        yield from _read_released(d["released"])


def _read_released(released: Document) -> Iterable[str]:
    yield (
        f"{released['test_rows_known']} of {released['test_rows']} test rows repeat a configuration of the fitted "
        f"rows, {released['with_equal_labels']} of them with the same labels to the last digit: the random split "
        "rewards memory."
    )
    by: dict[str, list[Document]] = {}
    for row in released["table"]:
        by.setdefault(row["split"], []).append(row)
    for phase in ("prefill", "decode"):
        best = [min(rows, key=lambda row: row[f"{phase}_mape"])["predictor"] for rows in by.values()]
        wins = {name: best.count(name) for name in dict.fromkeys(best)}
        told = ", ".join(f"{name} on {count}" for name, count in wins.items())
        yield f"Least error of {phase} by split: {told}."


def _claims(d: Document) -> list[list[str]]:
    return [
        [row["id"], row["what"], figure(row["paper"]), figure(row["ours"]), _signed(row["error"]), row["verdict"]]
        for row in d["claims"]
    ]


def _signed(error: float | None) -> str:
    return "-" if error is None else f"{100 * error:+.1f} %"


def _released(released: Document | None) -> Iterable[Block]:
    if released is None:
        yield Text("Not given.")
        return
    yield Text("Means of abs(prediction / label - 1); the labels have no unit. Form of few: eight rows a model.")
    rows = [
        [row["split"], row["predictor"], str(row["rows"]), *_beside(row, "prefill"), *_beside(row, "decode")]
        for row in released["table"]
    ]
    yield Table(("split", "predictor", "rows", "prefill", "aim", "decode", "aim"), rows, 2)


def _beside(row: Document, phase: str) -> list[str]:
    return [percent(row[f"{phase}_mape"], 2), percent(row[f"{phase}_aim"])]


def _measured(rows: list[Document] | None) -> Iterable[Block]:
    if rows is None:
        yield Text("Not given.")
        return
    yield Text(
        "cfg: configurations withheld; T1: cells of GPU and model; T2: GPUs. Fitted without them (docs/accuracy.md)."
    )
    head = ("tier", "family", "rows of", "figure", "rows", "MAPE", "median", "equations")
    keys = ("tier", "family", "source", "figure", "rows")
    cells = [
        [*(str(row[key]) for key in keys), *(percent(row[key], 1) for key in ("mape", "median", "equations_mape"))]
        for row in rows
    ]
    yield Table(head, cells, 4)


def _request_head(d: Document) -> tuple[str, ...]:
    zones = d["setting"]["zones_g_per_kwh"]
    return ("GPU", "model", "tier", "batch", "TTFT s", "TPOT ms", "J", "band", *zones, "embodied", "die alone")


def _requests(d: Document) -> list[list[str]]:
    zones = d["setting"]["zones_g_per_kwh"]
    rows = []
    for r in d["requests"]:
        if r["no_room"]:
            rows.append([r["gpu"], r["model"], "no room", str(r["batch"]), *["-"] * (6 + len(zones))])
            continue
        rows.append(
            [
                *(r["gpu"], r["model"], r["tier"], str(r["batch"]), figure(r["ttft_s"]), figure(1e3 * r["tpot_s"])),
                *(figure(r["gpu_energy_j"]), f"x/{r['energy_band']:.2f}"),
                *(grams(r["operational_g"][zone]) for zone in zones),
                *(grams(r["embodied_g"][key]) for key in ("mid", "die")),
            ]
        )
    return rows


def charts(d: Document) -> dict[str, Spec]:
    """All charts by name."""
    zone = next(iter(d["setting"]["zones_g_per_kwh"]))
    values = [
        {
            "what": f"{r['gpu']}, batch {r['batch']}",
            "model": r["model"],
            "y": r["operational_g"][zone] + r["embodied_g"]["mid"],
        }
        for r in d["requests"]
        if not r["no_room"]
    ]
    axis = log_axis(values, f"g CO2e a request, {zone}")
    order = list(dict.fromkeys(row["what"] for row in values))
    y = {"field": "what", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 220}}
    tip = [{"field": "what"}, {"field": "model"}, {"field": "y", "format": ".3~g", "title": "g CO2e"}]
    encoding = {"x": axis, "y": y, "color": colour("model", list(dict.fromkeys(r["model"] for r in values)))}
    mark = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    spec = {"height": 24 * len(order), "data": {"values": values}, "mark": mark}
    return {"requests": FRAME | spec | {"encoding": encoding | {"tooltip": tip}}}
