"""Every case of the hostile corpus: training and ``yolo data check`` come to the decision that its table allows."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from yolo.core.errors import YoloError
from yolo.core.images import ImageWarning
from yolo.data.check import DatasetReport, check_dataset
from yolo.data.check.compare import warn_about_splits
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.loader import build_loader

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[3] / "shared"))
INDEX = SHARED / "datasets/hostile/index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text("utf-8"))["cases"] if INDEX.is_file() else []
HEAVY = ("images/large_12000x9000_1bit.png", "images/png_header_lies_8000x8000.png")
#: Conversions that the corpus calls a repair (16 bits become 8, a tiny picture stays) are done without a word.
QUIET = {"accept": "repair", "repair": "accept"}


def parameters(*groups: str) -> list[Any]:
    return [
        pytest.param(case, id=case["path"][:60], marks=pytest.mark.slow if case["path"] in HEAVY else ())
        for case in CASES
        if case["group"] in groups
    ]


def test_every_group_is_tested() -> None:
    assert {case["group"] for case in CASES} <= {"images", "names", "labels", "yolo", "coco", "yaml"}


def by_training(config: DataConfig, caplog: pytest.LogCaptureFixture) -> tuple[str, str, int]:
    """Outcome of reading everything as a run does, what was said, and the number of boxes."""
    caplog.clear()
    said = []
    with caplog.at_level(logging.WARNING, "yolo.data"), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            table = load_labels(config, "train")
            warn_about_splits({"train": table}, config.root)
            loader = build_loader(config, table, training=False)
            boxes = sum(len(sample.targets) for sample in map(loader.dataset.__getitem__, range(len(table))))
        except YoloError as error:
            assert "\n" not in str(error) and len(str(error)) < 800
            return "refuse", str(error), 0
    said = [record.getMessage() for record in caplog.records]
    said += [str(warning.message) for warning in heard if warning.category is ImageWarning]
    return ("repair" if said else "accept"), " ".join(said), boxes


def by_check(report: DatasetReport) -> str:
    kinds = {finding.kind for finding in report.findings if finding.severity == "warning"}
    unusual = any(finding.kind == "unusual-image" for finding in report.findings)
    if report.counts["error"]:
        return "refuse"
    return "repair" if unusual or kinds - {"duplicate-image"} else "accept"


def agree(case: dict[str, Any], config: DataConfig, caplog: pytest.LogCaptureFixture) -> DatasetReport:
    outcome, text, boxes = by_training(config, caplog)
    allowed = {"accept" if word == "ignore" else word for word in case["expect"]}
    quiet = case["group"] == "images" and QUIET.get(outcome) in allowed
    assert outcome in allowed or quiet, (case, outcome, text)
    report = check_dataset(config, ["train"])
    seen = by_check(report)
    assert seen == outcome, (case, outcome, text, report.findings)
    assert report.exit_code == (outcome == "refuse")
    if outcome == "refuse" and "line" in case:
        lines = [finding.line for finding in report.findings if finding.severity == "error"]
        assert case["line"] in lines, (case, report.findings)
    if outcome != "refuse" and "boxes" in case and case["group"] == "coco":
        assert boxes == case["boxes"] == report.splits["train"].boxes
    return report


def yolo_folder(root: Path) -> DataConfig:
    """A data set of one good picture with one box."""
    for name in ("images", "labels"):
        (root / name).mkdir()
    (root / "data.yaml").write_text("names: [RBC, WBC, Platelets]\ntrain: images\n")
    Image.effect_noise((64, 48), 50).convert("RGB").save(root / "images/other.png")
    (root / "labels/other.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    return DataConfig(root=str(root), format="yolo", image_size=64, num_workers=0)


@pytest.mark.parametrize("case", parameters("images"))
def test_images(case: dict[str, Any], datasets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = yolo_folder(tmp_path)
    source = datasets / "hostile" / case["path"]
    if source.is_dir():
        (tmp_path / "images" / source.name).mkdir()
    else:
        shutil.copy(source, tmp_path / "images")
        (tmp_path / f"labels/{source.stem}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    report = agree(case | {"boxes": None}, config, caplog) if "ignore" not in case["expect"] else None
    if report is None:  # not an image by its name: the label file has none
        report = check_dataset(config, ["train"])
        assert not report.exit_code
        assert report.splits["train"].images in (1, 2)
        return
    about = [finding for finding in report.findings if finding.severity == "error"]
    assert all(finding.file.endswith(source.name) for finding in about)
    if report.exit_code:
        assert report.splits["train"].images == 1  # the rest of the data set is still examined


@pytest.mark.parametrize("case", parameters("names"))
def test_names(case: dict[str, Any], datasets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = yolo_folder(tmp_path)
    name = case["path"].removeprefix("images/names/")
    shutil.copy(datasets / "hostile/images/control.jpg", tmp_path / "images" / name)
    shutil.copy(datasets / "hostile/labels/control.txt", tmp_path / "labels" / f"{name.rpartition('.')[0]}.txt")
    report = agree(case, config, caplog)
    assert report.splits["train"].boxes == case["boxes"] + 1
    json.dumps(report.as_dict()).encode()


@pytest.mark.parametrize("case", parameters("labels", "yolo"))
def test_labels(case: dict[str, Any], datasets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = yolo_folder(tmp_path)
    label = datasets / "hostile" / case["path"]
    images = sorted(path for path in (datasets / "hostile/yolo/images").iterdir() if path.stem == label.stem)
    for image in images or [datasets / "hostile/good/images/a.jpg"]:
        shutil.copy(image, tmp_path / "images")
    if label.is_dir():
        shutil.copytree(label, tmp_path / "labels" / label.name)
    elif label.exists():
        shutil.copy(label, tmp_path / "labels")
    if case["expect"][0] == "ignore":
        report = check_dataset(config, ["train"])
        assert [finding.kind for finding in report.findings if finding.file.endswith(label.name)] == ["orphan-label"]
        return
    report = agree(case, config, caplog)
    if not report.exit_code and "boxes" in case:
        assert report.splits["train"].boxes == case["boxes"] * max(len(images), 1) + 1
    if report.exit_code:
        assert any(Path(finding.file).name == label.name for finding in report.findings)


@pytest.mark.parametrize("case", parameters("coco"))
def test_coco(case: dict[str, Any], datasets: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = datasets / "hostile"
    config = DataConfig(
        root=str(root), train_images=case["image_root"], train_ann=case["path"], image_size=64, num_workers=0
    )
    report = agree(case, config, caplog)
    wanted = re.search(r"naming (?:file and )?(annotation|image|category) id (\d)", case["do"])
    if report.exit_code and wanted:
        named = [f for f in report.findings if re.search(rf"\b{wanted[1]} (id )?{wanted[2]}\b", f.message)]
        assert named and all(finding.line for finding in named), report.findings


@pytest.mark.parametrize("case", parameters("yaml"))
def test_data_yaml(
    case: dict[str, Any], datasets: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = datasets / "hostile" / case["path"]
    config = DataConfig(root=str(path), format="yolo", image_size=64, num_workers=0)
    report = agree(case, config, caplog)
    assert "UNSAFE_YAML_EXECUTED" not in capfd.readouterr().out
    if not report.exit_code:
        assert len(report.splits["train"].classes) == 3
