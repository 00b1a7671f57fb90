"""What a scenario says under `plan`: an optimizer's placement, which `routing: planned` carries out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from profiles.fields import NonNegative, Spec


class PlanBucket(Spec):
    """Requests up to these lengths (none: any) that no bucket before it took."""

    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None


class PlanSlice(Spec):
    """Some hours of the day (UTC) on some days: which share of each bucket's requests every pool takes."""

    hours: list[Annotated[int, Field(ge=0, le=23)]] = Field(default=[*range(24)])
    days: Literal["all", "weekday", "weekend"] = "all"
    shares: list[dict[str, NonNegative]]  # by bucket: pool -> share


class RoutingPlan(Spec):
    """An optimizer's placement, carried out by routing: planned."""

    buckets: list[PlanBucket] = Field(min_length=1)
    slices: list[PlanSlice] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_for_every_bucket(self) -> RoutingPlan:
        for place, part in enumerate(self.slices):
            if len(part.shares) != len(self.buckets):
                raise ValueError(f"slice {place} has shares for {len(part.shares)} of {len(self.buckets)} buckets")
            if any(not sum(shares.values()) > 0 for shares in part.shares):
                raise ValueError(f"slice {place} leaves a bucket without a pool")
        return self
