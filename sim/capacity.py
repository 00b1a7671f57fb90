"""Capacity questions: how much traffic a fleet carries at its SLO, how many instances a load needs, how sure one is.

Every answer is found by whole simulations, and each of them is shown: attainment need not fall evenly with load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from profiles.inputs import CarbonfleetError, InputError, near_miss
from sim.metrics import Latencies, statistics
from sim.run import Run, load_trace, run
from sim.scenario import Scenario
from sim.trace.change import scaled

LEAST_FACTOR, MOST_FACTOR = 1.0 / 1024.0, 1024.0
MOST_INSTANCES = 4096
WIDE = 0.95  # of the intervals over replications


class Unreachable(CarbonfleetError):  # noqa: N818 - says what is the matter
    """No value within the search's bounds keeps the SLO."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Try:
    """One simulation of a search: the value tried, and what came of it."""

    value: float
    rate_per_s: float
    attainment: float
    ttft_p99_s: float | None
    tpot_p99_s: float | None
    carbon_g_per_1k_output_tokens: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a search, and every simulation it took, in order."""

    what: str  # "rate" (a factor on the arrivals) or "instances"
    answer: Try
    target: float
    tries: list[Try]


def figures(made: Run, warm_up_s: float = 0.0) -> dict[str, float | None]:
    """What is compared over runs; arrivals of the warm-up are left out of latencies and attainment, not of energy."""
    kept = np.asarray(made.trace.arrival_s) >= warm_up_s
    if not kept.any():
        raise InputError("no request arrives after it", field="--warm-up", mend="give a shorter one")
    latencies = Latencies.of(made.played.requests)
    met = latencies.kept(made.scenario.slo_classes, made.trace.slo_class)
    found: dict[str, float | None] = {"attainment": float(met[kept].mean())}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        stats = statistics(getattr(latencies, name)[kept])
        found |= {f"{name}_{key}": value for key, value in stats.items()}
    found["energy_j"] = float(made.summary["energy_j"]["total"])
    found["carbon_g"] = float(made.summary["carbon_g"]["total"])
    found["carbon_g_per_1k_output_tokens"] = made.summary["carbon_g_per_1k_output_tokens"]
    return found


def find_rate(
    scenario: Scenario,
    target: float = 0.99,
    precision: float = 0.02,
    warm_up_s: float = 0.0,
    progress: Callable[[Try], None] | None = None,
) -> Found:
    """The largest factor on the arrival rate at which `target` of all requests keep the SLO, to `precision`.

    The same requests come faster or slower; the fleet stays.

    Raises:
        InputError: the scenario has no limit.
        Unreachable: the SLO is not kept even at a 1,024th of the rate (exit code 3).
    """
    _limited(scenario)
    scenario = _once(scenario)
    trace = load_trace(scenario)

    def attempt(factor: float) -> Try:
        horizon_s = None if scenario.horizon_s is None else scenario.horizon_s / factor
        squeezed = scenario.model_copy(update={"horizon_s": horizon_s})
        return _try(run(squeezed, trace=scaled(trace, factor)), factor, warm_up_s / factor, target)

    search = _Search(attempt, progress)
    low, high = 1.0, 1.0
    if search(1.0).kept:
        while low < MOST_FACTOR and search(high := 2.0 * low).kept:
            low = high
    else:
        while not search(low := 0.5 * high).kept:
            high = low
            if low <= LEAST_FACTOR:
                raise Unreachable(
                    f"{target:.2%} of the requests do not keep the SLO at any rate; loosen it, or add GPUs"
                )
    while high / low > 1.0 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if search(middle).kept else (low, middle)
    return Found("rate", search.best(max), target, search.tries)


def find_instances(
    scenario: Scenario,
    pool: str | None = None,
    target: float = 0.99,
    warm_up_s: float = 0.0,
    progress: Callable[[Try], None] | None = None,
) -> Found:
    """The fewest instances of a pool at which `target` of all requests keep the SLO; other pools stay.

    Raises:
        InputError: no limit, or no such pool.
        Unreachable: 4,096 instances are not enough.
    """
    _limited(scenario)
    names = [each.name for each in scenario.pools]
    if pool is None and len(names) > 1:
        raise InputError("says not which pool", field="--find-instances", mend=f"name one of {', '.join(names)}")
    if pool is not None and pool not in names:
        raise InputError(f"unknown pool {pool!r}", field="--find-instances", mend=near_miss(pool, names))
    scenario = _once(scenario)
    place, trace = names.index(pool) if pool is not None else 0, load_trace(scenario)

    def attempt(count: float) -> Try:
        pools = list(scenario.pools)
        pools[place] = pools[place].model_copy(update={"instances": int(count)})
        return _try(run(scenario.model_copy(update={"pools": pools}), trace=trace), count, warm_up_s, target)

    search = _Search(attempt, progress)
    low, high = 0, 1
    while not search(high).kept:
        if high >= MOST_INSTANCES:
            raise Unreachable(f"{MOST_INSTANCES:,} instances of {names[place]} do not keep the SLO; loosen it")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if search(middle).kept else (middle, high)
    return Found("instances", search.best(min), target, search.tries)


def replicate(
    scenario: Scenario,
    times: int,
    warm_up_s: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """The scenario under `times` seeds: mean, standard deviation and 95 % interval of the mean of every figure.

    Args:
        jobs: processes that simulate at the same time; the figures are the same for any number.

    Raises:
        InputError: fewer than two times, or a trace instead of a generator, which every seed would replay alike.
    """
    from scipy.special import stdtrit

    if times < 2:
        raise InputError("an interval needs at least two", field="--replications", mend="give 2 or more")
    if scenario.generator is None:
        what = "a trace is the same under every seed"
        raise InputError(what, field="--replications", mend="use a generator (carbonfleet trace fit writes one)")
    seeds = [scenario.seed + k for k in range(times)]
    rows = []
    tasks = [(_once(scenario).model_copy(update={"seed": seed}), warm_up_s) for seed in seeds]
    # spawned, not forked: a solver's threads in this process would not survive a fork
    with ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 else nullcontext() as pool:
        for row in pool.map(_one, tasks) if pool else map(_one, tasks):
            rows.append(row)
            if progress:
                progress(len(rows), times)
    wide = float(stdtrit(times - 1, 0.5 + WIDE / 2.0)) / math.sqrt(times)
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], dtype=float)  # None becomes NaN
        sd = float(values.std(ddof=1))
        found[name] = {"mean": float(values.mean()), "sd": sd, "half_width_95": wide * sd}
    return {"seeds": seeds, "warm_up_s": warm_up_s, "figures": found}


def _one(task: tuple[Scenario, float]) -> dict[str, float | None]:
    """One seed's figures, here or in a worker."""
    scenario, warm_up_s = task
    return figures(run(scenario), warm_up_s)


