"""The entry point of the ``yolo`` command."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

import click

from yolo.core.version import __version__ as core_version

from .errors import exit_code_of
from .group import PluginGroup, leading_flags
from .version import __version__


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"yolo {__version__} (yolo-core {core_version})")
        ctx.exit()


@click.group(
    "yolo",
    cls=PluginGroup,
    epilog="Each command has its own --help. 'yolo plugins' shows where the commands come from.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--no-plugins", is_flag=True, help="Leave third-party plugins out; the project's own stay.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli(**flags: Any) -> None:
    """Train, evaluate, export and run object detectors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``yolo`` command.

    Args:
        argv: the arguments after the program's name; those of this process by default.

    Returns:
        The exit code: 0, 1 for a failure, 2 for wrong usage, 130 when interrupted, or what the command returned.
        No exception leaves this function.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that a pipe's encoding lacks must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(args=args, prog_name="yolo", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return exit_code_of(error, debug="--debug" in leading_flags(args))
    return code if isinstance(code, int) else 0
