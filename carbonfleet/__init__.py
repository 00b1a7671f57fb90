"""The front door: commands, comparison, report."""

__version__ = "0.1.0"
