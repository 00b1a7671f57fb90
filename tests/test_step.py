"""The step model: exact at and between points of a bilinear table, honest outside it; the profile format's refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.inputs import InputError
from profiles.profile import Profile, contradictions, json_schema, load, load_all, save, shipped_folder
from profiles.step import StepModel

A, B, C = 8 / 1024, 1 / 1024, 2.0**-20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 4096), context=st.integers(1, 100_000))
def test_bilinear_tables_are_met_everywhere(paper, batch, context):
    model = StepModel(paper())
    kv = batch * context
    assert model.decode_time_s(batch, kv) == pytest.approx(A + B * batch + C * kv, rel=1e-9)
    assert model.decode(batch, kv).power_w == 256.0


def table(contexts, times, batch=4):
    return {
        "batch": [batch] * len(contexts),
        "kv_tokens": [batch * x for x in contexts],
        "time_s": times,
        "power_w": [100.0] * len(contexts),
    }


def test_a_bend_is_kept(paper):
    model = StepModel(paper(decode=table([100, 200, 300], [1.0, 2.0, 5.0])))
    assert model.decode_time_s(4, 400) == pytest.approx(1.0)
    assert model.decode_time_s(4, 600) == pytest.approx(1.5)
    assert model.decode_time_s(4, 1000) == pytest.approx(3.5)
    assert [model.decode(4, kv).kv_end for kv in (400, 800)] == [800, 1200]


def test_outside_the_points_is_flagged_and_goes_on(paper):
    model = StepModel(paper(decode=table([100, 200], [1.0, 2.0])))
    inside, beyond, larger = model.decode(4, 400), model.decode(4, 1200), model.decode(8, 800)
    assert not inside.extrapolated
    assert beyond.extrapolated
    assert larger.extrapolated
    assert model.decode_time_s(4, 1200) == pytest.approx(3.0)
    assert model.prefill([(1 << 15, 0)]).extrapolated
    assert not model.prefill([(128, 0)]).extrapolated


def test_attention_to_a_past_is_fitted_from_points_that_have_one(paper):
    d = 2.0**-26
    news, pasts = [1024, 2048, 1024], [0, 0, 8192]
    times = [n / 1024 + d * n * (p + n / 2) for n, p in zip(news, pasts, strict=True)]
    points = {"new_tokens": news, "past_tokens": pasts, "sequences": [1, 1, 1], "time_s": times, "power_w": [1.0] * 3}
    model = StepModel(paper(prefill=points))
    assert model.prefill([(1024, 4096)]).time_s == pytest.approx(1 + d * 1024 * (4096 + 512), rel=1e-9)
    halves = model.prefill([(1024, 0), (1024, 0)]).time_s  # two prompts attend to half the pairs of one twice as long
    assert halves == pytest.approx(2 + 2 * d * 1024 * 512, rel=1e-9)


def test_a_mixed_step_is_never_faster_than_its_parts():
    for _, profile in load_all([shipped_folder()]):
        model = StepModel(profile)
        for batch, context, new in ((1, 100, 16), (32, 1000, 512), (128, 2000, 4096)):
            mixed = model.mixed([(new, 0)], batch, batch * context)
            assert mixed.time_s >= model.prefill([(new, 0)]).time_s
            assert mixed.time_s >= model.decode_time_s(batch, batch * context)
            parts = mixed.prefill_s + mixed.decode_a_s + mixed.decode_c_s * batch * context
            assert parts == pytest.approx(mixed.time_s, rel=1e-12)


def test_shipped_profiles_grow_with_batch_and_context():
    for path, profile in load_all([shipped_folder()]):
        model = StepModel(profile)
        for batch in (1, 3, 8, 20, 100, 256):
            times = [model.decode_time_s(batch, batch * context) for context in (64, 500, 4096, 20_000)]
            assert times == sorted(times), path
        rows = [model.decode_time_s(batch, batch * 1000) for batch in range(1, 257)]
        assert rows == sorted(rows), path


def test_the_engine_term_is_added_once(paper):
    term = {"step_s": 0.5, "sequence_s": 0.25}
    bare, with_engine = paper(layer="kernels"), paper(layer="kernels", engine_term=term)
    plain, hosted = StepModel(bare), StepModel(with_engine)
    assert hosted.decode_time_s(4, 400) == pytest.approx(plain.decode_time_s(4, 400) + 0.5 + 1.0)
    assert hosted.prefill([(64, 0)]).time_s == pytest.approx(plain.prefill([(64, 0)]).time_s + 0.75)
    assert StepModel(with_engine, engine=False).decode_time_s(4, 400) == plain.decode_time_s(4, 400)
    with pytest.raises(ValueError, match="already inside"):
        paper(layer="step", engine_term=term)


def test_a_profile_survives_the_round_trip(paper, tmp_path):
    profile = paper()
    assert load(save(profile, tmp_path / "p.json")) == profile
    assert json_schema()["properties"]["schema_version"]


BROKEN = {
    "negative power": (("decode", "power_w"), [-1.0, 1.0, 1.0, 1.0], "decode.power_w.0"),
    "a short column": (("decode", "power_w"), [1.0], "differ in length"),
    "no time": (("decode", "time_s"), [0.0, 1.0, 1.0, 1.0], "decode.time_s.0"),
    "another version": (("schema_version",), 2, "schema_version"),
    "an unknown key": (("powr",), 2, "powr: unknown key"),
    "every point invalid": (("decode", "flags"), ["invalid: x"] * 4, "no valid point"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_profile_is_refused_in_one_line(paper, tmp_path, name):
    path, value, told = BROKEN[name]
    document = json.loads(paper().model_dump_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "p.json"
    file.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        load(file)
    assert told in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_decode_that_falls_with_context_is_a_contradiction(paper, tmp_path):
    profile = paper(decode=table([100, 200], [2.0, 1.0]))
    assert "falls" in contradictions(profile)[0]
    save(profile, tmp_path / "p.json")
    with pytest.raises(InputError, match="falls"):
        load(tmp_path / "p.json")
    noisy = table([100, 200], [1.0, 0.97])
    assert contradictions(paper(decode=noisy)) == []
    assert isinstance(profile, Profile)


def test_noise_never_makes_a_step_take_no_time(paper):
    """A noisy measurement: less time for more sequences, and a wild slope; lines that go on must not reach zero."""
    decode = {"batch": [1, 1, 2, 2], "kv_tokens": [100, 101, 200, 202], "time_s": [1.0, 2.0, 0.5, 0.6]}
    prefill = {"new_tokens": [10, 20], "past_tokens": [0, 0], "sequences": [1, 1], "time_s": [1.0, 0.5]}
    model = StepModel(paper(decode=decode | {"power_w": [1.0] * 4}, prefill=prefill | {"power_w": [1.0] * 2}))
    for batch in (1, 2, 3, 50, 5000):
        for context in (1, 50, 100, 1000):
            assert model.decode_time_s(batch, batch * context) >= 0.05
    for tokens in (1, 15, 30, 10_000):
        assert model.prefill([(tokens, 0)]).time_s >= 0.5
        assert model.mixed([(tokens, 0)], 3, 300).time_s >= 0.5
