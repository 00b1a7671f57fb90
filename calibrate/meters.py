"""Meters beside NVML: RAPL's counters, wall power from a CSV that something else writes, several as one, none."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from calibrate.errors import BenchError, NoMeter
from calibrate.meter import Device, Kind, Meter, State, cpu_device
from profiles.inputs import InputError

RAPL_ROOT = Path("/sys/class/powercap")
STALE_S = 10.0


class RaplMeter:
    """Energy of all CPU packages and their DRAM, from Linux's powercap counters, which wrap.

    Args:
        root: where powercap lies; another one for tests and containers.

    Raises:
        NoMeter: there is no counter, or it may not be read.
    """

    kind: Kind = "rapl"
    gain_rel = 0.05  # against wall meters RAPL is within a few per cent on servers; its own limit is not published

    def __init__(self, root: Path = RAPL_ROOT) -> None:
        packages = sorted(root.glob("intel-rapl:[0-9]*"))
        zones = [zone for zone in packages if zone.name.count(":") == 1]
        zones += [zone for zone in packages if zone.name.count(":") == 2 and _word(zone / "name") == "dram"]
        if not zones:
            raise NoMeter(f"no RAPL counter under {root}")
        try:
            self._zones = [(zone / "energy_uj", float(_word(zone / "max_energy_range_uj"))) for zone in zones]
            self._last = [float(_word(file)) for file, _ in self._zones]
        except (OSError, ValueError) as error:
            raise NoMeter(f"RAPL under {root} cannot be read ({error}); it needs root since Linux 5.10") from error
        self._sum_uj = 0.0

    def device(self) -> Device:
        """This machine's CPU."""
        return cpu_device({"energy reading": f"RAPL, {len(self._zones)} counters"})

    def refusals(self, shared: bool = False) -> list[str]:
        """Nothing: other processes are part of the reading, and the notes say so."""
        return []

    def has_context(self) -> bool:
        """A CPU has no contexts."""
        return False

    def energy_j(self) -> float:
        """Joules since this meter was made; a counter that fell has wrapped.

        Raises:
            BenchError: a counter stopped answering.
        """
        for k, (file, span) in enumerate(self._zones):
            try:
                now = float(_word(file))
            except (OSError, ValueError) as error:
                raise BenchError(f"RAPL stopped answering ({error}); start again with the checkpoint") from error
            step = now - self._last[k]
            self._sum_uj += step if step >= 0 else step + span
            self._last[k] = now
        return self._sum_uj * 1e-6

    def power_w(self) -> None:
        """RAPL knows energy alone."""
        return

    def state(self) -> State:
        """Nothing is known."""
        return State()

    def close(self) -> None:
        """Nothing to give back."""


class CsvMeter:
    """Wall power that a PDU's logger appends to a CSV: a time (epoch seconds or ISO 8601) and watts a row.

    Energy is the trapezoid over the rows seen so far, so a reading lags by a row.

    Args:
        path: the file; it must be growing.

    Raises:
        InputError: no such columns, or a row that is no time and power.
        NoMeter: the file's last row is older than STALE_S: nobody is writing it.
    """

    kind: Kind = "csv"
    gain_rel = 0.02  # class 1 to 2 metering of rack PDUs

    def __init__(self, path: str | Path) -> None:
        self._path, self._at, self._line = Path(path), 0, 1
        self._columns: tuple[int, int] | None = None
        self._last: tuple[float, float] | None = None
        self._joules = 0.0
        self._read()
        if self._last is None or time.time() - self._last[0] > STALE_S:
            raise NoMeter(f"{path} has no row of the last {STALE_S:g} s; is its logger running?")

    def device(self) -> Device:
        """The machine behind the plug."""
        return cpu_device({"energy reading": f"wall power of {self._path.name}: the whole machine"})

    def refusals(self, shared: bool = False) -> list[str]:
        """Nothing."""
        return []

    def has_context(self) -> bool:
        """A plug has no contexts."""
        return False

    def energy_j(self) -> float:
        """Joules over the rows so far."""
        self._read()
        return self._joules

    def power_w(self) -> float | None:
        """The last row's watts."""
        self._read()
        return self._last[1] if self._last else None

    def state(self) -> State:
        """Nothing is known."""
        return State()

    def close(self) -> None:
        """Nothing to give back."""

    def _read(self) -> None:
        """Take in what was appended; a line still being written waits."""
        try:
            with self._path.open(encoding="utf-8") as stream:
                stream.seek(self._at)
                text = stream.read()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read ({error})", file=self._path) from error
        whole = text[: text.rfind("\n") + 1]
        self._at += len(whole.encode("utf-8"))
        for row in csv.reader(whole.splitlines()):
            self._take(row)
            self._line += 1

    def _take(self, row: list[str]) -> None:
        if self._columns is None:
            names = [name.strip().casefold() for name in row]
            times = [k for k, name in enumerate(names) if "time" in name]
            watts = [k for k, name in enumerate(names) if name in ("power_w", "watts", "w", "power")]
            if not times or not watts:
                what = "needs a header with a time and power_w"
                raise InputError(what, file=self._path, line=1, mend="write time,power_w")
            self._columns = (times[0], watts[0])
            return
        try:
            at, watts_now = _epoch_s(row[self._columns[0]]), float(row[self._columns[1]])
        except (ValueError, IndexError) as error:
            raise InputError("is no time and power", file=self._path, line=self._line) from error
        if not 0.0 <= watts_now < 1e7:
            raise InputError(f"{watts_now} W cannot be", file=self._path, line=self._line, field="power_w")
        if self._last is not None:
            if at < self._last[0]:
                raise InputError("time runs back", file=self._path, line=self._line, field="time")
            self._joules += 0.5 * (watts_now + self._last[1]) * (at - self._last[0])
        self._last = (at, watts_now)


