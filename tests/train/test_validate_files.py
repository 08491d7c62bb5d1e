"""What `yolo validate` leaves in its folder."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from yolo.cli.main import main
from yolo.training.commands.validate import validate


@pytest.fixture
def measure(small_checkpoint: Path, tmp_path: Path):
    def run(*options: str) -> Path:
        folder = tmp_path / "out"
        assert validate(["-c", str(small_checkpoint), "--workers=0", "-o", str(folder), *options]) == 0
        return folder

    return run


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


FILES = {f"best_{name}" for name in ("metrics.json", "detections.json", "truth.json", "per_class.csv")}
PLOTS = {f"best_plots/{name}_curve.png" for name in ("PR", "F1", "P", "R")} | {"best_plots/confusion_matrix.png"}


def test_pycocotools_reads_truth_and_detections_and_gives_the_numbers(measure) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = measure("--num-images=5", "--no-plots")
    metrics = json.loads((folder / "best_metrics.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / metrics["files"]["truth"]))
        found = truth.loadRes(str(folder / metrics["files"]["detections"]))
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert list(metrics["stats"].values()) == pytest.approx(evaluator.stats.tolist(), abs=1e-6)
    assert metrics["stats"]["AR100"] > 0
    assert metrics["images"] == len(truth.imgs) == 5


def test_names_of_images_are_relative_to_the_data(measure, synthetic_data: Path) -> None:
    truth = json.loads((measure("--no-plots") / "best_truth.json").read_text())
    assert len(truth["images"]) == 8
    for image in truth["images"]:
        assert image["file_name"].startswith("images/val/")
        assert (synthetic_data / image["file_name"]).is_file()
        assert (image["width"], image["height"]) == (96, 96)


def test_images_from_elsewhere_keep_their_whole_path_and_ids_that_are_text(
    measure, synthetic_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(synthetic_data, tmp_path / "data")
    path = tmp_path / "data/annotations/instances_val.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["id"] = f"picture-{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"picture-{entry['image_id']}"
    path.write_text(json.dumps(content))
    (tmp_path / "data/images/val").rename(tmp_path / "elsewhere")
    where = [f"--data.root={tmp_path / 'data'}", f"--data.val_images={tmp_path / 'elsewhere'}"]
    folder = measure("--no-plots", *where)
    image = json.loads((folder / "best_truth.json").read_text())["images"][0]
    # The images have this folder in common, and the data's own is not above them.
    assert Path(image["file_name"]).name == image["file_name"]
    assert json.loads((folder / "best_metrics.json").read_text())["data"]["root"] == str(tmp_path / "elsewhere")
    assert image["source_id"] == "picture-1"


def test_the_metrics_say_what_was_measured_on_what(measure, small_checkpoint: Path, synthetic_data: Path) -> None:
    found = json.loads((measure("--no-plots", "--conf-prod=0.01") / "best_metrics.json").read_text())
    assert found["command"] == "validate" and found["subset"] == "8 val images"
    protocol = {"confidence": 0.001, "iou": 0.6, "max_detections": 300, "size": [96, 96], "weights": "ema"}
    assert found["protocol"] == found["protocol"] | protocol
    assert found["operating_confidence"] == 0.01
    assert found["checkpoint"]["path"] == str(small_checkpoint) and found["checkpoint"]["epoch"] == 2
    assert found["checkpoint"]["bytes"] == small_checkpoint.stat().st_size
    assert found["data"]["root"] == str(synthetic_data) and found["data"]["split"] == "val"
    assert found["benchmark"] is None
    assert found["files"] == {
        "detections": "best_detections.json", "truth": "best_truth.json", "per_class": "best_per_class.csv"
    }  # fmt: skip


def test_the_table_of_classes(measure) -> None:
    folder = measure("--no-plots", "--conf-prod=0.005")
    with (folder / "best_per_class.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    metrics = json.loads((folder / "best_metrics.json").read_text())
    assert list(rows) == list(metrics["per_class"]) == ["circle", "square", "triangle", "star"]
    for name, entry in metrics["per_class"].items():
        assert float(rows[name]["AP"]) == pytest.approx(entry["AP"], abs=1e-6)
        assert float(rows[name]["recall"]) == pytest.approx(entry["recall"], abs=1e-6)
        found, objects = int(rows[name]["true_positives"]), int(rows[name]["objects"])
        assert found + int(rows[name]["missed"]) == objects == entry["objects"]
    assert sum(int(row["true_positives"]) for row in rows.values()) > 0


def test_everything_is_written_unless_it_is_not_wanted(measure, tmp_path: Path) -> None:
    folder = measure("--save-plots", "--save-json", "--report")
    assert names(folder) == FILES | PLOTS | {"best_report.html"}
    files = json.loads((folder / "best_metrics.json").read_text())["files"]
    assert set(files["plots"]) == PLOTS and files["report"] == "best_report.html"
    shutil.rmtree(folder)
    assert names(measure("--no-json")) == PLOTS
    shutil.rmtree(folder)
    assert names(measure("--no-plots", "--report", str(tmp_path / "r.html"))) == FILES
    assert (tmp_path / "r.html").stat().st_size > 1000
    assert json.loads((folder / "best_metrics.json").read_text())["files"]["report"] == str(tmp_path / "r.html")
    shutil.rmtree(folder)
    assert names(measure("--no-plots", "--no-json")) == set()


def test_a_test_has_a_folder_of_its_own(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = [f"--data.root={synthetic_data}", "--data.test_images=images/val"]
    data += ["--data.test_ann=annotations/instances_val.json"]
    fixed = ["-c", str(small_checkpoint), "--workers=0", "--no-plots"]
    assert main(["test", *fixed, *data]) == main(["validate", *fixed]) == 0
    assert names(tmp_path) == {f"{folder}_results/{file}" for folder in ("test", "validation") for file in FILES}
    assert json.loads((tmp_path / "test_results/best_metrics.json").read_text())["subset"] == "8 test images"


def test_a_list_file_chooses_the_images(measure, synthetic_data: Path, tmp_path: Path) -> None:
    listing = tmp_path / "some.txt"
    listing.write_text("val_00003.jpg\nval_00001.jpg\n")
    data = [f"--data.root={synthetic_data}", "--data.format=yolo", "--data.val_images=images/val"]
    folder = measure("--no-plots", *data, f"--data.val_split={listing}", "--data.train_split=not-read.txt")
    truth = json.loads((folder / "best_truth.json").read_text())
    assert [image["file_name"] for image in truth["images"]] == ["images/val/val_00003.jpg", "images/val/val_00001.jpg"]


def test_encrypted_images_are_measured_and_none_is_in_the_report(
    small_checkpoint: Path, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are those of the plain files."""
    monkeypatch.setenv("YOLO_ENCRYPTION_KEY", "00112233445566778899aabbccddeeff" * 2)
    data = tmp_path / "secret"
    shutil.copytree(synthetic_data / "labels", data / "labels")
    shutil.copy(synthetic_data / "data.yaml", data)
    assert main(["data", "encrypt", str(synthetic_data / "images/val"), "--output", str(data / "images/val")]) == 0
    fixed = ["validate", "-c", str(small_checkpoint), "--workers=0", "--no-plots", "--report", "--data.format=yolo"]
    where = {"plain": [f"--data.root={synthetic_data}"]}
    where["secret"] = [f"--data.root={data}", "--data.image_loader=encrypted"]
    for name, options in where.items():
        assert main([*fixed, *options, "-o", str(tmp_path / name / "out")]) == 0
    plain, secret = (json.loads((tmp_path / name / "out/best_metrics.json").read_text()) for name in where)
    assert plain["stats"] == secret["stats"] and plain["stats"]["AR100"] > 0
    assert "data:image" in (tmp_path / "plain/out/best_report.html").read_text()
    assert "data:image" not in (tmp_path / "secret/out/best_report.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "{here}/file"], "--output {here}/file: {here}/file cannot be written to (it is no folder)"),
        (["-o", "{here}/file/deeper/x"],
         "--output {here}/file/deeper/x: {here}/file cannot be written to (it is no folder)"),
        (["-o", "{here}/o", "--report={here}/file/r.html"],
         "--report {here}/file/r.html: {here}/file cannot be written to (it is no folder)"),
        (["-o", "{here}/o", "--report={here}"], "--report {here} is a folder: give the path of an HTML file"),
    ],
)  # fmt: skip
def test_places_are_looked_at_before_anything_is_measured(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    options = [option.format(here=tmp_path) for option in options]
    assert main(["validate", "-c", "not-even-read.ckpt", *options]) == 2
    assert capsys.readouterr().err == f"Error: {words.format(here=tmp_path)}\n"
    assert names(tmp_path) == {"file"}


def test_a_folder_where_nothing_will_be_written_may_be_anything(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = ["--workers=0", "--no-plots", "--no-json", "--num-images=1", "-o", str(tmp_path / "file")]
    assert main(["validate", "-c", str(small_checkpoint), *options]) == 0


def test_a_disk_that_is_full_is_one_line(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from yolo.training.validation import files

    def full(path: Path, content: bytes) -> Path:
        if path.name.endswith("_metrics.json"):
            raise OSError(28, "No space left on device", str(path))
        return path

    monkeypatch.setattr(files, "write_atomically", full)
    fixed = ["--workers=0", "--no-plots", "--num-images=1", "-o", str(tmp_path)]
    assert main(["validate", "-c", str(small_checkpoint), *fixed]) == 1
    assert (
        f"Error: {tmp_path}/best_metrics.json cannot be written: No space left on device\n" in capsys.readouterr().err
    )
