"""Derive the shipped profiles: read public measurements, fit an effective roofline, write profiles/library/*.json.

    python -m benchmarks.derive_library DATA [-o DIR]

DATA is a folder with aiconfigurator/, mlenergy/, llm-inference-bench/ and helix/ in it. No row of it is written out:
the profiles carry points of the fitted form only. Prints the tables of docs/profiles.md, which says what was fitted
to what.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.derive_imports import imported
from benchmarks.library_rows import SHAPES, Row, every, gemm_shares
from profiles import catalog
from profiles.predict.roofline import (
    Card,
    Efficiency,
    Roofline,
    Shape,
    decode_points,
    engine_term,
    memory,
    prefill_points,
)
from profiles.profile import Band, Idle, Mixed, Profile, Provenance, Systematic, save, shipped_folder

DATE = "2026-11-21"
CATALOG = {"h100": "h100-sxm-80gb", "h200": "h200-sxm-141gb", "a100": "a100-sxm-80gb", "l4": "l4"}
LINK = {"h100": 450e9, "h200": 450e9, "a100": 300e9, "a100-40": 300e9, "l4": 32e9}  # bytes/s, one direction

TIME = {  # parameter -> where it starts and is drawn to (facts of earlier fits); all are fitted as logarithms
    **{f"{p}.{g}": v for g in ("h100", "a100-40", "l4")
       for p, v in (("compute", 0.7), ("bandwidth", 0.85), ("kv_bandwidth", 0.69), ("attention", 0.4), ("link", 0.5))},
    "host_s": 3e-4, "layer_s": 3e-5, "sequence_s": 4e-5, "prompt_s": 3e-3, "allreduce_s": 8e-6,
    "bench.layer_s": 7e-5, "bench.sequence_s": 6e-5, "silicon.sequence_s": 4e-5, "silicon.met": 0.7,
    "silicon.api_s": 1e-2, "fp8.compute": 0.9, "fp8.bandwidth": 0.8,
}  # fmt: skip
POWER = {
    "power_base": 0.3,
    "power_flop": 1.5,
    "power_exponent": 0.7,
    "joule_per_byte": 1e-10,
    "joule_per_kv_byte": 1e-10,
}
CAP = 0.985  # of the limit: what saturated rows reach


def cards() -> dict[str, Card]:
    """Cards from the catalogue's data sheets, and the A100 40 GB of LLM-Inference-Bench's machine (1,555 GB/s)."""
    found = {}
    for name, key in CATALOG.items():
        g = catalog.gpu(key)
        found[name] = Card(g.memory_bytes, g.bandwidth_bytes_per_s, g.flops_bf16, g.tdp_w, LINK[name])
    found["a100-40"] = replace(found["a100"], memory_bytes=40e9, bandwidth_bytes_per_s=1.555e12)
    return found


def efficiency(p: dict[str, float], gpu: str, source: str = "", weight_bytes: float = 2.0) -> Efficiency:
    """The efficiencies that hold for one row: its GPU's, its engine generation's, its precision's."""
    c, b = (2.0 * p["fp8.compute"], p["fp8.bandwidth"]) if weight_bytes == 1.0 else (1.0, 1.0)
    host = {k: p[k] for k in ("host_s", "prompt_s", "allreduce_s")}
    host |= {k: p.get(f"{source}.{k}", p[k]) for k in ("layer_s", "sequence_s")}
    own = {k: p[f"{k}.{gpu}"] for k in ("kv_bandwidth", "attention", "link")}
    return Efficiency(
        compute=c * p[f"compute.{gpu}"], bandwidth=b * p[f"bandwidth.{gpu}"], **own, **host,
        power_cap=CAP, **{k: p.get(f"{k}.{gpu}", v) for k, v in POWER.items()},
    )  # fmt: skip


def predict(row: Row, p: dict[str, float], deck: dict[str, Card]) -> tuple[float, float]:
    """Seconds and watts the form gives for what `row` measured."""
    shape = SHAPES[row.model]
    e = efficiency(p, row.gpu, row.source, row.weight_bytes)
    model = Roofline(shape, deck[row.gpu], e, row.tp, row.weight_bytes)
    if row.kind == "mean":
        return model.serving(row.batch, row.prompt, row.output, p.get(f"{row.source}.met", 1.0))
    if row.kind == "decode":
        return model.decode(row.batch, row.prompt + 0.5 * row.output)  # type: ignore[arg-type]
    if row.kind == "whole":
        first, first_w = model.prefill(row.batch * row.prompt, prompts=row.batch)
        step, step_w = model.decode(row.batch, row.prompt + 0.5 * row.output)  # type: ignore[arg-type]
        time_s = first + (row.output - 1) * step
        return time_s, (first * first_w + (row.output - 1) * step * step_w) / time_s
    if row.kind == "ttft":  # half a step of waiting, a step that carries the prompt, and the API server
        kv = row.batch * (row.prompt + 0.5 * row.output)
        half = p["silicon.api_s"] + 0.5 * model.step_time_s(batch=row.batch, kv_tokens=kv)
        return half + model.step_time_s(row.prompt, 0.5 * row.prompt**2, row.batch, kv), 0.0
    card, params = deck[row.gpu], shape.linear_params / shape.layers
    compute, move = (
        2.0 * params * row.batch / (card.flops * e.compute),
        params * 2.0 / (card.bandwidth_bytes_per_s * e.bandwidth),
    )
    return (compute**3 + move**3) ** (1 / 3), 0.0


def fit(start: dict[str, float], residuals: Callable[[dict[str, float]], Iterable[float]]) -> dict[str, float]:
    """Robust least squares over logarithms of the parameters, drawn to where they start (one e-fold is 2 sigma)."""
    from scipy.optimize import least_squares

    names = list(start)
    centre = np.log([start[n] for n in names])

    def both(x: np.ndarray) -> np.ndarray:
        values = dict(zip(names, np.exp(x), strict=True))
        return np.concatenate([np.fromiter(residuals(values), float), 0.2 * (x - centre)])

    shares = [n.split(".")[0] in ("compute", "bandwidth", "kv_bandwidth", "attention", "link") for n in names]
    tops = np.log([0.7 if n.startswith("attention") else 0.93 for n in names])  # no kernel reaches more
    top = np.where(shares, tops, centre + 5.0)
    found = least_squares(both, np.minimum(centre, top - 1e-3), loss="soft_l1", f_scale=0.1, bounds=(centre - 5, top))
    return dict(zip(names, map(float, np.exp(found.x)), strict=True))


def errors(rows: Iterable[Row], p: dict[str, float], deck: dict[str, Card], figure: int) -> Iterator[float]:
    """Weighted logarithms of prediction over measurement: of time (figure 0) or of watts (figure 1)."""
    for r in rows:
        measured = r.power_w if figure else r.time_s
        if measured:
            polled = 0.3 if figure and r.source == "bench" and r.gpu == "h100" else 1.0  # polled watts weigh less
            yield 3.0 * r.weight * polled * float(np.log(predict(r, p, deck)[figure] / measured))


def fit_all(rows: list[Row], deck: dict[str, Card]) -> dict[str, float]:
    """First the times of all GPUs and engines together, then the watts of each GPU."""
    found = fit(TIME, lambda p: errors(rows, p, deck, 0))
    for gpu in ("h100", "a100-40"):
        start = {f"{k}.{gpu}": v for k, v in POWER.items()}
        own = [r for r in rows if r.gpu == gpu]
        found = found | fit(start, lambda q, own=own, known=found: errors(own, known | q, deck, 1))
    return found


def fit_cell(rows: list[Row], common: dict[str, float], deck: dict[str, Card], gpu: str) -> dict[str, float]:
    """Draw the common fit towards the rows of one model on one GPU: host terms, shares of its peaks, its watts."""
    keys = ["host_s", "layer_s", "sequence_s", "prompt_s", "allreduce_s", f"bandwidth.{gpu}", f"kv_bandwidth.{gpu}"]
    found = common | fit({k: common[k] for k in keys}, lambda q: errors(rows, common | q, deck, 0))
    watts = {f"{k}.{gpu}": common[f"{k}.{gpu}"] for k in POWER}
    return found | fit(watts, lambda q: errors(rows, found | q, deck, 1))


