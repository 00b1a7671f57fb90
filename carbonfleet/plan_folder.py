"""A plan's directory: what `optimize -o` writes and the plan's page is built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiles.catalog import own_files
from profiles.inputs import InputError, read_json
from profiles.outputs import manifest, write_json, write_text

if TYPE_CHECKING:
    from optimizer.plan import Plan
    from optimizer.study import Study

PARTS = ("verdict", "beside", "board", "explained")  # each NAME.json, as far as it was asked for


@dataclass(frozen=True, slots=True)
class PlanFolder:
    """What a plan's directory holds; a part that was not asked for is None."""

    path: Path
    plan: dict[str, Any]
    manifest: dict[str, Any]
    study: str
    parts: dict[str, Any]


def write(
    plan: Plan, study: Study, folder: Path, parts: dict[str, Any], file: str, command: list[str] | None = None
) -> None:
    """Write plan.json, scenario.yaml, study.yaml (resolved), manifest.json and the parts; older parts are removed.

    Args:
        parts: documents by name, of PARTS.
        file: the study's file.

    Raises:
        OutputError: the folder cannot be written.
    """
    import yaml

    from optimizer import written

    for name in PARTS:
        (folder / f"{name}.json").unlink(missing_ok=True)
    written.write(plan, study, folder)
    asked = study.model_dump(mode="json", exclude_none=True)
    write_text(folder / "study.yaml", yaml.safe_dump(asked, sort_keys=False, allow_unicode=True))
    named = [file, *(source.trace for source in study.demand.sources), *study.profiles]
    named += [name for site in study.sites for name in (site.grid, site.forecast)]
    inputs: list[str | Path] = [name for name in named if name and Path(name).is_file()]
    inputs += own_files(study.own_catalog)
    write_json(folder / "manifest.json", manifest(inputs, seed=study.seed, command=command))
    for name, document in parts.items():
        write_json(folder / f"{name}.json", document)


def is_plan(folder: str | Path) -> bool:
    """Whether a directory is a plan's."""
    return (Path(folder) / "plan.json").is_file()


def read(folder: str | Path) -> PlanFolder:
    """Read a plan's directory.

    Raises:
        InputError: a file is missing or not what `optimize -o` writes.
    """
    path = Path(folder)
    parts = {name: _document(path / f"{name}.json") for name in PARTS if (path / f"{name}.json").is_file()}
    plan = _document(path / "plan.json")
    if "fleet" not in plan or "objective_unit" not in plan:
        raise InputError("is no plan", file=path / "plan.json", mend="write it anew with optimize -o")
    told = _document(path / "manifest.json") if (path / "manifest.json").is_file() else {}
    study = (path / "study.yaml").read_text("utf-8") if (path / "study.yaml").is_file() else ""
    return PlanFolder(path, plan, told, study, {name: parts.get(name) for name in PARTS})


def _document(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError("holds no table", file=path, mend="write it anew with optimize -o")
    return found
