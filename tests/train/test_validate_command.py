"""``yolo validate``: where each setting comes from, and what is written."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.core.models import build_model
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


def measure(checkpoint: Path) -> list[str]:
    return ["-c", str(checkpoint), "--workers=0", "--no-plots"]


def numbers(folder: Path) -> dict:
    (path,) = folder.glob("*_metrics.json")
    return json.loads(path.read_text())


def test_a_checkpoint_alone_is_enough_and_the_training_saw_the_same_number(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EMA weights, protocol and images are those of the validation in training."""
    checkpoint = trained_run / "checkpoints" / "last.ckpt"
    args = ["--checkpoint", str(checkpoint), "--iou", "0.65", "--output", str(tmp_path), "--workers=0", "--no-plots"]
    assert validate(args) == 0
    results = numbers(tmp_path)
    row = (trained_run / "results.csv").read_text().splitlines()[-1].split(",")
    header = (trained_run / "results.csv").read_text().splitlines()[0].split(",")
    logged = dict(zip(header, row, strict=True))
    assert results["stats"]["AP"] == pytest.approx(float(logged["mAP"]), abs=1e-5)
    assert results["stats"]["AR100"] == pytest.approx(float(logged["AR@100"]), abs=1e-5)
    protocol = {"confidence": 0.001, "iou": 0.65, "max_detections": 300, "size": [96, 96], "weights": "ema"}
    assert results["protocol"] == results["protocol"] | protocol
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith(("AP  ", "AR  "))]
    assert len(lines) == 12 and sum("IoU 0.50:0.95" in line for line in lines) == 10
    assert "conf 0.001, NMS IoU 0.65, max 300, 96x96, ema weights" in said


def test_the_size_comes_from_the_option_then_the_command_line_then_the_checkpoint(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    common = [*measure(small_checkpoint), "-o", str(tmp_path)]
    config = tmp_path / "c.yaml"
    config.write_text("model: {image_size: [96, 64]}\n")
    with_config = [*common, "--config", str(config), "--num-images=1"]
    validate([*with_config, "--size", "64", "--data.image_size=128"])
    assert numbers(tmp_path)["protocol"]["size"] == [64, 64]
    validate([*with_config, "--size", "64x96"])
    assert numbers(tmp_path)["protocol"]["size"] == [64, 96]
    validate([*with_config, "--data.image_size=128"])
    assert numbers(tmp_path)["protocol"]["size"] == [128, 128]
    validate(with_config)
    assert numbers(tmp_path)["protocol"]["size"] == [96, 64]
    validate([*common, "--num-images=1"])
    assert numbers(tmp_path)["protocol"]["size"] == [96, 96]
    other = ["--data.root", str(synthetic_data), "--data.format=yolo"]  # data that the checkpoint was not trained on
    validate([*common, "--num-images=1", *other])
    assert numbers(tmp_path)["protocol"]["size"] == [96, 96]
    with pytest.raises(UsageError, match=r"^--size 100: .* use 96 or 128$"):
        validate([*common, "--size=100"])


def test_plain_weights_are_measured_at_640(synthetic_data: Path, tmp_path: Path) -> None:
    torch.save(build_model("v9-t", 4).state_dict(), tmp_path / "plain.pt")
    data = ["--data.root", str(synthetic_data), "--num-images=1", "--workers=0", "--no-plots"]
    assert validate(["-c", str(tmp_path / "plain.pt"), "-o", str(tmp_path), *data]) == 0
    assert numbers(tmp_path)["protocol"]["size"] == [640, 640]


def test_the_official_protocol_and_the_defaults(small_checkpoint: Path, tmp_path: Path) -> None:
    common = [*measure(small_checkpoint), "-o", str(tmp_path)]
    validate([*common, "--protocol", "official"])
    assert (numbers(tmp_path)["protocol"]["confidence"], numbers(tmp_path)["protocol"]["iou"]) == (0.001, 0.7)
    validate(common)
    assert (numbers(tmp_path)["protocol"]["confidence"], numbers(tmp_path)["protocol"]["iou"]) == (0.001, 0.6)
    with pytest.raises(UsageError, match="official"):
        validate([*common, "--protocol", "mine"])


def test_the_yolo_layout_gives_the_same_numbers(small_checkpoint: Path, synthetic_data: Path, tmp_path: Path) -> None:
    common = [*measure(small_checkpoint), "--size=96"]
    validate([*common, "-o", str(tmp_path / "coco"), "--data.root", str(synthetic_data)])
    validate([*common, "-o", str(tmp_path / "yolo"), "--data.root", str(synthetic_data), "--data.format", "yolo"])
    coco, yolo = numbers(tmp_path / "coco"), numbers(tmp_path / "yolo")
    assert coco["stats"] == pytest.approx(yolo["stats"], abs=1e-4)
    assert coco["stats"]["AR100"] > 0


def test_another_number_of_classes_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    from yolo.data.synthetic import ensure_synthetic

    root = ensure_synthetic(tmp_path / "data", train=1, val=1, image_size=64)
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"].append({"id": 99, "name": "more"})
        path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"4 classes, but the data has 5 \(circle, "):
        validate(["-c", str(small_checkpoint), "--data.root", str(root), "--no-json"])


