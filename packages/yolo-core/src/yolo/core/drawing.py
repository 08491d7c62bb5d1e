"""Drawing detections on a picture so that people can read them. Importable without torch.

Line width and letters grow with the picture. Labels have a background in the colour of the class, letters in black or
white, whichever stands out, and look for a place that no better detection's label has taken. Where no label
fits (tiny pictures, dense crowds), only the box is drawn.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from yolo.core.fonts import Font, font_for
from yolo.core.results import Detections

Color = tuple[int, int, int]
_Rect = tuple[int, int, int, int]
_GOLDEN = 0.6180339887498949  # steps of the golden ratio spread any number of hues well
_SHORTEST_TEXT = 11  # pixels; smaller letters cannot be read
_LONGEST_NAME = 40


@dataclass(frozen=True)
class _Label:
    text: str
    font: Font
    color: Color
    rect: _Rect
    origin: tuple[float, float]


def class_color(label: int) -> Color:
    """Return the RGB colour of a class: always the same, and neighbours far apart."""
    hue = (0.58 + max(int(label), 0) * _GOLDEN) % 1.0
    value, saturation = ((0.95, 0.85), (0.75, 0.95), (1.0, 0.55))[max(int(label), 0) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(background: Color) -> Color:
    """Return black or white, whichever has more contrast on ``background`` (WCAG 2 relative luminance)."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def draw_detections(
    image: NDArray[np.uint8],
    detections: Detections,
    *,
    show_scores: bool = True,
    line_width: int | None = None,
    text_size: int | None = None,
) -> NDArray[np.uint8]:
    """Draw boxes and labels on a copy of a picture.

    Args:
        image: uint8 ``[H, W, 3]`` RGB, the original upright picture. Not changed.
        detections: what to draw; boxes in pixels of ``image``. Without detections the copy is returned as it is.
        show_scores: write the score behind the class name.
        line_width: pixels; default: by the size of the picture.
        text_size: pixels; default: by the size of the picture.

    Returns:
        uint8 ``[H, W, 3]`` RGB.
    """
    height, width = image.shape[:2]
    if not len(detections):
        return image.copy()
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    line = line_width or max(1, round((width + height) / 500))
    letters = text_size or max(_SHORTEST_TEXT, round(min(max(width, height) / 45, min(width, height) / 12)))
    for row in range(len(detections) - 1, -1, -1):  # the best lie on top
        x1, y1, x2, y2 = _inside(detections.boxes[row], width, height)
        # Never wider than the box itself, or a tiny box becomes a blot.
        stroke = max(1, min(line, (min(x2 - x1, y2 - y1) + 2) // 3))
        draw.rectangle((x1, y1, x2, y2), outline=class_color(int(detections.labels[row])), width=stroke)
    for label in _place_labels(draw, detections, letters, (width, height), show_scores):
        draw.rectangle(label.rect, fill=label.color)
        draw.text(label.origin, label.text, fill=text_color(label.color), font=label.font)
    return np.array(canvas)


def _inside(box: NDArray[np.float32], width: int, height: int) -> _Rect:
    """Pixel indices (inclusive) of a box, at least one pixel, inside the picture whatever the numbers are."""
    x1, y1, x2, y2 = np.nan_to_num(np.asarray(box, np.float64), posinf=1e9, neginf=-1e9).tolist()
    left, right = sorted((x1, x2))
    top, bottom = sorted((y1, y2))
    first_x = min(max(int(left), 0), width - 1)
    first_y = min(max(int(top), 0), height - 1)
    last_x = min(max(int(np.ceil(right)) - 1, first_x), width - 1)
    last_y = min(max(int(np.ceil(bottom)) - 1, first_y), height - 1)
    return first_x, first_y, last_x, last_y


def _place_labels(
    draw: ImageDraw.ImageDraw, detections: Detections, letters: int, size: tuple[int, int], show_scores: bool
) -> list[_Label]:
    """Find a place for every label, best detections first; what fits nowhere is left out."""
    taken = np.zeros((len(detections), 4), np.int64)
    labels: list[_Label] = []
    for row in range(len(detections)):
        label = int(detections.labels[row])
        name = " ".join(detections.name_of(label).split())
        name = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
        texts = [name, str(label)]
        if show_scores:
            texts.insert(0, f"{name} {detections.scores[row]:.2f}")
        for wanted in texts:  # the longest that fits
            font, text = font_for(wanted, letters)
            left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
            _, highest, _, lowest = draw.textbbox((0, 0), "Ag", font=font)  # one height, whatever the letters
            top, bottom = min(top, highest), max(bottom, lowest)
            pad = max(1, round((bottom - top) / 5))
            extent = (int(right - left) + 2 * pad + 1, int(bottom - top) + 2 * pad + 1)
            corner = _free_corner(_inside(detections.boxes[row], *size), extent, size, taken[: len(labels)])
            if corner is not None:
                x, y = corner
                rect = (x, y, x + extent[0] - 1, y + extent[1] - 1)
                taken[len(labels)] = rect
                labels.append(_Label(text, font, class_color(label), rect, (x + pad - left, y + pad - top)))
                break
    return labels


def _free_corner(
    box: _Rect, extent: tuple[int, int], size: tuple[int, int], taken: NDArray[np.int64]
) -> tuple[int, int] | None:
    """Choose where a label goes: above the box, else inside, else below; the first place that nobody has taken."""
    x1, y1, x2, y2 = box
    wide, high = extent
    if wide > size[0] or high > size[1] / 4:
        return None
    for y in (y1 - high, y1, y2 + 1, y2 - high + 1):
        for x in (x1, x2 - wide + 1):
            left, top = min(max(x, 0), size[0] - wide), min(max(y, 0), size[1] - high)
            apart = (
                (taken[:, 0] >= left + wide) | (taken[:, 2] < left) | (taken[:, 1] >= top + high) | (taken[:, 3] < top)
            )
            if 0 <= y <= size[1] - high and apart.all():
                return left, top
    return None
