"""Rows of aiconfigurator's silicon_sample: how its words for GPUs, precisions and pools are read (docs/predict.md)."""

from __future__ import annotations

import re

from profiles import spellings
from profiles.catalog import Gpu
from profiles.llm import Llm, precision_bytes
from profiles.predict import names
from profiles.predict.columns import Cell, reach
from profiles.predict.measured import Row
from profiles.predict.records import Record

_SPELLED = {  # aiconfigurator's and ML.ENERGY's words, and those of vLLM and TensorRT-LLM checkpoints
    "bf16": "bf16 bfloat16 fp16 float16 half auto",
    "fp8": "fp8 fp8_block fp8_static fp8_ootb fp8_pb_wo fp8_e4m3 fp8_dynamic w8a8_fp8 mxfp8",
    "fp4": "fp4 nvfp4 mxfp4 w4a16_mxfp4 w4a8_mxfp4_mxfp8 w4a8_mxfp4_fp8 w4afp8",
    "int8": "int8 int8_wo w8a8 w8a16 sq",
    "int4": "int4 int4_wo int4_awq w4a16 w4a16_awq awq gptq",
    "": "",
}
PRECISION = {"": ""} | {word: kind for kind, words in _SPELLED.items() for word in words.split()}
KNOWN = (
    *("id", "silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode", "isl"),
    *("osl", "gemm_quant_mode", "moe_quant_mode", "silicon_ttft_ms", "silicon_tpot_ms"),
    *(f"{head}{k}" for head in ("", "prefill_", "decode_") for k in ("batch_size", "tp_size", "pp_size",
      "attention_dp_size", "moe_tp_size", "moe_ep_size")),
    *("prefill_num_workers", "decode_num_workers"),
)  # fmt: skip
_WIDEST = 16  # ways that an engine cuts attention: more are the GPUs of two pools added up
_LIGHT = 160_000  # tokens in flight a GPU, over the GPUs of one pool


def row(r: Record) -> Row:
    """aiconfigurator's silicon_sample.csv: mean TTFT and TPOT of serving at a fixed concurrency."""
    mode = r.one_of("mode", {"agg": "", "disagg": "decode_"})
    world, tp, ep = _parallelism(r, mode)
    llm = names.model(r.text("model_path"))
    apart = bool(mode) or llm.heads % tp > 0 or tp > _WIDEST  # no engine cuts heads so: two pools' GPUs added up
    gpu, engine = names.gpu(r.text("system")), spellings.engine(r.text("backend"))
    linear, experts = _precisions(r, llm)
    stated = re.search(r"silicon_concurrency=(\d+)", r.text("silicon_data_source")) or re.search(
        r"_c(\d+)_", r.text("id")
    )
    batch = float(stated.group(1)) if stated else r.number(mode + "batch_size") * world / tp
    guessed = bool(mode) and not r.text("decode_num_workers")
    if guessed:
        tp, workers = _pools(world, tp, batch * (r.number("isl") + 0.5 * r.number("osl")), gpu, engine)
        batch = max(1.0, batch / workers)
    elif mode and stated:
        batch = max(1.0, batch / r.count("decode_num_workers", 1))
    source = "silicon-gap" if "gap" in r.text("silicon_data_source") else "silicon"
    kv = "fp8" if linear in ("fp8", "fp4") and not llm.moe else "bf16"  # else the larger batches would not fit
    version = r.text("backend_version")
    cell = Cell(gpu, llm, engine, linear, experts, kv, world, tp, ep, apart, source, "", version)
    overfull = llm.params * precision_bytes(experts) > world * gpu.memory_bytes  # so there were more GPUs
    tpot_s, ttft_ms = r.number("silicon_tpot_ms") / 1e3, r.figure("silicon_ttft_ms")
    return Row(
        r.line, cell, batch, r.number("isl"), r.number("osl"), tpot_s, ttft_ms and ttft_ms / 1e3,
        unstated=stated is None or overfull, lengths_fixed=True, guessed=guessed,
    )  # fmt: skip


def _precisions(r: Record, llm: Llm) -> tuple[str, str]:
    """Of the linear layers and of the experts."""
    linear, experts = r.one_of("gemm_quant_mode", PRECISION), r.one_of("moe_quant_mode", PRECISION)
    linear = linear or r.one_of("precision", PRECISION) or _in_name(r.text("model_path"))
    if llm.name.startswith("gpt-oss") or (linear == "int4" and llm.moe):  # only the experts are published in four bits
        return "bf16", "int4" if linear == "int4" else "fp4"
    return linear, experts or linear


def _pools(world: int, tp: int, kv_tokens: float, gpu: Gpu, engine: str) -> tuple[int, int]:
    """Ways of attention and decode pools where a dump tells neither, from the tokens in flight.

    Read off the rows that state both (docs/predict.md): pools under _LIGHT tokens a GPU cut attention over all their
    GPUs and share the load with others, fuller or rack-wide ones keep each request on one GPU and serve alone.
    """
    if kv_tokens / world >= _LIGHT or (world > 8 and reach(gpu) > 8):
        return 1, 1
    return tp, 2 if engine == "sglang" else 4


def _parallelism(r: Record, head: str) -> tuple[int, int, int]:
    """GPUs, ways of attention and of the experts; some dumps count the same GPUs for tp and again for ep."""
    if r.count(head + "pp_size", 1) > 1:
        raise names.UnknownNameError("parallelism", f"{head}pp_size {r.text(head + 'pp_size')}", "tp, dp, ep are known")
    tp, dp = r.count(head + "tp_size"), r.count(head + "attention_dp_size", 1)
    moe_tp, ep = r.count(head + "moe_tp_size", 1), r.count(head + "moe_ep_size", 1)
    if not head and r.text("attention_dp_size"):
        if moe_tp == ep > 1 and tp * dp == ep * ep:  # eight GPUs as tp 64, or as tp 1 and dp 64
            tp, dp, moe_tp = (1, ep, 1) if dp > 1 else (ep, 1, 1)
        elif tp == dp > 1 and ep == tp * dp:
            dp, ep = 1, tp
    world = max(tp * dp, moe_tp * ep)
    return -(-world // tp) * tp, tp, ep


def _in_name(name: str) -> str:
    plain = name.lower()
    return "fp4" if "fp4" in plain else "fp8" if "fp8" in plain else "bf16"
