"""The wheel holds everything, and runs from another directory where the checkout cannot be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("profiles", "sim", "calibrate", "optimizer", "carbonfleet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of an environment with the wheel, this environment's other packages and no checkout."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False, symlinks=True)
    paths = {"base": str(home), "platbase": str(home)}
    scripts, site = (Path(sysconfig.get_path(kind, "venv", paths)) for kind in ("scripts", "purelib"))
    here = Path(sysconfig.get_path("purelib"))
    # A .pth to our site-packages appends its folder without reading the .pth files in it, so that the editable
    # checkout they name stays out of sight.
    (site / "dependencies.pth").write_text(f"{here}\n", encoding="utf-8")
    python = scripts / Path(sys.executable).name
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "-q", str(wheel)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    install += ["--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, env=env, cwd=home)
    assert done.returncode == 0, done.stderr
    return scripts


def away(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CARBONFLEET"))}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in files if path.suffix in (".py", ".csv", ".json", ".typed")}
    assert wanted <= inside, sorted(wanted - inside)
    for package in PACKAGES:
        assert f"{package}/__init__.py" in inside
        assert f"{package}/py.typed" in inside
    assert {"profiles/data/gpus.csv", "profiles/data/zones.csv", "profiles/data/typical_years.csv"} <= inside
    assert any(name.startswith("profiles/library/") and name.endswith(".json") for name in inside)


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_come_from_the_wheel(clean: Path, tmp_path: Path, package: str) -> None:
    python = clean / Path(sys.executable).name
    done = away([str(python), "-c", f"import {package}; print({package}.__file__)"], tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip()).resolve()
    assert path.is_relative_to(clean.parent.resolve())
    assert not path.is_relative_to(ROOT / package)


@pytest.mark.parametrize("script", ["carbonfleet", "simulate", "optimize", "calibrate"])
def test_scripts_help_from_another_directory(clean: Path, tmp_path: Path, script: str) -> None:
    done = away([str(clean / script), "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: {script}")


def test_a_result_from_shipped_data_in_another_directory(clean: Path, tmp_path: Path) -> None:
    done = away([str(clean / "carbonfleet"), "embodied", "t4", "--preset", "act", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embodied_kg"]["mid"] == pytest.approx(11.02, abs=0.005)
