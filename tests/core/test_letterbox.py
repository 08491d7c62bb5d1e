"""Letterbox geometry, pixels, and the way back."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo.core.errors import YoloError
from yolo.core.letterbox import letterbox, letterbox_geometry, undo_letterbox

GOLDEN = Path(__file__).parents[1] / "golden" / "letterbox.json"

# What the reference implementations compute differs in these cases, on purpose: floor(side * scale) of the fitted side
# falls one pixel short in floating point (and takes the other side with it in 308x231), and a side below one pixel
# kills them. Here: (source, target) -> (content, offset).
ON_PURPOSE = {
    ((1, 1000), (640, 640)): ((1, 640), (319, 0)),
    ((1, 1000), (320, 320)): ((1, 320), (159, 0)),
    ((1, 1000), (320, 256)): ((1, 256), (159, 0)),
    ((638, 480), (640, 640)): ((640, 481), (0, 79)),
    ((638, 480), (320, 320)): ((320, 240), (0, 40)),
    ((638, 480), (320, 256)): ((320, 240), (0, 8)),
    ((308, 231), (640, 640)): ((640, 480), (0, 80)),
    ((308, 231), (320, 320)): ((320, 240), (0, 40)),
    ((308, 231), (320, 256)): ((320, 240), (0, 8)),
    ((404, 606), (640, 640)): ((426, 640), (107, 0)),
    ((404, 606), (320, 320)): ((213, 320), (53, 0)),
}


@pytest.mark.parametrize("source", ["seed", "upstream"])
def test_geometry_is_the_published_one_but_for_the_decided_cases(reference: Path, source: str):
    cases = json.loads((reference / "postprocess" / f"letterbox_{source}.json").read_text())["geometry"]
    assert len(cases) == 39
    differ = {}
    for case in cases:
        size, target = tuple(case["size_wh"]), tuple(case["target_wh"])
        ours = letterbox_geometry(size, target)
        if "resized_wh" in case:
            theirs = tuple(case["resized_wh"]), (case["pad_left"], case["pad_top"])
        elif "content_x0y0x1y1" in case:
            x0, y0, x1, y1 = case["content_x0y0x1y1"]
            theirs = (x1 - x0, y1 - y0), (x0, y0)
        else:
            theirs = None  # it failed
        if (ours.content, ours.offset) != theirs:
            differ[size, target] = ours.content, ours.offset
    assert differ == ON_PURPOSE


@pytest.mark.parametrize(("case", "expected"), ON_PURPOSE.items())
def test_decided_cases(case: tuple[tuple[int, int], tuple[int, int]], expected: tuple[object, object]):
    geometry = letterbox_geometry(*case)
    assert (geometry.content, geometry.offset) == expected


def test_ordinary_cases():
    geometry = letterbox_geometry((1920, 1080), (640, 640))
    assert (geometry.content, geometry.offset) == ((640, 360), (0, 140))
    geometry = letterbox_geometry((333, 500), (320, 256))
    assert (geometry.content, geometry.offset) == ((170, 256), (75, 0))
    assert geometry.scale == (170 / 333, 256 / 500)
    # exact multiples are letterboxed like anything else
    assert letterbox_geometry((1280, 960), (640, 640)).content == (640, 480)


def test_fitted_side_is_always_exact():
    for width in range(1, 2000):
        assert letterbox_geometry((width, max(1, width // 2)), (640, 640)).content[0] == 640


@pytest.mark.parametrize("sizes", [((0, 5), (32, 32)), ((5, 0), (32, 32)), ((5, 5), (0, 32)), ((5, 5), (32, -1))])
def test_sizes_without_pixels_are_refused(sizes: tuple[tuple[int, int], tuple[int, int]]):
    with pytest.raises(YoloError, match="not positive"):
        letterbox_geometry(*sizes)


def test_pixels_compact_golden():
    golden = json.loads(GOLDEN.read_text())
    image, expected = (
        np.frombuffer(zlib.decompress(base64.b85decode(golden[name])), np.uint8)
        for name in ("image", "letterbox_64x64")
    )
    canvas, geometry = letterbox(image.reshape(37, 53, 3), (64, 64))
    assert geometry.content == (64, 44)
    assert np.abs(canvas.astype(int) - expected.reshape(64, 64, 3)).max() <= 1


def test_pixels_are_those_of_opencv(reference: Path):
    image = np.load(reference / "postprocess" / "letterbox_upstream.npz")["image_hwc_rgb"]
    golden = np.load(reference / "postprocess" / "letterbox_seed.npz")
    for target in ((64, 64), (32, 32), (96, 48)):
        expected = golden[f"readme_cv2_linear_{target[0]}x{target[1]}"]
        canvas, _ = letterbox(image, target)
        assert np.abs(canvas.astype(int) - expected).max() <= 1
    official = np.load(reference / "postprocess" / "letterbox_official.npz")["cv2_linear_32x32"]
    assert np.abs(letterbox(image, (32, 32))[0].astype(int) - official).max() <= 1


def test_canvas_is_new_and_grey_around():
    image = np.full((20, 40, 3), 7, np.uint8)
    canvas, geometry = letterbox(image, (40, 40))
    assert (geometry.content, geometry.offset) == ((40, 20), (0, 10))
    assert (canvas[:10] == 114).all()
    assert (canvas[10:30] == 7).all()
    assert (canvas[30:] == 114).all()
    same, _ = letterbox(image, (40, 20))
    same[:] = 0
    assert (image == 7).all()
    assert letterbox(image[:, ::-1], (64, 48))[0].shape == (48, 64, 3)


def test_tiny_and_huge_shapes():
    for size in ((1, 1), (1, 1000), (1000, 1), (3, 2)):
        canvas, geometry = letterbox(np.zeros((size[1], size[0], 3), np.uint8), (320, 256))
        assert canvas.shape == (256, 320, 3)
        assert min(geometry.content) >= 1


def test_matrix_keeps_boxes_on_their_pixels():
    geometry = letterbox_geometry((37, 911), (320, 320))
    corners = geometry.matrix @ np.array([[0, 37], [0, 911], [1, 1]])
    left, top = geometry.offset
    assert corners[:2, 0].tolist() == [left, top]
    np.testing.assert_allclose(corners[:2, 1], [left + geometry.content[0], top + geometry.content[1]])
    nominal = 320 / 911
    assert abs(geometry.scale[0] - nominal) * 37 < 1


def test_undo_clips_and_keeps_the_kind():
    geometry = letterbox_geometry((640, 480), (320, 320))
    canvas_boxes = np.array([[0, 40, 320, 280], [-50, 0, 400, 400], [10, 50, 20, 60]], np.float32)
    expected = np.array([[0, 0, 640, 480], [0, 0, 640, 480], [20, 20, 40, 40]], np.float32)
    back = undo_letterbox(canvas_boxes, geometry)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, expected)
    tensor = undo_letterbox(torch.from_numpy(canvas_boxes), geometry)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor, expected)
    by_matrix = undo_letterbox(canvas_boxes, matrix=torch.from_numpy(geometry.matrix), source_size=(640, 480))
    np.testing.assert_allclose(by_matrix, expected)
    assert undo_letterbox(canvas_boxes[:0], geometry).shape == (0, 4)


def test_undo_needs_a_placement_that_it_can_undo():
    boxes = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match="needs a geometry"):
        undo_letterbox(boxes, matrix=np.eye(3))
    with pytest.raises(ValueError, match="turns"):
        undo_letterbox(boxes, matrix=np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), source_size=(5, 5))
