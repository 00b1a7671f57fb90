"""The paper's findings, one a section, as checks on our cells; the words are ours.

They compare a weaker with a stronger card (by peak FLOP/s), whichever these are; the paper's are T4 and RTX 6000 Ada.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from carbonfleet.reproduce.hotcarbon24.books import Book
from carbonfleet.reproduce.hotcarbon24.claims import best
from carbonfleet.reproduce.hotcarbon24.paper import BATCHES, LIFETIMES_YEARS
from carbonfleet.reproduce.hotcarbon24.trial import Cell, Cells


@dataclass(frozen=True, slots=True)
class Scene:
    """Two cards, the models from small to large, and what is known of them."""

    cells: Cells
    weak: str
    strong: str
    models: tuple[str, ...]
    zones: Mapping[str, float]
    book: Book

    def both(self, model: str, batch: int) -> tuple[Cell, Cell] | None:
        """The cells of the weaker and the stronger card, where both have memory for it."""
        weak, strong = self.cells[self.weak, model, batch], self.cells[self.strong, model, batch]
        return None if weak is None or strong is None else (weak, strong)

    def shared(self) -> list[tuple[str, int, Cell, Cell]]:
        """All cells that both cards have."""
        return [(m, b, *pair) for m in self.models for b in BATCHES if (pair := self.both(m, b)) is not None]

    @property
    def cleanest(self) -> str:
        """The zone of least intensity."""
        return min(self.zones, key=self.zones.__getitem__)

    @property
    def dirtiest(self) -> str:
        """The zone of most intensity."""
        return max(self.zones, key=self.zones.__getitem__)


def takeaways(scene: Scene) -> list[dict[str, Any]]:
    """Each finding with its checks; it holds when all of them do, and is unknown where memory leaves none to make."""
    found = []
    for number, (section, finding, checks) in enumerate(_FINDINGS, 1):
        made = [{"check": text, "holds": holds, "evidence": evidence} for text, holds, evidence in checks(scene)]
        holds = all(check["holds"] for check in made) if made else None
        found.append({"takeaway": number, "section": section, "finding": finding, "holds": holds, "checks": made})
    return found


Check = tuple[str, bool, str]


def _weak_can_win(s: Scene) -> list[Check]:
    shared = s.shared()
    if not shared:
        return []
    slower = sum(weak.latency_s > strong.latency_s for _, _, weak, strong in shared)
    checks = [("the weaker card is slower in every cell", slower == len(shared), f"{slower} of {len(shared)} cells")]
    alone = [row for row in shared if row[0] == s.models[0]]
    if alone:
        (_, first, weak_first, strong_first), (_, last, weak_last, strong_last) = alone[0], alone[-1]
        at_first, at_last = weak_first.energy_j / strong_first.energy_j, weak_last.energy_j / strong_last.energy_j
        text = f"{at_first:.2f} of the stronger card's joules"
        checks.append((f"it takes less energy for {s.models[0]} at batch {first}", at_first < 1.0, text))
        text = f"{at_last:.2f} of the stronger card's joules"
        checks.append((f"it takes more at batch {last}", at_last > 1.0, text))
    return checks


def _phases_differ(s: Scene) -> list[Check]:
    model, checks = s.models[0], []
    peaks = {}
    for gpu in (s.weak, s.strong):
        prefill = best(s.cells, gpu, model, lambda cell: cell.prefill_tokens_per_s, True)
        decode = best(s.cells, gpu, model, lambda cell: cell.decode_tokens_per_s, True)
        if prefill is None or decode is None:
            return []
        peaks[gpu] = prefill
        text = f"best at batch {prefill} and {decode}"
        checks.append((f"{gpu}: prefill is fullest at a smaller batch than decode", prefill < decode, text))
    text = f"batch {peaks[s.weak]} and {peaks[s.strong]}"
    checks.append(("the stronger card's prefill peaks at a larger batch", peaks[s.strong] > peaks[s.weak], text))
    pairs = [(batch, pair) for batch in BATCHES if (pair := s.both(model, batch)) is not None]
    ratios = [(batch, weak.decode_j_per_token / strong.decode_j_per_token) for batch, (weak, strong) in pairs]
    if ratios:
        (first, at_first), (last, at_last) = ratios[0], ratios[-1]
        text = f"{at_first:.2f} of the stronger card's J/token"
        checks.append((f"the weaker card decodes on less energy at batch {first}", at_first < 1.0, text))
        text = f"{at_last:.2f} of the stronger card's J/token"
        checks.append((f"and on more at batch {last}", at_last > 1.0, text))
    return checks


def _share_by_grid(s: Scene) -> list[Check]:
    cell = {gpu: s.cells[gpu, s.models[0], 1] for gpu in (s.weak, s.strong)}
    checks: list[Check] = []
    for gpu, one in cell.items():
        if one is None:
            return []
        by_grid = sorted(s.zones, key=s.zones.__getitem__)
        shares = [s.book.prompt(gpu, one, s.zones[zone]).embodied_share for zone in by_grid]
        falls = all(a > b for a, b in zip(shares, shares[1:], strict=False))
        text = ", ".join(f"{zone} {100 * share:.1f} %" for zone, share in zip(by_grid, shares, strict=True))
        checks.append((f"{gpu}: the dirtier the grid, the smaller the embodied share", falls, text))
    return checks


def _least_carbon_is_not_fastest(s: Scene) -> list[Check]:
    gpu, model = s.strong, s.models[0]
    fast = best(s.cells, gpu, model, lambda cell: cell.prefill_tokens_per_s, True)
    frugal = best(s.cells, gpu, model, lambda cell: cell.prefill_j_per_token, False)
    if fast is None or frugal is None:
        return []
    text = f"least J/token at batch {frugal}, most tokens/s at {fast}"
    checks = [(f"{gpu}, prefill: the batch of least energy is below that of most throughput", frugal < fast, text)]
    one, other = s.cells[gpu, model, frugal], s.cells[gpu, model, fast]
    if one is None or other is None or frugal == fast:
        return checks
    energy = one.prefill_j_per_token / other.prefill_j_per_token
    ratio = {
        zone: s.book.token(gpu, one, "prefill", g).total / s.book.token(gpu, other, "prefill", g).total
        for zone, g in s.zones.items()
    }
    clean, dirty = ratio[s.cleanest], ratio[s.dirtiest]
    text = f"energy {100 * (1 - energy):.1f} %, carbon {100 * (1 - clean):.1f} % in {s.cleanest}"
    checks.append(("embodied carbon takes some of that saving away", energy < clean, text))
    text = f"{100 * (1 - clean):.1f} % in {s.cleanest}, {100 * (1 - dirty):.1f} % in {s.dirtiest}"
    checks.append(("most of it where the grid is cleanest", clean > dirty or len(s.zones) == 1, text))
    return checks


def _longer_life(s: Scene) -> list[Check]:
    cell = s.cells[s.weak, s.models[0], 1]
    if cell is None:
        return []
    falls, strict = {}, True
    for zone, intensity in s.zones.items():
        shares = [s.book.prompt(s.weak, cell, intensity, years).embodied_share for years in LIFETIMES_YEARS]
        strict = strict and all(a > b for a, b in zip(shares, shares[1:], strict=False))
        falls[zone] = shares[0] - shares[-1]
    text = ", ".join(f"{zone} {100 * fall:.1f} points" for zone, fall in falls.items())
    most = max(falls, key=falls.__getitem__)
    return [
        ("the embodied share falls with every year of life", strict, "4 to 8 years, in every zone"),
        ("most where the grid is cleanest", most == s.cleanest, text),
    ]


_FINDINGS: tuple[tuple[str, str, Callable[[Scene], list[Check]]], ...] = (
    ("2.2", "A weaker card is slower, yet can serve a small model in small batches on less energy", _weak_can_win),
    ("2.3", "Prefill and decode differ: each has its own best batch on each card", _phases_differ),
    ("3.2", "The cleaner the grid, the more embodied carbon weighs", _share_by_grid),
    ("3.3", "The batch of most throughput is not that of least carbon", _least_carbon_is_not_fastest),
    ("3.4", "A longer life lowers embodied carbon, most where the grid is clean", _longer_life),
)
