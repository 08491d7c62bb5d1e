"""``yolo report``: from the files that ``yolo validate`` leaves to a page, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.training.commands.report import report
from yolo.training.report import gallery
from yolo.training.report.facts import heading, in_summary
from yolo.training.report.findings import false_positives, misses
from yolo.training.report.stored import read_run


def call(*args: object) -> str:
    result = CliRunner().invoke(report, [str(arg) for arg in args], catch_exceptions=False, standalone_mode=False)
    return result.output


def test_a_run_that_was_stored_is_the_run(run, tmp_path: Path):
    path = run.store(tmp_path, "best", split_images=99)
    stored = read_run(path)
    assert stored.name == "best"
    assert stored.evaluation.split_images == 99
    assert stored.evaluation.stats.as_dict() == pytest.approx(run.evaluation.stats.as_dict(), abs=1e-9)
    assert stored.evaluation.protocol == run.evaluation.protocol
    assert stored.evaluation.operating_confidence == 0.25
    for name in ("true_positives", "false_positives", "truths"):
        assert np.array_equal(getattr(stored.evaluation.counts, name), getattr(run.evaluation.counts, name))
    assert stored.table.fingerprint() == run.table.fingerprint()
    assert np.array_equal(stored.evaluation.analysis.detections.boxes, run.evaluation.analysis.detections.boxes)
    assert np.array_equal(stored.evaluation.analysis.detections.scores, run.evaluation.analysis.detections.scores)


def test_the_order_of_images_and_objects_in_the_files_does_not_matter(run, tmp_path: Path):
    path = run.store(tmp_path, "best")
    for kind, key in (("truth", "images"), ("truth", "annotations"), ("detections", None)):
        file = tmp_path / f"best_{kind}.json"
        content = json.loads(file.read_text())
        (content[key] if key else content).reverse()
        file.write_text(json.dumps(content))
    stored = read_run(path)
    assert np.array_equal(stored.table.image_ids, run.table.image_ids)
    assert stored.evaluation.stats.as_dict() == pytest.approx(run.evaluation.stats.as_dict(), abs=1e-9)


def test_validate_and_report_write_the_same_page(small_checkpoint: Path, tmp_path: Path):
    from yolo.training.commands.validate import validate

    options = ["--checkpoint", str(small_checkpoint), "--workers=0", "--output", str(tmp_path), "--no-plots"]
    assert validate([*options, "--benchmark", "--benchmark-warmup=0", "--benchmark-runs=2", "--report"]) == 0
    written = (tmp_path / "best_report.html").read_text()
    assert "data:image/jpeg" in written
    assert "end to end, cpu" in written
    (tmp_path / "best_report.html").unlink()
    said = call(tmp_path / "best_metrics.json")
    assert said == f"Written: {tmp_path}/best_report.html\n"
    assert (tmp_path / "best_report.html").read_text() == written


def test_two_runs(run, make_run, make_found, tmp_path: Path):
    first = run.store(tmp_path / "one", "best")
    other = make_run(run.table, make_found(run.table, jitter=0.2), iou=0.7)
    second = other.store(tmp_path / "two", "other")
    said = call(first, second, "--resamples", 100)
    page = tmp_path / "one" / "best_vs_other_report.html"
    lines = said.splitlines()
    assert lines[0] == "Warning: The protocols differ: NMS IoU 0.65 in the first run, 0.7 in the second."
    assert [line.split()[0] for line in lines[3:6]] == ["AP", "AP50", "F1"]
    assert lines[3].endswith("first is better")
    assert lines[-1] == f"Written: {page}"
    assert "The protocols differ: NMS IoU 0.65" in page.read_text()


def test_the_comparison_as_json(run, make_run, make_found, tmp_path: Path):
    paths = [run.store(tmp_path, "a"), make_run(run.table, make_found(run.table, seed=5)).store(tmp_path, "b")]
    page = tmp_path / "c.html"
    result = CliRunner().invoke(report, [*map(str, paths), "--json", "--resamples=100", f"-o{page}"])
    told = json.loads(result.stdout)
    assert set(told["overall"]) == {"AP", "AP50", "F1"}
    assert told["overall"]["AP"]["first"] == pytest.approx(run.evaluation.stats.AP, abs=1e-6)
    assert page.is_file()


def test_pictures_are_found_where_the_truth_says_and_in_another_folder(run, tmp_path: Path):
    root = tmp_path / "data"
    for i in range(len(run.table)):
        path = root / "images" / Path(run.table.path(i)).name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", run.table.size(i), (i, 90, 90)).save(path.with_suffix(".png"))
    metrics = run.store(tmp_path, "best", data={"root": str(root)})
    truth = json.loads((tmp_path / "best_truth.json").read_text())
    for image in truth["images"]:
        image["file_name"] = "images/" + Path(image["file_name"]).with_suffix(".png").name
    (tmp_path / "best_truth.json").write_text(json.dumps(truth))
    page = tmp_path / "best_report.html"
    analysis = run.evaluation.analysis
    wrong, missed = (len(find(analysis, gallery.MOST)) for find in (false_positives, misses))
    assert min(wrong, missed) > 10
    call(metrics)
    assert page.read_text().count("data:image/jpeg") == wrong + missed
    call(metrics, "--no-images")
    assert "data:image/jpeg" not in page.read_text()
    assert "No pictures were given" in page.read_text()
    (root / "images").rename(tmp_path / "moved")
    call(metrics)
    for count in (wrong, missed):
        assert f"{count} could not be shown, as their pictures could not be read." in page.read_text()
    call(metrics, "--images", tmp_path / "moved")
    assert page.read_text().count("data:image/jpeg") == wrong + missed


@pytest.mark.parametrize("kind", ["detections", "truth"])
def test_a_missing_neighbour_is_one_line(run, tmp_path: Path, kind: str):
    path = run.store(tmp_path, "best")
    (tmp_path / f"best_{kind}.json").unlink()
    with pytest.raises(UsageError, match=rf"best_metrics.json: best_{kind}.json is missing beside it") as caught:
        call(path)
    assert "\n" not in str(caught.value)


def change(path: Path, key: str, value: object) -> None:
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


def test_damaged_files_are_named(run, tmp_path: Path):
    def stored(name: str) -> tuple[Path, Path, Path]:
        path = run.store(tmp_path / name, "best")
        return path, path.with_name("best_truth.json"), path.with_name("best_detections.json")

    with pytest.raises(UsageError, match=r"nowhere_metrics.json does not exist"):
        call(tmp_path / "nowhere_metrics.json")
    path, truth, found = stored("text")
    found.write_text("{")
    with pytest.raises(YoloError, match=r"best_detections.json is not a JSON file"):
        call(path)
    path, truth, found = stored("list")
    path.write_text("[]")
    with pytest.raises(YoloError, match=r"best_metrics.json does not hold the metrics"):
        call(path)
    path, truth, found = stored("protocol")
    change(path, "protocol", {"confidence": 0.1})
    with pytest.raises(YoloError, match=r"best_metrics.json does not hold metrics of 'yolo validate' \(KeyError"):
        call(path)
    path, truth, found = stored("category")
    change(truth, "categories", [])
    with pytest.raises(YoloError, match=r"best_truth.json does not hold a COCO ground truth"):
        call(path)
    path, truth, found = stored("area")
    content = json.loads(truth.read_text())
    content["annotations"][0]["area"] = float("nan")
    truth.write_text(json.dumps(content))
    with pytest.raises(
        YoloError, match=r"best_truth.json does not hold a COCO ground truth \(ValueError: a number is not"
    ):
        call(path)
    path, truth, found = stored("image")
    record = {"image_id": 123456, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}
    found.write_text(json.dumps([record]))
    with pytest.raises(YoloError, match=r"best_detections.json does not hold detections of the images in best_truth"):
        call(path)
    path, truth, found = stored("nan")
    found.write_text(json.dumps([record | {"image_id": 5, "score": float("nan")}]))
    with pytest.raises(YoloError, match=r"not finite"):
        call(path)


def test_options_that_make_no_sense(run, tmp_path: Path):
    path = run.store(tmp_path, "best")
    with pytest.raises(UsageError, match=r"ends in \.html"):
        call(path, "-o", tmp_path / "best_truth.json")
    with pytest.raises(UsageError, match="--json prints a comparison"):
        call(path, "--json")
    other = run.store(tmp_path, "other")
    change(other.with_name("other_truth.json"), "annotations", [])
    with pytest.raises(UsageError, match="were measured on different data"):
        call(path, other)


def test_a_split_without_any_detection(run, make_run, tmp_path: Path):
    from yolo.training.metrics import Detected

    nothing = Detected(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty = make_run(run.table, [nothing] * len(run.table))
    paths = empty.store(tmp_path, "empty"), run.store(tmp_path, "best")
    call(paths[0])
    assert "There is no false positive above 0.25." in (tmp_path / "empty_report.html").read_text()
    assert "first is better" in call(paths[1], paths[0], "--resamples=100")


def test_a_split_without_images_is_refused(run, tmp_path: Path):
    path = run.store(tmp_path, "best")
    for key in ("images", "annotations"):
        change(path.with_name("best_truth.json"), key, [])
    path.with_name("best_detections.json").write_text("[]")
    with pytest.raises(YoloError, match=r"best_truth.json names no image"):
        call(path)


def test_facts_are_told_as_far_as_they_are_known():
    latency = {"network": {"mean": 12.34}, "end to end": {"mean": 20.0}}
    facts = {
        "checkpoint": {"path": "/runs/best.ckpt"}, "subset": "40 val images", "data": {"root": "/data"},
        "benchmark": {"latency": latency, "device": "cpu"},
    }  # fmt: skip
    assert heading(facts, otherwise="x") == "best.ckpt on 40 val images"
    assert in_summary(facts) == {
        "model": "/runs/best.ckpt", "data": "/data (40 val images)",
        "latency": "12.3 ms network, 20.0 ms end to end, cpu, batch 1",
    }  # fmt: skip
    assert heading({}, otherwise="x") == "x"
    assert in_summary({"benchmark": None, "checkpoint": [], "data": {"root": 3}}) == {}
