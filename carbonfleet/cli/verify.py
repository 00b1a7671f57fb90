"""`verify`: make a run again from its directory and say whether it is the same."""

from __future__ import annotations

import click

from carbonfleet.cli import options as opt

SHOWN = 10


@click.command("verify", epilog="Example: carbonfleet verify runs/demo", context_settings=opt.HELP)
@click.argument("folder", type=opt.FILE, metavar="DIR")
@opt.json_option
@click.pass_context
def command(ctx: click.Context, folder: str, as_json: bool) -> None:
    """Check the inputs of a run directory DIR by SHA-256, make the run again and compare every figure.

    Exits 0 when all is the same to 1e-9 (wall-clock figures apart), else 1.
    """
    from carbonfleet.verify import verify

    found = verify(folder)
    if as_json:
        opt.print_json(
            {
                "same": found.same,
                "figures": found.figures,
                "inputs": found.inputs,
                "versions": found.versions,
                "differences": [{"where": w, "was": was, "is": is_} for w, was, is_ in found.differences],
            }
        )
    else:
        for text in (*found.inputs, *(f"another version: {text}" for text in found.versions)):
            click.echo(text)
        for where, was, is_ in found.differences[:SHOWN]:
            click.echo(f"{where}: was {was}, is {is_}")
        if len(found.differences) > SHOWN:
            click.echo(f"... and {len(found.differences) - SHOWN} more figures")
        what = "the same" if found.same else "NOT the same"
        click.echo(f"{folder}: {what} ({found.figures:,} figures and columns compared)")
    ctx.exit(0 if found.same else 1)
