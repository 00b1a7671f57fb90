"""The shipped profiles that importers give: what was measured, and measured times with watts of a fitted law.

Called by benchmarks/derive_library.py. Profiles whose times were measured and whose watts were not get the law of their
GPU, or of the GPUs with watts; its error is that of configurations left out. Nothing that derive_library fits from
several sources is written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiles import catalog
from profiles.importers import aiconfigurator, condense, llm_inference_bench, llmservingsim, mlenergy
from profiles.importers.composed import Origin, Steps, compose
from profiles.importers.condense import Law, Measured, sift
from profiles.importers.formats import Asked, read
from profiles.importers.serving import POWER, Columns, Step, form, solve
from profiles.importers.work import Work
from profiles.points import BATCHES, CHUNKS, CONTEXTS, digits
from profiles.profile import Profile
from profiles.step import StepModel

OTHER_VENDOR_BAND = 1.8  # no watts of another vendor's GPU were at hand
WIDEST = 1.5  # a time band beyond this is no measurement to ship
# (GPU, model, engine prefix) of silicon_sample that are shipped, every parallelism and precision it has
SILICON = (
    ("h100-sxm-80gb", "llama-3.1-70b", "vllm"), ("b200-sxm-180gb", "llama-3.1-70b", "vllm"),
    ("h100-sxm-80gb", "gpt-oss-120b", "vllm-0.18"), ("h200-sxm-141gb", "gpt-oss-120b", "vllm-0.18"),
    ("h200-sxm-141gb", "qwen3-235b-a22b", "vllm"), ("h200-sxm-141gb", "deepseek-r1", "sglang"),
    ("b200-sxm-180gb", "deepseek-r1", "sglang-0.5.9"), ("b200-sxm-180gb", "kimi-k2", "vllm-0.15"),
    ("h100-sxm-80gb", "qwen3-32b", "vllm"),
)  # fmt: skip
BENCH = (  # of LLM-Inference-Bench; Llama 3 stands for 3.1, whose shape it shares
    ("mi300x", "llama-3-8b"), ("mi300x", "llama-3-70b"), ("mi300x", "mixtral-8x7b"),
    ("a100-sxm-40gb", "llama-3-8b"), ("gh200", "llama-3-8b"), ("mi250", "llama-3-70b"),
)  # fmt: skip
NEWER = {"llama-3-8b": "llama-3.1-8b", "llama-3-70b": "llama-3.1-70b"}
OPERATIONS = (("a100_sxm", "qwen3-32b", 2), ("l40s", "llama-3.1-8b", 1), ("rtx_pro_6000_server", "llama-3.1-70b", 4))
VIDUR = (("a40", "Llama-2-7b-hf", 1), ("a40", "Llama-2-70b-hf", 4))


def imported(folder: Path, taken: set[str]) -> tuple[list[Profile], str]:
    """The profiles, none of a name that is taken, and the table of the law of watts."""
    energy = mlenergy.measured(folder / "mlenergy" / "leaderboard_llm.csv", _silent)
    laws, table = _laws(energy)
    found = [p for p in map(condense.profile, energy) if p is not None and p.band.time <= WIDEST]
    silicon = aiconfigurator.measured(folder / "aiconfigurator" / "silicon_sample.csv", _silent)
    for one in silicon:
        names = (one.work.gpu.name, one.work.llm.name)
        if any(names == key[:2] and one.engine.startswith(key[2]) for key in SILICON):
            found += _shipped(replace(one, law=laws(names[0], one.work.llm.moe)))
    for one in llm_inference_bench.measured(folder / "llm-inference-bench", _silent):
        names = (one.work.gpu.name, one.work.llm.name)
        if names in BENCH and one.engine == ("trtllm-2024" if names[0] == "gh200" else "vllm-2024"):
            found += _shipped(_newer(replace(one, law=laws(names[0], one.work.llm.moe))))
    found += [_with_law(p, laws(p.gpu, catalog.llm(p.model).moe)) for p in _composed(folder)]
    return [p for p in found if p.key not in taken], table


def _silent(text: str) -> None:
    """Importers tell users what they leave out; the docs say it of the library."""


def _shipped(one: Measured) -> Iterator[Profile]:
    profile = condense.profile(one)
    if profile is not None and profile.band.time <= WIDEST:
        yield profile


def _newer(one: Measured) -> Measured:
    name = one.work.llm.name
    if name not in NEWER:
        return one
    note = f"measured on {name}, whose shape it shares"
    return replace(one, work=replace(one.work, llm=catalog.llm(NEWER[name])), notes=[*one.notes, note])


@dataclass(frozen=True)
class _Powered:
    """A configuration with watts: its form with fitted times, and the rows that have watts."""

    step: Step
    columns: Columns
    met: float

    @property
    def cell(self) -> tuple[str, str, bool]:
        """GPU, model, and whether it has experts."""
        w = self.step.work
        return w.gpu.name, w.llm.name, w.llm.moe

    def off(self, parameters: dict[str, float]) -> NDArray[np.float64]:
        """Logarithms of the law's watts over the measured."""
        step = Step(self.step.work, self.step.p | parameters)
        return np.log(step.figures(self.columns, self.met, watts=True)[1] / self.columns.power_w)


