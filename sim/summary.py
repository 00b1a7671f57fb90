"""summary.json: the figures of one run, named as docs/metrics.md defines them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from profiles.profile import POWER_UNKNOWN
from profiles.units import SECONDS_PER_HOUR, kwh
from sim.account import PoolBooks
from sim.assumptions import Assumption
from sim.engine.requests import COMPLETED, REJECTED
from sim.fleet import sources
from sim.gaps import gap_statistics
from sim.metrics import Latencies, Stats, statistics_over

if TYPE_CHECKING:
    from sim.run import Run

SCHEMA_VERSION = 1
_BALANCE = 1e-9


def summarise(run: Run, rules: list[Assumption], engine: str, wall_s: float) -> dict[str, Any]:
    """The whole document; every key is defined in docs/metrics.md."""
    counts = _counts(run)
    done_tokens = counts.output
    carbon = _carbon(run)
    balance = _balance(run)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": run.scenario.name,
        "engine": engine,
        "partial": run.played.stopped_s is not None,
        "requests": {
            "total": run.trace.requests,
            "completed": counts.completed,
            "rejected": counts.rejected,
            "unfinished": run.trace.requests - counts.completed - counts.rejected,
            "preemptions": run.played.requests.preemptions,
        },
        "tokens": {"prompt": counts.prompt, "prompt_cached": counts.cached, "output": done_tokens},
        "ttft_s": _spread(run, "ttft_s"),
        "tbt_s": gap_statistics([instance.ledger for instance in run.played.instances], run.played.gaps),
        "tpot_s": _spread(run, "tpot_s"),
        "e2e_s": _spread(run, "e2e_s"),
        "queue_s": _spread(run, "queue_s"),
        "slo": _slo(run),
        "energy_j": _energy(run),
        "carbon_g": carbon,
        "carbon_g_per_1k_output_tokens": carbon["total"] / done_tokens * 1000.0 if done_tokens else None,
        "cost_usd": _cost(run),
        "controls": run.played.controls.told() if run.played.controls else None,
        "regret": None,
        "pools": [_pool(*three) for three in zip(run.books, run.inside, counts.pools, strict=True)],
        "sites": _sites(run),
        "balance": balance,
        "reports": _reports(run, done_tokens),
        "assumptions": rules,
        "warnings": _warnings(run, counts, max(balance.values())),
        "sources": sources(run.pools),
        "start_utc": datetime.fromtimestamp(run.start_epoch_s, UTC).isoformat(),
        "horizon_s": run.horizon_s,
        "wall_s": wall_s,
        "loop_s": run.played.loop_s,
        "requests_per_wall_s": run.trace.requests / run.played.loop_s if run.played.loop_s else None,
    }


@dataclass(slots=True)
class _Counts:
    """Requests and tokens by what became of them; of each pool, the completed requests and their output tokens."""

    pools: list[list[int]]
    completed: int = 0
    rejected: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0


def _counts(run: Run) -> _Counts:
    requests, trace = run.played.requests, run.trace
    found = _Counts([[0, 0] for _ in run.pools])
    for part in requests.shelf.rows():
        status, instance = np.asarray(requests.status[part]), np.asarray(requests.instance[part])
        done, output = status == COMPLETED, trace.output_tokens[part]
        found.completed += int(np.sum(done))
        found.rejected += int(np.sum(status == REJECTED))
        found.prompt += int(trace.prompt_tokens[part][done].sum())
        found.cached += int(np.asarray(requests.cached[part]).sum())
        found.output += int(output[done].sum())
        for pool, owned, mine in zip(run.pools, run.played.owned, found.pools, strict=True):
            here = (instance >= pool.numbers.start) & (instance < pool.numbers.stop) & done
            mine[0] += int(np.sum(done[owned.of(part)[0]]))
            mine[1] += int(output[here].sum())
    return found


def _spread(run: Run, name: str, place: int | None = None) -> Stats:
    """Mean and percentiles of a latency, of all requests or of one class."""
    requests, of_class = run.played.requests, run.trace.slo_class

    def blocks() -> Iterator[NDArray[np.float64]]:
        for part in requests.shelf.rows():
            values: NDArray[np.float64] = getattr(Latencies.of(requests, part), name)
            yield values if place is None or of_class is None else values[of_class[part] == place]

    return statistics_over(blocks)


def _slo(run: Run) -> dict[str, Any]:
    """Requests meeting all limits over all arrivals, and the same in the worst hour of arrival."""
    limits, classes = run.scenario.slo, run.scenario.slo_classes
    requests, of_class = run.played.requests, run.trace.slo_class
    arrivals, kept = np.zeros((2, int(run.trace.span_s // SECONDS_PER_HOUR) + 1))
    of, met_of = np.zeros((2, len(classes)), np.int64)
    for part in requests.shelf.rows():
        mine = None if of_class is None else of_class[part]
        met = Latencies.of(requests, part).kept(classes, mine)
        hour = (np.asarray(run.trace.arrival_s[part]) // SECONDS_PER_HOUR).astype(np.int64)
        arrivals += np.bincount(hour, minlength=arrivals.size)
        kept += np.bincount(hour, met, arrivals.size)
        place = np.zeros(met.size, np.int64) if mine is None else mine
        of += np.bincount(place, minlength=len(classes))
        met_of += np.bincount(place[met], minlength=len(classes))
    worst = float(np.min(kept[arrivals > 0] / arrivals[arrivals > 0]))
    found: dict[str, Any] = {"ttft_s": limits.ttft_s, "tpot_s": limits.tpot_s}
    found |= {"attainment": float(met_of.sum() / requests.size), "worst_hour": worst}
    if run.scenario.classes:
        found["classes"] = [
            {
                **each.model_dump(),
                "requests": int(of[place]),
                "attainment": float(met_of[place] / of[place]) if of[place] else None,
                "ttft_p99_s": _spread(run, "ttft_s", place)["p99"],
                "e2e_p99_s": _spread(run, "e2e_s", place)["p99"],
            }
            for place, each in enumerate(classes)
        ]
    return found


def regret(summary: dict[str, Any], truth: dict[str, Any]) -> dict[str, float]:
    """What the same rules would have done had every forecast been right: grams of both, and the difference."""
    ours, theirs = summary["carbon_g"]["total"], truth["carbon_g"]["total"]
    return {
        "carbon_g": ours - theirs,
        "share": ours / theirs - 1.0 if theirs else 0.0,
        "perfect_carbon_g": theirs,
        "perfect_attainment": truth["slo"]["attainment"],
    }


def _energy(run: Run) -> dict[str, float]:
    books = run.books
    total = sum(book.energy_j for book in books)
    return {
        "total": total,
        "gpu_busy": sum(book.gpu_busy_j for book in books),
        "gpu_idle": sum(book.gpu_idle_j for book in books),
        "transfer": sum(book.transfer_j for book in books),
        "host": sum(book.host_j for book in books),
        "overhead": sum(book.overhead_j for book in books),
        "drain": total - sum(book.energy_j for book in run.inside),
    }


def _carbon(run: Run) -> dict[str, float]:
    operational = sum(book.operational_g for book in run.books)
    low, mid, high = (sum(book.embodied_g[k] for book in run.books) for k in range(3))
    return {
        "total": operational + mid,
        "operational": operational,
        "embodied": mid,
        "low": operational + low,
        "high": operational + high,
        "busy": sum(book.busy_g for book in run.books),
        "idle_and_host": sum(book.idle_g for book in run.books),
        "unowned": run.shares.unowned_g,
        "drain": sum(book.carbon_g for book in run.books) - sum(book.carbon_g for book in run.inside),
    }


def _cost(run: Run) -> float | None:
    """Dollars of GPU-hours and electricity where every price they need is given; no price ships."""
    prices = run.scenario.accounting.gpu_price_usd_per_h
    if any(pool.gpu.name not in prices or pool.site.spec.price_usd_per_kwh is None for pool in run.pools):
        return None
    rent = power = 0.0
    for book in run.books:
        pool = book.pool
        gpu_hours = pool.units * pool.host.gpus * book.end_s / SECONDS_PER_HOUR
        rent += prices[pool.gpu.name] * gpu_hours
        power += kwh(book.energy_j) * (pool.site.spec.price_usd_per_kwh or 0.0)
    return rent + power


def _pool(book: PoolBooks, inside: PoolBooks, counts: list[int]) -> dict[str, Any]:
    pool, spec = book.pool, book.pool.spec
    return {
        "name": spec.name,
        "gpu": pool.gpu.name,
        "model": pool.llm.name,
        "tp": spec.tp,
        "site": spec.site,
        "instances": spec.instances,
        "gpus": spec.gpus,
        "units": pool.units,
        "host": pool.host.name,
        "spare_gpus": pool.spare_gpus,
        "tier": pool.profile.provenance.tier,
        "kind": pool.profile.provenance.kind,
        "requests": counts[0],
        "output_tokens": counts[1],
        "utilisation": inside.utilisation,
        "on_share": inside.on_share,
        "energy_j": book.energy_j,
        "carbon_g": book.carbon_g,
        "operational_g": book.operational_g,
        "embodied_g": book.embodied_g[1],
        "embodied_low_g": book.embodied_g[0],
        "embodied_high_g": book.embodied_g[2],
        "parts_g": book.parts_g,
    }


def _sites(run: Run) -> list[dict[str, Any]]:
    rows = []
    for site in {pool.site.spec.name: pool.site for pool in run.pools}.values():
        books = [book for book in run.books if book.pool.site is site]
        window, signal = site.window, site.signal
        mean = window.integral(run.horizon_s) / run.horizon_s
        rows.append(
            {
                "name": site.spec.name,
                "grid": signal.zone or signal.name,
                "pue": site.spec.pue,
                "intensity": {
                    "kind": signal.kind,
                    "scope": signal.scope,
                    "estimated_share": signal.estimated_share,
                    "licence": signal.licence,
                    "mean_g_per_kwh": mean,
                    "series_mean_g_per_kwh": signal.mean(),
                    "note": window.note,
                },
                "energy_j": sum(book.energy_j for book in books),
                "operational_g": sum(book.operational_g for book in books),
                "embodied_g": sum(book.embodied_g[1] for book in books),
            }
        )
    return rows


def _balance(run: Run) -> dict[str, float]:
    """How far the request ledger is from the hardware ledger, relative to the smaller of what they must share."""
    busy_j = sum(book.gpu_busy_j + book.transfer_j for book in run.books)
    busy_g = sum(book.busy_g for book in run.books)
    total_g = sum(book.operational_g + book.embodied_g[1] for book in run.books)
    sums = np.zeros(4)
    for part in run.played.requests.shelf.rows():
        sums += [float(np.sum(column)) for column in run.shares.of(part)]
    owned_j, operational_g, embodied_g, idle_g = sums.tolist()
    energy = abs(owned_j - busy_j) / busy_j if busy_j else 0.0
    busy = abs(operational_g - busy_g) / busy_g if busy_g else 0.0
    owned_g = operational_g + embodied_g + idle_g + run.shares.unowned_g
    whole = abs(owned_g - total_g) / total_g if total_g else 0.0
    return {"energy_rel_error": energy, "carbon_rel_error": max(busy, whole)}


def _reports(run: Run, output_tokens: int) -> dict[str, Any]:
    """What auditors ask for; a figure that the inputs cannot give is null with the reason."""
    operational = sum(book.operational_g for book in run.books)
    embodied = sum(book.embodied_g[1] for book in run.books)
    lifecycle = sorted({book.pool.site.spec.name for book in run.books if book.pool.site.signal.scope != "direct"})
    missing = f"only lifecycle factors are given at {', '.join(lifecycle)}; scope 2 needs direct ones (scope: direct)"
    new = [book.pool for book in run.books if not book.pool.spec.sunk]
    whole_g = 1000.0 * sum(pool.units * (pool.gpus_kg[1] + pool.host_kg[1]) for pool in new)
    return {
        "scope2_location": {"g": None if lifecycle else operational, "reason": missing if lifecycle else None},
        "scope2_market": {"g": None, "reason": "no contracts (PPA, certificates, residual mix) are given"},
        "scope3_cat2": {"g": whole_g, "reason": "whole units in the year of purchase, sunk pools left out"},
        "scope3_cat3": {"g": None, "reason": "needs lifecycle and direct factors of the same series"},
        "sci": {
            "g_per_1k_output_tokens": (operational + embodied) / output_tokens * 1000.0 if output_tokens else None,
            "reason": "((E x I) + M) per R: location-based, M amortised linearly, R = 1000 output tokens",
        },
    }


def _warnings(run: Run, counts: _Counts, unbalanced: float) -> list[str]:
    """What a reader must know before believing the figures; `unbalanced` is the larger error of the balance."""
    found = []
    if run.played.stopped_s is not None:
        found.append(f"a partial run: it was interrupted {run.played.stopped_s:.0f} s into {run.trace.span_s:.0f} s")
    if run.trace.skipped_rows:
        found.append(f"{run.trace.skipped_rows} bad rows of the trace were left out")
    unfinished = run.trace.requests - counts.completed - counts.rejected
    for kind, count in (("rejected", counts.rejected), ("unfinished", unfinished)):
        if count:
            found.append(f"{count} requests were {kind}")
    for book in run.books:
        found += _pool_warnings(run, book)
    if run.played.controls and run.played.controls.world.clocks.changes:
        found.append("clocks below full: their step times and power are modelled (profiles.dvfs), not measured")
    if unbalanced > _BALANCE:
        found.append(f"the books do not meet: {unbalanced:.1e} relative; please report this")
    return found


def _pool_warnings(run: Run, book: PoolBooks) -> list[str]:
    """What a reader must know of one pool."""
    found = []
    pool, made = book.pool, book.pool.profile.provenance
    name = f"pool {pool.spec.name}"
    if made.tier not in ("T0", "cfg") or made.kind in ("predicted", "synthetic"):
        band = pool.profile.band
        factors = f"time x/{band.time:g}, power x/{band.power:g}"
        found.append(f"{name} rests on a {made.kind} profile of tier {made.tier} ({factors})")
    if pool.profile.layer == "kernels" and pool.profile.engine_term is None:
        found.append(f"{name}: its profile is of kernels alone, without an engine's host time; real steps are slower")
    if POWER_UNKNOWN in (pool.profile.decode.flags or []):
        found.append(f"{name}: its profile knows no power, so its busy and idle energy and their carbon are missing")
    outside_s = sum(run.played.instances[number].ledger.extrapolated_s for number in pool.numbers)
    if outside_s > 0.01 * book.busy_s:
        found.append(f"{name}: {outside_s / book.busy_s:.0%} of its busy time lies outside the measured points")
    if book.end_s > run.horizon_s:
        drain_s = book.end_s - run.horizon_s
        found.append(f"{name}: {drain_s:.0f} s of work after the horizon (drain), billed at the last intensity")
    return found
