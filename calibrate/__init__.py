"""The measuring bench: a GPU in, a profile out."""

from __future__ import annotations

from calibrate.bench import measure
from calibrate.errors import BenchError, DoesNotFit, NoGpu
from calibrate.schedule import Progress

__all__ = ["BenchError", "DoesNotFit", "NoGpu", "Progress", "measure"]
