"""Routers by hand, the one in the docs, and queues whose waiting times are known in closed form."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from profiles.inputs import InputError
from profiles.profile import Profile, load, save, shipped_folder
from sim.routing import ROUTERS
from sim.run import Run, run
from sim.scenario import Scenario
from sim.tables import timeline_table
from sim.trace.model import Trace

ROOT = Path(__file__).resolve().parents[1]


def pool(first: int, count: int, limit: float = 1000.0, kv: int = 1000, longest: int | None = None) -> Any:
    return SimpleNamespace(
        numbers=range(first, first + count),
        token_limit=limit,
        model=SimpleNamespace(kv_capacity_tokens=kv),
        spec=SimpleNamespace(max_prompt_tokens=longest),
        prompt_j=1.0,
        output_j=1.0,
        pue=1.0,
        intensity_now=lambda now_s: 100.0,
    )


def feed(router: Any, *sizes: int) -> list[int]:
    """Route requests of these prompt tokens (one output token each) that never complete."""
    chosen = []
    for prompt in sizes:
        number = router.route(0.0, prompt, 1, 0)
        router.assigned(number, prompt + 1)
        chosen.append(number)
    return chosen


def test_tokens_and_requests_are_different_loads() -> None:
    pools = [pool(0, 2)]
    assert feed(ROUTERS["least-outstanding-tokens"](pools), 500, 10, 10, 10) == [0, 1, 1, 1]
    assert feed(ROUTERS["least-outstanding-requests"](pools), 500, 10, 10, 10) == [0, 1, 0, 1]
    assert feed(ROUTERS["round-robin"](pools), 500, 10, 10) == [0, 1, 0]


def test_least_kv_counts_shares_of_unlike_memories() -> None:
    router = ROUTERS["least-kv"]([pool(0, 1, kv=1000), pool(1, 1, kv=9000)])
    assert feed(router, 99, 99, 99, 99, 99) == [0, 1, 1, 1, 1]
    router.completed(0, 100)
    assert router.route(0.0, 1, 1, 0) == 0


def test_spill_over_fills_home_first() -> None:
    router = ROUTERS["spill-over"]([pool(0, 2, limit=100.0), pool(2, 1, limit=100.0)])
    assert feed(router, 119, 119, 99, 50) == [0, 1, 2, 2]  # all full in the end: the least loaded for its size
    router.completed(0, 120)
    assert router.route(0.0, 1, 1, 0) == 0


def test_lengths_go_to_the_pools_made_for_them() -> None:
    router = ROUTERS["by-length"](
        [pool(0, 1), pool(1, 1, longest=100), pool(2, 1, longest=100), pool(3, 1, longest=400)]
    )
    assert feed(router, 50, 50, 100, 101, 4000) == [1, 2, 1, 3, 0]
    closed = ROUTERS["by-length"]([pool(0, 1, longest=10), pool(1, 1, longest=20)])
    assert feed(closed, 500) == [1]


def test_two_choices_are_seeded_and_beat_one() -> None:
    pools, rng = [pool(0, 50)], np.random.default_rng(0)
    sizes = rng.integers(1, 1000, 5000).tolist()
    router = ROUTERS["power-of-two-choices"](pools, 7)
    chosen = feed(router, *sizes)
    assert chosen == feed(ROUTERS["power-of-two-choices"](pools, 7), *sizes)
    assert chosen != feed(ROUTERS["power-of-two-choices"](pools, 8), *sizes)
    alone = np.bincount(rng.integers(0, 50, 5000), weights=sizes, minlength=50)
    loads = np.bincount(chosen, weights=sizes, minlength=50)
    assert loads.max() - loads.min() < 0.25 * (alone.max() - alone.min())


def test_an_unknown_router_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean least-kv"):
        Scenario.model_validate(asked() | {"routing": "leest-kv"})


def test_the_router_of_the_docs_works(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "scenario.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(from sim.routing.*?)```", page, re.DOTALL)
    assert code is not None
    before = dict(ROUTERS)
    try:
        exec(code[1], {})
        document = asked(rate=1.0, seconds=240.0) | {"routing": "evens"}
        document["pools"] += [document["pools"][0] | {"name": "b"}]
        made = run(Scenario.model_validate(document))
        minute = (np.array(made.trace.arrival_s) // 60).astype(int) % 2
        assert (np.frombuffer(made.played.requests.instance, dtype=np.int64) == minute).all()
    finally:
        ROUTERS.clear()
        ROUTERS.update(before)


@pytest.mark.parametrize("name", list(ROUTERS))
def test_every_router_keeps_the_books(name: str) -> None:
    document = asked(rate=6.0, seconds=120.0) | {"routing": name}
    document["pools"][0] |= {"instances": 2, "max_prompt_tokens": 500}
    document["pools"] += [
        {**document["pools"][0], "name": "l4", "gpu": "l4", "instances": 3, "max_prompt_tokens": None}
    ]
    if getattr(ROUTERS[name], "pairs", False):
        document["kv_transfer"] = {"gb_per_s": 25.0, "joules_per_gb": 5.0}
        document["pools"] = [
            p | {"role": role} for p, role in zip(document["pools"], ("prefill", "decode"), strict=True)
        ]
    if name == "planned":
        document["plan"] = {"buckets": [{}], "slices": [{"shares": [{"a": 3.0, "l4": 1.0}]}]}
    made = run(Scenario.model_validate(document))
    again = run(Scenario.model_validate(document), engine="step")
    assert made.summary["requests"]["completed"] == made.summary["requests"]["total"] > 500
    assert max(made.summary["balance"].values()) < 1e-9
    assert made.summary["carbon_g"]["total"] == pytest.approx(again.summary["carbon_g"]["total"], rel=1e-9)
    assert np.array_equal(
        np.frombuffer(made.played.requests.instance, dtype=np.int64),
        np.frombuffer(again.played.requests.instance, dtype=np.int64),
    )


def asked(rate: float = 1.0, seconds: float = 60.0) -> dict[str, Any]:
    return {
        "generator": {"rate_per_s": rate, "duration_s": seconds, "lengths": "azure-conv"},
        "start": "2023-06-01T00:00:00Z",
        "seed": 1,
        "sites": [{"name": "s", "grid": "400"}],
        "pools": [{"name": "a", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 1}],
    }


STEP_S = 0.01


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A profile whose every step takes STEP_S, whatever the batch or the prompt."""
    shipped: Profile = load(shipped_folder() / "h100-sxm-80gb_llama-3.1-8b_tp1_bf16_vllm.json")
    d, p = shipped.decode, shipped.prefill
    profile = shipped.model_copy(
        update={
            "decode": d.model_copy(update={"time_s": [STEP_S] * len(d.time_s)}),
            "prefill": p.model_copy(update={"time_s": [STEP_S] * len(p.time_s)}),
            "engine_term": None,
        }
    )
    return save(profile, tmp_path / "flat.json")


