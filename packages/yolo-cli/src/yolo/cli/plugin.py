"""What yolo-cli adds to itself, through the same hook as everybody else."""

from __future__ import annotations

from collections.abc import Iterable

from yolo.core.plugins import CommandSpec, hookimpl


@hookimpl
def yolo_commands() -> Iterable[CommandSpec]:
    """The commands that need nothing but yolo-core."""
    yield CommandSpec(
        "predict", target="yolo.cli.commands.predict:predict", summary="Find objects in images with a trained model."
    )
    yield CommandSpec(
        "models",
        target="yolo.cli.commands.models:models",
        summary="List the networks, show their layers, fetch published weights.",
    )
    yield CommandSpec(
        "checkpoint",
        target="yolo.cli.commands.checkpoint:checkpoint",
        summary="Look into files of weights, convert and strip them.",
    )
    yield CommandSpec(
        "plugins", target="yolo.cli.commands.plugins:plugins", summary="List what is installed and what it adds."
    )
    yield CommandSpec(
        "doctor", target="yolo.cli.commands.doctor:doctor", summary="Check versions, devices, plugins and limits."
    )
