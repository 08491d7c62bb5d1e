"""Drawing: never a crash, always legible, nothing changed where nothing was found."""

from __future__ import annotations

import numpy as np
import pytest

from yolo.core.drawing import class_color, draw_detections, text_color
from yolo.core.fonts import font_for
from yolo.core.results import Detections


def detections(boxes, size, labels=None, names=("cat", "dog", "bird"), scores=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    labels = np.zeros(count, np.int64) if labels is None else np.asarray(labels, np.int64)
    scores = np.linspace(0.9, 0.3, count).astype(np.float32) if scores is None else np.asarray(scores, np.float32)
    return Detections(boxes, scores, labels, tuple(names), size=size)


def grey(width, height):
    return np.full((height, width, 3), 120, np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 40), (1, 400), (64, 48), (640, 480), (2000, 30), (3000, 2000)])
def test_any_picture_and_any_box(size):
    w, h = size
    boxes = [
        [0, 0, w, h],
        [w / 2, h / 2, w / 2, h / 2],  # no area
        [w / 2, h / 2, w / 2 + 0.3, h / 2 + 0.2],  # far below a pixel
        [w - 0.5, h - 0.5, w, h],
        [-50, -50, -10, -10],  # outside
        [w + 5, h + 5, w + 9, h + 9],
        [w, h, 0, 0],  # corners swapped
        [np.nan, 0, np.inf, -np.inf],
        [-1e30, -1e30, 1e30, 1e30],
    ]
    image = grey(w, h)
    drawn = draw_detections(image, detections(boxes, size, labels=[0, 1, 2, 3, 0, 1, 2, 99999, 0]))
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 120).all(), "the original must stay as it was"
    assert (drawn != 120).any()


def test_nothing_found_gives_the_same_picture():
    image = grey(30, 20)
    drawn = draw_detections(image, detections([], (30, 20)))
    assert np.array_equal(drawn, image) and drawn is not image


def test_a_box_lies_on_its_pixels_in_the_colour_of_its_class():
    drawn = draw_detections(grey(300, 200), detections([[50, 60, 150, 160]], (300, 200), labels=[1]))
    color = np.array(class_color(1))
    assert (drawn[159, 50:150] == color).all() and (drawn[60:160, 50] == color).all()
    assert (drawn[60:160, 149] == color).all()
    assert (drawn[165:] == 120).all() and (drawn[100:120, 60:140] == 120).all()


@pytest.mark.parametrize("box", [[0, 0, 80, 60], [240, 0, 300, 60], [0, 150, 60, 200], [250, 150, 300, 200]])
def test_a_label_is_whole_at_every_border(box):
    drawn = draw_detections(grey(300, 200), detections([box], (300, 200)))
    letters = np.array(text_color(class_color(0)))
    rows = (drawn != 120).any(2).sum(1) >= 40  # the label's background is much wider than the lines of the box
    assert rows.sum() >= 12
    near = np.abs(drawn.astype(int) - letters).sum(2) < 150  # letters are smoothed
    assert near.sum() > 10


def test_labels_do_not_cover_each_other():
    boxes = [[100, 100, 200, 200]] * 4
    drawn = draw_detections(grey(400, 300), detections(boxes, (400, 300), labels=[0, 1, 2, 3]))
    for label in range(4):
        assert (drawn == np.array(class_color(label))).all(2).sum() > 130, "every label has its own place"


def test_line_and_letters_grow_with_the_picture():
    def share(width, height):
        box = [width * 0.3, height * 0.3, width * 0.7, height * 0.7]
        drawn = draw_detections(grey(width, height), detections([box], (width, height)))
        return (drawn != 120).any(2).mean()

    assert share(2560, 1920) == pytest.approx(share(640, 480), rel=0.4)


def test_a_crowd_is_drawn_in_reasonable_time():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 600, (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (300, 2))], 1)
    draw_detections(grey(640, 640), detections(boxes, (640, 640), labels=np.arange(300) % 80))


def test_colours_are_stable_and_apart():
    colors = [class_color(label) for label in range(20)]
    assert colors == [class_color(label) for label in range(20)]
    gaps = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colors) for b in colors[:i]]
    assert min(gaps) > 25
    assert text_color((255, 255, 255)) == (0, 0, 0) and text_color((0, 0, 80)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["ü血球🩸", "", "a\nb\tc", "x" * 500, "\udce9"])
def test_any_class_name_can_be_drawn(name):
    draw_detections(grey(300, 200), detections([[50, 60, 150, 160]], (300, 200), names=(name,)))


def test_a_text_without_a_font_loses_its_accents_only():
    font, text = font_for("plain", 12)
    assert text == "plain" and font is font_for("other", 12)[0]
    assert font_for("caf\u00e9 \U000f0000", 12)[1] == "cafe ?"  # a character of private use: no font has it
