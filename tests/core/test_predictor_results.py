"""The value that prediction returns, the names of classes, and what importing costs."""

from __future__ import annotations

import dataclasses
import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo.core.class_names import read_class_names
from yolo.core.errors import UsageError, YoloError
from yolo.core.results import Detections


@pytest.fixture
def found():
    return Detections(
        boxes=np.array([[1.234, 2, 30, 40.5], [5, 6, 7, 8], [0, 0, 9, 9]], np.float32),
        scores=np.array([0.9, 0.8, 0.123456], np.float32),
        labels=np.array([1, 0, 1]),
        names=("cat", "dög"),
        size=(100, 50),
        path=Path("a b.jpg"),
    )


def test_it_reads_well(found):
    assert repr(found) == "Detections('a b.jpg', 100x50: 2 dög, 1 cat)"
    assert len(found) == 3 and found.summary() == "2 dög, 1 cat"
    assert repr(dataclasses.replace(found.select(found.scores > 1), path=None)) == "Detections(100x50: nothing found)"


def test_it_is_frozen(found):
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.scores = np.zeros(0)


def test_json_is_plain_and_complete(found):
    data = json.loads(found.to_json())
    assert data == {"image": "a b.jpg", "frame": None, "width": 100, "height": 50, "detections": found.to_records()}
    assert data["detections"][0] == {"label": 1, "name": "dög", "score": 0.9, "box": [1.23, 2.0, 30.0, 40.5]}
    assert data["detections"][2]["score"] == 0.12346
    assert found.to_json().isascii()


def test_a_class_without_a_name_is_called_by_its_number(found):
    assert dataclasses.replace(found, names=("cat",)).summary() == "2 1, 1 cat"


def test_selecting_keeps_the_rest(found):
    best = found.select(found.labels == 1)
    assert best.labels.tolist() == [1, 1] and best.names == found.names and best.size == found.size
    assert best.path == found.path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '["cat", "dog"]'),
        ("mapping.json", '{"1": "dog", "0": "cat"}'),
        ("classes.json", '{"names": ["cat", "dog"], "index_to_coco_id": [1, 2]}'),
        ("bom.json", '\ufeff["cat", "dog"]'),
        ("coco.json", '{"categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}], "images": []}'),
        ("data.yaml", "names: {0: cat, 1: dog}\ntrain: x"),
        ("names.txt", "cat\ndog\n"),
    ],
)
def test_class_names_in_every_usual_form(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / name) == ("cat", "dog")


def test_class_names_of_a_data_yaml_are_those_of_training(tmp_path):
    """Words that YAML takes for booleans or numbers stay as they are written."""
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [no, on, 1.10]\n")
    assert read_class_names(tmp_path / "data.yaml") == ("no", "on", "1.10")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("b.json", "{}"),
        ("c.json", '{"0": "cat", "2": "dog"}'),
        ("d.json", '[["cat"]]'),
        ("e.json", "7"),
        ("f.yaml", "a: ["),
        ("g.json", '{"categories": [{"name": "cat"}]}'),
        ("h.txt", ""),
    ],
)
def test_bad_files_of_class_names_are_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        read_class_names(tmp_path / name)
    with pytest.raises(UsageError, match="does not exist"):
        read_class_names(tmp_path / "missing.json")


def test_real_class_files_are_read(datasets):
    for name in ("classes.json", "data.yaml", "annotations/instances_val.json"):
        assert read_class_names(datasets / "bccd" / name) == ("RBC", "WBC", "Platelets")


def test_light_modules_import_no_torch():
    code = (
        "import sys, yolo.core, yolo.core.images, yolo.core.results, yolo.core.drawing, yolo.core.sources, "
        "yolo.core.class_names, yolo.core.image_size; from yolo.core import Detections; "
        "assert 'torch' not in sys.modules; assert set(yolo.core.__all__) <= set(dir(yolo.core)); "
        "from yolo.core import Predictor, load_model; assert 'torch' in sys.modules\n"
        "try: yolo.core.nonsense\nexcept AttributeError as e: assert 'nonsense' in str(e)\nelse: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["yolo.core.predictor", "yolo.core.weights.load", "yolo.core.image_size"])
def test_the_examples_in_the_documentation_run(name):
    __import__(name)
    result = doctest.testmod(sys.modules[name])
    assert result.attempted and not result.failed


def test_coco_results_have_corners_and_sides(found):
    records = found.to_coco(17, category_ids=(3, 90))
    assert [record["category_id"] for record in records] == [90, 3, 90]
    assert records[0] == {"image_id": 17, "category_id": 90, "bbox": [1.234, 2.0, 28.766, 38.5], "score": 0.9}
    assert [record["category_id"] for record in found.to_coco("a b.jpg")] == [1, 0, 1]


def test_a_result_draws_itself_on_its_picture_only(found):
    image = np.zeros((50, 100, 3), np.uint8)
    drawn = found.plot(image)
    assert drawn.shape == image.shape and drawn.any() and not image.any()
    with pytest.raises(YoloError, match="100x50"):
        found.plot(image[:40])
    with pytest.raises(YoloError, match="plot"):
        dataclasses.replace(found, path=None).plot()


def test_a_result_of_a_file_reads_it_again(found, tmp_path):
    Image.fromarray(np.full((50, 100, 3), 9, np.uint8)).save(tmp_path / "a.png")
    drawn = dataclasses.replace(found, path=tmp_path / "a.png").plot()
    assert (drawn == 9).all(axis=2).any() and not (drawn == 9).all()


def test_supervision_gets_boxes_scores_classes_and_names(found):
    import supervision

    given = found.to_supervision()
    assert isinstance(given, supervision.Detections) and len(given) == 3
    assert np.array_equal(given.xyxy, found.boxes) and np.array_equal(given.confidence, found.scores)
    assert given.class_id.tolist() == [1, 0, 1] and given["class_name"].tolist() == ["dög", "cat", "dög"]


def test_without_supervision_there_is_one_line(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(YoloError, match=r"pip install 'yolo-core\[supervision\]'"):
        found.to_supervision()


def test_frames_carry_their_number(found):
    frame = dataclasses.replace(found, path=Path("clip.mp4"), source="clip.mp4", frame=7)
    assert repr(frame) == "Detections('clip.mp4', frame 7, 100x50: 2 dög, 1 cat)"
    assert frame.select(frame.scores > 0.5).frame == 7 and frame.to_dict()["frame"] == 7