def queue(flat: Path, rate: float, steps: Any, servers: int, requests: int, seed: int) -> Run:
    """Poisson arrivals at `rate`, each `steps` engine steps long, on `servers` places of one instance."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate, requests))
    arrivals -= arrivals[0]
    outputs = steps(rng, requests)
    trace = Trace("poisson", arrivals, np.ones(requests, dtype=np.int32), outputs.astype(np.int32))
    document = asked() | {"profiles": [str(flat)]}
    document["pools"][0] |= {"max_num_seqs": servers, "batching": "chunked"}
    return run(Scenario.model_validate(document), trace=trace)


def wait_s(made: Run) -> tuple[float, float]:
    """Mean wait for the first step's begin, and its standard error from 20 batches of requests."""
    requests = made.played.requests
    waits = np.frombuffer(requests.start_s) - np.array(requests.arrival_s)
    batches = waits[len(waits) // 20 :].reshape(-1)
    means = [part.mean() for part in np.array_split(batches, 20)]
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(20))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_server_of_fixed_service_is_m_d_1(flat: Path, load: float) -> None:
    """Wait = rho s / (2 (1 - rho))."""
    service = 20 * STEP_S
    made = queue(flat, load / service, lambda rng, n: np.full(n, 20), 1, 20_000, seed=3)
    mean, error = wait_s(made)
    assert abs(mean - load * service / (2 * (1 - load))) < 3.5 * error


