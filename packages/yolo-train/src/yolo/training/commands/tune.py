"""``yolo tune``: measure, and suggest settings. What measures is imported only when it runs."""

from __future__ import annotations

import click

from yolo.cli.group import PassthroughCommand


def _batch_size(args: list[str]) -> int:
    from yolo.training.messages import set_up_messages

    set_up_messages()
    from yolo.training.tuning.batch_size import run_batch_size

    return run_batch_size(args)


def _loader(args: list[str]) -> int:
    from yolo.training.messages import set_up_messages

    set_up_messages()
    from yolo.training.tuning.loader import run_loader

    return run_loader(args)


@click.group("tune")
def tune() -> None:
    """Measure on this machine, and suggest settings.

    Both commands take the configuration and the options of 'yolo fit'. They train nothing and write nothing but what
    --json names.
    """


for _name, _run, _summary in (
    ("batch-size", _batch_size, "Measure batches of several sizes: speed and memory."),
    ("loader", _loader, "Find out whether loading or the network is slower, and why."),
):
    _command = PassthroughCommand(_name, _run)
    _command.short_help = _summary
    tune.add_command(_command)
