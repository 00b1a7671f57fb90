"""Which GPU and model pairs have a profile, of which tier, and what a prediction would be where none has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from profiles import catalog
from profiles.profile import TIERS, Band, Profile, Tier


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of one GPU and model: the best tier, its band, the profiles' tp degrees; none means on demand."""

    gpu: str
    model: str
    tier: Tier
    band: Band
    tp: tuple[int, ...]
    engine: bool  # whether a profile's times hold the engine's work, or a term for it
    time_tier: Tier  # of the times alone: watts may be predicted where times were measured

    @property
    def on_demand(self) -> bool:
        """Whether nothing is shipped, so that a prediction has to be asked for."""
        return not self.tp


def grid(profiles: Iterable[Profile], gpus: Iterable[str], models: Iterable[str]) -> list[Cell]:
    """A cell for every GPU and model asked for, GPUs outermost.

    Raises:
        InputError: a name that the catalogue does not have.
    """
    known = list(profiles)
    names = [catalog.llm(model).name for model in models]
    return [_cell(known, catalog.gpu(gpu), model) for gpu in gpus for model in names]


def _cell(known: list[Profile], gpu: catalog.Gpu, model: str) -> Cell:
    own = [p for p in known if (p.gpu, p.model) == (gpu.name, model)]
    if not own:
        return _predicted(gpu.name, model)
    best = min(own, key=lambda p: (TIERS.index(p.provenance.tier), p.band.time))
    engine = any(p.layer == "step" or p.engine_term is not None for p in own)
    return Cell(
        gpu.name, model, best.provenance.tier, best.band, tuple(sorted({p.tp for p in own})), engine, time_tier(best)
    )


def time_tier(profile: Profile) -> Tier:
    """The tier of a profile's times: of a profile whose watts alone are predicted, T0."""
    return "T0" if any(note.startswith("times measured (T0)") for note in profile.provenance.notes) else (
        profile.provenance.tier
    )  # fmt: skip


def _predicted(gpu: str, model: str) -> Cell:
    """What `predict: true` gives, with the default predictor's measured bands."""
    from profiles.predict import request, serving
    from profiles.predict.predictor import TIERS as TOLD

    cell = request.cell(gpu, model)
    fitted = serving.load().families[serving.family(cell)]
    times, watts = (TOLD[fitted.tier(cell, figure)] for figure in ("tpot", "power"))
    band = Band(time=fitted.band("tpot", cell), power=fitted.band("power", cell))
    return Cell(gpu, model, max(times, watts, key=TIERS.index), band, (), False, times)
