"""Serving measurements of one configuration condensed to a Profile: averages over prefill and decode taken apart.

A benchmark that keeps B requests running measures a mean step, in which plain decode steps and steps that carry a
prompt mix: in steady state a step brings B / output prompts on average. A step is taken as

    time  = host + sequence B + prompt + linear + head + KV + attention + wire
    watts = limit x softcap(base + flop u^0.9 + joules a byte x bytes/s / limit)

where linear and head are (compute^3 + memory^3)^(1/3) and u is the share of the peak FLOP/s in use. Its host terms,
shares of the data sheet's peaks and joules are fitted to the rows, drawn to what earlier fits over all sources found
(docs/profiles.md); what the form misses at a measured batch is carried as a factor, linear between batches.
Energy a byte and an operation is what separates prefill's watts from decode's where a source states the average alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from profiles.importers.work import Numbers, Work

Floats: TypeAlias = NDArray[np.float64]
Parameters: TypeAlias = dict[str, float]

# Where the fit starts and is drawn to: host seconds a layer x layers, and so on (the globals of dense models).
LAYER_S = 45e-6
TIME = {"sequence_s": 4e-5, "prompt_s": 4e-3, "compute": 0.7, "bandwidth": 0.85, "kv": 0.69}
EXPERT_COMPUTE = 0.35  # of the peak in mixtures of experts, whose products are small
POWER = {"base": 0.28, "flop": 2.1, "joule_per_byte": 1e-10}
# no kernel reaches more of a data sheet; no engine spends more on a prompt beside its tokens
TOP = {"compute": 0.93, "bandwidth": 0.95, "kv": 0.95, "prompt_s": 2e-2}
_ATTENTION, _LINK, _EXPONENT, _CAP, _SOFT = 0.4, 0.5, 0.9, 0.985, 8.0
_API_S = 1e-2
_PULL = 0.2  # an e-fold away from the start weighs like a residual of two tenths


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure: `batch` requests of `prompt` tokens in and `output` out.

    `kind`: mean (`time_s` is a mean step in steady state), decode (a plain decode step), whole (a batch from start to
    end), ttft. `power_w` is of all GPUs, None where unknown.
    """

    line: int
    kind: str
    batch: float
    prompt: float
    output: float
    time_s: float
    power_w: float | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Step:
    """The form with parameters filled in; numbers or columns in, columns out."""

    work: Work
    p: Parameters

    def time_s(self, new: Numbers, pairs: Numbers, batch: Numbers, context: Numbers) -> Any:
        """Seconds of a step of `new` prompt tokens that attend `pairs`, beside `batch` decodes at a mean context."""
        w, p = self.work, self.p
        tokens, prompts = new + batch, np.minimum(new, 1.0)
        linear = _soft(
            w.linear_flops * tokens / (w.flops * p["compute"]), w.linear_bytes(tokens) / (w.bandwidth * p["bandwidth"])
        )
        rows = batch + prompts
        head = _soft(w.head_flops * rows / (w.flops * p["compute"]), w.head_bytes / (w.bandwidth * p["bandwidth"]))
        host = p["host_s"] + p["sequence_s"] * batch + p["prompt_s"] * prompts
        return host + linear + head + self.attention_s(pairs, batch, context) + self.link_s(tokens)

    def attention_s(self, pairs: Numbers, batch: Numbers, context: Numbers) -> Any:
        """Seconds to read the KV of `batch` sequences and to compute `pairs` (query, key) pairs of prompts."""
        w = self.work
        read = w.kv_bytes(batch, context) / (w.bandwidth * self.p["kv"])
        return read + w.attention_flops * pairs / (w.gpu.flops_bf16 * w.gpus * _ATTENTION)

    def link_s(self, tokens: Numbers) -> Any:
        """Seconds of all-reduces."""
        return self.work.wire_s(tokens) / _LINK

    def power_w(self, time_s: Numbers, new: Numbers, pairs: Numbers, batch: Numbers, context: Numbers) -> Any:
        """Watts of all GPUs while such a step repeats, each taking `time_s`."""
        w = self.work
        flops = w.linear_flops * (new + batch) + w.head_flops * (batch + np.minimum(new, 1.0))
        flops = flops + w.attention_flops * (pairs + batch * context)
        moved = w.linear_bytes(new + batch) + w.head_bytes + w.kv_bytes(batch, context)
        return self.watts(time_s, flops, moved)

    def watts(self, time_s: Numbers, flops: Numbers, moved: Numbers) -> Any:
        """Watts of all GPUs while work of so many operations and bytes repeats; never above the limit."""
        w, p = self.work, self.p
        share = p["base"] + p["flop"] * (flops / time_s / w.flops) ** _EXPONENT
        share = share + p["joule_per_byte"] * moved / time_s / w.limit_w
        return w.limit_w * share / (1.0 + (share / _CAP) ** _SOFT) ** (1.0 / _SOFT)

    def mean(self, batch: Numbers, prompt: Numbers, output: Numbers, met: float, watts: bool) -> tuple[Any, Any]:
        """Mean seconds of a step at `batch` running requests in steady state and, where asked, mean watts.

        `met` is the share of others' prompts that a request sees where a benchmark's requests start together.
        """
        context, none = prompt + 0.5 * output, 0.0 * batch
        plain = self.time_s(none, 0.0, batch, context)
        share = met * batch / output
        each, often = np.maximum(1.0, share), np.minimum(1.0, share)
        new, pairs = each * prompt, each * 0.5 * prompt**2
        mixed = self.time_s(new, pairs, batch, context)
        time_s = (1.0 - often) * plain + often * mixed
        if not watts:
            return time_s, none
        joules = (1.0 - often) * plain * self.power_w(plain, none, 0.0, batch, context)
        joules = joules + often * mixed * self.power_w(mixed, new, pairs, batch, context)
        return time_s, joules / time_s

    def whole(self, batch: Numbers, prompt: Numbers, output: Numbers, watts: bool) -> tuple[Any, Any]:
        """Seconds and, where asked, mean watts of a batch that starts and ends together."""
        new, pairs, context, none = batch * prompt, batch * 0.5 * prompt**2, prompt + 0.5 * output, 0.0 * batch
        first = self.time_s(new, pairs, none, 0.0)
        step = self.time_s(none, 0.0, batch, context)
        time_s = first + (output - 1.0) * step
        if not watts:
            return time_s, none
        joules = first * self.power_w(first, new, pairs, none, 0.0)
        joules = joules + (output - 1.0) * step * self.power_w(step, none, 0.0, batch, context)
        return time_s, joules / time_s

    def figures(self, rows: Columns, met: float, watts: bool = False) -> tuple[Floats, Floats]:
        """Seconds and, where asked, watts of what each row measured; watts of plain steps and of TTFT are 0."""
        found = np.zeros((2, len(rows.rows)))
        for kind in set(rows.kind):
            one = rows.kind == kind
            batch, prompt, output = rows.batch[one], rows.prompt[one], rows.output[one]
            context = prompt + 0.5 * output
            if kind == "mean":
                found[:, one] = self.mean(batch, prompt, output, met, watts)
            elif kind == "whole":
                found[:, one] = self.whole(batch, prompt, output, watts)
            else:
                plain = self.time_s(0.0 * batch, 0.0, batch, context)
                beside = self.time_s(prompt, 0.5 * prompt**2, batch, context) if kind == "ttft" else None
                # an API server, half a step of waiting, the step that carries the prompt
                found[0, one] = plain if beside is None else _API_S + 0.5 * plain + beside
        return found[0], found[1]


