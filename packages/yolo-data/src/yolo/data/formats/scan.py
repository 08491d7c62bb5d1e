"""Listing the image files of a folder: the rules of ``yolo.core.images.find_images``, for folders of a million."""

from __future__ import annotations

import os
from collections.abc import Collection

from yolo.core.errors import YoloError
from yolo.core.images import IMAGE_SUFFIXES
from yolo.data.encryption.names import without_twins
from yolo.data.formats.report import show


def image_files(folder: str | os.PathLike[str], *, extra: Collection[str] = ()) -> list[str]:
    """Return the paths of all images below a folder, sub-folders included, in a stable order.

    Suffixes compare without case. macOS resource forks (``._name``), pipes and sockets are left out, links to folders
    are not followed, and a link that leads nowhere stays in the list, to be refused by name.

    Args:
        folder: to list.
        extra: more suffixes that are images (``ImageLoader.extra_suffixes``). An ``a.jpg.enc`` beside its ``a.jpg`` is
            left out.

    Raises:
        YoloError: a folder cannot be listed.
    """
    found: list[str] = []
    waiting = [os.fspath(folder)]
    suffixes = IMAGE_SUFFIXES.union(extra)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif _is_image(entry, suffixes):
                        found.append(entry.path)
        except OSError as error:
            raise YoloError(f"{show(error.filename)}: the folder cannot be listed: {error.strerror}") from error
    return sorted(without_twins(found, extra))


def _is_image(entry: os.DirEntry[str], suffixes: Collection[str]) -> bool:
    dot = entry.name.rfind(".")
    if dot < 0 or entry.name[dot:].lower() not in suffixes or entry.name.startswith("._"):
        return False
    if entry.is_symlink():
        return not os.path.isdir(entry.path)  # noqa: PTH112  # hot
    return entry.is_file(follow_symlinks=False)
