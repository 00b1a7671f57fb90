"""`profiles`: list, show and check measured profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import evaluate
from carbonfleet.cli import options as opt
from profiles.importers.formats import FORMATS

# Rows and columns of the grid of coverage: the GPUs and model classes that deployments ask for first.
COVERED_GPUS = (
    "a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "l40s", "rtx-4090", "rtx-pro-6000", "l4",
    "a10g", "a40", "t4", "v100-sxm-16gb", "mi300x",
)  # fmt: skip
COVERED = ("llama-3.1-8b", "qwen3-32b", "llama-3.1-70b", "llama-3.1-405b", "qwen3-30b-a3b", "gpt-oss-120b",
           "qwen3-235b-a22b", "deepseek-r1")  # fmt: skip

if TYPE_CHECKING:
    from profiles.coverage import Cell
    from profiles.profile import Profile


@click.group("profiles", context_settings=opt.HELP)
def command() -> None:
    """Step time and power of GPU and model pairs: what is there, what it says, whether it is sound."""


command.add_command(evaluate.command)


@command.command("list", epilog="Example: carbonfleet profiles list --coverage", context_settings=opt.HELP)
@opt.profiles_option
@click.option("--coverage", is_flag=True, help="Show a grid of GPUs and models: tier and band of each pair.")
@click.option("--model", "models", multiple=True, help="Model of a column of the grid; default those in use.")
@opt.json_option
def list_(profile_dirs: tuple[str, ...], coverage: bool, models: tuple[str, ...], as_json: bool) -> None:
    """List the shipped profiles and those of --profiles folders."""
    from carbonfleet.text import table

    found = [profile for _, profile in _all(profile_dirs)]
    if coverage or models:
        _coverage(found, models or COVERED, as_json)
        return
    if as_json:
        opt.print_json({"profiles": [_identity(profile) for profile in found]})
        return
    rows = []
    for p in found:
        rows.append([p.gpu, p.model, str(p.tp), p.precision, p.engine, p.provenance.kind, p.provenance.tier, _band(p)])
    head = ["gpu", "model", "tp", "precision", "engine", "kind", "tier", "90 % band, time and power"]
    click.echo("\n".join(table(head, rows, text_columns=8)))


def _coverage(found: list[Profile], models: tuple[str, ...], as_json: bool) -> None:
    from carbonfleet.text import table
    from profiles.coverage import grid

    gpus = [*COVERED_GPUS, *sorted({p.gpu for p in found} - set(COVERED_GPUS))]
    cells = grid(found, gpus, models)
    if as_json:
        opt.print_json({
            "cells": [
                {"gpu": c.gpu, "model": c.model, "tier": c.tier, "time_tier": c.time_tier, "band": c.band.model_dump(),
                 "tp": c.tp, "engine_layer": c.engine, "on_demand": c.on_demand}
                for c in cells
            ]
        })  # fmt: skip
        return
    columns = [c.model for c in cells[: len(models)]]
    rows = [[gpu, *(_shown(c) for c in cells[k * len(models) : (k + 1) * len(models)])] for k, gpu in enumerate(gpus)]
    click.echo("\n".join(table(["gpu", *columns], rows, text_columns=len(columns) + 1)))
    click.echo(
        "Tier of the whole profile and 90 % bands of time and power; * times measured, watts predicted; k kernels "
        "alone, no engine layer; in brackets what a prediction on demand would be: nothing is shipped."
    )


def _shown(cell: Cell) -> str:
    band = f"{cell.band.time:.2f} {cell.band.power:.2f}"
    if cell.on_demand:
        return f"({cell.tier} {band})"
    mark = "*" if cell.time_tier != cell.tier else ""
    return f"{cell.tier}{mark}{'' if cell.engine else 'k'} {band}"


@command.command("show", epilog="Example: carbonfleet profiles show mine.json", context_settings=opt.HELP)
@click.argument("profile")
@opt.profiles_option
@opt.json_option
def show(profile: str, profile_dirs: tuple[str, ...], as_json: bool) -> None:
    """Show one PROFILE, given as a file or by a name that `profiles list --json` calls key."""
    found = _find(profile, profile_dirs)
    if as_json:
        opt.print_json(found.model_dump(mode="json", exclude_none=True))
        return
    click.echo("\n".join(_description(found)))


@command.command("check", epilog="Example: carbonfleet profiles check mine.json", context_settings=opt.HELP)
@click.argument("file", type=opt.FILE)
@opt.json_option
def check(file: str, as_json: bool) -> None:
    """Check that FILE is a profile whose figures can be true; exits 1 with the reason when not."""
    from profiles.profile import load
    from profiles.step import StepModel

    profile = load(file)
    longest = max(profile.decode.kv_tokens)
    decode_s = StepModel(profile).decode_time_s(1, longest / max(profile.decode.batch))
    document = {"ok": True, "file": file, **_identity(profile), "decode_batch_1_s": decode_s}
    if as_json:
        opt.print_json(document)
    else:
        click.echo(f"{file}: ok; {profile.key}, {_points(profile)}")


def _all(folders: tuple[str, ...]) -> list[tuple[Path, Profile]]:
    from profiles.profile import load_all, shipped_folder

    shipped = shipped_folder()
    return load_all([*folders, *([shipped] if shipped.is_dir() else [])])


def _find(name: str, folders: tuple[str, ...]) -> Profile:
    """The profile in the file `name`, or the one whose key it is.

    Raises:
        InputError: neither; the nearest key is named.
    """
    from profiles.inputs import InputError, near_miss
    from profiles.profile import load

    if Path(name).exists() or name.endswith(".json") or "/" in name:
        return load(name)
    known = {profile.key: profile for _, profile in reversed(_all(folders))}  # the first of a name wins
    if name not in known:
        raise InputError(f"unknown profile {name!r}", mend=near_miss(name, known))
    return known[name]


def _identity(p: Profile) -> dict[str, Any]:
    """Which profile it is and how much it can be trusted."""
    return {
        "key": p.key,
        **p.model_dump(include={"gpu", "model", "tp", "precision", "engine", "layer", "band"}),
        **p.provenance.model_dump(include={"kind", "tier", "source", "licence", "date", "fit_error"}),
        "prefill_points": len(p.prefill.time_s),
        "decode_points": len(p.decode.time_s),
    }


def _band(p: Profile) -> str:
    return f"x/÷ {p.band.time:.2f}, {p.band.power:.2f}"


def _points(p: Profile) -> str:
    return f"{len(p.prefill.time_s)} prefill and {len(p.decode.time_s)} decode points, {p.provenance.kind}"


def _description(p: Profile) -> list[str]:
    from carbonfleet.text import figure, table

    errors = ", ".join(f"{name} {100 * value:.1f} %" for name, value in p.provenance.fit_error.items())
    lines = [
        p.key,
        f"  {_points(p)} {p.provenance.date}, tier {p.provenance.tier}, 90 % band {_band(p)}",
        f"  source: {p.provenance.source} ({p.provenance.licence})",
        *([f"  fit error: {errors}"] if errors else []),
        *(f"  note: {text}" for text in p.provenance.notes),
        f"  room for {p.memory.kv_capacity_tokens:,} KV tokens; idle {figure(p.idle.loaded_w)} W",
        "",
    ]
    pre, dec = p.prefill, p.decode
    rows = [
        ["prefill", str(pre.new_tokens[i]), str(pre.past_tokens[i]), figure(pre.time_s[i]), figure(pre.power_w[i])]
        for i in range(len(pre.time_s))
    ]
    rows += [
        ["decode", str(dec.batch[i]), str(dec.kv_tokens[i]), figure(dec.time_s[i]), figure(dec.power_w[i])]
        for i in range(len(dec.time_s))
    ]
    return lines + table(["step", "new tokens or batch", "past or KV tokens", "time s", "power W"], rows)


_FORMATS = "\n".join(f"  {name}: {form.about}." for name, form in FORMATS.items())


@command.command(
    "import",
    help=f"""Turn other projects' measurements into profiles, one a configuration, with source, licence and fit error.

