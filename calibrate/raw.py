"""The meter's raw samples as Parquet, beside the profile: who doubts a figure can draw its window again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibrate.checkpoint import Checkpoint
from profiles.outputs import write_with

COLUMNS = ("point", "repeat", "at_s", "energy_j", "power_w", "sm_clock_mhz", "temperature_c")


def write_samples(record: Checkpoint, path: Path) -> Path:
    """One row a sample: point, repeat (from 0), seconds since the window's first sample, J, W, MHz, C.

    Raises:
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for label, repeats in record.samples.items():
        for repeat, samples in enumerate(repeats):
            for at_s, *rest in samples:
                row = (label, repeat, at_s - samples[0][0], *rest)
                for name, value in zip(COLUMNS, row, strict=True):
                    columns[name].append(value)
    types = [pa.string(), pa.int32(), *[pa.float64()] * 5]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    made = pa.table(columns, schema=schema)

    def fill(part: Path) -> None:
        pq.write_table(made, part, compression="zstd", use_dictionary=["point"])

    return write_with(path, fill)
