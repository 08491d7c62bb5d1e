"""Prediction: boxes in pixels of the original picture, whatever its shape and however it is given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from yolo.core import Detections, Predictor
from yolo.core.engine import NetworkEngine
from yolo.core.errors import UsageError, YoloError
from yolo.core.images import ImageError
from yolo.core.models.build import build_model
from yolo.core.models.spec import parse_spec
from yolo.core.outputs import BranchOutput, HeadOutput
from yolo.core.weights.bundle import ModelBundle

STRIDE = 8
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
NAMES = ("red", "green")


class ColourFinder(nn.Module):
    """Stands in for a network: a cell of 8 pixels that is mostly red is class 0, mostly green class 1."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images):
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        cells = nn.functional.avg_pool2d(images, STRIDE)
        red, green, blue = cells.unbind(1)
        cls = torch.stack([red - green - blue, green - red - blue], 1) * 40 - 12
        dist = torch.full((len(images), 4, 16, *cells.shape[2:]), -100.0)
        dist[:, :, :2] = 0.0  # half a stride to every side: the box is the cell
        return HeadOutput(BranchOutput((cls,), (dist.flatten(1, 2),), (STRIDE,)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model(parse_spec(POCKET), 2)


@pytest.fixture
def find(network):
    """A predictor that finds colours; canvas 320 x 192 (width, height)."""

    def make(**options):
        predictor = Predictor(network, **{"class_names": NAMES, "image_size": (320, 192), "device": "cpu", **options})
        predictor._engine._network = ColourFinder(network.spec)
        return predictor

    return make


def scene(width, height, boxes):
    image = np.full((height, width, 3), 40, np.uint8)
    for label, (x1, y1, x2, y2) in boxes:
        image[y1:y2, x1:x2] = (255, 0, 0) if label == 0 else (0, 255, 0)
    return image


def outline(found: Detections, label: int) -> list[float]:
    boxes = found.boxes[found.labels == label]
    return [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]


SHAPES = [(640, 480), (320, 192), (200, 600), (900, 120), (77, 154), (1000, 999)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
@pytest.mark.parametrize("canvas", [(320, 192), (192, 320), (256, 256)])
def test_boxes_come_back_in_original_pixels(find, width, height, canvas):
    truth = {
        0: (width // 8, height // 8, width // 2, height // 2),
        1: (width * 5 // 8, height * 5 // 8, width, height),  # touches the border
    }
    found = find(image_size=canvas)(scene(width, height, truth.items()))[0]
    assert found.size == (width, height) and found.boxes.dtype == np.float32 and found.labels.dtype == np.int64
    tolerance = STRIDE / min(canvas[0] / width, canvas[1] / height) + 1
    for label, box in truth.items():
        assert outline(found, label) == pytest.approx(box, abs=tolerance)
    assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_pictures_are_predicted_upright(find, tmp_path, orientation):
    upright = scene(400, 200, [(0, (40, 20, 120, 90)), (1, (300, 120, 380, 190))])
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the orientation that turns an upright picture into a stored one
    exif = Image.Exif()
    stored = Image.fromarray(upright)
    if orientation in undo:
        exif[0x0112] = undo[orientation]
        stored.getexif()[0x0112] = undo[orientation]
        stored = ImageOps.exif_transpose(stored)
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    expected, found = find()(upright)[0], find()(tmp_path / "turned.png")[0]
    assert found.size == (400, 200)
    assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.labels, expected.labels)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(find()(opened)[0].boxes, expected.boxes)


def test_every_kind_of_source_gives_the_same(find, tmp_path):
    image = scene(160, 90, [(0, (20, 20, 60, 60))])
    (tmp_path / "deep/er").mkdir(parents=True)
    for name in ("b.PNG", "a.png", "deep/er/c.bmp"):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    predict = find()
    found = predict(tmp_path)
    assert [result.path.relative_to(tmp_path).as_posix() for result in found] == ["a.png", "b.PNG", "deep/er/c.bmp"]
    single = predict(str(tmp_path / "a.png"))
    mixed = predict([tmp_path / "a.png", image, Image.fromarray(image), tmp_path / "deep"])
    assert [result.path is None for result in mixed] == [False, True, True, False]
    generated = predict(item for item in (image, image))
    results = [*found, *single, *mixed, *generated]
    assert len(results) == 3 + 1 + 4 + 2
    assert all(np.array_equal(result.boxes, found[0].boxes) and len(result) for result in results)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_do_not_change_results(find, batch_size):
    images = [scene(w, h, [(0, (0, 0, w // 2, h // 2))]) for w, h in SHAPES[:5]]
    together = find(batch_size=batch_size)(images)
    alone = [find()(image)[0] for image in images]
    assert [r.size for r in together] == SHAPES[:5]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


def test_an_endless_source_streams(find):
    image = scene(64, 64, [(1, (8, 8, 40, 40))])
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield image

    stream = find(batch_size=2).predict_iter(endless())
    assert read == 0, "nothing is read before the first result is wanted"
    assert len(list(itertools.islice(stream, 5))) == 5
    assert read == 6


def test_unreadable_pictures_raise_or_are_reported(find, tmp_path):
    Image.fromarray(scene(40, 40, [])).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        find()(tmp_path)
    errors: list[YoloError] = []
    found = list(find().predict_iter(tmp_path, on_error=errors.append))
    assert [result.path.name for result in found] == ["good.png"]
    assert len(errors) == 1 and "bad.jpg" in str(errors[0])


def test_confidence_and_count_are_limits(find):
    image = scene(320, 192, [(0, (0, 0, 160, 192))])
    assert len(find()(image)[0]) > 20
    assert len(find(max_detections=4)(image)[0]) == 4
    scores = find(confidence=0.9)(image)[0].scores
    assert (scores > 0.9).all() and (np.diff(scores) <= 0).all()
    assert len(find(confidence=1.0)(image)[0]) == 0


def test_the_real_network_predicts_and_is_not_changed(network, datasets):
    state = {key: value.clone() for key, value in network.state_dict().items()}
    predictor = Predictor(network, image_size=(96, 64), confidence=0.0, max_detections=7)
    pictures = sorted((datasets / "bccd/images/val").iterdir())[:2]
    found = predictor(pictures)
    assert network.training and all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert [len(result) for result in found] == [7, 7]
    assert all((result.boxes[:, 2:] > result.boxes[:, :2]).all() for result in found)
    assert found[0].names == ("0", "1") and found[0].path == pictures[0]
    assert repr(predictor) == "Predictor('pocket', 2 classes, 96x64, cpu)"


@pytest.mark.parametrize("batch", [1, 2])
def test_the_network_sees_that_its_input_is_channels_last(network, batch):
    """Convolutions go by the strides; that of the batch counts, and says nothing where an axis was put in front."""
    seen = []
    engine = NetworkEngine(network, image_size=(96, 64), device="cpu")
    engine._network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride()))
    canvas = np.zeros((64, 96, 3), np.uint8)
    engine(canvas[None] if batch == 1 else np.stack([canvas] * batch))
    assert seen == [(64 * 96 * 3, 1, 96 * 3, 3)]


def test_the_checkpoint_decides_size_and_names_unless_told_otherwise(network):
    bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), NAMES, (128, 96))
    assert (Predictor(bundle).image_size, Predictor(bundle).class_names) == ((128, 96), NAMES)
    assert Predictor(bundle, image_size=64).image_size == (64, 64)
    assert Predictor(bundle, image_size="96x64").image_size == (96, 64)
    assert Predictor(bundle, class_names=["a", "b"]).class_names == ("a", "b")
    assert Predictor(network).image_size == (640, 640)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 500}, "500 is not a multiple of 32.*use 480 or 512"),
        ({"image_size": 8}, "use 32"),
        ({"image_size": 0}, "positive"),
        ({"image_size": (320, 320, 3)}, "width, height"),
        ({"image_size": "wide"}, "'wide'"),
        ({"confidence": 1.5}, "confidence must lie between 0 and 1"),
        ({"iou": float("nan")}, "iou must lie"),
        ({"max_detections": 0}, "max_detections"),
        ({"batch_size": -1}, "batch_size"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "not available"),
        ({"class_names": "ab"}, "must be a list of names"),
        ({"class_names": ["one"]}, "1 class names were given, but the network has 2 classes"),
    ],
)
def test_wrong_options_are_usage_errors(network, options, words):
    with pytest.raises(UsageError, match=words):
        Predictor(network, **options)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), 7],
)
def test_arrays_that_are_no_pictures_are_refused(find, bad):
    with pytest.raises(UsageError):
        find()(bad)


def test_a_folder_without_images_is_an_error(find, tmp_path):
    with pytest.raises(YoloError, match=r"no images in the folder.*\.jpg"):
        find()(tmp_path)


def test_the_smallest_and_the_longest_pictures_work(find):
    for width, height in [(1, 1), (1, 4000), (4000, 1), (2, 3)]:
        found = find(confidence=0.0)(np.zeros((height, width, 3), np.uint8))[0]
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all(), "a box on the grey border alone is no detection"
        assert (found.boxes <= [width, height, width, height]).all()


def test_plain_weights_of_a_custom_network_need_its_file(tmp_path):
    text = """
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - AConv: {args: {out_channels: 8}}
  - AConv: {args: {out_channels: 16}, tags: P3}
detection:
  - MultiheadDetection: {source: [P3]}
"""
    file = tmp_path / "pocket.yaml"
    file.write_text(text)
    torch.save(build_model(file, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(YoloError, match="cannot be recognised"):
        Predictor(tmp_path / "w.pt")
    assert Predictor(tmp_path / "w.pt", architecture=file, image_size=64).class_names == ("0", "1")
