"""The parity gate: what it lets through, what it stops, and what is left on the disk then."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from yolo.core.weights.load import load_model
from yolo.export import export_model
from yolo.export.backends.base import ExportError
from yolo.export.manifest import sha256
from yolo.export.samples import draw_samples
from yolo.export.verify import TIGHT, ParityError, Tolerances, check_parity, predict_reference, tolerances_for


def _scale(part):
    def change(model):
        tensor = next(entry for entry in model.graph.initializer if part in entry.name)
        values = numpy_helper.to_array(tensor) * np.float32(1.02)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def _swap_classes(model):
    node = next(node for node in reversed(model.graph.node) if node.op_type == "Sigmoid")
    order = numpy_helper.from_array(np.array([1, 0, 2]), "order")
    model.graph.initializer.append(order)
    result = node.output[0]
    index = list(model.graph.node).index(node)
    node.output[0] = "before"
    model.graph.node.insert(index + 1, onnx.helper.make_node("Gather", ["before", "order"], [result], axis=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_scale("network.0.conv.weight"), "boxes differ by"),
        (_scale("heads.1.anchor_conv.2.bias"), "boxes differ by"),
        (_scale("heads.2.class_conv.2.weight"), "scores differ by"),
        (_swap_classes, "scores differ by"),
    ],
)
def test_a_wrong_file_is_not_kept(checkpoint, tmp_path, fake_backend, change, message):
    fake_backend(change)
    with pytest.raises(ParityError, match=message) as caught:
        export_model(checkpoint, output=tmp_path / "wrong.onnx")
    assert "wrong.onnx" in str(caught.value)
    assert "picture" in str(caught.value) or "black" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_a_failure(checkpoint, tmp_path, fake_backend):
    fake_backend()
    earlier = export_model(checkpoint, output=tmp_path / "m.onnx")
    before = {path.name: sha256(path) for path in tmp_path.iterdir()}
    assert before["m.onnx"] == earlier.manifest["file"]["sha256"]
    fake_backend(_scale("heads.0.class_conv.2.bias"))
    with pytest.raises(ParityError):
        export_model(checkpoint, output=tmp_path / "m.onnx")
    assert {path.name: sha256(path) for path in tmp_path.iterdir()} == before


def test_a_backend_that_dies_leaves_nothing(checkpoint, tmp_path, fake_backend):
    def die(model):
        raise KeyboardInterrupt

    fake_backend(die)
    with pytest.raises(KeyboardInterrupt):
        export_model(checkpoint, output=tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_output_is_one_line(checkpoint, tmp_path, fake_backend):
    fake_backend()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot write '.*m\.onnx': "):
        export_model(checkpoint, output=tmp_path / "file/m.onnx")


def test_figures_are_recorded(plain):
    record = json.loads(plain.manifest_path.read_text(encoding="utf-8"))["parity"]
    assert record["passed"] is True
    assert record["tolerances"] == {"boxes": 1e-3, "scores": 1e-5, "unmatched": 0.0, "everywhere": True}
    assert 0 < record["largest"]["boxes"] <= TIGHT.boxes
    assert record["largest"]["scores"] <= TIGHT.scores
    assert record["detections"]["compared"] >= 20 and record["detections"]["off"] == 0
    assert record["pictures"] == "pictures that come with yolo-export"
    assert len({entry["sample"] for entry in record["inputs"]}) == 6


class FakeRuntime:
    """Answers with the reference, changed a little."""

    class_names = ("a",)
    image_size = (96, 64)

    def __init__(self, network, change=lambda output: output, *, dynamic_batch=False):
        self.network, self.change, self.dynamic_batch = network, change, dynamic_batch

    def predict(self, images):
        return self.change(predict_reference(self.network, images))


def _check(network, runtime):
    return check_parity(network, runtime, draw_samples((96, 64)), TIGHT)


def test_the_same_network_passes(network):
    report = _check(network, FakeRuntime(network))
    assert (report.passed, report.boxes, report.scores) == (True, 0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_undefined_numbers_fail(network, value):
    def spoil(output):
        output[0, 0, 5] = value
        return output

    report = _check(network, FakeRuntime(network, spoil))
    assert not report.passed
    with pytest.raises(ParityError, match="boxes differ by inf px"):
        report.require("x")


def test_another_shape_fails(network):
    with pytest.raises(ParityError, match=r"has the shape \[1, 6, 126\], not \[1, 7, 126\]"):
        _check(network, FakeRuntime(network, lambda output: output[:, :6]))


def test_a_file_that_mixes_up_its_batch_fails(network):
    report = _check(network, FakeRuntime(network, lambda output: output[::-1], dynamic_batch=True))
    with pytest.raises(ParityError, match="one of a batch of 6"):
        report.require("x")


def test_a_network_that_is_not_finite_is_named(network, checkpoint):
    broken = load_model(checkpoint)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ParityError, match="the checkpoint itself gives infinite or undefined numbers"):
        _check(broken, FakeRuntime(network))


def test_rounding_is_allowed_where_pytorch_rounds_as_much(network):
    # Against no tolerance at all, float32 may be as far from the checkpoint as the checkpoint is from float64.
    samples = draw_samples((96, 64))[:1]
    exact = predict_reference(load_like_double(network), samples[0].image[None].astype(np.float64))
    tight = Tolerances(boxes=1e-5, scores=1e-7)
    report = check_parity(network, FakeRuntime(network, lambda output: exact.astype(np.float32)), samples, tight)
    (found,) = report.differences
    assert found.all_boxes > tight.boxes
    assert report.passed
    assert found.boxes <= found.allowed.boxes <= found.allowed_anywhere.boxes
    shifted = FakeRuntime(network, lambda output: output + np.float32(1e-2))
    assert not check_parity(network, shifted, samples, tight).passed


def _spoil(anchors, rows, by):
    def change(output):
        changed = output.copy()
        changed[:, rows, anchors] += np.float32(by)
        return changed

    return change


def test_a_prediction_that_is_no_detection_counts_in_an_exact_file(network):
    sample = draw_samples((96, 64))[0]
    expected = predict_reference(network, sample.image[None])[0]
    weakest = int(expected[4:].max(axis=0).argmin())
    wrong = FakeRuntime(network, _spoil(weakest, 0, 0.6))
    report = check_parity(network, wrong, [sample], TIGHT)
    assert (report.off, report.passed) == (0, False)
    with pytest.raises(ParityError, match=r"boxes differ by 0\.6 px on 'picture 200x200'"):
        report.require("x")
    loose = Tolerances(boxes=0.1, scores=0.01, everywhere=False)
    assert check_parity(network, wrong, [sample], loose).passed


def test_detections_count_in_every_file(network):
    sample = draw_samples((96, 64))[0]
    expected = predict_reference(network, sample.image[None])[0]
    label, anchor = np.unravel_index(expected[4:].argmax(), expected[4:].shape)
    loose = Tolerances(boxes=1.0, scores=0.1, unmatched=0.0, everywhere=False)
    near = FakeRuntime(network, _spoil(anchor, 0, 0.9))
    assert check_parity(network, near, [sample], loose).passed
    # The best detection is far off, and is nobody else's either.
    for row, by, name in ((0, 40, "boxes"), (4 + label, -0.95, "scores")):
        report = check_parity(network, FakeRuntime(network, _spoil(anchor, row, by)), [sample], loose)
        assert not report.passed and report.off >= 1
        with pytest.raises(ParityError, match=rf"x does not predict .*: {name} differ .* detections are off"):
            report.require("x")


def test_a_share_of_a_coarse_files_detections_may_be_off(network):
    samples = draw_samples((96, 64))
    expected = predict_reference(network, samples[0].image[None])[0]
    anchor = int(expected[4:].max(axis=0).argmax())
    runtime = FakeRuntime(network, _spoil(anchor, 0, 40))
    strict = Tolerances(boxes=1.0, scores=0.1, everywhere=False)
    report = check_parity(network, runtime, samples, strict)
    share = report.off / report.compared
    assert 0 < share < 0.5 and not report.passed
    lenient = Tolerances(boxes=1.0, scores=0.1, unmatched=share + 0.01, everywhere=False)
    assert check_parity(network, runtime, samples, lenient).passed


def test_a_file_that_detects_nothing_fails_whatever_its_precision(network):
    def silent(output):
        changed = output.copy()
        changed[:, 4:] = 0
        return changed

    for precision in ("float32", "float16", "int8"):
        report = check_parity(
            network, FakeRuntime(network, silent), draw_samples((96, 64)), tolerances_for(network, precision)
        )
        assert not report.passed


def test_what_is_told_about_the_layer_is_in_the_message(network):
    report = _check(network, FakeRuntime(network, lambda output: output + 1))
    with pytest.raises(ParityError, match="; the first layer is this one; the file was not kept"):
        report.require("x", where="the first layer is this one")


def test_the_order_of_equal_scores_is_free(network):
    from yolo.export.matching import detect

    def equal(output):
        changed = output.copy()
        changed[:, 4:] = np.where(changed[:, 4:] > 0.5, 0.75, 0)
        return changed

    def rows(image, step=1):
        found = detect(runtime.predict(image)[0], 0.25)
        return np.column_stack([found.boxes.numpy(), found.scores.numpy(), found.labels.numpy()])[::step]

    runtime = FakeRuntime(network, equal)
    runtime.has_nms = True
    for step in (1, -1):
        runtime.detect = lambda image, step=step: rows(image, step)
        check_parity(network, runtime, draw_samples((96, 64)), TIGHT)
    runtime.detect = lambda image: rows(image) + np.float32([0, 0, 0, 0, 0, 1])
    with pytest.raises(ParityError, match="the output 'detections'"):
        check_parity(network, runtime, draw_samples((96, 64)), TIGHT)


def test_a_wrong_second_output_fails(network):
    runtime = FakeRuntime(network)
    runtime.has_nms = True
    runtime.detect = lambda image: np.zeros((1, 6), np.float32)
    with pytest.raises(ParityError, match="the output 'detections' of the file has 1 rows on 'picture 200x200'"):
        _check(network, runtime)


def load_like_double(network):
    import copy

    return copy.deepcopy(network).double()


def test_tolerances_grow_with_the_network(network):
    assert tolerances_for(network) == TIGHT
    with torch.device("meta"):
        from yolo.core.models.build import build_model

        large = build_model("v9-c")
    assert tolerances_for(large).boxes == 2e-2
    half, whole = tolerances_for(large, "float16"), tolerances_for(network, "int8")
    assert TIGHT.boxes < half.boxes < whole.boxes and TIGHT.scores < half.scores < whole.scores


def test_samples_are_the_same_every_time():
    first, second = draw_samples((96, 64)), draw_samples((96, 64))
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))
    assert {sample.image.shape for sample in first} == {(3, 64, 96)}
    assert all(sample.image.min() >= 0 and sample.image.max() <= 1 for sample in first)
    assert np.isclose(first[3].image[:, 0, 0], 114 / 255).all()  # letterboxed: a grey border
