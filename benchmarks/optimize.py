"""Speed of the fleet program at the size planners have, building included, in a process of its own each.

    .venv/bin/python -m benchmarks.optimize            all five questions
    .venv/bin/python -m benchmarks.optimize hours      one of hours, years, futures, apart, naive

A synthetic market: the catalogue's figures of ten GPUs in twelve configurations each (tp 1 or 4, clock 1, 0.75 or 0.5,
batch 16 or 96) at three sites, fifty classes of requests of two models, timed by a bare roofline.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from optimizer import solver
from optimizer.program import Cap, Column, Option, Program
from optimizer.pruned import hull
from optimizer.solver import solve_program
from profiles import catalog

GPUS = (
    "t4",
    "v100-sxm-16gb",
    "l4",
    "a10g",
    "a40",
    "l40s",
    "a100-sxm-80gb",
    "h100-sxm-80gb",
    "h200-sxm-141gb",
    "mi300x",
)
CONFIGS = [(tp, clock, batch) for tp in (1, 4) for clock in (1.0, 0.75, 0.5) for batch in (16, 96)]
MODELS = ((8.0e9, 131072.0), (70.6e9, 327680.0))  # parameters, KV bytes of a token
LENGTHS = (64, 256, 1024, 2048, 8192), (16, 64, 256, 512, 1024)
SITES = 3
YEAR_S = 31536000.0
LIMIT_S, GAP, TPOT_S, TTFT_S = 60.0, 1e-3, 0.06, 3.0


@dataclass(frozen=True)
class Served:
    """GPU-seconds and joules above idle of one request of a class in one configuration."""

    gpu_s: float
    joules: float


def roofline(gpu: catalog.Gpu, model: int, prompt: int, output: int, config: tuple[int, float, int]) -> Served | None:
    """A request on a configuration; None where it does not fit or misses a limit."""
    tp, clock, batch = config
    params, kv = MODELS[model]
    memory, tdp = gpu.memory_bytes * tp, gpu.tdp_w or 300.0
    context = prompt + 0.5 * output
    if 2.0 * params + batch * context * kv > 0.9 * memory:
        return None
    flops, bandwidth = 0.5 * gpu.flops_bf16 * tp * clock, 0.7 * gpu.bandwidth_bytes_per_s * tp
    prefill_s = max(2.0 * params * prompt / flops, 2.0 * params / bandwidth)
    step_s = max((2.0 * params + batch * context * kv) / bandwidth, 2.0 * params * batch / flops)
    if step_s > TPOT_S or prefill_s > TTFT_S:
        return None
    instance_s = prefill_s + output * step_s / batch
    active_w = 0.85 * tdp * (0.4 + 0.6 * clock * (0.6 + 0.4 * clock) ** 2)
    return Served(instance_s * tp, instance_s * tp * active_w)


def market(slices: int, years: int = 1, futures: int = 1, pooled: bool = True, seed: int = 0) -> Program:
    """The program: F1 with pooled configurations, or the naive one with every configuration bought apart."""
    draw = np.random.default_rng(seed)
    hours = np.arange(slices)
    rate = 40.0 * (1.0 + 0.5 * np.sin(2 * np.pi * (hours % 24 - 9) / 24)) * draw.uniform(0.9, 1.1, slices)
    grid = np.array([30.0, 250.0, 450.0])[:, None] * (1.0 + 0.4 * np.cos(2 * np.pi * (hours % 24 - 20) / 24))
    share = draw.dirichlet(np.ones(50))
    classes = [(m, p, o) for m in range(2) for p in LENGTHS[0] for o in LENGTHS[1]]
    seconds = YEAR_S * (5.0 if years == 1 else 1.0) / slices / futures
    ways = draw.uniform(0.7, 1.3, (futures, 2)) if futures > 1 else np.ones((1, 2))
    parts = [(y, f, t) for y in range(years) for f in range(futures) for t in range(slices)]
    level = np.array([rate[t] * ways[f, 0] * 1.15**y for y, f, t in parts])
    clean = np.array([[grid[r, t] * ways[f, 1] * 0.97**y for y, f, t in parts] for r in range(SITES)])
    options: list[Option] = []
    columns: list[Column] = []
    caps, running = [], []
    groups = 0
    for name in GPUS:
        gpu = catalog.gpu(name)
        idle_w, kg = 0.15 * (gpu.tdp_w or 300.0) + 60.0, 150.0 * (gpu.memory_gb / 80.0) ** 0.5
        served = {
            c: [each for k, config in enumerate(CONFIGS) if (each := roofline(gpu, *cls, config)) for _ in [k]]
            for c, cls in enumerate(classes)
        }
        points = {
            c: [each[i] for i in hull([(s.gpu_s, s.joules, n) for n, s in enumerate(each)])] if pooled else each
            for c, each in served.items()
        }
        for r in range(SITES):
            apart = 1 if pooled else max((len(each) for each in points.values()), default=0)
            for k in range(apart):
                group = groups
                groups += 1
                power_g = [
                    idle_w * seconds * sum(clean[r, i] for i, part in enumerate(parts) if part[0] == y) / 3.6e6
                    for y in range(years)
                ]
                for year in range(years):
                    there = frozenset(range(year, years)) if years > 1 else None
                    left = (years - year) / 5.0 if years > 1 else 1.0
                    cost = kg * 1000.0 * left + (0.0 if years > 1 else power_g[0])
                    options.append(Option(cost, 4000, group=group, periods=there))
                running.append(tuple(power_g))
                for c, each in points.items():
                    for s in each if pooled else each[k : k + 1]:
                        demand_g = s.joules * share[c] * level * seconds * clean[r] / 3.6e6
                        load = s.gpu_s * share[c] * level / 0.8
                        columns += [
                            Column(c * len(parts) + i, group, float(load[i]), float(demand_g[i]))
                            for i in range(len(parts))
                        ]
    caps = [Cap(60000.0, dict.fromkeys(range(len(options)), 1.0), whole=True)]
    demands = [i for _ in classes for i in range(len(parts))]
    years_of = tuple(part[0] for part in parts) if years > 1 else None
    return Program(options, columns, demands, caps, period_of=years_of, running=tuple(running) if years > 1 else None)


QUESTIONS = {
    "hours": ("96 slices, configurations by the hour (F1), whole units", {"slices": 96}),
    "years": ("5 purchase years x 24 slices", {"slices": 24, "years": 5}),
    "futures": ("30 futures x 24 slices, one purchase", {"slices": 24, "futures": 30}),
    "apart": ("96 slices, every configuration bought apart (F0e)", {"slices": 96, "pooled": False}),
    "naive": ("the same, all columns at once and no branch and price", {"slices": 96, "pooled": False}),
}


def ask(name: str) -> None:
    """One question: size, seconds, gap, memory."""
    title, size = QUESTIONS[name]
    limit_s = 120.0 if name == "futures" else LIMIT_S
    if name == "naive":
        solver.MANY = sys.maxsize
    began = time.perf_counter()
    program = market(**size)  # type: ignore[arg-type]
    built_s = time.perf_counter() - began
    found = solve_program(program, time_limit_s=limit_s - built_s, gap_rel=GAP)
    gap = "no plan" if found.gap is None else f"gap {100 * found.gap:.3f} % ({100 * GAP:g} % asked)"
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{title}: {len(program.columns):,} columns, {len(program.options):,} purchases; {found.status}, {gap}, "
        f"{time.perf_counter() - began:.1f} s in all ({built_s:.1f} s for the market), {peak_gb:.2f} GB",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    """Ask what is named, or everything, each in a process of its own."""
    if arguments:
        return ask(arguments[0])
    for name in QUESTIONS:
        subprocess.run([sys.executable, "-m", "benchmarks.optimize", name], check=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
