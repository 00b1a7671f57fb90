"""requests.parquet and timeline.parquet: one row a request, one row a minute and pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from profiles.outputs import write_with
from sim.engine.minutes import minute_edges
from sim.engine.requests import COMPLETED, REJECTED, Requests
from sim.metrics import Latencies
from sim.off import Spans

if TYPE_CHECKING:
    from sim.account import PoolBooks
    from sim.engine.past import Past
    from sim.run import Run

_STATUS = {0: "unfinished", COMPLETED: "completed", REJECTED: "rejected"}


def requests_table(run: Run) -> Any:
    """The request table as an Arrow table; docs/metrics.md defines the columns."""
    import pyarrow as pa

    return pa.concat_tables([*request_blocks(run)])


def request_blocks(run: Run) -> Iterator[Any]:
    """The request table in parts, so that a long one never need be in memory as a whole."""
    for part in run.played.requests.shelf.rows():
        yield _request_rows(run, part)


def _request_rows(run: Run, part: slice) -> Any:
    import pyarrow as pa

    requests, classes, trace = run.played.requests, run.scenario.slo_classes, run.trace
    latencies = Latencies.of(requests, part)
    size = latencies.completed.size
    mine = None if trace.slo_class is None else trace.slo_class[part]
    status, instance = np.asarray(requests.status[part]), np.asarray(requests.instance[part])
    starts = np.array([pool.numbers.start for pool in run.pools])
    pool_of = np.searchsorted(starts, instance, side="right") - 1
    energy_j, operational_g, embodied_g, idle_share_g = run.shares.of(part)

    def words(texts: list[str], codes: NDArray[Any]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts))

    def blank(values: NDArray[np.float64]) -> Any:
        return pa.array(values, from_pandas=True)  # NaN becomes null

    specs = [pool.spec for pool in run.pools]
    return pa.table(
        {
            "request_id": pa.array(np.arange(part.start, part.start + size)),
            "arrival_s": pa.array(trace.arrival_s[part]),
            "site": words([spec.site for spec in specs], pool_of),
            "pool": words([spec.name for spec in specs], pool_of),
            "model": words([spec.model for spec in specs], pool_of),
            "slo_class": words([each.name for each in classes], np.zeros(size, np.int32) if mine is None else mine),
            "prompt_tokens": pa.array(trace.prompt_tokens[part]),
            "output_tokens": pa.array(trace.output_tokens[part]),
            "ttft_s": blank(latencies.ttft_s),
            "tpot_s": blank(latencies.tpot_s),
            "e2e_s": blank(latencies.e2e_s),
            "queue_s": blank(latencies.queue_s),
            "slo_met": pa.array(latencies.kept(classes, mine)),
            "energy_j": pa.array(energy_j),
            "operational_g": pa.array(operational_g),
            "embodied_g": pa.array(embodied_g),
            "idle_share_g": pa.array(idle_share_g),
            "status": words(list(_STATUS.values()), status.astype(np.int32)),
        }
    )


def write_requests(run: Run, path: Path) -> None:
    """Write requests.parquet, one row group a block."""
    _write(request_blocks(run), path, ["site", "pool", "model", "slo_class", "status"])


def timeline_table(run: Run) -> Any:
    """Power, share of time busy, requests waiting and running, and intensity by minute and pool, over the horizon."""
    import pyarrow as pa

    parts = [_pool_timeline(run, book, past) for book, past in zip(run.books, run.played.pasts, strict=True)]
    return pa.concat_tables(parts)


def _pool_timeline(run: Run, book: PoolBooks, past: Past) -> Any:
    import pyarrow as pa

    pool = book.pool
    edges = minute_edges(run.horizon_s)
    width = np.diff(edges)
    busy_s, busy_j, batch_s, kv_s = past.by_minute(edges)
    off = run.off[pool.spec.name]
    off_s, off_j = _over([*off.instances], edges)
    idle_j = pool.model.idle_w * (pool.spec.engines * width - busy_s - off_s) + off_j
    _, host_off_j = _over([off.hosts], edges)
    _, spare_off_j = _over([off.spares], edges)
    window = pool.site.window
    host_w = pool.units * pool.host.power_w if run.scenario.accounting.host_power else 0.0
    spare_w = pool.spare_gpus * pool.model.idle_w / pool.spec.tp
    power_w = ((busy_j + idle_j - host_off_j - spare_off_j) / width + spare_w + host_w) * pool.pue
    intensity = np.diff(window.integral(edges)) / width
    waiting, running = _present(run, pool.numbers, edges)
    return pa.table(
        {
            "time_s": pa.array(edges[:-1]),
            "pool": pa.array([pool.spec.name] * width.size),
            "gpu_power_w": pa.array((busy_j + idle_j) / width),
            "on_share": pa.array(1.0 - off_s / (pool.spec.engines * width)),
            "busy_share": pa.array(busy_s / (pool.spec.engines * width)),
            "power_w": pa.array(power_w),
            "batch": pa.array(batch_s / (pool.spec.engines * width)),
            "kv_share": pa.array(kv_s / (pool.spec.engines * pool.model.kv_capacity_tokens * width)),
            "clock": pa.array(_clock(run, pool.numbers, edges)),
            "waiting": pa.array(waiting),
            "running": pa.array(running),
            "intensity_g_per_kwh": pa.array(intensity),
            "operational_g_per_h": pa.array(power_w * intensity / 1000.0),
        }
    )


def _clock(run: Run, numbers: range, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean share of the full SM clock over the instances of a pool; 1 where no control changes it."""
    lost_s = np.zeros(edges.size - 1)
    since: dict[int, tuple[float, float]] = {}
    changes = run.played.controls.world.clocks.changes if run.played.controls else []
    ends = [(edges[-1], number, 1.0) for number in numbers]
    for time_s, number, clock in [*(c for c in changes if c[1] in numbers), *ends]:
        from_s, before = since.get(number, (0.0, 1.0))
        if before != 1.0:
            inside = np.clip(np.minimum(time_s, edges[1:]) - np.maximum(from_s, edges[:-1]), 0.0, None)
            lost_s += (1.0 - before) * inside
        since[number] = time_s, clock
    share: NDArray[np.float64] = 1.0 - lost_s / (len(numbers) * np.diff(edges))
    return share


