"""The command line that the programs for the runtimes share, and the check against the golden files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cv2
import detector
import numpy as np

BUNDLE = Path(__file__).resolve().parent.parent


class RunError(Exception):
    """Something that the user is told in one line."""


class Model(Protocol):
    """A loaded network.

    Attributes:
        lines: what it takes and returns, for people.
        size: (width, height) of its input; None where it takes any.
        step: of which the sides are multiples, where it takes any size.
        names: of the classes, as far as the file knows them.
    """

    lines: list[str]
    size: tuple[int, int] | None
    step: int
    names: list[str]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """From float32 ``[1, 3, H, W]``, 0 to 1, to float32 ``[1, 4 + classes, anchors]``."""


def main(open_model: Callable[[Path, dict[str, Any]], Model], description: str) -> int:
    """Run the command; ``open_model`` gets the file and the content of spec.json, and returns the network."""
    options = _parser(description).parse_args()
    sys.stdout.reconfigure(errors="replace")  # names of classes that a console cannot show
    try:
        spec_path = options.spec or BUNDLE / "spec.json"
        spec = json.loads(spec_path.read_text(encoding="utf-8")) if spec_path.is_file() else {}
        file = options.model or (spec_path.parent / spec["model"]["file"] if spec else None)
        if file is None or not file.is_file():
            raise RunError(f"{file or 'no --model was given, and spec.json'} is not there")
        print(f"Loading model: {file}")
        model = open_model(file, spec)
        print(*model.lines, sep="\n")
        if options.self_check:
            return self_check(spec, spec_path.parent, model)
        if options.image is None:
            raise RunError("give a picture with --image, or --self-check")
        _predict(options, spec, model)
    except OSError as error:
        print(f"Error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except (RunError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def self_check(spec: dict[str, Any], folder: Path, model: Model) -> int:
    """Repeat every step of the golden files, and say which one differs; returns 1 if one does."""
    if not spec:
        raise RunError("the check needs spec.json and the golden folder beside it")
    golden = spec["golden"]
    allowed = golden["tolerances"]
    picture = read_picture(folder / golden["picture"]["file"])
    size = spec["input"]["width"], spec["input"]["height"]
    canvas, where = detector.letterbox(picture, size, spec["letterbox"]["fill"][0])
    given, expected = (_array(folder, golden[name]) for name in ("input", "output"))
    wanted = json.loads((folder / golden["detections"]["file"]).read_text(encoding="utf-8"))
    output = model(given)
    if output.shape != expected.shape:
        raise RunError(f"the output is {list(output.shape)}, not {list(expected.shape)}")
    distance = np.abs(output - expected)
    found = detector.detect(expected, where, **_limits(golden["nms"]))
    steps = [
        ("picture to input, grey levels", np.abs(detector.to_input(canvas) - given).max() * 255, allowed["pixels"]),
        ("input to output, boxes in px", distance[:, :4].max(), allowed["boxes"]),
        ("input to output, scores", distance[:, 4:].max(), allowed["scores"]),
        ("output to detections", _difference(found, wanted), allowed["detections"]),
    ]
    failed = 0
    for name, difference, limit in steps:
        passed = bool(difference <= limit)  # false for an undefined number, too
        failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {name}: {difference:.3g} (allowed {limit:g})")
    print("The golden output is reproduced" if not failed else "The golden output is NOT reproduced")
    return 1 if failed else 0


def read_picture(path: Path) -> np.ndarray:
    """Read a picture, turned as its EXIF data say: uint8 ``[H, W, 3]`` RGB."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if picture is None:
        raise RunError(f"{path} cannot be read as a picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _predict(options: argparse.Namespace, spec: dict[str, Any], model: Model) -> None:
    size = model.size
    if options.input_size:
        asked = options.input_size[1], options.input_size[0]
        if size not in (None, asked):
            raise RunError(f"the model takes {size[0]}x{size[1]} (width x height), not {asked[0]}x{asked[1]}")
        if any(side % model.step for side in asked):
            raise RunError(f"--input-size must be multiples of {model.step}, not {asked[1]} {asked[0]}")
        size = asked
    if size is None and spec:
        size = spec["input"]["width"], spec["input"]["height"]
    if size is None:
        raise RunError("the model takes any size; choose one with --input-size HEIGHT WIDTH")
    print(f"Input size: {size[0]}x{size[1]}")
    print(f"Image: {options.image}")
    picture = read_picture(options.image)
    canvas, where = detector.letterbox(picture, size)
    output = model(detector.to_input(canvas))
    classes = output.shape[1] - 4
    if options.num_classes not in (None, classes):
        raise RunError(f"the model has {classes} classes, not {options.num_classes}")
    names = _names(options.class_names, classes) if options.class_names else model.names or spec.get("classes", [])
    print(f"Output: {list(output.shape)}, {classes} classes")
    limits = _limits(spec["nms"]) if spec else {"confidence": 0.25, "iou": 0.65, "max_detections": 300}
    given = {"confidence": options.conf_thresh, "iou": options.iou_thresh, "max_detections": options.max_detections}
    limits.update((name, value) for name, value in given.items() if value is not None)
    found = detector.detect(output, where, **limits)
    print(f"Found {len(found.scores)} detections")
    records = _records(found, names)
    for row, record in enumerate(records):
        name = f" ({record['name']})" if record["name"] != str(record["label"]) else ""
        box = ", ".join(f"{value:.1f}" for value in record["box"])
        print(f"  [{row}] Class {record['label']}{name}: {record['score']:.3f} [{box}]")
    if options.json:
        height, width = picture.shape[:2]
        record = {"image": str(options.image), "width": width, "height": height, "detections": records}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.output or options.show:
        drawn = cv2.cvtColor(detector.draw(picture, found, names), cv2.COLOR_RGB2BGR)
        if options.output:
            options.output.write_bytes(_encoded(drawn, options.output))
            print(f"Saved result to: {options.output}")
        if options.show:
            _show(str(options.image), drawn)


def _show(title: str, picture: np.ndarray) -> None:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise RunError("there is no display for --show; use --output")  # OpenCV would end the process
    try:
        cv2.imshow(title, picture)
        cv2.waitKey(0)
    except cv2.error as error:
        hint = "install opencv-python instead of opencv-python-headless, or use --output"
        raise RunError(f"this OpenCV can open no window for --show: {hint}") from error


def _encoded(picture: np.ndarray, path: Path) -> bytes:
    try:
        return cv2.imencode(path.suffix or ".png", picture)[1].tobytes()
    except cv2.error as error:
        raise RunError(f"{path} cannot be written: OpenCV knows no pictures that end so") from error


def _limits(nms: dict[str, Any]) -> dict[str, Any]:
    return {name: nms[name] for name in ("confidence", "iou", "max_detections", "max_candidates")}


def _records(found: detector.Detections, names: list[str]) -> list[dict[str, Any]]:
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [
        {"label": label, "name": names[label] if label < len(names) else str(label), "score": score, "box": box}
        for box, score, label in rows
    ]


def _difference(found: detector.Detections, wanted: list[dict[str, Any]]) -> float:
    """The largest difference of a coordinate or score; infinite where other objects were found."""
    if found.labels.tolist() != [record["label"] for record in wanted]:
        return float("inf")
    if not wanted:
        return 0.0
    boxes = np.abs(found.boxes - np.array([record["box"] for record in wanted])).max()
    scores = np.abs(found.scores - np.array([record["score"] for record in wanted])).max()
    return float(max(boxes, scores))


def _array(folder: Path, entry: dict[str, Any]) -> np.ndarray:
    return np.fromfile(folder / entry["file"], "<f4").reshape(entry["shape"])


def _names(path: Path, classes: int) -> list[str]:
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(names) != classes:
        raise RunError(f"{path} has {len(names)} names, but the model has {classes} classes")
    return names


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--model", type=Path, help="model file; default: that of the bundle")
    add("--image", type=Path, help="picture to look at")
    add("--output", type=Path, help="write the picture with the boxes on it")
    add("--json", type=Path, help="write what was found")
    add("--show", action="store_true", help="show the picture with the boxes in a window")
    add("--conf-thresh", type=_fraction, help="least score, exclusive; default: of spec.json, else 0.25")
    add("--iou-thresh", type=_fraction, help="largest overlap within a class; default: of spec.json, else 0.65")
    add("--max-detections", type=_count, help="per picture; default: of spec.json, else 300")
    add("--num-classes", type=_count, help="check that the model has this many classes")
    add("--input-size", type=_count, nargs=2, metavar=("HEIGHT", "WIDTH"), help="for models that take any size")
    add("--class-names", type=Path, help="text file with one name per line")
    add("--spec", type=Path, help="default: spec.json of the bundle")
    add("--self-check", action="store_true", help="reproduce the golden output; ends with 1 if it differs")
    return parser
