"""What each mechanism is worth against real vLLM logs: everything on, then one thing off at a time.

    .venv/bin/python -m benchmarks.fidelity

Needs LLMServingSim's tables and logs beside the checkout (shared/data/profiles/llmservingsim). Prints the table of
docs/fidelity.md: errors of simulated against measured means and 99th percentiles, in per cent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from profiles import catalog
from profiles.importers import llmservingsim
from profiles.profile import Mixed, Profile, save
from sim.against import compare, read_log
from sim.run import load_trace, run
from sim.scenario import Scenario
from sim.trace import Trace

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "profiles" / "llmservingsim"
LLAMA = "sharegpt-llama-3.1-8b-300-sps10.jsonl"
QWEN = "sharegpt-qwen3-30b-a3b-300-sps10.jsonl"
LOGS: dict[str, dict[str, Any]] = {
    "RTX PRO 6000, Llama-3.1-8B": {
        "hardware": "RTXPRO6000",
        "bench": "RTXPRO6000_Llama-3.1-8B",
        "workload": LLAMA,
        "pool": {"gpu": "rtx-pro-6000", "model": "llama-3.1-8b", "max_num_seqs": 128},
    },
    "RTX PRO 6000, Qwen3-30B-A3B, dp 2 ep": {
        "hardware": "RTXPRO6000",
        "bench": "RTXPRO6000_Qwen3-30B-A3B-Instruct-2507",
        "workload": QWEN,
        "pool": {"gpu": "rtx-pro-6000", "model": "qwen3-30b-a3b", "max_num_seqs": 128, "dp": 2, "ep": True},
    },
    "RTX 4090, Llama-3.1-8B": {
        "hardware": "RTX4090",
        "bench": "RTX4090_Llama-3.1-8B",
        "workload": LLAMA,
        "pool": {"gpu": "rtx-4090", "model": "llama-3.1-8b", "max_num_seqs": 256},
    },
}
Change = Callable[[Profile], Profile]


def without_exchange(profile: Profile) -> Profile:
    """Experts alone: the ranks exchange nothing."""
    shared = profile.lockstep
    if shared is None:
        return profile
    llm = catalog.llm(profile.model)
    kept = [t - llmservingsim.exchange_s(llm, profile.ep, n) for n, t in zip(shared.tokens, shared.time_s, strict=True)]
    return profile.model_copy(update={"lockstep": shared.model_copy(update={"time_s": kept})})


# name -> what changes in the importer's host time, the profile, the pool; None: the mechanism does not occur there
OFF: dict[str, dict[str, Any]] = {
    "nothing": {},
    "host time of the engine": {"sequence_s": 0.0},
    "host time of the engine, but the term for unlike contexts on": {"sequence_s": 0.0, "skew": True},
    "nothing, and the term for unlike contexts on": {"skew": True},
    "asynchronous scheduling": {"pool": {"async_scheduling": False}},
    "the prefix cache": {"pool": {"prefix_cache": False}},
    "the table of mixed steps (prefill + 2 x decode attention instead)": {
        "profile": lambda p: p.model_copy(update={"mixed": Mixed(rule="attention", factor=2.0)})
    },
    "the exchange between ranks": {"profile": without_exchange, "only": "dp 2 ep"},
    "the log's own max_num_seqs (1,024 instead)": {"pool": {"max_num_seqs": 1024}},
    "the log's own token budget (8,192 instead of 2,048)": {"pool": {"max_num_batched_tokens": 8192}},
}


def scenario(log: dict[str, Any], folder: str, off: dict[str, Any]) -> Scenario:
    """A log's scenario, its profile written to `folder`, with one mechanism off."""
    change: Change = off.get("profile", lambda profile: profile)
    for profile in llmservingsim.read_folder(
        DATA / "perf" / log["hardware"], off.get("sequence_s"), skew=bool(off.get("skew"))
    ):
        if profile.model == log["pool"]["model"] and profile.tp == 1:
            save(change(profile), Path(folder) / f"{profile.key}.json")
    pool = {"name": "p", "site": "s", "instances": 1, "max_num_batched_tokens": 2048} | log["pool"]
    document = {
        "sites": [{"name": "s", "grid": "CA-QC"}],
        "pools": [pool | off.get("pool", {})],
        "profiles": [folder],
        "trace": str(DATA / "bench" / log["bench"] / "requests.jsonl"),
        "workload": str(DATA / "workloads" / log["workload"]),
    }
    return Scenario.model_validate(document)


def errors(log: dict[str, Any], off: dict[str, Any], trace: Trace | None = None) -> dict[str, Any]:
    """What `--against` says of the log with one mechanism off."""
    with tempfile.TemporaryDirectory() as folder:
        made = run(scenario(log, folder, off), trace=trace)
        return compare(made, read_log(DATA / "bench" / log["bench"] / "requests.jsonl"))


def jittered(log: dict[str, Any], times: int = 20) -> dict[str, float]:
    """Medians over replays with every arrival moved by up to 1 ms: percentiles are chaotic where KV is short."""
    with tempfile.TemporaryDirectory() as folder:
        trace = load_trace(scenario(log, folder, {}))
    found: dict[str, list[float]] = {}
    for seed in range(times):
        moved = trace.arrival_s + np.random.default_rng(seed).uniform(-1e-3, 1e-3, trace.requests)
        order = np.maximum.accumulate(moved - moved[0])  # the order stays, so that the log's rows still match
        made = errors(log, {}, Trace(**{f: getattr(trace, f) for f in trace.__slots__} | {"arrival_s": order}))
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            for key in ("mean", "p99"):
                found.setdefault(f"{name} {key}", []).append(made[name]["error"][key])
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    """Print the tables."""
    for title, log in LOGS.items():
        print(f"\n{title}\n\n| switched off | TTFT mean | TPOT mean (P99) | E2E mean (P99) | request |\n{5 * '|---'}|")
        for name, off in OFF.items():
            if off.get("only", "") not in title:
                continue
            made = errors(log, off)
            cell = {n: {k: 100 * v for k, v in made[n]["error"].items()} for n in ("ttft_s", "tpot_s", "e2e_s")}
            spread = 100 * made["request_e2e_error"]["p50"]
            both = [f"{cell[n]['mean']:+.1f} % ({cell[n]['p99']:+.1f} %)" for n in ("tpot_s", "e2e_s")]
            print(f"| {name} | {cell['ttft_s']['mean']:+.1f} % | {both[0]} | {both[1]} | {spread:.1f} % |")
    medians = jittered(LOGS["RTX 4090, Llama-3.1-8B"])
    print("\nRTX 4090, median of 20 replays with +-1 ms jitter:", {k: f"{100 * v:+.1f} %" for k, v in medians.items()})


if __name__ == "__main__":
    main()
