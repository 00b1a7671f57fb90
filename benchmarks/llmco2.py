"""The page docs/studies/llmco2.md and what makes its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.markdown import blocks
from carbonfleet.reproduce.llmco2 import story
from carbonfleet.reproduce.llmco2.study import Setting, study

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RELEASED, ROWS = SHARED / "llmco2", SHARED / "profiles"
HEAD = """# LLMCO2, reproduced

{paper}

    carbonfleet reproduce llmco2 --released DIR --rows DIR -o runs/llmco2

writes `report.html`, `result.json` (every figure) and `manifest.json`. Neither folder ships: `--released` holds the
authors' rows, `--rows` public measurements (docs/predict.md); without them it says so and does the rest in seconds.
`--zones` asks for other grids. {runtime} This page is written from docs/studies/llmco2.json by `python -m
benchmarks.studies`; `--anew llmco2` computes that first.

"""
END = """
What is not here: the paper's own tables of errors and of grams could not be read, so no absolute figure of it stands
beside ours; its full set of GPUs and models was not released, and the released labels have no unit. Networks and forest
are the authors' kinds of predictor, not their code: the forest has the stated number of trees, the networks have 100
epochs of 128 (stated: 50 of 512), see lengths in tokens and give a factor on padded prompt tokens or on decode steps,
which the forest does not
(before, on the standardised columns alone: 2.63 and 2.40 % at random, 88.5 and 20.2 % on the longest prompts).
"""


def compute() -> dict[str, Any]:
    """The result with both folders, which must lie beside the checkout."""
    return study(Setting(RELEASED, ROWS)).document


def render(d: dict[str, Any], runtime: str, picture: str) -> str:
    """The page."""
    head = HEAD.format(paper=d["paper"], runtime=runtime)
    return head + blocks(story.story(d), {"requests": picture}) + END


def picture(d: dict[str, Any]) -> dict[str, Any]:
    """Carbon of a request."""
    return story.charts(d)["requests"]
