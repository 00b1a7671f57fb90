"""Replay a plan once in the simulator and show what the plan said beside what the replay found.

The plan's steady state is a model: full batches, mean lengths, a stated wait. The replay has real batches, bursts and
queues. Both are set on the same footing here: the replay's requests, its hours, its own grid intensity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from optimizer.choices import Setting
from optimizer.demand import HOURS
from optimizer.drawn import Window, replaced, traces, windows
from optimizer.placed import Placement
from optimizer.plan import Plan, solve
from optimizer.study import Study
from optimizer.survival import Loss, losses
from optimizer.written import Runner, plan_scenario, replay_trace, simulated
from profiles.inputs import CarbonfleetError
from profiles.units import operational_g

TOLERANCE = 0.05
ROUNDS = 5
UNSEEN = 1_000_003  # added to the seed for the requests a verdict rests on
MOST_CORRECTED = 0.15


class Unverified(CarbonfleetError):  # noqa: N818 - says what is the matter
    """The replay does not bear the plan out; raised only where the caller asks for it."""

    exit_code = 5


Planner = Callable[[Study, dict[Setting, float]], Plan]


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
    losses: list[Loss] = field(default_factory=list)

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
    shown = windows(study, traces(study)) if replaced(study) else [None]
    summaries = []
    for window in shown:
        scenario = plan_scenario(plan, study, window)
        summaries.append(simulated(scenario, replay_trace(study, scenario, window), run))
    summary = summaries[-1]
    rows, misses = _compare(plan, study, summary, shown[-1], summaries)
    notes = ["utilisation: the plan's is full-load time, the replay's any busy time, so the replay's is higher"]
    if replaced(study):
        notes.append("requests were drawn from the demand's lengths at its rate and shape, with the study's seed")
    if len(shown) > 1:
        notes.append("joules are of the hours nearest the day's mean rate; promises are of its busiest hours too")
    return Verdict(not misses, misses, rows, int(summary["requests"]["total"]), float(summary["horizon_s"]), notes)


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of plan and replay: what the plan was corrected by, and how far the replay was off it."""

    safe_utilisation: float
    joules: dict[str, float]  # configuration -> factor on its requests' joules
    objective: float
    energy_difference: float | None
    attainment: float


def confirmed(
    study: Study,
    run: Runner | None = None,
    rounds: int = ROUNDS,
    tell: Callable[[str], None] | None = None,
    planner: Planner = solve,
) -> tuple[Plan, Verdict, list[Round]]:
    """Plan, replay, correct and plan again until they agree; then judge on requests that no round has seen.

    A round corrects the joules of a pool's requests to what the replay drew, and lowers the safe utilisation where the
    promises were not kept. Joules that had to be corrected by more than MOST_CORRECTED are no correction but a wrong
    profile: the plan is then unverified, whatever the last replay says.

    Args:
        study, run: as for `replay`.
        rounds: most turns of plan and replay.
        tell: told of every round in a line.
        planner: `solve`, or a stand-in that keeps more than the plan.

    Returns:
        the last plan, its verdict (of the unseen requests where they are drawn), and every round.

    Raises:
        Infeasible, InputError, NoPlan: as `solve`.
    """
    factors: dict[Setting, float] = {}
    asked, done = study, list[Round]()
    while True:
        plan = planner(asked, factors)
        verdict = replay(plan, asked, run)
        found = {row.what: row for row in verdict.rows}
        kept = found["requests keeping every limit"].replayed
        words = {_words(setting): factor for setting, factor in factors.items()}
        off = found["energy"].difference
        done.append(Round(asked.safe_utilisation, words, plan.objective, off, kept))
        if tell is not None:
            tell(f"round {len(done)}: energy {100 * (off or 0.0):+.1f} %, {100 * kept:.2f} % keep the limits")
        if verdict.verified or len(done) == rounds:
            break
        factors = factors | _corrected(plan, verdict, factors)
        if kept < study.slo_share:
            asked = asked.model_copy(update={"safe_utilisation": 0.93 * asked.safe_utilisation})
    if verdict.verified and replaced(study):
        verdict = replay(plan, asked.model_copy(update={"seed": study.seed + UNSEEN}), run)
        verdict = replace(verdict, notes=[*verdict.notes, "judged on requests of a seed that no round has seen"])
    wrong = [_words(key) for key, factor in factors.items() if abs(factor - 1.0) > MOST_CORRECTED]
    if wrong:
        what = f"joules of {', '.join(wrong)} had to be corrected by over {100 * MOST_CORRECTED:g} %: check the profile"
        verdict = replace(verdict, verified=False, misses=[*verdict.misses, what])
    if verdict.verified:
        verdict = _surviving(plan, asked, verdict, run)
    return plan, verdict, done


def _surviving(plan: Plan, study: Study, verdict: Verdict, run: Runner | None) -> Verdict:
    """The verdict with the losses that the study reserves for: each must leave the promises kept."""
    lost = losses(plan, study, run)
    misses = [
        f"without {each.lost} {_share(each.attainment)} of requests keep the limits"
        for each in lost
        if not each.kept(study.slo_share)
    ]
    return replace(verdict, verified=not misses, misses=[*verdict.misses, *misses], losses=lost)


