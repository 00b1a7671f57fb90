"""A fleet over a week: instances, tp and clock adapted to the load, against one that stands. Planned, then simulated.

The simulator carries a plan out (greener.plan): schedules for instances, a governor for the clock. A week of requests
would take minutes, so the week is run FAST times as fast: an hour of load lasts a minute, boots and control ticks are
shortened likewise, requests are not. Hours become minutes of the run's timeline; joules are stretched back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from carbonfleet.reproduce.greener.paper import TBT_LIMIT_S, WEEK_CARBON, WEEK_ENERGY
from carbonfleet.reproduce.greener.plan import ALL, PUE, REACHES, STATIC, TTFT_LIMIT_S, Choice, Planner, Reach
from carbonfleet.reproduce.greener.server import MAX_NUM_SEQS, Server, clocks
from profiles.grid import Signal
from profiles.profile import save
from profiles.units import SECONDS_PER_HOUR
from sim import fleet
from sim.run import Run, run
from sim.scenario import Scenario
from sim.tables import timeline_table
from sim.trace import Trace, generate
from sim.trace.change import scaled
from sim.trace.generator import GeneratorSpec
from sim.trace.model import Floats
from sim.trace.shape import HOURLY_FACTORS, week_factors

HOURS = 168
FAST = 60.0
RATE_PER_S = 20.0
SEED = 7
LENGTHS, MOST_PROMPT, MOST_OUTPUT = "azure-conv", 3072, 1000  # Llama 2 holds 4,096 tokens
BOOT_S = 120.0
TICK_S = 60.0
MONTHS = (1, 4, 7, 10)  # a week of each stands for the year's grid


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a week, run FAST times as fast, and the rate of each hour."""

    trace: Trace
    rates: Floats

    @property
    def prompt(self) -> int:
        """Mean prompt tokens."""
        return round(float(np.mean(self.trace.prompt_tokens)))

    @property
    def output(self) -> int:
        """Mean output tokens."""
        return round(float(np.mean(self.trace.output_tokens)))


def load() -> Load:
    """The generated week."""
    spec = GeneratorSpec(
        duration_s=HOURS * SECONDS_PER_HOUR, rate_per_s=RATE_PER_S / FAST, shape="weekly", lengths=LENGTHS,
        max_prompt_tokens=MOST_PROMPT, max_output_tokens=MOST_OUTPUT,
    )  # fmt: skip
    return Load(scaled(generate(spec, SEED), FAST), RATE_PER_S * week_factors())


def intensity(signal: Signal, utc_offset_h: float) -> Floats:
    """g/kWh of each hour of a week of local time from Monday 0 h: the mean of weeks of four seasons."""
    weeks = []
    edges_s = SECONDS_PER_HOUR * np.arange(HOURS + 1, dtype=np.float64)
    for month in MONTHS:
        first = np.datetime64(f"2023-{month:02d}-01")
        monday = first + (7 - (first.astype("datetime64[D]").astype(int) - 4) % 7) % 7  # 1970-01-05 was a Monday
        start_s = float(monday.astype("datetime64[s]").astype(np.int64)) - utc_offset_h * SECONDS_PER_HOUR
        window = signal.window(start_s, HOURS * SECONDS_PER_HOUR, align="recur")
        weeks.append(np.diff(window.integral(edges_s)) / SECONDS_PER_HOUR)
    return np.asarray(np.mean(weeks, axis=0))


def simulate(server: Server, made: Load, plan: list[Choice], reach: Reach, lifetime_years: float) -> Run:
    """The week under a plan."""
    with TemporaryDirectory() as folder:
        for tp in {choice.tp for choice in plan}:
            save(server.profiles[tp], Path(folder) / f"tp{tp}.json")
        document = _document(server, plan, lifetime_years, folder)
        scenario = Scenario.model_validate(document)
        document["controls"] = _controls(scenario, plan, reach, made)
        return run(Scenario.model_validate(document), trace=made.trace)


