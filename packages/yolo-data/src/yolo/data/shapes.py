"""Pictures of shapes among clutter, with the boxes of what can be seen of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.data.types import Targets

SHAPES = ("circle", "square", "triangle", "star")

# Nine of ten shapes have the colour that is usual for their class (hue in OpenCV's 0..179), as road signs do.
_USUAL_HUES = (5, 110, 55, 25)
_USUAL_COLOUR = 0.9
_MIN_CONTRAST = 85.0
_SIDES = (0.2, 0.6)
_MIN_VISIBLE = 0.6
_TRIES = 25
_SUBPIXEL = 4
_GLYPHS = "ABCDEFGHKLMNPRSTUVXYZ0235789&?#"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)

Pixels = NDArray[np.uint8]
Rng = np.random.Generator


def draw_scene(rng: Rng, size: int) -> tuple[Pixels, Targets]:
    """Draw one picture: a textured ground, letters and strokes as clutter, and one to five shapes.

    Shapes are 20 to 60 % of the side, turned at random, and may cover one another; of each at least 60 % of its pixels
    stay visible, and its box is the tight one around these.

    Args:
        rng: everything is drawn from it.
        size: side of the square picture, pixels.

    Returns:
        The picture, uint8 ``[size, size, 3]`` RGB, and its targets.
    """
    image = _ground(rng, size)
    _clutter(rng, image, int(rng.integers(2, 8)))
    owner = np.zeros((size, size), np.uint8)
    labels: list[int] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(1, 6))):
        label = int(rng.integers(len(SHAPES)))
        mask = _place(rng, label, owner, areas)
        if mask is None:
            continue
        _fill(rng, image, mask, _colour(rng, label, image[mask > 0].mean(0)))
        labels.append(label)
        owner[mask > 0] = len(labels)
        areas.append(int((mask > 0).sum()))
    _clutter(rng, image, int(rng.integers(0, 3)), thickness=1)
    boxes = [_box(owner == number) for number in range(1, len(labels) + 1)]
    targets = Targets(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return _weather(rng, image), targets


def outline(label: int, angle: float) -> NDArray[np.float64]:
    """Corners ``[N, 2]`` of a shape of radius 1 about the origin, turned by an angle in radians."""
    if label == 0:
        steps, radii = np.arange(48) / 48, np.ones(48)
    elif label == 3:
        steps, radii = np.arange(10) / 10, np.tile([1.0, 0.42], 5)
    else:
        corners = 4 if label == 1 else 3
        steps, radii = np.arange(corners) / corners, np.ones(corners)
    turn = 2 * np.pi * steps + angle
    return np.asarray(radii[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1), np.float64)


def _place(rng: Rng, label: int, owner: Pixels, areas: list[int]) -> Pixels | None:
    """Mask of a new shape where it hides none of the others too much, or None when no place was found."""
    size = len(owner)
    for _ in range(_TRIES):
        radius = size * float(np.exp(rng.uniform(*np.log(_SIDES)))) / 2
        centre = rng.uniform(0.75 * radius, size - 0.75 * radius, 2)
        stretch = np.exp(rng.uniform(-0.15, 0.15, 2))
        points = outline(label, rng.uniform(0, 2 * np.pi)) * radius * stretch + centre
        mask = np.zeros_like(owner)
        fixed = np.round((points - 0.5) * 2**_SUBPIXEL).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_8, _SUBPIXEL)
        left = np.bincount(owner[mask == 0], minlength=len(areas) + 1)[1:]
        if all(part >= _MIN_VISIBLE * area for part, area in zip(left, areas, strict=True)):
            return mask
    return None


def _fill(rng: Rng, image: Pixels, mask: Pixels, colour: NDArray[np.float64]) -> None:
    """Paint a shape with soft edges, light from one side, and sometimes a rim."""
    size = len(image)
    x0, y0, x1, y1 = _box(mask > 0)
    part = np.s_[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2]
    image, mask = image[part], mask[part]
    height, width = mask.shape
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.25 * (x * np.cos(angle) + y * np.sin(angle))
    paint = np.clip(colour * light[..., None], 0, 255)
    if rng.random() < 0.4:
        rim = (mask > 0) & (cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=max(1, size // 80)) == 0)
        paint[rim] *= 0.45
    alpha = cv2.GaussianBlur(mask, (3, 3), 0.6)[..., None] / 255.0
    image[:] = np.round(image * (1 - alpha) + paint * alpha)


def _colour(rng: Rng, label: int, behind: NDArray[np.float64]) -> NDArray[np.float64]:
    """A colour that stands out from what lies behind, usually the class's own hue."""
    colour = 255.0 - behind
    for _ in range(_TRIES):
        usual = rng.random() < _USUAL_COLOUR
        hue = (_USUAL_HUES[label] + rng.normal(0, 7)) % 180 if usual else rng.uniform(0, 180)
        hsv = np.array([[[hue, rng.uniform(110, 255), rng.uniform(90, 255)]]]).astype(np.uint8)
        colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
        if np.linalg.norm(colour - behind) >= _MIN_CONTRAST:
            break
    return colour


def _ground(rng: Rng, size: int) -> Pixels:
    """Two muted colours that run into each other, with blotches and grain."""
    ramp = np.linspace(0, 1, size)
    x, y = np.meshgrid(ramp, ramp)
    angle = rng.uniform(0, 2 * np.pi)
    along = (0.5 + ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)) / np.sqrt(2))[..., None]
    first, second = _muted(rng), _muted(rng)
    blotches = cv2.resize(rng.normal(0, 14, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, rng.uniform(1, 6), (size, size, 1))
    return np.asarray(np.clip(first * (1 - along) + second * along + blotches + grain, 0, 255), np.uint8)


def _muted(rng: Rng) -> NDArray[np.float64]:
    return rng.uniform(40, 215) + rng.normal(0, 18, 3)


def _clutter(rng: Rng, image: Pixels, count: int, thickness: int = 2) -> None:
    """Letters, strokes and specks, none of which is labelled."""
    size = len(image)
    for _ in range(count):
        colour = rng.integers(0, 256, 3).tolist()
        start, end = rng.integers(-size // 8, size, (2, 2)).tolist()
        kind = rng.random()
        if kind < 0.5:
            glyph = _GLYPHS[int(rng.integers(len(_GLYPHS)))]
            font = _FONTS[int(rng.integers(len(_FONTS)))]
            cv2.putText(image, glyph, start, font, size / 160 * rng.uniform(0.4, 1.6), colour, thickness, cv2.LINE_AA)
        elif kind < 0.85:
            cv2.line(image, start, end, colour, thickness, cv2.LINE_AA)
        else:
            cv2.circle(image, start, max(1, size // 80), colour, cv2.FILLED, cv2.LINE_AA)


def _weather(rng: Rng, image: Pixels) -> Pixels:
    """Sometimes out of focus, always a little darker or brighter."""
    if rng.random() < 0.2:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), len(image) / 160 * rng.uniform(0.5, 1.2)), np.uint8)
    return np.asarray(cv2.convertScaleAbs(image, alpha=rng.uniform(0.8, 1.1), beta=rng.uniform(0, 12)), np.uint8)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight xyxy box around the true pixels; there is at least one."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