def _share(attainment: float | None) -> str:
    return "none" if attainment is None else f"{100 * attainment:.2f} %"


def _corrected(plan: Plan, verdict: Verdict, before: dict[Setting, float]) -> dict[Setting, float]:
    """Each pool's joules of requests as the replay drew them, over what they would be uncorrected."""
    found = {row.what: row for row in verdict.rows}
    factors = {}
    for row in plan.fleet:
        energy = found.get(f"energy of {row.pool}")
        if energy is None or not row.dynamic_j:
            continue
        key = row.host, row.model, row.tp, row.precision, row.clock, row.role, row.owned
        powered = row.years[0]["energy_j"] - row.years[0]["dynamic_j"]
        dynamic = energy.planned - powered * verdict.horizon_s / plan.years[0]["seconds"]
        if dynamic <= 0.0:  # it serves nobody in the hours that were replayed
            continue
        factors[key] = before.get(key, 1.0) * max(0.25, 1.0 + (energy.replayed - energy.planned) / dynamic)
    return factors


def _words(setting: Setting) -> str:
    """A setting for people: what is as usual goes without saying."""
    host, model, tp, precision, clock, role, owned = setting
    words = [f"{host} tp{tp}", model, precision]
    words += [f"clock {clock:g}"] if clock < 1.0 else []
    words += [role] if role != "both" else []
    return " ".join(words) + (", owned" if owned else "")


def require(verdict: Verdict) -> None:
    """Fail unless the replay bears the plan out.

    Raises:
        Unverified: it does not; the message says in what (exit code 5).
    """
    if not verdict.verified:
        raise Unverified(f"the replay does not bear the plan out: {'; '.join(verdict.misses)}")


def _compare(
    plan: Plan, study: Study, summary: dict[str, Any], window: Window | None, summaries: list[dict[str, Any]]
) -> tuple[list[Row], list[str]]:
    """Rows and misses: joules and grams of one replay, promises of all."""
    horizon_s, requests = float(summary["horizon_s"]), float(summary["requests"]["total"])
    rates = {site["name"]: site["intensity"]["mean_g_per_kwh"] for site in summary["sites"]}
    fleet = [row for row in plan.fleet if row.on[0]]  # of the first year, which is what is replayed
    planned = {row.pool: _energy_j(row, plan, horizon_s, requests, window) for row in fleet}
    grams = sum(operational_g(planned[row.pool], rates[row.site]) for row in fleet)
    found = {pool["name"]: pool for pool in summary["pools"]}
    rows = [
        _row("energy", "J", sum(planned.values()), summary["energy_j"]["total"]),
        _row("operational carbon", "g", grams, summary["carbon_g"]["operational"]),
        _row("requests keeping every limit", "share", study.slo_share, min(s["slo"]["attainment"] for s in summaries)),
    ]
    for row in fleet:
        rows.append(_row(f"energy of {row.pool}", "J", planned[row.pool], found[row.pool]["energy_j"]))
        rows.append(_row(f"utilisation of {row.pool}", "share", row.utilisation, found[row.pool]["utilisation"]))
    misses = [
        f"{row.what} is {100 * row.difference:+.1f} % off, {100 * TOLERANCE:g} % is allowed"
        for row in rows[:2]
        if row.difference is not None and abs(row.difference) > TOLERANCE
    ]
    for each in summaries:
        for whose, kept in [("", each["slo"]["attainment"]), *_by_class(each)]:
            if kept < study.slo_share:
                what = f"{100 * kept:.2f} % of {whose}requests keep the limits"
                misses.append(f"{what}, {100 * study.slo_share:g} % are promised")
    return rows, misses


def _by_class(summary: dict[str, Any]) -> list[tuple[str, float]]:
    classes = summary["slo"].get("classes", [])
    return [(f"{each['name']}'s ", each["attainment"]) for each in classes if each["attainment"] is not None]


def _energy_j(row: Placement, plan: Plan, horizon_s: float, requests: float, window: Window | None) -> float:
    """What the plan says a pool draws in `horizon_s` seconds with `requests` requests in the whole fleet.

    Of a window the requests' part is that of its hours, as the plan dispatches them.
    """
    year, whole = row.years[0], plan.years[0]
    powered = (year["energy_j"] - year["dynamic_j"]) * horizon_s / whole["seconds"]
    if window is None or window.hours == HOURS:
        return powered + year["dynamic_j"] * requests / whole["requests"]
    asked, dynamic = 0.0, 0.0
    for part in plan.slices:
        hours = part["hours"] if part["year"] == 0 else ()
        share = sum(hour in hours for hour in window.covered) / len(hours) if hours else 0.0
        if share:
            asked += share * part["seconds"] * part["rate_per_s"]
            mine = (r for r in plan.dispatch if r["pool"] == row.pool and r["slice"] == part["name"])
            dynamic += share * sum(each["energy_j"] for each in mine)
    return powered + dynamic * requests / asked


def _row(what: str, unit: str, planned: float, replayed: float) -> Row:
    return Row(what, unit, planned, replayed, (replayed - planned) / planned if planned else None)
