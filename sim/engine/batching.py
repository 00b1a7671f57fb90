"""Batching policies: which prompts a step prefills.

A policy is one small class. `plan` admits requests and names the chunks of the next step; with no chunk the step is
plain decode. That answer must stand while nothing arrives or finishes: the leap engine asks again only then, the
stepping engine after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sim.engine.splitwise import Splitwise

if TYPE_CHECKING:
    from sim.engine.instance import Chunk, Instance


class Batching(Protocol):
    """What an instance asks of its batching policy."""

    mixes: bool  # whether running sequences decode in a step that prefills
    joins: bool  # whether an arrival may join a running batch
    eager: bool  # and whether that is asked for even behind others that wait

    def plan(self, instance: Instance) -> list[Chunk]:
        """Admit what may be admitted and return the prefill chunks of the next step."""


class Chunked:
    """vLLM v1: every step decodes all running sequences and fills the token budget with prefill chunks."""

    mixes = True
    joins = True
    eager = False

    def plan(self, instance: Instance) -> list[Chunk]:
        """Continue begun prompts in order, then admit waiting ones, while the token budget lasts."""
        budget = instance.max_tokens - instance.batch
        chunks: list[Chunk] = []
        for prompt in instance.prefilling:
            if budget <= 0:
                break
            new = min(prompt.left, budget)
            chunks.append((prompt, new))
            budget -= new
        while budget > 0 and instance.waiting:
            admitted = instance.admit()
            if admitted is None:
                break
            prompt = admitted
            new = min(prompt.left, budget)
            chunks.append((prompt, new))
            budget -= new
        return chunks


class PrefillFirst:
    """vLLM v0: waiting prompts are prefilled whole, as many as the token budget takes, and decoding pauses."""

    mixes = False
    joins = True
    eager = False

    def plan(self, instance: Instance) -> list[Chunk]:
        """Whole prompts up to the token budget; a longer one goes alone."""
        return instance.whole_prompts(instance.max_tokens)[0]


class Static:
    """A batch is gathered when the instance is empty, prefilled, and decoded until its last request is done."""

    mixes = False
    joins = False
    eager = False

    def plan(self, instance: Instance) -> list[Chunk]:
        """Gather only when nothing runs; prefill what was gathered, whole prompts up to the token budget a step."""
        if not instance.running and not instance.prefilling:
            while instance.waiting and instance.admit():
                pass
        chunks: list[Chunk] = []
        tokens = 0
        for prompt in instance.prefilling:
            if chunks and tokens + prompt.left > instance.max_tokens:
                break
            chunks.append((prompt, prompt.left))
            tokens += prompt.left
        return chunks


POLICIES: dict[str, Callable[[], Batching]] = {
    "chunked": Chunked,
    "prefill-first": PrefillFirst,
    "static": Static,
    "splitwise": Splitwise,
}
