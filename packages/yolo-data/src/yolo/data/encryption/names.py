"""Names of encrypted images: ``a.jpg`` is stored as ``a.jpg.enc``, or, in some existing data sets, as ``a.enc``.

The rules are for any suffix that a loader adds to the usual ones (``ImageLoader.extra_suffixes``).
"""

from __future__ import annotations

import os
from collections.abc import Collection

from yolo.core.images import IMAGE_SUFFIXES


def image_stem(path: str, extra: Collection[str] = ()) -> str:
    """The path without the image's suffixes: ``x/a`` for ``x/a.jpg``, ``x/a.jpg.enc`` and ``x/a.enc``."""
    stem, suffix = os.path.splitext(path)  # noqa: PTH122  # hot
    if suffix.lower() in extra:
        inner, suffix = os.path.splitext(stem)  # noqa: PTH122  # hot
        return inner if suffix.lower() in IMAGE_SUFFIXES else stem
    return stem


def stored_file(path: str, extra: Collection[str] = ()) -> str | None:
    """The file that holds an image: the path itself, or one with an extra suffix; None when there is none."""
    if os.path.isfile(path):  # noqa: PTH113  # hot
        return path
    for suffix in sorted(extra):
        stem, inner = os.path.splitext(path)  # noqa: PTH122  # hot
        for base in (path, stem) if inner.lower() in IMAGE_SUFFIXES else (path,):
            if os.path.isfile(base + suffix):  # noqa: PTH113  # hot
                return base + suffix
    return None


def without_twins(paths: list[str], extra: Collection[str]) -> list[str]:
    """Leave out ``a.jpg.enc`` (and ``a.enc``) where the image itself is in the list as well."""
    if not extra:
        return paths
    stored = [path for path in paths if _suffix(path) in extra]
    plain = set(paths).difference(stored)
    stems = {image_stem(path) for path in plain}
    twins = {path for path in stored if _is_twin(path, plain, stems)}
    return [path for path in paths if path not in twins]


def _is_twin(path: str, plain: set[str], stems: set[str]) -> bool:
    inner = os.path.splitext(path)[0]  # noqa: PTH122  # hot
    return inner in plain if _suffix(inner) in IMAGE_SUFFIXES else inner in stems


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  # hot
