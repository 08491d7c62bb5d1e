"""``yolo predict``: find objects in images, draw them, and write them as JSON."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.core.errors import UsageError, YoloError

from ..output import is_terminal, note, track
from ..plain_warnings import warnings_as_notes

if TYPE_CHECKING:
    from yolo.core.predictor import Predictor

    from .predict_output import PredictOutput


@click.command("predict")
@click.option(
    "--checkpoint",
    "-c",
    required=True,
    type=click.Path(path_type=Path),
    help="Trained model (.ckpt), or plain weights (.pt, .pth, .safetensors).",
)
@click.option(
    "--source",
    "-s",
    required=True,
    type=click.Path(path_type=Path),
    help="An image, or a folder of images (sub-folders included).",
)
@click.option(
    "--output",
    "-o",
    default="auto",
    show_default="a new folder runs/predict/<n>",
    help="Folder to write to; for one image, also the name of the picture.",
)
@click.option(
    "--conf",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Drop detections with a score up to this.",
)
@click.option(
    "--iou",
    default=0.65,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Of two boxes of a class that overlap more than this, keep the better.",
)
@click.option("--max-det", default=300, show_default=True, type=click.IntRange(1), help="Most detections per image.")
@click.option("--draw/--no-draw", default=True, show_default=True, help="Write pictures with boxes.")
@click.option(
    "--save-json/--no-save-json",
    default=True,
    show_default=True,
    help="Write predictions.json, boxes in pixels of the original image.",
)
@click.option(
    "--class-names",
    type=click.Path(path_type=Path),
    help="File with class names (JSON, data.yaml, or one a line) instead of the checkpoint's.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:<number>, mps, or auto.")
@click.option(
    "--size",
    show_default="the checkpoint's, else 640",
    help="Input size of the network: 640, or width x height as 640x384.",
)
@click.option("--model", help="For plain weights: the network they belong to, a name such as v9-c or a YAML file.")
def predict(
    checkpoint: Path,
    source: Path,
    output: str,
    conf: float,
    iou: float,
    max_det: int,
    draw: bool,
    save_json: bool,
    class_names: Path | None,
    device: str,
    size: str | None,
    model: str | None,
) -> None:
    """Find objects in images with a trained model.

    Prints one line per image. Pictures with boxes, and the boxes as JSON, go to a new folder that is
    named at the end. An image that cannot be read is reported and left out, and the exit code is then 1.
    """
    from yolo.core.class_names import read_class_names
    from yolo.core.sources import iter_items

    from .predict_output import PredictOutput

    if not source.exists():
        raise UsageError(f"--source {str(source)!r} does not exist; give an image or a folder")
    files = [item for item in iter_items(source) if isinstance(item, Path)]
    names = read_class_names(class_names) if class_names else None
    with warnings_as_notes():
        from yolo.core.predictor import Predictor

        predictor = Predictor(
            checkpoint,
            confidence=conf,
            iou=iou,
            max_detections=max_det,
            image_size=size,
            device=device,
            class_names=names,
            architecture=model,
        )
        with PredictOutput(output, source=source, files=files, draw=draw, save_json=save_json) as writer:
            try:
                failed = _predict_all(predictor, files, writer, skip=source.is_dir())
            except BrokenPipeError:
                raise
            except OSError as error:  # reading reports in its own words, so this is about writing
                raise YoloError(f"cannot write the results: {error}") from error
    if failed:
        raise YoloError(f"{failed} of {len(files)} images could not be read; they are named above")


def _predict_all(predictor: Predictor, files: list[Path], writer: PredictOutput, *, skip: bool) -> int:
    """Predict, print and write image by image; ``skip`` unreadable files and return how many there were."""
    # rich's bar takes over sys.stdout while it runs; results that go to a file or a pipe must not follow it.
    out = None if is_terminal() else sys.stdout
    start, failures, images, objects = time.perf_counter(), 0, 0, 0

    def report(error: YoloError) -> None:
        nonlocal failures
        failures += 1
        note(f"Skipped: {error}")

    # Without a terminal the lines themselves show how far it is.
    items = track(files, "Predicting") if is_terminal(sys.stderr) else files
    for prediction in predictor.predict_pairs(items, on_error=report if skip else None):
        writer.add(prediction.image, prediction.detections)
        found = prediction.detections
        name = _printable(writer.name_of(found.path or Path()))
        click.echo(f"{name}  {found.size[0]}x{found.size[1]}  {found.summary()}", file=out)
        images, objects = images + 1, objects + len(found)
    seconds = time.perf_counter() - start
    writer.finish()
    counts = f"{images} image{'s' * (images != 1)}, {objects} object{'s' * (objects != 1)}"
    click.echo(f"{counts}, {seconds:.1f} s on {predictor.device}", file=out)
    for line in writer.written():
        click.echo(line, file=out)
    return failures


def _printable(name: str) -> str:
    """A file name that holds a line break or is not text would break the output."""
    return name if name.isprintable() else ascii(name)
