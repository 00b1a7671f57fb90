"""Which points are measured: a stated grid, cut to what fits the memory and the model's context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One operating point. Prefill: `new` tokens behind `context` past ones, for each of `sequences` prompts.

    Decode: `sequences` is the batch, `context` the tokens each sequence holds, `new` is 1. Mixed: a prompt of `new`
    tokens beside a batch of `sequences` that hold `context` tokens each.
    """

    phase: Literal["prefill", "decode", "mixed"]
    sequences: int
    new: int
    context: int

    @property
    def label(self) -> str:
        """The point in words; also its key in a checkpoint."""
        if self.phase == "decode":
            return f"decode batch {self.sequences} context {self.context}"
        if self.phase == "mixed":
            return f"mixed {self.new} beside {self.sequences} context {self.context}"
        past = f" past {self.context}" if self.context else ""
        return f"prefill {self.sequences} x {self.new}{past}"

    @property
    def kv_tokens(self) -> int:
        """Tokens the cache must hold."""
        if self.phase == "mixed":
            return self.new + self.sequences * self.context
        return self.sequences * (self.context if self.phase == "decode" else self.new + self.context)

    @property
    def step_tokens(self) -> int:
        """Tokens computed in one step."""
        return self.new + self.sequences if self.phase == "mixed" else self.sequences * self.new


def prefill(new: int, past: int = 0) -> Point:
    """One prompt of `new` tokens behind `past` cached ones."""
    return Point("prefill", 1, new, past)


def decode(batch: int, context: int) -> Point:
    """One token for each of `batch` sequences holding `context` tokens."""
    return Point("decode", batch, 1, context)


def mixed(new: int, batch: int, context: int) -> Point:
    """A prompt of `new` tokens prefilled in the step in which `batch` sequences of `context` tokens decode."""
    return Point("mixed", batch, new, context)


@dataclass(frozen=True, slots=True)
class Grid:
    """New tokens of the prefill points, (new, past) pairs, batches and the two contexts of the decode points.

    `beside` are (chunks, batches, contexts) of the mixed points: all of their combinations that fit.
    """

    new: tuple[int, ...]
    past: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    contexts: tuple[int, int]
    beside: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())


FULL = Grid(
    (16, 128, 512, 1024, 2048, 4096, 8192),
    ((512, 4096), (512, 8192)),
    (1, 4, 16, 64, 128, 256),
    (512, 4096),
    ((128, 512, 2048), (8, 64), (512, 2048)),
)
QUICK = Grid((128, 1024, 4096), ((512, 4096),), (1, 16, 64), (256, 2048))
CPU = Grid((16, 64, 256), ((64, 256),), (1, 4, 16), (64, 256))


def plan(grid: Grid, kv_capacity_tokens: int, max_context: int | None = None) -> tuple[list[Point], list[str]]:
    """The grid's points that fit, and one line for each that was moved or left out.

    Where a batch's long context does not fit, the longest multiple of 64 that does is taken instead, if it is at
    least twice the short one: a batch with one context has no slope.
    """
    longest = max_context or 1 << 62
    room = min(kv_capacity_tokens, longest)
    wanted = [prefill(n) for n in grid.new] + [prefill(n, past) for n, past in grid.past]
    points = [point for point in wanted if point.kv_tokens <= room]
    notes = [f"{point.label} skipped: beyond memory or context" for point in wanted if point.kv_tokens > room]
    short, long = grid.contexts
    for batch in grid.batches:
        reach = min(long, longest, kv_capacity_tokens // batch)
        if reach < long:
            reach = reach // 64 * 64
        if short > min(longest, kv_capacity_tokens // batch):
            notes.append(f"decode batch {batch} skipped: {short} tokens each do not fit")
            continue
        points.append(decode(batch, short))
        if reach >= 2 * short:
            points.append(decode(batch, reach))
        if reach < long:
            moved = f"measured at {reach}" if reach >= 2 * short else "skipped"
            notes.append(f"decode batch {batch} context {long} does not fit: {moved}")
    chunks, batches, contexts = grid.beside
    beside = [mixed(n, b, c) for n in chunks for b in batches for c in contexts]
    points += [point for point in beside if point.kv_tokens <= kv_capacity_tokens and point.context <= longest]
    return points, notes
