"""Test-time augmentation: the same picture seen mirrored and smaller, with all boxes brought back to one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.decode import Decoded
from yolo.core.letterbox import GREY, LetterboxGeometry, letterbox


@dataclass(frozen=True)
class View:
    """One way to look at a letterboxed picture.

    Attributes:
        scale: of the content, at most 1: a network of fixed input size sees it with a wider grey border.
        mirrored: left and right are exchanged.
    """

    scale: float = 1.0
    mirrored: bool = False


PLAIN: tuple[View, ...] = (View(),)
#: The picture, its mirror image, and both a step smaller.
AUGMENTED: tuple[View, ...] = (View(), View(mirrored=True), View(0.8), View(0.8, mirrored=True))


def look(image: NDArray[np.uint8], size: tuple[int, int], view: View) -> tuple[NDArray[np.uint8], LetterboxGeometry]:
    """Letterbox a picture as a view sees it.

    Args:
        image: uint8 ``[H, W, 3]``.
        size: width and height of the canvas.
        view: how to look at it.

    Returns:
        The canvas, uint8 ``[height, width, 3]``, and the placement before mirroring.
    """
    inner = max(1, round(size[0] * view.scale)), max(1, round(size[1] * view.scale))
    canvas, geometry = letterbox(image, inner)
    if inner != size:
        whole = np.full((size[1], size[0], 3), GREY, np.uint8)
        left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        whole[top : top + inner[1], left : left + inner[0]] = canvas
        offset = geometry.offset[0] + left, geometry.offset[1] + top
        canvas, geometry = whole, LetterboxGeometry(geometry.source, size, geometry.content, offset)
    return (np.ascontiguousarray(canvas[:, ::-1]) if view.mirrored else canvas), geometry


def in_one_frame(seen: Sequence[Decoded], views: Sequence[View], places: Sequence[LetterboxGeometry]) -> Decoded:
    """Join the predictions of several views of one picture.

    Args:
        seen: of each view, boxes ``[A, 4]`` and scores ``[A, C]``, in pixels of its canvas.
        views: the views.
        places: how each of them lies on its canvas.

    Returns:
        Boxes ``[V * A, 4]`` in pixels of the first canvas, and scores.
    """
    if len(views) == 1 and not views[0].mirrored:
        return seen[0]
    first = places[0].matrix
    boxes = []
    for decoded, view, place in zip(seen, views, places, strict=True):
        corners = decoded.boxes
        if view.mirrored:
            corners = torch.stack(
                (place.target[0] - corners[:, 2], corners[:, 1], place.target[0] - corners[:, 0], corners[:, 3]), dim=1
            )
        back = first @ np.linalg.inv(place.matrix)
        scale = corners.new_tensor([back[0, 0], back[1, 1]] * 2)
        shift = corners.new_tensor([back[0, 2], back[1, 2]] * 2)
        boxes.append(corners if place == places[0] else corners * scale + shift)
    return Decoded(torch.cat(boxes), torch.cat([decoded.scores for decoded in seen]))
