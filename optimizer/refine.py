"""Replay a plan once in the simulator and show what the plan said beside what the replay found.

The plan's steady state is a model: full batches, mean lengths, a stated wait. The replay has real batches, bursts and
queues. Both are set on the same footing here: the replay's requests, its hours, its own grid intensity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from optimizer.demand import replay_spec, sample, shape_of, source_trace
from optimizer.placed import Placement
from optimizer.plan import Plan
from optimizer.study import Study
from optimizer.written import plan_scenario, replaced
from profiles.inputs import CarbonfleetError
from profiles.units import operational_g
from sim.trace.generator import generate
from sim.trace.model import Trace

TOLERANCE = 0.05


class Unverified(CarbonfleetError):  # noqa: N818 - says what is the matter
    """The replay does not bear the plan out; raised only where the caller asks for it."""

    exit_code = 5


class Replayed(Protocol):
    """What is needed of a run: its summary as docs/metrics.md defines it."""

    @property
    def summary(self) -> dict[str, Any]: ...  # noqa: D102


Runner = Callable[..., Replayed]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure as planned and as replayed; `difference` is (replayed - planned) / planned, None at planned 0."""

    what: str
    unit: str
    planned: float
    replayed: float
    difference: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison and what follows: verified, or unverified with the reasons in `misses`."""

    verified: bool
    misses: list[str]
    rows: list[Row]
    requests: int
    horizon_s: float
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """What verdict.json holds."""
        return {"schema_version": 1, "verdict": "verified" if self.verified else "unverified", **asdict(self)}


def replay(plan: Plan, study: Study, run: Runner | None = None) -> Verdict:
    """Run the plan's scenario once and compare energy, operational grams, utilisation and promises kept.

    Operational grams are compared at the replay's own intensity, so that the hours it covers do not count as an error.
    Utilisation is shown but not judged: the plan counts full-batch time, the replay any busy time.

    Args:
        plan, study: what `solve` returned and was given.
        run: `sim.run.run` or a stand-in with the same call.

    Raises:
        InputError: the scenario cannot be run.
    """
    if run is None:
        from sim.run import run as simulate

        run = simulate
    summary = run(plan_scenario(plan, study), trace=replay_trace(study)).summary
    rows, misses = _compare(plan, study, summary)
    notes = ["utilisation: the plan's is full-load time, the replay's any busy time, so the replay's is higher"]
    if replaced(study):
        notes.append("requests were drawn from the demand's lengths at its rate and shape, with the study's seed")
        if max(shape_of(study.demand)) > 1.0 and float(summary["horizon_s"]) < 86400.0:
            notes.append("it covers the day's busiest hours only, in which a request costs fewer joules than the mean")
    return Verdict(not misses, misses, rows, int(summary["requests"]["total"]), float(summary["horizon_s"]), notes)


def require(verdict: Verdict) -> None:
    """Fail unless the replay bears the plan out.

    Raises:
        Unverified: it does not; the message says in what (exit code 5).
    """
    if not verdict.verified:
        raise Unverified(f"the replay does not bear the plan out: {'; '.join(verdict.misses)}")


def replay_trace(study: Study) -> Trace | None:
    """The requests of the replay: None for the study's own trace as it is, else drawn with its joint lengths."""
    if not replaced(study):
        return None
    demand = study.demand
    like = source_trace(demand, study.seed) if demand.trace else None
    spec = replay_spec(study, like)
    return generate(spec, study.seed, like=None if demand.generator else like or sample(demand, study.seed))


def _compare(plan: Plan, study: Study, summary: dict[str, Any]) -> tuple[list[Row], list[str]]:
    horizon_s, requests = float(summary["horizon_s"]), float(summary["requests"]["total"])
    rates = {site["name"]: site["intensity"]["mean_g_per_kwh"] for site in summary["sites"]}
    fleet = [row for row in plan.fleet if row.on[0]]  # of the first year, which is what is replayed
    planned = {row.pool: _energy_j(row, plan, horizon_s, requests) for row in fleet}
    grams = sum(operational_g(planned[row.pool], rates[row.site]) for row in fleet)
    found = {pool["name"]: pool for pool in summary["pools"]}
    rows = [
        _row("energy", "J", sum(planned.values()), summary["energy_j"]["total"]),
        _row("operational carbon", "g", grams, summary["carbon_g"]["operational"]),
        _row("requests keeping every limit", "share", study.slo_share, summary["slo"]["attainment"]),
    ]
    for row in fleet:
        rows.append(_row(f"energy of {row.pool}", "J", planned[row.pool], found[row.pool]["energy_j"]))
        rows.append(_row(f"utilisation of {row.pool}", "share", row.utilisation, found[row.pool]["utilisation"]))
    misses = [
        f"{row.what} is {100 * row.difference:+.1f} % off, {100 * TOLERANCE:g} % is allowed"
        for row in rows[:2]
        if row.difference is not None and abs(row.difference) > TOLERANCE
    ]
    kept = summary["slo"]["attainment"]
    if kept < study.slo_share:
        misses.append(f"{100 * kept:.2f} % of requests keep the limits, {100 * study.slo_share:g} % are promised")
    return rows, misses


def _energy_j(row: Placement, plan: Plan, horizon_s: float, requests: float) -> float:
    """What the plan says a pool draws in `horizon_s` seconds with `requests` requests in the whole fleet."""
    year, whole = row.years[0], plan.years[0]
    powered = (year["energy_j"] - year["dynamic_j"]) * horizon_s / whole["seconds"]
    return powered + year["dynamic_j"] * requests / whole["requests"]


def _row(what: str, unit: str, planned: float, replayed: float) -> Row:
    return Row(what, unit, planned, replayed, (replayed - planned) / planned if planned else None)
