"""Reading a picture: always upright, always RGB, always 8 bits, or a clear refusal.

Training, validation and prediction must see the same pixels, so the decisions are taken once, here:

* the EXIF orientation is applied (an unreadable or impossible one is ignored);
* palettes are looked up, grey becomes three equal channels, CMYK is converted, alpha is dropped (never composited);
* 16-bit samples, grey or colour, are scaled by 1/257; floating point pictures are refused: their range is unknown;
* of animations and multi-page files the first frame is used, with an :class:`ImageWarning`;
* truncated and damaged files are refused by name; so is anything above Pillow's decompression-bomb limit, which is
  checked against the header before memory is taken.

The format is recognised by content, not by suffix. Nothing here imports torch.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from yolo.core.errors import YoloError
from yolo.core.reduction import reduction

#: Suffixes (lower case) of the files that a folder scan takes for images.
IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"}
    | {".avif", ".jp2"}
)
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = (5, 6, 7, 8)
_JPEG = ("JPEG", "MPO")
_ONE_PICTURE_FORMATS = {"MPO"}  # the second picture is a preview or the other eye, never the next frame
_LARGE = 64_000_000  # pixels; above this the reader says how much memory the picture takes


class ImageError(YoloError):
    """A file that cannot be used as a picture; the message names it."""


class ImageWarning(UserWarning):
    """A picture that was used, but not quite as it was written."""


def read_image(path: str | os.PathLike[str], *, least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read one picture file.

    Args:
        path: of the file.
        least: (width, height) that is needed of the upright picture: a JPEG may come reduced by 2, 4 or 8, but not
            below this (:mod:`yolo.core.reduction`).

    Returns:
        uint8 ``[H, W, 3]``, RGB, upright, contiguous and writable.

    Raises:
        ImageError: not there, not a regular file, not a picture, damaged, too large, or of an unusable kind.
    """
    _require_regular_file(path)
    return _read(Path(path), str(path), least)


def decode_image(data: bytes, *, name: str, least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode an encoded picture held in memory, by the rules of :func:`read_image`; ``name`` is for messages."""
    return _read(io.BytesIO(data), name, least)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of the upright picture from the header alone, without decoding the pixels.

    Raises:
        ImageError: as :func:`read_image`, as far as the header shows it.
    """
    _require_regular_file(path)
    return _size(Path(path), str(path))


def encoded_size(data: bytes, *, name: str) -> tuple[int, int]:
    """As :func:`image_size`, for an encoded picture held in memory; ``name`` is for messages."""
    return _size(io.BytesIO(data), name)


def to_rgb(image: Image.Image, *, name: str = "the image") -> NDArray[np.uint8]:
    """Convert a Pillow image to uint8 ``[H, W, 3]`` RGB, upright.

    Raises:
        ImageError: the pixels cannot be decoded, or have no known range.
    """
    try:
        encoded = _sixteen_bit_colours(image)
        image.load()
        return _pixels(image, name, encoded)
    except ImageError:
        raise
    except Exception as error:  # decoders raise many types for damaged data: OSError, SyntaxError, struct.error...
        raise ImageError(f"{name!r} is damaged and cannot be read as an image ({_reason(error)})") from error


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the picture files below ``folder``, sub-folders included, sorted by path.

    Suffixes compare without case. macOS resource forks (``._name``), folders, pipes and sockets are left out; links to
    folders are not followed, so a loop ends; a link that leads nowhere stays in the list, to be refused by name.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES or name.startswith("._"):
                continue
            path = Path(parent, name)
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    continue
            except OSError:
                pass
            found.append(path)
    return sorted(found, key=lambda path: path.parts)


def _require_regular_file(path: str | os.PathLike[str]) -> None:
    try:
        mode = Path(path).stat().st_mode  # before opening: opening a named pipe would wait for ever
    except (FileNotFoundError, ValueError):  # the latter: a zero byte
        raise ImageError(f"{str(path)!r}: no such image file") from None
    except OSError as error:
        raise ImageError(f"{str(path)!r} cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise ImageError(f"{str(path)!r} is a folder, not an image file")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{str(path)!r} is not a regular file")


def _opened(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        return Image.open(source)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name!r} is not an image in a known format ({_glance(source)})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name!r} is refused before decoding: {_reason(error).partition(', could')[0]}; "
            "if you trust the file, make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except OSError as error:
        raise ImageError(f"{name!r} cannot be opened: {_reason(error)}") from error
    except Exception as error:  # damaged headers raise many types: ValueError, SyntaxError, struct.error...
        raise ImageError(f"{name!r} has a damaged header ({_reason(error)})") from error


