"""`python -m benchmarks.predict DATA [--write]`: held-out errors of the default predictor, aim beside result.

DATA holds aiconfigurator, mlenergy and llm-inference-bench. --write also trains on everything and ships the model with
bands from these folds (profiles.predict.train does the same without the table).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from profiles.outputs import write_json
from profiles.predict import equations, form, train
from profiles.predict.columns import Cell, Floats
from profiles.predict.measured import Measured, Row, ratios
from profiles.predict.predictor import TIERS
from profiles.predict.serving import FAMILIES, FILE, dump, family, kin, load

# (family, source, tier, figure) -> aim as a fraction
AIMS = {
    ("dense", "silicon", "cfg", "tpot"): 0.05, ("dense", "mlenergy", "cfg", "energy"): 0.08,
    ("dense", "mlenergy", "cfg", "tpot"): 0.05, ("moe", "silicon", "cfg", "tpot"): 0.11,
    ("moe", "mlenergy", "cfg", "tpot"): 0.11, ("moe", "mlenergy", "cfg", "energy"): 0.20,
    ("dense", "silicon", "T1", "tpot"): 0.08, ("dense", "mlenergy", "T1", "tpot"): 0.13,
    ("dense", "mlenergy", "T1", "energy"): 0.10, ("moe", "silicon", "T1", "tpot"): 0.20,
    ("moe", "mlenergy", "T1", "tpot"): 0.20, ("moe", "mlenergy", "T1", "energy"): 0.28,
    ("dense", "silicon", "T2", "tpot"): 0.10, ("dense", "mlenergy", "T2", "tpot"): 0.15,
    ("dense", "mlenergy", "T2", "energy"): 0.12, ("moe", "silicon", "T2", "tpot"): 0.18,
    ("moe", "mlenergy", "T2", "tpot"): 0.18, ("moe", "mlenergy", "T2", "energy"): 0.30,
}  # fmt: skip
COLUMNS = ("tier", "rows of", "family", "figure", "aim", "MAPE", "median", "with flagged", "equations", "in band",
           "half-width", "rows")  # fmt: skip
HEAD = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"


def mape(e: Floats) -> float:
    return float(np.mean(np.abs(np.expm1(e))))


def percent(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f}%"


def table(held: dict[tuple[str, str], train.Held], bands: dict[str, dict[str, list[float]]]) -> list[str]:
    lines = [HEAD]
    for tier in TIERS[:3]:
        for name in FAMILIES:
            if (name, tier) in held:
                lines += _lines(held[name, tier], name, tier, bands[name])
    return lines


def _lines(h: train.Held, name: str, tier: str, bands: dict[str, list[float]]) -> list[str]:
    sources = np.array([kin(r.cell) for r in h.rows.rows])
    plain = _equations(h.rows.rows)
    found = []
    for source in sorted(set(sources.tolist())):
        for figure in ("tpot", "ttft", "power", "energy"):
            e = h.errors[figure]
            every = (sources == source) & np.isfinite(e) & (h.tier == TIERS.index(tier))
            use = every & ~h.rows.flagged
            if use.sum() < 5:
                continue
            factor = bands.get(f"{figure}@{source}", bands[figure])[TIERS.index(tier)]
            inside = float(np.mean(np.abs(e[use]) <= np.log(factor)))
            cells = [tier, source, name, figure, percent(AIMS.get((name, source, tier, figure))), percent(mape(e[use])),
                     percent(float(np.median(np.abs(np.expm1(e[use]))))), percent(mape(e[every])),
                     percent(mape(plain[figure][use])), percent(inside), percent(factor - 1.0),
                     str(int(use.sum()))]  # fmt: skip
            found.append("| " + " | ".join(cells) + " |")
    return found


def _equations(rows: list[Row]) -> dict[str, Floats]:
    m = Measured.of(rows)
    p = equations.load().predict(m.columns)
    return {k: np.log(ratio) for k, ratio in ratios(p, m).items()}


def interpolated(rows: train.Rows) -> list[str]:
    """T0: a configuration's other batch sizes from its smallest, its largest and the nearest to their geometric mean.

    A jump: more time than in proportion to the batch, which no engine needs that keeps its ways. `apart` leaves out the
    rows between the two known batches between which there is one.
    """
    series: dict[Cell, list[Row]] = defaultdict(list)
    for r, flagged in zip(rows.rows, rows.flagged.tolist(), strict=True):
        if r.cell.source == "mlenergy" and not flagged:
            series[r.cell].append(r)
    errors: dict[tuple[str, str], list[Floats]] = defaultdict(list)
    for cell, own in series.items():
        if len(own) >= 4:
            own.sort(key=lambda r: r.batch)
            errors[cell.gpu.name, "moe" if cell.llm.moe else "dense"].append(_between(Measured.of(own)))
    lines = [
        "| T0 | GPU | aim time | time | jumps apart | median "
        "| aim power | power | jumps apart | time known | rows | jumps |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (gpu, kind), tables in sorted(errors.items()):
        t, w, known, apart = np.concatenate(tables, axis=1)
        smooth = apart == 0
        aim = {"h100-sxm-80gb": 0.03, "b200-sxm-180gb": 0.08}.get(gpu) if kind == "dense" else None
        cells = [kind, gpu, percent(aim), percent(t.mean()), percent(t[smooth].mean()), percent(float(np.median(t))),
                 percent(0.03 if aim else None), percent(w.mean()), percent(w[smooth].mean()),
                 percent(known[smooth].mean()), str(len(t)), str(int(apart.sum()))]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _between(m: Measured) -> Floats:
    """Of one configuration by batch: errors of time, of watts, of watts with time known; whether a jump is near."""
    batch, time_s, power_w = m.columns.batch, m.tpot_s, m.power_w
    middle = 1 + int(np.argmin(np.abs(np.log(batch[1:-1]) - 0.5 * np.log(batch[0] * batch[-1]))))
    three, last = [0, middle, len(batch) - 1], len(batch) - 1
    line = np.interp(batch, batch[three], time_s[three])
    watts = np.interp(np.log(batch), np.log(batch[three]), power_w[three])
    physical = _common_watts(m)
    known = physical * np.interp(batch, batch[three], (power_w / physical)[three])
    jump = (time_s[1:] / time_s[:-1] > batch[1:] / batch[:-1]) & (batch[1:] > 1.03 * batch[:-1])
    apart = np.array([jump[:middle].any() if k < middle else jump[middle:].any() for k in range(len(batch))])
    errors = [np.abs(line / time_s - 1.0), np.abs(watts / power_w - 1.0), np.abs(known / power_w - 1.0), apart]
    return np.delete(np.array(errors), [0, middle, last], axis=1)


def _common_watts(m: Measured) -> Floats:
    """The power form at the measured times, with what all GPUs and engines share of the shipped efficiencies."""
    common = load().families[family(m.columns.cells[0])].parameters.common
    p = {name: np.full(len(m), np.exp(value)) for name, value in common.items()}
    return form.power_w(m.columns, p, form.times(m.columns, p), m.tpot_s)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="ship the model trained on everything")
    asked = parser.parse_args()
    rows = train.gather(asked.data)
    print("\n".join(interpolated(rows)), flush=True)
    model = train.train(rows)
    held = train.set_bands(model, rows)
    print("\n".join(["", *table(held, {name: f.bands for name, f in model.families.items()})]))
    if asked.write:
        write_json(FILE, dump(model))


if __name__ == "__main__":
    main()
