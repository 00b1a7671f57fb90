"""The engines: known answers worked by hand, leap equal to stepping bit for bit, nothing ever lost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.grid import Window
from sim.engine.leap import boundary_after, boundary_s
from sim.engine.memory import PagedKv

TICK = 2.0**-30
POLICIES = ["chunked", "prefill-first", "static", "splitwise"]
LIMITS = {"max_num_seqs": 4, "max_num_batched_tokens": 64}


def columns(played):
    r = played.requests
    return {
        name: np.array(getattr(r, name))
        for name in ("start_s", "first_token_s", "finish_s", "energy_j", "busy_s", "gram_j", "produced", "instance")
    } | {"status": np.frombuffer(bytes(r.status), dtype=np.uint8)}


def assert_same(a, b):
    for name, left in columns(a).items():
        np.testing.assert_array_equal(left, columns(b)[name], err_msg=name)
    assert a.requests.preemptions == b.requests.preemptions
    for one, two in zip(a.instances, b.instances, strict=True):
        assert one.ledger.rows == two.ledger.rows


def test_one_request_by_hand(replay):
    # prefill 128/1024 s; then tokens 2 and 3 at contexts 129 and 130: 9/1024 + 129/2^20 and 9/1024 + 130/2^20
    played = replay([(0.0, 128, 3)])
    r = played.requests
    decode = 18 / 1024 + (129 + 130) / 2**20
    assert r.first_token_s[0] == 0.125
    assert r.finish_s[0] == pytest.approx(0.125 + decode, rel=1e-12)
    assert r.energy_j[0] == pytest.approx(0.125 * 512 + decode * 256, rel=1e-12)
    assert r.gram_j[0] == pytest.approx(100 * r.energy_j[0], rel=1e-12)


def test_a_single_output_token_ends_with_its_prefill(replay):
    played = replay([(0.0, 64, 1)])
    assert played.requests.finish_s[0] == played.requests.first_token_s[0] == 0.0625


def test_prefill_first_pauses_decoding_and_records_the_stall(replay):
    # the second prompt arrives while the first decodes: its prefill (64/1024 s) stalls the first request's next token
    played = replay([(0.0, 64, 10), (0.07, 64, 2)], batching="prefill-first")
    first_s, _, steps, batch = played.instances[0].ledger.gaps()
    assert np.dot(steps, batch) == 9 + 1  # one gap for each token after the first
    assert max(first_s) > 0.0625


def test_static_takes_no_one_until_the_batch_is_done(replay):
    played = replay([(0.0, 64, 50), (0.01, 64, 2)], batching="static")
    assert played.requests.start_s[1] == played.requests.finish_s[0]


def test_simultaneous_arrivals_are_prefilled_together(replay):
    played = replay([(0.0, 64, 2), (0.0, 64, 2)])
    assert played.requests.first_token_s[0] == played.requests.first_token_s[1] == 0.125


def test_a_request_that_never_fits_is_rejected(replay):
    played = replay([(0.0, 1 << 14, 1), (0.0, 16, 1)])
    assert list(played.requests.status) == [2, 1]


def test_paged_memory_preempts_and_still_finishes(replay, paper):
    memory = {"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": 256}
    played = replay([(0.0, 100, 60), (0.0, 100, 60)], profile=paper(memory=memory))
    assert played.requests.preemptions > 0
    assert list(played.requests.status) == [1, 1]


rows = st.lists(
    st.tuples(
        st.integers(0, 1 << 31).map(lambda ticks: ticks * TICK),
        st.integers(1, 300),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, policy=st.sampled_from(POLICIES), kv=st.sampled_from(["paged", "whole-request"]), tight=st.booleans())
def test_leap_equals_stepping_to_the_last_bit(replay, paper, rows, policy, kv, tight):
    capacity = 352 if tight else 1 << 14
    profile = paper(memory={"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": capacity})
    options = {"batching": policy, "kv": kv, "profile": profile, "instances": 2, **LIMITS}
    options["routing"] = "least-outstanding-tokens"
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    assert_same(leap, step)
    for played in (leap, step):
        assert_sound(played, rows)


def assert_sound(played, rows):
    """Every request ends, its tokens are all told, times rise, and its joules are the instances' own."""
    status = columns(played)["status"]
    assert (status > 0).all()
    tables = [i.ledger.table() for i in played.instances]
    busy = sum(np.dot(table["power_w"], table["to_s"] - table["from_s"]) for table in tables)
    moved = sum(owned.transfer_j for owned in played.owned)
    assert sum(played.requests.energy_j) == pytest.approx(busy + moved, rel=1e-9)
    times = np.array([played.requests.start_s, played.requests.first_token_s, played.requests.finish_s])
    assert (np.diff(times[:, status == 1], axis=0) >= 0).all()
    gaps = sum(np.dot(*i.ledger.gaps()[2:]) for i in played.instances)
    outputs = [out for _, _, out in sorted(rows, key=lambda r: r[0])]
    assert gaps == sum(out - 1 for out, ok in zip(outputs, status == 1, strict=True) if ok)


