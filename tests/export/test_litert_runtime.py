"""Files of a few nodes, made without TensorFlow, run by LiteRT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="needs yolo-export[litert]")

import tiny_tflite as tiny
from tiny_tflite import METADATA
from yolo.core.boxes.convert import xyxy_to_cxcywh
from yolo.core.decode import decode
from yolo.core.exported import open_exported
from yolo.core.outputs import BranchOutput
from yolo.core.preprocessing import PREPROCESSING
from yolo.export.backends.base import ExportError
from yolo.export.backends.tflite import _describe, append_metadata
from yolo.export.runtimes.delegation import count_delegated, read_plan
from yolo.export.runtimes.distributions import decode_distributions
from yolo.export.runtimes.litert import LiteRtRuntime


@pytest.fixture
def images() -> np.ndarray:
    """Two pictures whose numbers are steps of 1/16, from -4 to 4: whole numbers in the files of integers."""
    generator = np.random.default_rng(3)
    return (generator.integers(-64, 65, (2, 3, 32, 32)) / 16).astype(np.float32)


def _flat(images: np.ndarray, start: int, shape: list[int]) -> np.ndarray:
    rows = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    return rows[:, start : start + int(np.prod(shape))].reshape(len(images), *shape)


@pytest.mark.parametrize("integers", [False, True])
def test_every_picture_goes_through_as_nhwc(tmp_path, images, integers):
    runtime = LiteRtRuntime(tiny.write_decoded(tmp_path / "a.tflite", integers=integers), threads=1)
    found = runtime.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, _flat(images, 0, [6, 21]))
    assert runtime.image_size == (32, 32)
    assert runtime.class_names == ("0", "1")
    assert runtime.dynamic_batch is False


def test_numbers_beyond_the_range_of_integers_stop_at_its_end(tmp_path):
    runtime = LiteRtRuntime(tiny.write_decoded(tmp_path / "a.tflite", integers=True), threads=1)
    for value, end in ((100.0, 127), (-100.0, -128)):
        found = runtime.predict(np.full((1, 3, 32, 32), value, np.float32))
        np.testing.assert_array_equal(np.unique(found), [(end - tiny.ZERO) * tiny.SCALE])


@pytest.mark.parametrize("swapped", [False, True], ids=["in order", "swapped"])
@pytest.mark.parametrize("integers", [False, True])
def test_distributions_are_found_by_name_and_decoded(tmp_path, images, integers, swapped):
    path = tiny.write_raw(tmp_path / "raw.tflite", integers=integers, swapped=swapped)
    append_metadata(path, _describe(METADATA, integers=True, bins=16))
    found = LiteRtRuntime(path, threads=1).predict(images)
    logits, scores = _flat(images, 0, [64, 21]), _flat(images, 64 * 21, [2, 21])
    np.testing.assert_array_equal(found[:, 4:], scores)
    np.testing.assert_allclose(found, _reference(logits, scores, (32, 32)), atol=1e-4, rtol=0)


def test_decoding_is_the_decoding_of_the_network():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (2, 64, 24 + 6 + 2)).astype(np.float32)[:, :, :30]
    scores = generator.random((2, 5, 30)).astype(np.float32)
    found = decode_distributions(logits, scores, image_size=(48, 32), strides=(8, 16))
    np.testing.assert_allclose(found, _reference(logits, scores, (48, 32), strides=(8, 16)), atol=1e-4, rtol=0)


def _reference(logits, scores, size, strides=(8, 16, 32)):
    """What yolo-core makes of the same numbers."""
    shapes = [(size[1] // stride, size[0] // stride) for stride in strides]
    ends = np.cumsum([height * width for height, width in shapes])[:-1]

    def maps(rows: np.ndarray) -> tuple[torch.Tensor, ...]:
        parts = np.split(rows, ends, axis=2)
        return tuple(
            torch.from_numpy(part.reshape(*part.shape[:2], *shape).copy())
            for part, shape in zip(parts, shapes, strict=True)
        )

    decoded = decode(BranchOutput(cls=maps(scores), dist=maps(logits), strides=tuple(strides)))
    boxes = xyxy_to_cxcywh(decoded.boxes).transpose(1, 2).numpy()
    return np.concatenate([boxes, scores], axis=1)


def test_metadata_is_in_the_file_and_does_not_disturb_it(tmp_path, images):
    path = tiny.write_decoded(tmp_path / "a.tflite")
    before = LiteRtRuntime(path, threads=1).predict(images)
    append_metadata(path, _describe(METADATA, integers=False, bins=0))
    runtime = LiteRtRuntime(path, threads=1)
    np.testing.assert_array_equal(runtime.predict(images), before)
    assert runtime.class_names == ("cat", "Hündin")
    assert runtime.metadata["checkpoint_sha256"] == "0" * 64
    assert runtime.metadata["preprocessing"] == {**PREPROCESSING, "layout": "NHWC"}


def test_equal_exports_are_equal_files(tmp_path):
    paths = [tiny.write_decoded(tmp_path / f"{name}.tflite") for name in "ab"]
    for path in paths:
        append_metadata(path, METADATA)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_tensors_are_described(tmp_path):
    path = tiny.write_raw(tmp_path / "raw.tflite", integers=True, swapped=True)
    append_metadata(path, _describe(METADATA, integers=True, bins=16))
    told = LiteRtRuntime(path, threads=1).describe()
    step = {"dtype": "int8", "scale": tiny.SCALE, "zero_point": tiny.ZERO}
    assert told["input"] == {"name": "images", "shape": [1, 32, 32, 3], "layout": "NHWC", **step}
    assert told["output"] == {
        "form": "distributions",
        "bins": 16,
        "logits": {"name": "logits", "shape": [1, 64, 21], **step},
        "scores": {"name": "scores", "shape": [1, 2, 21], **step},
    }


def test_the_rest_of_the_software_opens_it_by_its_suffix(tmp_path, images):
    path = tiny.write_decoded(tmp_path / "a.TFLITE")
    append_metadata(path, METADATA)
    file = open_exported(path)
    assert file is not None and file.format == "tflite"
    assert file.class_names == ("cat", "Hündin") and file.names_known
    assert file.threads and file.parameters == 0
    pictures = np.zeros((3, 3, 32, 32), np.uint8)
    assert file(pictures).scores.shape == (3, 21, 2)


def test_a_file_that_wants_other_pictures_is_refused(tmp_path):
    path = tiny.write_decoded(tmp_path / "a.tflite")
    append_metadata(path, replace(METADATA, preprocessing={**PREPROCESSING, "color": "BGR"}))
    with pytest.raises(Exception, match="color 'BGR'"):
        open_exported(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["does not exist"]),
        (lambda path: path.write_bytes(b"PK no model"), ["cannot be loaded by LiteRT"]),
        (lambda path: tiny.write_raw(path), ["no detector", "logits [1, 64, 21]"]),
        (lambda path: _damaged(path), ["description at its end is damaged"]),
    ],
    ids=["missing", "no model", "raw without a description", "damaged description"],
)
def test_unusable_files_are_told_in_a_line(tmp_path, make, words):
    path = tmp_path / "a.tflite"
    make(path)
    with pytest.raises(ExportError) as raised:
        LiteRtRuntime(path)
    message = str(raised.value)
    assert "a.tflite" in message and "\n" not in message
    assert [word for word in words if word not in message] == []


def _damaged(path):
    import zipfile

    tiny.write_decoded(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", "{")


def test_pictures_of_another_size_are_refused(tmp_path):
    runtime = LiteRtRuntime(tiny.write_decoded(tmp_path / "a.tflite"))
    with pytest.raises(ExportError, match=r"takes images \[batch, 3, 32, 32\], not \[1, 3, 32, 64\]"):
        runtime.predict(np.zeros((1, 3, 32, 64), np.float32))


def _node(name, inputs, outputs):
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


def test_nodes_outside_the_delegate_are_counted():
    nodes = [
        _node("CONV_2D", [0, 10], [1]),
        _node("LOGISTIC", [1], [2]),
        _node("RESIZE_NEAREST_NEIGHBOR", [2], [3]),
        _node("MUL", [3, 1], [4]),
    ]
    partitions = [_node("DELEGATE", [0, 10], [1, 2]), _node("DELEGATE", [3, 1], [4])]
    plan = read_plan(nodes + partitions)
    assert (plan.nodes, plan.partitions, plan.left) == (4, 2, ("RESIZE_NEAREST_NEIGHBOR",))
    assert read_plan([*nodes, _node("DELEGATE", [0, 10], [4])]).left == ()
    assert len(read_plan(nodes).left) == 4


def test_a_real_plan_is_read(tmp_path):
    plan = count_delegated(tiny.write_decoded(tmp_path / "a.tflite"))
    assert plan.nodes == 3