def _powered(one: Measured) -> _Powered | None:
    rows = sift(one.work, one.rows, one.ran)[0]
    known = [r for r in rows if r.power_w]
    return _Powered(form(one.work, Columns(rows), one.met).step, Columns(known), one.met) if known else None


def _laws(energy: list[Measured]) -> tuple[Callable[[str, bool], Law], str]:
    """The law by GPU and kind of model, and a table of its errors on configurations left out."""
    known = [one for one in map(_powered, energy) if one is not None]

    def law(chosen: list[_Powered]) -> dict[str, float]:
        return solve(POWER, lambda q: np.concatenate([one.off(q) for one in chosen]))

    def left_out(gpu: str, moe: bool, near: bool) -> NDArray[np.float64]:
        own = [one for one in known if one.cell[0] == gpu and one.cell[2] == moe]
        same = [one for one in known if one.cell[2] == moe and (one.cell[0] == gpu) == near]
        found = []
        if not near:
            far = law(same)
            return np.concatenate([abs(np.expm1(one.off(far))) for one in own])
        for model in sorted({one.cell[1] for one in own}):
            rest = law([one for one in same if one.cell[1] != model])
            found += [abs(np.expm1(one.off(rest))) for one in own if one.cell[1] == model]
        return np.concatenate(found)

    lines = ["| watts of | law from | rows | MAPE | P90 |", "|---|---|---|---|---|"]
    p90: dict[tuple[str, bool, bool], float] = {}
    gpus = sorted({one.cell[0] for one in known})
    for gpu, moe, near in product(gpus, (False, True), (True, False)):
        errors = left_out(gpu, moe, near)
        p90[gpu, moe, near] = float(np.quantile(errors, 0.9))
        what, source = "MoE" if moe else "dense", "other models on it (T1)" if near else "the other GPU (T2)"
        lines.append(f"| {what}, {gpu} | {source} | {len(errors)} | {errors.mean():.1%} | {p90[gpu, moe, near]:.1%} |")

    @cache
    def choose(gpu: str, moe: bool) -> Law:
        mine = gpu in gpus
        chosen = [one for one in known if one.cell[2] == moe and (one.cell[0] == gpu or not mine)]
        what = f"a law fitted to ML.ENERGY's {'MoE' if moe else 'dense'} models on "
        if mine:
            return Law(law(chosen), "T1", round(1.0 + p90[gpu, moe, True], 2), what + gpu)
        if catalog.gpu(gpu).vendor != "NVIDIA":
            return Law(law(chosen), "T3", OTHER_VENDOR_BAND, what + "H100 and B200")
        far = max(p90[other, moe, False] for other in gpus)
        return Law(law(chosen), "T2", round(1.0 + far, 2), what + "H100 and B200")

    return choose, "\n".join(lines)


def _composed(folder: Path) -> Iterator[Profile]:
    """Profiles summed from layers, operators and operations."""
    for card, name, tp in OPERATIONS:
        yield from read("aiconfigurator", folder / "aiconfigurator" / "data" / card, Asked(model=name, tp=tp))
    for card, name, tp in VIDUR:
        path = folder / "vidur" / "profiling" / "compute" / card / "meta-llama" / name / "mlp.csv"
        yield from read("vidur", path, Asked(gpu=card, tp=tp))
    for profile in llmservingsim.read_folder(folder / "llmservingsim" / "perf"):
        if profile.ep == 1:
            yield _thinned(profile)