class NullMeter:
    """No meter: times alone are measured and power stays unknown."""

    kind: Kind = "none"
    gain_rel = 0.0

    def device(self) -> Device:
        """This machine's CPU, for want of better knowledge."""
        return cpu_device({"energy reading": "none"})

    def refusals(self, shared: bool = False) -> list[str]:
        """Nothing."""
        return []

    def has_context(self) -> bool:
        """Unknown, so no bare idle is measured."""
        return True

    def energy_j(self) -> None:
        """Unknown."""
        return

    def power_w(self) -> None:
        """Unknown."""
        return

    def state(self) -> State:
        """Nothing is known."""
        return State()

    def close(self) -> None:
        """Nothing to give back."""


class SumMeter:
    """Several GPUs as one: joules and watts summed, the hottest temperature, the slowest clock, every reason."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = meters
        self.kind: Kind = meters[0].kind
        self.gain_rel = meters[0].gain_rel  # boards may err alike, so the error is not averaged away

    def device(self) -> Device:
        """The first GPU, with all UUIDs, memory and limits summed.

        Raises:
            BenchError: the GPUs are of different types.
        """
        found = [meter.device() for meter in self._meters]
        if len({device.name for device in found}) > 1:
            raise BenchError(f"different GPUs ({', '.join(device.name for device in found)}); choose equal ones")
        memory = [device.memory_bytes for device in found]
        limits = [device.power_limit_w for device in found]
        return Device(
            found[0].name,
            ",".join(device.uuid for device in found),
            sum(memory) if all(memory) else None,  # type: ignore[arg-type]  # all() has looked
            sum(limits) if all(limits) else None,  # type: ignore[arg-type]
            found[0].driver,
            found[0].facts,
        )

    def refusals(self, shared: bool = False) -> list[str]:
        """Every GPU's."""
        return [f"{meter.device().uuid}: {text}" for meter in self._meters for text in meter.refusals(shared)]

    def has_context(self) -> bool:
        """Whether this process holds any of them."""
        return any(meter.has_context() for meter in self._meters)

    def energy_j(self) -> float | None:
        """The counters' sum, or None where one has none."""
        return _sum([meter.energy_j() for meter in self._meters])

    def power_w(self) -> float | None:
        """The watts' sum."""
        return _sum([meter.power_w() for meter in self._meters])

    def state(self) -> State:
        """The worst of all."""
        states = [meter.state() for meter in self._meters]
        hot = [state.temperature_c for state in states if state.temperature_c is not None]
        clocks = [state.sm_clock_mhz for state in states if state.sm_clock_mhz is not None]
        reasons = frozenset(reason for state in states for reason in state.reasons)
        return State(max(hot, default=None), min(clocks, default=None), reasons)

    def close(self) -> None:
        """Give all back."""
        for meter in self._meters:
            meter.close()


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _word(file: Path) -> str:
    return file.read_text(encoding="ascii").strip()


def _epoch_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text.strip()).timestamp()
