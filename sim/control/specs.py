"""What a scenario may say under `controls`: one entry a control, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from profiles.fields import NonNegative, Positive, Spec

Share = Annotated[float, Field(gt=0, le=1)]
Clock = Annotated[float, Field(ge=0.2, le=1)]


class _OfPools(Spec):
    """A control of some pools (all when none is named)."""

    pools: list[str] | None = None


class _Switched(_OfPools):
    """What switching off and on costs: `boot_s` at `boot_w` (default the instance's idle power), `off_w` while off."""

    boot_s: NonNegative = 120.0
    boot_w: NonNegative | None = None
    off_w: NonNegative = 0.0
    keep: Annotated[int, Field(ge=0)] = 1  # instances of a pool that always stay on


class PowerOff(_Switched):
    """Instances idle for `idle_s` are switched off; one more boots when those that are on are fuller than `wake`."""

    kind: Literal["power-off"]
    idle_s: Positive = 300.0
    wake: Share = 0.5
    tick_s: Positive = 60.0


class Scale(_Switched):
    """As many instances as the load needs at `target` fullness; fewer only after `calm_s` of less load.

    With `clean_target` the target follows the forecast: `target` in the dirtiest hour of the next 24 h (few, full
    instances), `clean_target` in the cleanest.
    """

    kind: Literal["scale"]
    target: Share = 0.6
    clean_target: Share | None = None
    calm_s: NonNegative = 300.0
    tick_s: Positive = 60.0


class Schedule(_Switched):
    """So many instances from each time on, booted early enough to be there: an optimizer's plan carried out."""

    kind: Literal["schedule"]
    at: list[tuple[NonNegative, Annotated[int, Field(ge=0)]]] = Field(min_length=1)  # (seconds of the run, instances)
    every_s: Positive | None = None  # repeat with this period

    @model_validator(mode="after")
    def _in_order(self) -> Schedule:
        times = [time for time, _ in self.at]
        if times != sorted(set(times)):
            raise ValueError("times ascend")
        if self.every_s is not None and times[-1] >= self.every_s:
            raise ValueError("a time lies beyond every_s")
        return self


class Governor(_OfPools):
    """The lowest of `clocks` at which the load fits: full clock above `high` fullness, the lowest below `low`.

    Shares of the full clock. `intensity`: only while the site's intensity is above its mean of the next 24 h.
    """

    kind: Literal["clock"]
    clocks: list[Clock] = Field(default=[0.6, 0.8, 1.0], min_length=1)
    low: Share = 0.2
    high: Share = 0.6
    intensity: bool = False
    tick_s: Positive = 60.0


class PowerCap(Spec):
    """A site never draws more than `watts` (GPUs, hosts, PUE): lower clocks first, then fewer instances."""

    kind: Literal["power-cap"]
    site: str
    watts: Positive
    clocks: list[Clock] = Field(default=[0.4, 0.6, 0.8, 1.0], min_length=1)


class Defer(Spec):
    """Requests of a class with `deadline_s` wait for the greenest hour that ends `margin_s` before their deadline."""

    kind: Literal["defer"]
    margin_s: NonNegative = 600.0


class Failures(_OfPools):
    """Each instance fails after an exponential time of mean `mtbf_h` and is back after one of mean `repair_h`.

    What it was doing is lost and sent again, from the start.
    """

    kind: Literal["failures"]
    mtbf_h: Positive
    repair_h: Positive = 4.0


Control = Annotated[
    PowerOff | Scale | Schedule | Governor | PowerCap | Defer | Failures,
    Field(discriminator="kind"),
]
