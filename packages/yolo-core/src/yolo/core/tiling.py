"""Large pictures in overlapping tiles, and putting together what was found in them. Importable without torch."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolo.core.errors import YoloError

Boxes: TypeAlias = NDArray[np.float32]
Region: TypeAlias = tuple[int, int, int, int]

_EDGE = 2.0  # pixels from the edge of a tile at which a box may have been cut
_MOST = 20_000  # tiles of a picture; more are asked for by mistake, and would take hours
_INSIDE = 0.7  # share of a cut box that lies in a whole one, to be a part of the same object


def tile_grid(size: tuple[int, int], tile: tuple[int, int], overlap: float) -> list[Region]:
    """Cover a picture with tiles of one size, evenly spread; neighbours overlap by at least a share of a tile.

    >>> tile_grid((1000, 600), (640, 640), 0.25)
    [(0, 0, 640, 600), (360, 0, 1000, 600)]

    Args:
        size: width and height of the picture, pixels.
        tile: width and height of a tile, pixels.
        overlap: least share of a tile that it has in common with the next, from 0 to below 1.

    Returns:
        xyxy of the tiles in pixels of the picture, row by row.

    Raises:
        YoloError: more than 20,000 tiles.
    """
    across, down = (_count(side, length, overlap) for side, length in zip(size, tile, strict=True))
    if across * down > _MOST:
        raise YoloError(
            f"a picture of {size[0]}x{size[1]} would be cut into {across * down} tiles of {tile[0]}x{tile[1]} with an "
            f"overlap of {overlap}, more than {_MOST}; take larger tiles or a smaller overlap"
        )
    columns, rows = _starts(size[0], tile[0], across), _starts(size[1], tile[1], down)
    return [(x, y, min(x + tile[0], size[0]), min(y + tile[1], size[1])) for y in rows for x in columns]


def cut_at_edge(boxes: Boxes, region: Region, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which boxes end at an edge of their tile that is no edge of the picture: a part may be missing.

    Args:
        boxes: ``[N, 4]`` xyxy in pixels of the picture.
        region: of the tile.
        size: width and height of the picture.
    """
    x1, y1, x2, y2 = region
    edges = [(0, x1, x1 > 0, -1), (1, y1, y1 > 0, -1), (2, x2, x2 < size[0], 1), (3, y2, y2 < size[1], 1)]
    cut = np.zeros(len(boxes), bool)
    for column, edge, inner, outwards in edges:
        if inner:
            cut |= (boxes[:, column] - edge) * outwards >= -_EDGE
    return cut


def parts_of_others(
    boxes: Boxes, labels: NDArray[np.int64], cut: NDArray[np.bool_], *, class_agnostic: bool
) -> NDArray[np.bool_]:
    """Say which cut boxes lie inside a larger box of their class: the tile beside it has seen the whole object.

    Args:
        boxes: ``[N, 4]`` xyxy of all tiles in pixels of the picture.
        labels: ``[N]``.
        cut: ``[N]`` from :func:`cut_at_edge`.
        class_agnostic: compare boxes of different classes too.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    part = np.zeros(len(boxes), bool)
    for row in np.flatnonzero(cut):  # few: they end within two pixels of an inner edge
        low, high = np.maximum(boxes[:, :2], boxes[row, :2]), np.minimum(boxes[:, 2:], boxes[row, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        around = (common >= _INSIDE * area[row]) & (area > area[row]) & ~part
        part[row] = bool((around if class_agnostic else around & (labels == labels[row])).any())
    return part


def _count(side: int, tile: int, overlap: float) -> int:
    return 1 if side <= tile else math.ceil((side - tile) / max(1.0, tile * (1 - overlap))) + 1


def _starts(side: int, tile: int, count: int) -> list[int]:
    return [round(index * (side - tile) / max(1, count - 1)) for index in range(count)]
