"""Importers of serving measurements: a stated machine is found again, traps are told, bad rows named."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from profiles.importers import aiconfigurator, condense, mlenergy
from profiles.importers.formats import FORMATS, Asked, read
from profiles.inputs import InputError
from profiles.profile import POWER_UNKNOWN, Profile, contradictions, load, save
from profiles.step import StepModel
from tests.importer_rows import LEADERBOARD, SILICON, leaderboard, leaderboard_json, machine, silicon, table, write


def imported(form: str, path: Path, **asked: Any) -> tuple[list[Profile], list[str]]:
    told: list[str] = []
    return read(form, path, Asked(tell=told.append, **asked)), told


def refused(form: str, path: Path, **asked: Any) -> str:
    with pytest.raises(InputError) as caught:
        imported(form, path, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def near(profile: Profile, batch: int, context: int, gpus: int = 1, name: str = "llama-3.1-8b") -> float:
    """How far the profile's decode step is from the machine's, as a fraction."""
    true = float(machine(name, "h100", gpus).time_s(0.0, 0.0, float(batch), float(context)))
    return abs(StepModel(profile).decode_time_s(batch, batch * context) / true - 1)


def test_silicon_finds_the_machine_again(tmp_path: Path) -> None:
    (profile,), told = imported("aiconfigurator", write(tmp_path, "x", table(SILICON, silicon())))
    assert told == []
    assert (profile.gpu, profile.model, profile.tp, profile.engine) == (
        "h100-sxm-80gb",
        "llama-3.1-8b",
        1,
        "vllm-0.19.0",
    )
    assert (profile.provenance.kind, profile.provenance.tier, profile.provenance.licence) == (
        "imported",
        "T0",
        "Apache-2.0",
    )
    assert max(near(profile, batch, 1536) for batch in (4, 16, 48, 128)) < 0.04
    first = machine("llama-3.1-8b", "h100", 1).time_s(2048.0, 0.5 * 2048.0**2, 0.0, 0.0)
    assert StepModel(profile).prefill([(2048, 0)]).time_s == pytest.approx(float(first), rel=0.15)
    assert profile.engine_term is not None
    assert set(profile.decode.flags or []) == {POWER_UNKNOWN}
    assert profile.provenance.fit_error["rows"] == 6
    assert profile.provenance.fit_error["held_mape"] < 0.03
    assert contradictions(profile) == []
    assert load(save(profile, tmp_path / "p.json")) == profile


def test_mlenergy_finds_the_machine_and_its_watts_again(tmp_path: Path) -> None:
    (profile,), told = imported("mlenergy", write(tmp_path, "x", table(LEADERBOARD, leaderboard())))
    assert told == []
    assert max(near(profile, batch, 450) for batch in (8, 32, 100, 256)) < 0.03
    truth = machine("llama-3.1-8b", "h100", 1)
    for batch in (8, 64, 256):
        time_s = float(truth.time_s(0.0, 0.0, float(batch), 1024.0))
        true_w = float(truth.power_w(time_s, 0.0, 0.0, float(batch), 1024.0))
        assert StepModel(profile).decode(batch, batch * 1024).power_w == pytest.approx(true_w, rel=0.06)
    long_s = float(truth.time_s(4096.0, 0.5 * 4096.0**2, 0.0, 0.0))
    true_w = float(truth.power_w(long_s, 4096.0, 0.5 * 4096.0**2, 0.0, 0.0))
    assert StepModel(profile).prefill([(4096, 0)]).power_w == pytest.approx(true_w, rel=0.1)
    assert max(*profile.prefill.power_w, *profile.decode.power_w) <= 700
    assert profile.idle.loaded_w == 121.7
    assert profile.systematic.power_rel == 0.05
    assert "none stated" in profile.provenance.licence


def test_mlenergys_three_containers_say_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = leaderboard(is_stable=True)
    flat = imported("mlenergy", write(tmp_path, "flat", table(LEADERBOARD, rows)))[0]
    folder = tmp_path / "models"
    write(folder, "a.json", leaderboard_json(rows))
    write(folder, "picture.json", '{"model_id": "x/y", "task": "text-to-image", "configurations": [{"batch_size": 1}]}')
    records = [row | {"model_id": row["model"], "weight_precision": row["prec"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "runs")
    for path in (folder, folder / "a.json", tmp_path / "runs"):
        found = imported("mlenergy", path)[0]
        assert [(p.decode, p.prefill) for p in found] == [(p.decode, p.prefill) for p in flat]


def test_a_mixture_of_experts_and_several_gpus(tmp_path: Path) -> None:
    rows = leaderboard("Qwen/Qwen3-30B-A3B-Instruct-2507", gpus=2)
    (profile,), _ = imported("mlenergy", write(tmp_path, "x", table(LEADERBOARD, rows)))
    assert (profile.model, profile.tp) == ("qwen3-30b-a3b", 2)
    assert max(near(profile, batch, 450, 2, "qwen3-30b-a3b") for batch in (8, 64, 256)) < 0.05


def test_traps_of_silicon_are_told(tmp_path: Path) -> None:
    good = silicon()
    rows = [
        *good,
        *good[:2],
        *silicon(mode="disagg")[:3],
        *silicon(attention_dp_size=4)[:1],
        *silicon(moe_ep_size=3)[:1],
        *silicon(silicon_ttft_ms=1e6)[:2],
        *silicon(model_path="a/unknown-7b")[:1],
        *silicon(silicon_tpot_ms=1.0)[:1],
    ]
    (profile,), told = imported("aiconfigurator", write(tmp_path, "x", table(SILICON, rows)))
    for said in ("2 rows left out: given twice", "3 rows left out: disaggregated", "1 row left out: data-parallel",
                 "1 row left out: parallelism contradicts", "2 rows left out: TTFT above", "unknown model",
                 "faster than the weights can be read"):  # fmt: skip
        assert any(said in line for line in told), said
    assert any("faster than the weights" in note for note in profile.provenance.notes)
    assert profile.decode == imported("aiconfigurator", write(tmp_path, "y", table(SILICON, good)))[0][0].decode


def test_parallelism_counted_twice_and_concurrency_beside_batch_size(tmp_path: Path) -> None:
    rows = silicon("Qwen/Qwen3-30B-A3B", gpus=4)
    odd = [row | {"tp_size": 16, "moe_tp_size": 4, "moe_ep_size": 4, "batch_size": 1} for row in rows]
    (plain,), _ = imported("aiconfigurator", write(tmp_path, "x", table(SILICON, rows)))
    (same,), _ = imported("aiconfigurator", write(tmp_path, "y", table(SILICON, odd)))
    assert (same.tp, same.decode) == (4, plain.decode)


def test_traps_of_mlenergy_are_told(tmp_path: Path) -> None:
    rows = leaderboard()
    rows[2] |= {"avg_power_watts": 0, "energy_per_token_joules": 0}
    rows.append(rows[0] | {"avg_batch_size": 5})
    rows.append(rows[1] | {"task": "video-chat"})
    (profile,), told = imported("mlenergy", write(tmp_path, "x", table(LEADERBOARD, rows)))
    assert any("below 0.97 of its limit" in line for line in told)
    assert any("video-chat" in line for line in told)
    assert any("zero or missing in 1 of 6 rows" in line for line in told)
    assert profile.provenance.fit_error["power_rows"] == 5
    dark = [row | {"avg_power_watts": 0, "energy_per_token_joules": ""} for row in leaderboard()]
    (profile,), told = imported("mlenergy", write(tmp_path, "y", table(LEADERBOARD, dark)))
    assert set(profile.decode.power_w) == {0.0}
    assert any("power_w is 0 and means unknown" in note for note in profile.provenance.notes)


def test_a_regime_jump_and_contradicting_rows_are_told_and_widen_the_band(tmp_path: Path) -> None:
    rows = leaderboard()
    for row in rows[4:]:
        row["output_throughput_tokens_per_sec"] /= 3
        row["median_itl_ms"] *= 3
        row["avg_power_watts"] /= 2
        row["energy_per_token_joules"] *= 1.5
    (profile,), _ = imported("mlenergy", write(tmp_path, "x", table(LEADERBOARD, rows)))
    assert any("between batch 64 and 128" in note for note in profile.provenance.notes)
    assert profile.band.time > 1.3
    both = [*leaderboard(), *(row | {"median_itl_ms": 3 * row["median_itl_ms"]} for row in leaderboard())]
    (profile,), _ = imported("mlenergy", write(tmp_path, "y", table(LEADERBOARD, both)))
    assert any("rows of one batch differ" in note for note in profile.provenance.notes)


def test_two_batches_make_no_profile(tmp_path: Path) -> None:
    path = write(tmp_path, "x", table(LEADERBOARD, leaderboard()[:2]))
    assert "no configuration in it that makes a profile" in refused("mlenergy", path)


@pytest.mark.parametrize(
    ("form", "change", "told"),
    [
        ("mlenergy", {"avg_power_watts": -3}, ":3: avg_power_watts: -3 W is negative"),
        ("mlenergy", {"avg_power_watts": 1}, ":3: energy_per_token_joules: 1 W at"),
        ("mlenergy", {"median_itl_ms": 0}, ":3: median_itl_ms: '0' is not a number above 0"),
        ("mlenergy", {"median_itl_ms": "x"}, ":3: median_itl_ms: 'x' is not a number"),
        ("mlenergy", {"num_gpus": 1.5}, ":3: num_gpus: '1.5' is not a whole number"),
        ("mlenergy", {"avg_batch_size": 99}, ":3: avg_batch_size: 99 running of at most 16"),
        ("mlenergy", {"prec": "fp3"}, ":3: weight_precision: unknown 'fp3'; known: bfloat16"),
        ("aiconfigurator", {"silicon_tpot_ms": "inf"}, ":3: silicon_tpot_ms: 'inf' is not a number"),
        ("aiconfigurator", {"silicon_ttft_ms": ""}, ":3: silicon_ttft_ms: '' is not a number above 0"),
        ("aiconfigurator", {"mode": "both"}, ":3: mode: unknown 'both'"),
        ("aiconfigurator", {"precision": "fp3"}, ":3: precision: unknown 'fp3'"),
        ("aiconfigurator", {"tp_size": 0}, ":3: tp_size: '0' is not a whole number"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, form: str, change: dict[str, Any], told: str) -> None:
    columns, rows = (LEADERBOARD, leaderboard()) if form == "mlenergy" else (SILICON, silicon())
    rows[1] |= change
    assert told in refused(form, write(tmp_path, "x", table(columns, rows)))


@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if not form.hosts])
def test_another_file_is_refused(tmp_path: Path, form: str) -> None:
    for name, text in (("a.csv", "a,b\n1,2\n"), ("a.json", "[1]"), ("b.json", "{}"), ("c", "PAR1xx"), ("d", "")):
        refused(form, write(tmp_path, name, text))
    refused(form, tmp_path / "nowhere")
    refused(form, write(tmp_path / "empty", "notes.txt", "nothing").parent)


def test_an_option_that_a_format_does_not_take(tmp_path: Path) -> None:
    path = write(tmp_path, "x", table(LEADERBOARD, leaderboard()))
    assert "--sequence-us says nothing to mlenergy; it goes with llmservingsim" in refused(
        "mlenergy", path, sequence_s=1e-6
    )
    assert "did you mean mlenergy" in refused("mlenergi", path)


# -------------------------------------------------------------------------------------------- the real files


def test_the_real_silicon_sample(shared: Path) -> None:
    told: list[str] = []
    cells = aiconfigurator.measured(shared / "profiles" / "aiconfigurator" / "silicon_sample.csv", told.append)
    assert len(cells) > 100
    chosen = [one for one in cells if one.engine.startswith("vllm") and one.work.gpu.name != "b200-sxm-180gb"]
    found = [p for p in (condense.profile(one, told.append) for one in chosen) if p is not None]
    assert len({p.key for p in found}) == len(found) > 15
    assert all(p.decode.flags for p in found)
    errors = [p.provenance.fit_error["held_mape"] for p in found if "held_mape" in p.provenance.fit_error]
    assert sorted(errors)[len(errors) // 2] < 0.05
    assert any("given twice" in line for line in told)
    for p in found:
        assert contradictions(p) == []


def test_the_real_leaderboard(shared: Path) -> None:
    """Also through StepModel: joules a token of the Llamas on H100 within 3 % of what was measured."""
    path = shared / "profiles" / "mlenergy" / "leaderboard_llm.csv"
    cells = mlenergy.measured(path, lambda text: None)
    assert {one.work.gpu.name for one in cells} == {"h100-sxm-80gb", "b200-sxm-180gb"}
    wanted = [o for o in cells if o.work.gpu.name.startswith("h100") and o.work.llm.name.startswith("llama-3.1")]
    dense = [p for p in map(condense.profile, wanted) if p is not None]
    assert len(dense) == 3
    assert all(p.provenance.fit_error["held_mape"] < 0.03 for p in dense)
    assert all(p.provenance.fit_error["held_power_mape"] < 0.03 for p in dense)
    profile = next(p for p in dense if p.model == "llama-3.1-8b")
    step = StepModel(profile)
    for row in csv.DictReader(io.StringIO(path.read_text())):
        if (row["model"], row["gpu_model"]) == ("meta-llama/Llama-3.1-8B-Instruct", "H100"):
            batch, output = float(row["avg_batch_size"]), float(row["avg_output_len"])
            if batch > 256 or batch < 0.97 * float(row["max_num_seqs"]):
                continue
            kv = batch * (250 + output / 2)
            plain, mixed = step.decode_time_s(round(batch), kv), step.mixed([(250, 0)], round(batch), kv)
            often = min(1.0, batch / output)
            time_s = (1 - often) * plain + often * mixed.time_s
            assert time_s * float(row["output_throughput_tokens_per_sec"]) / batch == pytest.approx(1, abs=0.05)
            joules = (1 - often) * plain * step.decode(round(batch), kv).power_w + often * mixed.time_s * mixed.power_w
            assert joules / batch / float(row["energy_per_token_joules"]) == pytest.approx(1, abs=0.06)
