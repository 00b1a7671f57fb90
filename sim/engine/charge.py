"""Who owns every second, joule and gram of the steps, from an instance's rows.

A decode step of B sequences at counter n costs a sequence of context x = offset + n its share a / B + c x seconds (and
so joules and grams). Summed over the rows between joining and leaving that is (A1 - A0) + offset (C1 - C0), with A the
running sum of a / B + c n and C that of c. Grams are joules times g/kWh until the books turn them into grams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.columns import Shelf
from sim.engine.clock import TIE_S
from sim.engine.leap import boundary_after, boundary_s
from sim.engine.ledger import Floats, Ledger


class Owned:
    """What the steps of a pool's instances gave the requests: seconds, joules, joules times g/kWh, a column each.

    Transfers of KV that left these instances are in joules and grams.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.busy_s, self.energy_j, self.gram_j = (np.frombuffer(shelf.column("d")) for _ in range(3))
        self.transfer_j = self.transfer_gram_j = 0.0

    def of(self, part: slice) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
        """Of some requests: those that were here, counted from the part's first, and what they own."""
        who = np.flatnonzero(self.busy_s[part])
        return who, self.busy_s[part][who], self.energy_j[part][who], self.gram_j[part][who]

    def charge(self, ledger: Ledger) -> None:
        """Add what a ledger's steps gave to whom."""
        if ledger.rows:
            _charge(ledger, self.busy_s, self.energy_j, self.gram_j)
        if ledger.transfers:
            index, at_s, _, joules = np.frombuffer(ledger.transfers).reshape(-1, 4).T
            grams = joules * ledger.window.at(np.ascontiguousarray(at_s))
            np.add.at(self.energy_j, index.astype(np.int64), joules)
            np.add.at(self.gram_j, index.astype(np.int64), grams)
            self.transfer_j += float(joules.sum())
            self.transfer_gram_j += float(grams.sum())


def _charge(ledger: Ledger, busy_s: Floats, energy_j: Floats, gram_j: Floats) -> None:
    rows = ledger.table()
    power_w, intensity = rows["power_w"], _mean_intensity(ledger, rows["from_s"], rows["to_s"])
    seconds, per_context_s = decode_seconds(rows)
    own_g, per_context_g = power_w * seconds * intensity, power_w * per_context_s * intensity
    _split_where_the_intensity_changes(ledger, rows, own_g, per_context_g)
    who, offset, first, after = ledger.stayed()
    owner, row, chunk_s = ledger.chunked()
    chunk_j = chunk_s * power_w[row]

    def share(column: Floats, own: Floats, per_context: Floats, of_chunk: Floats) -> None:
        a, c = _running(own), _running(per_context)
        np.add.at(column, who, (a[after] - a[first]) + offset * (c[after] - c[first]))
        np.add.at(column, owner, of_chunk)

    share(busy_s, seconds, per_context_s, chunk_s)
    share(energy_j, power_w * seconds, power_w * per_context_s, chunk_j)
    share(gram_j, own_g, per_context_g, chunk_j * intensity[row])


def decode_seconds(rows: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Seconds of each row that a sequence owns: apart from its offset, and per token of its offset."""
    steps, c_s = rows["steps"], rows["c_s"]
    seconds = rows["a_s"] * steps / np.maximum(rows["batch"], 1.0)
    return seconds + c_s * (rows["counter"] * steps + steps * (steps - 1.0) / 2.0), c_s * steps


def _running(values: Floats) -> Floats:
    return np.concatenate(([0.0], np.cumsum(values)))


def _mean_intensity(ledger: Ledger, from_s: Floats, to_s: Floats) -> Floats:
    """Mean g/kWh over each row; exactly the value in force where it does not change on the way."""
    window = ledger.window
    mean = window.at(from_s)
    changing = np.nonzero(window.next_edges_s(from_s) < to_s)[0]
    begins, ends = from_s[changing], to_s[changing]
    mean[changing] = (window.integral(ends) - window.integral(begins)) / (ends - begins)
    return mean


def _split_where_the_intensity_changes(
    ledger: Ledger, rows: dict[str, Floats], own_g: Floats, per_context_g: Floats
) -> None:
    """Put the grams of decode runs across a change right: stretches of one value, each straddling step by itself.

    Only the sequences that are there at a step own it, and contexts grow, so a run's grams are not its mean's.
    """
    changing = (ledger.window.next_edges_s(rows["from_s"]) < rows["to_s"]) & (rows["steps"] > 1.0)
    for i in np.nonzero(changing)[0]:
        row = {name: float(column[i]) for name, column in rows.items()}
        own_g[i], per_context_g[i] = _grams_across(ledger, row)


def _grams_across(ledger: Ledger, row: dict[str, float]) -> tuple[float, float]:
    """Joules times g/kWh of one run of decode steps across a change: own and per token of offset."""
    window, start_s, a_s, c_s = ledger.window, row["from_s"], row["a_s"], row["c_s"]
    batch, kv, counter, steps = (int(row[name]) for name in ("batch", "kv", "counter", "steps"))
    done, at_s, own_g, per_context_g = 0, start_s, 0.0, 0.0
    while done < steps:
        change_s = window.next_edge_s(at_s)
        until, to_s = steps, row["to_s"]
        if to_s > change_s:
            until, to_s = boundary_after(start_s, a_s, c_s, batch, kv, change_s + TIE_S, done + 1, steps)
            if until - done > 1 and to_s > change_s:
                until -= 1
                to_s = boundary_s(start_s, a_s, c_s, batch, kv, until)
        count, first = until - done, counter + done
        seconds = a_s * count / batch + c_s * (first * count + count * (count - 1) // 2)
        inside = to_s <= change_s
        intensity = window.at(at_s) if inside else (window.integral(to_s) - window.integral(at_s)) / (to_s - at_s)
        own_g += row["power_w"] * seconds * intensity
        per_context_g += row["power_w"] * (c_s * count) * intensity
        done, at_s = until, to_s
    return own_g, per_context_g
