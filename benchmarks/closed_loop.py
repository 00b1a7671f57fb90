"""Plan, replay, correct: how far plans are from their replays before and after, on two public mixes and two grids.

    .venv/bin/python -m benchmarks.closed_loop

Needs the Azure 2023 traces beside the checkout (shared/data/traces). Mix and burst are the trace's, the day's shape is
the shipped one, 3 requests/s on average; the verdict is on requests of a seed that no round has seen.
"""

from __future__ import annotations

from pathlib import Path

from optimizer.refine import confirmed
from optimizer.study import Study

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
OFFERS = [{"gpu": "h100-sxm-80gb"}, {"gpu": "a100-sxm-80gb"}, {"gpu": "l4"}]


def main() -> None:
    """A row each."""
    print(
        "| mix | grid | plan | energy before | rounds | energy on unseen requests | SLO kept | verdict |\n"
        + 8 * "|---"
        + "|"
    )
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
            fleet = ", ".join(f"{row.units} x {row.host}" for row in plan.fleet)
            first, last = rounds[0].energy_difference or 0.0, verdict.rows[0].difference or 0.0
            word = "verified" if verdict.verified else "unverified"
            cells = [mix, zone, fleet, f"{100 * first:+.1f} %", str(len(rounds)), f"{100 * last:+.1f} %"]
            print(f"| {' | '.join(cells)} | {100 * verdict.rows[2].replayed:.2f} % | {word} |", flush=True)


if __name__ == "__main__":
    main()
