"""Training on encrypted images leaves nothing decrypted, and no key, on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from yolo.cli.main import main

KEY = "00112233445566778899aabbccddeeff" * 2


@pytest.fixture
def encrypted(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small data set with its images encrypted in place of the plain ones."""
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", KEY)
    data = tmp_path / "secret"
    shutil.copytree(tiny_data, data)
    for split in ("train", "val"):
        plain = data / "images" / split
        assert main(["data", "encrypt", str(plain), "--output", str(data / "new" / split)]) == 0
        shutil.rmtree(plain)
    (data / "images").rmdir()
    (data / "new").rename(data / "images")
    monkeypatch.delenv("YOLO_ENCRYPTION_KEY")
    return data


@pytest.mark.parametrize("place", ["encryption_key", "init_args"])
def test_no_key_and_no_picture_is_left_in_the_run(
    encrypted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, object] = {"image_loader": "encrypted", "encryption_key": KEY}
    if place == "init_args":
        loader = {"class_path": "yolo.data.encrypted_loader.EncryptedImageLoader", "init_args": {"key": KEY}}
        settings = {"image_loader": loader}
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump({"data": settings}))
    options = [f"--data.root={encrypted}", "--data.format=yolo", "--data.image_size=64", "--data.batch_size=4"]
    options += ["--data.num_workers=0", "--model.model_config=v9-t", "--trainer.max_epochs=1"]
    assert main(["fit", "--config", "secret.yaml", *options, "--trainer.accelerator=cpu"]) == 0
    run = tmp_path / "runs/yolo/version_0"
    assert (run / "checkpoints/last.ckpt").is_file() and (run / "config.yaml").is_file()
    for file in run.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert not (run / "predictions.jpg").exists()
    said = capsys.readouterr()
    assert KEY not in said.out + said.err and "encrypted" in said.out


def test_a_key_in_the_wrong_place_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump({"data": {"encryption_key": [KEY]}}))
    assert main(["fit", "--config", "secret.yaml"]) == 2
    said = capsys.readouterr()
    assert "encryption_key" in said.err and KEY not in said.out + said.err
