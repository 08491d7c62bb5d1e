"""``yolo checkpoint``: what is in a file of weights, and how to make a plainer or a smaller one of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.core.errors import UsageError

from ..byte_bar import megabytes
from ..output import note, print_json, print_table
from ..plain_warnings import warnings_as_notes

if TYPE_CHECKING:
    from yolo.core.weights.convert import Conversion

_FILE = click.Path(path_type=Path)
_FORCE = click.option("--force", is_flag=True, help="Replace an existing file.")
_MODEL = click.option("--model", help="For plain weights: the network they belong to, a name or a YAML file.")


@click.group("checkpoint")
def checkpoint() -> None:
    """Look into files of weights, convert and strip them.

    All of .ckpt, .pt, .pth and .safetensors are read, also those of the official YOLOv9 and YOLOv7; nothing in them is
    ever executed.
    """


@checkpoint.command("show", short_help="Say what is in a file of weights.")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with the layer list and the configuration.")
@click.option("--config", "config", is_flag=True, help="Print the configuration of the training, as YAML.")
@_MODEL
def show(*, file: Path, as_json: bool, config: bool, model: str | None) -> None:
    """Say what is in a file of weights: network, classes, size, training, data, versions."""
    from yolo.core.weights.file import untrusted

    from .checkpoint_facts import read_facts

    with warnings_as_notes(), untrusted(str(file)):
        facts = read_facts(file, model=model)
        if config:
            click.echo(facts.config().rstrip())
        elif as_json:
            print_json(facts.to_dict())
        else:
            print_table(("Property", "Value"), facts.rows())


@checkpoint.command("convert", short_help="Write weights as .pt, .safetensors or .ckpt.")
@click.argument("file", type=_FILE)
@click.option("--output", "-o", required=True, type=_FILE, help="File to write: .pt, .pth, .safetensors or .ckpt.")
@click.option("--fuse", "fused", is_flag=True, help="Fold normalisation and merge branches; for inference only.")
@click.option("--raw", is_flag=True, help="The weights that were trained, instead of their average (EMA).")
@_MODEL
@_FORCE
def convert(*, file: Path, output: Path, fused: bool, raw: bool, model: str | None, force: bool) -> None:
    """Write the weights of a file as .pt (by name, for other programs), .safetensors or .ckpt.

    What .safetensors and .ckpt hold is complete: network, class names, image size. The new file predicts the same; with
    --fuse that is measured first.
    """
    from yolo.core.weights.convert import convert

    with warnings_as_notes():
        done = convert(file, output, fused=fused, raw=raw, model=model, force=force)
    _tell(done)
    if fused:
        note(f"Fused: probabilities on a test picture change by at most {done.difference:.1g}.")


@checkpoint.command("strip", short_help="Leave away what only training needs.")
@click.argument("file", type=_FILE)
@click.option("--output", "-o", required=True, type=_FILE, help="File to write, .ckpt.")
@_MODEL
@_FORCE
def strip(*, file: Path, output: Path, model: str | None, force: bool) -> None:
    """Leave away what only training needs: optimiser, raw weights, auxiliary branch.

    The rest predicts, validates and exports as before, and can be the start of another training (weight_path); the
    training itself cannot be resumed from it.
    """
    from yolo.core.weights.convert import convert

    if output.suffix.lower() != ".ckpt":
        raise UsageError(f"--output '{output}' must end with .ckpt; 'yolo checkpoint convert' writes other files")
    with warnings_as_notes():
        _tell(convert(file, output, strip=True, model=model, force=force))


def _tell(done: Conversion) -> None:
    bundle = done.bundle
    model = f"{bundle.spec().name}, {len(bundle.class_names)} classes, {'x'.join(map(str, bundle.image_size))}"
    click.echo(f"{done.path}  {megabytes(done.bytes_after)} (from {megabytes(done.bytes_before)})  {model}")
