"""`embodied`: what making a GPU emitted, by preset, with its range, boundary and source."""

from __future__ import annotations

import click

from carbonfleet.cli import options as opt


@click.command(
    "embodied", epilog="Example: carbonfleet embodied h100-sxm-80gb --preset pcf-card --json", context_settings=opt.HELP
)
@click.argument("gpu")
@click.option("--preset", type=click.Choice(opt.PRESETS), default="pcf-card", show_default=True, help="Whose figures.")
@click.option(
    "--boundary",
    type=click.Choice(opt.BOUNDARIES),
    help="chip, card, or server (with the GPU's share of its host); default: the preset's own.",
)
@click.option(
    "--lifetime-years", type=opt.POSITIVE, default=5.0, show_default=True, help="Life over which it is spread."
)
@opt.json_option
def command(gpu: str, preset: str, boundary: str | None, lifetime_years: float, as_json: bool) -> None:
    """Embodied carbon of one GPU: low, middle and high kilograms of CO2e, and grams per hour of its life."""
    from profiles.catalog import gpu as find
    from profiles.embodied import gpu_embodied

    from profiles.units import SECONDS_PER_HOUR, lifetime_rate_g_per_s

    found = find(gpu)
    made = gpu_embodied(found, preset)
    rate = lifetime_rate_g_per_s(made.mid_kg, lifetime_years) * SECONDS_PER_HOUR
    if as_json:
        opt.print_json(
            {
                "gpu": found.name,
                "preset": made.preset,
                "embodied_kg": {"low": made.low_kg, "mid": made.mid_kg, "high": made.high_kg},
                "boundary": made.boundary,
                "lifetime_years": lifetime_years,
                "g_per_h": rate,
                "source": made.source,
            }
        )
        return
    click.echo(f"{found.name}: {made.mid_kg:.2f} kg CO2e ({made.low_kg:.2f} to {made.high_kg:.2f}), {made.boundary}")
    click.echo(f"{rate:.3f} g per hour over {lifetime_years:g} years")
    click.echo(f"preset {made.preset}: {made.source}")
