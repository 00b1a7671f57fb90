"""Who asks for what, as a study says it: requests from a trace, a generator or a table, in one stream or several."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from profiles.fields import Name, Positive, Spec
from sim.scenario import Slo
from sim.trace.generator import GeneratorSpec

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


class Bucket(Spec):
    """A class of requests: its tokens in and out and its share of all requests (shares are normalised)."""

    prompt_tokens: Tokens
    output_tokens: Tokens
    share: Positive = 1.0


class Source(Spec):
    """A stream of requests: the mix of a trace, a generator or a table of buckets, at a mean rate.

    `rate_per_s` replaces the trace's or the generator's own mean rate and is needed with buckets. `shape` spreads it
    over the day. `peak_quantile` is the quantile of one-minute arrivals for which capacity must suffice.
    """

    name: Name = "requests"
    model: Name | None = None
    slo: Slo | None = None  # default: the study's
    trace: str | None = None
    generator: GeneratorSpec | None = None
    buckets: list[Bucket] | None = Field(default=None, min_length=1)
    rate_per_s: Positive | None = None
    growth_per_year: Annotated[float, Field(gt=-1, le=10)] = 0.0
    shape: Literal["flat", "diurnal"] = "flat"
    peak_quantile: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    prompt_edges: list[Tokens] = Field(default=[128, 512, 1024, 2048, 4096, 8192, 32768])
    output_edges: list[Tokens] = Field(default=[64, 256, 512, 1024, 4096])

    @property
    def llm(self) -> str:
        """The model's name."""
        return self.model or ""

    def check(self) -> None:
        """Whether it stands by itself.

        Raises:
            ValueError: no model, none or several of trace, generator and buckets, buckets without a rate.
        """
        if self.model is None:
            raise ValueError("give a model")
        if sum(source is not None for source in (self.trace, self.generator, self.buckets)) != 1:
            raise ValueError("give one of trace, generator and buckets")
        if self.buckets and self.rate_per_s is None:
            raise ValueError("buckets need a rate_per_s (requests per second)")
        for edges in (self.prompt_edges, self.output_edges):
            if edges != sorted(set(edges)):
                raise ValueError("edges must ascend")


class Demand(Source):
    """Who asks for what: one source of requests, or several `streams` of them with models and promises of their own."""

    streams: list[Source] = Field(default=[])

    @property
    def sources(self) -> list[Source]:
        """The streams; without any the demand itself."""
        return self.streams or [self]

    @model_validator(mode="after")
    def _sources_stand(self) -> Demand:
        if self.streams and {"model", "trace", "generator", "buckets", "rate_per_s"} & self.model_fields_set:
            raise ValueError("with streams, model, requests and rate belong to each stream")
        names = [stream.name for stream in self.streams]
        if len(set(names)) < len(names):
            raise ValueError(f"two streams are called {next(n for n in names if names.count(n) > 1)}")
        for source in self.sources:
            source.check()
        return self
