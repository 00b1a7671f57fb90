"""`make bench`: every benchmark that needs nothing but this checkout."""

from benchmarks import sim

sim.main([])
