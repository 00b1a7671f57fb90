"""How public measurements name models, GPUs and engines, and which catalogue entry each name means.

Models whose layers are not all attention (state-space or linear attention) are no catalogue entries: their shapes are
approximated here, such layers being counted as attention over a window of as many bytes as their state, weights that a
shape has no column for as a wider (or shared) MLP. The shapes of data/llms.csv serve to score rows of these models, no
more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from profiles import catalog, spellings
from profiles.catalog import Gpu
from profiles.inputs import InputError, near_miss
from profiles.llm import Llm

# Models whose rows are told under one name, because they share a shape or all but.
_SHARED = {
    "deepseek-r1": "deepseek-v3",
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3.3-70b": "llama-3.1-70b",
    "mistral-7b-v0.1": "mistral-7b-v0.3",
}


class UnknownNameError(InputError):
    """A model or GPU whose shape is not known; `name` is the source's."""

    def __init__(self, kind: str, name: str, mend: str) -> None:
        super().__init__(f"unknown {kind} {name!r}", mend=mend)
        self.name = name


_FOLDER = Path(__file__).parent / "data"
_SHAPE = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "experts")


@cache
def model(name: str) -> Llm:
    """The shape behind a source's name of a model.

    Raises:
        UnknownNameError: no shape of that name is known; the near misses are named.
    """
    known = {**catalog.llms_of(_FOLDER), **catalog.llms()}
    try:
        key = spellings.model(name).name
    except InputError:
        key = spellings.spelled(name)
    key = _SHARED.get(key, key)
    if key in known:
        return known[key]
    raise UnknownNameError("model", name, near_miss(key, known))


@cache
def measured_as(llm: Llm) -> str:
    """The name under which a model's rows were measured: versions of one shape share theirs."""
    try:
        twin = model(llm.name)
    except UnknownNameError:
        return llm.name
    return twin.name if all(getattr(twin, k) == getattr(llm, k) for k in _SHAPE) else llm.name


@cache
def gpu(name: str) -> Gpu:
    """The catalogue's GPU behind a source's name.

    Raises:
        UnknownNameError: not in the catalogue.
    """
    try:
        return spellings.gpu(name)
    except InputError as error:
        raise UnknownNameError("GPU", name, error.mend or "see carbonfleet catalog gpus") from error
