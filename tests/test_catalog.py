"""The catalogue: figures, names and aliases, shapes against parameter counts, and broken tables."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonfleet.verify import verify
from profiles import catalog, embodied
from profiles.contradictions import contradictions
from profiles.inputs import InputError
from profiles.profile import shipped_folder
from sim import scenario
from sim.run import run

GPUS = """t4 l4 l40s a10 a10g a40 v100-sxm-16gb v100-sxm-32gb a100-pcie-40gb a100-sxm-40gb a100-sxm-80gb h100-pcie-80gb
    h100-sxm-80gb h200-sxm-141gb gh200 b200-sxm-180gb gb200 rtx-6000-ada rtx-4090 rtx-pro-6000 mi250x mi300x gaudi2
    gaudi3 tpu-v4 tpu-v5e tpu-v5p tpu-v6e""".split()  # noqa: SIM905
GPUS += """a30 rtx-a6000 rtx-3090 rtx-5090 l40 h100-nvl-94gb h20 b300-sxm-288gb gb300 mi250 mi325x
    mi355x""".split()  # noqa: SIM905
# Published totals: to the last weight where the repository states them, else as the model card rounds them.
LLMS = {
    "llama-2-7b": 6738415616,
    "llama-2-13b": 13015864320,
    "llama-2-70b": 68976648192,
    "llama-3-8b": 8030261248,
    "llama-3-70b": 70553706496,
    "llama-3.1-8b": 8030261248,
    "llama-3.1-70b": 70553706496,
    "llama-3.1-405b": 405853388800,
    "llama-3.2-1b": 1235814400,
    "llama-3.2-3b": 3212749824,
    "llama-3.3-70b": 70553706496,
    "llama-4-scout": 109e9 - 0.9e9,  # less the vision encoder
    "llama-4-maverick": 402e9 - 0.9e9,
    "qwen2.5-0.5b": 494032768,
    "qwen2.5-1.5b": 1543714304,
    "qwen2.5-3b": 3085938688,
    "qwen2.5-7b": 7615616512,
    "qwen2.5-14b": 14770033664,
    "qwen2.5-32b": 32763876352,
    "qwen2.5-72b": 72706203648,
    "qwen3-0.6b": 0.6e9,
    "qwen3-1.7b": 1.72e9,
    "qwen3-4b": 4022468096,
    "qwen3-8b": 8190735360,
    "qwen3-14b": 14768307200,
    "qwen3-32b": 32762123264,
    "qwen3-30b-a3b": 30532122624,
    "qwen3-235b-a22b": 235093634560,
    "mistral-7b-v0.1": 7241732096,
    "mistral-7b-v0.3": 7248023552,
    "mistral-nemo-12b": 12247782400,
    "mistral-small-24b": 23572403200,
    "mistral-large-123b": 122610069504,
    "mixtral-8x7b": 46702792704,
    "mixtral-8x22b": 140.63e9,
    "gemma-3-1b": 999885952,
    "gemma-3-4b": 3.88e9,
    "gemma-3-12b": 11.77e9,
    "gemma-3-27b": 27.01e9,
    "gpt-oss-20b": 20.91e9,
    "gpt-oss-120b": 116.83e9,
    "deepseek-v2": 235741434880,
    "deepseek-v2-lite": 15706484224,
    "deepseek-v3": 671026419200,
    "deepseek-r1": 671026419200,
    "kimi-k2": 1.026e12,
    "phi-4": 14659507200,
    "bloom-176b": 176247271424,
    "internlm-20b": 20.09e9,
    "opt-13b": 12.85e9,
    "opt-66b": 65.7e9,
    "opt-175b": 175e9,
    "llama-30b": 32528943616,
    "llama-1b": 1100048384,
    "llama-3b": 3426473600,
    "llama-7b": 6738415616,
}
# What the cards say one token activates, in billions.
ACTIVE = {
    "mixtral-8x7b": 12.9,
    "mixtral-8x22b": 39.1,
    "qwen3-30b-a3b": 3.3,
    "qwen3-235b-a22b": 22.0,
    "llama-4-scout": 17.0,
    "llama-4-maverick": 17.0,
    "deepseek-v2": 21.0,
    "deepseek-v3": 37.0,
    "kimi-k2": 32.0,
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tables that a test may corrupt, read instead of the shipped ones."""
    folder = tmp_path / "data"
    shutil.copytree(catalog.DATA, folder)
    monkeypatch.setattr(catalog, "DATA", folder)
    return folder


