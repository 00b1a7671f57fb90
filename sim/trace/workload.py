"""Prompt token ids beside a request log, as prefix blocks of a trace (LLMServingSim's workload files)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from profiles.inputs import InputError, read_text
from sim.trace.model import Trace

BLOCK_TOKENS = 16  # vLLM hashes prompts in blocks of this size
KEY = "input_tok_ids"


def with_workload(trace: Trace, path: str | Path) -> Trace:
    """The trace with prefix blocks from a JSONL file that has `input_tok_ids` of each request, in the trace's order.

    Equal ids mean equal tokens up to there.

    Raises:
        InputError: a line is no such request, or the prompts' lengths are not the trace's.
    """
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    ids: list[int] = []
    offsets = [0]
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        tokens = _tokens(text, path, line)
        request = len(offsets) - 1
        if request >= trace.requests or len(tokens) != trace.prompt_tokens[request]:
            have = trace.prompt_tokens[request] if request < trace.requests else "no more requests"
            what = f"a prompt of {len(tokens)} tokens, where the trace has {have}"
            raise InputError(what, file=path, line=line, mend="give the workload the trace was recorded with")
        parent = -1
        for at in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            parent = known.setdefault((parent, tuple(tokens[at : at + BLOCK_TOKENS])), len(known))
            ids.append(parent)
        offsets.append(len(ids))
    if len(offsets) <= trace.requests:
        raise InputError(f"{len(offsets) - 1} requests, the trace has {trace.requests}", file=path)
    return replace(
        trace, hash_ids=np.array(ids, np.int64), hash_offsets=np.array(offsets, np.int64), hash_tokens=BLOCK_TOKENS
    )


def _tokens(text: str, path: str | Path, line: int) -> list[int]:
    try:
        tokens = json.loads(text)[KEY]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a request with {KEY}", file=path, line=line) from error
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise InputError(f"{KEY} is not a list of whole numbers", file=path, line=line)
    return tokens
