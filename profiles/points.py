"""The usual points of a profile that is computed and not measured point by point."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (128, 1024, 4096, 16384)
CHUNKS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
PAST_CHUNKS = ((512, 4096), (2048, 8192))  # new tokens behind past ones
POWER_CONTEXT = 1024  # StepModel knows power by batch alone: watts of all contexts are those at this one


def digits(value: float) -> float:
    """Five significant digits: more would pretend."""
    return float(f"{value:.5g}")
