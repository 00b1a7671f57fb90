"""Fixtures: hand-made profiles whose steps can be worked out on paper, pools on them, and the shared data folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from profiles.grid import Window
from profiles.profile import Profile
from profiles.step import StepModel
from sim.control.forecast import Believed
from sim.engine.loop import Played, play
from sim.scenario import Scenario
from sim.trace import Trace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside this checkout")
    return SHARED


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser. Of a module, since playwright holds an event loop while it is open."""
    if CHROMIUM is None:
        pytest.skip("no chromium: install Debian's package to run the report's browser tests")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def paper_profile(**changes: Any) -> Profile:
    """Dyadic: prefill n/1024 s at 512 W; decode (8 + B)/1024 + K/2^20 s at 256 W whatever B; idle 64 W."""
    batches, contexts = [1, 1 << 14], [1, 1 << 20]
    rows = [(b, b * c) for b in batches for c in contexts]
    document: dict[str, Any] = {
        "gpu": "h100-sxm-80gb",
        "model": "llama-3.1-8b",
        "engine": "paper",
        "layer": "step",
        "provenance": {"kind": "synthetic", "source": "worked by hand", "licence": "ours", "date": "2026-11-21"},
        "band": {"time": 1.0, "power": 1.0},
        "memory": {"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": 1 << 14},
        "idle": {"loaded_w": 64.0},
        "prefill": {
            "new_tokens": [1, 1 << 14],
            "past_tokens": [0, 0],
            "sequences": [1, 1],
            "time_s": [2.0**-10, 16.0],
            "power_w": [512.0, 512.0],
        },
        "decode": {
            "batch": [b for b, _ in rows],
            "kv_tokens": [k for _, k in rows],
            "time_s": [(8 + b) / 1024 + k / 2**20 for b, k in rows],
            "power_w": [256.0] * len(rows),
        },
    }
    return Profile.model_validate(document | changes)


@pytest.fixture
def paper() -> Callable[..., Profile]:
    """The hand-made profile, with changes."""
    return paper_profile


@pytest.fixture
def replay() -> Callable[..., Played]:
    """Replay (arrival, prompt, output) rows on instances of a profile, without catalogue or files."""

    def go(
        rows: list[tuple[float, int, int]],
        *,
        leaping: bool = True,
        instances: int = 1,
        window: Window | None = None,
        profile: Profile | None = None,
        routing: str = "round-robin",
        prefixes: list[list[int]] | None = None,
        pools: list[dict[str, Any]] | None = None,
        scenario: dict[str, Any] | None = None,
        classes: list[int] | None = None,
        horizon_s: float = 0.0,
        **spec: Any,
    ) -> Played:
        pool = {"name": "p", "site": "s", "gpu": "h100-sxm-80gb", "model": "llama-3.1-8b", "instances": instances}
        asked = Scenario.model_validate(
            {
                "trace": "none",
                "sites": [{"name": "s", "grid": "100", "pue": 1.0}],
                "pools": [pool | spec | own | {"name": f"p{k}"} for k, own in enumerate(pools or [{}])],
                "routing": routing,
            }
            | (scenario or {})
        )
        arrival, prompt, output = (np.array(column) for column in zip(*sorted(rows, key=lambda r: r[0]), strict=True))
        named: dict[str, Any] = {} if classes is None else {"slo_class": np.array(classes)}
        if prefixes is not None:  # ids of blocks of 16 tokens, of the rows in order of arrival
            offsets = np.cumsum([0, *(len(ids) for ids in prefixes)])
            named = {
                "hash_ids": np.array([*chain.from_iterable(prefixes)], np.int64),
                "hash_offsets": offsets,
                "hash_tokens": 16,
            }
        trace = Trace("rows", arrival - arrival[0], prompt, output, **named)
        live, first, seen = [], 0, window or Window.constant(100.0)
        for one in asked.pools:
            live.append(
                SimpleNamespace(
                    spec=one,
                    site=SimpleNamespace(window=seen, believed=Believed(seen, None, None, 0.0)),
                    host=SimpleNamespace(power_w=512.0, gpus=2),
                    units=one.engines,
                    spare_gpus=0,
                    model=StepModel(profile or paper_profile()),
                    numbers=range(first, first + one.engines),
                    pue=1.0,
                    ahead=bool(one.async_scheduling),
                    llm=SimpleNamespace(name=one.model),
                    profile=profile or paper_profile(),
                    prompt_j=1.0,
                    output_j=1.0,
                    token_limit=4096.0,
                    intensity_now=lambda now_s: 100.0,
                )
            )
            first += one.engines
        return play(asked, trace, live, leaping=leaping, horizon_s=horizon_s)  # type: ignore[arg-type]

    return go
