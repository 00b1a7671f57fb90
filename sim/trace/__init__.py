"""Traces: read from files of many formats, or generated. docs/traces.md is the guide."""

from sim.trace.generator import GeneratorSpec, generate
from sim.trace.model import Trace
from sim.trace.readers import read_trace, write_trace
from sim.trace.shape import Bucket, buckets, peak_rate_per_s

__all__ = ["Bucket", "GeneratorSpec", "Trace", "buckets", "generate", "peak_rate_per_s", "read_trace", "write_trace"]
