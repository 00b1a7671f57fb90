"""What LLMCO2's abstract and its repository (commit 6c9538c) state; quoted second-hand where the source says so."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = (
    "Fu, Chen, Zhou, Li, Jiang: LLMCO2: Advancing Accurate Carbon Footprint Prediction for LLM Inferences. "
    "arXiv 2410.02950"
)
GAIN = (0.51, 1.23)  # "51 to 123 %" better than earlier predictors by machine learning; quoted second-hand
MODELS = ("llama-2-7b", "internlm-20b", "llama-2-70b")
NAMES = {-1: "llama-2-70b", 0: "llama-2-7b", 1: "internlm-20b"}  # by the released column 3, standardised and rounded
GPUS_TOGETHER = 4  # "num" in the repository's table of hardware
LIFETIME_YEARS = 5.0  # LLMCarbon's, whose embodied model the authors use

# Every released pair of prompt and output is a request of the Azure 2023 conversation trace, whose means stand here.
PROMPT_TOKENS, OUTPUT_TOKENS = 1155, 211
BATCHES = (1, 8, 32)
ZONES = ("QC", "CISO", "PACE")  # ours: those of HotCarbon'24, since the paper's intensities could not be read


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as the repository has it, and LLMCarbon's kilograms a square centimetre of its die."""

    gpu: str
    bandwidth_bytes_per_s: float
    flops_fp16: float
    die_kg_per_cm2: float


CARDS = (
    Card("v100-sxm-16gb", 900e9, 112e12, 1.2),
    Card("a100-sxm-40gb", 1555e9, 312e12, 1.6),
    Card("h100-sxm-80gb", 3072e9, 989.5e12, 1.8),
)
# What this project set itself on the released rows: split -> prefill, decode.
AIMS = {"released": (0.01, 0.01), "longest": (0.06, 0.02), "five": (0.20, 0.03)}
