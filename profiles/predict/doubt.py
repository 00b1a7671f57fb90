"""Rows that contradict themselves, by fixed rules over their inputs and measured columns; no prediction is asked.

docs/predict.md states the rules. At most a twentieth of a file is flagged: where more rows break a rule, those that
break it worst are flagged and the rest are scored like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from profiles.predict.columns import Cell, Floats
from profiles.predict.form import weights_bytes
from profiles.predict.measured import Measured, Row

MOST = 0.05  # of a file's rows
BUSIEST = 0.5  # share of the peak operations that no serving engine was seen to reach
FASTEST = 0.9  # share of the data-sheet bandwidth at which weights can be read
FALLS = 1.3  # how much slower a smaller batch may be
# how far runs of one configuration, load and lengths may be apart
TWINS, CONTRADICTS = "contradicts a row of the same configuration", 1.5
MACHINE, DOUBTED = "most rows of its machine are doubtful", 0.45  # the share of such rows
_FEW = 4  # rows by which a machine can be judged
DISAGREES = 1.1  # how far apart two columns' accounts of one figure may be
JITTER, QUIET = 1.3, 0.1  # p90 over median time between tokens while this share of steps at most carries a prompt


def severity(rows: list[Row]) -> tuple[Floats, list[str]]:
    """How many times over its limit each row is, at its worst rule (0: sound), and the name of that rule."""
    m = Measured.of(rows)
    broken = {
        "concurrency, prompt length or GPUs not stated": np.array([9.0 * bool(r.unstated) for r in rows]),
        "more operations than the GPUs can do": _over(_operations(m) / BUSIEST, ~_apart(rows)),
        "weights read faster than memory can": _over(_reading(m) / FASTEST, np.ones(len(rows), bool)),
        "waits longer for the first token than it decodes": _over(
            m.ttft_s / (m.columns.output * m.tpot_s), m.ttft_s > 0
        ),
        "slower at a smaller batch": _over(_falls(rows) / FALLS, np.ones(len(rows), bool)),
        TWINS: _over(_apart_from(rows) / CONTRADICTS, np.ones(len(rows), bool)),
        "latency and throughput disagree": _over(
            np.array([r.disagreement for r in rows]) / DISAGREES, np.ones(len(rows), bool)
        ),
        "tokens jitter though hardly a step carries a prompt": np.array([_jitter(r) for r in rows]),
    }
    broken[MACHINE] = _machines(rows, np.stack([ratio for name, ratio in broken.items() if name != TWINS]).max(axis=0))
    table = np.stack(list(broken.values()))
    worst = table.argmax(axis=0)
    names = list(broken)
    return table.max(axis=0), [names[i] if table[i, n] > 0 else "" for n, i in enumerate(worst)]


def _machines(rows: list[Row], severe: Floats) -> Floats:
    """Where most rows of a GPU, model and engine of one source contradict each other: the worst of them, for all."""
    of = [(r.cell.gpu.name, r.cell.llm.name, r.cell.engine, r.cell.source) for r in rows]
    own: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, r in enumerate(rows):
        if r.lengths_fixed and not r.cell.apart:
            own[of[i]].append(i)
    found = np.zeros(len(rows))
    for which in own.values():
        if len(which) >= _FEW and np.mean(severe[which] > 0) > DOUBTED:
            found[which] = severe[which].max()
    return found


def flags(severe: Floats, rows: Sequence[Row] = ()) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The rows to flag: those over a limit, the worst MOST of all rows at most.

    Of equally bad ones the rows' own figures choose, so that no order of the file does.
    """
    broken = np.flatnonzero(severe > 0).tolist()
    order = sorted(broken, key=lambda i: (-severe[i], *(_own(rows[i]) if rows else ())))
    found = np.zeros(len(severe), dtype=bool)
    found[order[: int(MOST * len(severe))]] = True
    return found


def _own(r: Row) -> tuple[str | float, ...]:
    c = r.cell
    names = (c.gpu.name, c.llm.name, c.engine, c.linear, c.experts, c.task, c.source)
    return (r.tpot_s or 0.0, r.batch, r.prompt, r.output, r.ttft_s or 0.0, c.world, c.tp, c.ep, c.apart, *names)


def _over(ratio: Floats, where: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    return np.where(where & np.isfinite(ratio) & (ratio > 1.0), ratio, 0.0)


def _apart(rows: list[Row]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([r.cell.apart for r in rows])


def _operations(m: Measured) -> Floats:
    """Share of the peak FLOP/s that the stated tokens would take."""
    c, w = m.columns, m.columns.work
    active = w.linear_params + w.expert_params * w.chosen / w.experts
    return 2.0 * active * c.batch * (1.0 + c.prompt / c.output) / m.tpot_s / (w.world * w.peak)


def _reading(m: Measured) -> Floats:
    """Share of the bandwidth that reading the weights once a step would take."""
    w = m.columns.work
    return weights_bytes(m.columns, m.columns.batch) / m.tpot_s / (w.world * w.bandwidth)


def _falls(rows: list[Row]) -> Floats:
    """TPOT over the least TPOT at a larger batch of the same configuration and lengths."""
    series: dict[tuple[Cell, float, float], list[Row]] = defaultdict(list)
    for r in rows:
        if r.lengths_fixed:
            series[r.cell, r.prompt, r.output].append(r)
    found = []
    for r in rows:
        larger = [
            q.tpot_s for q in series.get((r.cell, r.prompt, r.output), []) if q.batch > 1.01 * r.batch and q.tpot_s
        ]
        found.append(r.tpot_s / min(larger) if larger and r.tpot_s else 0.0)
    return np.array(found)


def _apart_from(rows: list[Row]) -> Floats:
    """TPOT over that of the row of equal configuration, batch and lengths that is furthest from it, or its inverse."""
    same: dict[tuple[Cell, float, float, float], list[float]] = defaultdict(list)
    for r in rows:
        same[r.cell, r.batch, r.prompt, r.output].append(r.tpot_s or np.nan)
    found = []
    for r in rows:
        others = same[r.cell, r.batch, r.prompt, r.output]
        found.append(max((r.tpot_s or np.nan) / min(others), max(others) / (r.tpot_s or np.nan)))
    return np.array(found)


def _jitter(r: Row) -> float:
    ratio = r.jitter / JITTER
    return ratio if ratio > 1.0 and r.batch / r.output < QUIET else 0.0
