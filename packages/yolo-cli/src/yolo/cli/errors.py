"""From an exception to one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import click

from yolo.core.errors import YoloError

FAILURE = 1
USAGE = 2
INTERRUPTED = 130

# Its message is the whole help text. Click before 8.2 prints the help itself and ends with 0.
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


def exit_code_of(error: BaseException, *, debug: bool = False) -> int:
    """Tell the user about ``error`` on stderr and return the exit code of the process.

    A :class:`~yolo.core.errors.YoloError` or a wrong option is one red line. Anything else is a defect: one line that
    says how to get the traceback. With ``debug`` the traceback comes first.
    """
    if isinstance(error, SystemExit):
        return _code_of_exit(error)
    if isinstance(error, BrokenPipeError):
        return _closed_pipe()
    if _interrupted(error):
        _red("Interrupted.")
        return INTERRUPTED
    if debug:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    if isinstance(error, YoloError):
        text = str(error)
        boxed = text.startswith("╔")  # drawn line by line
        _red(text if boxed else f"Error: {_one_line(text) or type(error).__name__}")
        return error.exit_code
    if isinstance(error, _NO_ARGUMENTS):
        error.show()
        return USAGE
    if isinstance(error, click.ClickException):
        _red(f"Error: {_one_line(error.format_message())}{_help_hint(error)}")
        return error.exit_code
    if isinstance(error, click.Abort):
        _red("Aborted.")
        return FAILURE
    text = _one_line(str(error))
    name = type(error).__name__
    hint = "" if debug else " (unexpected; 'yolo --debug ...' shows the traceback)"
    _red(f"Error: {name}: {text}{hint}" if text else f"Error: {name}{hint}")
    return FAILURE


def _red(line: str) -> None:
    click.secho(line, fg="red", err=True, color=False if os.environ.get("NO_COLOR") else None)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _help_hint(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f" See '{error.ctx.command_path} --help'."
    return ""


def _interrupted(error: BaseException) -> bool:
    # Click turns an interrupt into Abort, and keeps it as the cause.
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


def _code_of_exit(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    _red(f"Error: {error.code}")
    return FAILURE


def _closed_pipe() -> int:
    """The reader of our output is gone (``yolo plugins | head -1``): end quietly, as other tools do."""
    # Python flushes stdout once more at exit, and would complain then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILURE
