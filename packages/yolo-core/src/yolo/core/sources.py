"""What can be predicted on: files, folders, videos, cameras, addresses, pictures in memory, and any mixture of them.

Importable without torch.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.frames import STREAM_SCHEMES, VIDEO_SUFFIXES, Frame, capture
from yolo.core.images import IMAGE_SUFFIXES, decode_image, find_images, read_image, to_rgb
from yolo.core.remote import read_remote

#: One picture: a file, a Pillow image, uint8 ``[H, W, 3]`` RGB, or a tensor ``[3, H, W]`` (uint8, or float, 0 to 1).
SourceItem: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
#: One picture, a folder, video, ..., or any iterable of these, of any length.
Source: TypeAlias = SourceItem | Iterable[SourceItem]

STDIN = "-"
_LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True)
class Remote:
    """A picture file at an http or https address."""

    url: str


@dataclass(frozen=True)
class Encoded:
    """A picture file in memory; ``name`` is for messages."""

    data: bytes
    name: str


Item: TypeAlias = Path | Image.Image | NDArray[np.uint8] | Frame | Remote | Encoded


class Picture(NamedTuple):
    """A picture that has been read.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        path: the file it came from, if any; of a frame, the video.
        source: the file, address or camera, as text; None for a picture that was in memory.
        frame: number of the frame in a video or stream, from 0.
        rate: frames a second of that video, 0 where it is not known.
    """

    image: NDArray[np.uint8]
    path: Path | None = None
    source: str | None = None
    frame: int | None = None
    rate: float = 0.0


def iter_items(source: Source, *, bgr: bool = False) -> Iterator[Item]:
    """Take a source apart into single pictures, without reading picture files.

    Text is a file, a folder (the pictures in it, sorted), a pattern such as ``"shots/**/*.jpg"``, a list file
    (``.txt``: one source a line, relative to the list), a video file, the number of a camera, an address (http and
    https: a picture or a video; rtsp, rtmp, udp: a stream), or ``"-"``: a picture, or a list, from standard input.

    Args:
        source: see above.
        bgr: arrays have blue first, as OpenCV reads them.

    Raises:
        YoloError: a folder without images, a pattern or list without a match, a video that cannot be opened.
        UsageError: something that is no source.
    """
    if isinstance(source, (str, os.PathLike)):
        yield from _named(os.fspath(source))
    elif isinstance(source, Image.Image):
        yield source
    elif isinstance(source, np.ndarray):
        yield source[..., ::-1] if bgr and source.ndim == 3 else source
    elif hasattr(source, "detach"):
        yield from _of_tensor(source)
    elif isinstance(source, Iterable):
        for item in source:
            yield from iter_items(item, bgr=bgr)
    else:
        raise UsageError(f"cannot predict on a {type(source).__name__}; give a path, a PIL image or a uint8 RGB array")


def read_item(item: Item) -> Picture:
    """Read one item of :func:`iter_items`.

    Raises:
        ImageError: an unreadable file, or an address that does not answer with a picture.
        UsageError: an array that is not uint8 ``[H, W, 3]``.
    """
    if isinstance(item, Path):
        return Picture(read_image(item), item, str(item))
    if isinstance(item, Frame):
        path = None if item.path is None else Path(item.path)
        return Picture(item.image, path, item.source, item.number, item.rate)
    if isinstance(item, Remote):
        return Picture(decode_image(read_remote(item.url), name=item.url), None, item.url)
    if isinstance(item, Encoded):
        return Picture(decode_image(item.data, name=item.name), None, item.name)
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", "") or "the image"
        return Picture(to_rgb(item, name=str(name)))
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
        raise UsageError(f"an image array must be uint8 [height, width, 3] in RGB order, not {item.dtype} {item.shape}")
    return Picture(np.ascontiguousarray(item))


def check_source(source: str, *, option: str) -> None:
    """Refuse text that is no source at all, before anything else is done.

    Raises:
        UsageError: nothing of that name exists; the message names the option.
    """
    exists = source == STDIN or "://" in source or Path(source).exists() or _is_camera(source)
    if not exists and not glob.has_magic(source):
        raise UsageError(f"{option} {source!r} does not exist; give an image or a folder")


def count_items(source: Source) -> int | None:
    """Return how many pictures, or sources of a list, there are; None where that is known only at the end."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return len(find_images(path))
        return 1 if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() else None
    return len(source) if isinstance(source, (list, tuple)) else None


def is_endless(source: Source) -> bool:
    """Whether a source may never end: a camera or a stream."""
    return isinstance(source, str) and (_is_camera(source) or source.lower().startswith(STREAM_SCHEMES))


def _named(name: str) -> Iterator[Item]:
    lower = name.lower()
    path = Path(name)
    if name == STDIN:
        yield from _standard_input()
    elif lower.startswith(STREAM_SCHEMES):
        yield from capture(name)
    elif lower.startswith(("http://", "https://")):
        is_video = lower.partition("?")[0].endswith(tuple(VIDEO_SUFFIXES))
        yield from capture(name) if is_video else iter([Remote(name)])
    elif path.is_dir():
        yield from _files_in(path)
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        yield from capture(path)
    elif path.suffix.lower() in _LIST_SUFFIXES and path.is_file():
        yield from _listed(path.read_text("utf-8", errors="replace"), path.parent, name=name)
    elif not path.exists() and _is_camera(name):
        yield from capture(int(name))
    elif not path.exists() and glob.has_magic(name):
        yield from _matching(name)
    else:
        yield path


def _is_camera(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 4 and not Path(name).exists()


def _standard_input() -> Iterator[Item]:
    data = sys.stdin.buffer.read()
    if not data.strip():
        raise YoloError("standard input is empty; give a picture, or a list of sources, one a line")
    text = None if b"\0" in data[:4096] else _text(data)
    if text is None:
        yield Encoded(data, "standard input")
    else:
        yield from _listed(text, Path(), name="standard input")


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _listed(text: str, folder: Path, *, name: str) -> Iterator[Item]:
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    if not wanted:
        raise YoloError(f"{name!r} lists no picture")
    for line in wanted:
        if line == STDIN:
            raise YoloError(f"{name!r} lists '-', standard input, which cannot be part of a list")
        is_address = "://" in line
        yield from _named(line if is_address or Path(line).is_absolute() else str(folder / line))


def _matching(pattern: str) -> Iterator[Path]:
    found = sorted(map(Path, glob.iglob(pattern, recursive=True)))  # noqa: PTH207  # Path.glob takes no absolute one
    files = [path for path in found if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise YoloError(f"no image matches {pattern!r}")
    yield from files


def _files_in(folder: Path) -> list[Path]:
    files = find_images(folder)
    if not files:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise YoloError(f"there are no images in the folder {str(folder)!r} (looked for {known}, in sub-folders, too)")
    return files


def _of_tensor(tensor: Any) -> Iterator[NDArray[np.uint8]]:
    values = tensor.detach().cpu().numpy()
    shape = list(values.shape)
    if values.ndim not in (3, 4) or values.shape[-3] != 3:
        raise UsageError(f"an image tensor must be [3, height, width], or a batch of these, not {shape}")
    if values.dtype != np.uint8:
        if values.dtype.kind != "f" or (values.size and not (values.min() >= 0 and values.max() <= 1)):
            raise UsageError(
                f"an image tensor must be uint8, or floating point from 0 to 1, not {values.dtype} {shape}"
            )
        values = np.rint(values.astype(np.float32) * 255).astype(np.uint8)
    for image in values.reshape(-1, *values.shape[-3:]):
        yield np.ascontiguousarray(image.transpose(1, 2, 0))
