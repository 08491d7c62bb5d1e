"""Finding objects in pictures with a trained network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.nms import Detected, non_max_suppression
from yolo.core.decode import decode
from yolo.core.device import pick_device
from yolo.core.errors import UsageError, YoloError
from yolo.core.image_size import DEFAULT_SIZE, check_image_size
from yolo.core.letterbox import LetterboxGeometry, letterbox, undo_letterbox
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.results import Detections
from yolo.core.sources import Picture, Source, iter_items, read_item
from yolo.core.weights.bundle import ModelBundle
from yolo.core.weights.load import load_bundle

_BATCH_ON_CPU = 1  # a larger one is no faster there, and takes more memory
_BATCH_ELSEWHERE = 8


class Prediction(NamedTuple):
    """A picture and what was found in it.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, the upright picture.
        detections: boxes in pixels of ``image``.
    """

    image: NDArray[np.uint8]
    detections: Detections


class Predictor:
    """Find objects in pictures; boxes come back in pixels of the original, upright picture.

    The network is fused for inference (a copy; the one given is not changed), pictures are letterboxed, and the
    detections go through class-aware non-maximum suppression.

    >>> from yolo.core import Predictor, load_model
    >>> import numpy as np
    >>> predict = Predictor(load_model("v9-t"), image_size=64)
    >>> predict(np.zeros((48, 96, 3), np.uint8))
    [Detections(96x48: nothing found)]

    Args:
        model: a file (``.ckpt``, or plain weights), what was read from one, or a network.
        confidence: detections with a score at or below this are dropped.
        iou: of two boxes of one class that overlap more than this, the weaker is dropped.
        max_detections: per picture.
        image_size: side, or (width, height), of the network's input in pixels; default: the checkpoint's, else 640.
        device: ``"auto"`` (CUDA, else Apple's MPS, else the CPU), or a torch device such as ``"cuda:1"``.
        class_names: instead of the checkpoint's.
        batch_size: pictures per pass; default: 1 on the CPU, 8 elsewhere.
        architecture: for a file of plain weights, the network they belong to: a published name or a YAML file.

    Attributes:
        class_names: one per class.
        image_size: (width, height) of the network's input.
        device: where the network runs.

    Raises:
        UsageError: a wrong argument.
        WeightsError: a file that cannot be used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelBundle | Network,
        *,
        confidence: float = 0.25,
        iou: float = 0.65,
        max_detections: int = 300,
        image_size: int | str | Sequence[int] | None = None,
        device: str | torch.device = "auto",
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        architecture: str | Path | None = None,
    ) -> None:
        self.confidence = _fraction("confidence", confidence)
        self.iou = _fraction("iou", iou)
        self.max_detections = _positive("max_detections", max_detections)
        self.device = pick_device(device)
        known: ModelBundle | None = None
        if not isinstance(model, Network):
            known = model if isinstance(model, ModelBundle) else load_bundle(model, model=architecture)
            model = known.build(name="the checkpoint" if isinstance(model, ModelBundle) else str(model))
        self.class_names = _names(class_names, known, model.num_classes)
        wanted = image_size if image_size is not None else (known.image_size if known else DEFAULT_SIZE)
        self.image_size = check_image_size(wanted, stride=max(model.strides))
        self.batch_size = _positive(
            "batch_size", batch_size or (_BATCH_ON_CPU if self.device.type == "cpu" else _BATCH_ELSEWHERE)
        )
        self._network = fuse(model).to(self.device)

    def __call__(self, source: Source) -> list[Detections]:
        """Predict on a file, a folder, a PIL image, a uint8 RGB array ``[H, W, 3]``, or an iterable of these.

        Returns:
            One result per picture, in the order of the source.

        Raises:
            ImageError: a picture cannot be read.
            UsageError: something that is no picture.
        """
        return list(self.predict_iter(source))

    def predict_iter(
        self, source: Source, *, on_error: Callable[[YoloError], None] | None = None
    ) -> Iterator[Detections]:
        """Like calling, but one result at a time, in constant memory: the source may be an endless generator.

        Args:
            source: see :meth:`__call__`.
            on_error: what to do with a picture that cannot be read; it is then left out. Default: raise.
        """
        for prediction in self.predict_pairs(source, on_error=on_error):
            yield prediction.detections

    def predict_pairs(
        self, source: Source, *, on_error: Callable[[YoloError], None] | None = None
    ) -> Iterator[Prediction]:
        """Like :meth:`predict_iter`, with the pictures, so that nobody has to read them again to draw on them."""
        batch: list[Picture] = []
        for item in iter_items(source):
            try:
                batch.append(read_item(item))
            except YoloError as error:
                if on_error is None:
                    raise
                on_error(error)
            if len(batch) >= self.batch_size:
                yield from self._predict(batch)
                batch = []
        if batch:
            yield from self._predict(batch)

    def __repr__(self) -> str:
        width, height = self.image_size
        name = self._network.spec.name
        return f"Predictor({name!r}, {len(self.class_names)} classes, {width}x{height}, {self.device})"

    def _predict(self, batch: Sequence[Picture]) -> Iterator[Prediction]:
        boxed = [letterbox(picture.image, self.image_size) for picture in batch]
        found = self._detect(np.stack([canvas for canvas, _ in boxed]))
        for picture, (_, geometry), detected in zip(batch, boxed, found, strict=True):
            yield Prediction(picture.image, self._in_original_pixels(detected, geometry, picture.path))

    @torch.inference_mode()
    def _detect(self, canvases: NDArray[np.uint8]) -> list[Detected]:
        """Run the network: uint8 ``[B, H, W, 3]`` to one result per picture, boxes in pixels of the canvas."""
        images = torch.from_numpy(canvases).to(self.device).permute(0, 3, 1, 2).float() / 255
        decoded = decode(self._network(images).main)
        return non_max_suppression(
            decoded.boxes,
            decoded.scores,
            confidence=self.confidence,
            iou=self.iou,
            max_detections=self.max_detections,
        )

    def _in_original_pixels(self, detected: Detected, geometry: LetterboxGeometry, path: Path | None) -> Detections:
        boxes = undo_letterbox(detected.boxes.float().cpu(), geometry).numpy()
        visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # not wholly on the grey border
        return Detections(
            boxes=boxes,
            scores=detected.scores.float().cpu().numpy(),
            labels=detected.labels.cpu().numpy(),
            names=self.class_names,
            size=geometry.source,
            path=path,
        ).select(visible)


def _names(given: Sequence[str] | None, known: ModelBundle | None, count: int) -> tuple[str, ...]:
    if given is not None:
        if len(given) != count:
            raise UsageError(f"{len(given)} class names were given, but the network has {count} classes")
        return tuple(given)
    return known.class_names if known else tuple(str(number) for number in range(count))


def _fraction(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must lie between 0 and 1, not {value}")
    return float(value)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
    return int(value)
