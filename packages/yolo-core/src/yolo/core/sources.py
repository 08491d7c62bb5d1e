"""What can be predicted on: files, folders, videos, cameras, addresses, pictures in memory, and any mixture of them.

Importable without torch.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolo.core.decoders import decode_picture, read_picture
from yolo.core.errors import UsageError, YoloError
from yolo.core.frames import STREAM_SCHEMES, VIDEO_SUFFIXES, Frame, capture, without_login
from yolo.core.images import IMAGE_SUFFIXES, find_images, to_rgb
from yolo.core.remote import LARGEST, read_remote


class TensorLike(Protocol):
    """A ``torch.Tensor``, without importing torch."""

    def detach(self) -> Any:
        """Leave the graph."""


#: One picture: a file, a Pillow image, uint8 ``[H, W, 3]`` RGB, or a tensor ``[3, H, W]`` (uint8, or float, 0 to 1).
SourceItem: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | TensorLike
#: One picture, a folder, video, ..., or any iterable of these, of any length.
Source: TypeAlias = SourceItem | Iterable[SourceItem]

STDIN = "-"
_LIST_SUFFIXES = (".txt", ".lst")
_WEB = ("http://", "https://")
_LIVE_SUFFIXES = (".mjpg", ".mjpeg", ".m3u8")


@dataclass(frozen=True)
class Remote:
    """A picture file at an http or https address."""

    url: str


@dataclass(frozen=True)
class Encoded:
    """A picture file in memory; ``name`` is for messages."""

    data: bytes
    name: str


#: Where a picture or a video is: a file, the number of a camera, an address, what came from standard input; or why an
#: entry of a list is nothing of these.
Place: TypeAlias = Path | int | str | Encoded | YoloError
#: One picture that is still to be read, or why there is none.
Item: TypeAlias = Path | Image.Image | NDArray[np.uint8] | Frame | Remote | Encoded | YoloError


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

    Text is what :func:`find_places` takes. A part of a source that fails, such as a video of a list, is an item that
    fails when it is read, so that the others go on.

    Args:
        source: see above.
        bgr: arrays have blue first, as OpenCV reads them.

    Raises:
        YoloError: a folder without images, a pattern or list without a match.
        UsageError: something that is no source.
    """
    if isinstance(source, (str, os.PathLike)):
        for place in find_places(os.fspath(source)):
            yield from _opened(place)
    elif isinstance(source, Image.Image):
        yield source
    elif isinstance(source, np.ndarray):
        yield source[..., ::-1] if bgr and source.ndim == 3 else source
    elif hasattr(source, "detach"):
        yield from _of_tensor(source)
    elif isinstance(source, Iterable):
        for item in source:
            try:
                yield from iter_items(item, bgr=bgr)
            except YoloError as error:
                yield error
    else:
        raise UsageError(f"cannot predict on a {type(source).__name__}; give a path, a PIL image or a uint8 RGB array")


def read_item(item: Item) -> Picture:
    """Read one item of :func:`iter_items`.

    Raises:
        ImageError: an unreadable file, or an address that does not answer with a picture.
        YoloError: the item is one.
        UsageError: an array that is not uint8 ``[H, W, 3]``.
    """
    if isinstance(item, YoloError):
        raise item
    if isinstance(item, Path):
        return Picture(read_picture(item), item, str(item))
    if isinstance(item, Frame):
        path = None if item.path is None else Path(item.path)
        return Picture(item.image, path, item.source, item.number, item.rate)
    if isinstance(item, Remote):
        return Picture(
            decode_picture(read_remote(item.url), name=without_login(item.url)), None, without_login(item.url)
        )
    if isinstance(item, Encoded):
        return Picture(decode_picture(item.data, name=item.name), None, item.name)
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", "") or "the image"
        return Picture(to_rgb(item, name=str(name)))
    if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
        raise UsageError(f"an image array must be uint8 [height, width, 3] in RGB order, not {item.dtype} {item.shape}")
    return Picture(np.ascontiguousarray(item))


def find_places(name: str) -> Iterator[Place]:
    """Say where the pictures and videos are that a text names, without opening them.

    Text is a file, a folder (the pictures in it, sorted), a pattern such as ``"shots/**/*.jpg"`` (pictures and
    videos), a list file (``.txt``: one source a line, relative to the list), a video file, the number of a camera, an
    address (http and https: a picture or a video; rtsp, rtmp, udp: a stream), or ``"-"``: a picture, or a list, from
    standard input.

    Raises:
        YoloError: a folder without images, a pattern or list without a match.
        UsageError: empty text, or an address of another kind.
    """
    path, kind = Path(name), _kind(name)
    if not name:
        raise UsageError("the name of the source is empty")
    if name == STDIN:
        yield from _standard_input()
    elif kind == "folder":
        yield from _files_in(path)
    elif kind == "file" and path.suffix.lower() in _LIST_SUFFIXES:
        yield from _listed(_bytes_of(path), path.parent, name=name)
    elif kind is not None:
        yield path
    elif "://" in name:
        if not name.lower().startswith((*STREAM_SCHEMES, *_WEB)):
            raise UsageError(f"{name!r} is no address that can be read, only {' '.join((*_WEB, *STREAM_SCHEMES))}")
        try:
            urlsplit(name)
        except ValueError as error:
            raise UsageError(f"{name!r} is no address: {error}") from error
        yield name
    elif _is_camera(name):
        yield int(name)
    elif glob.has_magic(name):
        yield from _matching(name)
    else:
        yield path


