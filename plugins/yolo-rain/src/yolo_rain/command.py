"""`yolo rain-preview`: a picture, and the same picture in the rain, side by side."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("rain-preview")
@click.option("--source", required=True, type=click.Path(path_type=Path), help="The picture.")
@click.option("--output", default="rain.jpg", show_default=True, type=click.Path(path_type=Path), help="Written here.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 8), help="How many showers to show.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Same seed, same showers.")
@click.option("--density", default=650.0, show_default=True, help="Most streaks in a square picture.")
@click.option("--slant", default=15.0, show_default=True, help="Largest angle from the vertical, degrees.")
@click.option("--haze", default=0.3, show_default=True, help="Largest loss of contrast, 0 to 1.")
def rain_preview(
    *, source: Path, output: Path, count: int, seed: int, density: float, slant: float, haze: float
) -> None:
    """Show what the augmentation `rain` does to a picture.

    The picture as it is comes first, then one or more showers as training would see them.
    """
    # Imported here, so that `yolo rain-preview --help` is as quick as any other help.
    from yolo.core.images import read_image
    from yolo_rain.augment import Rain
    from yolo_rain.preview import side_by_side, write_image

    pictures = side_by_side(read_image(source), Rain(density=density, slant=slant, haze=haze), count=count, seed=seed)
    write_image(pictures, output)
    height, width = pictures.shape[:2]
    click.echo(f"{output} ({width}x{height}): {source.name} and {count} shower{'s' if count > 1 else ''}")
