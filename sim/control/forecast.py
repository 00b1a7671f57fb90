"""What is believed of the grid's intensity ahead: a forecast file, yesterday, or (for regret) the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.grid import Window
from profiles.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from profiles.grid.forecast import Forecast

DAY_S = 24.0 * SECONDS_PER_HOUR


class Believed:
    """The intensity of one site as decisions see it; the present is always known.

    Args:
        window: what came, over the run.
        before: what came in the day before the run, where the series has it.
        issued: a forecast file's issues; None for persistence (the same time of the last day that is known).
        start_s: UTC epoch seconds of run time 0.
        perfect: know the truth.
    """

    def __init__(
        self, window: Window, before: Window | None, issued: Forecast | None, start_s: float, perfect: bool = False
    ) -> None:
        self._window, self._before, self._issued = window, before, issued
        self._start_s, self._perfect = start_s, perfect

    def at(self, now_s: float, then_s: float) -> float:
        """g/kWh believed at `now_s` of run time `then_s`, which is not before it.

        Raises:
            InputError: the forecast file does not reach that far.
        """
        if self._perfect or then_s <= now_s:
            return self._window.at(then_s)
        if self._issued is not None:
            return self._issued.believed(self._start_s + now_s, self._start_s + then_s)
        seen_s = then_s - DAY_S * -((now_s - then_s) // DAY_S)
        if seen_s >= 0.0:
            return self._window.at(seen_s)
        return self._window.at(now_s) if self._before is None else self._before.at(seen_s + DAY_S)

    def day(self, now_s: float) -> list[float]:
        """g/kWh believed of now and each full hour of the next 24."""
        return [self.at(now_s, now_s + k * SECONDS_PER_HOUR) for k in range(24)]
