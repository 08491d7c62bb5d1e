"""Exported files, measured one by one: accuracy, latency, size on disk, and how far each is from its checkpoint.

    uv run python benchmarks/export.py --checkpoint best.ckpt --data bccd.yaml --sizes 320 416

Every file is written by `yolo export` and measured by `yolo validate --benchmark`, each a process of its own, one after
the other; the table is made of what these leave behind (metrics and manifests). It is put between the two marks of
`--output`, and the rest of that page stays as it is.

A file that lies in `--work`, from the same checkpoint, data and options, is not exported again, so that the second run
of a command only measures. `--fresh` exports everything anew, which is wanted after a change of the exporter. The
runtimes compute with as many threads as they like: latencies want a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yolo.core.files import write_atomically
from yolo.export.manifest import manifest_path, sha256

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "export-accuracy.md"
MARKS = ("<!-- written by benchmarks/export.py -->", "<!-- the end of what is written -->")
PYTORCH = "pytorch"
FORMATS: dict[str, tuple[str, str, list[str]]] = {  # title, end of the name, options of `yolo export`
    PYTORCH: ("PyTorch", "", []),
    "torchscript": ("TorchScript", ".torchscript", ["--format", "torchscript"]),
    "onnx": ("ONNX", ".onnx", ["--format", "onnx"]),
    "onnx-fp16": ("ONNX FP16", ".onnx", ["--format", "onnx", "--half"]),
    "tflite-fp32": ("TFLite FP32", ".tflite", ["--format", "tflite"]),
    "tflite-fp16": ("TFLite FP16", ".tflite", ["--format", "tflite", "--quantization", "fp16"]),
    "tflite-int8": ("TFLite INT8", ".tflite", ["--format", "tflite", "--quantization", "int8"]),
    "tflite-int8-strict": ("TFLite INT8 strict", ".tflite", ["--format", "tflite", "-q", "int8", "--int8-io"]),
    "saved-model": ("SavedModel", "_saved_model", ["--format", "saved_model"]),
}
COLUMNS = ("format", "size", "AP", "to PyTorch", "AP50", "AR", "network, ms", "end to end, ms", "MB", "parity")


@dataclass(frozen=True)
class Row:
    """A file and what was found: the JSON of `yolo validate`, and the manifest; the checkpoint has none."""

    format: str
    metrics: dict[str, Any]
    manifest: dict[str, Any] | None

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.metrics["protocol"]["size"]
        return width, height


def short(number: float) -> str:
    """Two significant digits, never with an exponent."""
    return np.format_float_positional(number, precision=2, fractional=False, trim="-")


def parity(manifest: dict[str, Any] | None) -> str:
    """How many detections are off, and how far the furthest is: in box, and in score."""
    if manifest is None:
        return "-"
    found = manifest["parity"]
    if not found["checked"]:
        return "not compared"
    detections, largest = found["detections"], found["largest"]
    counts = f"{detections['off']} of {detections['compared']} off"
    return f"{counts}, {short(largest['boxes'])} px, {short(largest['scores'])}"


def table(rows: Sequence[Row]) -> str:
    """A line for each file."""
    reference = {row.size: row.metrics["stats"]["AP"] for row in rows if row.format == PYTORCH}
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        stats, benchmark = row.metrics["stats"], row.metrics["benchmark"]
        apart = None if row.format == PYTORCH or row.size not in reference else stats["AP"] - reference[row.size]
        cells = [FORMATS[row.format][0], "x".join(map(str, row.size)), f"{stats['AP']:.4f}"]
        cells += [
            "-" if apart is None else f"{round(apart, 4) + 0.0:+.4f}",
            f"{stats['AP50']:.4f}",
            f"{stats['AR100']:.4f}",
        ]
        cells += [f"{benchmark['latency'][stage]['p50']:.1f}" for stage in ("network", "end to end")]
        cells += [f"{benchmark['bytes'] / 1e6:.1f}", parity(row.manifest)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def protocol(rows: Sequence[Row], machine: str) -> str:
    """By what all of it was measured; it has to be the same for every row."""

    def only(what: str, values: Sequence[Any]) -> Any:
        first = values[0]
        if any(value != first for value in values):
            sys.exit(f"the files were not measured by the same {what}: {values}")
        return first

    keys = ("confidence", "iou", "max_detections")
    least, iou, most = only("protocol", [[row.metrics["protocol"][key] for key in keys] for row in rows])
    subset = only("pictures", [f"{row.metrics['subset']} of {Path(row.metrics['data']['root']).name}" for row in rows])
    keys = ("runs", "warmup", "confidence", "pictures", "device")
    runs, warmup, start, pictures, device = only(
        "benchmark", [[row.metrics["benchmark"][key] for key in keys] for row in rows]
    )
    threads: dict[int | None, list[str]] = {}
    for row in rows:
        threads.setdefault(row.metrics["benchmark"]["threads"], []).append(FORMATS[row.format][0])
    counts = [
        f"{'as many as the runtime likes' if count is None else count} ({', '.join(dict.fromkeys(titles))})"
        for count, titles in threads.items()
    ]
    lines = [
        f"AP, AP50, AR: confidence {least:g}, NMS IoU {iou:g}, at most {most} detections, {subset}.",
        f"Latency: median of {runs} runs after {warmup}, one of {pictures} pictures at a time on {device}, "
        f"NMS from confidence {start:g}; {machine}. Threads: {'; '.join(counts)}.",
    ]
    if manifests := [row.manifest for row in rows if row.manifest]:
        networks = sorted({f"{m['architecture']}, checkpoint {m['checkpoint']['sha256'][:12]}" for m in manifests})
        calibrations = [m["calibration"] for m in manifests if "calibration" in m]
        drawn = sorted({f"{c['images']} pictures of {c['source']}, seed {c['seed']}" for c in calibrations})
        parities = [m["parity"] for m in manifests if m["parity"]["checked"]]
        compared = sorted({f"{len(found['inputs'])} {found['pictures']}" for found in parities})
        lines.append(
            f"Network: {'; '.join(networks)}. Calibration: {'; '.join(drawn) or 'none'}. "
            f"Parity: {'; '.join(compared) or 'not compared'}."
        )
    lines.append(f"Versions: {', '.join(f'{name} {number}' for name, number in versions(rows).items())}.")
    return "\n\n".join(lines)


def versions(rows: Sequence[Row]) -> dict[str, str]:
    """What took part: here, and in the environment of the converter."""
    found = {"Python": platform.python_version()}
    for row in rows:
        found |= row.metrics["versions"]
    for name in ("onnxruntime", "ai-edge-litert"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    for row in rows:  # what wrote TFLite files has another NumPy and ONNX than what is used here
        made = (row.manifest or {}).get("versions", {})
        found |= {name: made[name] for name in ("yolo-export", "onnx2tf", "tensorflow") if name in made}
    return found


def put_between(page: str, text: str) -> str:
    """Replace what is between the marks of a page."""
    parts = page.split(MARKS[0])
    rest = parts[-1].split(MARKS[1])
    if len(parts) != 2 or len(rest) != 2:
        sys.exit(f"the page needs {MARKS[0]!r} and, behind it, {MARKS[1]!r}, once each")
    return f"{parts[0]}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{rest[1]}"


def call(arguments: Sequence[str], log: Path, timeout: float) -> None:
    """Run `yolo`, and end all of its processes when it takes too long."""
    print("yolo", *arguments, file=sys.stderr, flush=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "yolo.cli", *arguments],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            sys.exit(f"yolo {arguments[0]} took more than {timeout:g} s: {log}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        sys.exit(f"yolo {arguments[0]} ended with {code}: {log}\n" + "\n".join(log.read_text().splitlines()[-5:]))


def data_file(data: Path, work: Path) -> Path:
    """A configuration with `data:`; of a folder in the layout of COCO, one that is written here."""
    if data.is_file():
        return data.resolve()
    places = {f"{split}_images": f"images/{split}" for split in ("train", "val")}
    places |= {f"{split}_ann": f"annotations/instances_{split}.json" for split in ("train", "val")}
    if missing := [place for place in places.values() if not (data / place).exists()]:
        sys.exit(f"--data {data} is no YAML file, and no folder with {', '.join(missing)}")
    settings = {"root": str(data.resolve()), "format": "coco", **places, "cache_labels": False}
    text = yaml.safe_dump({"data": settings}, sort_keys=False)
    return write_atomically(work / f"{data.resolve().name}.yaml", text.encode())


def exported(name: str, size: str, config: Path, options: argparse.Namespace) -> Path:
    """The file of a format, which is written unless the very same is there."""
    _, end, settings = FORMATS[name]
    path = options.work / f"{options.checkpoint.stem}-{size}-{name}{end}"
    record = options.work / f"{path.name}.made.json"
    made = {"checkpoint": sha256(options.checkpoint), "size": size, "options": settings, "data": config.read_text()}
    known = json.loads(record.read_text()) if record.is_file() and path.exists() else None
    if options.fresh or known != made:
        record.unlink(missing_ok=True)
        arguments = ["export", "--checkpoint", str(options.checkpoint), *settings, "--size", size]
        arguments += ["--calibration-images", str(config), "--output", str(path)]
        call(arguments, options.work / f"{path.name}.log", options.timeout)
        write_atomically(record, json.dumps(made).encode())
    return path


def measured(name: str, path: Path, size: str, config: Path, options: argparse.Namespace) -> Row:
    """Measure a file anew."""
    folder = options.work / "results" / f"{size}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    arguments = ["validate", "--checkpoint", str(path), "--config", str(config), "--size", size, "--device", "cpu"]
    arguments += ["--workers", "0", "--no-plots", "--benchmark", "--output", str(folder)]
    call(arguments, folder / "log", options.timeout)
    metrics = json.loads(next(folder.glob("*_metrics.json")).read_text())
    manifest = None if name == PYTORCH else json.loads(manifest_path(path).read_text())
    return Row(name, metrics, manifest)


def processor() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, required=True,
        help="YAML file with data:, as of `yolo fit`; or a folder with images/ and annotations/instances_*.json",
    )  # fmt: skip
    parser.add_argument("--sizes", nargs="+", default=["320", "416"], help="of the networks' inputs; 640, or 640x384")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS, metavar="FORMAT")
    parser.add_argument("--work", type=Path, default=Path("runs/export-accuracy"), help="folder of all files")
    parser.add_argument("--fresh", action="store_true", help="export what is there already, too")
    parser.add_argument("--output", type=Path, default=PAGE, help="page with the marks to write between")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each command")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a command that runs is ended, too
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.checkpoint.is_file():
        sys.exit(f"--checkpoint {options.checkpoint} does not exist")
    put_between(options.output.read_text(encoding="utf-8"), "")  # a wrong page is told now
    config = data_file(options.data, options.work)
    files = {
        (size, name): options.checkpoint if name == PYTORCH else exported(name, size, config, options)
        for size in options.sizes
        for name in options.formats
    }
    before = os.getloadavg()[0]
    rows = [measured(name, path, size, config, options) for (size, name), path in files.items()]
    machine = f"{processor()}, {os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    text = f"{table(rows)}\n\n{protocol(rows, machine)}"
    page = put_between(options.output.read_text(encoding="utf-8"), text)
    write_atomically(options.output, page.encode())
    print(text)


if __name__ == "__main__":
    main()
