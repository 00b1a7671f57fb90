"""The schemas that editors are given: every key is described, and nothing is asked that the reader does not know."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from carbonfleet.cli.optimize import command as optimize
from carbonfleet.cli.simulate import command as simulate
from optimizer.study import Study
from optimizer.words import STUDY
from profiles.schemas import undescribed
from sim.scenario import Scenario
from sim.words import SCENARIO


@pytest.mark.parametrize(("command", "model", "words"), [(optimize, Study, STUDY), (simulate, Scenario, SCENARIO)])
def test_every_key_of_a_schema_is_described(command: click.Command, model: Any, words: Any) -> None:
    shown = CliRunner().invoke(command, ["--schema"])
    assert shown.exit_code == 0, shown.output
    schema = json.loads(shown.output)
    assert schema["title"] == model.__name__
    assert undescribed(schema) == []
    assert set(schema["properties"]) == set(model.model_fields)
    parts = {model.__name__: schema, **schema["$defs"]}
    stale = [
        f"{name}.{key}"
        for name in words
        if name in parts
        for key in words[name]
        if key not in parts[name]["properties"]
    ]
    assert stale == []
    assert {name for name in words if name not in parts} <= {"Site"}  # a study's sites have keys of their own


def test_a_key_without_words_is_found() -> None:
    schema = Study.model_json_schema()
    assert "Study.horizon_years" in undescribed(schema)
    assert "Site.name" not in undescribed(schema)


UNITS = {
    "_usd_per_h": "USD",
    "_usd_per_kwh": "USD/kWh",
    "_usd_per_t": "USD per tonne",
    "_years": "year",
    "_tokens": "token",
    "_power_w": "watt",
    "_kg": "kg",
    "_s": "second",
}


@pytest.mark.parametrize("words", [STUDY, SCENARIO])
def test_a_unit_in_a_name_is_in_its_words(words: Any) -> None:
    for name, keys in words.items():
        for key, text in keys.items():
            unit = next((UNITS[end] for end in UNITS if key.endswith(end)), None)
            assert unit is None or unit in text, (name, key)