def _over(spans: list[Spans], edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds and joules of stretches between the edges; those of one list never overlap."""
    seconds, joules = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for one in spans:
        for a, b, watts in zip(one.from_s, one.to_s, one.watts, strict=True):
            inside = np.clip(np.minimum(b, edges[1:]) - np.maximum(a, edges[:-1]), 0.0, None)
            seconds += inside
            joules += watts * inside
    return seconds, joules


def _present(run: Run, numbers: range, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean requests of a pool that wait for their first step, and that are being served, between the edges.

    What was preempted counts as served. A run that was stopped holds its unfinished requests to the end.
    """
    requests, end = run.played.requests, edges[-1]
    came, began, left = np.zeros((3, edges.size))
    for part in requests.shelf.rows():
        status = np.asarray(requests.status[part])
        columns, mine = _stages(requests, part, numbers)
        mine &= status != REJECTED
        arrival, start, finish = (column[mine] for column in columns)
        done = (status[mine] == COMPLETED) & ~np.isnan(finish)
        start = np.where(done | (start > arrival), start, end)
        finish = np.where(done, finish, end)
        for sums, at in ((came, arrival), (began, start), (left, finish)):
            sums += _since(edges, np.minimum(at, end))
    in_all, in_service, gone = (np.diff(sums) / np.diff(edges) for sums in (came, began, left))
    return np.maximum(0.0, in_all - in_service), np.maximum(0.0, in_service - gone)


def _within(instance: NDArray[np.int64], numbers: range) -> NDArray[np.bool_]:
    return (instance >= numbers.start) & (instance < numbers.stop)


def _stages(
    requests: Requests, part: slice, numbers: range
) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.bool_]]:
    """When each of some requests came to these instances, began and left; and which of them came here.

    Where one prefills and another decodes, a request comes to both.
    """
    arrival, start = requests.trace.arrival_s[part], np.asarray(requests.start_s[part])
    finish, last = np.asarray(requests.finish_s[part]), np.asarray(requests.instance[part])
    if requests.prefiller is None:
        return (arrival, start, finish), _within(last, numbers)
    first, handed = np.asarray(requests.first_token_s[part]), np.asarray(requests.prefiller[part]) - 1
    here_first, here_last = _within(np.where(handed < 0, last, handed), numbers), _within(last, numbers) & (handed >= 0)
    columns = (
        np.where(here_last, first, arrival),
        np.where(here_last, first, start),
        np.where(here_last | (handed < 0), finish, first),
    )
    return columns, here_first | here_last


def _since(at_s: NDArray[np.float64], events_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Up to each of `at_s`: the seconds that have passed since every earlier event, added up."""
    ordered = np.sort(events_s)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, at_s, side="left")
    passed: NDArray[np.float64] = count * at_s - sums[count]
    return passed


def write_timeline(run: Run, path: Path) -> None:
    """Write timeline.parquet."""
    _write([timeline_table(run)], path, ["pool"])


def _write(tables: Iterable[Any], path: Path, words: list[str]) -> None:
    import pyarrow.parquet as pq

    def fill(part: Path) -> None:
        parts = iter(tables)
        table = next(parts)
        with pq.ParquetWriter(part, table.schema, compression="zstd", use_dictionary=words) as writer:
            writer.write_table(table)
            for table in parts:
                writer.write_table(table)

    write_with(path, fill)