def change(file: Path, name: str, column: str, value: str) -> int:
    """Overwrite one cell; returns the line it stands on."""
    rows = list(csv.DictReader(file.read_text().splitlines()))
    number = next(n for n, row in enumerate(rows) if next(iter(row.values())) == name)
    rows[number][column] = value
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return number + 2


def test_every_promised_gpu_and_no_other() -> None:
    assert sorted(catalog.gpus()) == sorted(GPUS)


@pytest.mark.parametrize(
    ("name", "gigabytes", "gb_s", "tdp_w", "tflops", "die_mm2", "node"),
    [
        ("t4", 16, 320, 70, 65, 545, 14),
        ("l4", 24, 300, 72, 121, 294, 5),
        ("a100-sxm-80gb", 80, 2039, 400, 312, 826, 7),
        ("h100-sxm-80gb", 80, 3350, 700, 989.4, 814, 5),
        ("h200-sxm-141gb", 141, 4800, 700, 989.4, 814, 5),
        ("b200-sxm-180gb", 180, 8000, 1000, 2250, 1600, 5),
        ("rtx-6000-ada", 48, 960, 300, 364.2, 609, 5),
        ("rtx-pro-6000", 96, 1792, 600, 503.8, 750, 5),
        ("mi300x", 192, 5300, 750, 1307, 1017, 5),
    ],
)
def test_figures_in_si(
    name: str, gigabytes: float, gb_s: float, tdp_w: float, tflops: float, die_mm2: float, node: int
) -> None:
    gpu = catalog.gpu(name)
    assert gpu.memory_bytes == pytest.approx(gigabytes * 1e9)
    assert gpu.memory_gb == pytest.approx(gigabytes)
    assert gpu.bandwidth_bytes_per_s == pytest.approx(gb_s * 1e9)
    assert gpu.flops_bf16 == pytest.approx(tflops * 1e12)
    assert (gpu.tdp_w, gpu.die_mm2, gpu.act_node_nm) == (tdp_w, die_mm2, node)


def test_known_gpus_agree_with_the_facts(shared: Path) -> None:
    file = shared.parent / "facts" / "gpus.csv"
    if not file.exists():
        pytest.skip("no facts beside this checkout")
    names = {"H100 SXM": "h100-sxm-80gb", "H200 SXM": "h200-sxm-141gb", "B200 SXM": "b200-sxm-180gb"}
    names |= {"H100 PCIe": "h100-pcie-80gb", "GB200 (per GPU)": "gb200"}
    for row in csv.DictReader(file.read_text().splitlines()):
        plain = row["name"].replace("SXM4", "SXM").replace("SXM2", "SXM")
        parts = plain.lower().split()
        if parts[0] in ("a100", "v100"):
            plain = " ".join((parts[0], parts[1], parts[2]))
        gpu = catalog.gpu(names.get(row["name"], plain))
        assert gpu.memory_gb == float(row["memory_gb"]), gpu.name
        assert gpu.bandwidth_bytes_per_s == float(row["bandwidth_gb_s"]) * 1e9, gpu.name
        assert gpu.tdp_w == (float(row["tdp_w"]) if row["tdp_w"] else None), gpu.name
        assert gpu.flops_bf16 == pytest.approx(float(row["fp16_bf16_dense_tflops"]) * 1e12), gpu.name
        assert str(gpu.act_node_nm or "") == row["act_node_nm"], gpu.name
        assert gpu.release_year == int(row["release_year"]), gpu.name


