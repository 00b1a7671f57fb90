"""What can go wrong on the bench; each error is one line that says what to do."""

from __future__ import annotations

from profiles.inputs import CarbonfleetError


class NoGpu(CarbonfleetError):  # noqa: N818 - says what is the matter
    """There is no GPU this bench can meter or compute on."""

    exit_code = 4

    def __init__(self, why: str) -> None:
        mend = "use --device cpu or --runner fake, or install the NVIDIA driver"
        super().__init__(" ".join(f"no GPU to measure ({why}); {mend}".split()))


class NoMeter(CarbonfleetError):  # noqa: N818 - says what is the matter
    """The power source that was asked for is not there."""


class BenchError(CarbonfleetError):
    """The bench refuses or cannot go on: MIG, foreign processes, a counter that went back, no torch."""


class DoesNotFit(CarbonfleetError):  # noqa: N818 - says what is the matter
    """A point needs more memory than the device has; the bench skips it and says so."""