def test_one_server_of_any_service_is_m_g_1(flat: Path) -> None:
    """Pollaczek and Khinchine: lambda E[s^2] / (2 (1 - rho)); service geometric, in whole steps."""
    mean_steps, load = 20.0, 0.6

    def steps(rng: Any, n: int) -> Any:
        return np.minimum(rng.geometric(1.0 / mean_steps, n), 400)

    sample = steps(np.random.default_rng(5), 200_000) * STEP_S
    rate = load / float(sample.mean())
    made = queue(flat, rate, steps, 1, 30_000, seed=5)
    mean, error = wait_s(made)
    wanted = rate * float((sample**2).mean()) / (2 * (1 - load))
    assert abs(mean - wanted) < 3.5 * error + 0.02 * wanted


def test_several_places_of_fixed_service_are_m_d_c(flat: Path) -> None:
    """Cosmetatos' approximation of M/D/c (1 % at this load); an arrival waits for the running step's end besides."""
    servers, load, steps = 4, 0.8, 100
    service = steps * STEP_S
    made = queue(flat, load * servers / service, lambda rng, n: np.full(n, steps), servers, 30_000, seed=7)
    mean, error = wait_s(made)
    a = load * servers
    erlang_b = (a**servers / math.factorial(servers)) / sum(a**k / math.factorial(k) for k in range(servers + 1))
    erlang_c = erlang_b / (1 - load + load * erlang_b)
    m_m_c = erlang_c * service / (servers * (1 - load))
    tuned = 1 + (1 - load) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * servers * load)
    boundary = STEP_S  # at most: steps of the four run together
    assert 0.5 * m_m_c * tuned * 0.98 - 3.5 * error < mean < 0.5 * m_m_c * tuned * 1.02 + 3.5 * error + boundary


def test_little_s_law_holds_exactly() -> None:
    """Mean number in the system = rate x mean time in it, both counted over the whole run until the last has left."""
    made = run(Scenario.model_validate(asked(rate=12.0, seconds=300.0)))
    requests = made.played.requests
    arrival, finish = np.array(requests.arrival_s), np.frombuffer(requests.finish_s)
    events = np.sort(np.concatenate([arrival, finish]))
    inside = np.searchsorted(np.sort(arrival), events, "right") - np.searchsorted(np.sort(finish), events, "right")
    span = finish.max() - arrival.min()
    number = float((inside[:-1] * np.diff(events)).sum() / span)
    assert number == pytest.approx(requests.size / span * float((finish - arrival).mean()), rel=1e-9)
    e2e = made.summary["e2e_s"]["mean"]
    assert e2e == pytest.approx(float((finish - arrival).mean()), rel=1e-12)


def test_little_s_law_holds_in_the_timeline_too() -> None:
    """Requests waiting and running, minute by minute and pool by pool, add up to the seconds all requests spent."""
    document = asked(rate=30.0, seconds=240.0) | {"horizon_s": 600.0, "routing": "round-robin"}
    document["pools"] += [{**document["pools"][0], "name": "b", "gpu": "a100-sxm-80gb"}]
    made = run(Scenario.model_validate(document))
    table = timeline_table(made).to_pydict()
    requests = made.played.requests
    arrival, start = np.array(requests.arrival_s), np.frombuffer(requests.start_s)
    finish, instance = np.frombuffer(requests.finish_s), np.frombuffer(requests.instance, dtype=np.int64)
    assert finish.max() < 600.0
    for number, name in enumerate(("a", "b")):
        rows = [k for k, pool_ in enumerate(table["pool"]) if pool_ == name]
        mine = instance == number
        waited, served = (start - arrival)[mine].sum(), (finish - start)[mine].sum()
        assert sum(table["waiting"][k] for k in rows) * 60.0 == pytest.approx(waited, rel=1e-9, abs=1e-6)
        assert sum(table["running"][k] for k in rows) * 60.0 == pytest.approx(served, rel=1e-9)
    first = rows[0]
    begun, ended = np.clip(start[mine], 0, 60), np.clip(finish[mine], 0, 60)
    assert table["running"][first] == pytest.approx((ended - begun).sum() / 60.0, rel=1e-9)


