"""``yolo data``: what is done to data sets as a whole. Its commands are imported only when they are run."""

from __future__ import annotations

import click

from yolo.core.errors import UsageError
from yolo.core.plugins import did_you_mean, load_target

#: Name, where the click command is, and its line in the help.
_COMMANDS = {
    "check": ("yolo.data.commands.check:check", "Find what is wrong in a data set, with file and line."),
    "decrypt": ("yolo.data.commands.encrypt:decrypt", "Decrypt the .enc files of a folder."),
    "encrypt": ("yolo.data.commands.encrypt:encrypt", "Encrypt the images of a folder."),
}


class LazyGroup(click.Group):
    """Lists commands from a table, and imports the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises:
            UsageError: there is no such command.
        """
        if cmd_name not in _COMMANDS:
            if ctx.resilient_parsing:
                return None
            hint = did_you_mean(cmd_name, list(_COMMANDS)) or f"Choose from {', '.join(_COMMANDS)}."
            raise UsageError(f"'yolo data' has no command '{cmd_name}'. {hint}")
        command: click.Command = load_target(_COMMANDS[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write name and summary of each command, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group("data", cls=LazyGroup)
def data() -> None:
    """Check data sets, and encrypt and decrypt their images."""
