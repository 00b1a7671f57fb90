"""Speed of the simulator beside a bare SimPy loop, both timed in the same run: medians of five, interleaved.

    .venv/bin/python -m benchmarks.sim [TRACE]
    .venv/bin/python -m benchmarks.sim --growth [REQUESTS]    how cost grows with the trace and with the fleet

TRACE defaults to the Azure 2023 conversation trace of the shared data where it is there, else to a generated trace of
the same size and length shape. The million-request run is in a process of its own, so that its memory can be read.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import simpy

from sim.run import run
from sim.scenario import Scenario
from sim.trace import read_trace

ROUNDS = 5
BATCHING = ("chunked", "prefill-first", "static")
TIMEOUTS = 300_000
CONV = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces" / "azure_2023_conv.csv"
GENERATED = {"duration_s": 3502.0, "rate_per_s": 5.53, "lengths": "azure-conv"}


def bare_simpy() -> float:
    """Timeouts a second of one process that does nothing else."""
    env = simpy.Environment()

    def ticking():  # type: ignore[no-untyped-def]
        for _ in range(TIMEOUTS):
            yield env.timeout(1)

    env.process(ticking())
    began = time.perf_counter()
    env.run()
    return TIMEOUTS / (time.perf_counter() - began)


def scenario(trace: str | None, instances: int, batching: str = "chunked", **changes: object) -> Scenario:
    """H100s on llama-3.1-8b at one site, least outstanding tokens."""
    pool = {"name": "h100", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": instances}
    pool["batching"] = batching
    document = {"sites": [{"name": "s", "grid": "US-CAL-CISO"}], "pools": [pool]}
    source = {"trace": trace} if trace else {"generator": GENERATED}
    return Scenario.model_validate(document | source | changes)


def loop_speed(trace: str | None, instances: int, batching: str = "chunked") -> None:
    """Requests a second of the loop alone, against the bare loop of the same round."""
    asked = scenario(trace, instances, batching)
    replayed = read_trace(trace) if trace else None
    ratios, rates, bares = [], [], []
    for _ in range(ROUNDS):
        before = bare_simpy()
        rate = run(asked, trace=replayed).summary["requests_per_wall_s"]
        bare = 0.5 * (before + bare_simpy())
        ratios.append(bare / rate)
        rates.append(rate)
        bares.append(bare)
    print(
        f"loop, {batching}, {instances} instances: {statistics.median(rates):,.0f} requests/s; bare SimPy "
        f"{statistics.median(bares):,.0f} timeouts/s; 1/{statistics.median(ratios):.1f} of it (median of {ROUNDS})"
    )


def process_time(trace: str | None) -> None:
    """The whole `simulate` process: start-up, trace, loop, books, output directory.

    From the second run on, as users have it: the modules are compiled by the first, which is not counted, wherever
    this environment lets Python keep them or not.
    """
    simulate = Path(sys.executable).with_name("simulate")
    took, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "scenario.yaml"
        spec.write_text(json.dumps(scenario(trace, 8).model_dump(mode="json", exclude_none=True)))
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        kept["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        for _ in range(ROUNDS + 1):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [simulate, spec, "--json", "-o", f"{folder}/run"]
            subprocess.run(command, check=True, capture_output=True, env=kept)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took.append(time.perf_counter() - began)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    medians = [statistics.median(values[1:]) for values in (took, cpu)]
    print(f"whole process, 8 instances: {medians[0]:.2f} s, {medians[1]:.2f} s of CPU (median of {ROUNDS})")


def million() -> None:
    """1,000,000 generated requests on 40 instances: time and peak memory of this process."""
    generated = GENERATED | {"duration_s": 1_000_000 / 27.6, "rate_per_s": 27.6}
    began = time.perf_counter()
    summary = run(scenario(None, 40, generator=generated)).summary
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{summary['requests']['total']:,} requests on 40 instances: {time.perf_counter() - began:.0f} s in all, "
        f"{summary['requests_per_wall_s']:,.0f} requests/s in the loop, {peak_gb:.2f} GB at most"
    )


def one(requests: int, instances: int) -> None:
    """One generated run, its load in proportion to the fleet: cost of a request in the loop, time and memory in all.

    Memory is told apart: what the imports took, the most that was resident, and that over the requests.
    """
    rate = 0.69 * instances
    generated = GENERATED | {"duration_s": requests / rate, "rate_per_s": rate}
    before_gb, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, time.perf_counter()
    summary = run(scenario(None, instances, generator=generated)).summary
    took_s = time.perf_counter() - began
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cost_us = 1e6 * summary["loop_s"] / summary["requests"]["total"]
    each = 1e9 * (peak_gb - before_gb) / requests
    cost = f"{cost_us:5.1f} us a request in the loop; {took_s:6.1f} s in all"
    memory = f"{peak_gb:.2f} GB at most ({before_gb:.2f} before it, {each:,.0f} bytes a request)"
    print(f"{requests:>10,} requests, {instances:>5,} instances: {cost}, {memory}", flush=True)


def growth(most: int) -> None:
    """How cost grows with the trace (40 instances) and with the fleet (100,000 requests), each in its own process."""
    sizes = [(10**k, 40) for k in range(4, 9) if 10**k <= most]
    for requests, instances in [*sizes, *((100_000, n) for n in (4, 40, 400, 4000)), (most, 400)]:
        subprocess.run([sys.executable, "-m", "benchmarks.sim", "--one", str(requests), str(instances)], check=True)


def main(arguments: list[str]) -> None:
    if arguments == ["--million"]:
        return million()
    if arguments[:1] == ["--one"]:
        return one(*map(int, arguments[1:]))
    if arguments[:1] == ["--growth"]:
        return growth(int(arguments[1]) if len(arguments) > 1 else 1_000_000)
    trace = arguments[0] if arguments else str(CONV) if CONV.is_file() else None
    print(f"trace: {Path(trace).name if trace else 'generated'}")
    for batching in BATCHING:
        loop_speed(trace, 8, batching)
    loop_speed(trace, 4)
    process_time(trace)
    subprocess.run([sys.executable, "-m", "benchmarks.sim", "--million"], check=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
