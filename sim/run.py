"""`run(scenario)`: the result of one simulation, and the directory it is written to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from profiles import catalog
from profiles.inputs import InputError
from profiles.outputs import manifest, write_json, write_text
from profiles.units import SECONDS_PER_HOUR
from sim import fleet, summary, tables
from sim.account import PoolBooks, Shares, pool_books, shares
from sim.assumptions import DEFAULT_START, Assumption, assumptions
from sim.engine.interrupt import Interrupt
from sim.engine.loop import Played, play
from sim.fleet import LivePool
from sim.off import OffTimes, off_times
from sim.scenario import Scenario, anchored
from sim.streams import merged
from sim.trace import Trace, generate, read_trace
from sim.trace.change import repeated, scaled, shaped
from sim.trace.workload import with_workload


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One simulation: what was asked, what happened, and `summary` (the JSON of docs/metrics.md)."""

    scenario: Scenario
    trace: Trace
    pools: list[LivePool]
    played: Played
    books: list[PoolBooks]  # one a pool, drain included
    inside: list[PoolBooks]  # the same up to the horizon
    shares: Shares
    off: dict[str, OffTimes]  # by pool
    start_epoch_s: float
    horizon_s: float
    summary: dict[str, Any]

    def write(self, folder: str | Path, command: list[str] | None = None) -> Path:
        """Write config.yaml, summary.json, requests.parquet, timeline.parquet and manifest.json into `folder`.

        Raises:
            OutputError: the folder cannot be written.
        """
        import yaml

        target = Path(folder)
        asked = anchored(self.scenario, Path.cwd()).model_dump(mode="json", exclude_none=True)
        config = yaml.safe_dump(asked, sort_keys=False)
        write_text(target / "config.yaml", config)
        tables.write_requests(self, target / "requests.parquet")
        tables.write_timeline(self, target / "timeline.parquet")
        write_json(target / "summary.json", self.summary)
        write_json(target / "manifest.json", manifest(self.inputs(), seed=self.scenario.seed, command=command))
        return target

    def inputs(self) -> list[Path]:
        """Every file the run was made from."""
        named = [self.scenario.trace, self.scenario.workload, *(site.grid for site in self.scenario.sites)]
        named += [site.forecast for site in self.scenario.sites]
        named += [stream.trace for stream in self.scenario.streams]
        files = [Path(name) for name in named if name and Path(name).is_file()]
        files += catalog.own_files(self.scenario.own_catalog)
        return [*files, *(pool.profile_path for pool in self.pools if pool.profile_path)]


def run(
    scenario: Scenario,
    *,
    engine: str = "leap",
    trace: Trace | None = None,
    progress: Callable[[int, int], None] | None = None,
    interrupt: Interrupt | None = None,
    scratch: str | Path | None = None,
) -> Run:
    """Replay the scenario's trace on its fleet.

    Args:
        engine: `leap` jumps over unchanged batches; `step` visits every engine step (the oracle, slower).
        trace: replay this instead of reading or generating one.
        progress: called with (arrivals so far, all arrivals) now and then.
        interrupt: lets somebody end it early; the result is then partial and says so.
        scratch: folder for the temporary files of a long run (over sim.columns.BLOCK requests), which are gone with
            the result; default: the system's temporary folder.

    Raises:
        InputError: the trace, a name, a profile or a grid series is not what it must be.
        OutputError: the temporary files of a long run do not fit the disk.
    """
    with catalog.using(scenario.own_catalog):
        return _run(scenario, engine, trace, progress, interrupt, scratch)