def test_three_times_overload_is_linear_and_loses_nothing() -> None:
    def made(seconds: float) -> Run:
        document = asked(rate=90.0, seconds=seconds)
        document["horizon_s"] = seconds
        document["slo"] = {"ttft_s": 1.0}
        return run(Scenario.model_validate(document))

    short, long = made(60.0), made(240.0)
    for each in (short, long):
        assert each.summary["requests"]["completed"] == each.summary["requests"]["total"]
    assert long.summary["queue_s"]["mean"] > 2.5 * short.summary["queue_s"]["mean"]
    assert long.summary["slo"]["attainment"] < 0.2
    assert long.played.loop_s < 12 * short.played.loop_s + 0.5  # four times the requests; quadratic would be 16 times


def test_a_router_that_is_not_there_is_refused_on_the_command_line() -> None:
    from carbonfleet.config import UsageError, build

    with pytest.raises((UsageError, InputError), match="did you mean spill-over"):
        build(None, {"trace": "t.csv", "model": "llama-3.1-8b", "routing": "spillover"}, ["l4:1@FR"], [])


def test_a_plan_is_carried_out_by_bucket_and_hour() -> None:
    document = asked(rate=2.0, seconds=7200.0) | {"routing": "planned", "output_predictor": "oracle"}
    document["start"] = "2023-06-02T23:00:00Z"  # a Friday's last hour, then a Saturday's first
    document["pools"] += [document["pools"][0] | {"name": "b"}]
    short, rest = {"max_prompt_tokens": 500, "max_output_tokens": 200}, {}
    friday = {"days": "weekday", "shares": [{"a": 1.0}, {"a": 1.0, "b": 3.0}]}  # weights, which need not sum to one
    saturday = {"days": "weekend", "shares": [{"b": 1.0}, {"a": 1.0}]}
    document["plan"] = {"buckets": [short, rest], "slices": [friday, saturday]}
    made = run(Scenario.model_validate(document))
    where = np.frombuffer(made.played.requests.instance, dtype=np.int64)
    late = made.trace.arrival_s >= 3600.0
    small = (made.trace.prompt_tokens <= 500) & (made.trace.output_tokens <= 200)
    assert (where[~late & small] == 0).all()
    assert where[~late & ~small].mean() == pytest.approx(0.75, abs=0.01)
    assert (where[late & small] == 1).all()
    assert (where[late & ~small] == 0).all()
    document["plan"]["slices"] = [friday]
    with pytest.raises(InputError, match="no slice covers 0 h of a weekend"):
        run(Scenario.model_validate(document))
    document["plan"]["slices"] = [friday | {"days": "all", "shares": [{"c": 1.0}, {"a": 1.0}]}]
    with pytest.raises(InputError, match="unknown pool 'c'"):
        run(Scenario.model_validate(document))
    with pytest.raises(InputError, match="follows a plan"):
        run(Scenario.model_validate(document | {"plan": None}))


def test_prompts_go_where_their_prefix_is(replay: Any) -> None:
    """Two conversations in turn: each stays with its instance, where its cache is; least loaded would mix them."""
    rows = [(0.25 * k, 64 + 16 * (k // 2), 8) for k in range(20)]
    ids = [[100 * (k % 2) + n for n in range(4 + k // 2)] for k in range(20)]
    played = replay(rows, instances=2, prefixes=ids, routing="prefix-affine")
    assert {k: len({played.requests.instance[i] for i in range(k, 20, 2)}) for k in (0, 1)} == {0: 1, 1: 1}
    mixed = replay(rows, instances=2, prefixes=ids, routing="least-kv")
    assert sum(played.requests.cached) > sum(mixed.requests.cached) or list(played.requests.instance) == list(
        mixed.requests.instance
    )


def test_a_stated_hit_rate_is_computed_no_more(replay: Any) -> None:
    played = replay([(0.0, 128, 2)], prefix_hit_rate=0.5)
    assert played.requests.cached[0] == 64
    assert played.requests.first_token_s[0] == 64 / 1024
    assert replay([(0.0, 128, 2)], prefix_hit_rate=1.0).requests.cached[0] == 112  # whole blocks, one token computed
