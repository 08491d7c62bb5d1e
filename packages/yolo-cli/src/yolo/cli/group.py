"""A click group whose commands come from plugins and are imported only when they are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import click
from click.shell_completion import CompletionItem

from yolo.core.plugins import CommandSpec, PluginError, get_manager, registry, reset_manager
from yolo.core.plugins.settings import NO_PLUGINS


def leading_flags(args: Sequence[str]) -> list[str]:
    """The global flags: what stands before the command's name (none of them takes a value)."""
    return list(takewhile(lambda arg: arg.startswith("-") and arg != "--", args))


class PassthroughCommand(click.Command):
    """A command that parses its own arguments: everything after its name reaches ``run`` untouched."""

    def __init__(self, name: str, run: Callable[[list[str]], int | None]) -> None:
        super().__init__(name, add_help_option=False)
        self._run = run

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they are, ``--help`` and ``--`` included."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, and end with the exit code that it returns."""
        ctx.exit(self._run(list(ctx.args)) or 0)


class PluginGroup(click.Group):
    """Lists commands from their records, which imports nothing, and imports the one that is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Apply ``--no-plugins`` before anything asks for commands, wherever it stands among the global flags."""
        if "--no-plugins" in leading_flags(args):
            # The environment carries the choice into processes that a command starts.
            os.environ[NO_PLUGINS] = "1"
            reset_manager()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command; what it returns is not an exit code, see :class:`PassthroughCommand`."""
        super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return registry("commands").names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:
            UsageError: there is no such command.
            PluginError: its plugin is broken, or two plugins have it.
        """
        if ctx.resilient_parsing and cmd_name not in registry("commands"):
            return None
        return _load(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        if args[0] == "--":
            args = args[1:] or ctx.fail("Missing command.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write name and summary of each command, from the records alone."""
        rows = [(spec.name, spec.summary) for spec in registry("commands")]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
        broken = ", ".join(f"{plugin.name} ({plugin.dist})" for plugin in get_manager().broken())
        if broken:
            formatter.write_paragraph()
            formatter.write_text(f"Broken plugins, whose commands may be missing here: {broken}. See 'yolo plugins'.")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the records, and the global flags."""
        commands = [
            CompletionItem(spec.name, help=spec.summary)
            for spec in registry("commands")
            if spec.name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


def _load(name: str) -> click.Command:
    commands = registry("commands")
    spec = commands.get(name)
    target: Any = commands.load(name)
    passthrough = isinstance(spec, CommandSpec) and spec.passthrough
    wrong = not callable(target) if passthrough else not isinstance(target, click.Command)
    if wrong:
        expected = "a callable that takes the arguments" if passthrough else "a click.Command"
        raise PluginError(
            f"The command '{name}' of {commands.plugin(name).origin} does not work: {spec.target} must be {expected}, "
            f"not {type(target).__name__}"
        )
    return PassthroughCommand(name, target) if passthrough else target