# --------------------------------------------------------------------------------------------------- profiles

CELLS = (  # GPU, model, tensor-parallel degrees; L4 needs eight for a 70B over PCIe, which nothing measured: left out
    ("h100", "llama-3.1-8b", (1,)), ("h100", "llama-3.1-70b", (4, 8)),
    ("h200", "llama-3.1-8b", (1,)), ("h200", "llama-3.1-70b", (2, 4, 8)),
    ("a100", "llama-3.1-8b", (1,)), ("a100", "llama-3.1-70b", (4, 8)),
    ("l4", "llama-3.1-8b", (1,)),
)  # fmt: skip
PARKING = "arXiv 2605.23918 (The Model Parking Tax)"
IDLE = {  # GPU -> watts without a context, with one loaded, and where they come from
    "h100": (71.8, 121.7, f"idle: {PARKING}, H100 SXM"),
    "a100": (53.7, 80.0, f"idle: {PARKING}, A100 80 GB"),
    "h200": (None, 126.0, "idle: the lowest reading with a context among aiconfigurator's H200 op rows"),
    "l4": (None, 21.0, f"idle: not measured; 29 % of the limit, as the L40S of {PARKING} (102.1 of 350 W)"),
}
MLENERGY = "ML.ENERGY leaderboard (H100 steady-state ITL, throughput, watts)"
SILICON = "aiconfigurator silicon_sample (H100 vLLM TPOT)"
BENCH = "LLM-Inference-Bench (vLLM batch latency and watts)"
GEMM = "aiconfigurator GEMM tables (vLLM)"
SOURCE = {
    "h100": f"{MLENERGY}; {SILICON}; {BENCH}; fitted roofline",
    "h200": f"the H100 fit ({MLENERGY}; {SILICON}; {BENCH}) carried over with the H200's bandwidth and {GEMM}",
    "a100": f"{BENCH} on A100 40 GB, carried to 80 GB with {GEMM}; host terms of the H100 fit",
    "l4": "Helix (L4, milliseconds a layer of 30B and 70B); host terms of the H100 fit; power shares of the A100 fit",
}
LICENCE = {
    "h100": "fitted figures only; ML.ENERGY: none stated, aiconfigurator: Apache-2.0, LLM-Inference-Bench: BSD-3",
    "l4": "fitted figures only; Helix: Apache-2.0; ML.ENERGY: none stated, LLM-Inference-Bench: BSD-3",
}
NOTES = {
    "h100": "power holds what ML.ENERGY measured; LLM-Inference-Bench polled about a fifth less at equal batch",
    "h200": "no vLLM row of this GPU and model was at hand: predicted from the H100",
    "a100": "no end-to-end row of the 80 GB card with a current engine was at hand: predicted from the 40 GB card",
    "l4": "power of this GPU was measured by no source at hand: predicted",
}


def derive(folder: Path) -> tuple[list[Profile], list[Row], dict[tuple[str, str], dict[str, float]], dict[str, Card]]:
    """Fit everything: the profiles, the rows, the parameters of each (GPU, model), the cards."""
    deck, rows = cards(), every(folder)
    common = fit_all(rows, deck)
    fitted: dict[tuple[str, str], dict[str, float]] = {("common", ""): common}
    for model in ("llama-3.1-8b", "llama-3.1-70b"):
        own = [r for r in rows if (r.gpu, r.model) == ("h100", model)]
        cell = fitted["h100", model] = fit_cell(own, common, deck, "h100")
        for gpu in ("h200", "a100", "l4"):
            fitted[gpu, model] = cell | _carried(folder, gpu, cell, deck)
    profiles = [
        profile(gpu, model, tp, fitted[gpu, model], rows, deck) for gpu, model, degrees in CELLS for tp in degrees
    ]
    return profiles, rows, fitted, deck


