"""A profile where none was measured: predicted the moment it is asked for, with its tier and band."""

from __future__ import annotations

from functools import cache

from profiles.predict import request, serving
from profiles.predict.step_profile import step_profile
from profiles.profile import Profile


def engines() -> set[str]:
    """Those whose serving the default predictor was fitted to."""
    families = serving.load().families
    return {engine for name, fitted in families.items() if name != "batch" for _, _, engine in fitted.seen}


@cache
def predicted(gpu: str, model: str, tp: int, precision: str, engine: str | None = None) -> Profile:
    """The default predictor's profile of a configuration; engine vllm unless said otherwise.

    Raises:
        InputError: an unknown name, a model that does not fit, or one that the predictor does not know.
    """
    return step_profile(serving.load(), request.cell(gpu, model, tp, precision, engine or "vllm"))
