"""Grid carbon intensity: a Signal over calendar time, its readers, the shipped zones, the Window a run sees."""

from __future__ import annotations

from profiles.grid.forecast import Forecast, is_forecast, read_forecast
from profiles.grid.readers import read_series
from profiles.grid.signal import Align, Kind, Scope, Signal, check_alike, constant
from profiles.grid.window import Window
from profiles.grid.zones import Zone, load, zones

__all__ = [
    "Align",
    "Forecast",
    "Kind",
    "Scope",
    "Signal",
    "Window",
    "Zone",
    "check_alike",
    "constant",
    "is_forecast",
    "load",
    "read_forecast",
    "read_series",
    "zones",
]
