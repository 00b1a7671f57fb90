"""Training of the default predictor and its held-out errors: `python -m profiles.predict.train DATA -o FILE`.

DATA holds aiconfigurator/silicon_sample.csv, mlenergy/leaderboard_llm.csv and llm-inference-bench/. Nothing is random
but the folds, whose seed is stated; no row is written out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiles.outputs import write_json
from profiles.predict import doubt, form, readers
from profiles.predict.columns import Cell, Columns, Floats
from profiles.predict.fit import Levels, fit
from profiles.predict.measured import Measured, Row
from profiles.predict.predictor import BANDED, TIERS
from profiles.predict.residual import fit_residual
from profiles.predict.serving import FILE, Fitted, Serving, dump, family, kin

SEED = 0
FOLDS = {"cfg": 4, "T1": 20}
QUANTILE = 0.9
_FEWEST = 5  # rows that make a band
_TIME = (
    *("compute", "bandwidth", "kv_bandwidth", "attention", "link", "host_s", "layer_s", "sequence_s", "allreduce_s"),
    *("met", "bunch", "prompt_s", "sharp"),
)
_EXPERTS = ("expert_compute", "expert_bandwidth", "expert_layer_s", "exchange_s", "imbalance")
_FIRST = ("first_s", "wait", "transfer_s", "apart_wait", "queue")
_POWER = (
    *("power_base", "power_busy", "power_flop", "power_exponent", "joule_per_byte", "joule_per_kv_byte", "power_cap"),
)
_ENGINE = (
    *("compute", "expert_compute", "kv_bandwidth", "layer_s", "expert_layer_s", "sequence_s", "allreduce_s"),
    *("exchange_s", "met", "prompt_s", "imbalance", "attention"),
)
_PEAKS = (
    *("compute", "expert_compute", "bandwidth", "expert_bandwidth", "kv_bandwidth", "attention", "allreduce_s", "link"),
)
_GPU = dict.fromkeys(_PEAKS, 0.04) | dict.fromkeys(("layer_s", "sequence_s", "expert_layer_s"), 0.03)
LEVELS = Levels(
    {
        "engine": dict.fromkeys(_ENGINE, 0.25),
        "gpu": _GPU,
        "model": dict.fromkeys(("layer_s", "compute", "bandwidth"), 0.1),
        "precision": {"compute": 0.3, "expert_compute": 0.3, "bandwidth": 0.1, "expert_bandwidth": 0.2},
        "source": dict.fromkeys(("layer_s", "sequence_s", "expert_layer_s", "host_s", "met"), 0.2),
        "task": {"met": 0.3, "prompt_s": 1.5},
    }
)
DENSE_LEVELS = Levels(  # few cells, so that one precision or a doubtful run is much of the evidence
    {**LEVELS.of, "precision": {"compute": 0.4, "bandwidth": 0.2}}, robust=0.3
)
EXPERT_LEVELS = Levels({**LEVELS.of, "gpu": {name: 4.0 * sigma for name, sigma in _GPU.items()}})
BATCH_LEVELS = Levels(  # engines of one bench, each in another version on each GPU
    {
        "engine": dict.fromkeys((*_ENGINE, "bandwidth", "host_s"), 0.5),
        "gpu": dict.fromkeys((*_PEAKS, "layer_s", "host_s", "sequence_s"), 0.2),
    }
)
FIRST_LEVELS = Levels({"engine": dict.fromkeys(_FIRST, 0.4), "source": dict.fromkeys(("first_s", "wait"), 0.4)})
POWER_LEVELS = Levels(
    {
        "gpu": dict.fromkeys(("power_base", "power_busy", "power_flop", "joule_per_byte", "joule_per_kv_byte"), 0.1),
        "precision": {"power_flop": 0.3, "joule_per_byte": 0.15},
    }
)


@dataclass(frozen=True)
class Rows:
    """Rows of all sources with their doubts: `sound` rows are trained on, `flagged` ones are not in the headline."""

    rows: list[Row]
    sound: NDArray[np.bool_]
    flagged: NDArray[np.bool_]

    def take(self, which: NDArray[np.generic]) -> Rows:
        """Some of the rows."""
        return Rows([self.rows[int(i)] for i in which], self.sound[which], self.flagged[which])


def gather(data: Path) -> Rows:
    """Every row of the three sources."""
    files = (("aiconfigurator/silicon_sample.csv", "aiconfigurator"), ("mlenergy/leaderboard_llm.csv", "mlenergy"),
             ("llm-inference-bench/All_results.csv", "llm-inference-bench"),
             ("llm-inference-bench/power_results_16ab.csv", "llm-inference-bench"))  # fmt: skip
    rows: list[Row] = []
    sound, flagged = [], []
    for name, kind in files:
        found = readers.read(data / name, kind).rows
        severe, why = doubt.severity(found)
        rows += found
        sound.append((severe == 0) | (np.array(why) == doubt.TWINS))  # one of the twins may be right
        flagged.append(doubt.flags(severe, found))
    return Rows(rows, np.concatenate(sound), np.concatenate(flagged))


def train_family(name: str, rows: list[Row]) -> Fitted:
    """Fit one family to rows of it: times first, then time to first token and watts, then what each leaves over."""
    m = Measured.of(rows)
    c, log_tpot = m.columns, np.log(m.tpot_s)
    free = _TIME if name == "dense" else (*_TIME, *_EXPERTS, *(("apart_met",) if name == "apart" else ()))
    levels = {"batch": BATCH_LEVELS, "dense": DENSE_LEVELS}.get(name, EXPERT_LEVELS)
    p = fit(c, lambda here, q, rows: np.log(form.times(here, q).tpot_s) - log_tpot[rows], free, levels)
    found = Fitted(p)
    found.corrections["tpot"] = fit_residual(c, log_tpot - np.log(form.times(c, p.columns(c)).tpot_s))
    _fit_first(found, m)
    _fit_power(found, m)
    cells = c.cells
    found.seen = {_seen(cell) for cell in cells}
    found.powered = {_seen(cells[i]) for i in c.which[np.isfinite(m.power_w)]}
    found.vendors = {cell.gpu.vendor for cell in cells}
    return found


def _seen(cell: Cell) -> tuple[str, str, str]:
    return cell.gpu.name, cell.llm.name, cell.engine


def _fit_first(found: Fitted, m: Measured) -> None:
    has = np.flatnonzero(np.isfinite(m.ttft_s))
    if not has.size:
        return
    h = m.take(has)
    log_ttft = np.log(h.ttft_s)

    def off(here: Columns, q: dict[str, Floats], rows: NDArray[np.intp]) -> Floats:
        return np.log(form.times(here, q).ttft_s) - log_ttft[rows]

    p = found.parameters = fit(h.columns, off, _FIRST, FIRST_LEVELS, found.parameters)
    left = log_ttft - np.log(form.times(h.columns, p.columns(h.columns)).ttft_s)
    found.corrections["ttft"] = fit_residual(h.columns, left, noise=0.15)


def _fit_power(found: Fitted, m: Measured) -> None:
    has = np.flatnonzero(np.isfinite(m.power_w))
    if not has.size:
        return
    h = m.take(has)
    log_w = np.log(h.power_w)

    def off(here: Columns, q: dict[str, Floats], rows: NDArray[np.intp]) -> Floats:
        return np.log(form.power_w(here, q, form.times(here, q), h.tpot_s[rows])) - log_w[rows]

    p = found.parameters = fit(h.columns, off, _POWER, POWER_LEVELS, found.parameters)
    q = p.columns(h.columns)
    left = log_w - np.log(form.power_w(h.columns, q, form.times(h.columns, q)))
    found.corrections["power"] = fit_residual(h.columns, left)


def train(rows: Rows) -> Serving:
    """Every family of the rows, trained on the sound ones."""
    families = {}
    kinds = np.array([family(r.cell) for r in rows.rows])
    for name in sorted(set(kinds.tolist())):
        families[name] = train_family(name, rows.take(np.flatnonzero((kinds == name) & rows.sound)).rows)
    for lender in ("moe", "dense"):  # families without watts of their own draw as the mixtures do
        _lend_power(families, lender)
    return Serving(families)


def _lend_power(families: dict[str, Fitted], lender: str) -> None:
    if lender not in families or "power" not in families[lender].corrections:
        return
    given = families[lender].parameters
    for other in families.values():
        if "power" not in other.corrections:
            other.parameters.common |= {k: given.common[k] for k in _POWER}
            other.powered = families[lender].powered


def folds(rows: Sequence[Row], tier: str) -> NDArray[np.int64]:
    """The fold of each row: cfg by configuration, T1 by GPU x model cell, T2 by GPU."""
    whole = [f"{r.cell}{r.batch}{r.prompt}{r.output}" for r in rows]
    names = whole if tier == "cfg" else _units(rows, tier).tolist()
    known = sorted(set(names))
    order = np.random.default_rng(SEED).permutation(len(known))
    fold = {name: int(order[i]) % FOLDS.get(tier, len(known)) for i, name in enumerate(known)}
    return np.array([fold[name] for name in names])


@dataclass(frozen=True)
class Held:
    """Held-out logarithms of prediction / measurement of one family at one tier; NaN where nothing was measured."""

    rows: Rows
    errors: dict[str, Floats]
    tier: NDArray[np.int64]


def hold_out(rows: Rows, name: str, tier: str) -> Held:
    """Train on all folds but one and predict that one, in turn. `tier` of a row is what the model said it was."""
    kinds = np.array([family(r.cell) for r in rows.rows])
    own = rows.take(np.flatnonzero(kinds == name))
    fold = folds(own.rows, tier)
    m = Measured.of(own.rows)
    errors = {k: np.full(len(m), np.nan) for k in BANDED}
    said = np.zeros(len(m), dtype=np.int64)
    for one in sorted(set(fold.tolist())):
        test = np.flatnonzero(fold == one)
        fitted = train_family(name, own.take(np.flatnonzero((fold != one) & own.sound)).rows)
        c = m.columns.take(test)
        figures = fitted.figures(c)
        for key, column in m.figures.items():
            errors[key][test] = np.log(figures[key] / column[test])
        said[test] = np.array([fitted.tier(cell) for cell in c.cells])[c.which]
    return Held(own, errors, said)


def band(held: Held, figure: str, tier: str, source: str = "") -> float:
    """The factor that holds QUANTILE of the held-out rows without flags, and of the units that a tier withholds.

    Errors are shared within a unit (at T1 a GPU x model cell, at T2 a GPU): with each unit weighing one the quantile is
    taken again, the wider counts, and as n units foretell the next one its logarithm is widened by sqrt(1 + 1/n).
    Units of few rows are none.
    """
    e = np.abs(held.errors[figure])
    use = np.isfinite(e) & ~held.rows.flagged & (held.tier == TIERS.index(tier))
    use &= np.array([source in ("", kin(r.cell)) for r in held.rows.rows])
    if use.sum() < _FEWEST:
        return float("nan")
    wide = float(np.quantile(e[use], QUANTILE))
    if tier != "cfg":
        _, unit, rows = np.unique(_units(held.rows.rows, tier)[use], return_inverse=True, return_counts=True)
        weights = np.where(rows >= _FEWEST, 1.0 / rows, 0.0)[unit]
        even = np.quantile(e[use], QUANTILE, weights=weights, method="inverted_cdf") if weights.any() else 0.0
        wide = max(wide, float(even)) * float(np.sqrt(1.0 + 1.0 / max(1, int(np.sum(rows >= _FEWEST)))))
    return float(np.exp(wide))


def _units(rows: Sequence[Row], tier: str) -> NDArray[np.str_]:
    """What a tier withholds whole: T1 a GPU x model cell, T2 a GPU."""
    return np.array([r.cell.gpu.name + (f" {r.cell.llm.name}" if tier == "T1" else "") for r in rows])


def set_bands(model: Serving, rows: Rows) -> dict[tuple[str, str], Held]:
    """Bands of every family, of all its sources and of each, from its held-out rows, which are given by tier."""
    held: dict[tuple[str, str], Held] = {}
    for name, fitted in model.families.items():
        own = [hold_out(rows, name, tier) for tier in TIERS[:3]]
        held |= {(name, tier): h for tier, h in zip(TIERS, own, strict=False)}
        for figure in BANDED:
            for source in ("", *sorted({kin(r.cell) for r in own[0].rows.rows})):
                factors = _factors([band(h, figure, tier, source) for h, tier in zip(own, TIERS, strict=False)])
                if np.isfinite(factors[-1]):
                    fitted.bands[f"{figure}@{source}" if source else figure] = factors
    lender = model.families.get("moe") or next(iter(model.families.values()))
    for fitted in model.families.values():  # a family without watts or TTFT of its own has the mixtures' band, squared
        for figure in BANDED:
            fitted.bands.setdefault(figure, [x**2 for x in lender.bands[figure]])
    return held


def _factors(tested: list[float]) -> list[float]:
    """One factor a tier: a tier further away is no narrower, and T3, which nothing tests, is told as T2's squared."""
    for i in range(1, len(tested)):
        if np.isfinite(tested[i - 1]):
            tested[i] = float(np.fmax(tested[i - 1], tested[i]))
    return [*tested, tested[-1] ** 2]


def main(argv: Sequence[str] | None = None) -> None:
    """Train on all sound rows, with bands from held-out ones, and write the model."""
    parser = argparse.ArgumentParser(prog="python -m profiles.predict.train", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    asked = parser.parse_args(argv)
    rows = gather(asked.data)
    model = train(rows)
    set_bands(model, rows)
    write_json(asked.output, dump(model))


if __name__ == "__main__":
    main()
