"""The scenario from what was typed: --pool, options over a YAML file, --set, --print-config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from carbonfleet import config
from carbonfleet.config import PoolText, UsageError, build, parse_pool
from profiles.inputs import InputError
from sim.scenario import read

POOLS = ("h100-sxm-80gb:4@CA-QC", "a100-sxm-80gb:8:tp2@US-CAL-CISO")
QUICK = {"trace": "t.csv", "model": "llama-3.1-8b"}
YAML = """\
trace: t.csv
sites:
  - {name: qc, grid: CA-QC}
  - {name: ca, grid: US-CAL-CISO}
pools:
  - {name: one, site: qc, gpu: h100-sxm-80gb, model: llama-3.1-8b, instances: 2}
  - {name: two, site: ca, gpu: l4, model: llama-3.1-8b, instances: 3}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(YAML)
    return path


def refusal(function: Callable[..., Any], *args: Any) -> str:
    """What a call is refused with; empty when it is not."""
    try:
        function(*args)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h100-sxm-80gb:4@CA-QC", ("h100-sxm-80gb", 4, 1, 1, False, "CA-QC")),
        ("a100-sxm-80gb:8:tp2@US-CAL-CISO", ("a100-sxm-80gb", 8, 2, 1, False, "US-CAL-CISO")),
        ("l4:1:dp2:tp4@./a/b.c/grid.csv", ("l4", 1, 4, 2, False, "./a/b.c/grid.csv")),
        ("t4:10:ep@262", ("t4", 10, 1, 1, True, "262")),
        ("t4:1@/x/y@z:1.csv", ("t4", 1, 1, 1, False, "/x/y@z:1.csv")),
    ],
)
def test_pool_form(text: str, expected: tuple[Any, ...]) -> None:
    assert parse_pool(text) == PoolText(*expected)


@pytest.mark.parametrize(
    "text",
    ["", "@", "h100", "h100:4", "h100:4@", "h100@CA-QC", ":4@CA-QC", "h100:0@X", "h100:-1@X", "h100:4.5@X",
     "h100:four@X", "h100:4:tp0@X", "h100:4:pp2@X", "h100:4:tp@X", "h100:4:@X", "h100:99999999@X", "h100:٤@X"],
)  # fmt: skip
def test_pool_refusals_say_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="GPU:INSTANCES") as refused:
        parse_pool(text)
    assert refused.value.exit_code == 2


@given(st.text(max_size=40))
def test_pool_text_is_taken_apart_or_refused(text: str) -> None:
    said = refusal(parse_pool, text)
    assert "\n" not in said
    assert said or parse_pool(text).instances >= 1


def test_quick_form() -> None:
    scenario = build(None, QUICK, POOLS, [])
    assert [(p.name, p.site, p.gpu, p.instances, p.tp, p.gpus) for p in scenario.pools] == [
        ("h100-sxm-80gb@CA-QC", "CA-QC", "h100-sxm-80gb", 4, 1, 4),
        ("a100-sxm-80gb-tp2@US-CAL-CISO", "US-CAL-CISO", "a100-sxm-80gb", 8, 2, 16),
    ]
    assert [(s.name, s.grid) for s in scenario.sites] == [("CA-QC", "CA-QC"), ("US-CAL-CISO", "US-CAL-CISO")]
    assert scenario.trace == "t.csv"


def test_quick_form_names_are_free() -> None:
    scenario = build(None, QUICK, ("t4:1@a/x.csv", "t4:2@b/x.csv", "t4:3@a/x.csv"), [])
    assert [(s.name, s.grid) for s in scenario.sites] == [("x", "a/x.csv"), ("x-2", "b/x.csv")]
    assert [p.site for p in scenario.pools] == ["x", "x-2", "x"]
    assert len({p.name for p in scenario.pools}) == 3


@pytest.mark.parametrize("missing", ["trace", "model", "pools"])
def test_quick_form_says_what_is_missing(missing: str) -> None:
    options = {key: value for key, value in QUICK.items() if key != missing}
    with pytest.raises(UsageError, match="--" + missing.rstrip("s")):
        build(None, options, () if missing == "pools" else POOLS, [])


OPTIONS = {
    "ttft_slo": (0.5, lambda s: s.slo.ttft_s),
    "tpot_slo": (0.1, lambda s: s.slo.tpot_s),
    "lifetime_years": (4.0, lambda s: s.accounting.lifetime_years),
    "preset": ("act", lambda s: s.accounting.preset),
    "boundary": ("chip", lambda s: s.accounting.boundary),
    "horizon": (7200.0, lambda s: s.horizon_s),
    "start": ("2023-06-01T02:00:00+02:00", lambda s: s.start.isoformat()),
    "align": ("recur", lambda s: s.align),
    "seed": (7, lambda s: s.seed),
    "routing": ("round-robin", lambda s: s.routing),
    "pue": (1.1, lambda s: {site.pue for site in s.sites}),
    "model": ("llama-2-7b", lambda s: {pool.model for pool in s.pools}),
    "batching": ("static", lambda s: {pool.batching for pool in s.pools}),
    "max_num_seqs": (64, lambda s: {pool.max_num_seqs for pool in s.pools}),
    "max_num_batched_tokens": (4096, lambda s: {pool.max_num_batched_tokens for pool in s.pools}),
    "trace": ("other.csv", lambda s: s.trace),
    "rate_scale": (2.0, lambda s: s.rate_scale),
    "repeat": (3, lambda s: s.repeat),
    "shape": ("diurnal", lambda s: s.shape),
    "sort": (True, lambda s: s.sort_trace),
    "allow_bad_rows": (5, lambda s: s.allow_bad_rows),
    "workload": ("ids.jsonl", lambda s: s.workload),
    "prefix_cache": (False, lambda s: {pool.prefix_cache for pool in s.pools}),
    "own_catalog": ("mine", lambda s: s.own_catalog),
    "profiles": (("mine",), lambda s: s.profiles),
}
SHOWN = {"start": "2023-06-01T02:00:00+02:00", "profiles": ["mine"]}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("form", ["quick", "file"])
def test_every_option_lands(file: Path, option: str, form: str) -> None:
    value, look = OPTIONS[option]
    if form == "quick":
        scenario = build(None, {**QUICK, option: value}, POOLS, [])
    else:
        scenario = build(str(file), {option: value}, (), [])
    found = look(scenario)
    assert found == SHOWN.get(option, {value} if isinstance(found, set) else value)


