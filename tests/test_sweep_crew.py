"""sweep's workers: processes here and a Dask cluster give the same bytes, and neither a death nor a killer loses more
than the point whose fault it is."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from carbonfleet.cli.sweep import command
from carbonfleet.sweep import crew, design, run, shift
from carbonfleet.sweep.folder import Folder
from carbonfleet.sweep.results import Results
from carbonfleet.sweep.work import Task
from tests.tiny import SCENARIO

KEYS = {
    "pools.p.instances": {"low": 1, "high": 4, "integer": True},
    "sites.here.pue": {"low": 1.0, "high": 1.6},
    "seed": {"low": 0, "high": 10**6, "integer": True},
}
KILLERS = (3, 6)
# A module of its own, which workers import: two of its points kill whoever makes them.
HELPER = f"""
import os
import signal
from carbonfleet.sweep.work import make

def work(task):
    if task.config["seed"] in {KILLERS}:
        os.kill(os.getpid(), signal.SIGKILL)
    return make(task)

def lost(task):
    import a_module_that_is_not_here

def dead():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("helper")
    (folder / "sweep_helper.py").write_text(HELPER)
    sys.path.insert(0, str(folder))
    import sweep_helper

    yield sweep_helper
    sys.path.remove(str(folder))


@contextmanager
def dask_cluster(workers: int = 2, **settings: Any) -> Iterator[Any]:
    """Local Dask workers, under settings of its scheduler."""
    distributed = pytest.importorskip("distributed", reason="distributed (the extra cluster) is not installed")
    import dask

    address = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({f"distributed.scheduler.{key.replace('_', '-')}": value for key, value in settings.items()}),
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, silence_logs=50, **address) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def cluster(helper: Any) -> Iterator[Any]:
    with dask_cluster() as started:
        yield started


@pytest.fixture
def killers(tmp_path: Path) -> Path:
    return written(tmp_path / "killers.yaml", grid={"seed": [*range(10)]})


def written(path: Path, **parts: Any) -> Path:
    path.write_text(yaml.safe_dump({"scenario": SCENARIO} | parts))
    return path


def swept(path: Path, folder: Path, who: Callable[[], crew.Crew], **more: Any) -> Results:
    asked, kept = design.read(path), Folder(folder)
    return run.run(asked, kept, run.plan(asked, kept), who, **more)


def here() -> crew.Here:
    return crew.Here(2)


def table(folder: Path) -> bytes:
    return (folder / "sweep.parquet").read_bytes()


def after(count: int, act: Callable[[], None]) -> Callable[[int, int], None]:
    """Something to do once, when so many points are there."""
    todo = [act]

    def progress(done: int, of_all: int) -> None:
        if done >= count and todo:
            todo.pop()()

    return progress


def test_two_workers_a_dask_cluster_and_a_killed_worker_in_each_give_the_same_bytes(
    tmp_path: Path, cluster: Any
) -> None:
    path = written(tmp_path / "s.yaml", sample={"points": 200, "seed": 1, "keys": KEYS})
    before = set(multiprocessing.active_children())
    killed: list[int] = []

    def kill_one() -> None:
        killed.append(next(iter(set(multiprocessing.active_children()) - before)).pid or 0)
        os.kill(killed[-1], signal.SIGKILL)

    ours = swept(path, tmp_path / "here", here, progress=after(60, kill_one))
    assert killed
    assert ours.counts == {"ok": 200}

    def there() -> crew.Cluster:
        return crew.Cluster(cluster.scheduler_address)

    def kill_one_there() -> None:
        pids = [nanny.process.pid for nanny in cluster.workers.values()]
        killed.append(pids[0])
        os.kill(pids[0], signal.SIGKILL)

    theirs = swept(path, tmp_path / "there", there, progress=after(60, kill_one_there))
    assert theirs.counts == {"ok": 200}
    assert len(killed) == 2
    assert table(tmp_path / "here") == table(tmp_path / "there")
    files = [sorted((tmp_path / name / "points").iterdir()) for name in ("here", "there")]
    assert len(files[0]) == 200
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))


