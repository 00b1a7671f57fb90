"""`grid`: the carbon intensity of zones and files."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.grid import Signal

scope_option = click.option(
    "--scope",
    type=click.Choice(opt.SCOPES),
    help="direct counts the smokestack, lifecycle also fuel and building; default: what a file states, else lifecycle.",
)


kind_option = click.option(
    "--kind", type=click.Choice(["average", "marginal"]), help="Where the series does not say: average or marginal."
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
@kind_option
@opt.plot_option
@opt.json_option
def show(zone: str, scope: str | None, kind: str | None, plot: Path | None, as_json: bool) -> None:
    """Show the mean, range and origin of a ZONE, of a file of intensities, or of a number in g/kWh.

    A file of forecasts shows how good they were, by day ahead.
    """
    from profiles.grid import load

    if Path(zone).is_file() and _forecast(zone, as_json):
        return
    signal = load(zone, scope, kind)  # type: ignore[arg-type]  # click.Choice has checked them
    facts = _facts(signal)
    if plot is not None:
        from carbonfleet.report import plots, vega

        vega.picture(plots.grid(signal), plot)
    if as_json:
        opt.print_json(facts)
        return
    low, high = facts["min_g_per_kwh"], facts["max_g_per_kwh"]
    click.echo(f"{signal.name}: mean {signal.mean():.1f} g/kWh ({low:.1f} to {high:.1f})")
    click.echo(f"{signal.kind}, {signal.scope}; {signal.span}")
    click.echo(f"source: {signal.source} ({signal.licence})")
    for text in signal.notes:
        click.echo(f"note: {text}")
    if facts["estimated_share"]:
        click.echo(f"estimated by the source: {100 * facts['estimated_share']:.1f} % of the intervals")
    if plot is not None:
        click.echo(f"drawn: {plot}")
    if facts["gaps"]:
        click.echo(f"gaps: {facts['gaps']} intervals without a value")
    if not sys.stdout.isatty():
        return
    from carbonfleet.text import sparkline

    for title, key in (("hour of day, 0 to 23 UTC", "hour"), ("weekday, Monday first", "weekday"), ("month", "month")):
        means = facts[f"by_{key}_utc_g_per_kwh"]
        if means:
            click.echo(f"{title + ':':26}{sparkline(means)}  {min(means):.0f} to {max(means):.0f} g/kWh")


def _forecast(path: str, as_json: bool) -> bool:
    """Show a file of forecasts; False when it is none."""
    from profiles.grid import is_forecast, read_forecast

    if not is_forecast(path):
        return False
    found = read_forecast(path)
    errors = found.errors()
    if as_json:
        by_day = {str(day): error for day, error in errors.items()}
        opt.print_json(
            {"name": found.name, "source": found.source, "scope": found.scope, "issues": len(found.issues)}
            | {"mape_by_day_ahead": by_day}
        )
        return True
    click.echo(f"{found.name}: {len(found.issues)} forecasts, {found.scope}; {found.source}")
    for day, error in errors.items():
        click.echo(f"  day {day} ahead: mean absolute error {100 * error:.2f} %")
    if not errors:
        click.echo("  no actual values beside them, so their error is unknown")
    return True


@command.command(
    "import",
    epilog="Example: carbonfleet grid import export.json --kind average -o zone.csv",
    context_settings=opt.HELP,
)
@click.argument("file", type=opt.FILE)
@scope_option
@kind_option
@opt.json_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The two-column CSV to write.")
def import_(file: str, scope: str | None, kind: str | None, as_json: bool, output: Path) -> None:
    """Turn any known FILE of intensities into a two-column CSV whose header says unit, scope and kind."""
    import numpy as np

    from profiles.grid import read_series
    from profiles.outputs import write_text

    signal = read_series(file, scope, kind)  # type: ignore[arg-type]  # click.Choice has checked them
    unit = f"{signal.kind}_carbon_intensity_{'lca' if signal.scope == 'lifecycle' else 'direct'}_gco2eq_per_kwh"
    known = np.isfinite(signal.g_per_kwh)
    rows = (
        f"{_iso(start)},{value!r}"
        for start, value in zip(signal.start_s[known].tolist(), signal.g_per_kwh[known].tolist(), strict=True)
    )
    write_text(output, "\n".join([f"datetime_utc,{unit}", *rows]) + "\n")
    if as_json:
        opt.print_json({"file": str(output), **_facts(signal)})
        return
    click.echo(f"{output}: {int(known.sum()):,} intervals of {signal.name}, {signal.kind}, {signal.scope}")
    click.echo(f"licence of the source: {signal.licence}")


def _iso(epoch_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
        **{f"by_{key}_utc_g_per_kwh": _means(signal, key) for key in ("hour", "weekday", "month")},
        "source": signal.source,
        "licence": signal.licence,
        "notes": list(signal.notes),
    }


def _means(signal: Signal, key: str) -> list[float] | None:
    """Mean of the intervals that start in each hour, weekday or month (UTC); None where one of them has none."""
    import numpy as np

    known = np.isfinite(signal.start_s) & np.isfinite(signal.g_per_kwh)
    start = signal.start_s[known].astype("datetime64[s]")
    if key == "hour":
        size, place = 24, (start.astype("datetime64[h]") - start.astype("datetime64[D]")).astype(int)
    elif key == "weekday":
        size, place = 7, (start.astype("datetime64[D]").astype(int) + 3) % 7  # 1970 began on a Thursday
    else:
        size, place = 12, start.astype("datetime64[M]").astype(int) % 12
    if key == "weekday" and signal.recurring:
        return None  # a typical year has no weekdays
    counts = np.bincount(place, minlength=size)
    if not counts.all():
        return None
    return [float(x) for x in np.bincount(place, weights=signal.g_per_kwh[known], minlength=size) / counts]