def test_every_command_line_option_lands_somewhere() -> None:
    """An option of `simulate` that config does not know would be silently ignored."""
    from carbonfleet.cli.simulate import command

    handled = {"scenario", "pools", "profile_dirs", "engine", "settings", "print_config", "as_json", "output", "quiet"}
    handled |= {"against", "find_rate", "find_instances", "target", "replications", "warm_up", "jobs", "schema"}
    named = {parameter.name for parameter in command.params} - handled
    assert named == set(OPTIONS) - {"profiles"}


def test_options_not_given_change_nothing(file: Path) -> None:
    untouched = build(str(file), dict.fromkeys(OPTIONS) | {"profiles": ()}, (), [])
    assert untouched == read(file)


def test_a_typed_trace_replaces_the_generator(file: Path) -> None:
    text = YAML.replace("trace: t.csv", "generator: {requests: 10}")
    file.write_text(text)
    assert build(str(file), {"trace": "t.csv"}, (), []).generator is None


def test_typed_paths_are_the_shell_s_and_written_ones_the_file_s(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for folder in (here, tmp_path):
        (folder / "t.csv").write_text("x")
    monkeypatch.chdir(here)
    assert build(str(file), {}, (), []).trace == str(tmp_path / "t.csv")
    assert build(str(file), {"trace": "t.csv"}, (), []).trace == str(here / "t.csv")


def test_pools_beside_a_file_are_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="already says which pools"):
        build(str(file), {}, POOLS, [])


@pytest.mark.parametrize(
    ("setting", "look", "value"),
    [
        ("pools.0.instances=8", lambda s: s.pools[0].instances, 8),
        ("pools.two.instances=9", lambda s: s.pools[1].instances, 9),
        ("accounting.host_power=false", lambda s: s.accounting.host_power, False),
        ("slo={ttft_s: 2, tpot_s: 0.2}", lambda s: (s.slo.ttft_s, s.slo.tpot_s), (2.0, 0.2)),
        ("name=x=y", lambda s: s.name, "x=y"),
        ("sites.qc.grid=31", lambda s: s.sites[0].grid, "31"),
    ],
)
def test_set(file: Path, setting: str, look: Any, value: Any) -> None:
    assert look(build(str(file), {}, (), [setting])) == value


def test_set_goes_over_options(file: Path) -> None:
    assert build(str(file), {"seed": 1}, (), ["seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("pools", "key=value"),
        ("=1", "key=value"),
        ("pools..x=1", "key=value"),
        ("pools.7.instances=1", "'7'"),
        ("pools.tvo.instances=1", "did you mean two"),
        ("pools.0.instances=0", "greater than or equal to 1"),
        ("pools.0.instances=many", "valid integer"),
        ("pools.0.instanzes=3", "did you mean instances"),
        ("slo.ttft_s=.inf", "finite"),
        ("seed.deep.er=1", "seed"),
        ("name={a", "not YAML"),
        ("slo={ttft_s: -1}", "slo={ttft_s: -1}: ttft_s"),
    ],
)
def test_bad_settings_name_themselves(file: Path, setting: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        build(str(file), {"seed": 1}, (), [setting])
    assert "\n" not in str(refused.value)
    assert f"--set {setting}" in str(refused.value)
    assert said in str(refused.value)


@given(st.text(max_size=30))
def test_any_setting_is_taken_or_refused_in_one_line(text: str) -> None:
    assert "\n" not in refusal(build, None, QUICK, POOLS, [text])


def test_a_file_s_own_mistake_names_its_line(file: Path) -> None:
    file.write_text(YAML.replace("instances: 3", "instanzes: 3"))
    with pytest.raises(InputError, match=r"scenario\.yaml:7: pools\.1") as refused:
        build(str(file), {"seed": 1}, (), [])
    assert refused.value.exit_code == 1


def test_printed_config_reads_back(file: Path, tmp_path: Path) -> None:
    scenario = build(str(file), {"start": "2023-06-01", "pue": 1.3, "profiles": ("a",)}, (), ["slo.ttft_s=1"])
    again = tmp_path / "again.yaml"
    again.write_text(config.as_yaml(scenario))
    assert read(again) == scenario
    assert yaml.safe_load(again.read_text())["sites"][0]["pue"] == 1.3
