"""Ten million rows of Azure's format: seconds to read them, and what that adds to the process's memory.

    .venv/bin/python -m benchmarks.traces [ROWS]

The file is written to a temporary folder first. Reading is timed in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = """
import resource, sys, time
import numpy, pyarrow, pyarrow.csv, pyarrow.compute
from sim.trace import read_trace
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
trace = read_trace(sys.argv[1])
took = time.perf_counter() - began
added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
print(f"{trace.requests:,} rows: {took:.1f} s, {added:.0f} MB added")
"""


def write(path: Path, rows: int) -> None:
    """An Azure-format file of so many rows, .06 s apart."""
    with path.open("w", encoding="ascii") as stream:
        stream.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for first in range(0, rows, 100_000):
            index = np.arange(first, min(first + 100_000, rows))
            stamps = (np.datetime64("2024-05-10") + (index * 60_000_000).astype("timedelta64[ns]")).astype(str)
            prompts, outputs = index * 7919 % 4000 + 1, index * 104_729 % 900 + 1
            lines = (f"{t[:-2].replace('T', ' ')},{p},{o}\n" for t, p, o in zip(stamps, prompts, outputs, strict=True))
            stream.writelines(lines)


def main(arguments: list[str]) -> None:
    rows = int(arguments[0]) if arguments else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "azure.csv"
        write(path, rows)
        subprocess.run([sys.executable, "-c", CHILD, str(path)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
