"""Random rotation, zoom, shear, shift and perspective, as one matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from yolo.data.augment.base import Augmentation, Context
from yolo.data.augment.geometry import Matrix, move_targets, rotation, scaling, shearing, translation
from yolo.data.augment.paint import blank, paint
from yolo.data.types import Sample

_MIN_ZOOM = 0.01
_MIN_DEPTH = 0.2
_BEYOND = 1.5  # a mosaic's pictures reach as far as that from the scene's middle, in halves of the scene


@dataclass(frozen=True)
class AffineParams:
    """One drawn transformation.

    Attributes:
        zoom: factor, 1 keeps the size.
        degrees: rotation, clockwise on the screen.
        shear: degrees along x and y.
        shift: fractions of the canvas's width and height by which the middle moves.
        perspective: change of depth per pixel along x and y.
    """

    zoom: float = 1.0
    degrees: float = 0.0
    shear: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    perspective: tuple[float, float] = (0.0, 0.0)


class RandomPerspective(Augmentation[AffineParams]):
    """Look at a picture, or at a mosaic as a whole, from elsewhere.

    In the pipeline its matrix is multiplied with the layout's and costs no pass of its own; :meth:`apply` is for use on
    a finished sample. The order is that of the published YOLO recipes: perspective, rotation with zoom, shear, all
    about the middle, then the shift.

    Args:
        degrees: largest rotation either way.
        translate: largest shift, as a fraction of the canvas.
        scale: the zoom is drawn from ``1 - scale`` to ``1 + scale``.
        shear: largest shear either way, degrees.
        perspective: largest change of depth per pixel.
    """

    def __init__(
        self,
        *,
        degrees: float = 0.0,
        translate: float = 0.1,
        scale: float = 0.9,
        shear: float = 0.0,
        perspective: float = 0.0,
    ) -> None:
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.perspective = perspective

    def draw(self, rng: np.random.Generator, context: Context) -> AffineParams:
        """Draw every parameter uniformly."""
        u = rng.uniform(-1, 1, 8).tolist()
        return AffineParams(
            zoom=max(_MIN_ZOOM, 1 + self.scale * u[0]),
            degrees=self.degrees * u[1],
            shear=(self.shear * u[2], self.shear * u[3]),
            shift=(self.translate * u[4], self.translate * u[5]),
            perspective=(self.perspective * u[6], self.perspective * u[7]),
        )

    def apply(self, sample: Sample, params: AffineParams) -> Sample:
        """Warp a finished sample on a canvas of the same size."""
        height, width = sample.image.shape[:2]
        size = (width, height)
        matrix = affine_matrix(params, size, size)
        canvas = blank(size)
        paint(canvas, sample.image, matrix)
        targets = move_targets(sample.targets, matrix, size)
        return replace(sample, image=canvas, targets=targets, matrix=matrix @ sample.matrix)


def affine_matrix(params: AffineParams, scene: tuple[float, float], canvas: tuple[float, float]) -> Matrix:
    """Compose the matrix from a scene to a canvas; the middle of the one goes to the middle of the other, shifted.

    Args:
        params: what was drawn.
        scene: width and height of what is looked at, pixels.
        canvas: width and height of the output, pixels.
    """
    bend = np.eye(3)
    bend[2, :2] = _bounded(params.perspective, scene)
    matrix = bend @ translation(-scene[0] / 2, -scene[1] / 2)
    matrix = shearing(*params.shear) @ rotation(params.degrees) @ scaling(params.zoom, params.zoom) @ matrix
    centre = canvas[0] * (0.5 + params.shift[0]), canvas[1] * (0.5 + params.shift[1])
    return translation(*centre) @ matrix


def _bounded(perspective: tuple[float, float], scene: tuple[float, float]) -> tuple[float, float]:
    """Weaken a perspective that would put the scene, or what sticks out of it, nearly at the eye or behind it."""
    x, y = perspective
    reach = _BEYOND * (abs(x) * scene[0] + abs(y) * scene[1]) / 2
    factor = min(1.0, (1 - _MIN_DEPTH) / reach) if reach else 1.0
    return x * factor, y * factor
