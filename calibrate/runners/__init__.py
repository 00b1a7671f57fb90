"""Runners: what does the work that is metered, behind one StepRunner protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from calibrate.clock import Clock
from profiles.llm import Llm


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """Bytes on the device: all of it, the loaded weights, and what else a run needs beside weights and KV."""

    total_bytes: float
    weights_bytes: float
    workspace_bytes: float


class Ticket(Protocol):
    """A chunk of identical steps handed to the device."""

    @property
    def steps(self) -> int:
        """How many."""

    def done(self) -> bool:
        """Whether the device has finished the chunk."""

    def elapsed_s(self) -> float:
        """Device seconds from the chunk's first step to its last; only asked once done."""


class Work(Protocol):
    """One prepared point: its graph and its cache are ready, steps can be queued back to back."""

    def enqueue(self, steps: int) -> Ticket:
        """Queue `steps` identical steps without waiting for them (a CPU does them at once)."""

    def release(self) -> None:
        """Free what the point held."""


class StepRunner(Protocol):
    """Runs prefill and decode steps of one model on one device."""

    @property
    def engine(self) -> str:
        """What the profile calls it."""

    @property
    def clock(self) -> Clock:
        """The clock its work and the meter share."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries behind it, for the profile."""

    def load(self) -> None:
        """Put the weights on the device. Raises DoesNotFit."""

    def prefill(self, new: int, past: int, sequences: int) -> Work:
        """`sequences` prompts of `new` tokens each behind `past` cached tokens each. Raises DoesNotFit."""

    def decode(self, batch: int, context: int) -> Work:
        """One token for each of `batch` sequences of `context` tokens, the new one included. Raises DoesNotFit."""

    def mixed(self, new: int, batch: int, context: int) -> Work:
        """A prompt of `new` tokens in the step in which `batch` sequences of `context` tokens decode."""

    def memory(self) -> MemoryInfo:
        """Bytes on the device after load()."""

    def close(self) -> None:
        """Free the device."""


def workspace_bytes(llm: Llm, tokens: int, sequences: int, element_bytes: int) -> float:
    """Bytes of activations beside weights and KV: a stated upper estimate used before anything is allocated.

    Per token: the residual twice, q, k, v and attention output in one layer and the MLP's three widths, twice over
    for temporaries; per sequence: one row of logits in the working precision and in fp32.
    """
    width = 2 * llm.hidden + 2 * (llm.heads + llm.kv_heads) * llm.head_dim + 3 * llm.intermediate
    return 2.0 * tokens * width * element_bytes + sequences * llm.vocab * (element_bytes + 4.0)
