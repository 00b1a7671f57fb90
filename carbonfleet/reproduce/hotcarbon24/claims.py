"""Our figure for every result of the paper that cells give."""

from __future__ import annotations

from collections.abc import Callable

from carbonfleet.reproduce.hotcarbon24.paper import (
    BATCHES,
    EMBODIED_KG,
    LARGE,
    LIFETIME_YEARS,
    MIDDLE,
    MODELS,
    NEW,
    OLD,
    SMALL,
    ZONES,
)
from carbonfleet.reproduce.hotcarbon24.trial import Cell, Cells
from profiles.units import lifetime_rate_g_per_s, operational_g

Figure = Callable[[Cell], float]
TIE = 0.005  # a meter could not tell such figures apart


def ours(cells: Cells, claim: str) -> float | None:
    """Our value of a claim; None where a cell that it needs is out of memory."""
    try:
        return _OURS[claim](cells)
    except _OutOfMemoryError:
        return None


def keys(claim: str) -> list[tuple[str, str, int]]:
    """The cells that a claim needs."""
    return _NEEDS[claim]


def best(cells: Cells, gpu: str, model: str, figure: Figure, most: bool) -> int | None:
    """The smallest batch with the most (or least) of a figure, to the half per cent; None where none fits."""
    known = {batch: figure(cell) for batch in BATCHES if (cell := cells[gpu, model, batch]) is not None}
    if not known:
        return None
    top = max(known.values()) if most else min(known.values())
    return next(batch for batch, value in known.items() if abs(value / top - 1.0) <= TIE)


def off_peak(cells: Cells, claim: str, batch: int) -> float:
    """Our figure at a batch over our best one, less 1."""
    gpu, figure, _ = _PEAKS[claim]
    here, top = (figure(_cell(cells, gpu, SMALL, b)) for b in (batch, round(_OURS[claim](cells))))
    return here / top - 1.0


class _OutOfMemoryError(Exception):
    """A cell is not there."""


def _cell(cells: Cells, gpu: str, model: str, batch: int) -> Cell:
    cell = cells[gpu, model, batch]
    if cell is None:
        raise _OutOfMemoryError
    return cell


def _latency(cell: Cell) -> float:
    return cell.latency_s


def _energy(cell: Cell) -> float:
    return cell.energy_j


def _ratio(figure: Figure, model: str, batch: int, over: str = NEW) -> Callable[[Cells], float]:
    under = OLD if over == NEW else NEW

    def ratio(cells: Cells) -> float:
        return figure(_cell(cells, under, model, batch)) / figure(_cell(cells, over, model, batch))

    return ratio


def _largest_energy_ratio(cells: Cells) -> float:
    pairs = [(cells[OLD, model, b], cells[NEW, model, b]) for model in MODELS for b in BATCHES]
    return max(old.energy_j / new.energy_j for old, new in pairs if old is not None and new is not None)


def _peak(claim: str) -> Callable[[Cells], float]:
    def batch(cells: Cells) -> float:
        gpu, figure, most = _PEAKS[claim]
        found = best(cells, gpu, SMALL, figure, most)
        if found is None:
            raise _OutOfMemoryError
        return float(found)

    return batch


def _prefill_carbon(cells: Cells) -> float:
    """Grams a prompt token at batch 16 over those at 32, operational in QC and embodied after Table 1."""
    rate = lifetime_rate_g_per_s(EMBODIED_KG[NEW], LIFETIME_YEARS)

    def carbon_g(batch: int) -> float:
        cell = _cell(cells, NEW, SMALL, batch)
        grams = operational_g(cell.prefill_s * cell.prefill_w, ZONES["QC"]) + rate * cell.prefill_s
        return grams / cell.prefill_tokens

    return carbon_g(16) / carbon_g(32)


_PEAKS: dict[str, tuple[str, Figure, bool]] = {
    "c16": (OLD, lambda cell: cell.prefill_tokens_per_s, True),
    "c17": (NEW, lambda cell: cell.prefill_tokens_per_s, True),
    "c18": (OLD, lambda cell: cell.prefill_j_per_token, False),
    "c19": (NEW, lambda cell: cell.prefill_j_per_token, False),
}
_OURS: dict[str, Callable[[Cells], float]] = {
    "c08": _ratio(_latency, SMALL, 1),
    "c09": _ratio(_latency, MIDDLE, 1),
    "c10": _ratio(_latency, LARGE, 1),
    "c11": _ratio(_latency, LARGE, 4),
    "c12": _ratio(_energy, SMALL, 1),
    "c13": _ratio(_energy, LARGE, 1),
    "c14": _ratio(_energy, MIDDLE, 1),
    "c15": _largest_energy_ratio,
    **{claim: _peak(claim) for claim in _PEAKS},
    "c20": _ratio(lambda cell: cell.decode_j_per_token, SMALL, 1),
    "c21": _ratio(lambda cell: cell.decode_tokens_per_s, SMALL, 1),
    "c22": _ratio(lambda cell: cell.decode_tokens_per_s, SMALL, 64, over=OLD),
    "c23": _ratio(lambda cell: cell.decode_j_per_token, SMALL, 16, over=OLD),
    "c30": _prefill_carbon,
}
_PAIRS = {
    **{"c08": (SMALL, 1), "c09": (MIDDLE, 1), "c10": (LARGE, 1), "c11": (LARGE, 4), "c12": (SMALL, 1)},
    **{"c13": (LARGE, 1), "c14": (MIDDLE, 1), "c20": (SMALL, 1), "c21": (SMALL, 1), "c22": (SMALL, 64)},
    "c23": (SMALL, 16),
}
_NEEDS: dict[str, list[tuple[str, str, int]]] = {
    **{claim: [(OLD, *cell), (NEW, *cell)] for claim, cell in _PAIRS.items()},
    **{claim: [(gpu, SMALL, b) for b in BATCHES] for claim, (gpu, _, _) in _PEAKS.items()},
    "c15": [(gpu, model, b) for gpu in (OLD, NEW) for model in MODELS for b in BATCHES],
    "c30": [(NEW, SMALL, 16), (NEW, SMALL, 32)],
}