def _document(server: Server, plan: list[Choice], lifetime_years: float, folder: str) -> dict[str, Any]:
    profile = next(iter(server.profiles.values()))
    pools = [
        {
            **{"name": f"tp{tp}", "site": "here", "gpu": profile.gpu, "model": profile.model, "tp": tp},
            "instances": max(choice.instances for choice in plan if choice.tp == tp),
            **{"precision": profile.precision, "host": server.host.name, "max_num_seqs": MAX_NUM_SEQS},
        }
        for tp in sorted({choice.tp for choice in plan})
    ]
    return {
        "name": "week",
        "generator": {"duration_s": 1.0, "rate_per_s": 1.0},  # in its place stands the trace that is given
        "horizon_s": HOURS * SECONDS_PER_HOUR / FAST,
        "sites": [{"name": "here", "grid": "0", "pue": PUE}],
        "pools": pools,
        "slo": {"ttft_s": TTFT_LIMIT_S, "tpot_s": TBT_LIMIT_S},
        "accounting": {"lifetime_years": lifetime_years},
        "profiles": [folder],
    }


def _controls(scenario: Scenario, plan: list[Choice], reach: Reach, made: Load) -> list[dict[str, Any]]:
    """Schedules where instances change, and a governor: up to the fullness that the plan expects, its lowest clock."""
    controls: list[dict[str, Any]] = []
    hour_s = SECONDS_PER_HOUR / FAST
    for live in fleet.build(scenario, 0.0, hour_s):
        tp, name = live.spec.tp, live.spec.name
        counts = [choice.instances if choice.tp == tp else 0 for choice in plan]
        if reach.instances:
            at = [[k * hour_s, n] for k, n in enumerate(counts) if not k or n != counts[k - 1]]
            controls.append({"kind": "schedule", "pools": [name], "at": at, "keep": 0, "boot_s": BOOT_S / FAST})
        used = [choice for choice in plan if choice.tp == tp]
        lowest = min(choice.clock for choice in used)
        tokens = [choice.batch * (made.prompt + made.output) for choice in used if choice.clock == lowest]
        low = min(0.9, max(tokens) / live.token_limit)
        governor = {"clocks": [c for c in clocks(0.1) if c >= lowest], "low": low, "high": min(1.0, 2.0 * low)}
        controls.append({"kind": "clock", "pools": [name], "tick_s": TICK_S / FAST, **governor})
    return controls


def hourly(made: Run) -> tuple[Floats, Floats]:
    """Joules of each hour of the week: all with hosts and PUE, and the GPUs' alone."""
    table = timeline_table(made)
    minute = np.asarray(table["time_s"]) // (SECONDS_PER_HOUR / FAST)

    def joules(column: str) -> Floats:
        watts = np.bincount(minute.astype(np.int64), np.asarray(table[column]), HOURS)
        return np.asarray(watts * SECONDS_PER_HOUR, dtype=np.float64)

    return joules("power_w"), joules("gpu_power_w")


def rows(server: Server, signal: Signal, utc_offset_h: float, lifetime_years: float) -> dict[str, Any]:
    """Every policy planned and simulated, beside the published savings."""
    made = load()
    planner = Planner(server, made.prompt, made.output)
    grams = intensity(signal, utc_offset_h)
    policies: list[dict[str, Any]] = []
    static: dict[str, Any] | None = None
    for reach in REACHES:
        plan = planner.plan(reach, made.rates)
        result = simulate(server, made, plan, reach, lifetime_years)
        row = _policy(reach, plan, result, grams, server)
        static = static or row
        row |= {f"{name}_saving": 1.0 - row[name] / static[name] for name in _SAVED}
        row["planned_saving"] = 1.0 - row["planned_energy_j"] / static["planned_energy_j"]
        policies.append(row)
    return {
        "requests": made.trace.requests,
        "mean_prompt_tokens": made.prompt,
        "mean_output_tokens": made.output,
        "rate_per_s": list(made.rates),
        "intensity_g_per_kwh": list(grams),
        "policies": policies,
        "what_ifs": what_ifs(planner, grams),
        "operational_saving_by_shift": _shifted(policies[0], policies[-1], grams),
        "published": {"energy_saving": WEEK_ENERGY, "operational_saving": WEEK_CARBON},
    }


