"""Decoding every picture of a split: what cannot be read, and what is remembered of the rest."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from yolo.core.errors import UsageError, YoloError
from yolo.core.images import ImageWarning
from yolo.data.check.damage import jpeg_damage
from yolo.data.check.duplicates import Pictures
from yolo.data.check.hashing import perceptual_hash, thumbnail
from yolo.data.formats.report import Finding
from yolo.data.formats.sizes import without_name
from yolo.data.labels import LabelTable
from yolo.data.loaders import ImageLoader

#: Wraps what is gone through, to show how far it is: (items, text, total).
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
#: The smallest size, pixels, that the hashes need: a JPEG is decoded at an eighth where that leaves as much.
_LEAST = (64, 64)
_AT_ONCE = 512


def look_at_pictures(
    table: LabelTable, loader: ImageLoader, split: str, pictures: Pictures, *, track: Track
) -> tuple[list[Finding], set[str]]:
    """Decode every picture, as training would.

    Args:
        table: the images.
        loader: of the configuration.
        split: of the table.
        pictures: takes hash and thumbnail of each.
        track: shows progress.

    Returns:
        Findings, and the paths of pictures that cannot be used.

    Raises:
        UsageError: the loader cannot work at all: the key of encrypted images is missing.
    """
    findings, broken = [], set()
    paths = list(table.paths)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ImageWarning)
        for path, result in track(_decoded(paths, loader), f"Reading {split} images", len(paths)):
            if isinstance(result, YoloError):
                findings.append(Finding("unreadable-image", "error", path, None, without_name(result, path)))
                broken.add(path)
                continue
            pictures.paths.append(path)
            pictures.splits.append(split)
            pictures.hashes.append(result[0])
            pictures.thumbs.append(result[1])
            if result[2] is not None:
                text = f"a part of the picture is damaged, and training shows what is left of it ({result[2]})"
                findings.append(Finding("damaged-image", "warning", path, None, text))
    texts = {str(warning.message) for warning in heard if issubclass(warning.category, ImageWarning)}
    if texts:
        findings += _remarks(paths, texts)
    return findings, broken


def _decoded(paths: Sequence[str], loader: ImageLoader) -> Iterator[tuple[str, Any]]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            part = paths[start : start + _AT_ONCE]
            yield from zip(part, pool.map(lambda path: _look(path, loader), part), strict=True)


def _look(path: str, loader: ImageLoader) -> Any:
    try:
        image = loader.read(path, least=_LEAST)
    except UsageError:
        raise
    except YoloError as error:
        return error
    return perceptual_hash(image), thumbnail(image), jpeg_damage(path)


def _remarks(paths: Sequence[str], texts: set[str]) -> Iterator[Finding]:
    """What was said about files: every text begins with the name of one."""
    by_name = {repr(path): path for path in paths}
    names = sorted(by_name)
    for text in sorted(texts):
        name = names[max(bisect_right(names, text) - 1, 0)]
        if text.startswith(name):
            yield Finding("unusual-image", "info", by_name[name], None, text.removeprefix(name).strip())
