"""The catalogue: figures, names and aliases, shapes against parameter counts, and broken tables."""

from __future__ import annotations

import csv
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles import catalog
from profiles.inputs import InputError

GPUS = """t4 l4 l40s a10 a10g a40 v100-sxm-16gb v100-sxm-32gb a100-pcie-40gb a100-sxm-40gb a100-sxm-80gb h100-pcie-80gb
    h100-sxm-80gb h200-sxm-141gb gh200 b200-sxm-180gb gb200 rtx-6000-ada rtx-4090 rtx-pro-6000 mi250x mi300x gaudi2
    gaudi3 tpu-v4 tpu-v5e tpu-v5p tpu-v6e""".split()  # noqa: SIM905
LLMS = {
    "llama-2-7b": 6.738e9,
    "llama-2-70b": 68.98e9,
    "llama-3.1-8b": 8.030e9,
    "llama-3.1-70b": 70.55e9,
    "qwen3-32b": 32.76e9,
    "qwen3-30b-a3b": 30.53e9,
    "llama-1b": 1.100e9,
    "llama-3b": 3.426e9,
    "llama-7b": 6.738e9,
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
        (catalog.gpu, "l40", "l40s"),
        (catalog.gpu, "rtx-6000", "rtx-6000-ada"),
        (catalog.host, "hgx-h100", "hgx-h100-8"),
        (catalog.hosts_for, "h200-sxm", "h200-sxm-141gb"),
        (catalog.llm, "llama-3-8b", "llama-3.1-8b"),
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
    attention = 2 * llm.hidden * llm.head_dim * (llm.heads + llm.kv_heads)
    mlp = 3 * llm.hidden * (llm.experts * llm.expert_intermediate or llm.intermediate) + llm.hidden * llm.experts
    tables = llm.vocab * llm.hidden * (1 if llm.tied_embeddings else 2)
    counted = llm.layers * (attention + mlp + 2 * llm.hidden) + tables + llm.hidden
    assert llm.params == pytest.approx(counted, rel=1e-3)
    assert llm.params == pytest.approx(LLMS[name], rel=1e-3)


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
    assert qwen.active_params == pytest.approx(3.35e9, rel=0.01)  # its card says 3.3B
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