def test_test_measures_the_test_split(small_checkpoint: Path, synthetic_data: Path, tmp_path: Path) -> None:
    options = ["--data.root", str(synthetic_data), "--data.test_images=images/val",
               "--data.test_ann=annotations/instances_val.json"]  # fmt: skip
    common = [*measure(small_checkpoint), "-o", str(tmp_path)]
    assert run_test([*common, *options]) == 0
    assert numbers(tmp_path)["images"] == 8


def test_batch_size_and_workers_of_the_data_section_count(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    from yolo.data import loader

    original = loader.build_loader

    def spy(config, *args, **kwargs):
        seen.append((config.batch_size, config.num_workers))
        return original(config, *args, **kwargs)

    monkeypatch.setattr(loader, "build_loader", spy)
    common = ["-c", str(small_checkpoint), "--no-json", "--no-plots"]
    validate([*common, "--data.batch_size=3", "--data.num_workers=0"])
    validate([*common, "--data.batch_size=3", "--batch-size=2", "--workers=0"])
    assert seen == [(3, 0), (2, 0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-imag=2"], "--num-imag is no option. Did you mean '--num-images' or '--num-classes'?"),
        (["--num-images=2.5"], "--num-images is 2.5: it has to be a whole number or null"),
        (["--data-format=voc"], "--data-format is voc: it has to be one of 'auto', 'coco', 'yolo' or null"),
        (["--conf=1.5"], "--conf is 1.5: it has to be from 0 to 1"),
        (["--iou=-0.1"], "--iou is -0.1: it has to be from 0 to 1"),
        (["--conf-prod=2"], "--conf-prod is 2: it has to be from 0 to 1"),
        (["--num-images=0"], "--num-images is 0: it has to be 1 or more"),
        (["--max-det=0"], "--max-det is 0: it has to be 1 or more"),
        (["--batch-size=0"], "--batch-size is 0: it has to be 1 or more"),
        (["--workers=-1"], "--workers is -1: it has to be 0 or more"),
        (["--benchmark", "--benchmark-runs=0"], "--benchmark-runs is 0: it has to be 1 or more"),
        (["--benchmark-runs=5"], "--benchmark-runs does nothing without --benchmark"),
        (["--save-plots", "--no-plots"], "--save-plots and --no-plots say the opposite: give one of them"),
        (["--save-json", "--no-json"], "--save-json and --no-json say the opposite: give one of them"),
        (["--device=gpu9"], "unknown device 'gpu9'; use auto, cpu, cuda, cuda:<number> or mps"),
        ([], "--checkpoint {here}/none.ckpt does not exist"),
        (["-c", "{here}"], "--checkpoint {here} is the folder of a run: give {here}/checkpoints/best.ckpt"),
        (["-c", "{here}/checkpoints/best.ckpt", "--num-classes=7"],
         "--num-classes 7: {here}/checkpoints/best.ckpt has 4 (circle, square, triangle, star)"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_line(
    small_checkpoint: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option.format(here=small_checkpoint.parents[1]) for option in options]
    if "exist" in words or "-c" not in options:
        name = "none.ckpt" if not options else "checkpoints/best.ckpt"
        options += ["-c", str(small_checkpoint.parents[1] / name)]
    assert main(["validate", *options, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"Error: {words.format(here=small_checkpoint.parents[1])}\n"
    assert not (tmp_path / "out").exists()


def test_some_images_are_evenly_spread_and_said(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validate([*measure(small_checkpoint), "--num-images=3", "-o", str(tmp_path)])
    found = numbers(tmp_path)
    assert (found["images"], found["split_images"]) == (3, 8)
    assert found["subset"] == "3 of 8 val images (evenly spread)"
    assert "on 3 of 8 val images (evenly spread) of " in capsys.readouterr().out
    truth = json.loads((tmp_path / "best_truth.json").read_text())
    assert [Path(image["file_name"]).stem[-1] for image in truth["images"]] == ["0", "2", "5"]
    detected = {record["image_id"] for record in json.loads((tmp_path / "best_detections.json").read_text())}
    assert detected <= {image["id"] for image in truth["images"]}
    validate([*measure(small_checkpoint), "--num-images=500", "-o", str(tmp_path)])
    assert numbers(tmp_path)["subset"] == "8 val images"


def test_a_subset_of_the_images_has_the_detections_of_the_whole(small_checkpoint: Path, tmp_path: Path) -> None:
    """The batches count through the chosen images, the evaluation through those of the split."""
    one = [*measure(small_checkpoint), "--batch-size=1"]  # a batch of another size may differ in the last bit
    validate([*one, "-o", str(tmp_path / "all")])
    validate([*one, "--num-images=3", "-o", str(tmp_path / "some")])
    whole, some = (json.loads((tmp_path / f / "best_detections.json").read_text()) for f in ("all", "some"))
    chosen = {record["image_id"] for record in some}
    assert len(chosen) == 3
    assert some == [record for record in whole if record["image_id"] in chosen]


def test_precision_below_the_confidence_of_the_evaluation_is_told(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [*measure(small_checkpoint), "--no-json", "--num-images=1", "-o", str(tmp_path)]
    validate([*common, "--conf=0.5"])
    told = "--conf 0.5 is above --conf-prod 0.25: precision, recall and F1 are those at 0.5\n"
    assert told in capsys.readouterr().err
    validate([*common, "--conf=0.25"])
    assert "--conf-prod" not in capsys.readouterr().err


def test_classes_in_another_order_are_refused_and_other_names_told(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(synthetic_data, data)
    names = ["square", "circle", "triangle", "star"]
    (data / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    common = [*measure(small_checkpoint), "--data.format=yolo", "--data.root", str(data), "-o", str(tmp_path / "out")]
    with pytest.raises(UsageError, match=r"class 0 is 'circle' in .* and 'square' in the data: .*another order"):
        validate(common)
    names[:2] = ["circle", "box"]
    (data / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    with caplog.at_level(logging.WARNING, "yolo"):
        assert validate(common) == 0
    assert "class 1 is 'square'" in caplog.text and "'box' in the data" in caplog.text


def test_caches_are_not_built_anew_because_a_training_was_told_to(small_checkpoint: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("data: {cache_refresh: true, root: here}\n")
    assert not resolve_data([str(config)], [], {}).cache_refresh
    assert not resolve_data([], [], {"root": "here", "cache_refresh": True}).cache_refresh
    assert resolve_data([str(config)], ["--data.cache_refresh=true"], {}).cache_refresh


def test_a_cache_that_is_there_is_read_whatever_the_config_says(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are taken away; a cache that was to be built anew would need them."""
    from yolo.data.cache import loader

    data = tmp_path / "data"
    shutil.copytree(synthetic_data, data)
    cache = ["--data.root", str(data), "--data.cache_images=disk", "--data.image_size=96"]
    assert main(["cache-create", "--data.root", str(data), "--size", "96"]) == 0
    config = tmp_path / "run.yaml"
    config.write_text("data: {cache_refresh: true}\n")
    reads: list[str] = []
    original = loader.CachedImageLoader.read

    def spy(self, path, **options):
        reads.append(path)
        return original(self, path, **options)

    monkeypatch.setattr(loader.CachedImageLoader, "read", spy)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert validate([*measure(small_checkpoint), *cache, "--config", str(config), "-o", str(tmp_path / "out")]) == 0
    assert len(reads) == 8
    after = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {
        path for path in after if "lock" in path.name
    }


@pytest.mark.parametrize("command", [["validate", "-c", "none.ckpt"], ["fit"], ["fit", "--dry-run"]])
@pytest.mark.parametrize("form", [["--data={}"], ["--data", "{}"]])
def test_a_file_that_describes_data_is_no_settings(
    tmp_path: Path, command: list[str], form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n")
    assert main([*command, *(word.format(file) for word in form)]) == 2
    error = capsys.readouterr().err
    assert f"--data {file}: this file describes a data set" in error and "--data.root=" in error