class Columns:
    """Rows as columns."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.kind = np.array([r.kind for r in rows])
        self.batch, self.prompt, self.output, self.time_s, self.weight = (
            np.array([getattr(r, name) for r in rows], float)
            for name in ("batch", "prompt", "output", "time_s", "weight")
        )
        self.power_w = np.array([r.power_w or np.nan for r in rows], float)
        self.group = groups([r.batch for r in rows])


@dataclass(frozen=True)
class Fitted:
    """The fitted form, what it misses at each measured batch, and how far it is from the rows."""

    step: Step
    time_factor: dict[int, float]
    power_factor: dict[int, float]
    error: dict[str, float]

    def at(self, factors: dict[int, float], batch: float) -> float:
        """The factor at a batch: linear between measured ones, the outermost beyond."""
        return float(np.interp(batch, list(factors), list(factors.values()))) if factors else 1.0


def fit(work: Work, rows: Sequence[Row], met: float = 1.0) -> Fitted:
    """Fit the form to one configuration's rows, then factors at their batches.

    `error` holds means and 90th percentiles of |figure / measured - 1|: `form_` of the form alone, `tpot_` with its
    factors, `held_` of rows of an inner batch that was left out, and the same of watts.
    """
    columns = Columns(rows)
    whole = form(work, columns, met)
    time_s, watts = whole.step.figures(columns, met, watts=bool(work.limit_w))
    steps, powered = columns.kind != "ttft", np.isfinite(columns.power_w)
    scale, wide = (np.array([whole.at(f, b) for b in columns.batch]) for f in (whole.time_factor, whole.power_factor))
    error = _summary("form", time_s / columns.time_s, steps) | _summary("tpot", scale * time_s / columns.time_s, steps)
    if powered.any():
        error |= _summary("power", wide * watts / columns.power_w, powered) | {"power_rows": float(powered.sum())}
    error |= _held_out(work, columns, met) | {"rows": float(steps.sum())}
    return Fitted(whole.step, whole.time_factor, whole.power_factor, error)


def form(work: Work, columns: Columns, met: float) -> Fitted:
    """The form and its factors, without the errors that `fit` adds."""
    start = TIME | {"host_s": LAYER_S * work.llm.layers}
    if work.llm.moe:
        start["compute"] = EXPERT_COMPUTE
    p = start | POWER
    p |= solve(start, lambda q: columns.weight * np.log(Step(work, p | q).figures(columns, met)[0] / columns.time_s))
    powered = np.isfinite(columns.power_w)
    if work.limit_w and powered.any():
        known = Columns([r for r in columns.rows if r.power_w])
        p |= solve(POWER, lambda q: np.log(Step(work, p | q).figures(known, met, watts=True)[1] / known.power_w))
    step = Step(work, p)
    time_s, watts = step.figures(columns, met, watts=bool(work.limit_w))
    return Fitted(
        step,
        _factors(columns.group, columns.time_s / time_s, columns.kind != "ttft"),
        _factors(columns.group, columns.power_w / np.where(watts > 0, watts, np.nan), powered & (watts > 0)),
        {},
    )


def solve(start: Parameters, residuals: Callable[[Parameters], Floats]) -> Parameters:
    """Robust least squares over logarithms, drawn to where they start."""
    from scipy.optimize import least_squares

    names, centre = list(start), np.log(list(start.values()))
    top = np.array([np.log(TOP[n]) if n in TOP else c + 4.0 for n, c in zip(names, centre, strict=True)])

    def both(x: Floats) -> Floats:
        values = dict(zip(names, np.exp(x), strict=True))
        return np.concatenate([3.0 * residuals(values), _PULL * (x - centre)])

    found = least_squares(
        both, np.minimum(centre, top - 1e-3), loss="soft_l1", f_scale=0.2, bounds=(centre - 4.0, top), max_nfev=60
    )
    return dict(zip(names, map(float, np.exp(found.x)), strict=True))


def groups(batch: Sequence[float]) -> list[int]:
    """The batch each row belongs to: means of running requests that differ by under 3 % are one batch."""
    heads: dict[float, int] = {}
    head = 0.0
    for value in sorted(set(batch)):
        head = value if value > 1.03 * head else head
        heads[value] = round(head)
    return [heads[value] for value in batch]


def _factors(group: list[int], ratio: Floats, use: NDArray[np.bool_]) -> dict[int, float]:
    """Median of measured over fitted by batch."""
    mine = np.array(group)
    return {b: float(np.median(ratio[use & (mine == b)])) for b in sorted(set(mine[use].tolist()))}


def _held_out(work: Work, columns: Columns, met: float) -> dict[str, float]:
    """Errors at each inner batch predicted from the others: what interpolation between measured batches is worth."""
    batches = sorted({g for g, kind in zip(columns.group, columns.kind, strict=True) if kind != "ttft"})
    times: list[float] = []
    watts: list[float] = []
    for held in batches[1:-1]:
        mine = np.array(columns.group) == held
        rest = form(work, Columns([r for r, m in zip(columns.rows, mine, strict=True) if not m]), met)
        own = Columns([r for r, m in zip(columns.rows, mine, strict=True) if m and r.kind != "ttft"])
        time_s, power_w = rest.step.figures(own, met, watts=bool(work.limit_w))
        times += list(rest.at(rest.time_factor, held) * time_s / own.time_s)
        watts += list(rest.at(rest.power_factor, held) * power_w / own.power_w)
    found = _summary("held", np.array(times), np.isfinite(times)) if times else {}
    known = np.isfinite(watts)
    return found | (_summary("held_power", np.array(watts), known) if len(watts) and known.any() else {})


def _summary(name: str, ratio: Floats, use: NDArray[np.bool_]) -> dict[str, float]:
    off = np.abs(ratio[use] - 1.0)
    return {f"{name}_mape": float(off.mean()), f"{name}_p90": float(np.quantile(off, 0.9))}


def _soft(compute: Any, move: Any) -> Any:
    return (compute**3 + move**3) ** (1.0 / 3.0)


def spread(fitted: Fitted, rows: Sequence[Row], met: float) -> str | None:
    """A line where rows of one batch contradict each other by more than half."""
    columns = Columns(rows)
    ratio = columns.time_s / fitted.step.figures(columns, met)[0]
    worst = 1.0
    for batch in set(columns.group):
        own = ratio[(np.array(columns.group) == batch) & (columns.kind != "ttft")]
        worst = max(worst, own.max() / own.min()) if own.size else worst
    return f"rows of one batch differ by up to {worst:.2f} times for the same work" if worst > 1.5 else None


def jumps(fitted: Fitted, most: float = 1.6) -> list[str]:
    """Neighbouring batches whose factors differ by more than `most`: the engine changed its ways between them."""
    return [
        f"between batch {a} and {b} the step changes {y / x:.2f} times more than its work: the engine changed its ways"
        for (a, x), (b, y) in pairwise(fitted.time_factor.items())
        if not 1.0 / most < y / x < most
    ]
