"""What the optimizer is worth: its fleet's grams beside three plainer rules', in a clean and a dirty grid.

    .venv/bin/python -m benchmarks.worth

Needs the Azure 2023 conversation trace beside the checkout (shared/data/traces). Rivals carry the same demand under the
same promises on the same profiles. Each difference is taken again under what both sides share: embodied presets, grids
half or twice as dirty, a life of 3 or 8 years. Fleets and dispatch stay; the page says which of these turn the sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from optimizer.beside import Rival, rivals
from optimizer.plan import solve
from optimizer.study import Study
from profiles import catalog
from profiles.embodied import gpu_embodied, host_embodied

TRACE = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces" / "azure_2023_conv.csv"
# Dollars an hour of a host, made from a list price of its GPU; no price ships, these are the study's own.
PRICES = {"h100-sxm-80gb": 4.0, "a100-sxm-80gb": 2.0, "l4": 0.7}
FASTEST = "h100-sxm-80gb"
GRIDS = ("CA-QC", "US-CAL-CISO", "US-NW-PACE")
RATE_PER_S = 40.0
YEARS = 5.0
OWNED = 4  # hosts of four A100s that are there already


def study(zone: str) -> Study:
    """The question on one grid."""
    return Study.model_validate(
        {
            "demand": {"model": "llama-3.1-8b", "trace": str(TRACE), "rate_per_s": RATE_PER_S, "shape": "diurnal"},
            "slo": {"ttft_s": 3.0, "tpot_s": 0.12},
            "sites": [{"name": "here", "grid": zone, "price_usd_per_kwh": 0.1}],
            "catalogue": [{"gpu": gpu} for gpu in PRICES],
            "owned": [{"gpu": "a100-sxm-80gb", "host": "hgx-a100-80gb-4", "site": "here", "units": OWNED}],
            "accounting": {"gpu_price_usd_per_h": PRICES},
            "horizon_years": YEARS,
        }
    )


def embodied_g(rival: Rival, preset: str, boundary: str, life_years: float) -> float:
    """Avoidable embodied grams of a fleet under other rules."""
    total = 0.0
    for name, count in rival.fleet.items():
        if name.endswith("(owned)"):
            continue
        host = catalog.host(name.partition(" at ")[0])
        kg = gpu_embodied(catalog.gpu(host.gpu), preset).mid_kg * host.gpus * min(1.0, YEARS / life_years)
        kg += host_embodied(host).mid_kg * min(1.0, YEARS / (life_years + 1.0)) if boundary == "server" else 0.0
        total += 1000.0 * kg * count
    return total


def views(rival: Rival) -> Iterator[tuple[str, float]]:
    """A fleet's grams under each shared assumption."""
    operational, embodied = rival.operational_g or 0.0, rival.embodied_g or 0.0
    yield "as assumed", operational + embodied
    for preset in ("act", "boavizta"):
        yield f"preset {preset}", operational + embodied_g(rival, preset, "server", YEARS)
    yield "cards alone", operational + embodied_g(rival, "pcf-card", "card", YEARS)
    for life in (3.0, 8.0):
        yield f"a life of {life:g} years", operational + embodied_g(rival, "pcf-card", "server", life)
    for factor, word in ((0.5, "half"), (2.0, "twice")):
        yield f"a grid {word} as dirty", factor * operational + embodied


def rows(zone: str) -> Iterator[str]:
    """The plan's row and each rival's, with what turns its sign round."""
    asked = study(zone)
    found = rivals(asked, solve(asked))
    mine = dict(views(found[0]))
    wanted = {f"{FASTEST} alone, new": "fastest type alone", "all new": "all new"}
    wanted |= {
        "least cost": "least cost",
        "least energy": "least energy",
        "what is owned, nothing bought": "today's alone",
    }
    for rival in found:
        name = "this plan" if rival is found[0] else wanted.get(rival.name)
        if name is None or rival.carbon_g is None:
            continue
        fleet = ", ".join(f"{count} x {_short(host)}" for host, count in rival.fleet.items())
        cells = [zone, name, fleet, f"{rival.carbon_g / 1e6:.2f}", f"{(rival.embodied_g or 0.0) / rival.carbon_g:.0%}"]
        more = rival.carbon_g / mine["as assumed"] - 1.0
        turned = [view for view, grams in views(rival) if (grams < mine[view]) != (more < 0.0) and more]
        same = rival.fleet == found[0].fleet
        cells += ["" if rival is found[0] else f"{more:+.1%}", "" if same else ", ".join(turned) or "nothing"]
        yield f"| {' | '.join(cells)} |"


def _short(host: str) -> str:
    return host.replace(" at here", "")


def main() -> None:
    """The table of docs/studies/worth-it.md."""
    print("| grid | fleet by | units | t CO2e | embodied | more than the plan | sign turned by |\n" + 7 * "|---" + "|")
    for zone in GRIDS:
        for row in rows(zone):
            print(row, flush=True)


if __name__ == "__main__":
    main()