def _thinned(whole: Profile) -> Profile:
    """A per-layer profile at the usual points, with what that costs against its own points."""
    work = Work(catalog.gpu(whole.gpu), catalog.llm(whole.model), whole.tp, whole.precision)
    step = StepModel(whole, engine=False)
    top = max(whole.decode.batch)
    steps = Steps(
        lambda new, past: step.prefill([(new, past)]).time_s,
        lambda batch, context: step.decode_time_s(batch, batch * context),
        batches=tuple(b for b in BATCHES if b <= top), contexts=CONTEXTS,
        chunks=tuple(n for n in CHUNKS if n <= max(whole.prefill.new_tokens)),
    )  # fmt: skip
    extra = {"engine_term": whole.engine_term, "memory": whole.memory, "async_scheduling": whole.async_scheduling}
    thin = compose(work, steps, Origin(whole.engine, whole.provenance, whole.band, "kernels", extra))
    short, d = StepModel(thin, engine=False), whole.decode
    inside = [i for i in range(len(d.batch)) if CONTEXTS[0] <= d.kv_tokens[i] / d.batch[i] <= CONTEXTS[-1]]
    off = [abs(short.decode_time_s(d.batch[i], d.kv_tokens[i]) / d.time_s[i] - 1.0) for i in inside]
    error = {"thinned_mape": round(float(np.mean(off)), 3), "thinned_p90": round(float(np.quantile(off, 0.9)), 3)}
    notes = [*thin.provenance.notes, "thinned from the tables' own points: the mixed table and skew are not in it"]
    provenance = thin.provenance.model_copy(update={"fit_error": error | {"rows": float(len(inside))}, "notes": notes})
    band = thin.band.model_copy(update={"time": round(max(1.15, 1.1 + error["thinned_p90"]), 3)})
    return thin.model_copy(update={"provenance": provenance, "band": band})


def _with_law(profile: Profile, law: Law) -> Profile:
    """A composed profile with a law's watts where it has none."""
    if any(profile.decode.power_w):
        return profile
    work = Work(catalog.gpu(profile.gpu), catalog.llm(profile.model), profile.tp, profile.precision)
    step = Step(work, law.parameters)
    p, d = profile.prefill, profile.decode
    term = profile.engine_term
    host_s, each_s = (term.step_s, term.sequence_s) if term else (0.0, 0.0)
    first = [
        float(step.power_w(t + host_s, float(n), n * (past + 0.5 * n), 0.0, 0.0))
        for t, n, past in zip(p.time_s, p.new_tokens, p.past_tokens, strict=True)
    ]
    usual = {b: t for b, kv, t in zip(d.batch, d.kv_tokens, d.time_s, strict=True) if kv <= 1024 * b}
    by_batch = {b: float(step.power_w(t + host_s + each_s * b, 0.0, 0.0, float(b), 1024.0)) for b, t in usual.items()}
    notes = [n for n in profile.provenance.notes if "power_w is 0" not in n and "every power_w" not in n]
    measured = "times measured (T0); " if profile.provenance.tier == "T0" else ""
    notes.append(f"{measured}watts predicted ({law.tier}): {law.source}")
    tier = max(profile.provenance.tier, law.tier, key=("T0", "cfg", "T1", "T2", "T3").index)
    provenance = profile.provenance.model_copy(update={"tier": tier, "notes": notes})
    changes = {
        "prefill": p.model_copy(update=_predicted(first, work)),
        "decode": d.model_copy(update=_predicted([by_batch[b] for b in d.batch], work)),
        "provenance": provenance,
        "band": profile.band.model_copy(update={"power": law.band}),
        "idle": work.idle[0],
    }
    return profile.model_copy(update=changes)


def _predicted(watts: list[float], work: Work) -> dict[str, list[float] | list[str]]:
    return {
        "power_w": [digits(condense.within(w, work)) for w in watts],
        "flags": [condense.POWER_PREDICTED] * len(watts),
    }
