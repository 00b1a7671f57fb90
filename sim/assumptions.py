"""Every default that bears on a result, with its value, source and reason: printed in the result as `assumptions`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypedDict

from sim.fleet import LivePool
from sim.scenario import Scenario

_MODELLED = "time and power below full clock are modelled (profiles.dvfs)"
_REASONS = {"clock": _MODELLED, "power-cap": _MODELLED}
DEFAULT_START = datetime(2023, 1, 1, tzinfo=UTC)


class Assumption(TypedDict):
    """One rule or default in force."""

    name: str
    value: str
    source: str
    reason: str


def _given(scenario: Scenario, part: str, field: str) -> str:
    """Whether the user set a field of a part of the scenario."""
    return "scenario" if field in getattr(scenario, part).model_fields_set else "default"


def assumptions(scenario: Scenario, pools: list[LivePool], anchored: str, horizon_s: float) -> list[Assumption]:
    """The rules of this run."""
    rules = scenario.accounting
    rows = [
        (
            "horizon_s",
            f"{horizon_s:g}",
            "scenario" if scenario.horizon_s else "default",
            "trace span rounded up to hours",
        ),
        ("start", anchored, "scenario" if scenario.start else "default", "ties run time 0 to the grid's clock"),
        ("embodied preset", rules.preset, _given(scenario, "accounting", "preset"), "card figures of a vendor PCF"),
        (
            "embodied boundary",
            rules.boundary,
            _given(scenario, "accounting", "boundary"),
            "the server is counted whenever its power is billed",
        ),
        (
            "GPU lifetime",
            f"{rules.lifetime_years:g} years, linear",
            _given(scenario, "accounting", "lifetime_years"),
            "HotCarbon'24 and LLMCarbon use 5",
        ),
        (
            "host lifetime",
            f"{rules.host_lifetime_years:g} years, linear",
            _given(scenario, "accounting", "host_lifetime_years"),
            "GreenSKU and Google use 6",
        ),
        (
            "idle rule",
            rules.idle_rule,
            _given(scenario, "accounting", "idle_rule"),
            "idle and host carbon of a pool go to its requests by GPU-seconds",
        ),
        (
            "host power",
            "billed whole" if rules.host_power else "not billed",
            _given(scenario, "accounting", "host_power"),
            "units are bought and powered whole",
        ),
        (
            "output length predictor",
            scenario.output_predictor,
            "scenario" if "output_predictor" in scenario.model_fields_set else "default",
            "routers never see the true length",
        ),
    ]
    for site in {pool.site.spec.name: pool.site for pool in pools}.values():
        given = "scenario" if "pue" in site.spec.model_fields_set else "default"
        rows.append(
            (f"PUE at {site.spec.name}", f"{site.spec.pue:g}", given, "1.2 is a common fleet mean; give your own")
        )
        if site.window.note:
            rows.append((f"grid at {site.spec.name}", site.window.note, "profiles.grid", "how dates were matched"))
    for pool in pools:
        rows.append(
            (
                f"host of {pool.spec.name}",
                f"{pool.units} x {pool.host.name}, {pool.spare_gpus} spare GPUs",
                "scenario" if pool.spec.host else "default",
                "the unit that leaves the fewest spare GPUs",
            )
        )
    rows += _stated(scenario)
    return [Assumption(name=n, value=v, source=s, reason=r) for n, v, s, r in rows]


def _stated(scenario: Scenario) -> Iterator[tuple[str, str, str, str]]:
    """What a scenario states beyond its fleet, with the defaults it leaves in force."""
    for place, control in enumerate(scenario.controls):
        value = ", ".join(f"{key} {given}" for key, given in control.model_dump(exclude={"kind"}).items())
        open_ = set(type(control).model_fields) - control.model_fields_set
        source = f"scenario; by default {', '.join(sorted(open_))}" if open_ else "scenario"
        yield f"control {place + 1}, {control.kind}", value, source, _REASONS.get(control.kind, "docs/scenario.md")
    if scenario.kv_transfer is not None:
        link = scenario.kv_transfer
        value = f"{link.gb_per_s:g} GB/s, {link.latency_s:g} s, {link.joules_per_gb:g} J/GB"
        yield "KV transfer", value, "scenario", "prefill and decode on instances of their own"
    for pool in scenario.pools:
        if pool.prefix_hit_rate is not None:
            name = f"prefix hit rate of {pool.name}"
            yield name, f"{pool.prefix_hit_rate:g}", "scenario", "stated: this share of every prompt is found"
