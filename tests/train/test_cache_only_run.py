"""Secure remote training: the cache travels, images and labels stay at home."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from yolo.cli.main import main
from yolo.data.cache.head import read_head

KEY = "00112233445566778899aabbccddeeff" * 2
TRAINING = ["--data.batch_size=4", "--data.num_workers=0", "--data.seed=1", "--seed_everything=1"]
TRAINING += ["--data.image_size=64", "--model.model_config=v9-t", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
TRAINING += ["--data.scaled_decode=false"]


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/yolo/version_0/results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("dataset_format", ["coco", "yolo"])
def test_the_workflow_from_the_command_line(
    synthetic_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset_format: str,
) -> None:
    """With raw pictures of the original size the figures are those of a training on the files."""
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", KEY)
    home, remote = tmp_path / "home", tmp_path / "remote"
    shutil.copytree(synthetic_data, home / "data")
    remote.mkdir()
    data = [f"--data.format={dataset_format}"]
    monkeypatch.chdir(home)
    assert main(["fit", "--data.root=data", *data, *TRAINING]) == 0

    cache = ["--encrypt", "--no-resize", "--cache-format", "raw"]
    assert main(["cache-create", "--data.root=data", *data, *cache]) == 0
    folder = "data/.yolo_cache_orig_f1.0"
    assert main(["cache-export", "--cache-dir", folder, "--output", str(remote / "cache.tar.gz")]) == 0
    shutil.move(home / "data", tmp_path / "gone")

    monkeypatch.chdir(remote)
    assert main(["cache-import", "--archive", "cache.tar.gz", "--output", "dataset"]) == 0
    assert [path.name for path in Path("dataset").iterdir()] == [".yolo_cache_orig_f1.0"]
    options = ["--data.cache_images=disk", "--data.cache_only=true", "--data.cache_encrypt=true"]
    options += ["--data.cache_resize_images=false", "--data.cache_format=raw"]
    capsys.readouterr()
    assert main(["fit", "--data.root=dataset", *data, *TRAINING, *options]) == 0
    here, there = results(home), results(remote)
    assert here == there and float(here[0]["train/loss" if "train/loss" in here[0] else "loss"]) > 0
    run = remote / "runs/yolo/version_0"
    assert not (run / "predictions.jpg").exists(), "nothing decrypted reaches the disk"
    checkpoint = str(run / "checkpoints/last.ckpt")
    capsys.readouterr()
    assert main(["validate", "--checkpoint", checkpoint, "--output", "measured"]) == 0
    assert "8 val images of dataset" in capsys.readouterr().out.replace(str(remote) + "/", "")
    for file in [*run.rglob("*"), *Path("dataset").rglob("*")]:
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    monkeypatch.delenv("YOLO_ENCRYPTION_KEY")
    assert main(["fit", "--data.root=dataset", *data, *TRAINING, *options]) == 2
    assert "set YOLO_ENCRYPTION_KEY" in capsys.readouterr().err


def test_fit_builds_the_cache_and_uses_it_again(
    synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(synthetic_data, tmp_path / "data")
    options = ["--data.root=data", *TRAINING, "--data.cache_images=ram"]
    assert main(["fit", *options]) == 0
    made = read_head(tmp_path / "data/.yolo_cache_64x64_f1.0")
    assert main(["fit", *options]) == 0
    assert made is not None and read_head(tmp_path / "data/.yolo_cache_64x64_f1.0") == made, "a new one has a new id"
    assert (tmp_path / "runs/yolo/version_0/predictions.jpg").is_file()
    first, second = (tmp_path / f"runs/yolo/version_{n}/results.csv" for n in (0, 1))
    assert first.read_text() == second.read_text()