ROUTES = ["round-robin", "least-outstanding-tokens", "least-kv", "least-prefill-backlog", "spill-over", "mixed-pool"]
one_pool = st.fixed_dictionaries(
    {
        "batching": st.sampled_from(POLICIES),
        "kv": st.sampled_from(["paged", "whole-request"]),
        "async_scheduling": st.booleans(),
        "instances": st.integers(1, 2),
    }
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, one=one_pool, two=one_pool, route=st.sampled_from(ROUTES), apart=st.booleans(), tight=st.booleans())
def test_any_two_policies_leap_as_they_step(replay, paper, rows, one, two, route, apart, tight):
    profile = paper(
        memory={"weights_bytes": 1.0, "kv_bytes_per_token": 2.0**20, "kv_capacity_tokens": 352 if tight else 1 << 14}
    )
    if apart or route == "mixed-pool":
        one, two = one | {"role": "prefill"}, two | {"role": "decode"}
    link = {"kv_transfer": {"gb_per_s": 1.048576, "latency_s": 2.0**-10, "joules_per_gb": 1.0}}  # 2^-10 s a token
    options = {"pools": [one, two], "profile": profile, "routing": route, "scenario": link, **LIMITS}
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    assert_same(leap, step)
    assert_sound(leap, rows)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows, policy=st.sampled_from(POLICIES), dp=st.sampled_from([2, 3]), later=st.booleans(), tight=st.booleans()
)
def test_ranks_in_lockstep_leap_as_they_step(replay, paper, rows, policy, dp, later, tight):
    shared = {"tokens": [1, 1 << 14], "time_s": [2.0**-9, 2.0**-9 + (2.0**14 - 1) * 2.0**-16]}
    memory = {"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": 352 if tight else 1 << 14}
    options = {"profile": paper(ep=dp, lockstep=shared, memory=memory), "batching": policy, "dp": dp, "ep": True}
    options |= {"async_scheduling": later, "routing": "least-outstanding-tokens", **LIMITS}
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    assert_same(leap, step)
    assert_sound(leap, rows)


def test_splitwise_lets_sequences_take_turns_beside_prompts(replay):
    # 64 tokens a step: a prompt of 62 leaves room for two of three sequences; who sat out comes first in the next step
    rows = [(0.0, 1, 200)] * 3 + [(0.5, 62, 1)] * 4
    played = replay(rows, batching="splitwise", max_num_seqs=8, max_num_batched_tokens=64)
    (instance,), requests = played.instances, played.requests
    table = instance.ledger.table()
    mixed = table["gaps"] == 2  # GAP_OF_ROW: nobody sat out before
    beside = (table["batch"] == 2) & (table["from_s"] > 0.0) & (table["steps"] == 1)
    assert (mixed.sum(), beside.sum()) == (1, 4)
    first, second, third = requests.finish_s[:3]
    assert first < second == third  # they sat out in turn: 2, 1, 2, 1
    waits = np.frombuffer(instance.ledger.odd_gaps).reshape(-1, 4)
    steps = (table["to_s"] - table["from_s"])[beside]
    assert max(waits[:, 0]) == pytest.approx(max(steps[:-1] + steps[1:]), rel=1e-12)  # nobody sits out twice in a row


def test_a_rank_waits_for_the_slowest(replay, paper):
    # both ranks prefill: 64/1024 s and 128/1024 s, the shared part 2^-9 s; then each decodes beside the other
    profile = paper(ep=2, lockstep={"tokens": [1], "time_s": [2.0**-9]})
    played = replay([(0.0, 64, 2), (0.0, 128, 2)], profile=profile, dp=2, ep=True)
    assert list(played.requests.first_token_s) == [0.125 + 2.0**-9] * 2
    slowest = 9 / 1024 + 129 / 2**20 + 2.0**-9  # the rank with the longer context
    assert list(played.requests.finish_s) == [0.125 + 2.0**-9 + slowest] * 2


