"""``yolo validate``: where each setting comes from, and what is written."""

import json
from pathlib import Path

import pytest

from yolo.core.errors import UsageError
from yolo.training.commands.options import data_options, resolve_data
from yolo.training.commands.validate import test as run_test
from yolo.training.commands.validate import validate


def test_the_command_line_wins_over_files_and_files_over_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {root: file, batch_size: 3, bbox_mosaic: {jitter: 0.1, degrees: 5}}")
    configs, stored = [str(path)], {"root": "stored", "hsv_h": 0.5, "format": "yolo", "data_fraction": 0.5, "old": 1}
    config = resolve_data(configs, ["--data.root", "line", "--data.bbox_mosaic.degrees=9"], stored)
    assert (config.root, config.batch_size, config.format) == ("line", 3, "coco")
    assert (config.bbox_mosaic.degrees, config.bbox_mosaic.jitter) == (9, 0.1)
    assert resolve_data(configs, [], stored).root == "file"
    alone = resolve_data([], [], stored | {"bbox_mosaic": {"prob": 0.5, "degrees": 5.0}})
    assert (alone.format, alone.data_fraction, alone.bbox_mosaic.prob) == ("yolo", 1.0, 0.5)
    kept = resolve_data([], ["--data.bbox_mosaic.degrees=9"], stored | {"bbox_mosaic": {"prob": 0.5, "degrees": 5.0}})
    assert (kept.root, kept.bbox_mosaic.prob, kept.bbox_mosaic.degrees) == ("stored", 0.5, 9)


def test_the_image_size_of_a_later_source_wins_over_the_other_section(tmp_path: Path) -> None:
    stored, path = {"root": "stored", "image_size": [96, 96]}, tmp_path / "run.yaml"
    path.write_text("model: {image_size: [320, 256]}")
    assert resolve_data([str(path)], [], stored).size == (320, 256)
    assert resolve_data([str(path)], ["--data.image_size=64"], stored).size == (64, 64)
    path.write_text("{model: {image_size: 320}, data: {image_size: 640}}")
    with pytest.raises(UsageError, match="give it once"):
        resolve_data([str(path)], [], stored)


def test_options_of_the_data_keep_their_values() -> None:
    args = ["-c", "x.pt", "--data.root", "here", "--size", "64", "--data.scale=0.1", "--data", "d.yaml", "--data.seed"]
    assert data_options(args) == ["--data.root", "here", "--data.scale=0.1", "--data", "d.yaml", "--data.seed"]


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "not a YAML file"), ("- 1", "sections"), ("data: {rot: x}", "rot")]
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        resolve_data([str(path)], [], {})


def numbers(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_checkpoint_alone_is_enough_and_the_training_saw_the_same_number(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EMA weights, protocol and images are those of the validation in training."""
    checkpoint = trained_run / "checkpoints" / "last.ckpt"
    args = ["--checkpoint", str(checkpoint), "--iou", "0.65", "--output", str(tmp_path), "--workers", "0"]
    assert validate(args) == 0
    results = numbers(tmp_path)
    row = (trained_run / "results.csv").read_text().splitlines()[-1].split(",")
    header = (trained_run / "results.csv").read_text().splitlines()[0].split(",")
    logged = dict(zip(header, row, strict=True))
    assert results["stats"]["AP"] == pytest.approx(float(logged["mAP"]), abs=1e-5)
    assert results["stats"]["AR100"] == pytest.approx(float(logged["AR@100"]), abs=1e-5)
    assert results["protocol"] == {
        "confidence": 0.001, "iou": 0.65, "max_detections": 300, "size": [96, 96], "weights": "ema"
    }  # fmt: skip
    said = capsys.readouterr().out
    assert said.count("IoU 0.50:0.95") == 10
    assert "conf 0.001, NMS IoU 0.65, max 300, 96x96, ema weights" in said


def test_the_size_comes_from_the_option_then_the_command_line_then_the_checkpoint(
    trained_run: Path, tmp_path: Path
) -> None:
    checkpoint = str(trained_run / "checkpoints" / "best.ckpt")
    common = ["-c", checkpoint, "--workers=0", "-o", str(tmp_path)]
    validate([*common, "--size", "64", "--data.image_size=128"])
    assert numbers(tmp_path)["protocol"]["size"] == [64, 64]
    validate([*common, "--data.image_size=128"])
    assert numbers(tmp_path)["protocol"]["size"] == [128, 128]
    config = tmp_path / "c.yaml"
    config.write_text("model: {image_size: [96, 64]}\n")
    validate([*common, "--config", str(config)])
    assert numbers(tmp_path)["protocol"]["size"] == [96, 64]


def test_the_official_protocol_and_the_defaults(trained_run: Path, tmp_path: Path) -> None:
    common = ["-c", str(trained_run / "checkpoints" / "best.ckpt"), "--workers=0", "-o", str(tmp_path)]
    validate([*common, "--protocol", "official"])
    assert (numbers(tmp_path)["protocol"]["confidence"], numbers(tmp_path)["protocol"]["iou"]) == (0.001, 0.7)
    validate(common)
    assert (numbers(tmp_path)["protocol"]["confidence"], numbers(tmp_path)["protocol"]["iou"]) == (0.001, 0.6)
    with pytest.raises(UsageError, match="official"):
        validate([*common, "--protocol", "mine"])


def test_the_yolo_layout_gives_the_same_numbers(trained_run: Path, synthetic_data: Path, tmp_path: Path) -> None:
    common = ["-c", str(trained_run / "checkpoints" / "best.ckpt"), "--workers=0", "--size=96"]
    validate([*common, "-o", str(tmp_path / "coco"), "--data.root", str(synthetic_data)])
    validate([*common, "-o", str(tmp_path / "yolo"), "--data.root", str(synthetic_data), "--data.format", "yolo"])
    coco, yolo = numbers(tmp_path / "coco"), numbers(tmp_path / "yolo")
    assert coco["stats"] == pytest.approx(yolo["stats"], abs=1e-4)
    assert coco["stats"]["AR100"] > 0


def test_another_number_of_classes_is_refused(trained_run: Path, tmp_path: Path) -> None:
    from yolo.data.synthetic import ensure_synthetic

    root = ensure_synthetic(tmp_path / "data", train=1, val=1, image_size=64)
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"].append({"id": 99, "name": "more"})
        path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"4 classes, but the data has 5"):
        validate(["-c", str(trained_run / "checkpoints" / "best.ckpt"), "--data.root", str(root), "--no-json"])


def test_test_measures_the_test_split(trained_run: Path, synthetic_data: Path, tmp_path: Path) -> None:
    options = ["--data.root", str(synthetic_data), "--data.test_images=images/val",
               "--data.test_ann=annotations/instances_val.json"]  # fmt: skip
    common = ["-c", str(trained_run / "checkpoints" / "best.ckpt"), "--workers=0", "-o", str(tmp_path)]
    assert run_test([*common, *options]) == 0
    assert numbers(tmp_path)["images"] == 8


def test_batch_size_and_workers_of_the_data_section_count(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    from yolo.data import loader

    original = loader.build_loader

    def spy(config, *args, **kwargs):
        seen.append((config.batch_size, config.num_workers))
        return original(config, *args, **kwargs)

    monkeypatch.setattr(loader, "build_loader", spy)
    common = ["-c", str(trained_run / "checkpoints" / "best.ckpt"), "--no-json"]
    validate([*common, "--data.batch_size=3", "--data.num_workers=0"])
    validate([*common, "--data.batch_size=3", "--batch-size=2", "--workers=0"])
    assert seen == [(3, 0), (2, 0)]
