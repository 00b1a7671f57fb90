"""How public measurements spell GPUs, models and engines, and which entry of the catalogue each spelling means."""

from __future__ import annotations

import re

from profiles import catalog
from profiles.catalog import Gpu
from profiles.inputs import InputError
from profiles.llm import Llm

_GPUS = {
    "h100": "h100-sxm-80gb",
    "h200": "h200-sxm-141gb",
    "b200": "b200-sxm-180gb",
    "b300": "b300-sxm-288gb",
    "a100": "a100-sxm-80gb",
    "v100": "v100-sxm-16gb",
    "h100-80gb": "h100-sxm-80gb",
    "a100-80gb": "a100-sxm-80gb",
    "rtx-pro-6000-server": "rtx-pro-6000",
    "nvidia-a100-gpu": "a100-sxm-40gb",  # LLM-Inference-Bench's machine has the 40 GB card
}
# Versions for chat, code or pictures share a shape; where the catalogue has no such entry, predict.names may.
_MODELS = (
    (r"qwen3-(?:vl-|omni-|coder-)?30b-a3b", "qwen3-30b-a3b"),
    (r"qwen3-(?:vl-)?235b", "qwen3-235b-a22b"),
    (r"qwen3-(?:vl-)?(\d+)b(?!-a)", "qwen3-{}b"),
    (r"deepseek-v3", "deepseek-v3"),
    (r"r1-distill-llama-8b", "llama-3.1-8b"),
    (r"r1-distill-llama-70b", "llama-3.3-70b"),
    (r"r1-distill-qwen-(14|32)b", "qwen2.5-{}b"),
    (r"deepseek-r1(?!-distill)", "deepseek-r1"),
    (r"kimi-k2", "kimi-k2"),
    (r"llama-?(2-\d+b|3\.1-\d+b|3\.3-70b|3-\d+b|4-scout|4-maverick)", "llama-{}"),
    (r"gpt-oss-(\d+b)", "gpt-oss-{}"),
    (r"nemotron-70b", "llama-3.1-70b"),
    (r"gemma-3-(\d+b)", "gemma-3-{}"),
    (r"mixtral-(8x\d+b)", "mixtral-{}"),
    (r"mistral-7b-v0\.1", "mistral-7b-v0.1"),
    (r"mistral-7b", "mistral-7b-v0.3"),
    (r"(?:huggyllama/)?llama-7b", "llama-7b"),
    (r"(?:mistral|magistral|devstral)-small(?:-3\.\d)?-2", "mistral-small-24b"),
    (r"mistral-large-(?:123b|instruct-24|24)\d*", "mistral-large-123b"),
    (r"qwen2(?:\.5)?-(?:vl-|coder-)?(\d+b)(?!-a)", "qwen2.5-{}"),
    (r"qwq-32b", "qwen2.5-32b"),
    (r"phi-4-reasoning", "phi-4"),
    (r"minimax-m2", "minimax-m2.5"),
    (r"glm-5", "glm-5"),
    (r"glm-4\.5-air", "glm-4.5-air"),
    (r"glm-4\.[567](?!-?(?:v|air|flash))", "glm-4.5"),
    (r"qwen3-next-80b", "qwen3-next-80b-a3b"),
    (r"qwen3\.5-(27b|35b-a3b|122b-a10b)", "qwen3.5-{}"),
    (r"nemotron-(3-nano-30b-a3b|super-49b)", "nemotron-{}"),
    (r"(mimo-v2-flash|step-3\.5-flash|gemma-7b|llama-3\.2-11b-vision)", "{}"),
    (r"qwen3-coder-480b", "qwen3-coder-480b-a35b"),
    (r"qwen3\.5-397b", "qwen3.5-397b-a17b"),
    (r"nemotron-nano-(9|12)b", "nemotron-nano-{}b-v2"),
)
_ENGINES = (("sglang", "sglang"), ("tensorrt", "trtllm"), ("trt", "trtllm"), ("vllm", "vllm"))
_MAKERS = r"^(nvidia|amd|intel|habana|instinct|tesla|dgx|hgx)-"
_BOARDS = r"-(gpu|sxm\d?|oam|ac|nvl72|hbm\de?)$"


def gpu(name: str) -> Gpu:
    """The catalogue's GPU behind a source's name.

    Raises:
        InputError: unknown.
    """
    plain = "-".join(re.sub(r"[_\s]+", " ", name.strip().lower()).split())
    unknown: InputError | None = None
    while True:
        try:
            return catalog.gpu(_GPUS.get(plain, plain))
        except InputError as error:
            unknown = unknown or error
        shorter = re.sub(_BOARDS, "", plain)
        shorter = shorter if shorter != plain else re.sub(_MAKERS, "", plain)
        if shorter == plain:
            raise unknown
        plain = shorter


def engine(name: str) -> str:
    """The engine behind a source's name, in small letters: vllm, sglang or trtllm where it is one of these."""
    plain = name.strip().lower()
    return next((wanted for word, wanted in _ENGINES if word in plain), plain)


def model(name: str) -> Llm:
    """The catalogue's model behind a source's name.

    Raises:
        InputError: unknown.
    """
    try:
        return catalog.llm(name)
    except InputError:
        wanted = spelled(name)
        if wanted in catalog.llms():
            return catalog.llm(wanted)
        raise


def spelled(name: str) -> str:
    """A model's name as the catalogue would write it, whether or not the catalogue has it."""
    plain = name.strip().lower().replace("_", "-")
    for pattern, wanted in _MODELS:
        found = re.search(pattern, plain)
        if found:
            return wanted.format(*found.groups())
    return plain.split("/")[-1]