def _carried(folder: Path, gpu: str, cell: dict[str, float], deck: dict[str, Card]) -> dict[str, float]:
    """The parameters of a GPU without end-to-end rows, from its neighbour and its GEMM tables."""
    shares = ("compute", "bandwidth", "kv_bandwidth", "attention", "link")
    if gpu == "l4":  # times are its own
        return {f"{k}.l4": cell[f"{k}.a100-40"] for k in POWER}
    parent, table = {"h200": ("h100", ("h200_sxm", "0.24.0")), "a100": ("a100-40", ("a100_sxm", "0.14.0"))}[gpu]
    reached, _ = gemm_shares(folder, *table, deck[gpu])
    known, _ = gemm_shares(folder, "h100_sxm", "0.24.0", deck["h100"])
    found = {f"{k}.{gpu}": cell[f"{k}.{parent}"] for k in (*shares, *POWER)}
    return found | {f"bandwidth.{gpu}": cell["bandwidth.h100"] * reached / known}


def profile(gpu: str, model: str, tp: int, p: dict[str, float], rows: list[Row], deck: dict[str, Card]) -> Profile:
    """One shipped profile, with the fit error over the rows that stand behind it."""
    llm, card = catalog.llm(model), deck[gpu]
    roofline = Roofline(Shape.of(llm), card, efficiency(p, gpu), tp)
    behind = {"h100": "h100", "h200": "h100", "a100": "a100-40", "l4": "l4"}[gpu]
    own = [r for r in rows if r.gpu == behind and r.kind != "ttft" and (r.model == model or gpu in ("a100", "l4"))]
    error = fit_error(own, p, deck)
    measured = gpu == "h100"
    no_context, loaded, idle_source = IDLE[gpu]
    notes = [
        NOTES[gpu],
        idle_source,
        "serving averages blend prefill and decode; the fit separates them",
        "decode watts are those at a context of 1,024 tokens; longer contexts draw up to 30 % more",
    ]
    if (gpu, tp) == ("h100", 8):
        notes.append("times at tp 8 rest on fp8 rows, carried to bf16 by a fitted factor; watts on tp 4 rows")
    if not measured:
        notes.append(f"fit_error is that of the {behind} rows this profile was carried over from")
    wide = max(1.4 if gpu == "l4" else 1.3, error.get("power_p90", 0.0) + 1.0)
    least = 1.2 if tp == 8 else 1.1  # tp 8 rests on fp8 times and on tp 4 watts
    band = (
        Band(time=max(least, 1.0 + error["tpot_p90"]), power=max(least, 1.0 + error["power_p90"])) if measured else None
    )
    return Profile(
        gpu=CATALOG[gpu], model=model, tp=tp, precision="bf16", engine="vllm", layer="kernels",
        provenance=Provenance(
            kind="imported" if measured else "predicted", tier="cfg" if measured else "T2", source=SOURCE[gpu],
            licence=LICENCE.get(gpu, LICENCE["h100"]), date=DATE, notes=notes, fit_error=error,
        ),
        band=band or Band(time=1.4 if gpu == "l4" else 1.3, power=round(wide, 2)),
        memory=memory(llm.weights_bytes("bf16"), llm.kv_bytes_per_token("bf16"), card.memory_bytes, tp),
        idle=Idle(no_context_w=no_context and no_context * tp, loaded_w=loaded * tp),
        prefill=prefill_points(roofline), decode=decode_points(roofline), mixed=Mixed(rule="attention", factor=1.0),
        engine_term=engine_term(roofline),
        systematic=Systematic(power_rel=0.05),
    )  # fmt: skip


def fit_error(rows: list[Row], p: dict[str, float], deck: dict[str, Card]) -> dict[str, float]:
    """Mean and 90th percentile of |prediction / measurement - 1| for times and, where measured, watts."""
    times, watts = relative(rows, p, deck)
    found = {"tpot_mape": np.mean(times), "tpot_p90": np.quantile(times, 0.9), "rows": len(times)}
    if watts:
        found |= {"power_mape": np.mean(watts), "power_p90": np.quantile(watts, 0.9), "power_rows": len(watts)}
    return {k: round(float(v), 3) for k, v in found.items()}