def _run(
    scenario: Scenario,
    engine: str,
    trace: Trace | None,
    progress: Callable[[int, int], None] | None,
    interrupt: Interrupt | None,
    scratch: str | Path | None,
    perfect: bool = False,
) -> Run:
    began = perf_counter()
    if engine not in ("leap", "step"):
        raise InputError(f"unknown engine {engine!r}", field="engine", mend="use leap or step")
    trace = trace if trace is not None else load_trace(scenario, scratch)
    start_s, anchored = start_of(scenario, trace)
    horizon_s = scenario.horizon_s or max(1, math.ceil(trace.span_s / SECONDS_PER_HOUR)) * SECONDS_PER_HOUR
    pools = fleet.build(scenario, start_s, horizon_s, perfect)
    options: dict[str, Any] = {
        "start_s": start_s,
        "horizon_s": horizon_s,
        "leaping": engine == "leap",
        "scratch": scratch,
    }
    played = play(scenario, trace, pools, progress=progress, interrupt=interrupt, **options)
    if played.stopped_s is not None:
        horizon_s = min(horizon_s, max(played.stopped_s, 1.0))
    power = scenario.accounting.host_power
    off = {
        pool.spec.name: off_times(pool, [played.instances[number].ledger for number in pool.numbers], power)
        for pool in pools
    }
    both = [
        pool_books(pool, past, off[pool.spec.name], horizon_s, scenario.accounting)
        for pool, past in zip(pools, played.pasts, strict=True)
    ]
    books, inside = [whole for whole, _ in both], [part for _, part in both]
    owned = shares(books, played, scenario.accounting)
    rules: list[Assumption] = assumptions(scenario, pools, anchored, horizon_s)
    result = Run(scenario, trace, pools, played, books, inside, owned, off, start_s, horizon_s, {})
    result.summary.update(summary.summarise(result, rules, engine, perf_counter() - began))
    if scenario.regret and not perfect and played.stopped_s is None and foresight(scenario, pools):
        truth = _run(scenario, engine, trace, None, interrupt, scratch, perfect=True)
        if truth.played.stopped_s is None:  # half a year of perfect knowledge is nothing to regret by
            result.summary["regret"] = summary.regret(result.summary, truth.summary)
    return result


def foresight(scenario: Scenario, pools: list[LivePool]) -> bool:
    """Whether decisions rest on forecasts that might be wrong."""
    asks = any(
        control.kind == "defer"
        or (control.kind == "scale" and control.clean_target is not None)
        or (control.kind == "clock" and control.intensity)
        for control in scenario.controls
    )
    return asks and any(pool.site.window.min_g_per_kwh < pool.site.window.max_g_per_kwh for pool in pools)


def load_trace(scenario: Scenario, scratch: str | Path | None = None) -> Trace:
    """Read or generate what the scenario names; a long trace is kept in temporary files in `scratch`.

    Raises:
        InputError: the trace is broken, or has no request.
        OutputError: the temporary files do not fit the disk.
    """
    if scenario.streams:
        trace = merged(scenario)
    elif scenario.trace is not None:
        rules: dict[str, Any] = {"sort": scenario.sort_trace, "allow_bad_rows": scenario.allow_bad_rows}
        trace = read_trace(scenario.trace, **rules, scratch=scratch)
        if scenario.workload is not None:
            trace = with_workload(trace, scenario.workload)
        trace = scaled(repeated(trace, scenario.repeat), scenario.rate_scale)
        trace = shaped(trace, scenario.shape, _hour_of_week(scenario, trace))
    else:
        assert scenario.generator is not None
        trace = generate(scenario.generator, scenario.seed, scratch=scratch)
    if not trace.requests:
        raise InputError("the trace has no request", file=scenario.trace, mend="give a longer one or a higher rate")
    return trace


def _hour_of_week(scenario: Scenario, trace: Trace) -> float:
    """Hours from Monday 0 h UTC to the run's start."""
    return (start_of(scenario, trace)[0] / SECONDS_PER_HOUR + 72.0) % 168.0  # 1970 began on a Thursday


def start_of(scenario: Scenario, trace: Trace) -> tuple[float, str]:
    """UTC epoch seconds of the run's time 0, and where that comes from."""
    if scenario.start is not None:
        return scenario.start.timestamp(), "the scenario"
    if trace.start_utc_s is not None and np.isfinite(trace.start_utc_s):
        return float(trace.start_utc_s), "the trace's first arrival"
    return DEFAULT_START.timestamp(), "a default: neither scenario nor trace has a date"
