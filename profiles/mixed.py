"""Measured tables of steps, interpolated in several directions: prefill chunks beside a decode batch, unlike contexts.

The table of mixed steps keeps what a step takes beyond the prefill curve at all its tokens, which bends little; the
curve, measured at many sizes, is added back. Grids may have holes: in each direction the nearest measured neighbours
are taken.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from profiles.profile import MixedPoints, Skew

Node = tuple[list[float], list[Any]]  # a sorted axis, and the node (or the seconds) at each place on it


class MixedTable:
    """Seconds of a mixed step beyond `curve(new + batch)`."""

    def __init__(self, points: MixedPoints, curve: Callable[[int], float]) -> None:
        tree: dict[float, Any] = {}
        for i in points.valid:
            new, past, batch = points.new_tokens[i], points.past_tokens[i], points.batch[i]
            leaf = tree.setdefault(new, {}).setdefault(past, {}).setdefault(batch, {})
            leaf[points.kv_tokens[i] / batch] = points.time_s[i] - curve(new + batch)
        self._root = _sorted(tree)

    def beyond_s(self, new: float, past: float, batch: float, context: float) -> float:
        """For `new` tokens beside `past` in the cache, and `batch` sequences of mean `context`."""
        return _look_up(self._root, (new, past, batch, context), 0)


class SkewTable:
    """The share of a profile's `skew` term."""

    def __init__(self, skew: Skew) -> None:
        tree: dict[float, Any] = {}
        for chunk, batch, rate, share in zip(skew.chunk, skew.batch, skew.rate, skew.share, strict=True):
            tree.setdefault(chunk, {}).setdefault(batch, {})[rate] = share
        self._root = _sorted(tree)
        self._most = (max(skew.chunk), max(skew.batch), max(skew.rate))

    def share(self, chunk: int, batch: int, rate: float) -> float:
        """At a chunk, a batch and a rate; between 0 and 1."""
        within = tuple(map(min, (chunk, batch, rate), self._most))
        return min(1.0, max(0.0, _look_up(self._root, within, 0)))


def _sorted(tree: dict[float, Any]) -> Node:
    axis = sorted(tree)
    return axis, [_sorted(tree[x]) if isinstance(tree[x], dict) else tree[x] for x in axis]


def _look_up(node: Node, at: tuple[float, ...], depth: int) -> float:
    """Linear between the nearest neighbours, constant below the first; the outer piece goes on beyond the last."""
    axis, below = node
    x, last = at[depth], depth == len(at) - 1
    i = min(bisect_left(axis, x), len(axis) - 1)
    if i == 0 or axis[i] == x:
        found = below[i]
        return float(found) if last else _look_up(found, at, depth + 1)
    low, high = below[i - 1], below[i]
    if not last:
        low, high = _look_up(low, at, depth + 1), _look_up(high, at, depth + 1)
    return float(low + (high - low) * (x - axis[i - 1]) / (axis[i] - axis[i - 1]))