def relative(rows: list[Row], p: dict[str, float], deck: dict[str, Card]) -> tuple[list[float], list[float]]:
    pairs = [(r, *predict(r, p, deck)) for r in rows]
    times = [abs(t / r.time_s - 1.0) for r, t, _ in pairs]
    return times, [abs(w / r.power_w - 1.0) for r, _, w in pairs if r.power_w]


def table(rows: list[Row], fitted: dict[tuple[str, str], dict[str, float]], deck: dict[str, Card]) -> str:
    """Fit errors by source, GPU, model and tp, as Markdown."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for r in rows:
        precision = "fp8" if r.weight_bytes == 1.0 else "bf16"
        what = "TTFT" if r.kind == "ttft" else "step"
        groups.setdefault((r.source, r.gpu, r.model, str(r.tp), precision, what), []).append(r)
    lines = ["| source | GPU | model | tp | precision | what | rows | time MAPE | watts rows | watts MAPE |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for key, own in sorted(groups.items()):
        times, watts = relative(own, fitted.get((key[1], key[2]), fitted["common", ""]), deck)
        power = f"{len(watts)} | {np.mean(watts):.1%}" if watts else "0 | -"
        lines.append(f"| {' | '.join(key)} | {len(times)} | {np.mean(times):.1%} | {power} |")
    return "\n".join(lines)


def listed(profiles: list[Profile]) -> str:
    """Imported profiles with their errors, as Markdown."""
    lines = [
        "| profile | tier | rows | held-out time MAPE | watts MAPE | band time, power |",
        "|---|---|---|---|---|---|",
    ]
    for p in sorted(profiles, key=lambda p: p.key):
        e = p.provenance.fit_error
        time = e.get("held_mape", e.get("tpot_mape", e.get("thinned_mape")))
        watts = e.get("held_power_mape", e.get("power_mape"))
        shown = ["-" if v is None else f"{v:.1%}" for v in (time, watts)]
        band = f"{p.band.time:.2f}, {p.band.power:.2f}"
        lines.append(f"| {p.key} | {p.provenance.tier} | {e.get('rows', 0):.0f} | {shown[0]} | {shown[1]} | {band} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of public measurements")
    parser.add_argument("-o", "--output", type=Path, default=shipped_folder())
    options = parser.parse_args()
    profiles, rows, fitted, deck = derive(options.data)
    more, watts = imported(options.data, {one.key for one in profiles})
    for one in [*profiles, *more]:
        save(one, options.output / f"{one.key}.json")
    print(table(rows, fitted, deck))
    print("\nimported: bands are 90th percentiles of batches held out")
    print(listed(more))
    print(f"\nwatts of a law, configurations left out:\n{watts}")
    print("\nparameters:")
    shown = [fitted[key] for key in (("common", ""), ("h100", "llama-3.1-8b"), ("h100", "llama-3.1-70b"))]
    for name in shown[0]:
        print(f"  {name:24} " + " ".join(f"{p[name]:.4g}" for p in shown))
    print("\nJ a token, ML.ENERGY / fit:")
    for r in (r for r in rows if r.source == "mlenergy" and r.power_w and r.model.startswith("llama")):
        time_s, watts = predict(r, fitted["h100", r.model], deck)
        measured = (r.power_w or 0.0) * r.time_s / r.batch
        print(f"  {r.model} tp{r.tp} batch {r.batch:.0f}: {measured:.3f} / {watts * time_s / r.batch:.3f}")
    p = fitted["h200", "llama-3.1-70b"]
    fp8 = Roofline(SHAPES["llama-3.1-70b"], deck["h200"], efficiency(p, "h200", "silicon", 1.0), 8, 1.0)
    steps = [1e3 * fp8.serving(batch, 1024, 1024, p["silicon.met"])[0] for batch in (8, 64)]
    print(f"\nH200 fp8 tp8 70B, not fitted: {steps[0]:.1f} and {steps[1]:.1f} ms at batch 8 and 64")


if __name__ == "__main__":
    main()