_SAVED = ("energy_j", "gpu_energy_j", "operational_g")


def _policy(reach: Reach, plan: list[Choice], result: Run, grams: Floats, server: Server) -> dict[str, Any]:
    joules, gpu_joules = hourly(result)
    summary = result.summary
    units = max(-(-choice.instances // server.instances(choice.tp)) for choice in plan)
    of_unit_g = FAST * summary["carbon_g"]["embodied"] / sum(pool.units for pool in result.pools)
    return {
        "policy": reach.name,
        "instances": [choice.instances for choice in plan],
        "tp": [choice.tp for choice in plan],
        "planned_clock": [choice.clock for choice in plan],
        "units": units,
        "power_w": list(joules / SECONDS_PER_HOUR),
        "energy_j": float(joules.sum()),
        "gpu_energy_j": float(gpu_joules.sum()),
        "planned_energy_j": sum(choice.power_w for choice in plan) * SECONDS_PER_HOUR,
        "operational_g": float((joules * grams).sum() / 3.6e6),
        "embodied_g": units * of_unit_g,
        "attainment": summary["slo"]["attainment"],
        "ttft_p99_s": summary["ttft_s"]["p99"],
        "tbt_mean_s": summary["tbt_s"]["mean"],
        "completed": summary["requests"]["completed"],
    }


def what_ifs(planner: Planner, grams: Floats) -> list[dict[str, Any]]:
    """Savings of the whole adaptation as planned, when something else were so; not simulated."""
    steep = RATE_PER_S * week_factors([1.0 + 1.8 * (f - 1.0) for f in HOURLY_FACTORS], [1.24] * 5 + [0.4] * 2)
    usual = RATE_PER_S * week_factors()
    once = replace(ALL, once=True)
    cases: tuple[tuple[str, Floats, float], ...] = (
        ("as simulated", usual, 1.0),
        ("tp chosen once for the week", usual, 1.0),
        ("a load of 1.9 times the mean by day and 0.1 by night, weekends at 0.4", steep, 1.0),
        ("ten times the load", 10.0 * usual, 1.0),
        ("a tenth of the load", 0.1 * usual, 1.0),
        ("a static fleet bought for 1.5 times the peak", usual, 1.5),
        ("a static fleet bought for twice the peak", usual, 2.0),
        ("both: the steep load, a fleet for twice its peak", steep, 2.0),
    )
    found = []
    for name, rates, reserve in cases:
        reach = once if name.startswith("tp chosen") else ALL
        static, all_ = planner.plan(STATIC, rates, reserve), planner.plan(reach, rates, reserve)
        watts = [np.array([choice.power_w for choice in plan]) for plan in (static, all_)]
        gpus = [sum(choice.gpu_power_w for choice in plan) for plan in (static, all_)]
        found.append(
            {
                "case": name,
                "static_instances": static[0].instances,
                "energy_saving": 1.0 - float(watts[1].sum() / watts[0].sum()),
                "gpu_energy_saving": 1.0 - gpus[1] / gpus[0],
                "operational_saving": 1.0 - float((watts[1] * grams).sum() / (watts[0] * grams).sum()),
            }
        )
    return found


def _shifted(static: dict[str, Any], other: dict[str, Any], grams: Floats) -> list[float]:
    """Operational carbon saved if the grid's hours came 0 to 23 hours later against the load."""
    before, after = (np.array(row["power_w"]) for row in (static, other))
    return [1.0 - float((after * at).sum() / (before * at).sum()) for at in (np.roll(grams, k) for k in range(24))]
