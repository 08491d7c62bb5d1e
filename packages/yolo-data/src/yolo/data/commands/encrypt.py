"""``yolo data encrypt`` and ``yolo data decrypt``: a folder of images into ``.enc`` files, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from yolo.core.errors import UsageError

if TYPE_CHECKING:
    from yolo.data.encryption.folder import Direction
    from yolo.data.encryption.keys import Key

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(command: _Command) -> _Command:
    """The options that both commands have."""
    path = click.Path(path_type=Path)
    for decorate in reversed(
        (
            click.argument("folder", type=path),
            click.option("--output", "-o", type=path, help="Folder for the results. Not set: beside the originals."),
            click.option("--force", is_flag=True, help="Replace existing files that hold something else."),
            click.option(
                "--remove-originals",
                is_flag=True,
                help="Remove each original after its copy was read again and found to be the same.",
            ),
            click.option(
                "--config",
                "config",
                type=path,
                help="Take the key from data.encryption_key of this file instead of YOLO_ENCRYPTION_KEY.",
            ),
        )
    ):
        command = decorate(command)
    return command


@click.command("encrypt")
@_options
def encrypt(folder: Path, **options: Any) -> None:
    """Encrypt the images of a folder.

    Every image below FOLDER becomes an .enc file (a.jpg becomes a.jpg.enc) that data.image_loader: encrypted reads and
    that nobody can read or change unnoticed without the key. Names, sizes and labels stay in clear. The key is 64
    hexadecimal characters in YOLO_ENCRYPTION_KEY, and whoever loses it loses the images. To make one:

    \b
      export YOLO_ENCRYPTION_KEY=$(python -c "import os; print(os.urandom(32).hex())")
    """
    _run("encrypt", folder, **options)


@click.command("decrypt")
@_options
def decrypt(folder: Path, **options: Any) -> None:
    """Decrypt the .enc files of a folder.

    Reads both what `yolo data encrypt` writes and the older AES-CBC files. The key is 64 hexadecimal characters in
    YOLO_ENCRYPTION_KEY.
    """
    _run("decrypt", folder, **options)


def _run(
    direction: Direction,
    folder: Path,
    *,
    output: Path | None,
    force: bool,
    remove_originals: bool,
    config: Path | None,
) -> None:
    from yolo.cli.output import note, track
    from yolo.data.encryption.folder import convert_folder

    key = _key(config)
    done = convert_folder(
        folder,
        output,
        key,
        direction=direction,
        force=force,
        remove_originals=remove_originals,
        track=track,
    )
    parts = [f"Images {direction}ed: {done.written}"]
    if done.kept:
        parts.append(f"done before: {done.kept}")
    parts.append(f"originals removed: {done.removed}" if done.removed else "originals kept")
    click.echo(f"{', '.join(parts)}. In {output or folder}, key id {key.id}.")
    if done.others and output is not None:
        note(f"Not copied: {done.others} other files, such as labels and lists, which stay in {folder}.")


def _key(config: Path | None) -> Key:
    from yolo.data.encryption.keys import find_key, parse_key

    if config is None:
        return find_key()
    import yaml

    try:
        content = yaml.safe_load(config.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {str(config)!r} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # the message itself would show a piece of the file
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise UsageError(f"--config {str(config)!r} is not a YAML file{where}") from None
    section = content.get("data") if isinstance(content, dict) else None
    text = section.get("encryption_key") if isinstance(section, dict) else None
    return find_key() if text is None else parse_key(text, source=f"data.encryption_key of {config}")
