"""Seconds, joules and grams of requests before any of them ran: a predictor's figures priced in carbon.

Joules of the GPUs come from the predictor. The host's watts, PUE and the grid's intensity are added as the simulator's
books do; embodied carbon is the GPUs' and their host's rate (kilograms over the lifetime) times the seconds that the
request holds them: mean step x output tokens / batch on every GPU of the replica.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from profiles import catalog, spellings
from profiles.catalog import Gpu
from profiles.embodied import gpu_embodied, host_embodied
from profiles.inputs import InputError
from profiles.llm import precision_bytes
from profiles.predict.columns import Cell, Columns, Floats
from profiles.predict.predictor import TIERS, Prediction, Predictor
from profiles.units import JOULES_PER_KWH

PUE, LIFETIME_YEARS, PRESET = 1.2, 5.0, "pcf-card"


@dataclass(frozen=True, slots=True)
class Place:
    """Where and on what terms requests run: grams a kWh, PUE, the hardware's life and whose embodied figures."""

    intensity_g_per_kwh: float
    pue: float = PUE
    lifetime_years: float = LIFETIME_YEARS
    preset: str = PRESET

    def __post_init__(self) -> None:
        if not 0.0 <= self.intensity_g_per_kwh <= 3000.0:
            raise InputError(f"{self.intensity_g_per_kwh:g} g/kWh", field="intensity", mend="give 0 to 3000")
        if not 1.0 <= self.pue <= 5.0:
            raise InputError(f"a PUE of {self.pue:g}", field="pue", mend="give 1 to 5")


@dataclass(frozen=True, slots=True)
class Carbon:
    """One request's seconds, joules and grams; `prompt_j` and `decode_j` the GPUs', `host_j` the host's share.

    `operational_g` holds PUE; `embodied_low_g` and `embodied_high_g` are the preset's range.
    """

    gpu_s: Floats
    prompt_j: Floats
    decode_j: Floats
    host_j: Floats
    operational_g: Floats
    embodied_g: Floats
    embodied_low_g: Floats
    embodied_high_g: Floats


def cell(
    gpu: str, model: str, tp: int = 1, precision: str = "bf16", engine: str = "vllm", kv_precision: str = "bf16"
) -> Cell:
    """A configuration by names.

    Raises:
        InputError: an unknown GPU, model, precision, or a tp that cannot be.
    """
    precision_bytes(precision)
    precision_bytes(kv_precision)
    if not 1 <= tp <= 1024:
        raise InputError(f"tp {tp}", field="--tp", mend="give 1 to 1024")
    experts = {"fp16": "bf16", "fp32": "bf16"}.get(precision, precision)
    return Cell(catalog.gpu(gpu), catalog.llm(model), spellings.engine(engine), experts, experts, kv_precision, tp, tp)


def carbon(c: Columns, p: Prediction, place: Place) -> Carbon:
    """What one request of each configuration costs.

    Raises:
        InputError: the preset has no figure for a GPU.
    """
    joules = p.energy_j_per_token * c.output
    busy_s = p.mean_s * c.output / p.batch  # instance seconds of one request at full load
    gpu_s = busy_s * c.work.world
    rates = np.array([_rates(one.gpu, place) for one in c.cells]).T[:, c.which]
    host_w, low, mid, high = rates
    host_j = host_w * gpu_s
    operational = (joules + host_j) * place.pue / JOULES_PER_KWH * place.intensity_g_per_kwh
    return Carbon(
        gpu_s, joules * p.prefill_share, joules * (1.0 - p.prefill_share), host_j, operational,
        mid * gpu_s, low * gpu_s, high * gpu_s,
    )  # fmt: skip


def _rates(gpu: Gpu, place: Place) -> tuple[float, float, float, float]:
    """Of one GPU: its share of the host's watts, and low, mid and high grams a second of it and that share."""
    made = gpu_embodied(gpu, place.preset).rate_g_per_s(place.lifetime_years)
    hosts = catalog.hosts_for(gpu.name)
    if not hosts:
        return 0.0, *made
    host = hosts[-1]
    body = host_embodied(host).rate_g_per_s(place.lifetime_years)
    low, mid, high = (a + b / host.gpus for a, b in zip(made, body, strict=True))
    return host.power_w / host.gpus, low, mid, high


