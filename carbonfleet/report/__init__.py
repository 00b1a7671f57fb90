"""One offline page of a run, built from its directory alone: `build` gives the HTML, `write` the file."""

from carbonfleet.report.page import build, write

__all__ = ["build", "write"]
