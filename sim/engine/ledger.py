"""One instance's meters: who owns every second, joule and gram of its steps, and the power timeline beside them.

A decode step of B sequences at counter n costs a sequence of context x = offset + n its share a / B + c x seconds (and
so joules and grams). Summed from counter n0 to n1 that is (A1 - A0) + offset (C1 - C0), with A the running sum of
a / B + c n and C that of c: constant work when a sequence joins and when it leaves.
"""

from __future__ import annotations

from array import array

from profiles.grid import Window
from sim.engine.requests import Requests

# The meters when a sequence joined the batch: its offset (context minus decode counter), the decode counter at which
# its last token is made, then a_s, c_s, a_j, c_j, a_g, c_g. A bare tuple: one is made for every request.
Mark = tuple[int, int, float, float, float, float, float, float]


class Ledger:
    """Running counters and the timeline of one instance; grams are joules times g/kWh until the end."""

    def __init__(self, requests: Requests, window: Window) -> None:
        self.requests = requests
        self._edges: list[float] = [*window.edges_s.tolist()[1:-1], float("inf")]
        self._values: list[float] = window.g_per_kwh.tolist()
        self._hour = 0
        self._edge_s: float = self._edges[0]  # end and value of the present stretch of one intensity
        self._value: float = self._values[0]
        self.a_s = self.c_s = self.a_j = self.c_j = self.a_g = self.c_g = 0.0
        # power timeline: busy stretches
        self.from_s, self.to_s, self.power_w = array("d"), array("d"), array("d")
        # gaps between tokens: `steps` gaps rising evenly from first to last, each for `batch` sequences
        self.gap_first_s, self.gap_last_s = array("d"), array("d")
        self.gap_steps, self.gap_batch = array("l"), array("l")
        self.extrapolated_s = 0.0
        self._busy = self.from_s.append, self.to_s.append, self.power_w.append
        self._gaps = self.gap_first_s.append, self.gap_last_s.append, self.gap_steps.append, self.gap_batch.append

    def charge(self, index: int, mark: Mark) -> None:
        """Hand a sequence that leaves its share of the decode steps since it joined."""
        offset, _, a_s, c_s, a_j, c_j, a_g, c_g = mark
        requests = self.requests
        requests.busy_s[index] += (self.a_s - a_s) + offset * (self.c_s - c_s)
        requests.energy_j[index] += (self.a_j - a_j) + offset * (self.c_j - c_j)
        requests.gram_j[index] += (self.a_g - a_g) + offset * (self.c_g - c_g)

    def restart(self) -> None:
        """Back to zero while the batch is empty, so that long runs lose no digits."""
        self.a_s = self.c_s = self.a_j = self.c_j = self.a_g = self.c_g = 0.0

    def gaps(self, first_s: float, last_s: float, steps: int, batch: int) -> None:
        """Record `steps` gaps between tokens for each of `batch` sequences."""
        add_first, add_last, add_steps, add_batch = self._gaps
        add_first(first_s)
        add_last(last_s)
        add_steps(steps)
        add_batch(batch)

    def next_change_s(self, time_s: float) -> float:
        """When the intensity changes after `time_s` (infinity when it does not); the meters only move forward."""
        while time_s >= self._edge_s:
            self._hour += 1
            self._edge_s, self._value = self._edges[self._hour], self._values[self._hour]
        return self._edge_s

    def intensity(self, from_s: float, to_s: float) -> float:
        """Mean g/kWh over a stretch."""
        if to_s <= self.next_change_s(from_s):
            return self._value
        total, at, hour = 0.0, from_s, self._hour
        while to_s > self._edges[hour]:
            total += self._values[hour] * (self._edges[hour] - at)
            at = self._edges[hour]
            hour += 1
        return (total + self._values[hour] * (to_s - at)) / (to_s - from_s)

    def busy(self, from_s: float, to_s: float, power_w: float) -> None:
        """Extend the power timeline."""
        add_from, add_to, add_power = self._busy
        add_from(from_s)
        add_to(to_s)
        add_power(power_w)

    def steps(
        self,
        from_s: float,
        to_s: float,
        power_w: float,
        gap_s: tuple[float, float] | None,
        steps: int,
        batch: int,
        seconds: float,
        per_context_s: float,
    ) -> bool:
        """Book a run of decode steps at once; False, and nothing booked, when the intensity changes on the way.

        `gap_s` are the first and last gap between tokens (None where the caller records them), `seconds` and
        `per_context_s` as for `decode`.
        """
        if to_s > self._edge_s and to_s > self.next_change_s(from_s):
            return False
        add_from, add_to, add_power = self._busy
        add_from(from_s)
        add_to(to_s)
        add_power(power_w)
        if gap_s is not None:
            add_first, add_last, add_steps, add_batch = self._gaps
            add_first(gap_s[0])
            add_last(gap_s[1])
            add_steps(steps)
            add_batch(batch)
        self.a_s += seconds
        self.c_s += per_context_s
        joules, per_context_j = power_w * seconds, power_w * per_context_s
        self.a_j += joules
        self.c_j += per_context_j
        intensity = self._value
        self.a_g += joules * intensity
        self.c_g += per_context_j * intensity
        return True

    def decode(self, seconds: float, per_context_s: float, power_w: float, intensity: float) -> None:
        """Turn the counters by a run of decode steps: sums of a / B + c n and of c over the steps."""
        joules, per_context_j = power_w * seconds, power_w * per_context_s
        self.a_s += seconds
        self.c_s += per_context_s
        self.a_j += joules
        self.c_j += per_context_j
        self.a_g += joules * intensity
        self.c_g += per_context_j * intensity

    def prefill(self, index: int, seconds: float, power_w: float, intensity: float) -> None:
        """Charge one request its part of a prefill step."""
        joules = power_w * seconds
        requests = self.requests
        requests.busy_s[index] += seconds
        requests.energy_j[index] += joules
        requests.gram_j[index] += joules * intensity