def test_every_figure_has_a_source_and_recalled_ones_are_named() -> None:
    for gpu in catalog.gpus().values():
        for column in ("memory_gb", "bandwidth_gb_s", "tdp_w", "idle_w", "bf16_tflops", "die_mm2", "act_node_nm"):
            assert gpu.sources[column], (gpu.name, column)
        if "recalled" in gpu.sources["bf16_tflops"]:
            assert "bf16_tflops" in gpu.verify, gpu.name
        if "recalled" in gpu.sources["bandwidth_gb_s"]:
            assert "bandwidth_gb_s" in gpu.verify, gpu.name
    for unit in catalog.hosts().values():
        assert unit.source
    for llm in catalog.llms().values():
        assert llm.source


def test_unknown_figures_stay_unknown() -> None:
    assert catalog.gpu("tpu-v5e").tdp_w is None
    assert catalog.gpu("gaudi3").die_mm2 is None
    assert catalog.gpu("h200-sxm-141gb").idle_w is None
    assert "calibrate" in catalog.gpu("h200-sxm-141gb").sources["idle_w"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("H100-SXM", "h100-sxm-80gb"),
        ("h100_sxm_80gb", "h100-sxm-80gb"),
        (" H100 SXM 80GB ", "h100-sxm-80gb"),
        ("H100 PCIe", "h100-pcie-80gb"),
        ("Tesla T4", "t4"),
        ("A10", "a10"),
        ("A10G", "a10g"),
        ("RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("h200", "h200-sxm-141gb"),
        ("B200", "b200-sxm-180gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("v100_32gb", "v100-sxm-32gb"),
    ],
)
def test_forgiving_names(said: str, meant: str) -> None:
    assert catalog.gpu(said).name == meant


@pytest.mark.parametrize(
    ("said", "candidates"),
    [
        ("h100", "h100-pcie-80gb or h100-sxm-80gb"),
        ("A100", "a100-pcie-40gb or a100-sxm-40gb or a100-sxm-80gb"),
        ("a100-sxm", "a100-sxm-40gb or a100-sxm-80gb"),
        ("V100", "v100-sxm-16gb or v100-sxm-32gb"),
    ],
)
def test_an_ambiguous_name_names_what_it_could_be(said: str, candidates: str) -> None:
    with pytest.raises(InputError, match=f"could be {candidates}; say which"):
        catalog.gpu(said)


@pytest.mark.parametrize(
    ("find", "said", "near"),
    [
        (catalog.gpu, "h100-sxm-80g", "h100-sxm-80gb"),
        (catalog.gpu, "l40-s", "l40s"),
        (catalog.gpu, "rtx-6000", "rtx-6000-ada"),
        (catalog.host, "hgx-h100", "hgx-h100-8"),
        (catalog.hosts_for, "h200-sxm", "h200-sxm-141gb"),
        (catalog.llm, "llama-31-8b", "llama-3.1-8b"),
        (catalog.llm, "", "known: "),
    ],
)
def test_a_near_miss_is_answered_with_the_right_name(find: object, said: str, near: str) -> None:
    if find is catalog.hosts_for:
        assert {unit.gpu for unit in catalog.hosts_for(said)} == {near}
        said += "-14gb"
    with pytest.raises(InputError, match=near):
        find(said)  # type: ignore[operator]


@given(st.text(max_size=30))
def test_any_word_gives_an_entry_or_an_input_error(word: str) -> None:
    for find in (catalog.gpu, catalog.host, catalog.llm):
        with suppress(InputError):
            assert find(word).name


@given(st.sampled_from(GPUS), st.randoms())
def test_a_name_survives_case_and_separators(name: str, random: object) -> None:
    said = "".join(random.choice((c.lower(), c.upper())) for c in name)  # type: ignore[attr-defined]
    assert catalog.gpu(said.replace("-", random.choice("-_ "))).name == name  # type: ignore[attr-defined]


def test_no_alias_hides_a_name() -> None:
    for table in (catalog.gpus(), catalog.llms()):
        for entry in table.values():
            assert not set(entry.aliases) & set(table), entry.name


def test_a_caller_cannot_change_the_catalogue() -> None:
    catalog.gpus().clear()
    assert len(catalog.gpus()) == len(GPUS)


def test_units_of_one_four_and_eight() -> None:
    for name in ("t4", "l4", "l40s", "a10", "a40", "rtx-6000-ada", "rtx-4090", "rtx-pro-6000", "h100-pcie-80gb"):
        assert [unit.gpus for unit in catalog.hosts_for(name)] == [1, 4, 8], name
    for name in ("a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "v100-sxm-32gb"):
        assert [unit.gpus for unit in catalog.hosts_for(name)] == [4, 8], name
    assert [unit.gpus for unit in catalog.hosts_for("gh200")] == [1]
    assert catalog.hosts_for("tpu-v5e") == []  # a cloud has them, nobody can buy one
    sold = {unit.gpu for unit in catalog.hosts().values()}
    assert {name for name in GPUS if name not in sold} == {name for name in GPUS if name.startswith("tpu")}


def test_host_power() -> None:
    """Wall measurements: 6,153 W less 8 x 500 W, and 10,401 W less 8 x 1000 W; the modelled ones say their sum."""
    assert catalog.host("hgx-h100-8").power_w >= 2150
    assert catalog.host("hgx-h200-8").power_w >= 2150
    assert catalog.host("hgx-b200-8").power_w >= 2400
    assert catalog.host("hgx-h200-8").power_w == pytest.approx(6153 - 8 * 500, rel=0.01)
    one = catalog.host("l4-server-1")  # 145 + 128 x .37 + 2 x 5 + 19 + 35 + 112 = 368.36, x 1.05/.95 = 407
    assert one.power_w == pytest.approx(407, abs=0.5)
    assert "128 GB x 0.37" in one.source
    assert "= 407" in one.source
    modelled = [unit for unit in catalog.hosts().values() if "modelled" in unit.source]
    assert len(modelled) == len(catalog.hosts()) - 3


@pytest.mark.parametrize("name", LLMS)
def test_parameters_follow_from_the_shape(name: str) -> None:
    llm = catalog.llm(name)
    assert llm.counted_params == pytest.approx(LLMS[name], rel=0.01)
    assert llm.params == pytest.approx(LLMS[name], rel=0.01)
    assert llm.contradictions() == []


@pytest.mark.parametrize("name", ACTIVE)
def test_what_one_token_activates(name: str) -> None:
    assert catalog.llm(name).active_params / 1e9 == pytest.approx(ACTIVE[name], rel=0.04)


def test_weights_counted_by_hand() -> None:
    """DeepSeek-V3 from its config.json, term by term: latent attention, three dense layers, 58 of experts."""
    query = 7168 * 1536 + 1536 * 128 * (128 + 64)
    attention = query + 7168 * (512 + 64) + 512 * 128 * (128 + 128) + 128 * 128 * 7168
    dense = 3 * 7168 * 18432
    moe = 257 * 3 * 7168 * 2048 + 256 * 7168
    total = 61 * (attention + 2 * 7168) + 3 * dense + 58 * moe + 7168 + 2 * 129280 * 7168
    deepseek = catalog.llm("deepseek-v3")
    assert deepseek.attention_params == attention
    assert deepseek.counted_params == total


def test_latent_and_windowed_attention_keep_less() -> None:
    deepseek, gemma = catalog.llm("deepseek-r1"), catalog.llm("gemma-3-27b")
    assert deepseek.kv_bytes_per_token() == 61 * (512 + 64) * 2  # 70 kB; 128 heads would keep 4 MB
    assert gemma.kv_bytes_per_token() == 62 * 2 * 16 * 128 * 2
    assert gemma.kv_bytes(100_000) == 2 * 16 * 128 * 2 * (10 * 100_000 + 52 * 1024)
    assert gemma.kv_bytes(1000) == 1000 * gemma.kv_bytes_per_token()
    llama = catalog.llm("llama-3.1-8b")
    assert llama.kv_bytes(5000) == 5000 * llama.kv_bytes_per_token()


def test_the_shipped_catalogue_contradicts_itself_nowhere() -> None:
    assert contradictions() == []


@pytest.mark.parametrize(
    ("file", "name", "column", "value", "says"),
    [
        ("gpus.csv", "l4", "bandwidth_gb_s", "864", "192 bits at 12.5 Gbit/s give 300 GB/s, but bandwidth_gb_s is 864"),
        ("gpus.csv", "mi300x", "bandwidth_gb_s", "10300", "give 5,325 GB/s"),  # an error of a public database
        ("gpus.csv", "a100-sxm-40gb", "idle_w", "460", "idles at 460 W, not below its TDP of 400 W"),
        ("gpus.csv", "t4", "bf16_tflops", "650", "a sparse, fp8 or fp4 figure"),
        ("gpus.csv", "b200-sxm-180gb", "dies", "1", "a die of 1,600 mm2 is larger than the 858"),
        ("gpus.csv", "t4", "memory_gb", "160", "20.0 GB in each of 8 GDDR6 packages"),
        ("gpus.csv", "t4", "act_node_nm", "7", "act_node_nm is 7, but the process is TSMC 12nm"),
        ("gpus.csv", "t4", "release_year", "218", "released in 218"),
        ("hosts.csv", "l4-server-8", "power_w", "99", "99 W beside 8 GPUs"),
        ("hosts.csv", "l4-server-8", "dram_gb", "16", "16 GB of DRAM for 8 GPUs"),
        ("llms.csv", "phi-4", "params", "14000000000", "4.7 % off params"),
        ("llms.csv", "phi-4", "kv_heads", "12", "kv_heads 12 does not divide heads 40"),
        ("llms.csv", "mixtral-8x7b", "intermediate", "14336", "is not the 28672 that a token's experts have"),
        ("llms.csv", "mixtral-8x7b", "experts_per_token", "9", "9 experts a token of 8"),
        ("llms.csv", "mixtral-8x7b", "experts_per_token", "", "go together"),
        ("llms.csv", "deepseek-v3", "rope_dim", "", "kv_rank, rope_dim and value_dim go together"),
        ("llms.csv", "gemma-3-27b", "window", "", "do not fit the layers"),
        ("llms.csv", "llama-3.1-8b", "aliases", "phi-4", "alias phi-4 is another's name"),
        ("llms.csv", "llama-3.1-8b", "params", "7000000000", "its weights are 16.1 GB, the model's 14.0 GB"),
        ("gpus.csv", "l4", "memory_gb", "17", "exceed 1 x 17 GB"),
        ("gpus.csv", "l4", "tdp_w", "40", "above 1 x 40 W"),
    ],
)
def test_a_contradiction_is_found(copy: Path, file: str, name: str, column: str, value: str, says: str) -> None:
    change(copy / file, name, column, value)
    assert says in "; ".join(item.what for item in contradictions())


OWN_GPU = "name,vendor,memory_gb,bandwidth_gb_s,bf16_tflops,memory_type,release_year,spec_source,bf16_source\n"


def test_own_tables_stand_beside_the_shipped_ones_only_within_using(tmp_path: Path) -> None:
    (tmp_path / "gpus.csv").write_text(OWN_GPU + "moon-1,Moon,64,2000,300,HBM3,2026,our lab,our lab\n")
    (tmp_path / "hosts.csv").write_text(
        "name,gpu,gpus,cpus,dram_gb,ssd_tb,nics,chassis_2u,fans,source\nmoon-4,moon-1,4,2,512,8,2,1,2,our lab\n"
    )
    with catalog.using(tmp_path):
        assert catalog.gpu("Moon 1").tdp_w is None
        assert [host.name for host in catalog.hosts_for("moon-1")] == ["moon-4"]
        assert len(catalog.gpus()) == len(GPUS) + 1
        assert catalog.llm("phi-4").layers == 40
        assert contradictions() == []
    with pytest.raises(InputError, match="unknown GPU"):
        catalog.gpu("moon-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OWN_GPU + "l4,Moon,64,2000,300,HBM3,2026,lab,lab\n", "l4 is in the shipped catalogue already"),
        (OWN_GPU.replace("vendor", "vendro"), ":1: vendro: no such column; did you mean vendor"),
        (OWN_GPU + "moon-1,Moon,,2000,300,HBM3,2026,lab,lab\n", ":2: memory_gb: a positive number is needed"),
        (OWN_GPU + "moon-1,Moon,64,2000,300,HBM3,2026,,lab\n", ":2: spec_source: empty"),
    ],
)
def test_own_tables_are_checked_like_the_shipped_ones(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "gpus.csv").write_text(text)
    with pytest.raises(InputError) as refused, catalog.using(tmp_path):
        pass
    assert says in str(refused.value)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in it; see docs"), catalog.using(tmp_path):
        pass


def test_the_catalogue_has_these_models_and_no_other() -> None:
    assert sorted(catalog.llms()) == sorted(LLMS)


def test_bytes() -> None:
    llama = catalog.llm("Llama-3.1-8B-Instruct")
    assert llama.kv_bytes_per_token() == 131072  # 2 x 32 layers x 8 heads x 128 x 2 bytes
    assert llama.kv_bytes_per_token("fp8") == 65536
    assert llama.weights_bytes("bf16") == 2 * 8030261248
    assert llama.weights_bytes("int4") == 8030261248 / 2
    with pytest.raises(InputError, match="did you mean bf16"):
        llama.weights_bytes("b16")


def test_a_dense_model_is_all_active_and_a_mixture_is_not() -> None:
    llama, qwen = catalog.llm("llama-3.1-8b"), catalog.llm("qwen3-30b-a3b")
    assert (llama.moe, llama.active_params) == (False, llama.params)
    assert qwen.moe
    assert qwen.intermediate == qwen.experts_per_token * qwen.expert_intermediate
    # two per weight without the embedding table: 2 x (8.030 - 0.525) billion
    assert llama.linear_flops_per_token == pytest.approx(15.01e9, rel=1e-3)


@pytest.mark.parametrize(
    ("file", "name", "column", "value", "says"),
    [
        ("gpus.csv", "l4", "tdp_w", "seventy", "'seventy' is not a number"),
        ("gpus.csv", "l4", "tdp_w", "-72", "'-72' is not a number of zero or more"),
        ("gpus.csv", "l4", "tdp_w", "nan", "'nan' is not a number"),
        ("gpus.csv", "l4", "memory_gb", "", "positive number is needed"),
        ("gpus.csv", "l4", "memory_gb", "0", "positive number is needed"),
        ("gpus.csv", "l4", "name", "L 4", "is not a name"),
        ("gpus.csv", "l4", "name", "t4", "t4 is given twice"),
        ("gpus.csv", "l4", "memory_packages", "11.5", "not a whole number"),
        ("gpus.csv", "l4", "spec_source", "", "empty"),
        ("gpus.csv", "l4", "verify", "tpd_w", "did you mean tdp_w"),
        ("hosts.csv", "l4-server-4", "gpu", "l5", "unknown 'l5'; did you mean l4"),
        ("hosts.csv", "l4-server-4", "gpus", "4.5", "not a whole number"),
        ("hosts.csv", "l4-server-4", "source", "", "empty"),
        ("llms.csv", "qwen3-32b", "layers", "", "positive number is needed"),
        ("llms.csv", "qwen3-32b", "tied_embeddings", "maybe", "neither yes nor no"),
    ],
)
def test_a_corrupt_cell_is_refused_with_file_and_line(
    copy: Path, file: str, name: str, column: str, value: str, says: str
) -> None:
    line = change(copy / file, name, column, value)
    load = {"gpus.csv": catalog.gpus, "hosts.csv": catalog.hosts, "llms.csv": catalog.llms}[file]
    with pytest.raises(InputError, match=says) as refused:
        load()
    assert (refused.value.file, refused.value.line) == (copy / file, line)
    assert refused.value.field == (None if "twice" in says else column)


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("name,aliases\nl4,nvidia-l4\n", "no such column", 1),
        ("name\nl4,5\n", "wrong number of columns", 2),
        ("name,aliases\nl4\n", "wrong number of columns", 2),
        ("", "the table is empty", None),
    ],
)
def test_a_table_of_the_wrong_shape(copy: Path, text: str, says: str, line: int | None) -> None:
    (copy / "gpus.csv").write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        catalog.gpus()
    assert refused.value.line == line


