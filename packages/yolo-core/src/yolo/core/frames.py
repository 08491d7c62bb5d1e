"""Pictures one after the other from a video file, a camera or a network stream, through OpenCV."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError
from yolo.core.images import ImageWarning

#: Suffixes (lower case) of the files that are taken for videos.
VIDEO_SUFFIXES: frozenset[str] = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mjpeg", ".mjpg"}
)
#: How addresses of streams begin.
STREAM_SCHEMES: tuple[str, ...] = ("rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://")

_ENOUGH = 0.9  # share of its frames that a file must give
_PATIENCE_MS = 15_000  # without a connection, or a frame, a stream is given up


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, upright.
        source: the file, address or camera, as text.
        number: from 0.
        rate: frames a second, 0 where it is not known.
        path: the file, if it is one.
    """

    image: NDArray[np.uint8]
    source: str
    number: int
    rate: float
    path: str | None = None


def capture(source: str | os.PathLike[str] | int) -> Iterator[Frame]:
    """Read frames until there are no more; only one of them is in memory.

    A file that ends much earlier than it says, and a camera or stream that ends at all, is told as an
    :class:`~yolo.core.images.ImageWarning`.

    Args:
        source: a file, an address, or the number of a camera.

    Raises:
        YoloError: it cannot be opened, or has no frame.
    """
    name = f"camera {source}" if isinstance(source, int) else without_login(os.fspath(source))
    path = None
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        if not Path(path).is_file():
            raise YoloError(f"{name!r} does not exist or is not a file")
    video = _open(source)
    try:
        if not video.isOpened():
            raise YoloError(f"{name!r} cannot be opened as a video{_advice(source)}")
        rate = video.get(cv2.CAP_PROP_FPS)
        number = 0
        while True:
            found, image = video.read()
            if not found:
                break
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(rgb, name, number, rate if 0 < rate < 1000 else 0.0, path)
            number += 1
        if not number:
            raise YoloError(f"{name!r} has no frame that can be read")
        missing = _missing(source, number, video.get(cv2.CAP_PROP_FRAME_COUNT))
        if missing:
            warnings.warn(f"{name!r} {missing}", ImageWarning, stacklevel=2)
    finally:
        video.release()


def without_login(address: str) -> str:
    """Leave user and password out of an address, which is shown, logged and stored."""
    return re.sub(r"^([A-Za-z]+://)[^/?#]*@", r"\1", address)


def _missing(source: str | os.PathLike[str] | int, number: int, expected: float) -> str | None:
    """Why a source that ended after so many frames may have more."""
    if isinstance(source, os.PathLike):
        few = number < _ENOUGH * expected  # the number of frames of a file is often an estimate
        return f"ends after {number} of about {expected:.0f} frames; is it damaged?" if few else None
    live = isinstance(source, int) or source.lower().startswith(STREAM_SCHEMES)
    return f"gives no more pictures, after {number}" if live else None


def _open(source: str | os.PathLike[str] | int) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own words about damaged files
    level = cv2.utils.logging.setLogLevel(0)  # OpenCV's about a camera that is not there
    try:
        if isinstance(source, int):
            return cv2.VideoCapture(source)
        if isinstance(source, os.PathLike):
            return cv2.VideoCapture(os.fspath(source))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _PATIENCE_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _PATIENCE_MS]
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _advice(source: str | os.PathLike[str] | int) -> str:
    if isinstance(source, int):
        return "; is it connected, and may this user read it?"
    if isinstance(source, os.PathLike):
        return " (damaged, or of a kind that OpenCV was built without)"
    return f"; nothing answered within {_PATIENCE_MS // 1000} s, or what answered is no video"