def _size(source: Path | io.BytesIO, name: str) -> tuple[int, int]:
    with _opened(source, name) as image:
        width, height = image.size
        # Pillow already turns the size of TIFF (and AVIF) pictures.
        turned = image.format != "TIFF" and _orientation(image) in _ON_THEIR_SIDE
    return (height, width) if turned else (width, height)


def _read(source: Path | io.BytesIO, name: str, least: tuple[int, int] | None) -> NDArray[np.uint8]:
    with _opened(source, name) as image:
        width, height = image.size
        if width * height > _LARGE:
            text = f"{name!r} is large: {width}x{height} pixels take {width * height * 3 / 1e6:.0f} MB in memory"
            warnings.warn(text, ImageWarning, stacklevel=3)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _ONE_PICTURE_FORMATS:
            text = f"{name!r} holds {frames} frames or pages; only the first is used"
            warnings.warn(text, ImageWarning, stacklevel=3)
        if least is not None and image.format in _JPEG:
            _reduce(image, least)
        return to_rgb(image, name=name)


def _reduce(image: Image.Image, least: tuple[int, int]) -> None:
    orientation = _orientation(image)
    wanted = (least[1], least[0]) if orientation in _ON_THEIR_SIDE else least
    factor = reduction(image.size, wanted, turned=orientation in _UPRIGHT)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))


def _sixteen_bit_colours(image: Image.Image) -> bytes | None:
    """The file, if its colours have 16 bits of which Pillow would keep the upper 8; None for any other picture."""
    tiles = getattr(image, "tile", None)
    if not tiles or image.mode not in ("RGB", "RGBA"):
        return None
    arguments = tiles[0][3]
    stored = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    file = getattr(image, "fp", None)
    if not isinstance(stored, str) or ";16" not in stored or file is None:
        return None
    position = file.tell()
    file.seek(0)
    data = bytes(file.read())
    file.seek(position)
    return data


def _rounded(image: Image.Image, encoded: bytes) -> Image.Image:
    """An RGB picture of which Pillow kept the upper 8 of 16 bits, now scaled by 1/257."""
    import cv2  # here, because few files need it

    values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] not in (3, 4):
        return image
    colours = values[:, :, 2::-1].astype(np.uint16)  # from BGR
    if not np.array_equal(colours >> 8, np.asarray(image)):  # not the same picture: another page, alpha multiplied in
        return image
    return Image.fromarray(_scaled(colours))


def _scaled(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """16 bits to 8, rounded to the nearest."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _pixels(image: Image.Image, name: str, encoded: bytes | None) -> NDArray[np.uint8]:
    turn = _UPRIGHT.get(_orientation(image))
    if image.mode == "F":
        raise ImageError(f"{name!r} holds floating point pixels of unknown range; convert it to 8 or 16 bits first")
    if image.mode.startswith("I"):  # I;16, I;16B, I: integers beyond 8 bits, which convert("RGB") would clip to white
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(f"{name!r} holds values from {low} to {high}; only 8 and 16 bits are supported")
        image = Image.fromarray(_scaled(values))
    if image.mode == "P":  # through RGBA: a palette with a transparency table converts without a warning
        image = image.convert("RGBA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if encoded is not None:
        image = _rounded(image, encoded)
    if turn is not None:
        image = image.transpose(turn)
    return np.array(image)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # an EXIF block that cannot be parsed says nothing about the picture
        return 1
    return value if isinstance(value, int) else 1


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _glance(source: Path | io.BytesIO) -> str:
    head = source.getvalue()[:64] if isinstance(source, io.BytesIO) else _head(source)
    if not head:
        return "the file is empty"
    if head.startswith(b"YOLOENC\0"):
        return "it is encrypted: `yolo data decrypt` opens it, and data.image_loader: encrypted reads it"
    if head.lstrip()[:1] == b"<":
        return "it looks like a web page or other markup"
    return f"it begins with {head[:12]!r}"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
