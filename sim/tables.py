"""requests.parquet and timeline.parquet: one row a request, one row a minute and pool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from profiles.outputs import write_with
from sim.engine.ledger import ROW_BYTES, Ledger
from sim.engine.requests import COMPLETED, REJECTED, Requests
from sim.metrics import Latencies
from sim.off import Spans

if TYPE_CHECKING:
    from sim.account import PoolBooks
    from sim.run import Run

TIMELINE_S = 60.0
_STATUS = {0: "unfinished", COMPLETED: "completed", REJECTED: "rejected"}


def requests_table(run: Run) -> Any:
    """The request table as an Arrow table; docs/metrics.md defines the columns."""
    import pyarrow as pa

    requests, classes = run.played.requests, run.scenario.slo_classes
    of_class = run.trace.slo_class if run.trace.slo_class is not None else np.zeros(requests.size, dtype=np.int32)
    latencies = Latencies.of(requests)
    status = np.frombuffer(requests.status, dtype=np.uint8)
    instance = np.frombuffer(requests.instance, dtype=np.int64)
    starts = np.array([pool.numbers.start for pool in run.pools])
    pool_of = np.searchsorted(starts, instance, side="right") - 1

    def words(texts: list[str], codes: NDArray[Any]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(texts))

    def blank(values: NDArray[np.float64]) -> Any:
        return pa.array(values, from_pandas=True)  # NaN becomes null

    specs = [pool.spec for pool in run.pools]
    return pa.table(
        {
            "request_id": pa.array(np.arange(requests.size)),
            "arrival_s": pa.array(run.trace.arrival_s),
            "site": words([spec.site for spec in specs], pool_of),
            "pool": words([spec.name for spec in specs], pool_of),
            "model": words([spec.model for spec in specs], pool_of),
            "slo_class": words([each.name for each in classes], of_class),
            "prompt_tokens": pa.array(run.trace.prompt_tokens),
            "output_tokens": pa.array(run.trace.output_tokens),
            "ttft_s": blank(latencies.ttft_s),
            "tpot_s": blank(latencies.tpot_s),
            "e2e_s": blank(latencies.e2e_s),
            "queue_s": blank(latencies.queue_s),
            "slo_met": pa.array(latencies.kept(classes, run.trace.slo_class)),
            "energy_j": pa.array(run.shares.energy_j),
            "operational_g": pa.array(run.shares.operational_g),
            "embodied_g": pa.array(run.shares.embodied_g),
            "idle_share_g": pa.array(run.shares.idle_share_g),
            "status": words(list(_STATUS.values()), status.astype(np.int32)),
        }
    )


def write_requests(run: Run, path: Path) -> None:
    """Write requests.parquet."""
    _write(requests_table(run), path, ["site", "pool", "model", "slo_class", "status"])


def timeline_table(run: Run) -> Any:
    """Power, share of time busy, requests waiting and running, and intensity by minute and pool, over the horizon."""
    import pyarrow as pa

    parts = [_pool_timeline(run, book) for book in run.books]
    return pa.concat_tables(parts)


def _pool_timeline(run: Run, book: PoolBooks) -> Any:
    import pyarrow as pa

    pool = book.pool
    edges = np.append(np.arange(0.0, run.horizon_s, TIMELINE_S), run.horizon_s)
    width = np.diff(edges)
    busy_s, busy_j, batch_s, kv_s = (np.zeros(width.size) for _ in range(4))
    for number in pool.numbers:
        ledger = run.played.instances[number].ledger
        from_s, to_s, power_w = (ledger.column(name) for name in ("from_s", "to_s", "power_w"))
        busy_s += np.diff(_cumulative(edges, from_s, to_s, np.ones_like(power_w)))
        busy_j += np.diff(_cumulative(edges, from_s, to_s, power_w))
        batch_s += np.diff(_cumulative(edges, from_s, to_s, ledger.column("batch")))
        kv_s += np.diff(_cumulative(edges, from_s, to_s, held_tokens(ledger)))
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


def held_tokens(ledger: Ledger) -> NDArray[np.float64]:
    """KV tokens of the running sequences, by row of a ledger: the mean over its steps."""
    rows = ledger.table()
    _, offset, joined, left = np.frombuffer(ledger.stays).reshape(-1, 4).T
    change = np.zeros(rows["batch"].size + 1)
    np.add.at(change, (joined // ROW_BYTES).astype(np.int64), offset)
    np.add.at(change, (left // ROW_BYTES).astype(np.int64), -offset)
    held: NDArray[np.float64] = np.cumsum(change)[:-1]
    return held + rows["batch"] * (rows["counter"] + 0.5 * np.maximum(rows["steps"] - 1.0, 0.0))


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
    status = np.frombuffer(requests.status, dtype=np.uint8)
    last = np.frombuffer(requests.instance, dtype=np.int64)
    columns: tuple[NDArray[np.float64], ...]
    if requests.prefiller is None:
        mine = _within(last, numbers) & (status != REJECTED)
        columns = (np.array(requests.arrival_s), np.frombuffer(requests.start_s), np.frombuffer(requests.finish_s))
    else:
        handed = np.frombuffer(requests.prefiller, dtype=np.int64) - 1
        columns, mine = _handed_over(requests, last, handed, numbers)
        mine &= status != REJECTED
    arrival, start, finish = (column[mine] for column in columns)
    done = (status[mine] == COMPLETED) & ~np.isnan(finish)
    start = np.where(done | (start > arrival), start, end)
    finish = np.where(done, finish, end)
    width = np.diff(edges)
    came, began, left = (np.diff(_since(edges, np.minimum(at, end))) / width for at in (arrival, start, finish))
    return np.maximum(0.0, came - began), np.maximum(0.0, began - left)


def _within(instance: NDArray[np.int64], numbers: range) -> NDArray[np.bool_]:
    return (instance >= numbers.start) & (instance < numbers.stop)


def _handed_over(
    requests: Requests, last: NDArray[np.int64], handed: NDArray[np.int64], numbers: range
) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.bool_]]:
    """When each request came to these instances, began and left, where one prefills and another decodes."""
    arrival, start = np.array(requests.arrival_s), np.frombuffer(requests.start_s)
    first, finish = np.frombuffer(requests.first_token_s), np.frombuffer(requests.finish_s)
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


def _cumulative(
    at_s: NDArray[np.float64], from_s: NDArray[np.float64], to_s: NDArray[np.float64], rate: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The integral up to each of `at_s` of a rate that holds over disjoint ascending stretches."""
    if not from_s.size:
        return np.zeros(at_s.size)
    knots = np.empty(2 * from_s.size)
    knots[0::2], knots[1::2] = from_s, to_s
    sums = np.empty(2 * from_s.size)
    sums[1::2] = np.cumsum(rate * (to_s - from_s))
    sums[0::2] = sums[1::2] - rate * (to_s - from_s)
    return np.interp(at_s, knots, sums)


def write_timeline(run: Run, path: Path) -> None:
    """Write timeline.parquet."""
    _write(timeline_table(run), path, ["pool"])


def _write(table: Any, path: Path, words: list[str]) -> None:
    import pyarrow.parquet as pq

    write_with(path, lambda part: pq.write_table(table, part, compression="zstd", use_dictionary=words))
