"""Results as videos: every frame with its boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolo.core.drawing import draw_detections
from yolo.core.errors import UsageError, YoloError
from yolo.core.predictor import Prediction

from .names import stream_of
from .sinks import Folder

SUFFIX = ".mp4"
_USUAL_RATE = 25.0  # frames a second, where a stream does not tell


class Videos:
    """``<video>.mp4`` for every video, camera or stream; it takes its name when it is complete.

    Args:
        folder: where they go.
        single: the name of the one video, instead of its own.
    """

    def __init__(self, folder: Folder, *, single: Path | None = None) -> None:
        self._folder, self._single = folder, single
        self._source: str | None = None
        self._writer: cv2.VideoWriter | None = None
        self._size = 0, 0
        self._target = self._temporary = Path()
        self._done: list[Path] = []

    def add(self, prediction: Prediction, name: str) -> None:
        """Add a frame; a still picture ends the video before it."""
        found = prediction.detections
        if found.frame is None:
            self._end(complete=True)
            return
        if self._writer is None or found.source != self._source or found.frame == 0:
            self._end(complete=True)
            self._begin(prediction, stream_of(name))
        assert self._writer is not None
        image = draw_detections(prediction.image, found)
        if (image.shape[1], image.shape[0]) != self._size:  # a stream may change; a file cannot
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self, *, complete: bool) -> None:
        """End; what an interrupted run has seen so far is kept, as a video may take hours."""
        self._end(complete=complete)

    def written(self) -> str | None:
        """Say where they are."""
        return f"Video: {', '.join(map(str, self._done))}" if self._done else None

    def _begin(self, prediction: Prediction, stem: str) -> None:
        found = prediction.detections
        folder = self._folder()
        self._target, number = self._single or folder / f"{stem}{SUFFIX}", 1
        if self._single and self._folder.is_source(self._single, found.path):
            raise UsageError(f"--output would overwrite the source video {str(self._single)!r}; give another name")
        while self._target in self._done or self._folder.is_source(self._target, found.path):
            number += 1
            self._target = folder / f"{stem}_{number}{SUFFIX}"
        self._temporary = self._target.with_name(f".{self._target.name}.part{SUFFIX}")
        self._source, self._size = found.source, found.size
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._temporary), code, prediction.rate or _USUAL_RATE, self._size)
        if not self._writer.isOpened():
            raise YoloError(f"OpenCV cannot write the video {str(self._target)!r}; use --no-draw")

    def _end(self, *, complete: bool) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if complete:
            self._temporary.replace(self._target)
            self._done.append(self._target)
        else:
            self._temporary.unlink(missing_ok=True)