def test_the_copy_unchanged_loads(copy: Path) -> None:
    assert len(catalog.gpus()) == len(GPUS)
    change(copy / "hosts.csv", "l4-server-1", "power_w", "500")
    assert catalog.host("l4-server-1").power_w == 500


OWN_PHI = "name,layers,hidden,intermediate,heads,kv_heads,head_dim,vocab,params,tied_embeddings,max_context,source\n"


def own_scenario(folder: Path) -> Path:
    """A run on a GPU, a host, a model and a profile that only the user has."""
    tables = folder / "mine"
    tables.mkdir()
    (tables / "gpus.csv").write_text(
        OWN_GPU.replace(",release", ",tdp_w,release") + "moon-1,Moon,80,3350,989,HBM3,700,2026,our lab,our lab\n"
    )
    (tables / "hosts.csv").write_text(
        "name,gpu,gpus,cpus,dram_gb,ssd_tb,nics,chassis_2u,fans,source\nmoon-1,moon-1,1,1,256,4,1,1,1,our lab\n"
    )
    (tables / "llms.csv").write_text(
        OWN_PHI + "our-8b,32,4096,14336,32,8,128,128256,8030261248,no,8192,our config.json\n"
    )
    shipped = json.loads((shipped_folder() / "h100-sxm-80gb_llama-3.1-8b_tp1_bf16_vllm.json").read_text())
    (folder / "profile.json").write_text(json.dumps(shipped | {"gpu": "moon-1", "model": "our-8b"}))
    (folder / "scenario.yaml").write_text(
        """
generator: {rate_per_s: 2, duration_s: 60, lengths: azure-conv}
sites: [{name: here, grid: US-CAL-CISO}]
pools: [{name: p, site: here, gpu: moon-1, model: our-8b, instances: 1}]
profiles: [profile.json]
own_catalog: mine
accounting: {embodied_kg: {moon-1: 200}}
"""
    )
    return folder / "scenario.yaml"


