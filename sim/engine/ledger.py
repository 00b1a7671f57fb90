"""One instance's record of its steps, and who sat in them.

While it runs an instance only writes rows down; `sim.engine.charge` turns them into seconds, joules and grams
afterwards, all at once. A row is a run of steps with an unchanged batch: decode steps, one mixed step, or one prefill
step. Rows are packed, so that a request costs a few hundred bytes and no object.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from profiles.grid import Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# When a sequence joined the batch: its offset (context minus decode counter), the decode counter at which its last
# token is made, and the end of the ledger's rows in bytes. A bare tuple: one is made for every request.
Mark = tuple[int, int, int]

# What a row holds. Each of `batch` sequences of context x owns steps * (a_s / batch + c_s * x) seconds of it.
_MEASURES, _COUNTS = ("from_s", "to_s", "power_w", "a_s", "c_s"), ("batch", "kv", "counter", "steps", "gaps")
ROW = _MEASURES + _COUNTS
_ROW = np.dtype([*((name, "f8") for name in _MEASURES), *((name, "i8") for name in _COUNTS)])
_CHUNK = np.dtype([("request", "i8"), ("end", "i8"), ("seconds", "f8")])
pack_row = Struct("5d5q").pack
# How the gaps between tokens follow from a row: not at all, from a + c K of each step, from the whole row.
NO_GAPS, GAPS_BY_STEP, GAP_OF_ROW = 0, 1, 2

pack_stay = Struct("4q").pack  # request, offset, end of the rows in bytes when it joined and when it left
pack_chunk = Struct("2qd").pack  # request, end of the rows in bytes before the step's own, seconds
pack_gaps = Struct("4d").pack  # gaps that no row tells: first, last, how many, for how many sequences
pack_transfer = Struct("4d").pack  # request, from_s, to_s, joules: KV that left over a link
pack_off = Struct("4d").pack  # from_s, to_s, watts, counted as off: not serving, at other than idle power


class Ledger:
    """Rows of one instance, the stays of sequences in its batch, the chunks it prefilled, and odd gaps.

    In a long run only what `sim.engine.past` has not added up yet.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.rows, self.stays, self.chunks, self.odd_gaps = bytearray(), bytearray(), bytearray(), bytearray()
        self.transfers, self.off = bytearray(), bytearray()
        self.extrapolated_s = 0.0

    def gap(self, first_s: float, last_s: float, steps: int, sequences: int) -> None:
        """Record gaps between tokens that no row tells: `steps` rising evenly, for each of so many sequences."""
        self.odd_gaps += pack_gaps(first_s, last_s, steps, sequences)

    def forget(self) -> None:
        """Begin anew: all was added up, and the marks of running sequences begin at the first row."""
        for record in (self.rows, self.stays, self.chunks, self.odd_gaps, self.transfers):
            record.clear()

    def column(self, name: str) -> Floats:
        """One column of the rows so far, by its name in `ROW`."""
        return np.frombuffer(self.rows, _ROW)[name].astype(float)

    def table(self) -> dict[str, Floats]:
        """All columns of the rows so far, by name."""
        return {name: self.column(name) for name in ROW}

    def stayed(self) -> tuple[Ints, Floats, Ints, Ints]:
        """The stays so far.

        Returns:
            request, offset, first row, row after the last.
        """
        index, offset, joined, left = np.frombuffer(self.stays, np.int64).reshape(-1, 4).T
        return index, offset.astype(float), joined // _ROW.itemsize, left // _ROW.itemsize

    def chunked(self) -> tuple[Ints, Ints, Floats]:
        """The chunks so far.

        Returns:
            request, row, seconds.
        """
        chunks = np.frombuffer(self.chunks, _CHUNK)
        return chunks["request"], chunks["end"] // _ROW.itemsize, chunks["seconds"]

    def gaps(self) -> tuple[Floats, Floats, Floats, Floats]:
        """All gaps between tokens: `steps` gaps rising evenly from first to last, each for `batch` sequences.

        Returns:
            first_s, last_s, steps, batch: one entry a run of steps.
        """
        rows = self.table()
        rows = {name: column[rows["gaps"] != NO_GAPS] for name, column in rows.items()}
        whole = rows["gaps"] == GAP_OF_ROW
        first = np.where(whole, rows["to_s"] - rows["from_s"], rows["a_s"] + rows["c_s"] * rows["kv"])
        last = first + np.where(whole, 0.0, rows["c_s"] * (rows["batch"] * (rows["steps"] - 1.0)))
        odd = np.frombuffer(self.odd_gaps).reshape(-1, 4).T
        mine = (first, last, rows["steps"], rows["batch"])
        first, last, steps, batch = (np.concatenate(pair) for pair in zip(mine, odd, strict=True))
        return first, last, steps, batch
