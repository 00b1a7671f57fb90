"""Comparing a result with the committed one."""

from __future__ import annotations

from typing import Any

import pytest


def close(
    found: Any, committed: Any, where: str = "", *, rel: float = 1e-3, abs: float = 1e-4, exact_types: bool = False
) -> None:
    """The same keys and texts, and figures within `rel` or `abs`; with `exact_types`, 1 is not 1.0."""
    if exact_types:
        assert type(found) is type(committed), where
    if isinstance(committed, dict):
        assert set(found) == set(committed), where
        pairs = [(found[key], value, f"{where}.{key}") for key, value in committed.items()]
    elif isinstance(committed, list):
        assert len(found) == len(committed), where
        pairs = [(found[k], value, f"{where}[{k}]") for k, value in enumerate(committed)]
    else:
        right = pytest.approx(committed, rel=rel, abs=abs) if isinstance(committed, float) else committed
        assert found == right, where
        return
    for ours, theirs, place in pairs:
        close(ours, theirs, place, rel=rel, abs=abs, exact_types=exact_types)