What is left out of a profile, and why, is told as warnings. FORMAT is one of

\b
{_FORMATS}
""",
    epilog="Example: carbonfleet profiles import llmservingsim perf/RTXPRO6000 -o mine",
    context_settings=opt.HELP,
)
@click.argument("kind", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.argument("path", type=opt.FILE)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the profiles.")
@click.option("--gpu", help="The GPU, for sources that do not name it.")
@click.option("--model", help="The model, for sources that do not name it or hold several.")
@click.option("--tp", type=click.IntRange(min=1), help="GPUs that serve together, for sources that hold several.")
@click.option(
    "--sequence-us",
    type=click.FloatRange(min=0),
    help="Host time of the engine per sequence in a step; default what a log of that machine showed (llmservingsim).",
)
@click.option(
    "--skew", is_flag=True, default=None, help="Keep the term for unlike contexts in a batch (llmservingsim)."
)
@opt.json_option
def import_(
    kind: str,
    path: str,
    output: Path,
    gpu: str | None,
    model: str | None,
    tp: int | None,
    sequence_us: float | None,
    skew: bool | None,
    as_json: bool,
) -> None:
    """See the help above."""
    from profiles.importers.formats import Asked, hosts, read
    from profiles.outputs import write_text
    from profiles.profile import save

    sequence_s = None if sequence_us is None else sequence_us * 1e-6
    asked = Asked(gpu, model, tp, sequence_s, skew, lambda text: opt.warn([text], quiet=False))
    found = read(kind, path, asked)
    if FORMATS[kind].hosts:
        table = write_text(output / "hosts.csv", hosts(kind, path, asked))
        if as_json:
            opt.print_json({"hosts": str(table)})
        else:
            click.echo(f"{table}: units for --own-catalog {output}")
        return
    files = [str(save(profile, output / f"{profile.key}.json")) for profile in found]
    if as_json:
        opt.print_json({"profiles": [{"file": f, **_identity(p)} for f, p in zip(files, found, strict=True)]})
        return
    for file, profile in zip(files, found, strict=True):
        click.echo(f"{file}: {_points(profile)}")
