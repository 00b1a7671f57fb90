"""The document in words and cells of tables, shared by the terminal, the page and docs/studies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from carbonfleet.text import figure, percent

CLAIMS_HEAD = ("claim", "what", "on", "paper", "ours", "error", "verdict")
PARAMETERS_HEAD = ("parameter", "what it stands for", "unit", "assumed", "fitted")
EMBODIED_HEAD = ("GPU", "boundary", "card kg", "host share kg", "g an hour", "host W billed")
ZONES_HEAD = ("zone", "from", "g CO2e/kWh")
SCORE_HEAD = ("", "claims", "within 10 %", "within 20 %", "strictly 10 %", "strictly 20 %")
CHANGES_HEAD = ("GPU", "zone", "embodied share, chips", "embodied share, servers")


def claim_rows(document: dict[str, Any]) -> list[list[str]]:
    """Every claim of the paper beside ours."""
    return [
        [
            f"{row['id']}, {row['section']}",
            row["quantity"] + (f" ({row['region']})" if row["region"] else ""),
            ", ".join(str(part) for part in (row["gpu"], row["model"], _batch(row)) if part),
            "-" if row["paper"] is None else f"{row['paper']:g}",
            "-" if row["ours"] is None else f"{row['ours']:.3g}",
            "-" if row["error"] is None else f"{100 * row['error']:+.1f} %",
            _verdict(row),
        ]
        for row in document["claims"]
    ]


def _batch(row: dict[str, Any]) -> str:
    return f"batch {row['batch']}" if row["batch"] and row["unit"] != "batch" else ""


def _verdict(row: dict[str, Any]) -> str:
    text: str = row["verdict"]
    if row["fitted"]:
        return f"fitted: {text}"
    return f"{text} (repeats {row['repeats']})" if row["repeats"] else text


def notes(document: dict[str, Any]) -> list[str]:
    """What has to be said of single claims."""
    return [f"{row['id']}: {row['note']}" for row in document["claims"] if row["note"]]


def headline(document: dict[str, Any]) -> str:
    """The score in a sentence, or why there is none."""
    if not document["beside_paper"]:
        return f"{document['beside_paper_reason']}."
    score, rows = document["score"], document["claims"]
    found, n = score["fit"], score["fit"]["claims"]
    inputs = [row["verdict"] == "equal" for row in rows if row["kind"] == "input"]
    identities = [row["verdict"] == "identity holds" for row in rows if row["identity"]]
    wrong = [row["id"] for row in rows if row["right_direction"] is False]
    loose, strict = (
        [percent(found[f"{way}share_within_{limit}_percent"]) for limit in (20, 10)] for way in ("", "strict_")
    )
    return (
        f"Of {n} independent results that were not fitted {loose[0]} lie within 20 % and {loose[1]} within 10 % "
        f"({strict[0]} and {strict[1]} where a best batch counts only if it is the paper's own); {sum(inputs)} of "
        f"{len(inputs)} inputs are equal, {sum(identities)} of {len(identities)} identities hold; wrong in direction: "
        f"{', '.join(wrong) or 'none'}."
    )


def score_rows(document: dict[str, Any]) -> list[list[str]]:
    """The score of the fit beside none and random ones."""
    score = document["score"]
    keys = ("share_within_10_percent", "share_within_20_percent")
    names = [*keys, *(f"strict_{key}" for key in keys)]
    tried = [("fitted on " + ", ".join(score["fitted_on"]), score["fit"])]
    tried += [(f"fitted to {100 * one['tolerance']:g} % instead", one) for one in score["other_tolerances"]]
    tried.append(("no fit at all", score["no_fit"]))
    rows = [[title, str(one["claims"]), *(percent(one[name]) for name in names)] for title, one in tried]
    random, n = score["random_subsets"], score["fit"]["claims"]
    for which in ("worst", "median", "best"):
        title = f"fitted on {random['of_claims']} at random, {which} of {random['subsets']}"
        rows.append([title, str(n), *(percent(random[name][which]) for name in names)])
    return rows


def parameter_rows(document: dict[str, Any]) -> list[list[str]]:
    """Free parameters before and after the fit."""
    return [
        [row["name"], row["reason"], row["unit"], f"{row['assumed']:.3g}", f"{row['fitted']:.3g}"]
        for row in document["parameters"]
    ]


def embodied_rows(document: dict[str, Any]) -> list[list[str]]:
    """Table 1 under both books."""
    return [
        [
            gpu,
            f"{one['boundary']} ({one['preset']})",
            f"{one['card_kg']['mid']:.1f}",
            f"{one['host_share_kg']:.1f}",
            figure(one["embodied_g_per_h"]),
            figure(one["host_share_w"]),
        ]
        for book in document["embodied"].values()
        for gpu, one in book.items()
    ]


def zone_rows(document: dict[str, Any]) -> list[list[str]]:
    """Table 2."""
    return [[z["name"], z["source"], figure(z["g_per_kwh"])] for z in document["setting"]["zones"]]


def takeaway_lines(document: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Each finding with its verdict, and its checks."""
    for row in document["takeaways"]:
        verdict = {True: "holds", False: "does not hold", None: "cannot be checked"}[row["holds"]]
        checks = [
            f"{'yes' if check['holds'] else 'no'}: {check['check']} ({check['evidence']})" for check in row["checks"]
        ]
        yield f"{row['takeaway']}. {row['finding']} (section {row['section']}): {verdict}", checks


def change_rows(document: dict[str, Any]) -> list[list[str]]:
    """Embodied shares of a prompt of the smallest model alone in its batch, in both books."""
    shares = document["changes"]["embodied_shares"]
    return [[row["gpu"], row["zone"], percent(row["chip"], 1), percent(row["server"], 1)] for row in shares]


def change_lines(document: dict[str, Any]) -> list[str]:
    """Where another card is the greenest once whole servers are counted."""
    changes = document["changes"]
    if not changes["compared"]:
        return ["One card alone: none is greener than another."]
    other = changes["greenest_differs"]
    lines = [f"In {len(other)} of {changes['compared']} cells and zones another card is the greenest."]
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for row in other:
        groups.setdefault((row["model"], row["zone"], row["chip"], row["server"]), []).append(str(row["batch"]))
    for (model, zone, chip, server), batches in groups.items():
        lines.append(f"{model}, {zone}, batch {', '.join(batches)}: {chip} by chips, {server} by servers")
    return lines


def cell_rows(document: dict[str, Any]) -> list[list[str]]:
    """Latency and energy of every cell; OOM where there is none."""
    rows = []
    for row in document["cells"]:
        name = [row["gpu"], row["model"], str(row["batch"])]
        if row["out_of_memory"]:
            rows.append([*name, *["OOM"] * len(_CELL_FIGURES)])
        else:
            rows.append([*name, *(figure(row[key]) for key in _CELL_FIGURES)])
    return rows


CELLS_HEAD = (
    *("GPU", "model", "batch", "s a batch", "J a prompt", "prefill tokens/s", "prefill J/token"),
    *("decode tokens/s", "decode J/token"),
)
_CELL_FIGURES = (
    *("latency_s", "energy_j", "prefill_tokens_per_s", "prefill_j_per_token"),
    *("decode_tokens_per_s", "decode_j_per_token"),
)
