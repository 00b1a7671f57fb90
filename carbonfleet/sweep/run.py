"""`run(design, folder, crew)`: make what is left of a sweep and write what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carbonfleet.sweep import results as made
from carbonfleet.sweep.crew import Crew, CrewError, Work
from carbonfleet.sweep.design import Design
from carbonfleet.sweep.figures import figures
from carbonfleet.sweep.folder import TABLE, Folder
from carbonfleet.sweep.results import Results
from carbonfleet.sweep.shift import work_off
from carbonfleet.sweep.work import REFUSED, Task, files, make, parsed
from profiles.inputs import InputError
from profiles.outputs import manifest


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep comes to in its folder: the key of each point, the tasks still to be done, and what changed.

    `gone` counts points that were in the folder's sweep before and are not now: FILE, an input, the program or a
    library is another.
    """

    keys: list[str | None]  # of each point; None where it could not be resolved
    left: list[Task]
    kept: int
    gone: int


def plan(design: Design, folder: Folder, retry_failed: bool = False) -> Plan:
    """Look what is there already."""
    replay = design.sweep.replay
    tasks = [None if p.config is None else Task.of(design.kind, p.config, replay) for p in design.points]
    apart = {task.key: task for task in tasks if task is not None}
    left = [task for key, task in apart.items() if not folder.has(key, failed_too=not retry_failed)]
    keys = [None if task is None else task.key for task in tasks]
    return Plan(keys, left, len(apart) - len(left), len(folder.before() - set(apart)))


def run(
    design: Design,
    folder: Folder,
    planned: Plan,
    crew: Callable[[], Crew],
    *,
    progress: Callable[[int, int], None] | None = None,
    work: Work = make,
    command: list[str] | None = None,
) -> Results:
    """Make the points that are left and write sweep.json and sweep.parquet.

    Every point is kept the moment it comes back; however it ends, both files say what there is.

    Args:
        crew: makes the workers; not called when nothing is left.
        progress: called with (points there, all points).

    Raises:
        InputError: an objective that is no figure.
        CrewError: the workers cannot work, or would make something else.
        OutputError: the folder cannot be written.
    """
    total = planned.kept + len(planned.left)
    done = planned.kept

    def keep(task: Task, text: str) -> None:
        nonlocal done
        found = parsed(text, task.key)
        if found["status"] == REFUSED:
            raise CrewError(f"{found['error']}; install the same and show it the same files")
        folder.keep(task.key, text)
        done += 1
        if progress is not None:
            progress(done, total)
        if found["status"] in made.MADE:
            made.check(design.sweep.objectives, figures(found), design)

    told = _told(design, planned, command)
    folder.state(told | {"partial": bool(planned.left)})
    if progress is not None:
        progress(done, total)
    try:
        if planned.left:
            work_off(planned.left, crew(), keep, work)
    except BaseException:
        made.write_table(_so_far(design, planned, folder), folder.path / TABLE)
        raise
    results = made.collect(design, planned.keys, folder)
    made.write_table(results, folder.path / TABLE)
    folder.state(told | {"partial": False})
    return results


def _so_far(design: Design, planned: Plan, folder: Folder) -> Results:
    """What there is, judged by the default objectives where the file's are the trouble."""
    try:
        return made.collect(design, planned.keys, folder)
    except InputError:
        plain = design.sweep.model_copy(update={"objectives": {}})
        return made.collect(Design(plain, design.file, design.kind, design.points), planned.keys, folder)


def _told(design: Design, planned: Plan, command: list[str] | None) -> dict[str, Any]:
    """What sweep.json says: what was asked, from which inputs, and which point has which key."""
    inputs = {path for point in design.points if point.config for path in files(point.config)}
    points = [
        {"point": point.number, "key": key, "set": point.settings}
        for point, key in zip(design.points, planned.keys, strict=True)
    ]
    asked = design.sweep.model_dump(mode="json", exclude_defaults=True)
    made_from = manifest([design.file, *inputs], seed=None, command=command)
    return {**made_from, "name": design.name, "kind": design.kind, "sweep": asked, "points": points}
