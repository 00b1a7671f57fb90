"""Controls: leap and step agree under every one, known answers by hand, caps and deadlines held, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles import dvfs
from profiles.grid import Window
from profiles.inputs import InputError
from sim.control.forecast import Believed
from sim.run import run
from sim.scenario import Scenario
from sim.tables import timeline_table

TICK = 2.0**-30
HOUR = 3600.0
CONTROLS: list[dict[str, Any]] = [
    {"kind": "power-off", "idle_s": 0.25, "wake": 0.05, "tick_s": 0.125, "boot_s": 0.25, "keep": 0},
    {"kind": "scale", "target": 0.05, "calm_s": 0.25, "tick_s": 0.125, "boot_s": 0.25, "boot_w": 8.0},
    {"kind": "schedule", "at": [(0.0, 1), (0.5, 3), (1.0, 2)], "boot_s": 0.25, "every_s": 1.5},
    {"kind": "clock", "clocks": [0.5, 1.0], "low": 0.01, "high": 0.02, "tick_s": 0.125},
    {"kind": "power-cap", "site": "s", "watts": 3000.0},
    {"kind": "failures", "mtbf_h": 0.0002, "repair_h": 0.00005},
]
SHARED = {"tokens": [1, 1 << 14], "time_s": [2.0**-9, 2.0**-9 + (2.0**14 - 1) * 2.0**-16]}
rows = st.lists(
    st.tuples(st.integers(0, 1 << 31).map(lambda ticks: ticks * TICK), st.integers(1, 300), st.integers(1, 40)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows,
    controls=st.lists(st.sampled_from(CONTROLS), min_size=1, max_size=3, unique_by=lambda c: c["kind"]),
    route=st.sampled_from(["round-robin", "least-outstanding-tokens", "power-of-two-choices", "spill-over"]),
    batching=st.sampled_from(["chunked", "prefill-first", "static", "splitwise"]),
    later=st.booleans(),
    ranks=st.sampled_from([1, 1, 2, 3]),
)
def test_under_any_controls_leap_equals_step(replay, paper, rows, controls, route, batching, later, ranks):
    options = {"instances": 3, "routing": route, "batching": batching, "async_scheduling": later, "horizon_s": 3.0}
    if ranks > 1:
        options |= {"dp": ranks, "ep": True, "profile": paper(ep=ranks, lockstep=SHARED)}
        controls = [each | {"watts": 3000.0 * ranks} if "watts" in each else each for each in controls]
    options |= {"scenario": {"controls": controls}, "max_num_seqs": 4, "max_num_batched_tokens": 64}
    leap, step = replay(rows, leaping=True, **options), replay(rows, leaping=False, **options)
    for name in ("start_s", "first_token_s", "finish_s", "energy_j", "gram_j", "instance"):
        np.testing.assert_array_equal(getattr(leap.requests, name), getattr(step.requests, name), err_msg=name)
    assert leap.requests.retries == step.requests.retries
    assert set(leap.requests.status) <= {1, 2}  # everything ends
    for one, two in zip(leap.instances, step.instances, strict=True):
        assert one.ledger.off == two.ledger.off
        assert one.ledger.rows == two.ledger.rows
        busy, off = one.ledger.table(), np.frombuffer(one.ledger.off).reshape(-1, 4)
        spans = sorted([*zip(busy["from_s"], busy["to_s"], strict=True), *((a, b) for a, b, _, _ in off)])
        assert all(b <= c + 2e-9 for (_, b), (c, _) in zip(spans, spans[1:], strict=False))  # never both
    joules = sum(np.dot(t["power_w"], t["to_s"] - t["from_s"]) for t in (i.ledger.table() for i in leap.instances))
    assert sum(leap.requests.energy_j) == pytest.approx(joules, rel=1e-9)

    if ranks > 1:  # an instance's ranks are off, boot and fail as one
        off = [one.ledger.off for one in leap.instances]
        assert all(off[k] == off[k - k % ranks] for k in range(3 * ranks))


def off_rows(played, number):
    return np.frombuffer(played.instances[number].ledger.off).reshape(-1, 4).tolist()


def test_an_idle_instance_goes_off_and_boots_when_it_is_needed(replay):
    # the second instance never works: idle since 0, off at the tick of 60 s; a burst at 100 s wakes it at the next tick
    burst = [(0.0, 64, 2), *((100.0, 300, 40) for _ in range(30))]
    control = {"kind": "power-off", "idle_s": 60.0, "wake": 0.5, "tick_s": 10.0, "boot_s": 5.0, "boot_w": 32.0}
    played = replay(burst, instances=2, horizon_s=200.0, scenario={"controls": [control]}, routing="spill-over")
    off, boot, again = off_rows(played, 1)
    assert off == [60.0, 100.0, 0.0, 1.0]
    assert boot == [100.0, 105.0, 32.0, 0.0]
    assert again[0] == 170.0  # a minute after the tick of 110 s found it idle
    assert played.controls.told()["boots"] == 1


def test_a_schedule_is_kept_with_boots_ahead(replay):
    control = {"kind": "schedule", "at": [(0.0, 1), (100.0, 2)], "boot_s": 10.0, "off_w": 4.0}
    played = replay([(0.0, 64, 2), (150.0, 64, 2)], instances=2, horizon_s=200.0, scenario={"controls": [control]})
    assert off_rows(played, 1) == [[0.0, 90.0, 4.0, 1.0], [90.0, 100.0, 64.0, 0.0]]


def lockstep(paper):
    return {"dp": 2, "ep": True, "profile": paper(ep=2, lockstep=SHARED)}


def test_ranks_of_an_instance_go_off_and_boot_as_one(replay, paper):
    control = {"kind": "schedule", "at": [(0.0, 1), (100.0, 2)], "boot_s": 10.0, "boot_w": 96.0, "off_w": 8.0}
    rows = [*[(0.0, 64, 2)] * 3, (150.0, 64, 2)]  # the third keeps one rank of the second instance busy
    options = {"instances": 2, "horizon_s": 200.0, "scenario": {"controls": [control]}, **lockstep(paper)}
    played = replay(rows, routing="least-outstanding-tokens", **options)
    assert off_rows(played, 0) == off_rows(played, 1) == []
    # half of the instance's watts each
    assert off_rows(played, 2) == off_rows(played, 3) == [[60.0, 90.0, 4.0, 1.0], [90.0, 100.0, 48.0, 0.0]]
    assert played.controls.told()["boots"] == 1


def test_a_rank_that_fails_takes_the_others_with_it(replay, paper):
    control = {"kind": "failures", "mtbf_h": 5.0 / HOUR, "repair_h": 1.0 / HOUR}
    rows = [(0.0, 64, 1500), (0.0, 64, 1500)]  # one on each rank of the one instance
    played = replay(rows, horizon_s=10.0, scenario={"controls": [control]}, **lockstep(paper))
    told = played.controls.told()
    assert told["failures"] > 0
    assert told["retries"] == 2 * told["failures"]
    assert list(played.requests.status) == [1, 1]
    assert off_rows(played, 0) == off_rows(played, 1)


def test_the_clock_of_all_ranks_changes_at_one_boundary(replay, paper):
    control = {"kind": "clock", "clocks": [0.5, 1.0], "low": 0.9, "high": 1.0, "tick_s": 4.0}
    options = {"horizon_s": 8.0, "scenario": {"controls": [control]}, **lockstep(paper)}
    played = replay([(0.0, 64, 400), (0.0, 64, 400)], **options)
    assert [(time_s, engine) for time_s, engine, _ in played.controls.world.clocks.changes] == [(0.0, 0), (0.0, 1)]
    assert played.instances[0].model is played.instances[1].model is played.instances[0].group._model
    assert max(played.requests.finish_s) > max(replay([(0.0, 64, 400)] * 2, **lockstep(paper)).requests.finish_s)


def test_what_a_failed_instance_held_is_done_again(replay):
    rows = [(0.0, 64, 2000), (0.0, 64, 2000)]
    control = {"kind": "failures", "mtbf_h": 5.0 / HOUR, "repair_h": 1.0 / HOUR}
    played = replay(rows, instances=2, horizon_s=30.0, scenario={"controls": [control]})
    clean = replay(rows, instances=2, horizon_s=30.0)
    told = played.controls.told()
    assert told["failures"] > 0
    assert told["retries"] > 0
    assert list(played.requests.status) == [1, 1]
    assert sum(played.requests.energy_j) > sum(clean.requests.energy_j)  # lost work stays on the bill
    assert max(played.requests.finish_s) > max(clean.requests.finish_s)


@pytest.mark.parametrize("route", ["round-robin", "least-outstanding-tokens", "power-of-two-choices", "least-kv"])
def test_what_opens_after_all_were_closed_is_the_one_that_serves(replay, route):
    control = {"kind": "schedule", "at": [(0.0, 3)]}
    world = replay([(0.0, 16, 1)], instances=3, routing=route, scenario={"controls": [control]}).controls.world
    dispatch, router = world.dispatch, world.dispatch.first[0].router
    for number in (0, 1, 2):
        dispatch.close(number)
    dispatch.close(2)  # it drains, and fails
    dispatch.open(2, 1.0)
    assert [router.route(1.0, 16, 1, 0) for _ in range(4)] == [2] * 4
    dispatch.open(0, 1.0)
    assert {router.route(1.0, 16, 1, k) for k in range(40)} <= {0, 2}


def test_the_lower_priority_waits(replay):
    rows = [(0.0, 64, 40), (0.001, 64, 4), (0.002, 64, 4)]
    classes = [{"name": "late", "priority": 1}, {"name": "soon", "priority": 0}]
    streams = [{"name": "x", "model": "llama-3.1-8b", "slo_class": "late", "trace": "none"}]
    options = {"scenario": {"classes": classes, "streams": streams, "trace": None}, "max_num_seqs": 1}
    played = replay(rows, classes=[0, 0, 1], batching="prefill-first", **options)
    assert played.requests.start_s[2] < played.requests.start_s[1]


def test_yesterday_is_what_is_believed_of_tomorrow():
    edges = np.arange(0.0, 49 * HOUR, HOUR)
    came = Window(edges, np.arange(48.0) + 100.0)
    before = Window(edges[:25], np.arange(24.0) + 1.0)
    believed = Believed(came, before, None, 0.0)
    assert believed.at(30 * HOUR, 30 * HOUR) == 130.0  # the present is known
    assert believed.at(30 * HOUR, 40 * HOUR) == 116.0
    assert believed.at(2 * HOUR, 5 * HOUR) == 6.0  # of the day before the run
    assert Believed(came, None, None, 0.0).at(2 * HOUR, 5 * HOUR) == 102.0  # unknown: as now
    assert Believed(came, before, None, 0.0, perfect=True).at(30 * HOUR, 40 * HOUR) == 140.0


BASE: dict[str, Any] = {
    "generator": {"rate_per_s": 0.05, "duration_s": 86400.0, "lengths": "azure-conv"},
    "start": "2023-06-02T00:00:00Z",
    "horizon_s": 86400.0,
    "sites": [{"name": "ca", "grid": "US-CAL-CISO", "pue": 1.25}],
    "pools": [{"name": "h", "site": "ca", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": 2}],
}


def asked(**changes: Any) -> Scenario:
    return Scenario.model_validate(BASE | changes)


def test_flexible_requests_wait_for_the_greenest_hour_and_keep_their_deadline():
    classes = [{"name": "flexible", "deadline_s": 8 * HOUR}]
    control = {"controls": [{"kind": "defer"}], "classes": classes}
    put_off, at_once = run(asked(**control)), run(asked(classes=classes))
    s = put_off.summary
    assert s["controls"]["deferred"] > 0.3 * s["requests"]["total"]
    assert s["slo"]["attainment"] == 1.0
    assert s["carbon_g"]["busy"] < at_once.summary["carbon_g"]["busy"]
    assert s["regret"]["carbon_g"] == pytest.approx(0.0, abs=1e-9)  # a typical month: yesterday was the same
    assert max(s["balance"].values()) < 1e-9


def test_a_site_never_draws_more_than_its_cap():
    free = timeline_table(run(asked()))["power_w"].to_numpy().max()
    pools = [BASE["pools"][0] | {"instances": 8}]
    watts = 5200.0
    capped = run(asked(pools=pools, controls=[{"kind": "power-cap", "site": "ca", "watts": watts}]))
    drawn = timeline_table(capped)["power_w"].to_numpy()
    assert drawn[2:].max() <= watts  # within the first tick it comes down
    assert capped.summary["slo"]["attainment"] == 1.0
    assert capped.summary["pools"][0]["on_share"] < 1.0
    assert free > 0.0
    with pytest.raises(InputError, match="hosts of ca alone draw"):
        run(asked(controls=[{"kind": "power-cap", "site": "ca", "watts": 100.0}]))


def test_a_cap_that_leaves_room_for_no_instance_ends_and_tells_what_is_left_undone():
    result = run(asked(controls=[{"kind": "power-cap", "site": "ca", "watts": 1800.0}]))
    asked_for = result.summary["requests"]
    assert asked_for["completed"] == 1  # it came at 0 s, before the first tick
    assert asked_for["unfinished"] == asked_for["total"] - 1
    assert max(result.summary["balance"].values()) < 1e-9


def test_a_cap_closes_only_what_is_open():
    # at 5,400 s all four boot, and none is open
    boot = {"kind": "schedule", "at": [[0, 0], [7200, 4]], "boot_s": 3600}
    pools = [BASE["pools"][0] | {"instances": 4}]
    result = run(asked(pools=pools, controls=[boot, {"kind": "power-cap", "site": "ca", "watts": 2600.0}]))
    assert result.summary["pools"][0]["on_share"] < 1.0


def test_what_is_off_is_not_billed_and_the_timeline_agrees():
    on, off = run(asked()), run(asked(controls=[{"kind": "schedule", "at": [[0, 1], [43200, 2]], "boot_s": 0}]))
    table = timeline_table(off)
    joules = float(np.dot(table["power_w"].to_numpy(), np.full(table.num_rows, 60.0)))
    inside = off.inside[0].energy_j
    assert joules == pytest.approx(inside, rel=1e-9)
    pool = on.pools[0]
    saved = on.summary["energy_j"]["gpu_idle"] - off.summary["energy_j"]["gpu_idle"]
    assert saved == pytest.approx(pool.model.idle_w * 43200.0, rel=0.02)
    assert off.summary["pools"][0]["on_share"] == pytest.approx(0.75)
    assert table["on_share"].to_numpy()[[0, -1]].tolist() == [0.5, 1.0]


def test_a_host_is_off_when_all_its_instances_are():
    pools = [BASE["pools"][0] | {"gpu": "l4", "instances": 2, "host": None}]
    on = run(asked(pools=pools))
    off = run(asked(pools=pools, controls=[{"kind": "schedule", "at": [[0, 1]], "boot_s": 0}]))
    per_host = on.pools[0].host.gpus
    hosts = on.summary["energy_j"]["host"] - off.summary["energy_j"]["host"]
    assert (hosts > 0.0) == (per_host == 1)


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"kind": "defer"}, "no class of requests may wait"),
        ({"kind": "scale", "pools": ["hh"]}, "unknown pool 'hh'"),
        ({"kind": "power-cap", "site": "cb", "watts": 1e6}, "unknown site 'cb'"),
    ],
)
def test_a_control_that_cannot_be_is_refused(control, message):
    with pytest.raises(InputError, match=message):
        run(asked(controls=[control]))


def test_several_models_and_classes_share_a_fleet():
    classes = [{"name": "chat", "ttft_s": 1.0, "tpot_s": 0.1}, {"name": "batch", "priority": 1, "deadline_s": 86400.0}]
    made = {"rate_per_s": 0.5, "duration_s": 600.0, "lengths": "azure-conv"}
    streams = [
        {"name": "a", "model": "llama-3.1-8b", "slo_class": "chat", "generator": made},
        {"name": "b", "model": "llama-3.1-70b", "slo_class": "batch", "generator": made, "starts_at_s": 60.0},
    ]
    pools = [BASE["pools"][0], BASE["pools"][0] | {"name": "big", "model": "llama-3.1-70b", "tp": 4, "instances": 1}]
    changes = {"generator": None, "streams": streams, "classes": classes, "pools": pools, "horizon_s": None}
    result = run(asked(**changes))
    step = run(asked(**changes), engine="step")
    s = result.summary
    assert s["requests"]["completed"] == s["requests"]["total"]
    assert [each["name"] for each in s["slo"]["classes"]] == ["chat", "batch"]
    assert sum(each["requests"] for each in s["slo"]["classes"]) == s["requests"]["total"]
    assert [pool["requests"] for pool in s["pools"]] == [each["requests"] for each in s["slo"]["classes"]]
    assert max(s["balance"].values()) < 1e-9
    assert s["carbon_g"]["total"] == pytest.approx(step.summary["carbon_g"]["total"], rel=1e-9)
    with pytest.raises(InputError, match="which no pool serves"):
        run(asked(**(changes | {"pools": pools[:1]})))


def test_energy_against_clock_is_u_shaped_where_arithmetic_rules_and_falls_where_memory_does():
    from profiles.profile import load, shipped_folder

    profile = load(shipped_folder() / "h100-sxm-80gb_llama-3.1-8b_tp1_bf16_vllm.json")
    clocks = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    made = [dvfs.at_clock(profile, clock) for clock in clocks]
    long = max(range(len(profile.prefill.time_s)), key=lambda i: profile.prefill.new_tokens[i])
    prefill = [p.prefill.time_s[long] * p.prefill.power_w[long] for p in made]
    least = prefill.index(min(prefill))
    assert 0 < least < len(clocks) - 1
    assert all(a >= b for a, b in zip(prefill[:least], prefill[1 : least + 1], strict=True))
    assert made[0].prefill.time_s[long] > 4.0 * profile.prefill.time_s[long]
    small = min(range(len(profile.decode.time_s)), key=lambda i: profile.decode.batch[i])
    assert made[4].decode.time_s[small] == profile.decode.time_s[small]  # memory does not know the SM clock
    assert made[4].decode.power_w[small] < profile.decode.power_w[small]
    assert made[4].provenance.kind == "predicted"
    assert dvfs.at_clock(profile, 1.0) is profile
    with pytest.raises(InputError, match="of the full one"):
        dvfs.at_clock(profile, 0.1)


def test_what_ranks_share_goes_with_the_clock_where_arithmetic_rules(paper):
    # 4 tokens in 1 s are the best rate there is; one token waits for memory and does not know the clock
    shared = {"tokens": [1, 4], "time_s": [0.75, 1.0]}
    slow = dvfs.at_clock(paper(ep=2, lockstep=shared), 0.5)
    assert slow.lockstep.time_s == [0.75, 2.0]


def test_the_timeline_tells_batch_kv_and_clock():
    control = {"kind": "clock", "clocks": [0.5, 1.0], "low": 0.9, "high": 1.0, "tick_s": 600.0}
    made = run(asked(controls=[control]))
    made_table = timeline_table(made)
    table = {name: made_table[name].to_numpy() for name in made_table.column_names if name != "pool"}
    assert table["clock"].tolist() == [0.5] * 1440  # never full enough for more
    out = made.trace.output_tokens - 1
    assert 0.0 < table["kv_share"].max() < 1.0
    seconds = table["batch"].sum() * 60.0 * 2
    gaps = sum(float(np.dot(np.frombuffer(i.ledger.stays).reshape(-1, 4).shape[0], 1.0)) for i in made.played.instances)
    assert gaps == (out > 0).sum()  # a stay for every sequence that decoded
    decoding = np.array(made.played.requests.finish_s) - np.array(made.played.requests.first_token_s)
    assert seconds == pytest.approx(decoding[made.played.requests.instance[0] >= 0].sum(), rel=0.02)


def test_what_controls_did_and_how_each_class_fared_is_told():
    from carbonfleet.report.page import _limits
    from carbonfleet.text import run_report

    classes = [{"name": "soon", "ttft_s": 1.0}, {"name": "late", "priority": 1, "deadline_s": 28800.0}]
    made = {"rate_per_s": 0.05, "duration_s": 80000.0, "lengths": "azure-conv"}
    streams = [{"name": n, "model": "llama-3.1-8b", "slo_class": n, "generator": made} for n in ("soon", "late")]
    controls = [{"kind": "defer"}, {"kind": "failures", "mtbf_h": 3.0, "repair_h": 0.5}]
    s = run(asked(generator=None, streams=streams, classes=classes, controls=controls)).summary
    text = run_report(s)
    assert "soon (TTFT 1.00 s): kept by" in text
    assert "late (done within 28,800 s): kept by 100.00 %" in text
    assert "failures" in text
    assert "requests deferred by" in text
    assert "regret" in text
    assert _limits(s["slo"]) == "soon: TTFT 1.00 s; late: done within 28,800 s"


def test_a_misspelt_key_of_a_control_is_told_among_its_own(tmp_path):
    from sim import scenario

    file = tmp_path / "s.yaml"
    head = "generator: {rate_per_s: 1, duration_s: 600}\nsites: [{name: s, grid: CA-QC}]\n"
    head += "pools: [{name: p, site: s, gpu: l4, model: llama-3.1-8b, instances: 1}]\n"
    file.write_text(head + "controls:\n  - {kind: scale, targt: 0.5}\n")
    with pytest.raises(InputError, match=r"s\.yaml:5: controls\.0\.scale\.targt: unknown key; did you mean target"):
        scenario.read(file)


def test_what_a_control_assumes_is_told():
    result = run(asked(controls=[{"kind": "clock", "clocks": [0.6, 1.0]}], regret=False))
    row = next(each for each in result.summary["assumptions"] if each["name"] == "control 1, clock")
    assert "clocks [0.6, 1.0], low 0.2, high 0.6" in row["value"]
    assert row["source"] == "scenario; by default high, intensity, low, pools, tick_s"
    assert any("modelled (profiles.dvfs)" in each for each in result.summary["warnings"])
    assert not any("dvfs" in each for each in run(asked()).summary["warnings"])
