"""The main job from the installed command on real pictures: fit, validate, predict, resume, in both layouts."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

YOLO = Path(sys.executable).with_name("yolo")
COUNT = 8


@pytest.fixture(scope="module")
def pictures(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of blood cells as a small data set of their own, labelled in both layouts."""
    source, root = datasets / "bccd", tmp_path_factory.mktemp("bccd8")
    coco = json.loads((source / "annotations" / "instances_train.json").read_text())
    chosen = coco["images"][:COUNT]
    ids = {image["id"] for image in chosen}
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for image in chosen:
        name = image["file_name"]
        shutil.copy(source / "images" / "train" / name, root / "images" / name)
        label = Path(name).with_suffix(".txt").name
        shutil.copy(source / "labels" / "train" / label, root / "labels" / label)
    small = {
        **coco, "images": chosen, "annotations": [a for a in coco["annotations"] if a["image_id"] in ids]
    }  # fmt: skip
    (root / "instances.json").write_text(json.dumps(small))
    (root / "split.txt").write_text("".join(f"{image['file_name']}\n" for image in chosen))
    (root / "classes.json").write_text((source / "classes.json").read_text())
    return root


LAYOUTS = {
    "coco": ["--data.train_images=images", "--data.val_images=images",
             "--data.train_ann=instances.json", "--data.val_ann=instances.json"],
    "yolo": ["--data.train_images=images", "--data.val_images=images", "--data.train_labels=labels",
             "--data.val_labels=labels", "--data.train_split=split.txt", "--data.val_split=split.txt"],
}  # fmt: skip


def yolo(folder: Path, *args: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [YOLO, *map(str, args)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fit_validate_predict_resume(layout: str, pictures: Path, tmp_path: Path) -> None:
    own_config = tmp_path / "config.yaml"
    own_config.write_text("a file of the user\n")
    data = [f"--data.root={pictures}", f"--data.format={layout}", *LAYOUTS[layout], "--data.image_size=160"]
    options = [*data, "--model.model_config=v9-t", "--data.batch_size=4", "--data.num_workers=0",
               "--data.close_mosaic_epochs=1", "--trainer.accelerator=cpu"]  # fmt: skip
    said = yolo(tmp_path, "fit", *options, "--trainer.max_epochs=2")
    run = tmp_path / "runs" / "yolo" / "version_0"
    for name in (
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "results.csv",
        "curves.png",
        "predictions.jpg",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("events.out.tfevents.*"))
    assert own_config.read_text() == "a file of the user\n"
    assert "yolo predict --checkpoint" in said
    assert "box" in said and "dfl" in said and "lr" in said

    said = yolo(tmp_path, "validate", "--checkpoint", run / "checkpoints/best.ckpt", *data, "--output", "results")
    assert "NMS IoU 0.6" in said and "160x160" in said
    results = json.loads((tmp_path / "results" / "best_metrics.json").read_text())
    assert results["images"] == COUNT
    assert list(results["per_class"]) == ["RBC", "WBC", "Platelets"]
    found = json.loads((tmp_path / "results" / "best_detections.json").read_text())
    assert {record["category_id"] for record in found} <= {0, 1, 2, 3}
    assert all(record["bbox"][0] + record["bbox"][2] <= 640.01 for record in found)

    picture = sorted((pictures / "images").iterdir())[0]
    yolo(tmp_path, "predict", "--checkpoint", run / "checkpoints/best.ckpt", "--source", picture, "--conf", "0.0001",
         "--output", "drawn", "--save-json")  # fmt: skip
    record = json.loads((tmp_path / "drawn" / "predictions.json").read_text())[0]
    assert (record["width"], record["height"]) == (640, 480)
    assert all(item["name"] in ("RBC", "WBC", "Platelets") for item in record["detections"])
    assert list((tmp_path / "drawn").rglob("*.jpg"))

    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    yolo(tmp_path, "fit", *options, "--trainer.max_epochs=3", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    after = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (before["epoch"], after["epoch"]) == (1, 2)
    assert (before["global_step"], after["global_step"]) == (4, 6)
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert not (tmp_path / "runs" / "yolo" / "version_1").exists()
