"""docs/studies: every page and picture is what the command makes of its committed result."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from benchmarks import closed_loop, examples, studies, what_ifs, worth

NAMES = studies.names()


def test_every_study_and_example_has_its_page_and_no_page_is_left_over() -> None:
    kinds = {examples.kind(path.stem) for path in examples.EXAMPLES.glob("*.yaml")}
    assert kinds == set(examples.KINDS)
    assert {path.stem for path in studies.DOCS.glob("*.md")} == {*NAMES, "README"}
    assert {path.stem for path in studies.DOCS.glob("*.svg")} == set(NAMES)


@pytest.fixture(scope="module")
def pages() -> dict[str, studies.Page]:
    return {name: studies.page(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_the_command_makes(name: str, pages: dict[str, studies.Page]) -> None:
    made = pages[name]
    assert (studies.DOCS / f"{name}.md").read_text(encoding="utf-8") == made.text, "run `make docs`"
    assert (studies.DOCS / f"{name}.svg").read_text(encoding="utf-8") == made.svg, "run `make docs`"
    assert f"]({name}.svg)" in made.text
    assert "## Reading it" in made.text or "## Claim by claim" in made.text
    assert re.search(r"^    \S", made.text, flags=re.M), "no command"
    assert "processor time" in made.text, f"run `python -m benchmarks.studies --time {name}`"


def test_the_index_names_every_page(pages: dict[str, studies.Page]) -> None:
    assert (studies.DOCS / "README.md").read_text(encoding="utf-8") == studies.index(pages.values()), "run `make docs`"


@pytest.mark.parametrize("name", examples.names())
def test_an_example_s_sentences_follow_its_figures(name: str) -> None:
    """Every other figure doubled: sentences that hold figures change."""
    result = examples.committed(name)
    before = examples.render(name, result, "", "x.svg")
    after = examples.render(name, _doubled(copy.deepcopy(result)), "", "x.svg")
    old, new = (re.findall(r"^- (.*)$", text.partition("## Assumptions")[0], flags=re.M) for text in (before, after))
    changed = [a for a in old if a not in new and re.search(r"\d", a)]
    assert changed, old


def _doubled(value: Any, key: str = "") -> Any:
    """Grams, joules and units of every third row doubled; nothing that would break a share."""
    if isinstance(value, dict):
        return {k: _doubled(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_doubled(one) if k % 3 == 0 else one for k, one in enumerate(value)]
    if key in ("total", "units", "carbon_g", "carbon_g.total", "objective_g", "embodied_g") and value:
        return 2 * value
    return value


def test_rivals_that_win_are_said_to() -> None:
    document = studies.document("worth-it")
    other = copy.deepcopy(document)
    for row in other["rows"]:
        if row["by"] == "least cost":
            row["more_than_plan"], row["turned_by"] = -0.1, ["cards alone"]
    before, after = list(worth.reading(document)), list(worth.reading(other))
    assert "The fleet by least cost emits -10 to -10 % more than the plan." in after
    assert before[-1] != after[-1] or before[-2] != after[-2]


def test_a_promise_that_is_kept_is_not_called_broken() -> None:
    document = studies.document("what-ifs")
    broken = [line for line in what_ifs.reading(document) if "breaks the promise" in line]
    worst = min(row["worst_hour"] for row in document["rows"])
    assert bool(broken) == (worst < what_ifs.KEPT)
    for row in document["rows"]:
        row["worst_hour"] = 1.0
    assert not any("breaks the promise" in line for line in what_ifs.reading(document))


def test_an_unverified_plan_is_counted() -> None:
    document = studies.document("closed-loop")
    assert next(iter(closed_loop.reading(document))).startswith(f"{len(document['rows'])} of {len(document['rows'])}")
    document["rows"][0]["verified"] = False
    document["rows"][1]["energy_unseen"] = -0.5
    told = list(closed_loop.reading(document))
    assert told[0].startswith(f"{len(document['rows']) - 1} of {len(document['rows'])}")
    assert "50.0 % at most" in told[2]


def test_a_page_says_what_was_not_timed() -> None:
    assert studies.runtime("no such study") == "Its runtime was not measured."
