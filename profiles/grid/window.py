"""A Window: the grid intensity one run sees, in run time (t = 0 at the window's start)."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Piecewise-constant intensity in gCO2e/kWh over run time in seconds.

    Attributes:
        edges_s: n + 1 ascending edges, the first 0.0, the last the window's end (inf for a constant).
        g_per_kwh: n values, each holding from its edge to the next. Equal neighbours are merged.
        note: what a result has to say about where the values come from; empty when nothing.

    Beyond its end the last value holds, so that work which outlives a run (drain) can still be billed;
    `beyond(t)` tells where that is so. A negative time is a programming mistake and raises ValueError.
    """

    edges_s: FloatArray
    g_per_kwh: FloatArray
    note: str = ""
    _starts: list[float] = field(init=False, repr=False)  # lists: one scalar look-up costs a bisection, no numpy call
    _values: list[float] = field(init=False, repr=False)
    _cumulative: list[float] = field(init=False, repr=False)  # (g/kWh)*s from 0 to each start

    def __post_init__(self) -> None:
        edges = np.array(self.edges_s, dtype=np.float64)
        values = np.array(self.g_per_kwh, dtype=np.float64)
        if values.ndim != 1 or not values.size or edges.shape != (values.size + 1,):
            raise ValueError("a window has n >= 1 values and n + 1 edges")
        if edges[0] != 0.0 or not np.all(edges[1:] > edges[:-1]) or not np.all(np.isfinite(edges[:-1])):
            raise ValueError("a window's edges ascend from 0.0")
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError("a window's values are finite and not negative")
        keep = np.concatenate(([True], values[1:] != values[:-1]))
        edges, values = np.append(edges[:-1][keep], edges[-1]), values[keep]
        cumulative = np.concatenate(([0.0], np.cumsum(values[:-1] * np.diff(edges[:-1]))))
        edges.setflags(write=False)
        values.setflags(write=False)
        for name, made in (("edges_s", edges), ("g_per_kwh", values)):
            object.__setattr__(self, name, made)
        for name, made in (("_starts", edges[:-1]), ("_values", values), ("_cumulative", cumulative)):
            object.__setattr__(self, name, made.tolist())

    @classmethod
    def constant(cls, g_per_kwh: float, note: str = "") -> Window:
        """One intensity for ever."""
        return cls(np.array([0.0, math.inf]), np.array([g_per_kwh]), note)

    @property
    def duration_s(self) -> float:
        """The window's end in run time; inf for a constant."""
        return float(self.edges_s[-1])

    @property
    def mean_g_per_kwh(self) -> float:
        """Time-weighted mean over the window."""
        if len(self._values) == 1:
            return self._values[0]
        return self.integral(self.duration_s) / self.duration_s

    @property
    def min_g_per_kwh(self) -> float:
        """The least value in the window."""
        return min(self._values)

    @property
    def max_g_per_kwh(self) -> float:
        """The greatest value in the window."""
        return max(self._values)

    @overload
    def at(self, t: float) -> float: ...
    @overload
    def at(self, t: FloatArray) -> FloatArray: ...
    def at(self, t: float | FloatArray) -> float | FloatArray:
        """Intensity in g/kWh at run time `t` seconds (at an edge: the value that begins there)."""
        if isinstance(t, np.ndarray):
            found: FloatArray = self.g_per_kwh[self._indices(t)]
            return found
        return self._values[self._index(t)]

    @overload
    def integral(self, t: float) -> float: ...
    @overload
    def integral(self, t: FloatArray) -> FloatArray: ...
    def integral(self, t: float | FloatArray) -> float | FloatArray:
        """Integral of the intensity from 0 to run time `t`, in (g/kWh)*s.

        A power of P watts held over [t1, t2] emits P * (integral(t2) - integral(t1)) / 3.6e6 grams.
        """
        if isinstance(t, np.ndarray):
            k = self._indices(t)
            sums: FloatArray = np.asarray(self._cumulative)[k] + self.g_per_kwh[k] * (t - self.edges_s[:-1][k])
            return sums
        i = self._index(t)
        return self._cumulative[i] + self._values[i] * (t - self._starts[i])

    def next_edge_s(self, t: float) -> float:
        """The first edge after `t` (the window's end is one); inf when there is none."""
        i = self._index(t) + 1
        edge = self._starts[i] if i < len(self._starts) else self.duration_s
        return edge if edge > t else math.inf

    def next_edges_s(self, t: FloatArray) -> FloatArray:
        """The first change of the value after each `t`; inf when there is none (the last value holds for ever)."""
        edges: FloatArray = np.append(self.edges_s[1:-1], math.inf)[self._indices(t)]
        return edges

    def beyond(self, t: float) -> bool:
        """Whether `t` lies past the window's end, where the last value is only held."""
        return t > self.duration_s

    def _index(self, t: float) -> int:
        if not t >= 0.0:
            raise ValueError(f"run time starts at 0, not at {t}")
        return bisect_right(self._starts, t) - 1

    def _indices(self, t: FloatArray) -> NDArray[np.intp]:
        if not np.all(t >= 0.0):
            raise ValueError("run time starts at 0")
        return np.searchsorted(self.edges_s[:-1], t, side="right") - 1
