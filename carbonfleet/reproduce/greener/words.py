"""The document in words and cells of tables, shared by the terminal, the page and docs/studies."""

from __future__ import annotations

from typing import Any

from carbonfleet.text import figure, grams, percent

Document = dict[str, Any]
FINDINGS_HEAD = ("", "what", "paper", "ours", "verdict")
CHECKS_HEAD = ("what physics demands", "holds", "evidence")
KNOBS_HEAD = (
    "class",
    "load",
    "requests/s",
    "clock",
    "decode clock",
    "tp",
    "tp and batch",
    "all",
    "unharmed",
    "gear of all",
)
GEARS_HEAD = ("class", "load", "gear", "batch", "TTFT s", "p99", "TBT ms", "W", "W saved", "kept")
POLICY_HEAD = (
    "policy",
    "servers",
    "all energy",
    "GPU energy",
    "operational",
    "embodied",
    "kept",
    "TTFT p99 s",
    "planned",
)
WHAT_IF_HEAD = ("if", "static instances", "all energy", "GPU energy", "operational")
DOUBTS_HEAD = ("assumption", "clock", "20 % in", "all", "20 % in", "unharmed", "20 % in", "prefill's best clock")
BATCH_HEAD = ("class", "tp", "batch in the TBT limit", "J/token at 1", "at 8", "at that batch")
PROFILE_HEAD = ("profile", "kind", "tier", "time band", "power band", "KV tokens", "idle W, loaded")
BESIDE_HEAD = ("tp", "step", "size", "their tier", "time", "power", "energy")
PHASE_HEAD = ("phase", "tp", "size", "best clock", "energy there", "time there", "time at half clock")


def finding_rows(d: Document) -> list[list[str]]:
    """What the papers found beside what we find."""
    return [[r["id"], r["what"], percent(r["paper"]), percent(r["ours"]), r["verdict"]] for r in d["findings"]]


def check_rows(d: Document) -> list[list[str]]:
    """What physics demands."""
    return [[row["check"], "yes" if row["holds"] else "NO", row["evidence"]] for row in d["checks"]]


def knob_rows(d: Document) -> list[list[str]]:
    """Savings of each knob at each load, as replayed."""
    rows = []
    for row in d["knobs"]:
        name = [row["class"], row["load"], figure(row["rate_per_s"])]
        if row["baseline"] is None:
            rows.append([*name, *["-"] * 7])
            continue
        cells = [_saved(knob["saving"], row["best"] == which) for which, knob in row["knobs"].items()]
        rows.append([*name, *cells, percent(row["harmless"]["saving"]), row["knobs"]["all"]["gear"]])
    return rows


def _saved(saving: float, best: bool) -> str:
    return f"{percent(saving)}{' *' if best else ''}"


def gear_rows(d: Document) -> list[list[str]]:
    """The baseline and the best gear of all knobs at each load."""
    rows = []
    for row in d["knobs"]:
        for told in (row["baseline"], row["knobs"].get("all")):
            if told is not None:
                latency = [f"{told['ttft_s']:.3f}", f"{told['replay']['ttft_p99_s']:.3f}", f"{1e3 * told['tbt_s']:.1f}"]
                watts = [
                    figure(told["replay"]["power_w"]),
                    percent(told["saving"]),
                    percent(told["replay"]["attainment"], 1),
                ]
                rows.append([row["class"], row["load"], told["gear"], figure(told["batch"], 2), *latency, *watts])
    return rows


def policy_rows(d: Document) -> list[list[str]]:
    """The week by policy: savings against the static fleet."""
    rows = []
    for row in d["week"]["policies"]:
        saved = [percent(row[f"{name}_saving"]) for name in ("energy_j", "gpu_energy_j", "operational_g")]
        kept = [percent(row["attainment"], 2), f"{row['ttft_p99_s']:.2f}", percent(row["planned_saving"])]
        rows.append([row["policy"], str(row["units"]), *saved, grams(row["embodied_g"]), *kept])
    return rows


