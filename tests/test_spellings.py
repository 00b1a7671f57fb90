"""Names as public dumps spell them: each means one catalogue entry, and what only looks like one stays unknown."""

from __future__ import annotations

import pytest

from profiles import spellings
from profiles.inputs import InputError
from profiles.predict import names, request


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("h100-80gb", "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H100 NVL", "h100-nvl-94gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("A100-80GB", "a100-sxm-80gb"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm-288gb"),
        ("gb200_nvl72", "gb200"),
        ("NVIDIA DGX B200", "b200-sxm-180gb"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("Intel Gaudi 2", "gaudi2"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("Nvidia A100 GPU", "a100-sxm-40gb"),
    ],
)
def test_gpus(spelled: str, meant: str) -> None:
    assert spellings.gpu(spelled).name == meant


@pytest.mark.parametrize("spelled", ["NVIDIA A100 80GB PCIe", "AMD MI300A GPU", "NVIDIA H800", "SambaNova SN40L"])
def test_a_gpu_of_other_figures_is_not_taken_for_its_sibling(spelled: str) -> None:
    with pytest.raises(InputError, match="unknown GPU"):
        spellings.gpu(spelled)


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen2.5-32b"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b"),
        ("meta-llama/Meta-Llama-3.1-405B-FP8", "llama-3.1-405b"),
        ("nvidia/Llama-3.3-70B-Instruct-FP4", "llama-3.1-70b"),
        ("LLAMA3.1_8B", "llama-3.1-8b"),
        ("QWEN3_235B", "qwen3-235b-a22b"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("zai-org/GLM-4.6-FP8", "glm-4.5"),
        ("zai-org/GLM-4.5-Air", "glm-4.5-air"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-24b"),
    ],
)
def test_models(spelled: str, meant: str) -> None:
    assert names.model(spelled).name == meant


@pytest.mark.parametrize(
    "spelled",
    ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-ai/DeepSeek-V4", "Qwen/Qwen2-57B-A14B",
     "zai-org/GLM-4.7-Flash", "microsoft/Phi-4-mini-instruct"],
)  # fmt: skip
def test_a_model_of_another_shape_stays_unknown(spelled: str) -> None:
    with pytest.raises(names.UnknownNameError):
        names.model(spelled)


def test_engines() -> None:
    spelled = ("vLLM", "vllm 0.11", "SGLang", "TRTLLM", "TensorRT-LLM", "tensorrt_llm", "llama.cpp")
    assert [spellings.engine(name) for name in spelled] == ["vllm", "vllm", "sglang", *("trtllm",) * 3, "llama.cpp"]
    assert request.cell("h100-sxm-80gb", "llama-3.1-8b", engine="TensorRT-LLM").engine == "trtllm"
