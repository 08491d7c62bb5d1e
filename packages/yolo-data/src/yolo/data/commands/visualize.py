"""``yolo visualize-aug``: augmented training samples with their boxes, as pictures."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo.core.errors import UsageError, YoloError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from yolo.data.config import DataConfig
    from yolo.data.labels import LabelTable
    from yolo.data.viewer import SampleViewer

FOLDER = "aug_viz"
_SEED = 1 << 31


@click.command(
    "visualize-aug",
    context_settings={"ignore_unknown_options": True},
    epilog="Every setting of the data section can be given as --data.KEY=VALUE, as to 'yolo fit', and wins over files.",
)
@click.option(
    "--config", "-c", required=True, multiple=True, help="Configuration file or packaged name; later ones win."
)
@click.option(
    "--num-samples", "-n", default=10, show_default=True, type=click.IntRange(1), help="Number of random samples."
)
@click.option("--indices", help='Numbers of certain images of the training split instead, such as "0,5,10".')
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    show_default=f"<data.root>/{FOLDER}",
    help="Folder to write into.",
)
@click.option(
    "--seed", type=click.IntRange(0), show_default="another each time", help="Decides samples and augmentations."
)
@click.option("--show-original", is_flag=True, help="Write the images without augmentation, too.")
@click.option("--grid", is_flag=True, help="Write one picture with all of them, four a row: grid.jpg.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[--data.KEY=VALUE]...")
def visualize_aug(
    config: tuple[str, ...],
    num_samples: int,
    indices: str | None,
    output: Path | None,
    seed: int | None,
    show_original: bool,
    grid: bool,
    options: tuple[str, ...],
) -> None:
    """Draw augmented training samples with their boxes, made by the very pipeline of training.

    Writes aug_<number>.jpg for each, where the number is that of the image in the training split. With --seed set to
    the seed of a run, these are the samples of its first epoch.
    """
    from yolo.cli.notes import shown_notes
    from yolo.data.config_files import data_settings

    chance = secrets.randbelow(_SEED) if seed is None else None
    settings = replace(data_settings(config, options), seed=seed if chance is None else chance)
    with shown_notes():
        _visualize(settings, output, wanted=indices, count=num_samples, originals=show_original, grid=grid, new=chance)


def _visualize(
    config: DataConfig,
    output: Path | None,
    *,
    wanted: str | None,
    count: int,
    originals: bool,
    grid: bool,
    new: int | None,
) -> None:
    from yolo.cli.output import note, print_table, track
    from yolo.data.formats import load_labels
    from yolo.data.formats.report import show
    from yolo.data.sheet import Sheet
    from yolo.data.viewer import SampleViewer
    from yolo.data.wording import counted

    table = load_labels(config, "train")
    viewer = SampleViewer(config, table)
    chosen = _random(len(table), count, config.seed or 0) if wanted is None else _parse(wanted, len(table))
    if wanted is None and len(chosen) < count:
        note(f"The training split has {counted(len(chosen), 'image')}, so that there are no {count} samples.")
    folder = _folder(output, config, table, viewer)
    if new is not None:  # said only now: a wrong option needs no seed
        note(f"Seed {new}: the same pictures again with --seed {new}")
    pictures = track(_pictures(viewer, table, chosen, originals=originals), "Drawing", total=len(chosen))
    sheet = Sheet(len(chosen) * (1 + originals), config.size) if grid else None
    rows = []
    for index, boxes, drawn in pictures:
        for name, picture in drawn:
            if sheet is not None:
                sheet.add(picture, f"{name} {show(Path(table.path(index)).name)}")
            else:
                _write(folder / f"{name}.jpg", picture)
        rows.append((f"aug_{index:04d}", show(Path(table.path(index)).name), boxes))
    if sheet is not None:
        _write(folder / "grid.jpg", sheet.picture)
    print_table(("Sample", "First image", "Boxes"), rows)
    click.echo(f"Written: {folder / 'grid.jpg' if grid else folder}")


def _pictures(
    viewer: SampleViewer, table: LabelTable, indices: list[int], *, originals: bool
) -> Iterator[tuple[int, int, list[tuple[str, NDArray[np.uint8]]]]]:
    """Draw sample by sample: the image's number, the count of boxes, and its pictures by name."""
    from yolo.data.viewer import draw_sample

    for sample in viewer.samples(indices):
        drawn = [(f"aug_{sample.index:04d}", draw_sample(sample, table.class_names))]
        if originals:
            original = viewer.original(sample.index)
            drawn.insert(0, (f"orig_{sample.index:04d}", draw_sample(original, table.class_names)))
        yield sample.index, len(sample.targets), drawn


def _random(available: int, count: int, seed: int) -> list[int]:
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x71E3])))
    return sorted(rng.choice(available, min(count, available), replace=False).tolist())


def _parse(text: str, available: int) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f'--indices {text!r}: give whole numbers with commas between them, such as "0,5,10"')
    indices = list(dict.fromkeys(map(int, parts)))
    for index in indices:
        if index >= available:
            raise UsageError(f"--indices: there is no image {index}, the training split has 0 to {available - 1}")
    return indices


def _folder(output: Path | None, config: DataConfig, table: LabelTable, viewer: SampleViewer) -> Path:
    """Where to write: never among the images, nor decrypted pictures where nobody asked for them."""
    from yolo.data.config import SPLITS

    if output is None and viewer.dataset.loader.confidential:
        raise UsageError("the images are encrypted, and these pictures are not: say with --output where they may lie")
    folder = (output or (config.folder if config.folder.is_dir() else Path()) / FOLDER).expanduser().resolve()
    homes = {path.resolve() for split in SPLITS if (path := config.path("images", split)) is not None}
    homes |= {Path(parent).resolve() for parent in {os.path.dirname(path) for path in table.paths}}  # noqa: PTH120  # hot
    if any(folder.is_relative_to(home) for home in homes):
        raise UsageError(f"{folder} lies among the images of the data set: choose another folder with --output")
    return folder


def _write(path: Path, picture: NDArray[np.uint8] | Image.Image) -> None:
    from yolo.core.files import write_atomically
    from yolo.data.viewer import jpeg

    try:
        write_atomically(path, jpeg(picture))
    except OSError as error:
        raise YoloError(f"{path} cannot be written: {error.strerror}; choose a folder with --output") from error
