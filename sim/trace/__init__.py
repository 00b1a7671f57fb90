"""Traces: read from files of many formats, or generated."""
