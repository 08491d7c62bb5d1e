"""Every label case of the hostile corpus: loads with the stated boxes, or one clear error that names the place."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from yolo.core.errors import YoloError
from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable

SHARED = Path(os.environ.get("YOLO_SHARED", Path(__file__).parents[3] / "shared"))
INDEX = SHARED / "datasets/hostile/index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text("utf-8"))["cases"] if INDEX.is_file() else []


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=Path(case["path"]).name[:40]) for case in CASES if case["group"] == group]


@pytest.fixture
def hostile(datasets: Path) -> Path:
    return datasets / "hostile"


def outcome(config: DataConfig, caplog: pytest.LogCaptureFixture) -> tuple[str, LabelTable | str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "yolo.data"):
        try:
            table = load_labels(config, "train")
        except YoloError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 800
            message.encode()
            return "refuse", message
    changed = [record for record in caplog.records if "not one box" not in record.getMessage()]
    return ("repair" if changed else "accept"), table


def boxes(table: LabelTable) -> int:
    return sum(len(table.targets(index)) for index in range(len(table)))


@pytest.mark.parametrize("case", cases("labels"))
def test_yolo_labels(case: dict[str, Any], hostile: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    label = hostile / case["path"]
    stem = label.stem
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    shutil.copy(hostile / "yolo/data.yaml", tmp_path)
    images = [path for path in sorted((hostile / "yolo/images").iterdir()) if path.stem == stem]
    for image in images or [hostile / "good/images/a.jpg"]:
        shutil.copy(image, tmp_path / "images")
    if label.is_dir():
        shutil.copytree(label, tmp_path / "labels" / label.name)
    elif label.exists():
        shutil.copy(label, tmp_path / "labels")
    happened, result = outcome(DataConfig(root=str(tmp_path), format="yolo"), caplog)
    if case["expect"][0] == "ignore":
        assert happened == "repair"  # the label file is counted and left out
        assert isinstance(result, LabelTable)
        assert boxes(result) == 0
        return
    first = {"missing.txt": ("repair",), "twin.txt": ("repair",)}.get(label.name, tuple(case["expect"]))
    assert happened in first, result
    if isinstance(result, str):
        assert label.name in result
        if "line" in case:
            assert re.search(rf"\bline {case['line']}\b", result), result
    else:
        assert boxes(result) == case.get("boxes", boxes(result)) * max(len(images), 1)
        if happened == "repair" and "line" in case:
            assert re.search(rf"\bline {case['line']}\b", caplog.text)


@pytest.mark.parametrize("case", cases("coco"))
def test_coco_json(case: dict[str, Any], hostile: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = hostile / case["path"]
    config = DataConfig(
        root=str(hostile), train_images=case["image_root"], train_ann=case["path"], val_images=case["image_root"]
    )
    happened, result = outcome(config, caplog)
    assert happened in case["expect"], result
    if isinstance(result, str):
        assert path.name in result
        wanted = re.search(r"naming (?:file and )?(annotation|image|category) id (\d)", case["do"])
        if wanted:
            assert re.search(rf"\b{wanted[1]} (id )?{wanted[2]}\b", result), result
        if "line and column" in case["do"]:
            assert re.search(r"line \d+ column \d+", result)
    else:
        assert boxes(result) == case.get("boxes", boxes(result))
        assert len(result) == 3


@pytest.mark.parametrize("case", cases("yaml"))
def test_data_yaml(
    case: dict[str, Any], hostile: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = hostile / case["path"]
    happened, result = outcome(DataConfig(root=str(path), format="yolo"), caplog)
    assert "UNSAFE_YAML_EXECUTED" not in capfd.readouterr().out
    allowed = {"accept" if word == "ignore" else word for word in case["expect"]}
    assert happened in allowed, result
    if isinstance(result, str):
        assert path.name in result or ("too_few" in path.name and re.search(r"a\.txt line \d+: class", result))
        if path.name == "tab_indent.yaml":
            assert "line 2" in result
    else:
        assert result.num_classes == 3
        assert boxes(result) == 25


@pytest.mark.parametrize("case", cases("names"))
def test_file_names(case: dict[str, Any], hostile: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = case["path"].removeprefix("images/names/")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: [RBC, WBC, Platelets]\n")
    shutil.copy(hostile / "images/control.jpg", tmp_path / "images" / name)
    label = name.rpartition(".")[0] + ".txt"
    shutil.copy(hostile / "labels/control.txt", tmp_path / "labels" / label)
    happened, table = outcome(DataConfig(root=str(tmp_path), format="yolo"), caplog)
    assert happened == "accept", table
    assert isinstance(table, LabelTable)
    assert boxes(table) == case["boxes"]
    assert Path(table.path(0)).name == name
    (tmp_path / "list.txt").write_text(name + "\n", "utf-8")
    listed = DataConfig(root=str(tmp_path), format="yolo", train_images="images", train_split="list.txt")
    happened, table = outcome(listed, caplog)
    if "\n" in name:
        assert happened == "refuse"
    else:
        assert isinstance(table, LabelTable), table
        assert Path(table.path(0)).name == name
