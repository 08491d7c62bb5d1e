"""``yolo predict``: find objects in images and videos, draw them, and write them down."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.core.errors import UsageError, YoloError

from ..output import is_terminal, note, track
from ..plain_warnings import warnings_as_notes

if TYPE_CHECKING:
    from yolo.core.predictor import Predictor
    from yolo.core.sources import Place

    from ..predictions.names import Names
    from ..predictions.sinks import Sink

AUTO = "auto"


@dataclass(frozen=True)
class _Wanted:
    """What is to be written."""

    output: str
    draw: bool
    json: bool
    csv: bool
    coco: bool
    txt: bool
    scores_in_txt: bool
    crops: bool


@click.command("predict")
@click.option(
    "--checkpoint",
    "-c",
    required=True,
    type=click.Path(path_type=Path),
    help="Trained model (.ckpt), plain weights (.pt, .pth, .safetensors), or an exported file (.onnx, ...).",
)
@click.option(
    "--source",
    "-s",
    required=True,
    help="An image, a folder of images (sub-folders included), a pattern in quotes ('shots/**/*.jpg'), a list file "
    "(.txt), a video, a camera (0), an address (http, https, rtsp, ...), or - for standard input.",
)
@click.option(
    "--output",
    "-o",
    default=AUTO,
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
@click.option("--agnostic-nms", is_flag=True, help="Boxes of different classes suppress each other, too.")
@click.option("--draw/--no-draw", default=True, show_default=True, help="Write pictures, or videos, with boxes.")
@click.option(
    "--save-json/--no-save-json",
    default=False,
    show_default=True,
    help="Write predictions.json, boxes in pixels of the original image.",
)
@click.option("--save-csv", is_flag=True, help="Write predictions.csv, one line a detection.")
@click.option("--save-coco", is_flag=True, help="Write coco_predictions.json, COCO's result format.")
@click.option("--save-txt", is_flag=True, help="Write YOLO label files, labels/<name>.txt.")
@click.option("--save-conf", is_flag=True, help="Write scores into the label files, too.")
@click.option("--save-crops", is_flag=True, help="Write what lies in each box, crops/<class>/<name>_<n>.jpg.")
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
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    show_default="1 on the CPU, else 8",
    help="Images that go through the network together.",
)
@click.option("--tile", help="Look at larger images in tiles of this size, too: 640, or width x height.")
@click.option(
    "--overlap",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Least share of a tile that it has in common with the next.",
)
@click.option("--augment", is_flag=True, help="Look at each image mirrored and smaller, too; four times the time.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many images or frames.")
@click.option("--model", help="For plain weights: the network they belong to, a name such as v9-c or a YAML file.")
def predict(
    checkpoint: Path,
    source: str,
    output: str,
    conf: float,
    iou: float,
    max_det: int,
    agnostic_nms: bool,
    draw: bool,
    save_json: bool,
    save_csv: bool,
    save_coco: bool,
    save_txt: bool,
    save_conf: bool,
    save_crops: bool,
    class_names: Path | None,
    device: str,
    size: str | None,
    batch_size: int | None,
    tile: str | None,
    overlap: float,
    augment: bool,
    max_frames: int | None,
    model: str | None,
) -> None:
    """Find objects in images or videos with a trained model.

    Prints one line per image. Pictures with boxes go to a new folder that is named at the end. An image
    that cannot be read is reported and left out, and the exit code is then 1.
    """
    from yolo.core.class_names import read_class_names
    from yolo.core.sources import STDIN, check_source, find_places, is_endless

    from ..predictions.names import Names, root_of

    check_source(source, option="--source")
    places = None if source == STDIN else list(find_places(source))
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
            batch_size=batch_size,
            architecture=model,
            class_agnostic=agnostic_nms,
            tile=tile,
            overlap=overlap,
            augment=augment,
        )
        wanted = _Wanted(output, draw, save_json, save_csv, save_coco, save_txt, save_conf, save_crops)
        sinks = _sinks(wanted, places, predictor.class_names)
        run = _Run(predictor, sinks, Names(root_of(source)), places)
        try:
            whole = run.all_of(source, most=max_frames)
        except BrokenPipeError:
            raise
        except OSError as error:  # reading reports in its own words, so this is about writing
            raise YoloError(f"cannot write the results: {error}") from error
    if not whole and not is_endless(source):
        note("What was found until now is kept.")
        raise KeyboardInterrupt
    if run.failures:
        raise YoloError(f"{run.failures} of {run.failures + run.images} images could not be read; they are named above")


class _Run:
    """One prediction run: hands results on, prints them, and counts.

    Args:
        predictor: finds.
        sinks: what takes the results.
        names: of the pictures.
        places: of the pictures; None for standard input.
    """

    def __init__(self, predictor: Predictor, sinks: list[Sink], names: Names, places: Sequence[Place] | None) -> None:
        from yolo.core.sources import is_video

        self.predictor, self.sinks, self.names = predictor, sinks, names
        self.total = None if places is None or any(map(is_video, places)) else len(places)
        self.single = places is not None and len(places) == 1  # if it cannot be read, nothing is left to go on with
        self.failures = self.images = self.objects = 0
        # rich's bar takes over sys.stdout while it runs; results that go to a file or a pipe must not follow it.
        self._out = None if is_terminal() else sys.stdout

    def all_of(self, source: str, *, most: int | None) -> bool:
        """Predict on everything; False when Ctrl-C ended it: what was found so far is kept."""
        start = time.perf_counter()
        complete, whole = False, True
        with ExitStack() as stack:  # closes all of them, even when one cannot be closed
            for sink in self.sinks:
                stack.callback(lambda one: one.close(complete=complete), sink)
            try:
                for count, _ in enumerate(self._each(source), start=1):
                    if count == most:
                        break
            except KeyboardInterrupt:
                whole = False
            complete = True
        self._summary(time.perf_counter() - start)
        return whole

    def _each(self, source: str) -> Iterator[None]:
        predictions = self.predictor.predict_pairs(source, on_error=None if self.single else self._report)
        # Without a terminal the lines themselves show how far it is.
        shown = track(predictions, "Predicting", total=self.total) if is_terminal(sys.stderr) else predictions
        for prediction in shown:
            found = prediction.detections
            name = self.names.of(found)
            for sink in self.sinks:
                sink.add(prediction, name)
            self.images, self.objects = self.images + 1, self.objects + len(found)
            width, height = found.size
            click.echo(f"{_printable(name)}  {width}x{height}  {_printable(found.summary())}", file=self._out)
            yield

    def _report(self, error: YoloError) -> None:
        self.failures += 1
        note(f"Skipped: {error}")

    def _summary(self, seconds: float) -> None:
        counts = f"{self.images} image{'s' * (self.images != 1)}, {self.objects} object{'s' * (self.objects != 1)}"
        click.echo(f"{counts}, {seconds:.1f} s on {self.predictor.device}", file=self._out)
        for sink in self.sinks:
            line = sink.written()
            if line:
                click.echo(line, file=self._out)


def _sinks(wanted: _Wanted, places: Sequence[Place] | None, class_names: tuple[str, ...]) -> list[Sink]:
    """What takes the results, the pictures first.

    Raises:
        UsageError: ``--output`` cannot be for this source.
    """
    from yolo.core.weights.coco import coco_category_ids

    from ..predictions.pictures import Crops, Pictures
    from ..predictions.records import CocoFile, CsvFile, JsonFile, LabelFiles
    from ..predictions.sinks import Folder
    from ..predictions.videos import Videos

    target, single = _targets(wanted, places)
    folder = Folder(target, sources=[place for place in places or () if isinstance(place, Path)])
    sinks: list[Sink] = []
    if wanted.draw:
        sinks += [Pictures(folder, single=single), Videos(folder, single=single)]
    if wanted.crops:
        sinks.append(Crops(folder))
    if wanted.json:
        sinks.append(JsonFile(folder))
    if wanted.csv:
        sinks.append(CsvFile(folder))
    if wanted.coco:
        sinks.append(CocoFile(folder, coco_category_ids(class_names)))
    if wanted.txt or wanted.scores_in_txt:
        sinks.append(LabelFiles(folder, with_scores=wanted.scores_in_txt))
    return sinks


def _targets(wanted: _Wanted, places: Sequence[Place] | None) -> tuple[Path | None, Path | None]:
    """The folder of the results, and the name of the one picture or video where ``--output`` gives one."""
    from yolo.core.sources import is_video

    from ..predictions.pictures import FORMATS
    from ..predictions.videos import SUFFIX

    if wanted.output == AUTO:
        return None, None
    if not wanted.output:
        raise UsageError("--output is empty; give a folder")
    target = Path(wanted.output)
    suffix = target.suffix.lower()
    if target.is_dir() or not (wanted.draw and suffix in (*FORMATS, SUFFIX)):
        if target.exists() and not target.is_dir():
            raise UsageError(f"--output {wanted.output!r} is a file; give a folder")
        return target, None
    is_one = suffix in FORMATS if places is None else len(places) == 1 and is_video(places[0]) == (suffix == SUFFIX)
    if not is_one:
        kind = "video" if suffix == SUFFIX else "picture"
        raise UsageError(f"--output {wanted.output!r} is a file, but --source is not one {kind}; give a folder")
    return target.parent, target


def _printable(name: str) -> str:
    """A file name that holds a line break or is not text would break the output."""
    return name if name.isprintable() else ascii(name)
