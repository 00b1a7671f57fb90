"""Fitting the serving form: log-parameters as a sum of levels (all rows, engine, GPU, precision), each held by a ridge.

Robust Gauss-Newton over the logarithm of prediction / measurement. The derivative is taken once for each parameter's
column and then shared out to its levels, so many levels cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from profiles.predict.columns import Columns, Floats
from profiles.predict.form import PARAMETERS

RIDGE = 0.01  # the weight of one sigma of deviation: that of one row that is 10 % off
_ROUNDS, _TRIES, _STEP, _ENOUGH = 20, 8, 1e-4, 2e-4


@dataclass(frozen=True)
class Levels:
    """Which parameters may differ by which word of a cell, and by how much (one sigma, in e-folds).

    `robust`: residuals beyond it weigh less and less (Cauchy).
    """

    of: Mapping[str, Mapping[str, float]]  # word -> parameter -> sigma
    robust: float = 0.15


@dataclass
class Parameters:
    """Fitted logarithms: `common` by parameter, `parts[word][value][parameter]` as deviations."""

    common: dict[str, float]
    parts: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def columns(self, c: Columns) -> dict[str, Floats]:
        """Every parameter as a column over the rows; words never seen have no deviation."""
        found: dict[str, Floats] = {name: np.full(len(c.cells), value) for name, value in self.common.items()}
        cells = Columns(c.cells, np.arange(len(c.cells)), *(np.ones(len(c.cells)),) * 3)
        for key, values in self.parts.items():
            words = cells.names(key)
            for i, one in enumerate(words):
                for name, deviation in values.get(str(one), {}).items():
                    found[name][i] += deviation
        return {name: np.exp(value)[c.which] for name, value in found.items()}


def start(names: Sequence[str] = tuple(PARAMETERS)) -> Parameters:
    """Where every fit starts."""
    return Parameters({name: float(np.log(PARAMETERS[name][0])) for name in names})


MOST_ROWS = 1200  # efficiencies are few: more rows than this, evenly taken, change them by less than the folds do


def fit(
    c: Columns,
    residuals: Callable[[Columns, dict[str, Floats], NDArray[np.intp]], Floats],
    free: Sequence[str],
    levels: Levels,
    given: Parameters | None = None,
) -> Parameters:
    """The parameters that bring `residuals` near zero.

    Args:
        c: the rows. residuals: from rows, parameter columns and the rows' indices in `c` to the logarithms of
            prediction / measurement.
        free: parameters to fit; the others keep the values of `given`.
        levels: the deviations allowed.
    """
    base = given or start()
    some = np.unique(np.linspace(0, len(c) - 1, min(len(c), MOST_ROWS)).astype(np.intp))
    problem = _Problem(c.take(some), lambda here, p: residuals(here, p, some), free, levels, base)
    return problem.solve(base)


class _Problem:
    """Robust least squares by Gauss-Newton with damping."""

    def __init__(
        self, c: Columns, residuals: Callable[[Columns, dict[str, Floats]], Floats], free: Sequence[str],
        levels: Levels, base: Parameters,
    ) -> None:  # fmt: skip
        self.c, self.residuals = c, residuals
        self.slots, self.sigmas = _slots(c, free, levels)
        self.robust = levels.robust
        self.fixed = {k: v for k, v in base.columns(c).items() if k not in free}
        common = [np.log(PARAMETERS[name][0]) if not key else 0.0 for name, key, _, _ in self.slots]
        self.centres = np.array(common)
        self.names = sorted(set(free))

    def columns(self, x: Floats) -> dict[str, Floats]:
        logs = {name: np.zeros(len(self.c)) for name in self.names}
        for value, (name, _, _, rows) in zip(x, self.slots, strict=True):
            logs[name][rows] += value
        return self.fixed | {name: np.exp(np.clip(v, -40.0, 10.0)) for name, v in logs.items()}

    def cost(self, r: Floats, x: Floats) -> float:
        return float(self.robust**2 * np.sum(np.log1p((r / self.robust) ** 2)) + RIDGE * np.sum(self._pull(x) ** 2))

    def _pull(self, x: Floats) -> Floats:
        return np.asarray((x - self.centres) / self.sigmas)

    def solve(self, base: Parameters) -> Parameters:
        x = np.array([base.common[n] if not key else 0.0 for n, key, _, _ in self.slots])
        p = self.columns(x)
        r = self.residuals(self.c, p)
        cost, damping = self.cost(r, x), 1e-3
        for _ in range(_ROUNDS):
            jac = self._jacobian(p, r)
            weighted = jac * (1.0 / (1.0 + (r / self.robust) ** 2))[:, None]
            hess = weighted.T @ jac + np.diag(RIDGE / self.sigmas**2)
            grad = weighted.T @ r + RIDGE * self._pull(x) / self.sigmas
            gained = 0.0
            for _ in range(_TRIES):
                step = np.clip(-np.linalg.solve(hess + damping * np.diag(np.diag(hess)), grad), -1.0, 1.0)
                tried = self.columns(x + step)
                left = self.residuals(self.c, tried)
                new = self.cost(left, x + step)
                if new < cost:
                    gained, x, p, r, cost = cost - new, x + step, tried, left, new
                    damping = max(damping / 5.0, 1e-7)
                    break
                damping *= 5.0
            if gained < _ENOUGH * cost:
                break
        return self._parameters(x, base)

    def _jacobian(self, p: dict[str, Floats], r: Floats) -> Floats:
        """Slopes by parameter, shared out to the slots whose rows they hold for."""
        slopes = {
            name: (self.residuals(self.c, p | {name: p[name] * np.exp(_STEP)}) - r) / _STEP for name in self.names
        }
        jac = np.zeros((len(r), len(self.slots)))
        for j, (name, _, _, rows) in enumerate(self.slots):
            jac[rows, j] = slopes[name][rows]
        return jac

    def _parameters(self, x: Floats, base: Parameters) -> Parameters:
        parts = {k: {one: dict(d) for one, d in values.items()} for k, values in base.parts.items()}
        found = Parameters(dict(base.common), parts)
        for value, (name, key, one, _) in zip(x, self.slots, strict=True):
            if not key:
                found.common[name] = float(value)
            else:
                found.parts.setdefault(key, {}).setdefault(one, {})[name] = float(value)
        return found


def _slots(
    c: Columns, free: Sequence[str], levels: Levels
) -> tuple[list[tuple[str, str, str, NDArray[np.intp]]], Floats]:
    """(parameter, word, value, rows) of every number to fit, with its sigma."""
    every = np.arange(len(c))
    slots: list[tuple[str, str, str, NDArray[np.intp]]] = [(name, "", "", every) for name in free]
    sigmas = [PARAMETERS[name][1] for name in free]
    for key, widths in levels.of.items():
        words = c.names(key)
        for one in sorted(set(words.tolist())):
            rows = np.flatnonzero(words == one)
            for name, sigma in widths.items():
                if name in free:
                    slots.append((name, key, one, rows))
                    sigmas.append(sigma)
    return slots, np.array(sigmas)
