"""RAPL, wall meters, sums and none; the sampler's thread; shapes from config.json."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from calibrate.clock import RealClock
from calibrate.errors import BenchError, NoMeter
from calibrate.meter import Device, Kind, State, machine_cpu_time_s
from calibrate.meters import CsvMeter, NullMeter, RaplMeter, SumMeter
from calibrate.sampler import Sampler
from profiles import catalog
from profiles.inputs import InputError
from profiles.llm_config import read_config


def zone(root: Path, name: str, word: str, energy: int, span: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{word}\n")
    (folder / "max_energy_range_uj").write_text(f"{span}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    return folder / "energy_uj"


def test_rapl_sums_packages_and_dram_and_survives_a_wrap(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 999_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100)
    dram = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    zone(tmp_path, "intel-rapl:0:0", "core", 0)  # inside the package already
    meter = RaplMeter(tmp_path)
    assert meter.energy_j() == 0.0
    first.write_text("500\n")  # 1,500 uJ past the wrap
    second.write_text("1100\n")
    dram.write_text("250\n")
    assert meter.energy_j() == pytest.approx((1500 + 1000 + 250) * 1e-6)
    assert meter.power_w() is None
    first.unlink()
    with pytest.raises(BenchError, match="RAPL stopped answering"):
        meter.energy_j()


def test_no_rapl_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="no RAPL counter under"):
        RaplMeter(tmp_path)
    (zone(tmp_path, "intel-rapl:0", "package-0", 1).parent / "energy_uj").write_text("secret")
    with pytest.raises(NoMeter, match="it needs root"):
        RaplMeter(tmp_path)


def test_wall_power_is_integrated_as_it_is_appended(tmp_path: Path) -> None:
    file, now = tmp_path / "pdu.csv", time.time()
    file.write_text(f"time,outlet,power_w\n{now - 2},a,100\n{now - 1},a,300\n")
    meter = CsvMeter(file)
    assert meter.energy_j() == pytest.approx(200.0)
    with file.open("a") as stream:
        stream.write(f"{now},a,300\n{now + 1},a,9")  # the last is still being written
    assert meter.energy_j() == pytest.approx(500.0)
    assert meter.power_w() == 300.0
    with file.open("a") as stream:
        stream.write("00\n")
    assert meter.energy_j() == pytest.approx(1100.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", ":1: needs a header with a time and power_w"),
        ("time,power_w\n1,x\n", ":2: is no time and power"),
        ("time,power_w\n1,-5\n", ":2: power_w: -5.0 W cannot be"),
        ("time,power_w\n5,5\n4,5\n", ":3: time: time runs back"),
        ("time,power_w\n2020-01-01T00:00:00+00:00,5\n", "no row of the last 10 s"),
    ],
)
def test_a_broken_wall_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "pdu.csv").write_text(text)
    with pytest.raises((InputError, NoMeter)) as refused:
        CsvMeter(tmp_path / "pdu.csv")
    assert says in str(refused.value)


class Steady:
    """A meter of constant watts whose counter moves every 50 ms; it may break or be hot."""

    kind: Kind = "nvml"
    gain_rel = 0.05

    def __init__(self, watts: float = 100.0, name: str = "GPU", breaks_after: int = 1 << 30) -> None:
        self.watts, self.name, self.left = watts, name, breaks_after
        self.reasons: frozenset[str] = frozenset()

    def device(self) -> Device:
        return Device(self.name, f"GPU-{self.watts:g}", 80e9, 700.0, "1.0")

    def refusals(self, shared: bool = False) -> list[str]:
        return ["MIG"] if self.watts < 0 else []

    def has_context(self) -> bool:
        return False

    def energy_j(self) -> float:
        self.left -= 1
        if self.left < 0:
            raise BenchError("NVML stopped answering")
        return int(time.perf_counter() / 0.05) * 0.05 * self.watts

    def power_w(self) -> float:
        return self.watts

    def state(self) -> State:
        return State(60.0, 1500.0, self.reasons)

    def close(self) -> None:
        return


def test_several_gpus_are_metered_as_one() -> None:
    hot = Steady(200.0)
    hot.reasons = frozenset({"hw_thermal"})
    both = SumMeter([Steady(100.0), hot])
    assert both.power_w() == 300.0
    assert both.device().uuid == "GPU-100,GPU-200"
    assert (both.device().memory_bytes, both.device().power_limit_w) == (160e9, 1400.0)
    assert both.state() == State(60.0, 1500.0, frozenset({"hw_thermal"}))
    assert SumMeter([Steady(-1.0), hot]).refusals() == ["GPU--1: MIG"]
    assert SumMeter([Steady(), NullMeter()]).energy_j() is None
    with pytest.raises(BenchError, match="different GPUs"):
        SumMeter([Steady(), Steady(name="other")]).device()


def test_the_sampler_measures_between_ticks_and_flags_heat() -> None:
    meter, clock = Steady(150.0), RealClock()
    meter.reasons = frozenset({"sw_power_cap", "hw_slowdown"})
    with Sampler(meter, clock) as sampler:
        begin = clock.now()
        time.sleep(0.8)
        drawn = sampler.drawn(begin, clock.now())
    assert drawn.power_w == pytest.approx(150.0, rel=0.12)  # ticks are seen up to 25 ms late
    assert drawn.polled_w == 150.0
    assert drawn.ticks >= 5
    assert drawn.flags == ["invalid: hw_slowdown", "power_capped"]


def test_a_meter_that_fails_in_its_thread_is_not_lost() -> None:
    with Sampler(Steady(breaks_after=3), RealClock()) as sampler:
        time.sleep(0.3)
        with pytest.raises(BenchError, match="stopped answering"):
            sampler.check()


def test_the_machine_s_cpu_time_moves_on() -> None:
    before = machine_cpu_time_s()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert machine_cpu_time_s() >= before + 0.1


CONFIGS = {
    "llama-3.1-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "deepseek-v3": {
        "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "num_attention_heads": 128,
        "num_hidden_layers": 61, "num_key_value_heads": 128, "vocab_size": 129280, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "max_position_embeddings": 163840, "tie_word_embeddings": False,
    },
    "qwen3-30b-a3b": {
        "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
        "num_experts_per_tok": 8, "num_attention_heads": 32, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False,
    },
    "gemma-3-4b": {
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8, "num_hidden_layers": 34,
            "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 1024,
            "sliding_window_pattern": 6, "max_position_embeddings": 131072, "tie_word_embeddings": True,
        }
    },
    "bloom-176b": {
        "model_type": "bloom", "n_embed": 14336, "n_head": 112, "n_layer": 70, "vocab_size": 250880,
        "seq_length": 2048, "tie_word_embeddings": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_gives_the_catalogue_s_shape(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(CONFIGS[name]))
    found, known = read_config(file.parent), catalog.llm(name)
    same = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "experts", "dense_layers")
    same += ("expert_intermediate", "shared_intermediate", "kv_rank", "q_rank", "rope_dim", "value_dim", "mlp_matrices")
    same += ("window", "window_layers", "tied_embeddings", "max_context", "counted_params")
    assert {key: getattr(found, key) for key in same} == {key: getattr(known, key) for key in same}
    assert found.name == "mine"
    assert found.params == found.counted_params


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("[1]", "is no config.json of a model"),
        ("{}", "num_attention_heads: missing"),
        (json.dumps(CONFIGS["llama-3.1-8b"] | {"num_hidden_layers": -2}), "num_hidden_layers: -2 is no count"),
        (json.dumps(CONFIGS["llama-3.1-8b"] | {"vocab_size": "many"}), "vocab_size: 'many' is no count"),
        (json.dumps(CONFIGS["llama-3.1-8b"] | {"num_key_value_heads": 5}), "kv_heads 5 does not divide heads 32"),
    ],
)
def test_a_broken_config_is_one_line(tmp_path: Path, document: str, says: str) -> None:
    (tmp_path / "config.json").write_text(document)
    with pytest.raises(InputError) as refused:
        read_config(tmp_path / "config.json")
    assert says in str(refused.value)
