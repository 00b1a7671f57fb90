"""Plan, replay, correct: how far plans are from their replays before and after, on two public mixes and two grids.

    .venv/bin/python -m benchmarks.studies --anew closed-loop

Needs the Azure 2023 traces beside the checkout (shared/data/traces). Mix and burst are the trace's, the day's shape is
the shipped one, 3 requests/s on average; the verdict is on requests of a seed that no round has seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import bars, items, table
from carbonfleet.reproduce.result import rounded
from carbonfleet.text import percent
from optimizer.refine import confirmed
from optimizer.study import Study

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
OFFERS = [{"gpu": "h100-sxm-80gb"}, {"gpu": "a100-sxm-80gb"}, {"gpu": "l4"}]


def compute() -> dict[str, Any]:
    """A row each."""
    rows = []
    for mix in ("conv", "code"):
        for zone in ("US-CAL-CISO", "CA-QC"):
            trace = str(TRACES / f"azure_2023_{mix}.csv")
            study = Study.model_validate(
                {
                    "demand": {"model": "llama-3.1-8b", "trace": trace, "rate_per_s": 3.0, "shape": "diurnal"},
                    "slo": {"ttft_s": 3.0, "tpot_s": 0.1},
                    "sites": [{"name": "here", "grid": zone}],
                    "catalogue": OFFERS,
                }
            )
            plan, verdict, rounds = confirmed(study)
            rows.append(
                {
                    "mix": mix,
                    "grid": zone,
                    "fleet": {row.host: row.units for row in plan.fleet},
                    "energy_before": rounds[0].energy_difference or 0.0,
                    "rounds": len(rounds),
                    "solved": plan.status,
                    "carbon_g": plan.carbon_g,
                    "energy_unseen": verdict.rows[0].difference or 0.0,
                    "kept": verdict.rows[2].replayed,
                    "verified": verdict.verified,
                }
            )
    return rounded({"rows": rows})  # type: ignore[no-any-return]


def render(d: dict[str, Any], runtime: str, picture: str) -> str:
    """The page."""
    head = (
        "mix",
        "grid",
        "plan",
        "solved",
        "energy before",
        "rounds",
        "energy on unseen requests",
        "SLO kept",
        "verdict",
    )
    cells = [
        [
            *(row["mix"], row["grid"], ", ".join(f"{n} x {host}" for host, n in row["fleet"].items()), row["solved"]),
            *(f"{100 * row['energy_before']:+.1f} %", str(row["rounds"]), f"{100 * row['energy_unseen']:+.1f} %"),
            *(percent(row["kept"], 2), "verified" if row["verified"] else "unverified"),
        ]
        for row in d["rows"]
    ]
    top = HEAD.format(runtime=runtime, picture=picture)
    return "\n".join([top, table(head, cells, 4), "## Reading it\n", items(reading(d)), END])


def reading(d: dict[str, Any]) -> Iterator[str]:
    """Sentences computed from the rows."""
    rows = d["rows"]
    verified, rounds = sum(row["verified"] for row in rows), [row["rounds"] for row in rows]
    yield f"{verified} of {len(rows)} plans are verified, after {min(rounds)} to {max(rounds)} rounds."
    for key, word in (("energy_before", "Before any correction"), ("energy_unseen", "On unseen requests")):
        worst = max(rows, key=lambda row: abs(row[key]))
        where = f"{worst['mix']}, {worst['grid']}"
        yield f"{word} plan and replay differ by {100 * abs(worst[key]):.1f} % at most ({where})."
    least = min(rows, key=lambda row: row["kept"])
    yield f"The promise is kept by at least {percent(least['kept'], 2)} of the requests."


def picture(d: dict[str, Any]) -> dict[str, Any]:
    """Replay against plan before and after."""
    names = {"energy_before": "before correction", "energy_unseen": "on unseen requests"}
    values = [
        {"y": f"{row['mix']}, {row['grid']}", "by": word, "x": 100 * row[key]}
        for row in d["rows"] for key, word in names.items()
    ]  # fmt: skip
    return bars(values, "energy, replay over plan, %", offset=True)


HEAD = """# The closed loop: plans beside their replays

Llama-3.1-8B, the mixes of two public traces (Azure 2023 conversation and code) at 3 requests/s with the shipped
shape of a day, TTFT 3 s and TPOT 0.1 s, H100, A100 or L4 on offer. Every plan is replayed by the simulator,
corrected where it is off, and judged on requests of a seed that no round has seen.

    python -m benchmarks.studies --anew closed-loop     # needs the traces

{runtime} This page is written from docs/studies/closed-loop.json by `python -m benchmarks.studies`.

![How far replays are from their plans]({picture})
"""
END = """
A profile planted 20 % wrong is caught: its plan is called unverified (`pytest tests/test_optimizer_beside.py -k
planted`). Both traces span an hour: their mix stands for the whole horizon.
"""
