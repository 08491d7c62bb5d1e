"""Finding objects in pictures with a trained network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.nms import non_max_suppression, suppress
from yolo.core.decode import Decoded
from yolo.core.engine import Engine, open_engine
from yolo.core.errors import UsageError, YoloError
from yolo.core.image_size import check_image_size
from yolo.core.letterbox import LetterboxGeometry, undo_letterbox
from yolo.core.models.network import Network
from yolo.core.read_ahead import read_ahead
from yolo.core.results import Detections
from yolo.core.sources import Picture, Source, iter_items, may_read_ahead, read_item
from yolo.core.tiling import Region, cut_at_edge, parts_of_others, tile_grid
from yolo.core.views import AUGMENTED, PLAIN, in_one_frame, look
from yolo.core.weights.bundle import ModelBundle

_AHEAD = 2  # pictures that are read while a batch is in the network


class Prediction(NamedTuple):
    """A picture and what was found in it.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB, the upright picture.
        detections: boxes in pixels of ``image``.
        rate: frames a second where it is of a video, 0 where that is not known.
    """

    image: NDArray[np.uint8]
    detections: Detections
    rate: float = 0.0


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
        model: a checkpoint (``.ckpt``), plain weights, an exported file (``.onnx``, ...), what was read from one, or a
            network.
        confidence: detections with a score at or below this are dropped.
        iou: of two boxes of one class that overlap more than this, the weaker is dropped.
        max_detections: per picture.
        image_size: side, or (width, height), of the network's input in pixels; default: the checkpoint's, else 640.
        device: ``"auto"`` (CUDA, else Apple's MPS, else the CPU), or a torch device such as ``"cuda:1"``.
        class_names: instead of the checkpoint's.
        batch_size: pictures per pass; default: 1 on the CPU, 8 elsewhere.
        architecture: for a file of plain weights, the network they belong to: a published name or a YAML file.
        class_agnostic: boxes of different classes suppress each other, too.
        tile: cut larger pictures into tiles of this side, or (width, height), in their own pixels, and look at each of
            them as well as at the whole.
        overlap: least share of a tile that it has in common with the next.
        augment: look at every picture mirrored and smaller, too (test-time augmentation), at four times the cost.

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
        class_agnostic: bool = False,
        tile: int | str | Sequence[int] | None = None,
        overlap: float = 0.25,
        augment: bool = False,
    ) -> None:
        self.confidence = _fraction("confidence", confidence)
        self.iou = _fraction("iou", iou)
        self.max_detections = _positive("max_detections", max_detections)
        self.class_agnostic = class_agnostic
        self.tile = None if tile is None else check_image_size(tile, stride=1, name="tile")
        self.overlap = _fraction("overlap", overlap, below=1.0)
        self._views = AUGMENTED if augment else PLAIN
        self._engine: Engine = open_engine(model, image_size=image_size, device=device, architecture=architecture)
        self.class_names = _names(class_names, self._engine.class_names)
        self.image_size, self.device = self._engine.image_size, self._engine.device
        self.batch_size = _positive("batch_size", self._engine.batch_size if batch_size is None else batch_size)

    def __call__(self, source: Source, *, bgr: bool = False) -> list[Detections]:
        """Predict on whatever :func:`yolo.core.sources.iter_items` takes.

        That is a file, a folder, a pattern, a video, an address, a PIL image, a uint8 RGB array ``[H, W, 3]``, a tensor
        ``[3, H, W]``, or an iterable of these.

        Args:
            source: what to predict on.
            bgr: arrays have blue first, as OpenCV reads them.

        Returns:
            One result per picture, in the order of the source.

        Raises:
            ImageError: a picture cannot be read.
            UsageError: something that is no picture.
        """
        return list(self.predict_iter(source, bgr=bgr))

    def predict_iter(
        self, source: Source, *, bgr: bool = False, on_error: Callable[[YoloError], None] | None = None
    ) -> Iterator[Detections]:
        """Like calling, but one result at a time, in constant memory: the source may be an endless generator.

        Args:
            source: see :meth:`__call__`.
            bgr: see :meth:`__call__`.
            on_error: what to do with a picture that cannot be read; it is then left out. Default: raise.
        """
        for prediction in self.predict_pairs(source, bgr=bgr, on_error=on_error):
            yield prediction.detections

    def predict_pairs(
        self, source: Source, *, bgr: bool = False, on_error: Callable[[YoloError], None] | None = None
    ) -> Iterator[Prediction]:
        """Like :meth:`predict_iter`, with the pictures, so that nobody has to read them again to draw on them."""
        batch: list[Picture] = []
        for read in self._readers(source, bgr):
            try:
                batch.append(read())
            except YoloError as error:
                if on_error is None:
                    raise
                on_error(error)
            if len(batch) >= self.batch_size:
                yield from self._predict(batch)
                batch = []
        if batch:
            yield from self._predict(batch)

    def _readers(self, source: Source, bgr: bool) -> Iterator[Callable[[], Picture]]:
        """What reads the next picture; files begin to be read before they are asked for."""
        items = iter_items(source, bgr=bgr)
        if may_read_ahead(source):
            return read_ahead(items, read_item, depth=2 * self.batch_size + _AHEAD)
        return (partial(read_item, item) for item in items)  # of somebody's generator nothing is taken early

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"Predictor({self._engine.name!r}, {len(self.class_names)} classes, {width}x{height}, {self.device})"

    def _predict(self, batch: Sequence[Picture]) -> Iterator[Prediction]:
        whole = self._find([picture.image for picture in batch])
        for picture, found in zip(batch, whole, strict=True):
            detected = self._with_tiles(picture.image, found) if self.tile else found
            height, width = picture.image.shape[:2]
            detections = Detections(
                *detected,
                names=self.class_names,
                size=(width, height),
                path=picture.path,
                source=picture.source,
                frame=picture.frame,
            )
            yield Prediction(picture.image, detections, picture.rate)

    def _find(self, crops: Sequence[NDArray[np.uint8]]) -> list[_Found]:
        """Detect on pictures, or parts of them, with each view: boxes in pixels of the given."""
        seen: list[Decoded] = []
        places: list[list[LetterboxGeometry]] = []
        for view in self._views:
            looks = [look(crop, self.image_size, view) for crop in crops]
            seen.append(self._engine(np.stack([canvas for canvas, _ in looks])))
            places.append([place for _, place in looks])
        found = []
        for row in range(len(crops)):
            decoded = [Decoded(one.boxes[row], one.scores[row]) for one in seen]
            joined = in_one_frame(decoded, self._views, [own[row] for own in places])
            found.append(self._suppressed(joined, places[0][row]))
        return found

    def _suppressed(self, decoded: Decoded, place: LetterboxGeometry) -> _Found:
        detected = non_max_suppression(
            decoded.boxes[None],
            decoded.scores[None],
            confidence=self.confidence,
            iou=self.iou,
            max_detections=self.max_detections,
            class_agnostic=self.class_agnostic,
        )[0]
        boxes = undo_letterbox(detected.boxes.cpu(), place).numpy()
        visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # not wholly on the grey border
        return _Found(boxes, detected.scores.cpu().numpy(), detected.labels.cpu().numpy()).select(visible)

    def _with_tiles(self, image: NDArray[np.uint8], whole: _Found) -> _Found:
        """Add what the tiles of a picture show to what was found in the whole of it."""
        assert self.tile is not None
        height, width = image.shape[:2]
        grid = tile_grid((width, height), self.tile, self.overlap)
        if len(grid) == 1:
            return whole
        parts, cut = [whole], [np.zeros(len(whole.scores), bool)]
        for start in range(0, len(grid), self.batch_size):
            regions = grid[start : start + self.batch_size]
            crops = [np.ascontiguousarray(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in regions]
            for region, found in zip(regions, self._find(crops), strict=True):
                moved = found.moved_by(region)
                parts.append(moved)
                cut.append(cut_at_edge(moved.boxes, region, (width, height)))
        together = _Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        part = parts_of_others(together.boxes, together.labels, np.concatenate(cut), class_agnostic=self.class_agnostic)
        together = together.select(~part)
        keep = suppress(
            torch.from_numpy(together.boxes),
            torch.from_numpy(together.scores),
            None if self.class_agnostic else torch.from_numpy(together.labels),
            iou=self.iou,
            max_detections=self.max_detections,
        )
        return together.select(keep.numpy())


class _Found(NamedTuple):
    """Boxes ``[N, 4]`` xyxy in pixels of a picture, scores ``[N]``, labels ``[N]``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> _Found:
        return _Found(self.boxes[keep], self.scores[keep], self.labels[keep])

    def moved_by(self, region: Region) -> _Found:
        return self._replace(boxes=self.boxes + np.array([*region[:2], *region[:2]], np.float32))


def _names(given: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return known
    if isinstance(given, str):
        raise UsageError(f"class_names must be a list of names, not the text {given!r}")
    if len(given) != len(known):
        raise UsageError(f"{len(given)} class names were given, but the network has {len(known)} classes")
    return tuple(given)


def _fraction(name: str, value: float, *, below: float | None = None) -> float:
    if not 0 <= value <= 1 or (below is not None and value >= below):
        raise UsageError(f"{name} must lie between 0 and 1, not {value}")
    return float(value)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
    return int(value)
