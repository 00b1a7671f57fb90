"""What the two papers state, as far as it could be read: abstracts word by word, settings partly from memory."""

from __future__ import annotations

from dataclasses import dataclass

GREENER = (
    "Stojkovic, Choukse, Zhang, Goiri, Torrellas: Towards Greener LLMs: Bringing Energy-Efficiency to the Forefront of "
    "LLM Inference. arXiv 2403.20306"
)
DYNAMO = (
    "Stojkovic, Zhang, Goiri, Torrellas, Choukse: DynamoLLM: Designing LLM Inference Clusters for Performance and "
    "Energy Efficiency. arXiv 2408.00741"
)
GPU, MODEL, PRECISION, ENGINE = "h100-sxm-80gb", "llama-2-70b", "bf16", "vllm"
TPS = (2, 4, 8)
ZONE = "CISO"

HEADLINE_SAVING = 0.20  # "about 20 %" of energy without harm to latency or throughput "in many cases"
WEEK_ENERGY, WEEK_CARBON = 0.53, 0.38  # DynamoLLM's abstract: energy, operational carbon
DECODE_LOCKED = 0.32  # arXiv 2605.11999, H200: most that a locked SM clock recovers of decode energy
TBT_LIMIT_S = 0.1
HARMLESS = 1.05  # a latency that is at most so many times the baseline's is called unharmed


@dataclass(frozen=True, slots=True)
class Lengths:
    """A class of requests: tokens in and out, and its TTFT limit."""

    name: str
    prompt: int
    output: int
    ttft_s: float


_PROMPTS = {"short": (128, 0.25), "medium": (512, 0.4), "long": (2048, 2.0)}
_OUTPUTS = {"short": 64, "medium": 256, "long": 512}
CLASSES = tuple(
    Lengths(f"{p}-{o}", tokens, output, limit)
    for p, (tokens, limit) in _PROMPTS.items()
    for o, output in _OUTPUTS.items()
)