def one(predictor: Predictor, what: Cell, batch: float, prompt: int, output: int, place: Place) -> dict[str, Any]:
    """The document of `carbonfleet predict`: every figure with its low, mid and high, per request and per 1k tokens.

    Raises:
        InputError: the model does not fit the GPUs, tokens or batch below one, a preset without this GPU.
    """
    c = Columns.of([what], [batch], [prompt], [output])
    room = float(c.work.capacity_tokens[0])
    if room < prompt + output:
        gb = float(c.work.weights_bytes[0]) / 1e9
        held = f"{what.world} x {what.gpu.memory_gb:.0f} GB"
        raise InputError(
            f"{what.llm.name} in {what.linear}: {gb:.0f} GB of weights leave {held} room for {room:,.0f} KV tokens "
            f"of the {prompt + output:,} of a request",
            mend="use more GPUs (--tp), a smaller precision or shorter requests",
        )  # fmt: skip
    p = predictor.predict(c)
    g = carbon(c, p, place)
    document = {key: _told(value) for key, value in _figures(c, p, g).items()}
    tokens = {
        key: None if value is None else {k: None if x is None else 1000.0 * x / output for k, x in value.items()}
        for key, value in document.items()
        if key.endswith(("_j", "_g"))
    }
    return {
        "gpu": what.gpu.name, "model": what.llm.name, "tp": what.tp, "precision": what.linear, "engine": what.engine,
        "batch": float(p.batch[0]), "prompt_tokens": prompt, "output_tokens": output,
        "tier": TIERS[int(p.tier[0])], "predictor": predictor.name, "source": predictor.source,
        "request": document, "per_1k_output_tokens": tokens,
    }  # fmt: skip


def _figures(c: Columns, p: Prediction, g: Carbon) -> dict[str, dict[str, float] | None]:
    time, first, energy = (float(p.band[k][0]) for k in ("tpot", "ttft", "energy"))
    last = float(c.output[0]) - 1.0
    ttft, tpot = float(p.ttft_s[0]), float(p.tpot_s[0])
    e2e = {
        "mid": ttft + last * tpot,
        "low": ttft / first + last * tpot / time,
        "high": ttft * first + last * tpot * time,
    }
    prompt, decode, host = float(g.prompt_j[0]), float(g.decode_j[0]), float(g.host_j[0])
    gpu = prompt + decode
    total = {"low": gpu / energy + host / time, "mid": gpu + host, "high": gpu * energy + host * time}
    watts = _band(float(p.power_w[0]), float(p.band["power"][0]))
    watts["high"] = min(watts["high"], float(c.work.world[0] * c.work.tdp_w[0]))  # the driver holds the limit
    grams = float(g.operational_g[0])
    embodied = [float(x[0]) for x in (g.embodied_low_g, g.embodied_g, g.embodied_high_g)]
    return {
        "ttft_s": _band(ttft, first),
        "tpot_s": _band(tpot, time) if last else None,
        "e2e_s": e2e,
        "power_w": watts,
        "gpu_s": _band(float(g.gpu_s[0]), time),
        "prefill_j": _band(prompt, energy),
        "decode_j": _band(decode, energy),
        "host_j": _band(host, time),
        "energy_j": total,
        "operational_g": {k: grams * v / total["mid"] for k, v in total.items()},
        "embodied_g": {"low": embodied[0] / time, "mid": embodied[1], "high": embodied[2] * time},
    }


def _told(figure: dict[str, float] | None) -> dict[str, float | None] | None:
    """None for what the predictor does not know: a whole figure, or the ends of a band it does not give."""
    if figure is None or not math.isfinite(figure["mid"]):
        return None
    return {key: value if math.isfinite(value) else None for key, value in figure.items()}


def _band(mid: float, factor: float) -> dict[str, float]:
    return {"low": mid / factor, "mid": mid, "high": mid * factor}