def test_a_point_that_kills_its_worker_is_blamed_and_no_other(
    killers: Path, tmp_path: Path, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift, "LOOK_S", 0.001)  # as where a point takes longer than the wait between two looks
    found = swept(killers, tmp_path / "out", here, work=helper.work)
    failed = [row["set.seed"] for row in found.rows if row["status"] == "failed"]
    assert failed == list(KILLERS)
    assert found.counts == {"failed": 2, "ok": 8}
    assert "its worker died, and again with nothing else under way" in found.rows[3]["error"]


def test_the_same_on_a_cluster(tmp_path: Path, helper: Any) -> None:
    path = written(tmp_path / "one.yaml", grid={"seed": [*range(6)]})
    with dask_cluster(allowed_failures=0) as started:  # every death makes suspects, as here
        found = swept(path, tmp_path / "out", lambda: crew.Cluster(started.scheduler_address), work=helper.work)
    assert [row["status"] for row in found.rows] == ["failed" if row == 3 else "ok" for row in range(6)]
    assert "its worker died, and again" in found.rows[3]["error"]


def test_processes_that_cannot_begin_blame_no_point(
    killers: Path, tmp_path: Path, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_begin", helper.dead)
    with pytest.raises(crew.CrewError, match="die before they begin"):
        swept(killers, tmp_path / "out", here)
    assert not (tmp_path / "out" / "points").exists()


def test_workers_that_cannot_make_points_stop_the_sweep(
    killers: Path, tmp_path: Path, helper: Any, cluster: Any
) -> None:
    for name, who in (("here", here), ("there", lambda: crew.Cluster(cluster.scheduler_address))):
        with pytest.raises(crew.CrewError, match="is the same carbonfleet installed there"):
            swept(killers, tmp_path / name, who, work=helper.lost)


def test_from_the_command_line(tmp_path: Path, cluster: Any) -> None:
    path = written(tmp_path / "s.yaml", grid={"seed": [1, 2]})
    asked = [str(path), "-o", str(tmp_path / "out"), "--cluster", cluster.scheduler_address, "-q"]
    done = CliRunner().invoke(command, asked)
    assert done.exit_code == 0, done.output
    assert "2 points: 2 ok" in done.output


def test_a_cluster_without_workers_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "LOOK_S", 0.05)
    monkeypatch.setattr(crew, "EMPTY_S", 2 * crew.LOOK_S)
    path = written(tmp_path / "s.yaml", grid={"seed": [1, 2]})
    with dask_cluster(workers=0) as empty, pytest.raises(crew.CrewError, match="has no worker"):
        swept(path, tmp_path / "out", lambda: crew.Cluster(empty.scheduler_address))


def test_nobody_at_the_address(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "CONNECT_S", 0.5)
    with pytest.raises(crew.CrewError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        crew.Cluster("tcp://127.0.0.1:9")
    with pytest.raises(crew.CrewError, match="no Dask scheduler answers at what"):
        crew.Cluster("what")


def test_without_distributed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(crew.CrewError, match=r"carbonfleet\[cluster\]"):
        crew.Cluster("tcp://127.0.0.1:9")


def test_workers_leave_with_their_parent(helper: Any) -> None:
    """A parent that is killed, so that it can end nobody, leaves no process behind."""
    script = "import time\nfrom carbonfleet.sweep.crew import Here\nimport os\nif __name__ == '__main__':\n"
    script += "    crew = Here(1)\n    print(crew._pool.submit(os.getpid).result(), flush=True)\n    time.sleep(60)\n"
    place = Path(helper.__file__).with_name("parent.py")
    place.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen([sys.executable, str(place)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists() or not Path("/proc").exists()
        parent.kill()
    limit = time.monotonic() + 10
    while time.monotonic() < limit and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_task_is_small_and_plain(tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", grid={"seed": [1]})
    (point,) = design.read(path).points
    assert point.config is not None
    assert len(pickle.dumps(Task.of("scenario", point.config, True))) < 4000
