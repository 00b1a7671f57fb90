"""`catalog`: the GPUs, hosts and LLMs that are known, every figure with its source, and what in it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from carbonfleet.cli import options as opt

if TYPE_CHECKING:
    from profiles.catalog import Gpu, Host
    from profiles.llm import Llm

KINDS = ("gpus", "hosts", "llms")  # profiles.catalog.KINDS, repeated so that --help imports nothing


@click.group("catalog", context_settings=opt.HELP)
def command() -> None:
    """GPUs, hosts and LLMs: what is known of each, from whom, and what is not."""


@command.command("list", epilog="Example: carbonfleet catalog list gpus", context_settings=opt.HELP)
@click.argument("kind", type=click.Choice(KINDS), default="gpus")
@opt.own_catalog_option
@opt.json_option
def list_(kind: str, own_catalog: str | None, as_json: bool) -> None:
    """List the GPUs, hosts or LLMs; a dash is an unknown figure, ? one that was recalled and not re-read."""
    from carbonfleet.text import table
    from profiles import catalog

    with catalog.using(own_catalog):
        entries: list[Any] = [*getattr(catalog, kind)().values()]
    if as_json:
        opt.print_json({kind: [_document(entry) for entry in entries]})
    elif kind == "gpus":
        click.echo("\n".join(table(_GPUS, [_gpu_row(gpu) for gpu in entries], 2)))
    elif kind == "hosts":
        click.echo("\n".join(table(_HOSTS, [_host_row(host) for host in entries], 2)))
    else:
        click.echo("\n".join(table(_LLMS, [_llm_row(llm) for llm in entries])))


@command.command("show", epilog="Example: carbonfleet catalog show deepseek-v3", context_settings=opt.HELP)
@click.argument("name")
@opt.own_catalog_option
@opt.json_option
def show(name: str, own_catalog: str | None, as_json: bool) -> None:
    """Show a GPU, host or LLM whole: every figure, its source, and what follows from it."""
    from profiles import catalog

    with catalog.using(own_catalog):
        document = _document(_find(name))
    if as_json:
        opt.print_json(document)
        return
    width = max(map(len, document))
    for key, value in document.items():
        lines = list(value) if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            lines = [f"{column}: {text}" for column, text in value.items()]
        for k, line in enumerate(lines or ["-"]):
            click.echo(f"{key if k == 0 else '':{width}}  {'-' if line is None else line}")


@command.command("check", epilog="Example: carbonfleet catalog check --own-catalog mine", context_settings=opt.HELP)
@opt.own_catalog_option
@opt.json_option
def check(own_catalog: str | None, as_json: bool) -> None:
    """Look for contradictions: bandwidth and bus, TDP, memory, weights and shapes; exits 1 when there are any."""
    from profiles import catalog
    from profiles.contradictions import contradictions
    from profiles.inputs import InputError

    with catalog.using(own_catalog):
        found = contradictions()
        counts = {"gpus": len(catalog.gpus()), "hosts": len(catalog.hosts()), "llms": len(catalog.llms())}
        recalled = sum(len(gpu.verify) for gpu in catalog.gpus().values())
    if as_json:
        opt.print_json({"ok": not found, **counts, "recalled": recalled, "found": [item._asdict() for item in found]})
    else:
        for item in found:
            click.echo(f"{item.table}: {item.name}: {item.what}")
        click.echo(
            f"{counts['gpus']} GPUs, {counts['hosts']} hosts, {counts['llms']} LLMs: {len(found)} contradictions; "
            f"{recalled} GPU figures were recalled and not re-read (see ? in catalog list)"
        )
    if found:
        raise InputError(f"{len(found)} contradictions in the catalogue", mend="mend the figures named on stdout")


def _find(name: str) -> Any:
    """A GPU, LLM or host of that name.

    Raises:
        InputError: there is none, or the name is ambiguous; the nearest of any kind is named.
    """
    from profiles import catalog
    from profiles.inputs import InputError, near_miss

    for find in (catalog.gpu, catalog.llm, catalog.host):
        try:
            return find(name)
        except InputError as error:
            if "could be" in error.what:
                raise
    known = [*catalog.gpus(), *catalog.llms(), *catalog.hosts()]
    raise InputError(f"unknown GPU, LLM or host {name!r}", mend=near_miss(name, known))


def _document(entry: Any) -> dict[str, Any]:
    """An entry's figures under their names, and for an LLM what follows from its shape."""
    from dataclasses import asdict

    document = asdict(entry)
    if "kv_heads" in document:
        document |= {
            "active_params": entry.active_params,
            "counted_params": entry.counted_params,
            "weights_bytes_bf16": entry.weights_bytes("bf16"),
            "kv_bytes_per_token_bf16": entry.kv_bytes_per_token("bf16"),
            "kv_bytes_of_32768_tokens_bf16": entry.kv_bytes(32768, "bf16"),
        }
    return document


_GPUS = ("gpu", "vendor", "GB", "GB/s", "TDP W", "idle W", "bf16 TFLOPS", "die mm2", "year")
_HOSTS = ("host", "gpu", "GPUs", "CPUs", "DRAM GB", "SSD TB", "NICs", "W beside GPUs")
_LLMS = ("llm", "params", "active", "layers", "hidden", "heads", "KV heads", "experts", "KV kB/token", "context")


def _gpu_row(gpu: Gpu) -> list[str]:
    from carbonfleet.text import figure

    named = {
        "memory_gb": gpu.memory_gb,
        "bandwidth_gb_s": gpu.bandwidth_bytes_per_s / 1e9,
        "tdp_w": gpu.tdp_w,
        "idle_w": gpu.idle_w,
        "bf16_tflops": gpu.flops_bf16 / 1e12,
        "die_mm2": gpu.die_mm2,
    }
    cells = [figure(value) + ("?" if column in gpu.verify else "") for column, value in named.items()]
    return [gpu.name, gpu.vendor, *cells, str(gpu.release_year)]


def _host_row(host: Host) -> list[str]:
    from carbonfleet.text import figure

    counts = (host.gpus, host.cpus, host.dram_gb, host.ssd_tb, host.nics, host.power_w)
    return [host.name, host.gpu, *(figure(value) for value in counts)]


def _llm_row(llm: Llm) -> list[str]:
    experts = f"{llm.experts_per_token} of {llm.experts}" if llm.moe else "-"
    heads = ["latent" if llm.mla else str(llm.kv_heads), experts, f"{llm.kv_bytes_per_token() / 1000:.0f}"]
    mark = "?" if "params" in llm.verify else ""
    return [
        llm.name,
        _billions(llm.params) + mark,
        _billions(llm.active_params),
        *map(str, (llm.layers, llm.hidden, llm.heads)),
        *heads,
        f"{llm.max_context:,}",
    ]


def _billions(params: int) -> str:
    from carbonfleet.text import figure

    return f"{figure(params / 1e9)} B"
