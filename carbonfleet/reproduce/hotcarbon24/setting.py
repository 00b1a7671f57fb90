"""Which cards, models, zones and life are looked at: the paper's, or any that the catalogue has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carbonfleet.reproduce.hotcarbon24.paper import GPUS, LIFETIME_YEARS, MODELS, ZONES
from profiles import catalog, grid
from profiles.grid.signal import check_alike
from profiles.inputs import InputError


@dataclass(frozen=True, slots=True)
class Zone:
    """One region: the mean intensity that all grams are counted with, and whose figure it is."""

    name: str
    g_per_kwh: float
    source: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What is reproduced; names are the catalogue's, models from small to large."""

    gpus: tuple[str, ...]
    models: tuple[str, ...]
    zones: tuple[Zone, ...]
    lifetime_years: float

    @property
    def intensities(self) -> dict[str, float]:
        """g/kWh by zone."""
        return {zone.name: zone.g_per_kwh for zone in self.zones}

    @property
    def differs(self) -> list[str]:
        """What is not as in the paper; empty when its values can stand beside ours."""
        own = {
            "GPUs": set(self.gpus) == set(GPUS),
            "models": self.models == MODELS,
            "zones": self.intensities == ZONES,
            "years of life": self.lifetime_years == LIFETIME_YEARS,
        }
        return [name for name, same in own.items() if not same]


def setting(
    gpus: Sequence[str] = (), models: Sequence[str] = (), zones: Sequence[str] = (), lifetime_years: float | None = None
) -> Setting:
    """Names as a user gives them; what is left out is the paper's.

    Raises:
        InputError: a name is unknown, ambiguous or given twice, or zones differ in kind or scope.
    """
    found_gpus = _once([catalog.gpu(name).name for name in gpus or GPUS], "--gpus")
    found_models = sorted(
        _once([catalog.llm(name).name for name in models or MODELS], "--models"),
        key=lambda name: catalog.llm(name).params,
    )
    years = LIFETIME_YEARS if lifetime_years is None else lifetime_years
    return Setting(tuple(found_gpus), tuple(found_models), tuple(_zones(zones)), years)


def _zones(names: Sequence[str]) -> list[Zone]:
    if not names:
        return [Zone(name, value, "HotCarbon'24, Table 2: mean of 2023") for name, value in ZONES.items()]
    signals = {name: grid.load(name) for name in _once(list(names), "--zones")}
    check_alike(signals)
    _once([signal.name for signal in signals.values()], "--zones")
    return [
        Zone(name, signal.mean(), f"{signal.kind}, {signal.scope}; mean of {signal.name}: {signal.source}")
        for name, signal in signals.items()
    ]


def _once(names: list[str], option: str) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice", field=option, mend="name each once")
    return names
