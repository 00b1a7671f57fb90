"""Columns of a run: in memory while a run is short, in temporary files when it is long.

A column in a file is mapped into memory: it is read and written like any other, and `release` lets go of what was
touched, so that a long run needs no more memory than a short one. The files have no name: they are gone when the
process ends, however it ends. Their room is taken when they are made, so that a full disk is an error, not a crash.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from profiles.outputs import OutputError

BLOCK = 1 << 18  # rows that are worked on at a time; a run of more requests keeps its columns in files
_PIECE = 1 << 20  # bytes written at a time

Floats = NDArray[np.float64]
Column = Any  # a memoryview: nearly as quick to index as a list, and an array to numpy
Code = Literal["B", "i", "q", "d"]


def blocks(size: int) -> Iterator[slice]:
    """The rows of a column, BLOCK at a time."""
    for first in range(0, size, BLOCK):
        yield slice(first, min(first + BLOCK, size))


class Shelf:
    """Columns of `size` values each.

    Args:
        folder: where temporary files go, made when it is first needed; default: the system's.
    """

    def __init__(self, size: int, folder: str | Path | None = None) -> None:
        self.size, self.folder = size, folder
        self.on_disk = size > BLOCK
        self.maps: list[mmap.mmap] = []

    def column(self, code: Code, fill: float = 0.0) -> Column:
        """A new column of one C type (as struct has them), filled with one value.

        Raises:
            OutputError: its file does not fit the disk.
        """
        kind = np.dtype(code)
        if not self.on_disk:
            return np.full(self.size, fill, kind).data
        with temporary(self.folder) as file, refused(self.folder):
            piece = np.full(_PIECE // kind.itemsize, fill, kind).tobytes()
            whole, rest = divmod(self.size * kind.itemsize, len(piece))
            for _ in range(whole):
                file.write(piece)
            file.write(piece[:rest])
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0)
        self.maps.append(mapped)
        return memoryview(mapped).cast(code)

    def release(self) -> None:
        """Let go of the memory of what was touched; the files keep it."""
        release(self.maps)

    def rows(self) -> Iterator[slice]:
        """The rows, a block at a time; what the block before it touched is let go."""
        for part in blocks(self.size):
            yield part
            self.release()


class Spool:
    """Rows that are appended and read again from the first: in memory while they are few, then in a file.

    Args:
        kind: their C type, as struct has them.
        width: values in a row.
        folder: as a shelf's.
    """

    def __init__(self, kind: Code, width: int = 1, folder: str | Path | None = None) -> None:
        self.kind, self.width, self.folder, self.size = np.dtype(kind), width, folder, 0
        self._parts: list[NDArray[Any]] = []
        self._pending = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows.

        Raises:
            OutputError: the disk is full.
        """
        self.size += len(rows)
        self._pending += len(rows)
        self._parts.append(np.ascontiguousarray(rows, self.kind).reshape(-1, self.width))
        if self._pending > BLOCK:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = temporary(self.folder)
            weakref.finalize(self, self._file.close)
        with refused(self.folder):
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        self._parts, self._pending = [], 0

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows in order, some at a time."""
        if self._file is not None:
            self._file.seek(0)
            while piece := self._file.read(self.kind.itemsize * self.width * BLOCK):
                yield np.frombuffer(piece, self.kind).reshape(-1, self.width)
        yield from self._parts

    def column(self) -> tuple[NDArray[Any], tuple[mmap.mmap, ...]]:
        """All values of a spool of width 1, which must not grow any more, and the map of their file if there is one."""
        if self._file is None:
            return np.concatenate([np.zeros((0, 1), self.kind), *self._parts]).ravel(), ()
        if self._parts:
            self._write()
        mapped = mmap.mmap(self._file.fileno(), 0)
        return np.frombuffer(mapped, self.kind), (mapped,)


def release(maps: Iterable[mmap.mmap]) -> None:
    """Let go of the memory of what was touched; the files keep it."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def temporary(folder: str | Path | None) -> IO[bytes]:
    """An empty file without a name.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    with refused(folder):
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)


@contextmanager
def refused(folder: str | Path | None) -> Iterator[None]:
    """Says in one line that a temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        where = folder if folder is not None else tempfile.gettempdir()
        what = f"{where}: cannot hold the run's temporary files ({error.strerror or error})"
        raise OutputError(f"{what}; free some space or write elsewhere") from error
