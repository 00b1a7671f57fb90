"""Vega for a page (its JavaScript, inlined) and for slides (SVG and PNG without a browser), by vl-convert."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from profiles.inputs import InputError
from profiles.outputs import OutputError, write_text, write_with

VERSION = "6.4"  # of Vega-Lite, among those vl-convert carries
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
FORMATS = ("svg", "png")


def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one module script.

    Bundling takes a second and a half, so it is kept in the user's cache folder (XDG_CACHE_HOME) where that can be.
    """
    kept = _cache() / f"vega-{VERSION}-{metadata.version('vl-convert-python')}.js"
    try:
        return kept.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    import vl_convert

    text: str = vl_convert.javascript_bundle(_SNIPPET, vl_version=VERSION)
    with suppress(OutputError):  # a read-only home costs time, nothing else
        write_text(kept, text)
    return text


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "carbonfleet"


def export(charts: dict[str, dict[str, Any]], folder: Path, kind: str) -> list[Path]:
    """Write each chart as a picture; the files.

    Raises:
        InputError: a kind of picture that is not known.
        OutputError: the folder cannot be written.
    """
    drawn = {name: spec | {"width": 720, "background": "white"} for name, spec in charts.items()}
    return [picture(spec, folder / f"{name}.{kind}") for name, spec in drawn.items()]


def picture(spec: dict[str, Any], path: Path) -> Path:
    """Write one chart as the picture that the file's ending says.

    Raises:
        InputError: neither .svg nor .png.
        OutputError: the file cannot be written.
    """
    import vl_convert

    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise InputError(f"unknown picture format {kind!r}", field=str(path), mend=f"use {' or '.join(FORMATS)}")
    if kind == "svg":
        return write_text(path, vl_convert.vegalite_to_svg(spec, vl_version=VERSION))
    return _write_bytes(path, vl_convert.vegalite_to_png(spec, VERSION, scale=2))


def _write_bytes(path: Path, data: bytes) -> Path:
    def fill(part: Path) -> None:
        part.write_bytes(data)

    return write_with(path, fill)