class _Search:
    """Attempts by value, each made once."""

    def __init__(self, attempt: Callable[[float], Try], progress: Callable[[Try], None] | None) -> None:
        self._attempt, self._progress = attempt, progress
        self._known: dict[float, Try] = {}

    def __call__(self, value: float) -> Try:
        if value not in self._known:
            self._known[value] = self._attempt(value)
            if self._progress:
                self._progress(self._known[value])
        return self._known[value]

    @property
    def tries(self) -> list[Try]:
        """All attempts in order."""
        return list(self._known.values())

    def best(self, choose: Callable[[Iterable[float]], float]) -> Try:
        """The largest or smallest value that kept the SLO."""
        return self._known[choose(each.value for each in self.tries if each.kept)]


def _once(scenario: Scenario) -> Scenario:
    """The scenario without its second replay under perfect forecasts, of which no figure here speaks."""
    return scenario.model_copy(update={"regret": False})


def _limited(scenario: Scenario) -> None:
    if all((each.ttft_s, each.tpot_s, each.deadline_s) == (None, None, None) for each in scenario.slo_classes):
        raise InputError("there is no limit to keep", field="slo", mend="give --ttft-slo or --tpot-slo")


def _try(made: Run, value: float, warm_up_s: float, target: float) -> Try:
    found = figures(made, warm_up_s)
    attainment = found["attainment"] or 0.0
    span = made.trace.span_s
    return Try(
        value,
        (made.trace.requests - 1) / span if span else 0.0,
        attainment,
        found["ttft_s_p99"],
        found["tpot_s_p99"],
        found["carbon_g_per_1k_output_tokens"],
        attainment >= target,
    )
