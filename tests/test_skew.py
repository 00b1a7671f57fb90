"""The term for unlike contexts: worked by hand, leap equal to stepping, kept by its importer only when asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from profiles.importers import llmservingsim
from profiles.inputs import InputError
from profiles.mixed import SkewTable
from profiles.profile import Skew
from profiles.step import StepModel

TICK = 2.0**-30
HALF = {"chunk": [0, 0, 64, 64], "batch": [1, 64, 1, 64], "rate": [0.5] * 4, "share": [0.5, 0.5, 0.25, 0.25]}


def test_a_batch_of_unlike_contexts_worked_by_hand(replay, paper):
    # contexts 17 and 49: the mean is 33, the longest 16 beyond it. Were both as long as the longest, a step would take
    # 2 x 16 / 2^20 s more; of that it takes the half
    options = {"batching": "prefill-first", "max_num_seqs": 4}
    rows = [(0.0, 16, 2), (0.0, 48, 2)]
    plain, skewed = (replay(rows, profile=paper(skew=skew), **options).requests for skew in (None, HALF))
    assert skewed.finish_s[0] - plain.finish_s[0] == 0.5 * 2 * 16 / 2**20
    assert list(skewed.first_token_s) == list(plain.first_token_s)
    assert sum(skewed.busy_s) == pytest.approx(max(skewed.finish_s), rel=1e-12)


def test_alike_contexts_know_no_skew(replay, paper):
    rows = [(0.0, 16, 9), (0.0, 16, 9)]
    plain, skewed = (replay(rows, profile=paper(skew=skew)).requests for skew in (None, HALF))
    assert list(skewed.finish_s) == list(plain.finish_s)


def test_a_mixed_step_has_a_share_of_its_own(paper):
    # the rule is twice the decode batch's attention: 2 sequences, the longest 16 tokens beyond their mean
    plain, skewed = StepModel(paper()), StepModel(paper(skew=HALF))
    step = skewed.mixed([(64, 0)], 2, 66, (16.0, 0.5))
    assert step.time_s - plain.mixed([(64, 0)], 2, 66).time_s == pytest.approx(0.25 * 2 * 2 * 16 / 2**20, rel=1e-9)
    assert step.prefill_s == plain.mixed([(64, 0)], 2, 66).prefill_s  # the batch owns it


def test_shares_lie_on_straight_lines_and_stay_beyond_the_table():
    table = SkewTable(Skew(chunk=[0, 0, 0], batch=[2, 4, 4], rate=[0.5, 0.25, 0.75], share=[0.2, 0.4, 0.8]))
    assert table.share(0, 4, 0.5) == pytest.approx(0.6)
    assert table.share(0, 3, 0.25) == pytest.approx(0.3)
    assert table.share(512, 400, 1.0) == pytest.approx(0.8)
    assert table.share(0, 1, 0.0) == pytest.approx(0.2)


def test_columns_of_unlike_lengths_are_refused(paper):
    with pytest.raises(ValidationError, match="differ in length"):
        paper(skew=HALF | {"rate": [0.5]})


rows = st.lists(
    st.tuples(st.integers(0, 1 << 31).map(lambda ticks: ticks * TICK), st.integers(1, 300), st.integers(1, 40)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows,
    policy=st.sampled_from(["chunked", "prefill-first", "static", "splitwise"]),
    ranks=st.sampled_from([1, 2]),
    later=st.booleans(),
    tight=st.booleans(),
)
def test_leap_equals_stepping_under_skew(replay, paper, rows, policy, ranks, later, tight):
    memory = {"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": 352 if tight else 1 << 14}
    spec = {"batching": policy, "async_scheduling": later, "max_num_seqs": 4, "max_num_batched_tokens": 64}
    shared = {"lockstep": {"tokens": [1, 512], "time_s": [2.0**-9, 2.0**-5]}, "ep": 2} if ranks == 2 else {}
    spec |= {"dp": 2, "ep": True} if ranks == 2 else {"instances": 2}
    spec["profile"] = paper(memory=memory, skew=HALF, **shared)
    leap, step = replay(rows, leaping=True, **spec), replay(rows, leaping=False, **spec)
    for name in ("start_s", "first_token_s", "finish_s", "busy_s", "energy_j", "gram_j"):
        np.testing.assert_array_equal(getattr(leap.requests, name), getattr(step.requests, name), err_msg=name)
    for one, two in zip(leap.instances, step.instances, strict=True):
        assert one.ledger.rows == two.ledger.rows
    served = sum(float(np.sum(t["to_s"] - t["from_s"])) for t in (i.ledger.table() for i in leap.instances))
    assert math.isclose(sum(leap.requests.busy_s), served, rel_tol=1e-9)


def folder(tmp_path, *shares):
    (tmp_path / "meta.yaml").write_text("hardware: RTX4090\nmodel: meta-llama/Llama-3.1-8B\n")
    tables = {
        "dense.csv": ["layer,tokens,time_us", *(f"layernorm,{t},{t}" for t in (1, 2, 18))],
        "per_sequence.csv": ["layer,sequences,time_us", "lm_head,1,100", "lm_head,3,300"],
        "attention.csv": ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", "0,0,1,16,5", "0,0,2,16,7"],
        "skew_fit.csv": ["pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples", *shares],
    }
    tables["attention.csv"] += ["16,0,0,0,11", "16,0,2,16,20"]
    (tmp_path / "tp1").mkdir(exist_ok=True)
    for name, lines in tables.items():
        (tmp_path / "tp1" / name).write_text("\n".join(lines))
    return tmp_path


def test_the_importer_keeps_the_term_when_asked(tmp_path):
    shares = ["0,n<=2,sr<=15%,kvB<=1k,kp=0,0.1,4", "0,n<=2,sr<=15%,kvB<=4k,kp=0,0.3,4"]
    path = folder(tmp_path, *shares, "16,n<=4,sr>70%,kvB<=1k,kp=0,-0.2,2")
    assert llmservingsim.read_folder(path)[0].skew is None
    skew = llmservingsim.read_folder(path, skew=True)[0].skew
    assert any("skew" in note for note in llmservingsim.read_folder(path, skew=True)[0].provenance.notes)
    assert skew == Skew(chunk=[0, 16], batch=[2, 4], rate=[0.1, 0.85], share=[0.2, 0.0])


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ("0,n<=2,sr<=16%,kvB<=1k,kp=0,0.1,4", r"skew_fit\.csv:2: .* are not such bins"),
        ("0,n<=2,sr<=15%,kvB<=1k,kp=0,x,4", r"skew_fit\.csv:2: .* are not such bins"),
        ("0,n<=two,sr<=15%,kvB<=1k,kp=0,0.1,4", r"skew_fit\.csv:2: .* are not such bins"),
        ("0,n<=2,sr<=15%,kvB<=1k,kp=0,nan,4", r"skew_fit\.csv:2: .* are not such bins"),
    ],
)
def test_a_broken_table_of_shares_is_refused(tmp_path, share, message):
    with pytest.raises(InputError, match=message):
        llmservingsim.read_folder(folder(tmp_path, share), skew=True)