def test_a_run_on_ones_own_gpu_and_model_says_so_and_can_be_verified(tmp_path: Path) -> None:
    made = run(scenario.read(own_scenario(tmp_path)))
    assert made.summary["requests"]["completed"] == made.summary["requests"]["total"] > 50
    pool = made.summary["pools"][0]
    chip_g = pool["parts_g"]["embodied"] - embodied.host_embodied(made.pools[0].host).mid_kg * 1000 / (6 * 8760)
    assert chip_g == pytest.approx(200 * 1000 / (5 * 8760), rel=1e-6)  # an hour of five years
    with pytest.raises(InputError, match=r"die_mm2 of moon-1 is unknown.*embodied_kg"):
        run(scenario.read(tmp_path / "scenario.yaml").model_copy(update={"accounting": scenario.Accounting()}))
    files = [path.name for path in made.inputs()]
    assert files == ["gpus.csv", "hosts.csv", "llms.csv", "profile.json"]
    made.write(tmp_path / "out")
    assert verify(tmp_path / "out").same
    with pytest.raises(InputError, match="unknown GPU 'moon-1'"):
        run(scenario.read(tmp_path / "scenario.yaml").model_copy(update={"own_catalog": None}))
    (tmp_path / "mine" / "gpus.csv").unlink()
    assert "gpus.csv: is missing" in verify(tmp_path / "out").inputs[0]


@pytest.mark.parametrize(
    ("name", "fp8", "fp4"),
    [
        ("h200-sxm-141gb", 1978.8, 1978.8),
        ("rtx-pro-6000", 1007.6, 2015.2),
        ("gaudi3", 1835, 1835),
        ("mi355x", 5034, 10068),
    ],
)
def test_tensor_cores_gain_speed_down_to_their_least_bits(name: str, fp8: float, fp4: float) -> None:
    """Dense tera-operations of the data sheets: Gaudi 3 has one rate for bf16 and fp8, workstation cards know fp4."""
    found = catalog.gpu(name)
    assert [found.flops(precision) / 1e12 for precision in ("fp8", "fp4")] == pytest.approx([fp8, fp4])
