"""The page of the reproduction: findings, knobs, maps, phases, the week, doubts, checks, assumptions."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from carbonfleet.report.page import bullets, figure_of, headline, table, warnings, whole
from carbonfleet.reproduce.greener import reading, words
from carbonfleet.reproduce.greener.figures import SHOWN, figures
from carbonfleet.text import percent

_MAP = "{title} of {shown} requests at a full instance: batch across, tp and clock down."


def build(document: dict[str, Any]) -> str:
    """The whole page from the document alone."""
    return whole("Towards Greener LLMs, reproduced", _body(document), figures(document))


def _body(d: dict[str, Any]) -> Iterable[str]:
    s = d["setting"]
    where = f"{s['model']} in {s['precision']} on {s['gpus']} x {s['gpu']}. Steps predicted, clocks modelled."
    papers = "".join(f"<p>{escape(paper)}.</p>" for paper in d["papers"])
    yield f"<header><h1>Towards Greener LLMs, reproduced</h1><p>{escape(where)}</p>{papers}</header><main>"
    yield _cards(d) + f"<p>{escape(words.headline(d))}</p>" + warnings(d["warnings"])
    yield "<h2>Beside the papers</h2>" + table(words.FINDINGS_HEAD, words.finding_rows(d), 5)
    yield "<h2>Reading it</h2>" + bullets(reading.lines(d))
    yield "<h2>Which knob saves most</h2>"
    yield figure_of(
        "savings",
        "Power of the server's GPUs saved against the largest tp at full clock, both limits kept (replayed). Unharmed: "
        "no mean latency up by more than 5 % (steady state).",
    )
    yield "<p>The best single knob is marked.</p>" + table(words.KNOBS_HEAD, words.knob_rows(d), 2)
    yield "<details><summary>Baseline and best gear of each load</summary>"
    yield table(words.GEARS_HEAD, words.gear_rows(d), 3) + "</details>"
    yield "<h2>Maps</h2>"
    titles = {"ttft_s": "TTFT in ms, without a queue,", "tbt_s": "TBT in ms", "output_tokens_per_s": "Output tokens/s"}
    titles |= {"power_w": "Watts of the server's GPUs", "j_per_output_token": "Joules an output token"}
    for name, title in titles.items():
        yield figure_of(f"map_{name}", _MAP.format(title=title, shown=SHOWN))
    yield figure_of(
        "tokens_by_class", "Joules an output token of every class at full clock; other clocks: result.json."
    )
    yield table(words.BATCH_HEAD, words.batch_rows(d), 1)
    yield "<h2>Energy against the clock</h2>"
    yield figure_of("phase_energy", "Joules of a long prompt and of a decode step against the clock.")
    yield figure_of("phase_time", "Their time.")
    yield table(words.PHASE_HEAD, words.phase_rows(d), 1)
    yield from _week(d)
    yield "<h2>What would change the conclusion</h2><p>Savings at steady state, medians over classes and loads.</p>"
    yield table(words.DOUBTS_HEAD, words.doubt_rows(d), 1)
    if d["beside_measured"]:
        yield "<p>Our steps over shipped ones, fitted to measurements, of the same network but its vocabulary.</p>"
        yield table(words.BESIDE_HEAD, words.beside_rows(d), 2)
    yield "<h2>What physics demands</h2>" + table(words.CHECKS_HEAD, words.check_rows(d), 3)
    yield "<h2>Profiles</h2>" + table(words.PROFILE_HEAD, words.profile_rows(d), 3)
    rows = [[row["name"], row["value"], row["source"], row["reason"]] for row in d["assumptions"]]
    yield "<h2>Assumptions</h2>" + table(("what", "value", "given by", "why"), rows, 4) + "</main>"


def _cards(d: dict[str, Any]) -> str:
    by_id = {row["id"]: row for row in d["findings"]}
    held = [row["holds"] for row in d["checks"]]
    week = d["week"]["policies"][-1]
    return headline(
        [
            ("", percent(by_id["g2"]["ours"]), "saved by the clock alone within the limits, median"),
            ("", percent(by_id["g4"]["ours"]), "with no mean latency up by more than 5 %, median"),
            ("", percent(week["gpu_energy_j_saving"]), "of GPU energy over a week, all knobs adapted"),
            ("" if all(held) else "miss", f"{sum(held)} of {len(held)}", "demands of physics hold"),
        ]
    )


def _week(d: dict[str, Any]) -> Iterable[str]:
    w = d["week"]
    yield "<h2>A week, adapted</h2>"
    yield (
        f"<p>{w['requests']:,} requests of {w['mean_prompt_tokens']:,} prompt and {w['mean_output_tokens']:,} output "
        "tokens on average, simulated. Savings are against the static fleet; planned ones are the steady state's.</p>"
    )
    yield figure_of("week_savings", "Saved over the week, beside what DynamoLLM publishes.")
    yield table(words.POLICY_HEAD, words.policy_rows(d), 1)
    yield figure_of("week_power", "Power by hour of the week.")
    yield figure_of("week_plan", "What is in use by hour when everything may change.")
    yield f"<p>{escape(words.shifted(d))}</p>"
    yield "<p>As planned, not simulated, if something else were so:</p>"
    yield table(words.WHAT_IF_HEAD, words.what_if_rows(d), 1)
