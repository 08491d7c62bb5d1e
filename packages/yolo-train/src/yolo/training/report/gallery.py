"""Pictures of mistakes: cut out with some surroundings, small enough that a report stays one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image

from yolo.core.errors import YoloError
from yolo.data.labels import LabelTable
from yolo.data.loaders.base import ImageLoader, Pixels
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.flat import Floats
from yolo.training.report.findings import Finding, nearby
from yolo.training.report.markup import Html, tag

MOST = 24  # pictures of each kind
PICTURE_BYTES = 48_000  # of one data URI: both galleries together stay under 2.4 MB
_SIDE = 288  # pixels
_CONTEXT = 2.4  # sides of the cut to those of the box
_LEAST = 72  # pixels of the original
_TRIES = ((_SIDE, 82), (_SIDE, 65), (_SIDE * 3 // 4, 60), (_SIDE // 2, 50), (_SIDE // 3, 30))


@dataclass(frozen=True)
class Gallery:
    """Figures, and how many findings could not be shown because their picture could not be read."""

    figures: tuple[Html, ...]
    unread: int


def draw(findings: Sequence[Finding], analysis: Analysis, table: LabelTable, loader: ImageLoader) -> Gallery:
    """Draw findings with truth and predictions around them.

    Args:
        findings: in the order to show them.
        analysis: that they come from.
        table: of the evaluated images.
        loader: of the pictures; it must not be confidential, as the pictures are in the file in clear.
    """
    figures: dict[int, Html] = {}
    for image in sorted({finding.image for finding in findings}):
        pixels = _read(table, image, loader)
        if pixels is None:
            continue
        name = PurePath(table.path(image)).name
        for rank, finding in enumerate(findings):
            if finding.image == image:
                figures[rank] = _figure(finding, analysis, pixels, name)
    return Gallery(tuple(figures[rank] for rank in sorted(figures)), len(findings) - len(figures))


def cut_around(box: Floats, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of a square around a box, moved into the picture and no larger than it.

    Args:
        box: xyxy, pixels.
        size: width and height of the picture.
    """
    side = max(_LEAST, _CONTEXT * float((box[2:] - box[:2]).max()))
    edges = []
    for low, high, limit in zip(box[:2], box[2:], size, strict=True):
        length = min(round(side), limit)
        start = int(np.clip(round((low + high - length) / 2), 0, limit - length))
        edges.append((start, start + length))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def data_uri(pixels: Pixels) -> str:
    """Return a picture as a JPEG in a data URI of at most :data:`PICTURE_BYTES` characters.

    It is made smaller and coarser until it fits; noise of the smallest size and quality does.
    """
    uri = ""
    for side, quality in _TRIES:
        picture = Image.fromarray(pixels)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        picture.save(stream, format="JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
        if len(uri) <= PICTURE_BYTES:
            break
    return uri


def _read(table: LabelTable, image: int, loader: ImageLoader) -> Pixels | None:
    try:
        pixels = loader.read(table.path(image))
    except YoloError:
        return None
    height, width = pixels.shape[:2]
    return pixels if (width, height) == table.size(image) else None  # else it is not the picture that was measured


def _figure(finding: Finding, analysis: Analysis, pixels: Pixels, name: str) -> Html:
    height, width = pixels.shape[:2]
    left, top, right, bottom = cut_around(finding.box, (width, height))
    corner = np.array([left, top, left, top])
    limit = np.array([right - left, bottom - top] * 2)

    def boxes(found: Floats, style: str) -> list[Html]:
        inside = np.clip(found - corner, 0, limit)
        return [
            tag("rect", x=f"{x1:.1f}", y=f"{y1:.1f}", width=f"{x2 - x1:.1f}", height=f"{y2 - y1:.1f}", class_=style)
            for x1, y1, x2, y2 in inside
            if x2 > x1 and y2 > y1
        ]

    objects, detections = nearby(analysis, finding)
    own = "prediction" if finding.predicted else "truth"
    cut = np.ascontiguousarray(pixels[top:bottom, left:right])
    picture = tag(
        "svg",
        tag("image", href=data_uri(cut), width=right - left, height=bottom - top, preserveAspectRatio="none"),
        *boxes(objects, "box truth"),
        *boxes(detections, "box prediction"),
        *boxes(finding.box[None], "halo"),
        *boxes(finding.box[None], f"box {own} own"),
        viewBox=f"0 0 {right - left} {bottom - top}",
        role="img",
        aria_label=f"{finding.title}: {finding.detail}",
    )
    caption = tag("figcaption", tag("b", finding.title), tag("span", finding.detail), tag("small", name))
    return tag("figure", picture, caption)
