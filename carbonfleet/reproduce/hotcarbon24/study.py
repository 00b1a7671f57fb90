"""The whole reproduction as one document: settings, fit, cells, books, claims, score, takeaways, assumptions.

Everything that is printed or drawn is in it; a cell that is out of memory has no figures at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from carbonfleet.reproduce.hotcarbon24 import trial
from carbonfleet.reproduce.hotcarbon24.books import HOST_LIFETIME_YEARS, Book, chips, servers
from carbonfleet.reproduce.hotcarbon24.fit import PARAMETERS, TOLERANCE, Fit, fit
from carbonfleet.reproduce.hotcarbon24.paper import (
    BATCHES,
    FITTED,
    LIFETIME_YEARS,
    LIFETIMES_YEARS,
    OUTPUT_TOKENS,
    STATED_W,
)
from carbonfleet.reproduce.hotcarbon24.setting import Setting
from carbonfleet.reproduce.hotcarbon24.takeaways import Scene, takeaways
from carbonfleet.reproduce.hotcarbon24.trial import Cell, Cells
from carbonfleet.reproduce.hotcarbon24.verdicts import judged, scores
from carbonfleet.reproduce.result import Study, rounded
from profiles import catalog
from profiles.predict import eager
from profiles.profile import Profile
from profiles.step import StepModel

NAME = "hotcarbon24"
PAPER = "Nguyen, Zhou, Ding, Liu: Towards Sustainable Large Language Model Serving. HotCarbon'24; arXiv 2501.01990"
DATE = "2026-11-21"
FIGURES = (
    *("latency_s", "energy_j", "power_w", "prefill_s", "prefill_w", "prefill_tokens_per_s", "prefill_j_per_token"),
    *("decode_s", "decode_w", "decode_tokens_per_s", "decode_j_per_token"),
)
UNUSED = ("idle_w", "bus_bits", "pin_gbit_s")  # columns of the catalogue that nothing here rests on
_NOTES = [
    "no measurement of an eager framework on this card is public: predicted from its data sheet",
    f"free parameters fitted to claims {', '.join(FITTED)} of HotCarbon'24 and the powers it implies",
    "holds for the static batches it lists, prompts padded to the longest of the batch",
]


def study(asked: Setting) -> Study:
    """Fit, predict, count and judge.

    Raises:
        InputError: a card or model that the prediction does not cover, or without an embodied figure.
    """
    found = fit(FITTED)
    cells, profiles = _cells(asked, found)
    books = (chips(asked.gpus, asked.lifetime_years), servers(asked.gpus, asked.lifetime_years))
    beside = not asked.differs
    document = {
        "reproduction": NAME,
        "paper": PAPER,
        "setting": asdict(asked) | {"batches": list(BATCHES), "output_tokens": OUTPUT_TOKENS},
        "beside_paper": beside,
        "beside_paper_reason": _beside(asked),
        "parameters": _parameters(found),
        "embodied": {book.name: book.document() for book in books},
        "cells": [_cell(key, cell) for key, cell in cells.items()],
        "energy": {book.name: list(_energy(book, cells)) for book in books},
        "carbon": {book.name: list(_carbon(book, cells, asked)) for book in books},
        "embodied_share_by_lifetime": {book.name: list(_lifetimes(book, cells, asked)) for book in books},
        "claims": judged(cells) if beside else [],
        "score": scores(cells) if beside else None,
        "takeaways": _takeaways(asked, cells, books[0]),
        "changes": _changes(asked, cells, *books),
        "assumptions": _assumptions(asked),
        "warnings": list(_warnings(asked, cells, books[1])),
    }
    return Study(rounded(document), profiles)


def _cells(asked: Setting, found: Fit) -> tuple[Cells, list[Profile]]:
    cells: Cells = {}
    profiles = []
    for gpu in asked.gpus:
        for model in asked.models:
            one = found.eager(gpu, model)
            fits = any(batch * (padded + output) <= one.capacity_tokens for batch, padded, output in trial.batches())
            known: dict[int, Cell | None] = dict.fromkeys(BATCHES)
            if fits:
                profile = eager.profile(one, catalog.gpu(gpu), trial.batches(), DATE, _NOTES)
                profiles.append(profile)
                known = trial.measured(StepModel(profile))
            cells |= {(gpu, model, batch): cell for batch, cell in known.items()}
    return cells, profiles


def _cell(key: tuple[str, str, int], cell: Cell | None) -> dict[str, Any]:
    gpu, model, batch = key
    row: dict[str, Any] = {"gpu": gpu, "model": model, "batch": batch, "out_of_memory": cell is None}
    if cell is None:
        return row
    return row | {name: getattr(cell, name) for name in FIGURES}


def _energy(book: Book, cells: Cells) -> Iterable[dict[str, Any]]:
    """Joules of a prompt and of a token of each phase, with the host where the book bills it."""
    for (gpu, model, batch), cell in cells.items():
        if cell is not None:
            yield {
                "gpu": gpu,
                "model": model,
                "batch": batch,
                "energy_j": book.energy_j(gpu, cell),
                **{f"{p}_j_per_token": book.j_per_token(gpu, cell, p) for p in ("prefill", "decode")},
            }


def _carbon(book: Book, cells: Cells, asked: Setting) -> Iterable[dict[str, Any]]:
    """Grams of a prompt and of a token of each phase, by cell and zone."""
    for (gpu, model, batch), cell in cells.items():
        if cell is None:
            continue
        for zone in asked.zones:
            prompt = book.prompt(gpu, cell, zone.g_per_kwh)
            yield {
                "gpu": gpu,
                "model": model,
                "batch": batch,
                "zone": zone.name,
                "operational_g": prompt.operational,
                "embodied_g": prompt.embodied,
                **{f"{p}_g_per_token": book.token(gpu, cell, p, zone.g_per_kwh).total for p in ("prefill", "decode")},
            }


def _lifetimes(book: Book, cells: Cells, asked: Setting) -> Iterable[dict[str, Any]]:
    """Embodied share of a prompt of the smallest model alone in its batch, by years of life."""
    for gpu in asked.gpus:
        cell = cells[gpu, asked.models[0], 1]
        for zone in asked.zones if cell is not None else ():
            for years in LIFETIMES_YEARS:
                share = book.prompt(gpu, cell, zone.g_per_kwh, years).embodied_share if cell else None
                yield {"gpu": gpu, "zone": zone.name, "years": years, "embodied_share": share}


def _takeaways(asked: Setting, cells: Cells, book: Book) -> list[dict[str, Any]]:
    """Of the weakest and the strongest card; none where there is one card alone."""
    by_peak = sorted(asked.gpus, key=lambda name: catalog.gpu(name).flops_bf16)
    if len(by_peak) < 2:
        return []
    return takeaways(Scene(cells, by_peak[0], by_peak[-1], asked.models, asked.intensities, book))


def _changes(asked: Setting, cells: Cells, chip: Book, server: Book) -> dict[str, Any]:
    """What counting whole servers changes: embodied shares, and which card is the greenest of a cell and zone."""
    shares = []
    for gpu in asked.gpus:
        cell = cells[gpu, asked.models[0], 1]
        for zone in asked.zones if cell is not None else ():
            both = {b.name: b.prompt(gpu, cell, zone.g_per_kwh).embodied_share for b in (chip, server) if cell}
            shares.append({"gpu": gpu, "zone": zone.name, **both})
    places, other = 0, []
    for model in asked.models:
        for batch in BATCHES:
            here = {gpu: cell for gpu in asked.gpus if (cell := cells[gpu, model, batch]) is not None}
            for zone in asked.zones if len(here) > 1 else ():
                places += 1
                one, two = (_greenest(book, here, zone.g_per_kwh) for book in (chip, server))
                if one != two:
                    other.append({"model": model, "batch": batch, "zone": zone.name, "chip": one, "server": two})
    return {"embodied_shares": shares, "compared": places, "greenest_differs": other}


def _greenest(book: Book, cells: dict[str, Cell], g_per_kwh: float) -> str:
    return min(cells, key=lambda gpu: book.prompt(gpu, cells[gpu], g_per_kwh).total)


def _parameters(found: Fit) -> list[dict[str, Any]]:
    return [
        {"name": p.name, "unit": p.unit, "assumed": p.assumed, "fitted": value, "reason": p.reason}
        for p, value in zip(PARAMETERS, found.values, strict=True)
    ]


def _beside(asked: Setting) -> str:
    if not asked.differs:
        return "GPUs, models, zones and lifetime are the paper's"
    return f"No value of the paper stands beside ours, because of other {' and '.join(asked.differs)}"


def _assumptions(asked: Setting) -> list[dict[str, str]]:
    lengths = "/".join(str(trial.padded_tokens(batch)) for batch in BATCHES)
    powers = " and ".join(f"{watts:g} W ({gpu})" for gpu, watts in STATED_W.items())
    prompts = f"{trial.PROMPT_TOKENS:g} tokens on average, lognormal, sigma {trial.PROMPT_SIGMA:g}"
    memory = f"{eager.USABLE:g} of a card's; weights, two copies of the KV, {eager.CONTEXT_BYTES / 1e9:g} GB context"
    shares = f"{eager.BANDWIDTH_SHARE:g} of bandwidth (T4 0.75), {eager.COMPUTE_SHARE:g} of bf16 peak"
    fitted = f"claims {', '.join(FITTED)} and {powers}, to {100 * TOLERANCE:g} %"
    life = f"{asked.lifetime_years:g} years, linear, charged by time in use (t / LT)"
    by = "paper" if asked.lifetime_years == LIFETIME_YEARS else "given"
    rows = (
        ("prompts", prompts, "assumed", "Alpaca's instructions without a template; the paper gives no lengths"),
        ("padding", f"to the longest of the batch: {lengths} tokens", "derived", "throughput counts useful tokens"),
        ("output", f"{OUTPUT_TOKENS} tokens", "paper", "section 2.1"),
        ("precision", eager.PRECISION, "assumed", "7B fits 16 GB in no wider one"),
        ("memory", memory, "assumed", "appending to the cache copies it"),
        ("stall", f"below {eager.TIGHT:g} of the memory free", "assumed", "explains c11, does not predict it"),
        ("efficiencies", shares, "assumed", "T4: 27 TFLOPS, which is what 70 W allow"),
        ("fit", fitted, "fixed in advance", "everything else is a prediction"),
        ("GPU lifetime", life, by, "section 3.1"),
        ("host lifetime", f"{HOST_LIFETIME_YEARS:g} years, linear", "default", "book of servers alone"),
        ("PUE", "1", "assumed", "in both books, so that the boundary alone makes the difference"),
        ("idle time", "nobody's", "paper", "a card is charged for while it works, as the paper does"),
    )
    return [dict(zip(("name", "value", "source", "reason"), row, strict=True)) for row in rows]


def _warnings(asked: Setting, cells: Cells, server: Book) -> Iterable[str]:
    yield (
        f"every step is predicted (tier T2; factor {eager.BAND.time:g} in time and {eager.BAND.power:g} in power, "
        "assumed): no measurement of these settings is public"
    )
    lost = [key for key, cell in cells.items() if cell is None]
    if lost:
        yield f"{len(lost)} of {len(cells)} cells are out of memory and have no figure"
    for gpu, one in server.owned.items():
        if one.host is None:
            yield f"no host of {gpu} is known: its second book holds the card alone"
        recalled = [column for column in catalog.gpu(gpu).verify if column not in UNUSED]
        if recalled:
            yield f"{gpu}: {', '.join(recalled)} recalled and not re-read"