def what_if_rows(d: Document) -> list[list[str]]:
    """What the whole adaptation would save, as planned, if something else were so."""
    keys = ("energy_saving", "gpu_energy_saving", "operational_saving")
    return [[r["case"], str(r["static_instances"]), *(percent(r[key]) for key in keys)] for r in d["week"]["what_ifs"]]


def doubt_rows(d: Document) -> list[list[str]]:
    """Savings under other assumptions, at steady state."""
    rows = []
    for row in d["doubts"]:
        cells = [row["case"]]
        for name in ("clock", "all", "harmless"):
            cells += [percent(row[f"{name}_median"]), f"{row[f'{name}_cells_at_headline']} of {row['cells']}"]
        best = row["prefill_best_clock"]
        rows.append([*cells, "-" if best is None else f"{best:.2f}"])
    return rows


def batch_rows(d: Document) -> list[list[str]]:
    """What a batch is worth at full load and full clock."""
    return [
        [
            *(row["class"], str(row["tp"]), str(row["batch"])),
            *(figure(row[key]) for key in ("j_per_output_token_at_1", "j_per_output_token_at_8", "j_per_output_token")),
        ]
        for row in d["batch"]
    ]


def phase_rows(d: Document) -> list[list[str]]:
    """Where each phase takes least energy, against full clock."""
    return [
        [
            *(row["phase"], str(row["tp"]), f"{row['size']} {'tokens' if row['phase'] == 'prefill' else 'sequences'}"),
            *(f"{row['best_clock']:.2f}", percent(row["best_energy"])),
            *(f"{row['time_at_best_clock']:.2f} x", f"{row['time_at_half_clock']:.2f} x"),
        ]
        for row in d["phases"]
    ]


def profile_rows(d: Document) -> list[list[str]]:
    """The profiles it was computed with."""
    return [
        [
            *(row["key"], row["kind"], row["tier"], f"x/{row['time_band']:g}", f"x/{row['power_band']:g}"),
            *(f"{row['kv_capacity_tokens']:,}", figure(row["loaded_idle_w"])),
        ]
        for row in d["profiles"]
    ]


def beside_rows(d: Document) -> list[list[str]]:
    """Our predicted steps over measured ones."""
    keys = ("time_ratio", "power_ratio", "energy_ratio")
    return [
        [str(r["tp"]), r["phase"], str(r["size"]), r["tier"], *(f"{r[key]:.2f}" for key in keys)]
        for r in d["beside_measured"]
    ]


def headline(d: Document) -> str:
    """What was found, in three sentences."""
    by_id = {row["id"]: row for row in d["findings"]}
    clock, harmless, week = by_id["g2"], by_id["g4"], d["week"]["policies"][-1]
    published = d["week"]["published"]
    return (
        f"Within the limits the clock alone saves a median of {percent(clock['ours'])} of GPU energy "
        f"({_after(clock)}), all knobs {percent(by_id['g3']['ours'])}; with no mean latency more than 5 % up it is "
        f"{percent(harmless['ours'])} ({_after(harmless)}). Over a week, adapting instances, tp and clock saves "
        f"{percent(week['gpu_energy_j_saving'])} of GPU energy, {percent(week['energy_j_saving'])} with hosts and PUE, "
        f"and {percent(week['operational_g_saving'])} of operational carbon; DynamoLLM publishes "
        f"{percent(published['energy_saving'])} and {percent(published['operational_saving'])}."
    )


def _after(row: dict[str, Any]) -> str:
    text: str = row["verdict"]
    return text.partition(": ")[2]


def shifted(d: Document) -> str:
    """How the carbon saved depends on when the grid is dirty."""
    found = d["week"]["operational_saving_by_shift"]
    low, high = min(found), max(found)
    published = d["week"]["published"]["operational_saving"]
    reached = "" if low <= published <= high else "not "
    return (
        f"Operational carbon saved is {percent(found[0], 1)} here; were the grid's day shifted against the load, it "
        f"would lie between {percent(low, 1)} ({found.index(low)} h later) and {percent(high, 1)} "
        f"({found.index(high)} h later). On a flat grid it equals the energy saved, "
        f"{percent(d['week']['policies'][-1]['energy_j_saving'], 1)}. Timing alone could {reached}give the published "
        f"{percent(published)}."
    )
