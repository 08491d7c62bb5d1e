"""Large pictures in tiles, and pictures seen several ways: boxes stay where the objects are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from yolo.core import Predictor
from yolo.core.decode import Decoded
from yolo.core.errors import UsageError, YoloError
from yolo.core.models.build import build_model
from yolo.core.models.spec import parse_spec
from yolo.core.tiling import cut_at_edge, parts_of_others, tile_grid
from yolo.core.views import AUGMENTED, View, in_one_frame, look

POCKET = {
    "name": "pocket",
    "backbone": [
        {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
        {"AConv": {"args": {"out_channels": 8}}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
        {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
    ],
    "detection": [{"MultiheadDetection": {"source": ["P3", "P4", "P5"]}}],
}


class Outline:
    """An engine that boxes the red pixels of a canvas as one object, and sees nothing smaller than 6 pixels."""

    name, class_names, batch_size = "outline", ("red", "other"), 2
    device = torch.device("cpu")

    def __init__(self, size: tuple[int, int]) -> None:
        self.image_size = size
        self.calls = 0

    def __call__(self, canvases):
        self.calls += 1
        boxes, scores = torch.zeros(len(canvases), 1, 4), torch.zeros(len(canvases), 1, 2)
        for row, canvas in enumerate(canvases):
            rows, columns = np.nonzero((canvas[..., 0] > 200) & (canvas[..., 1] < 60))
            if len(rows) and min(np.ptp(rows), np.ptp(columns)) >= 5:
                boxes[row, 0] = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
                scores[row, 0, 0] = 0.9
        return Decoded(boxes, scores)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_model(parse_spec(POCKET), 2)


@pytest.fixture
def find(network):
    def make(**options):
        predictor = Predictor(network, image_size=64, device="cpu", **options)
        predictor._engine = Outline((64, 64))
        return predictor

    return make


def picture(width: int, height: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = (255, 0, 0)
    return image


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(8, 200), st.integers(8, 200)),
    st.floats(0, 0.7),
)
def test_tiles_cover_the_picture_and_overlap(size, tile, overlap) -> None:
    seen = np.zeros((size[1], size[0]), bool)
    grid = tile_grid(size, tile, overlap)
    for x1, y1, x2, y2 in grid:
        assert 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]
        assert (x2 - x1, y2 - y1) == (min(tile[0], size[0]), min(tile[1], size[1]))
        seen[y1:y2, x1:x2] = True
    assert seen.all()
    for axis in (0, 1):
        starts = sorted({region[axis] for region in grid})
        for first, second in itertools.pairwise(starts):
            assert first + tile[axis] - second >= overlap * tile[axis] - 1


def test_small_objects_of_a_large_picture_are_found_in_tiles_only(find) -> None:
    image = picture(640, 320, (500, 100, 520, 118))
    assert len(find()(image)[0]) == 0  # 2 pixels of the canvas
    (found,) = find(tile=64)(image)
    assert found.boxes.tolist() == [[500, 100, 520, 118]]
    assert found.size == (640, 320)


def test_an_object_on_the_seam_is_one_object_with_its_whole_box(find) -> None:
    image = picture(112, 64, (40, 20, 70, 40))  # tiles 0-64 and 48-112: each sees a part
    (found,) = find(tile=64, overlap=0.25)(image)
    assert len(found) == 1
    assert found.boxes[0].tolist() == pytest.approx([40, 20, 70, 40], abs=2)  # from the whole picture


def test_a_picture_no_larger_than_a_tile_is_looked_at_once(find) -> None:
    predictor = find(tile=64)
    predictor(picture(64, 48, (10, 10, 30, 30)))
    assert predictor._engine.calls == 1


def test_tiles_go_through_in_batches(find) -> None:
    predictor = find(tile=64, overlap=0.0, batch_size=4)
    predictor(picture(256, 128, (10, 10, 30, 30)))
    assert predictor._engine.calls == 1 + 2  # the whole, then 8 tiles by fours


def test_cut_boxes_are_those_at_inner_edges() -> None:
    region, size = (64, 0, 128, 64), (200, 64)
    boxes = np.array([[64, 5, 90, 20], [70, 0, 90, 20], [100, 10, 127.5, 64], [70, 30, 100, 64]], np.float32)
    assert cut_at_edge(boxes, region, size).tolist() == [True, False, True, False]


def test_a_cut_box_is_dropped_only_inside_a_larger_one_of_its_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 10], [50, 50, 60, 60], [0, 0, 9, 9]], np.float32)
    cut = np.array([True, False, True, False])
    labels = np.array([0, 0, 0, 0])
    assert parts_of_others(boxes, labels, cut, class_agnostic=False).tolist() == [True, False, False, False]
    labels = np.array([0, 1, 0, 0])
    assert not parts_of_others(boxes, labels, cut, class_agnostic=False).any()
    assert parts_of_others(boxes, labels, cut, class_agnostic=True).tolist() == [True, False, False, False]


@pytest.mark.parametrize("view", [*AUGMENTED, View(0.53), View(0.53, mirrored=True)])
@pytest.mark.parametrize("size", [(100, 60), (60, 101), (640, 480)])
@pytest.mark.parametrize("canvas", [(64, 64), (96, 64), (64, 128)])
def test_boxes_of_every_view_lie_in_the_frame_of_the_first(view, size, canvas) -> None:
    width, height = size
    truth = (width // 8, height // 8, width * 3 // 5, height * 3 // 4)
    image = picture(width, height, truth)
    engine = Outline(canvas)
    plain, place = look(image, canvas, View())
    other, other_place = look(image, canvas, view)
    assert other.shape == (canvas[1], canvas[0], 3)
    seen = [Decoded(one.boxes[0], one.scores[0]) for one in (engine(plain[None]), engine(other[None]))]
    joined = in_one_frame(seen, [View(), view], [place, other_place])
    assert joined.scores.shape == (2, 2)
    assert joined.boxes[1].tolist() == pytest.approx(joined.boxes[0].tolist(), abs=2.5)


def test_augmentation_finds_the_object_once(find) -> None:
    predictor = find(augment=True)
    (found,) = predictor(picture(120, 90, (20, 20, 80, 60)))
    assert predictor._engine.calls == len(AUGMENTED)
    assert len(found) == 1
    assert found.boxes[0].tolist() == pytest.approx([20, 20, 80, 60], abs=3)


def test_tiles_without_number_are_refused_before_they_take_memory(find) -> None:
    for options in ({"tile": 1}, {"tile": 64, "overlap": 0.999}):
        with pytest.raises(YoloError, match="take larger tiles or a smaller overlap"):
            find(**options)(picture(1000, 1000))


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": "big"}, {"overlap": 1.0}, {"overlap": -0.1}])
def test_impossible_tiles_are_refused(network, options) -> None:
    with pytest.raises(UsageError):
        Predictor(network, **options)
