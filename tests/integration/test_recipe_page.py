"""The recipe for BCCD: its script converts the original labels as they should be, and its settings train."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from yolo.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recipe-bccd.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def clone(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the original repository, in the working folder."""
    root = tmp_path / "BCCD_Dataset" / "BCCD"
    (root / "JPEGImages").mkdir(parents=True)
    for name in ("Annotations", "ImageSets"):
        (root / name).symlink_to(datasets / "bccd" / "voc" / name)
    for picture in (datasets / "bccd" / "images").glob("*/*.jpg"):
        (root / "JPEGImages" / picture.name).symlink_to(picture)
    monkeypatch.chdir(tmp_path)
    return root


def test_the_page_can_be_followed(clone: Path, datasets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "convert.py", "exec"), {})
    for split in ("train", "val", "test"):
        made = json.loads((clone / f"{split}.json").read_text())
        known = json.loads((datasets / "bccd" / "annotations" / f"instances_{split}.json").read_text())
        assert {image["id"]: image["file_name"] for image in made["images"]} == {
            image["id"]: image["file_name"] for image in known["images"]
        }
        assert boxes(made) == boxes(known)
    Path("bccd.yaml").write_text(block("yaml"))
    small = ["--data.image_size=64", "--data.num_workers=0", "--trainer.accelerator=cpu"]
    assert main(["fit", "--config", "bccd.yaml", "--dry-run", *small]) == 0
    said = capsys.readouterr()
    assert "205 training images" in said.out + said.err


def boxes(content: dict) -> list[tuple[int, str, tuple[float, ...]]]:
    names = {category["id"]: category["name"] for category in content["categories"]}
    return sorted(
        (item["image_id"], names[item["category_id"]], tuple(item["bbox"])) for item in content["annotations"]
    )
