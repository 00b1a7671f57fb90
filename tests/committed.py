"""Comparing a result with the committed one."""

from __future__ import annotations

from typing import Any

import pytest


def close(found: Any, committed: Any, where: str) -> None:
    """The same keys and texts, figures to 1e-3."""
    if isinstance(committed, dict):
        assert set(found) == set(committed), where
        for key, value in committed.items():
            close(found[key], value, f"{where}.{key}")
    elif isinstance(committed, list):
        assert len(found) == len(committed), where
        for k, value in enumerate(committed):
            close(found[k], value, f"{where}[{k}]")
    elif isinstance(committed, float):
        assert found == pytest.approx(committed, rel=1e-3, abs=1e-4), where
    else:
        assert found == committed, where
