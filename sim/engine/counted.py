"""An instance that also counts its prefill backlog, for routers that look at it; others do not pay for the counting."""

from __future__ import annotations

from typing import Any

from sim.engine.instance import Instance, Prompt
from sim.engine.memory import Kv


class Counted(Instance):
    """`backlog` counts the prompt tokens sent here that stand before a first token, or must be prefilled again."""

    __slots__ = ("backlog",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.backlog = 0

    @property
    def pending(self) -> int:
        """What splitwise-sim counts as pending tokens: the backlog, and one for every request that is here."""
        return self.backlog + self.batch + len(self.waiting) + len(self.prefilling) + len(self.resting)

    def arrive(self, index: int, now_s: float, next_s: float) -> None:
        """As Instance's; its prompt is before it."""
        self.backlog += self.requests.prompt[index]
        super().arrive(index, now_s, next_s)

    def _join(self, prompt: Prompt, now_s: float) -> int:
        self.backlog -= prompt.total
        return super()._join(prompt, now_s)

    def evict(self, kv: Kv) -> list[int]:
        """As Instance's; nothing is before it any more."""
        self.backlog = 0
        return super().evict(kv)

    def _preempt_last(self) -> None:
        super()._preempt_last()
        index = self.waiting[0]
        self.backlog += self.requests.prompt[index] + self.requests.produced[index]
