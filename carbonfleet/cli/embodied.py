"""`embodied`: what making a GPU emitted, by preset, with its range, boundary and source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.catalog import Gpu
    from profiles.embodied import Embodied


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
@opt.own_catalog_option
@opt.json_option
def command(
    gpu: str, preset: str, boundary: str | None, lifetime_years: float, own_catalog: str | None, as_json: bool
) -> None:
    """Embodied carbon of one GPU: low, middle and high kilograms of CO2e, and grams per hour of its life."""
    from profiles.catalog import using

    with using(own_catalog):
        _embodied(gpu, preset, boundary, lifetime_years, as_json)


def _embodied(gpu: str, preset: str, boundary: str | None, lifetime_years: float, as_json: bool) -> None:
    from profiles.catalog import gpu as find
    from profiles.embodied import gpu_embodied
    from profiles.units import SECONDS_PER_HOUR, lifetime_rate_g_per_s

    found = find(gpu)
    made = gpu_embodied(found, preset)
    if boundary == "server":
        made = _with_host_share(found, made)
    elif boundary is not None and boundary != made.boundary:
        raise click.UsageError(
            f"preset {preset} describes a {made.boundary}; ask for --boundary {made.boundary} or server"
        )
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


def _with_host_share(gpu: Gpu, card: Embodied) -> Embodied:
    """The GPU with its share of the largest host it is sold in; only the GPU's part is spread over its own life."""
    from dataclasses import replace

    from profiles.catalog import hosts_for
    from profiles.embodied import host_embodied
    from profiles.inputs import InputError

    hosts = hosts_for(gpu.name)
    if not hosts:
        raise InputError(f"no host of {gpu.name} is known", field="--boundary", mend="ask for the card alone")
    host = hosts[-1]
    body = host_embodied(host)
    return replace(
        card,
        low_kg=card.low_kg + body.low_kg / host.gpus,
        mid_kg=card.mid_kg + body.mid_kg / host.gpus,
        high_kg=card.high_kg + body.high_kg / host.gpus,
        boundary="server",
        source=f"{card.source}; 1/{host.gpus} of {host.name}: {body.source}",
    )