def is_video(place: Place) -> bool:
    """Whether a place shows more than one picture: a video file, a camera or a stream."""
    if isinstance(place, str):
        address = place.lower().partition("?")[0]
        return address.startswith(STREAM_SCHEMES) or address.endswith((*VIDEO_SUFFIXES, *_LIVE_SUFFIXES))
    return isinstance(place, int) or (isinstance(place, Path) and place.suffix.lower() in VIDEO_SUFFIXES)


def check_source(source: str, *, option: str) -> None:
    """Refuse text that is no source at all, before anything else is done.

    Raises:
        UsageError: nothing of that name exists; the message names the option.
    """
    exists = source == STDIN or "://" in source or _kind(source) or _is_camera(source) or glob.has_magic(source)
    if not source or not exists:
        raise UsageError(f"{option} {source!r} does not exist; give an image or a folder")


def may_read_ahead(source: Source) -> bool:
    """Whether several pictures are named, so that the next can be read while the last are looked at.

    Not those of a generator, which may be endless, and not pictures in memory, which are there already.
    """
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        single = Path(name).suffix.lower() in IMAGE_SUFFIXES and _kind(name) == "file"
        return not single and not is_endless(name)
    return isinstance(source, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in source)


def is_endless(source: Source) -> bool:
    """Whether a source may never end: a camera or a stream."""
    if not isinstance(source, str):
        return False
    address = source.lower().partition("?")[0]
    live = address.startswith(_WEB) and address.endswith(_LIVE_SUFFIXES)
    return live or address.startswith(STREAM_SCHEMES) or (_is_camera(source) and _kind(source) is None)


def _opened(place: Place) -> Iterator[Item]:
    try:
        if isinstance(place, int) or (isinstance(place, (str, Path)) and is_video(place)):
            yield from capture(place)
        else:
            yield Remote(place) if isinstance(place, str) else place
    except YoloError as error:
        yield error


def _kind(name: str) -> str | None:
    """``"file"``, ``"folder"``, ``"other"``, or None where there is nothing, or nothing that may be looked at."""
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):
        return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def _is_camera(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 4


def _standard_input() -> Iterator[Place]:
    if sys.stdin is None:
        raise YoloError("standard input is closed; give a picture, or a list of sources, one a line")
    data = sys.stdin.buffer.read(LARGEST + 1)
    if not data.strip():
        raise YoloError("standard input is empty; give a picture, or a list of sources, one a line")
    if len(data) > LARGEST:
        raise YoloError(f"standard input holds more than {LARGEST >> 20} MiB, which no picture has")
    if b"\0" in data[:4096] or not _is_text(data):
        yield Encoded(data, "standard input")
    else:
        yield from _listed(data, Path(), name="standard input")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise YoloError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _listed(data: bytes, folder: Path, *, name: str) -> Iterator[Place]:
    # Names of files need not be UTF-8; a mark at the beginning, as Windows writes it, belongs to no name.
    lines = [line.strip() for line in data.decode("utf-8-sig", "surrogateescape").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    if not wanted:
        raise YoloError(f"{name!r} lists no picture")
    for line in wanted:
        place = line if "://" in line else str(folder / line)
        if line == STDIN:
            yield YoloError(f"{name!r} lists '-', standard input, which cannot be part of a list")
        elif Path(line).suffix.lower() in _LIST_SUFFIXES and _kind(place) == "file":
            yield YoloError(f"{name!r} lists {line!r}, another list; give its lines instead")
        else:
            try:
                yield from find_places(place)
            except YoloError as error:
                yield error


def _matching(pattern: str) -> Iterator[Path]:
    found = sorted(map(Path, glob.iglob(pattern, recursive=True)))  # noqa: PTH207  # Path.glob takes no absolute one
    wanted = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = [path for path in found if path.suffix.lower() in wanted and _kind(str(path)) == "file"]
    if not files:
        raise YoloError(f"no image or video matches {pattern!r}")
    yield from files


def _files_in(folder: Path) -> list[Path]:
    files = find_images(folder)
    if not files:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise YoloError(f"there are no images in the folder {str(folder)!r} (looked for {known}, in sub-folders, too)")
    return files


def _of_tensor(tensor: Any) -> Iterator[NDArray[np.uint8]]:
    tensor = tensor.detach().cpu()
    values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
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
