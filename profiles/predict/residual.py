"""What the form leaves over, learned by group: a smooth correction for each engine, GPU, model and their pairs.

The logarithm of measurement / form is a sum over the groups a configuration belongs to (its GPU, its model on its
engine, ...) of a few coefficients times the basis 1, b, b^2, i, o, b i, b o, where b, i and o are the centred
logarithms of batch, prompt and output. Every coefficient has a normal prior whose width depends on the kind of group (a
mixed model); the sum over groups is fitted at once, robustly. A group never seen adds nothing, so the correction fades
from a measured cell to a GPU that nobody measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.predict.columns import Columns, Floats, word

# kind of group -> widths (one sigma) of the intercept and of the slopes
LEVELS: dict[tuple[str, ...], tuple[float, float]] = {
    ("gpu", "model"): (0.1, 0.04),
    ("gpu", "model", "engine"): (0.1, 0.04),
    ("gpu", "model", "engine", "version", "precision", "source", "task"): (0.1, 0.05),
    ("gpu", "model", "engine", "version", "precision", "source", "world", "tp", "ep", "apart"): (0.1, 0.06),
}
NOISE = 0.04
_ROUNDS, _DEGREES = 6, 4.0  # of reweighting; degrees of freedom of the errors
_REACH = 1.6  # the correction's line stops this far (in its own units) beyond the middle of what is usual


def basis(c: Columns) -> Floats:
    """1, b, b^2, i, o, b i, b o for each row."""
    b = np.clip((np.log2(c.batch) - 5.0) / 2.5, -_REACH, 2.0)
    i = np.clip((np.log2(c.prompt) - 10.5) / 1.5, -_REACH, _REACH)
    o = np.clip((np.log2(c.output) - 10.0) / 1.5, -_REACH, _REACH)
    return np.stack([np.ones_like(b), b, b * b, i, o, b * i, b * o], axis=1)


@dataclass
class Residual:
    """Coefficients by group; the group's name joins its words with a bar."""

    weights: dict[str, Floats]
    levels: tuple[tuple[str, ...], ...]

    def __call__(self, c: Columns) -> Floats:
        """The logarithm to add to the form's, for each row."""
        size = next(iter(self.weights.values())).size if self.weights else 7
        table = np.zeros((len(c.cells), size))
        for n, cell in enumerate(c.cells):
            for keys in self.levels:
                found = self.weights.get(_group(keys, [word(cell, k) for k in keys]))
                if found is not None:
                    table[n] += found
        return np.asarray(np.einsum("ij,ij->i", basis(c), table[c.which]))


def _group(keys: tuple[str, ...], words: list[str]) -> str:
    return "+".join(keys) + "|" + "|".join(words)


def fit_residual(c: Columns, r: Floats, noise: float = NOISE) -> Residual:
    """Fit the correction to `r`, the logarithms of measurement / form; NaN rows are left out.

    Errors are taken as Student's t, found by reweighting. Every kind of group lies within the first, so each of its
    groups is a problem of its own.
    """
    good = np.flatnonzero(np.isfinite(r))
    c, r = c.take(good), r[good]
    x = basis(c)
    tables = {keys: _groups(c, keys) for keys in LEVELS}
    weights: dict[str, Floats] = {}
    first = next(iter(tables.values()))
    for one in sorted(set(first.tolist())):
        rows = np.flatnonzero(first == one)
        weights |= _solve(x[rows], r[rows], {keys: names[rows] for keys, names in tables.items()}, noise)
    return Residual(weights, tuple(LEVELS))


def _groups(c: Columns, keys: tuple[str, ...]) -> NDArray[np.str_]:
    return np.array([_group(keys, [word(cell, k) for k in keys]) for cell in c.cells])[c.which]


def _solve(x: Floats, r: Floats, tables: dict[tuple[str, ...], NDArray[np.str_]], noise: float) -> dict[str, Floats]:
    columns, sigmas, names = [], [], []
    for keys, here in tables.items():
        for one in sorted(set(here.tolist())):
            columns.append(x * (here == one)[:, None])
            sigmas.append(np.array([LEVELS[keys][0]] + [LEVELS[keys][1]] * (x.shape[1] - 1)))
            names.append(one)
    a, prior = np.concatenate(columns, axis=1), np.concatenate(sigmas)
    kernel = (a * prior**2) @ a.T
    weight, alpha = np.ones(len(r)), r
    for _ in range(_ROUNDS):
        alpha = np.linalg.solve(kernel + np.diag(noise**2 / weight), r)
        weight = (_DEGREES + 1.0) / (_DEGREES + ((r - kernel @ alpha) / noise) ** 2)
    return dict(zip(names, (prior**2 * (a.T @ alpha)).reshape(len(names), -1), strict=True))
