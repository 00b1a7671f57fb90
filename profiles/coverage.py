"""Which GPU and model pairs have a profile, of which tier, and what a prediction would be where none has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from profiles import catalog
from profiles.profile import TIERS, Band, Profile, Tier

# The 90 % bands of a prediction made on demand, as factors of time and power: dense, and mixtures of experts.
PREDICTED = {
    "T1": (Band(time=1.4, power=1.3), Band(time=1.7, power=1.5)),
    "T2": (Band(time=1.45, power=1.3), Band(time=1.9, power=1.6)),
    "T3": (Band(time=1.8, power=1.8), Band(time=2.2, power=2.0)),
}


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
        times = _tier(gpu, {p.gpu for p in known if _measured(time_tier(p))})
        watts = _tier(gpu, {p.gpu for p in known if _measured(p.provenance.tier)})
        moe = catalog.llm(model).moe
        band = Band(time=PREDICTED[times][moe].time, power=PREDICTED[watts][moe].power)
        return Cell(gpu.name, model, max(times, watts, key=TIERS.index), band, (), False, times)
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


def _measured(tier: Tier) -> bool:
    return TIERS.index(tier) <= TIERS.index("cfg")


def _tier(gpu: catalog.Gpu, measured: set[str]) -> Tier:
    """Of a prediction: T1 where another model was measured on this GPU, T2 where its vendor has any, else T3."""
    if gpu.name in measured:
        return "T1"
    return "T2" if gpu.vendor in {catalog.gpu(name).vendor for name in measured} else "T3"
