"""Writes every page of docs/studies from committed results (`make docs`).

    .venv/bin/python -m benchmarks.studies                  # all pages and pictures
    .venv/bin/python -m benchmarks.studies --anew NAME...   # compute these results first, and time them
    .venv/bin/python -m benchmarks.studies --time NAME...   # run these examples, for their runtime alone

Seconds are of processor time, children included: what a core would take alone, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import closed_loop, examples, greener_llms, hotcarbon24, llmco2, what_ifs, worth
from carbonfleet.report.vega import VERSION
from profiles.inputs import read_json
from profiles.outputs import write_json, write_text

DOCS = Path(__file__).resolve().parents[1] / "docs" / "studies"
RUNTIMES = DOCS / "runtimes.json"
# name -> module with COMMAND, compute(), render(document, runtime, picture) and picture(document)
STUDIES: dict[str, ModuleType] = {
    "hotcarbon24": hotcarbon24,
    "greener-llms": greener_llms,
    "llmco2": llmco2,
    "what-ifs": what_ifs,
    "worth-it": worth,
    "closed-loop": closed_loop,
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of docs/studies: its text and its picture as SVG."""

    name: str
    text: str
    svg: str


def runtime(name: str) -> str:
    """How long it takes, as a sentence."""
    known = read_json(RUNTIMES).get(name) if RUNTIMES.is_file() else None
    if known is None:
        return "Its runtime was not measured."
    return f"It takes {known:.0f} s of processor time." if known >= 10 else f"It takes {known:.1f} s of processor time."


def document(name: str) -> Any:
    """The committed result of a study."""
    return read_json(DOCS / f"{name}.json")


def page(name: str) -> Page:
    """One page from its committed result."""
    if name in STUDIES:
        made, study = document(name), STUDIES[name]
        return Page(name, study.render(made, runtime(name), f"{name}.svg"), svg(study.picture(made)))
    made = examples.committed(name)
    text = examples.render(name, made, runtime(name), f"{name}.svg")
    return Page(name, text, svg(examples.picture(name, made)))


def names() -> list[str]:
    """All pages."""
    return [*STUDIES, *examples.names()]


def svg(spec: dict[str, Any]) -> str:
    """A chart as a small picture."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(spec | {"width": 480, "background": "white"}, vl_version=VERSION)
    return text.rstrip("\n") + "\n"


def index(pages: Iterable[Page]) -> str:
    """The list of pages."""
    rows = [f"- [{page.text.partition(chr(10))[0].removeprefix('# ')}]({page.name}.md)" for page in pages]
    head = (
        "# Studies\n\nEvery page is written from a committed result by `python -m benchmarks.studies`; each names its"
    )
    return "\n".join([f"{head}\ncommand.\n", *rows]) + "\n"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds of processor time."""
    before = os.times()
    made = work()
    after = os.times()
    return made, sum(after[:4]) - sum(before[:4])


def _run(name: str) -> None:
    """An example by its command, into a folder that is thrown away."""
    tool, *rest = shlex.split(examples.command(name))
    place = Path(sys.executable).parent / tool
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([place, *rest, "-o", f"{folder}/out", "-q"], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__)
    parser.add_argument("--anew", nargs="+", choices=STUDIES, default=[], help="compute these results first")
    parser.add_argument("--time", nargs="+", choices=examples.names(), default=[], help="run these examples")
    asked = parser.parse_args()
    known = dict(read_json(RUNTIMES)) if RUNTIMES.is_file() else {}
    for name in asked.anew:
        made, known[name] = timed(STUDIES[name].compute)
        write_json(DOCS / f"{name}.json", {"schema_version": 1, **made})
        write_json(RUNTIMES, {key: round(known[key], 1) for key in sorted(known)})
    for name in asked.time:
        _, known[name] = timed(lambda name=name: _run(name))  # type: ignore[misc]
        write_json(RUNTIMES, {key: round(known[key], 1) for key in sorted(known)})
    pages = [page(name) for name in names()]
    for each in pages:
        write_text(DOCS / f"{each.name}.md", each.text)
        write_text(DOCS / f"{each.name}.svg", each.svg)
    write_text(DOCS / "README.md", index(pages))


if __name__ == "__main__":
    main()