def test_a_newcomer_waits_one_step_more_where_steps_are_planned_ahead(replay):
    rows = [(0.0, 64, 40), (0.1, 64, 2)]
    later, now = (replay(rows, async_scheduling=ahead).requests.start_s for ahead in (True, False))
    assert later[1] - now[1] == pytest.approx(9 / 1024, rel=0.02)


def test_a_request_is_handed_over_with_its_cache(replay, paper):
    profile = paper(memory={"weights_bytes": 1.0, "kv_bytes_per_token": 1e6, "kv_capacity_tokens": 1 << 14})
    link = {"kv_transfer": {"gb_per_s": 1.024, "latency_s": 0.5, "joules_per_gb": 10.0}}
    pools = [{"role": "prefill"}, {"role": "decode"}]
    played = replay([(0.0, 128, 3)], profile=profile, pools=pools, scenario=link)
    r = played.requests
    assert r.first_token_s[0] == 0.125
    decode = 18 / 1024 + (129 + 130) / 2**20
    assert r.finish_s[0] == pytest.approx(0.125 + 0.5 + 0.128 / 1.024 + decode, rel=1e-12)
    assert r.energy_j[0] == pytest.approx(0.125 * 512 + 0.128 * 10.0 + decode * 256, rel=1e-12)
    assert (r.instance[0], r.prefiller[0]) == (1, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_grams_follow_an_intensity_that_changes_under_way(replay, rows, policy):
    edges = np.array([0.0, 0.3, 0.31, 1.7, 100.0])
    window = Window(edges, np.array([10.0, 500.0, 20.0, 80.0]))
    played = replay(rows, batching=policy, window=window, **LIMITS)
    stepped = replay(rows, batching=policy, window=window, leaping=False, **LIMITS)
    assert_same(played, stepped)
    (rows,) = [i.ledger.table() for i in played.instances]
    grams = np.dot(rows["power_w"], window.integral(rows["to_s"]) - window.integral(rows["from_s"]))
    assert sum(played.requests.gram_j) == pytest.approx(grams, rel=1e-9)


@given(
    a=st.floats(1e-4, 1.0), c=st.floats(0.0, 1e-6), batch=st.integers(1, 256), kv=st.integers(1, 10**6),
    steps=st.integers(1, 10**4), part=st.floats(0.0, 1.0),
)  # fmt: skip
def test_the_boundary_after_is_the_first_that_sees_the_arrival(a, c, batch, kv, steps, part):
    end = boundary_s(0.0, a, c, batch, kv, steps)
    now = part * end
    found, at = boundary_after(0.0, a, c, batch, kv, now, 1, steps)
    assert at == boundary_s(0.0, a, c, batch, kv, found)
    assert boundary_s(0.0, a, c, batch, kv, found) + 1e-9 >= now or found == steps
    assert found == 1 or boundary_s(0.0, a, c, batch, kv, found - 1) + 1e-9 < now


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=12), spare=st.integers(0, 40), want=st.integers(1, 300)
)
def test_paged_memory_counts_blocks_as_one_would_by_hand(lengths, spare, want):
    block = 16
    blocks = sum(math.ceil(n / block) for n in lengths) + spare
    kv = PagedKv(blocks * block, block)
    by_hand = 0
    while by_hand < want and sum(math.ceil((n + by_hand) / block) for n in lengths) <= blocks:
        by_hand += 1
    running = {i: (n, 0, *[0.0] * 6) for i, n in enumerate(lengths)}
    assert kv.steps(want, len(lengths), sum(lengths), running, 0) == by_hand


@pytest.mark.parametrize("routing", ["least-outstanding-tokens", "power-of-two-choices"])
def test_one_seed_gives_the_same_bytes_whatever_the_process(tmp_path, routing):
    """Two processes under different hash seeds: summary.json (but for the clock) and both Parquet files are equal."""
    root = Path(__file__).resolve().parents[1]
    made = []
    for hash_seed in ("1", "77"):
        out = tmp_path / hash_seed
        command = [sys.executable, "-m", "carbonfleet", "simulate", str(root / "examples" / "two-sites.yaml"), "-q"]
        command += ["--routing", routing, "--set", "generator.duration_s=60", "--horizon", "60", "-o", str(out)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        summary = json.loads((out / "summary.json").read_text())
        for clock in ("wall_s", "loop_s", "requests_per_wall_s"):
            summary.pop(clock)
        tables = [(out / name).read_bytes() for name in ("requests.parquet", "timeline.parquet")]
        made.append((json.dumps(summary), tables))
    assert made[0] == made[1]
