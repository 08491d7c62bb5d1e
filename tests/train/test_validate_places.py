"""The options of the old validation script say the same as options of the data section."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.training.validation.places import Places


def options(places: Places, *, split: str = "val", given: tuple[str, ...] = (), typed: tuple[str, ...] = ()) -> dict:
    found = places.as_data_options(split, given=given, typed=typed)
    return dict(option.removeprefix("--data.").split("=", 1) for option in found)


@pytest.fixture
def coco(synthetic_data: Path, tmp_path: Path) -> Path:
    """The synthetic data under COCO's own names."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    shutil.copy(synthetic_data / "annotations/instances_val.json", root / "annotations/instances_val2017.json")
    shutil.copytree(synthetic_data / "images/val", root / "val2017")
    return root


def test_nothing_given_is_nothing_said() -> None:
    assert options(Places()) == options(Places(data_format="auto")) == {}
    assert options(Places(data_format="yolo")) == {"format": "yolo"}


def test_the_root_of_coco_and_what_wins_over_it(coco: Path, synthetic_data: Path) -> None:
    whole = options(Places(coco_root=str(coco)))
    assert whole == {
        "root": str(coco), "format": "coco",
        "val_ann": str(coco / "annotations/instances_val2017.json"), "val_images": str(coco / "val2017"),
    }  # fmt: skip
    other = synthetic_data / "annotations/instances_train.json"
    assert options(Places(coco_root=str(coco), ann_file=str(other))) == whole | {"val_ann": str(other)}
    with pytest.raises(UsageError, match=r"there is no annotations/instances_test2017.json in it; give --ann-file"):
        options(Places(coco_root=str(coco)), split="test")


def test_paths_are_relative_to_the_working_folder(
    coco: Path, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = options(Places(ann_file="coco/annotations/instances_val2017.json", images_dir="coco/val2017"))
    assert found["val_ann"] == str(coco / "annotations/instances_val2017.json")
    assert (found["format"], found["root"]) == ("coco", str(coco / "val2017"))
    # A root that a file gives stays, and so does the layout where nothing says another.
    found = options(Places(images_dir="coco/val2017"), given=("root", "format"))
    assert found == {"val_images": str(coco / "val2017")}


@pytest.mark.parametrize("layout", ["images/val", "val/images"])
def test_the_folder_that_names_the_classes_is_found(synthetic_data: Path, tmp_path: Path, layout: str) -> None:
    images, labels = tmp_path / layout, tmp_path / layout.replace("images", "labels")
    shutil.copytree(synthetic_data / "images/val", images)
    shutil.copytree(synthetic_data / "labels/val", labels)
    (tmp_path / "classes.json").write_text('["circle", "square", "triangle", "star"]')
    for places in (Places(images_dir=str(images)), Places(images_dir=str(images), labels_dir=str(labels))):
        found = options(places)
        assert (found["root"], found["format"]) == (str(tmp_path), "yolo")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ann_file": "{json}", "labels_dir": "{labels}"}, "--ann-file is for COCO, --labels-dir for YOLO labels"),
        ({"coco_root": "{root}", "labels_dir": "{labels}"}, "--coco-root is for COCO, --labels-dir for YOLO labels"),
        ({"labels_dir": "{labels}", "data_format": "coco"}, "--labels-dir is for yolo data, but --data-format is coco"),
        ({"ann_file": "{json}", "data_format": "yolo"}, "--ann-file is for coco data, but --data-format is yolo"),
        ({"labels_dir": "{labels}"}, "--labels-dir alone does not say where the pictures are: add --images-dir"),
        ({"ann_file": "{json}"}, "--ann-file alone does not say where the pictures are: add --images-dir"),
        ({"images_dir": "{root}/annotations"}, "add --labels-dir (YOLO) or --ann-file (COCO)"),
        ({"images_dir": "{root}/none"}, "--images-dir {root}/none does not exist or is not a folder"),
        ({"labels_dir": "{json}"}, "--labels-dir {json} does not exist or is not a folder"),
        ({"ann_file": "{root}"}, "--ann-file {root} does not exist or is not a file"),
        ({"coco_root": "{root}"}, "--coco-root {root}: there is no annotations/instances_val2017.json in it"),
    ],
)
def test_what_cannot_be_meant(synthetic_data: Path, given: dict[str, str], words: str) -> None:
    paths = {
        "root": synthetic_data,
        "json": synthetic_data / "annotations/instances_val.json",
        "labels": synthetic_data / "labels/val",
    }
    with pytest.raises(UsageError) as caught:
        options(Places(**{key: value.format(**paths) for key, value in given.items()}))
    assert words.format(**paths) in str(caught.value)


def test_an_option_and_its_other_name_are_not_given_together(synthetic_data: Path) -> None:
    with pytest.raises(UsageError, match=r"--images-dir and --data.val_images say the same: give one of them"):
        options(Places(images_dir=str(synthetic_data)), typed=("val_images",))
    with pytest.raises(UsageError, match=r"--data-format and --data.format say the same"):
        options(Places(data_format="yolo"), typed=("format",))


def measured(folder: Path) -> dict:
    return json.loads((folder / "best_metrics.json").read_text())


def test_the_script_of_old_from_the_command_line(
    small_checkpoint: Path, synthetic_data: Path, coco: Path, tmp_path: Path
) -> None:
    """Every way to name the same pictures gives the same numbers."""
    fixed = ["validate", "--model", str(small_checkpoint), "--workers=0", "--no-plots", "--num-classes=4"]
    fixed += ["--conf-threshold=0.002", "--iou-threshold=0.65"]
    annotations, images = coco / "annotations/instances_val2017.json", str(coco / "val2017")
    ways = {
        "root": ["--coco-root", str(coco)],
        "files": ["--ann-file", str(annotations), "--images-dir", images, "--data-format=auto"],
        "data": ["--data.root", str(synthetic_data)],
    }
    for name, way in ways.items():
        assert main([*fixed, *way, "-o", str(tmp_path / name)]) == 0
    found = {name: measured(tmp_path / name) for name in ways}
    assert found["root"]["protocol"]["confidence"] == 0.002 and found["root"]["protocol"]["iou"] == 0.65
    assert found["root"]["images"] == 8
    assert found["root"]["stats"] == found["files"]["stats"] == found["data"]["stats"]


def test_yolo_folders_that_name_no_classes_get_those_of_the_model(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(synthetic_data / "images/val", tmp_path / "pictures")
    shutil.copytree(synthetic_data / "labels/val", tmp_path / "texts")
    where = ["--images-dir", str(tmp_path / "pictures"), "--labels-dir", str(tmp_path / "texts")]
    fixed = ["validate", "-c", str(small_checkpoint), "--workers=0", "--no-plots", "-o", str(tmp_path / "out")]
    assert main([*fixed, *where, "--data-format=yolo", "--num-images=4"]) == 0
    found = measured(tmp_path / "out")
    assert list(found["per_class"]) == ["circle", "square", "triangle", "star"]
    assert (found["images"], found["data"]["format"]) == (4, "yolo")
    assert main([*fixed, *where, "--num-classes=5"]) == 2
    assert "--num-classes 5: " in capsys.readouterr().err
