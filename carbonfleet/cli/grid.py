"""`grid`: the carbon intensity of zones and files."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.grid import Signal

scope_option = click.option(
    "--scope",
    type=click.Choice(opt.SCOPES),
    default="lifecycle",
    show_default=True,
    help="direct counts the smokestack, lifecycle also fuel and building.",
)


@click.group("grid", context_settings=opt.HELP)
def command() -> None:
    """Carbon intensity of electricity: the shipped zones, or any series of your own."""


@command.command("list", epilog="Example: carbonfleet grid list", context_settings=opt.HELP)
@opt.json_option
def list_(as_json: bool) -> None:
    """List the shipped zones (typical years), the cleanest first."""
    from dataclasses import asdict

    from carbonfleet.text import figure, table
    from profiles.grid import zones

    found = zones()
    if as_json:
        opt.print_json({"zones": [asdict(zone) for zone in found]})
        return
    rows = []
    for z in found:
        figures = (z.mean_g_per_kwh, z.min_g_per_kwh, z.max_g_per_kwh)
        rows.append([z.zone, z.scope, str(z.year), ", ".join(z.aliases), *map(figure, figures)])
    click.echo("\n".join(table(["zone", "scope", "year", "also called", "mean g/kWh", "min", "max"], rows, 4)))


@command.command("show", epilog="Example: carbonfleet grid show US-CAL-CISO", context_settings=opt.HELP)
@click.argument("zone")
@scope_option
@opt.json_option
def show(zone: str, scope: str, as_json: bool) -> None:
    """Show the mean, range and origin of a ZONE, of a file of intensities, or of a number in g/kWh."""
    from profiles.grid import load

    signal = load(zone, scope)  # type: ignore[arg-type]  # click.Choice has checked it
    facts = _facts(signal)
    if as_json:
        opt.print_json(facts)
        return
    low, high = facts["min_g_per_kwh"], facts["max_g_per_kwh"]
    click.echo(f"{signal.name}: mean {signal.mean():.1f} g/kWh ({low:.1f} to {high:.1f})")
    click.echo(f"{signal.kind}, {signal.scope}; {signal.span}")
    click.echo(f"source: {signal.source} ({signal.licence})")
    for text in signal.notes:
        click.echo(f"note: {text}")
    hours = facts["by_hour_utc_g_per_kwh"]
    if hours and sys.stdout.isatty():
        from carbonfleet.text import sparkline

        click.echo(f"by hour of day, 0 to 23 UTC: {sparkline(hours)}")


def _facts(signal: Signal) -> dict[str, Any]:
    """What the document says of a signal; times are ISO 8601 UTC and null for ever."""
    from datetime import UTC, datetime

    import numpy as np

    def iso(epoch_s: float) -> str | None:
        return datetime.fromtimestamp(epoch_s, UTC).isoformat() if math.isfinite(epoch_s) else None

    values = signal.g_per_kwh
    return {
        "name": signal.name,
        "zone": signal.zone,
        "mean_g_per_kwh": signal.mean(),
        "min_g_per_kwh": float(np.nanmin(values)),
        "max_g_per_kwh": float(np.nanmax(values)),
        "kind": signal.kind,
        "scope": signal.scope,
        "recurring": signal.recurring,
        "start": None if signal.recurring else iso(float(signal.start_s[0])),
        "end": None if signal.recurring else iso(signal.end_s),
        "intervals": int(values.size),
        "gaps": int(np.isnan(values).sum()),
        "estimated_share": signal.estimated_share,
        "by_hour_utc_g_per_kwh": _by_hour(signal),
        "source": signal.source,
        "licence": signal.licence,
        "notes": list(signal.notes),
    }


def _by_hour(signal: Signal) -> list[float] | None:
    """Mean of the intervals that start in each hour of the day; None where an hour has none."""
    import numpy as np

    known = np.isfinite(signal.start_s) & np.isfinite(signal.g_per_kwh)
    hours = (signal.start_s[known] // 3600 % 24).astype(int)
    counts = np.bincount(hours, minlength=24)
    if not counts.all():
        return None
    return [float(x) for x in np.bincount(hours, weights=signal.g_per_kwh[known], minlength=24) / counts]
