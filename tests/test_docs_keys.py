"""The pages say what the code has: keys, columns and fields are documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer import offers, sources, study
from sim import plan, scenario, tables
from sim.control import specs
from sim.run import Run, run

ROOT = Path(__file__).resolve().parents[1]
STATISTICS = {"mean", "p50", "p90", "p99"}


def page(name: str) -> set[str]:
    """Every word in backticks of a page."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}


@pytest.fixture(scope="module")
def two_sites() -> Run:
    return run(scenario.read(ROOT / "examples" / "two-sites.yaml"))


def keys(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from keys(value)
    elif isinstance(document, list) and document:
        yield from keys(document[0])


def test_every_key_of_the_summary_is_documented(two_sites):
    shown = {key: value for key, value in two_sites.summary.items() if key not in ("sources", "reports")}
    known = page("metrics.md") | STATISTICS
    assert set(keys(shown)) - known == set()
    assert set(two_sites.summary["reports"]) <= known


def test_every_column_is_documented(two_sites):
    columns = {*tables.requests_table(two_sites).column_names, *tables.timeline_table(two_sites).column_names}
    assert columns - page("metrics.md") == set()


def test_every_field_of_a_scenario_is_documented():
    parts = (scenario.Scenario, scenario.Site, scenario.Pool, scenario.Slo, scenario.Accounting)
    parts = (*parts, scenario.KvTransfer, scenario.SloClass, scenario.Stream)
    parts = (
        *parts,
        specs.PowerOff,
        specs.Scale,
        specs.Schedule,
        specs.Governor,
        specs.PowerCap,
        specs.Defer,
        specs.Failures,
    )
    parts = (*parts, plan.PlanBucket, plan.PlanSlice, plan.RoutingPlan)
    fields = {name for part in parts for name in part.model_fields}
    assert fields - page("scenario.md") == set()


def test_every_field_of_a_study_is_documented():
    parts = (study.Study, study.StudySite, study.Limits, study.Reserve, study.Future)
    parts = (*parts, offers.Offer, offers.Owned, sources.Demand, sources.Source, sources.Bucket)
    fields = {name for part in parts for name in part.model_fields}
    assert fields - page("optimize.md") - page("scenario.md") == set()
