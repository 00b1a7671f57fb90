"""Writes docs/cli.md from the commands themselves: `python -m carbonfleet.docs docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from carbonfleet.cli import cli

HEAD = """# Command line

Written by `make docs` from the commands' own help; a test fails when it is stale. `simulate`, `optimize` and
`calibrate` are also commands of their own.
"""
WIDTH = 100


def walk(command: click.Command = cli, context: click.Context | None = None) -> Iterator[click.Context]:
    """A context for the group and every command below it, in the order of the help."""
    name = "carbonfleet" if context is None else command.name
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    here = click.Context(command, info_name=name, parent=context, **settings)
    yield here
    if isinstance(command, click.Group):
        for child in command.list_commands(here):
            found = command.get_command(here, child)
            if found is not None:
                yield from walk(found, here)


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for context in walk():
        title = "#" * (2 if context.parent is None else len(context.command_path.split()))
        parts.append(f"{title} {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    from profiles.outputs import write_text

    write_text(sys.argv[1], render())
