"""What each control saves on one load and fleet, alone and together: the table of docs/studies/what-ifs.md.

    .venv/bin/python -m benchmarks.what_ifs [--grid california=FILE]

About six minutes; each row is one `simulate docs/studies/what-ifs.yaml --set ...` and can be had alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sim import scenario
from sim.run import run
from sim.scenario import Scenario

STUDY = Path(__file__).resolve().parents[1] / "docs" / "studies" / "what-ifs.yaml"
POWER_OFF = {"kind": "power-off", "idle_s": 300, "wake": 0.5}
SCALE = {"kind": "scale", "target": 0.5}
DEFER = {"kind": "defer"}
CLOCK = {"kind": "clock", "clocks": [0.6, 0.8, 1.0], "low": 0.2, "high": 0.6}
GREEN = "least-added-carbon"
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "power-off": {"controls": [POWER_OFF]},
    "scale to load": {"controls": [SCALE]},
    "deferral (30 % of the requests, 8 h)": {"controls": [DEFER]},
    "carbon-aware routing": {"routing": GREEN},
    "clock governor": {"controls": [CLOCK]},
    "carbon-aware routing and power-off": {"routing": GREEN, "controls": [POWER_OFF]},
    "all of them (scale, deferral, routing, clock)": {"routing": GREEN, "controls": [SCALE, DEFER, CLOCK]},
}


def main(arguments: list[str]) -> None:
    """Run every case and print a row each."""
    base = scenario.read(STUDY).model_dump(mode="json", exclude_none=True)
    for text in arguments[1:] if arguments[:1] == ["--grid"] else []:
        name, _, path = text.partition("=")
        next(site for site in base["sites"] if site["name"] == name)["grid"] = path
    print("| | kg CO2e | of which operational | against nothing | SLO kept (worst hour) | boots | deferred | regret |")
    print("|---|---|---|---|---|---|---|---|")
    first = None
    for name, changes in CASES.items():
        s = run(Scenario.model_validate(base | changes)).summary
        total, told = s["carbon_g"]["total"] / 1e3, s["controls"] or {"boots": 0, "deferred": 0}
        first = first or total
        regret = f"{s['regret']['carbon_g'] / 1e3:+.2f} kg" if s["regret"] else "-"
        kept = f"{100 * s['slo']['attainment']:.2f} % ({100 * s['slo']['worst_hour']:.2f} %)"
        cells = [
            name,
            f"{total:.1f}",
            f"{s['carbon_g']['operational'] / 1e3:.1f}",
            f"{100 * (total / first - 1):+.1f} %",
        ]
        cells += [kept, f"{told['boots']:,}", f"{told['deferred']:,}", regret]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
