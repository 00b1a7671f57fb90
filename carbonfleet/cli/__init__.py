"""The command line: one group, each command imported only when it is asked for, every error one line.

Nothing heavy is imported here or at the top of a command's module, so that `--help` is quick.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from carbonfleet import __version__

COMMANDS = (
    "simulate",
    "optimize",
    "calibrate",
    "predict",
    "trace",
    "profiles",
    "catalog",
    "grid",
    "embodied",
    "report",
    "compare",
    "verify",
    "reproduce",
    "sweep",
    "demo",
)
INTERRUPTED, BROKEN_PIPE = 130, 141


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, each with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        return load_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of `args`; an unknown name is answered with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from profiles.inputs import near_miss

            ctx.fail(f"no such command {args[0]!r}; {near_miss(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


def load_command(name: str) -> click.Command:
    """The click command of one module of this package."""
    command: click.Command = importlib.import_module(f"carbonfleet.cli.{name}").command
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="carbonfleet")
def cli() -> None:
    """Which GPUs should serve this LLM traffic, where and how, for the least carbon.

    Results go to stdout, progress and warnings to stderr; --json on any command prints one JSON document. Every option
    also reads an environment variable: CARBONFLEET_SIMULATE_SEED is --seed of simulate.

    Exit codes: 0 ok, 1 run error, 2 usage, 3 infeasible, 4 no GPU, 5 plan unverified, 130 interrupted.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """`carbonfleet`: run and exit with the command's code."""
    _enter(lambda: cli, "carbonfleet", "CARBONFLEET", args)


def simulate_main(args: list[str] | None = None) -> NoReturn:
    """`simulate`, the same as `carbonfleet simulate`."""
    _alone("simulate", args)


def optimize_main(args: list[str] | None = None) -> NoReturn:
    """`optimize`, the same as `carbonfleet optimize`."""
    _alone("optimize", args)


def calibrate_main(args: list[str] | None = None) -> NoReturn:
    """`calibrate`, the same as `carbonfleet calibrate`."""
    _alone("calibrate", args)


def _alone(name: str, args: list[str] | None) -> NoReturn:
    def single() -> click.Command:
        command = copy.copy(load_command(name))  # with --version, which the one inside the group goes without
        command.params = list(command.params)
        return click.version_option(__version__, prog_name=name)(command)

    _enter(single, name, f"CARBONFLEET_{name.upper()}", args)


def _enter(get: Callable[[], click.Command], prog: str, prefix: str, args: list[str] | None) -> NoReturn:
    """Run a command and turn whatever happens into an exit code and at most one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ₂ shows ? instead of failing
    try:
        code = get().main(args, prog_name=prog, standalone_mode=False, auto_envvar_prefix=prefix)
        sys.stdout.flush()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException as error:
        code = _report(error)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Say on one line what went wrong; the exit code."""
    from profiles.inputs import CarbonfleetError

    if os.environ.get("CARBONFLEET_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError) and error.filename is None:  # stdout itself: closed by its reader, or a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a group alone: show what there is
        click.echo(error.ctx.get_help() if error.ctx else error.format_message())
        return 0
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        _say(f"error: {error.format_message().rstrip('.')}{hint}")
        return error.exit_code
    if isinstance(error, CarbonfleetError):
        _say(f"error: {error}")
        return error.exit_code
    if isinstance(error, OSError):
        _say(f"error: {error.filename or 'the result'}: cannot be read or written ({error.strerror})")
        return 1
    if isinstance(error, MemoryError):
        _say("error: out of memory; simulate a shorter horizon or fewer requests")
        return 1
    text = f"{type(error).__name__}: {error}"
    _say(f"internal error: {text} (please report; CARBONFLEET_TRACEBACK=1 shows where)")
    return 1


def _say(text: str) -> None:
    print(" ".join(text.split()), file=sys.stderr)
