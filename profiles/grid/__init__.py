"""Grid carbon intensity: a Signal over calendar time, its readers, the shipped zones, the Window a run sees."""

from __future__ import annotations

from profiles.grid.readers import read_series
from profiles.grid.signal import Align, Kind, Scope, Signal, constant
from profiles.grid.window import Window
from profiles.grid.zones import Zone, load, zones

__all__ = ["Align", "Kind", "Scope", "Signal", "Window", "Zone", "constant", "load", "read_series", "zones"]
