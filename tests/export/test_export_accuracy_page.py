"""The table of exported files: made of what `yolo validate` and `yolo export` leave behind, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    place = importlib.util.spec_from_file_location("benchmark_of_exports", ROOT / "benchmarks" / "export.py")
    module = importlib.util.module_from_spec(place)
    sys.modules[place.name] = module  # dataclasses look there
    yield module if place.loader.exec_module(module) is None else None
    del sys.modules[place.name]


def metrics(size: int, ap: float, *, iou: float = 0.6, threads: int | None = 2, root: str = "/data/cells") -> dict:
    def times(middle: float) -> dict:
        return {"mean": 99.0, "p50": middle, "p95": 99.0, "p99": 99.0, "throughput": 1.0}

    return {
        "protocol": {"confidence": 0.001, "iou": iou, "max_detections": 300, "size": [size, size], "weights": "ema"},
        "subset": "87 val images",
        "stats": {"AP": ap, "AP50": 0.75, "AR1": 0.1, "AR10": 0.2, "AR100": 0.625},
        "data": {"root": root},
        "versions": {"yolo-core": "0.1.0", "torch": "2.15.0"},
        "benchmark": {
            "latency": {"network": times(12.34), "end to end": times(15.66)},
            "bytes": 2_285_520,
            "device": "cpu",
            "threads": threads,
            "runs": 100,
            "warmup": 10,
            "pictures": 16,
            "confidence": 0.25,
        },
    }


def manifest(*, checked: bool = True, **more: object) -> dict:
    found = {
        "pictures": "pictures of train",
        "detections": {"compared": 313, "off": 2},
        "largest": {"boxes": 3.0292510986328125, "scores": 0.0000335},
        "inputs": [{}] * 8,
    }
    return {
        "parity": {"checked": checked, **(found if checked else {})},
        "architecture": "v9-t",
        "checkpoint": {"sha256": "0123456789abcdef"},
        "versions": {"onnx2tf": "1.29.24", "numpy": "1.26.4"},
        **more,
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_line_for_each_file(benchmark):
    rows = [
        benchmark.Row("pytorch", metrics(320, 0.5), None),
        benchmark.Row("tflite-int8", metrics(320, 0.4912), manifest()),
        benchmark.Row("pytorch", metrics(416, 0.25), None),
        benchmark.Row("onnx", metrics(416, 0.25004), manifest(checked=False)),
    ]
    lines = benchmark.table(rows).splitlines()
    assert cells(lines[0]) == list(benchmark.COLUMNS)
    assert [len(cells(line)) for line in lines] == [len(benchmark.COLUMNS)] * 6
    assert cells(lines[2]) == ["PyTorch", "320x320", "0.5000", "-", "0.7500", "0.6250", "12.3", "15.7", "2.3", "-"]
    assert cells(lines[3])[:4] == ["TFLite INT8", "320x320", "0.4912", "-0.0088"]
    assert cells(lines[3])[-1] == "2 of 313 off, 3 px, 0.000034"
    assert cells(lines[5])[:4] == ["ONNX", "416x416", "0.2500", "+0.0000"]  # compared at its own size
    assert cells(lines[5])[-1] == "not compared"


def test_the_protocol_says_by_what_it_was_measured(benchmark):
    drawn = {"calibration": {"images": 60, "source": "train", "seed": 3}}
    rows = [
        benchmark.Row("pytorch", metrics(320, 0.5), None),
        benchmark.Row("onnx", metrics(320, 0.5, threads=None), manifest()),
        benchmark.Row("tflite-int8", metrics(320, 0.5), manifest(**drawn)),
    ]
    text = benchmark.protocol(rows, "a processor, 2 cores")
    for part in (
        "confidence 0.001, NMS IoU 0.6, at most 300 detections, 87 val images of cells.",
        "median of 100 runs after 10, one of 16 pictures at a time on cpu, NMS from confidence 0.25; a processor",
        "Threads: 2 (PyTorch, TFLite INT8); as many as the runtime likes (ONNX).",
        "v9-t, checkpoint 0123456789ab. Calibration: 60 pictures of train, seed 3.",
        "Parity: 8 pictures of train.",
        "torch 2.15.0",
        "onnx2tf 1.29.24",
    ):
        assert part in text
    assert "numpy" not in text  # that of the converter's environment would be taken for this one's


@pytest.mark.parametrize("other", [{"iou": 0.7}, {"root": "/data/other"}])
def test_one_table_has_one_protocol(benchmark, other):
    rows = [
        benchmark.Row("pytorch", metrics(320, 0.5), None),
        benchmark.Row("onnx", metrics(320, 0.5, **other), manifest()),
    ]
    with pytest.raises(SystemExit, match="not measured by the same"):
        benchmark.protocol(rows, "")


def test_the_rest_of_the_page_stays(benchmark):
    first, last = benchmark.MARKS
    page = f"before\n\n{first}\n\nold\n\n{last}\n\nafter\n"
    assert benchmark.put_between(page, "new") == f"before\n\n{first}\n\nnew\n\n{last}\n\nafter\n"
    for wrong in ("no marks", f"{first} alone", f"{last} {first}", page + page):
        with pytest.raises(SystemExit, match="the page needs"):
            benchmark.put_between(wrong, "new")


@pytest.fixture
def bench(benchmark, tmp_path, monkeypatch):
    """Run the command in an empty folder, with a `yolo` that only writes the files; returns what was asked of it."""
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "run.yaml").write_text("data: {root: cells}")
    (tmp_path / "page.md").write_text("\n".join(("# Page", *benchmark.MARKS, "the end")))

    def run(*options: str) -> list[tuple[str, str]]:
        asked = []

        def call(arguments, log, timeout):
            given = dict(zip(arguments[1::2], arguments[2::2], strict=False))
            if arguments[0] == "export":
                path = Path(given["--output"])
                path.write_bytes(b"model")
                path.with_name(f"{path.name}.manifest.json").write_text(json.dumps(manifest()))
                assert "--calibration-images" in arguments
            else:
                path = Path(given["--checkpoint"])
                folder = Path(arguments[arguments.index("--output") + 1])
                (folder / f"{path.stem}_metrics.json").write_text(json.dumps(metrics(int(given["--size"]), 0.5)))
                assert "--benchmark" in arguments
            asked.append((arguments[0], path.name))

        monkeypatch.setattr(benchmark, "call", call)
        places = {"--checkpoint": "best.ckpt", "--data": "run.yaml", "--work": "work", "--output": "page.md"}
        benchmark.main([*(f"{option}={tmp_path / name}" for option, name in places.items()), *options])
        return asked

    return run


def test_what_is_there_is_measured_again_and_not_exported_again(bench, tmp_path):
    onnx = ["--formats", "pytorch", "onnx", "--sizes", "320", "416"]
    measured = [("validate", name) for name in ("best.ckpt", "best-320-onnx.onnx", "best.ckpt", "best-416-onnx.onnx")]
    exported = [("export", "best-320-onnx.onnx"), ("export", "best-416-onnx.onnx")]
    assert bench(*onnx) == exported + measured
    lines = (tmp_path / "page.md").read_text().splitlines()
    assert [cells(line)[:2] for line in lines if line.startswith("| ")][1:] == [
        ["PyTorch", "320x320"], ["ONNX", "320x320"], ["PyTorch", "416x416"], ["ONNX", "416x416"],
    ]  # fmt: skip
    assert (lines[0], lines[-1]) == ("# Page", "the end")
    assert bench(*onnx) == measured
    assert bench(*onnx, "--fresh") == exported + measured
    for changed in ("best.ckpt", "run.yaml"):
        (tmp_path / changed).write_text("data: {root: other}")
        assert bench(*onnx) == exported + measured
    (tmp_path / "work" / "best-320-onnx.onnx").unlink()
    assert bench(*onnx) == exported[:1] + measured


def test_a_page_without_marks_is_told_before_the_work(bench, tmp_path):
    (tmp_path / "page.md").write_text("# Page")
    with pytest.raises(SystemExit, match="the page needs"):
        bench("--formats", "onnx")
    assert not (tmp_path / "work" / "best-320-onnx.onnx").exists()


def test_a_command_that_fails_or_hangs_is_told(benchmark, tmp_path):
    with pytest.raises(SystemExit, match=r"yolo validate ended with 2: .*log\n.*nothing\.onnx"):
        benchmark.call(["validate", "--checkpoint", "nothing.onnx"], tmp_path / "log", 300)
    with pytest.raises(SystemExit, match=r"took more than 0\.01 s"):
        benchmark.call(["validate", "--checkpoint", "nothing.onnx"], tmp_path / "log", 0.01)


def test_a_folder_in_the_layout_of_coco_is_a_data_set(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="no folder with images/train, images/val"):
        benchmark.data_file(tmp_path, tmp_path)
    for place in ("images/train", "images/val", "annotations/instances_train.json", "annotations/instances_val.json"):
        (tmp_path / place).mkdir(parents=True)
    settings = benchmark.yaml.safe_load(benchmark.data_file(tmp_path, tmp_path / "work").read_text())["data"]
    assert settings["root"] == str(tmp_path.resolve())
    assert settings["val_ann"] == "annotations/instances_val.json"


def test_the_page_has_every_format_in_two_sizes(benchmark):
    page = benchmark.PAGE.read_text(encoding="utf-8")
    between = page.partition(benchmark.MARKS[0])[2].partition(benchmark.MARKS[1])[0]
    head, _, *rows = [cells(line) for line in between.splitlines() if line.startswith("|")]
    assert head == list(benchmark.COLUMNS)
    table = {(row[0], row[1]): row for row in rows}
    sizes = dict.fromkeys(row[1] for row in rows)
    assert len(sizes) > 1
    assert set(table) == {(title, size) for title, _, _ in benchmark.FORMATS.values() for size in sizes}
    number = re.compile(r"\d+\.\d+")
    for (title, size), row in table.items():
        assert all(number.fullmatch(row[place]) for place in (2, 4, 5, 6, 7, 8)), row
        if title != "PyTorch":
            assert float(row[3]) == pytest.approx(float(row[2]) - float(table["PyTorch", size][2]), abs=1.1e-4)
            assert re.fullmatch(r"\d+ of \d+ off, [\d.]+ px, [\d.]+", row[-1]), row
    int8 = abs(float(table["TFLite INT8", next(iter(sizes))][2]) - float(table["TFLite FP32", next(iter(sizes))][2]))
    assert int8 < 0.01  # an AP point, where the network was trained
    for part in ("confidence 0.001", "NMS IoU", "at most 300 detections", "val images", "Versions:", "cores, load"):
        assert part in between
