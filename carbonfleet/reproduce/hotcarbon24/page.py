"""The page of a reproduction: claims beside ours, tables, Figures 1 to 7 under two books, takeaways, assumptions."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from carbonfleet.report.charts import Spec
from carbonfleet.report.page import bullets, figure_of, headline, table, warnings, whole
from carbonfleet.reproduce.hotcarbon24 import words
from carbonfleet.reproduce.hotcarbon24.figures import figures
from carbonfleet.text import percent

CAPTIONS = {
    "1_latency": "Figure 1. Latency of a batch: prefill and 150 tokens. OOM where the batch does not fit.",
    "2_energy": "Figure 2. Energy of a prompt.",
    "3_prefill_throughput": "Figure 3. Prefill throughput: useful prompt tokens, padding not counted.",
    "3_prefill_energy": "Figure 3. Prefill energy of a prompt token.",
    "4_decode_throughput": "Figure 4. Decode throughput.",
    "4_decode_energy": "Figure 4. Decode energy of a token.",
    "5_prompt": "Figure 5. Carbon of a prompt of {model} in {zone}: operational (dark) and embodied (light).",
    "6_token_prefill": "Figure 6. Carbon of a prompt token in prefill, {model}.",
    "6_token_decode": "Figure 6. Carbon of a decoded token, {model}.",
    "7_lifetime": "Figure 7. Embodied share of a prompt of {model} alone in its batch, by years of life.",
}
UNCHANGED = ("1_latency", "3_prefill_throughput", "4_decode_throughput")  # a boundary moves no second


def build(document: dict[str, Any]) -> str:
    """The whole page from the document alone."""
    specs: dict[str, Spec] = {}
    for book in ("chip", "server"):
        drawn = figures(document, book)
        specs |= {f"{book}_{name}": spec for name, spec in drawn.items() if book == "chip" or name not in UNCHANGED}
    return whole("HotCarbon'24, reproduced", _body(document, specs), specs)


def _body(d: dict[str, Any], specs: dict[str, Spec]) -> Iterable[str]:
    what = "HotCarbon'24, reproduced" if d["beside_paper"] else "The experiment of HotCarbon'24, elsewhere"
    where = f"{', '.join(d['setting']['models'])} on {', '.join(d['setting']['gpus'])}. All steps predicted."
    yield f"<header><h1>{what}</h1><p>{escape(where)}</p><p>{escape(d['paper'])}.</p></header><main>"
    yield from _top(d)
    yield "<h2>What goes in</h2><p>Table 1. Embodied carbon, in both books.</p>"
    yield table(words.EMBODIED_HEAD, words.embodied_rows(d), 2)
    yield "<p>Table 2. Mean carbon intensity.</p>" + table(words.ZONES_HEAD, words.zone_rows(d), 2)
    yield "<h2>Figures</h2><p>Chips alone, PUE 1, no host, as the paper counts.</p>"
    yield from _figures(d, specs, "chip")
    yield "<h2>Takeaways</h2>"
    yield from _takeaways(d)
    yield "<h2>Whole servers instead of chips</h2>"
    yield "<p>Cards by pcf-card with their share of a server, whose watts are billed too; PUE 1 in both books.</p>"
    yield table(words.CHANGES_HEAD, words.change_rows(d), 2)
    first, *others = words.change_lines(d)
    yield f"<p>{escape(first)}</p>" + bullets(others)
    yield "<p>Figures 1 to 7 again; latency and throughput are as above.</p>"
    yield from _figures(d, specs, "server")
    yield from _grounds(d)
    yield "</main>"


def _top(d: dict[str, Any]) -> Iterable[str]:
    if d["beside_paper"]:
        yield _headline(d)
    yield f"<p>{escape(words.headline(d))}</p>"
    yield warnings(d["warnings"])
    if d["beside_paper"]:
        yield "<h2>Claim by claim</h2>" + table(words.CLAIMS_HEAD, words.claim_rows(d), 3)
        yield bullets(words.notes(d))
        yield "<p>The error of a best batch is what our figure loses at the paper's batch against our own best one.</p>"
        yield "<h2>Score</h2>" + table(words.SCORE_HEAD, words.score_rows(d))
        yield (
            "<p>Independent results alone: repeated claims, identities and fitted ones are left out. Strictly, a best "
            "batch counts only where it is the paper's own.</p>"
        )


def _headline(d: dict[str, Any]) -> str:
    found, rows = d["score"]["fit"], d["claims"]
    held = [row["holds"] for row in d["takeaways"]]
    wrong = [row["id"] for row in rows if row["right_direction"] is False]
    cells = [
        ("", percent(found["share_within_20_percent"]), f"of {found['claims']} unfitted results within 20 %"),
        ("", percent(found["share_within_10_percent"]), "of them within 10 %"),
        ("", f"{sum(map(bool, held))} of {len(held)}", "takeaways hold"),
        ("miss" if wrong else "", ", ".join(wrong) or "none", "wrong in direction"),
    ]
    return headline(cells)


def _figures(d: dict[str, Any], specs: dict[str, Spec], book: str) -> Iterable[str]:
    zones, model = d["setting"]["zones"], d["setting"]["models"][0]
    if not specs:
        yield "<p>Nothing fits: there is nothing to draw.</p>"
    for name in specs:
        if not name.startswith(f"{book}_"):
            continue
        kind, _, place = name.removeprefix(f"{book}_").rpartition("_")
        if kind == "5_prompt":
            caption = CAPTIONS[kind].format(model=model, zone=zones[int(place)]["name"])
        else:
            caption = CAPTIONS[f"{kind}_{place}"].format(model=model)
        yield figure_of(name, caption)


def _takeaways(d: dict[str, Any]) -> Iterable[str]:
    if not d["takeaways"]:
        yield "<p>They compare two cards; one alone has none.</p>"
    for title, checks in words.takeaway_lines(d):
        yield f"<p><strong>{escape(title)}</strong></p>{bullets(checks)}"


def _grounds(d: dict[str, Any]) -> Iterable[str]:
    yield "<h2>Every cell</h2>" + table(words.CELLS_HEAD, words.cell_rows(d), 2)
    yield "<h2>Free parameters</h2>" + table(words.PARAMETERS_HEAD, words.parameter_rows(d), 3)
    rows = [[row["name"], row["value"], row["source"], row["reason"]] for row in d["assumptions"]]
    yield "<h2>Assumptions</h2>" + table(("what", "value", "given by", "why"), rows, 4)
