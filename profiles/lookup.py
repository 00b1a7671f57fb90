"""The profile of a configuration: the user's before the shipped, then the better tier; predicted where asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from profiles.inputs import InputError, near_miss
from profiles.profile import TIERS, Profile, shipped_folder

Library: TypeAlias = list[tuple[Path, Profile]]
_SHOWN = 6  # configurations named where the wanted one is missing


def find_profile(
    library: Library,
    gpu: str,
    model: str,
    tp: int,
    precision: str,
    engine: str | None = None,
    ep: int = 1,
    *,
    predict: bool = False,
) -> tuple[Path | None, Profile]:
    """The profile of a configuration and its file; the default predictor's, with no file, where `predict` allows one.

    An engine that is neither in the library for this configuration nor known to the predictor is refused, so that no
    slip of the pen is predicted.

    Raises:
        InputError: there is none, and none may or can be predicted; what there is instead is named.
    """
    wanted = (gpu, model, tp, precision, ep)
    fits = [(path, p) for path, p in library if (p.gpu, p.model, p.tp, p.precision, p.ep) == wanted]
    if engine is not None:
        fits = _of_engine(fits, engine, predict)
    if fits:
        return min(fits, key=lambda fit: (fit[0].parent == shipped_folder(), TIERS.index(fit[1].provenance.tier)))
    if predict and ep == 1:
        from profiles.predict.on_demand import predicted

        return None, predicted(gpu, model, tp, precision, engine)
    mend = "calibrate one and give its folder with --profiles"
    mend += ": experts across GPUs are not predicted" if predict else ", or say predict: true"
    what = f"no profile for {model} on {gpu} tp{tp}{_experts(ep)} {precision}"
    raise InputError(what, mend=f"{mend} (have: {_nearest(library, gpu, model)})")


def _of_engine(fits: Library, engine: str, predict: bool) -> Library:
    """Those of an engine; none is an error where another engine has one, or where nothing can predict this one."""
    known = {p.engine for _, p in fits}
    if predict:
        from profiles.predict.on_demand import engines

        known |= engines()
    if known and engine not in known:
        raise InputError(f"no profile with engine {engine}", field="engine", mend=near_miss(engine, known))
    return [(path, p) for path, p in fits if p.engine == engine]


def _nearest(library: Library, gpu: str, model: str) -> str:
    """Configurations there are: of this GPU first, then of this model."""
    near = [(p.gpu != gpu, f"{p.model} on {p.gpu} tp{p.tp}{_experts(p.ep)} {p.precision}") for _, p in library
            if gpu == p.gpu or model == p.model]  # fmt: skip
    names = list(dict.fromkeys(name for _, name in sorted(near)))
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more or "none for this GPU or model"


def _experts(ep: int) -> str:
    return f" ep{ep}" if ep > 1 else ""
