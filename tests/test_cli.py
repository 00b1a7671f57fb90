"""The front door's contract: quick to start, one line an error, stdout for results, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from carbonfleet import __version__, cli
from carbonfleet.cli import options

HEAVY = ("scipy", "pulp", "pyarrow", "simpy", "torch", "numpy", "pydantic", "rich", "highspy", "yaml")


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `carbonfleet ARGS` in this process."""

    def call(*args: str) -> Done:
        with pytest.raises(SystemExit) as leaving:
            cli.main(list(args))
        text = capsys.readouterr()
        code = leaving.value.code
        assert isinstance(code, int)
        return Done(code, text.out, text.err)

    return call


def process(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from carbonfleet.cli import main; main({list(args)!r})"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    code = f"""
import sys
from carbonfleet.cli import main
try:
    main({[*command, "--help"]!r})
except SystemExit as leaving:
    heavy = sorted(set({HEAVY!r}) & set(sys.modules))
    sys.exit(f"imports {{heavy}}" if heavy or leaving.code else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: carbonfleet")


@pytest.mark.parametrize("name", ["simulate", "optimize", "calibrate"])
def test_commands_of_their_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, start in (("--help", f"Usage: {name} ["), ("--version", f"{name}, version {__version__}")):
        with pytest.raises(SystemExit) as leaving:
            getattr(cli, f"{name}_main")([flag])
        assert leaving.value.code == 0
        assert capsys.readouterr().out.startswith(start)


def test_version(run: Callable[..., Done]) -> None:
    assert run("--version") == (0, f"carbonfleet, version {__version__}\n", "")


def test_the_version_is_the_project_s() -> None:
    from importlib.metadata import version

    assert version("carbonfleet") == __version__


def test_choices_are_the_libraries_own() -> None:
    from typing import get_args

    from profiles.grid import Scope
    from sim.routing import ROUTERS
    from sim.scenario import Accounting, Pool

    assert get_args(Pool.model_fields["batching"].annotation) == options.BATCHING
    assert tuple(ROUTERS) == options.ROUTING
    assert get_args(Accounting.model_fields["preset"].annotation) == options.PRESETS
    assert get_args(Accounting.model_fields["boundary"].annotation) == options.BOUNDARIES
    assert set(get_args(Scope)) == set(options.SCOPES)


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("x\ny"), 1, "internal error: ZeroDivisionError: x y (please report; "),
        (MemoryError(), 1, "error: out of memory"),
        (click.UsageError("no."), 2, "error: no; see carbonfleet demo --help"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_a_code(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr(cli, "load_command", lambda name: failing(error))
    done = run("demo")
    assert (done.code, done.out) == (code, "")
    said = done.err.strip()
    assert said.startswith(line)
    assert "\n" not in said


def test_library_errors_keep_their_exit_code(run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    from calibrate.errors import NoGpu

    monkeypatch.setattr(cli, "load_command", lambda name: failing(NoGpu("none here")))
    done = run("demo")
    assert done.code == 4
    assert done.err.startswith("error: no GPU to measure (none here); ")


def test_a_traceback_is_shown_to_those_who_ask(run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_command", lambda name: failing(ZeroDivisionError("x")))
    monkeypatch.setenv("CARBONFLEET_TRACEBACK", "1")
    assert "Traceback" in run("demo").err


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "from carbonfleet.cli import main; main(['grid', 'list', '--json'])"
    pipe = f'{sys.executable} -c "{code}" | head -c 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_one_line() -> None:
    code = "from carbonfleet.cli import main; main(['grid', 'list'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_terminal_without_unicode_still_gets_the_result() -> None:
    done = process("grid", "list", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr


def test_environment_twins(run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONFLEET_EMBODIED_PRESET", "act")
    assert json.loads(run("embodied", "t4", "--json").out)["preset"] == "act"


@pytest.mark.parametrize(
    ("gpu", "preset", "mid"),
    [("rtx-6000-ada", "act", 24.23), ("t4", "act", 11.02), ("h100-sxm-80gb", "pcf-card", 164.0),
     ("rtx-6000-ada", "hotcarbon24", 26.6), ("t4", "hotcarbon24", 10.3)],
)  # fmt: skip
def test_embodied(run: Callable[..., Done], gpu: str, preset: str, mid: float) -> None:
    document = json.loads(run("embodied", gpu, "--preset", preset, "--json").out)
    kg = document["embodied_kg"]
    assert kg["mid"] == pytest.approx(mid, abs=0.05 if mid > 100 else 0.005)
    assert kg["low"] <= kg["mid"] <= kg["high"]
    assert document["boundary"] in ("chip", "card", "server")
    assert document["source"]
    assert document["schema_version"] == 1
    assert document["g_per_h"] == pytest.approx(kg["mid"] * 1000 / (5 * 8760))


def test_embodied_rate_of_hotcarbon24(run: Callable[..., Done]) -> None:
    for gpu, rate in (("rtx-6000-ada", 0.607), ("t4", 0.235)):
        document = json.loads(run("embodied", gpu, "--preset", "hotcarbon24", "--lifetime-years", "5", "--json").out)
        assert document["g_per_h"] == pytest.approx(rate, abs=0.0005)
        assert f"{rate} g per hour over 5 years" in run("embodied", gpu, "--preset", "hotcarbon24").out


def test_embodied_of_a_server_holds_the_host_share(run: Callable[..., Done]) -> None:
    card, server = (
        json.loads(run("embodied", "h100-sxm-80gb", "--boundary", boundary, "--json").out)["embodied_kg"]
        for boundary in ("card", "server")
    )
    assert all(server[key] > card[key] for key in ("low", "mid", "high"))


def test_grid_show_a_number(run: Callable[..., Done]) -> None:
    document = json.loads(run("grid", "show", "262", "--json").out)
    assert (document["mean_g_per_kwh"], document["min_g_per_kwh"], document["scope"]) == (262.0, 262.0, "lifecycle")
    assert document["start"] is None


def test_grid_show_a_file(run: Callable[..., Done], tmp_path: Path) -> None:
    file = tmp_path / "series.csv"
    rows = [f"2024-01-01T{hour:02d}:00:00Z,{100 + hour}" for hour in range(24)]
    file.write_text("\n".join(["time,g_per_kwh", *rows]) + "\n")
    done = run("grid", "show", str(file), "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["by_hour_utc_g_per_kwh"] == [100.0 + hour for hour in range(24)]
    assert document["mean_g_per_kwh"] == pytest.approx(111.5)
    assert (document["start"], document["end"]) == ("2024-01-01T00:00:00+00:00", "2024-01-02T00:00:00+00:00")


def test_grid_list_shows_every_zone(run: Callable[..., Done]) -> None:
    zones = json.loads(run("grid", "list", "--json").out)["zones"]
    text = run("grid", "list").out
    assert len(zones) >= 12
    assert all(zone["zone"] in text for zone in zones)


def test_profiles_list_show_and_check(run: Callable[..., Done], tmp_path: Path) -> None:
    found = json.loads(run("profiles", "list", "--json").out)["profiles"]
    assert found
    assert all(row["source"] and row["licence"] for row in found)
    key = found[0]["key"]
    assert found[0]["gpu"] in run("profiles", "list").out
    assert run("profiles", "show", key).out.startswith(key)
    file = tmp_path / "p.json"
    document = json.loads(run("profiles", "show", key, "--json").out)
    file.write_text(json.dumps(document))
    assert json.loads(run("profiles", "check", str(file), "--json").out)["key"] == key
    document["decode"]["time_s"][0] = -1
    file.write_text(json.dumps(document))
    done = run("profiles", "check", str(file))
    assert done.code == 1
    assert "decode.time_s.0" in done.err


@pytest.mark.parametrize("group", [[], ["profiles"], ["grid"]])
def test_a_group_alone_shows_its_help(run: Callable[..., Done], group: list[str]) -> None:
    done = run(*group)
    assert done.code == 0
    assert "Commands:" in done.out
    assert not done.err
