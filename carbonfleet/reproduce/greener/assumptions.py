"""Everything that was assumed, with its source and reason."""

from __future__ import annotations

from carbonfleet.reproduce.greener import plan, week
from carbonfleet.reproduce.greener.knobs import KEPT, LOADS, REQUESTS
from carbonfleet.reproduce.greener.paper import CLASSES, ENGINE, HARMLESS, TBT_LIMIT_S
from carbonfleet.reproduce.greener.server import MAX_NUM_SEQS, Server, clocks
from profiles.grid import Signal

CALIFORNIA_UTC_H = -8.0
LIFETIME_YEARS = 5.0


def assumptions(utc_offset_h: float, lifetime_years: float, server: Server, signal: Signal) -> list[dict[str, str]]:
    """One row each: name, value, who gives it and why."""
    prompts = sorted({(c.prompt, c.ttft_s) for c in CLASSES})
    limits = ", ".join(f"{tokens} tokens {limit:g} s" for tokens, limit in prompts)
    outputs = "/".join(str(n) for n in sorted({c.output for c in CLASSES}))
    loads = ", ".join(f"{name} {100 * share:g} %" for name, share in LOADS.items())
    base, precision = server.baseline, next(iter(server.profiles.values())).precision
    fleet = f"generated, {week.RATE_PER_S:g} requests/s on average, lengths after {week.LENGTHS}, seed {week.SEED}"
    rule = f"{plan.HEADROOM:g} times the hour's load, mean TTFT at most {plan.MEAN_TO_LIMIT:g} of the limit"
    rows = (
        (
            "lengths",
            f"prompts and TTFT limits: {limits}; outputs {outputs}",
            "assumed",
            "limits as recalled from DynamoLLM",
        ),
        ("TBT limit", f"{TBT_LIMIT_S:g} s, on each request's TPOT", "recalled", "DynamoLLM"),
        (
            "engine",
            f"{ENGINE}, {precision}, at most {MAX_NUM_SEQS} sequences, chunked",
            "assumed",
            "theirs was of 2023",
        ),
        ("baseline", f"tp{base.tp} at full clock, {base.used} in use", "assumed", "what is done for latency alone"),
        ("loads", f"{loads} of what the baseline carries within both limits", "assumed", "no absolute rate compares"),
        (
            "clocks",
            f"{clocks()[0]:g} to 1 of the full one; one law of time, voltage 0.6 + 0.4 s",
            "modelled",
            "profiles.dvfs",
        ),
        ("idle GPUs", "keep their weights: loaded idle power", "assumed", "can be used at once"),
        (
            "kept",
            f"{100 * KEPT:g} % of {REQUESTS} replayed Poisson arrivals within both limits",
            "assumed",
            "by the simulator",
        ),
        (
            "harmless",
            f"mean TTFT and TBT at most {HARMLESS:g} of the baseline's",
            "assumed",
            "at the same requests a second",
        ),
        ("week", fleet, "assumed", "a cosine of a day, weekends at 0.7: modelled shape"),
        (
            "week's speed",
            f"{week.FAST:g} times: an hour lasts a minute, boots and ticks shortened alike",
            "assumed",
            "run time",
        ),
        (
            "week's promise",
            f"TTFT {plan.TTFT_LIMIT_S:g} s, TPOT {TBT_LIMIT_S:g} s",
            "assumed",
            "prompts of all lengths in one pool",
        ),
        ("plan", rule, "assumed", "the same rule sizes the static fleet"),
        ("boot", f"{week.BOOT_S:g} s at idle power", "assumed", "weights from host memory"),
        ("PUE", f"{plan.PUE:g}", "default", "the week alone"),
        ("grid", f"{signal.name}, {signal.kind}, {signal.scope}: four seasons' mean week", "catalogue", signal.source),
        (
            "local time",
            f"UTC {utc_offset_h:+g} h",
            "given" if utc_offset_h != CALIFORNIA_UTC_H else "default",
            "of the load",
        ),
        ("GPU lifetime", f"{lifetime_years:g} years, linear", "default", "embodied carbon of the week"),
    )
    return [dict(zip(("name", "value", "source", "reason"), row, strict=True)) for row in rows]
