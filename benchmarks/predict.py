"""Prediction, from files to boxes in original pixels: ours beside ultralytics, in torch and in onnxruntime.

    uv run python benchmarks/predict.py --data ../shared/datasets/tiny-coco

One picture of 640 pixels again and again, stage by stage, and a folder of 200 as a stream. Networks have random weights
and 80 classes; the biases of their classes are set so that 300 candidates of the first picture pass a confidence of
0.25, on every side. NMS at IoU 0.65, at most 300 detections, batches of one, float32. Each side is a process of its
own, and they take turns; a peer runs in an environment that uv makes for it, with the same Python and torch. Ratios
are taken round by round, then their median.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

PEER = "ultralytics==8.4.190"
PEER_MODELS = {"v9-t": "yolov9t.yaml", "v9-s": "yolov9s.yaml"}
SIDES = ("ours", "ultralytics", "ours, ONNX", "ultralytics, ONNX")
STAGES = ("read", "preprocess", "network", "postprocess", "rest")
SIZE, CLASSES, CONFIDENCE, IOU, MOST, CANDIDATES = 640, 80, 0.25, 0.65, 300, 300


def let_pass(
    network: torch.nn.Module,
    layers: list[torch.nn.Conv2d],
    scores: Callable[[torch.Tensor], torch.Tensor],
    canvas: Path,
) -> None:
    """Set norm statistics and the biases of the classes' last layers so that ``CANDIDATES`` of a picture pass."""
    image = torch.from_numpy(np.load(canvas)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        network.train()
        for _ in range(20):  # without them, a random network gives every place of a picture the same scores
            network(torch.cat((image, image.flip(3))))
        network.eval()
        for layer in layers:
            layer.weight.normal_(0, 0.5)
        for _ in range(2):  # the second time from where rounding to 0 and 1 no longer matters
            logits = torch.logit(scores(image).double().flatten(), eps=1e-12)
            middle = logits.topk(CANDIDATES + 1).values[-2:].mean()
            for layer in layers:
                layer.bias += float(np.log(CONFIDENCE / (1 - CONFIDENCE)) - middle)


class Ours:
    """Our Predictor with clocks around its stages."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from yolo.core import Predictor
        from yolo.core.decode import decode
        from yolo.core.models import build_model
        from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle

        torch.manual_seed(0)
        network = build_model(options.model, CLASSES).eval()
        layers = [layer for name, layer in network.named_modules() if name.endswith("class_conv.2")]
        canvas = options.pictures.parent / "canvas.npy"
        let_pass(network, layers, lambda image: decode(network(image).main).scores, canvas)
        names = tuple(map(str, range(CLASSES)))
        bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), names, (SIZE, SIZE))
        file = folder / "ours.ckpt"
        torch.save({BUNDLE_KEY: bundle.to_dict()}, file)
        if options.one.endswith("ONNX"):
            from yolo.export import export_model

            file = export_model(file).path
        self.predictor = Predictor(file, confidence=CONFIDENCE, iou=IOU, max_detections=MOST, device="cpu")
        self.spent: dict[str, float] = {}

    def __call__(self, source: Path) -> Iterator[object]:
        return self.predictor.predict_iter(source)

    def stages(self) -> contextlib.AbstractContextManager[dict[str, float]]:
        from yolo.core import predictor

        return clocked(
            {
                "read": (predictor, "read_item"),
                "preprocess": (predictor, "look"),
                "network": (self.predictor, "_engine"),
                "postprocess": (predictor.Predictor, "_suppressed"),
            }
        )


class Ultralytics:
    """The peer, which tells its own stages."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        os.chdir(folder)
        from ultralytics import YOLO

        torch.manual_seed(0)
        model = YOLO(PEER_MODELS[options.model])
        network = model.model.float().eval()
        layers = [branch[-1] for branch in network.model[-1].cv3]
        let_pass(network, layers, lambda image: network(image)[0][:, 4:], options.pictures.parent / "canvas.npy")
        if options.one.endswith("ONNX"):
            model = YOLO(model.export(format="onnx", imgsz=SIZE), task="detect")
        self.model, self.threads = model, options.threads
        self.seen: list[dict[str, float]] = []

    def __call__(self, source: Path) -> Iterator[object]:
        settings = {"conf": CONFIDENCE, "iou": IOU, "max_det": MOST, "imgsz": SIZE, "device": "cpu", "rect": False}
        for result in self.model.predict(source, stream=True, verbose=False, batch=1, **settings):
            torch.set_num_threads(self.threads)  # choosing the CPU, it leaves one core of the machine to others
            self.seen.append(result.speed)
            yield result

    @contextlib.contextmanager
    def stages(self) -> Iterator[dict[str, float]]:
        self.seen.clear()
        spent: dict[str, float] = {}
        yield spent
        names = {"preprocess": "preprocess", "network": "inference", "postprocess": "postprocess"}
        spent |= {stage: sum(speed[name] for speed in self.seen) / 1000 for stage, name in names.items()}


@contextlib.contextmanager
def clocked(places: dict[str, tuple[object, str]]) -> Iterator[dict[str, float]]:
    """Put clocks around functions."""
    spent = dict.fromkeys(places, 0.0)
    before = {stage: getattr(owner, name) for stage, (owner, name) in places.items()}

    def timed(stage: str, function: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[stage] += time.perf_counter() - start

        return call

    for stage, (owner, name) in places.items():
        setattr(owner, name, timed(stage, before[stage]))
    try:
        yield spent
    finally:
        for stage, (owner, name) in places.items():
            setattr(owner, name, before[stage])


def first(options: argparse.Namespace) -> Path:
    return sorted(options.pictures.glob("*.jpg"))[0]


def one(options: argparse.Namespace) -> None:
    """Answer the questions of the main process."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    torch.set_num_threads(options.threads)
    pictures, single = options.pictures, first(options)
    with tempfile.TemporaryDirectory() as name:
        side = (Ours if options.one.startswith("ours") else Ultralytics)(options, Path(name))
        for line in sys.stdin:
            kind, count = json.loads(line)
            start, busy = time.perf_counter(), time.process_time()
            answer: dict[str, object] = {}
            if kind == "stages":
                with side.stages() as spent:
                    for _ in range(count):
                        list(side(single))
                whole = time.perf_counter() - start
                spent["rest" if "read" in spent else "read"] = whole - sum(spent.values())
                answer["stages"] = {stage: spent.get(stage, 0.0) / count for stage in STAGES}
            elif kind == "stream":
                with side.stages() as spent:
                    number = sum(1 for _ in side(pictures))
                answer["stream"] = {"all": (time.perf_counter() - start) / number, "network": spent["network"] / number}
            elif kind == "single":
                answer["found"] = [len(found) for _ in range(count) for found in side(single)][-1]
            else:
                answer["pictures"] = sum(1 for _ in side(pictures))
            taken = time.perf_counter() - start, time.process_time() - busy
            print(json.dumps({**answer, "clock": taken[0], "busy": taken[1]}), file=say, flush=True)


class Side:
    """A process that predicts when asked."""

    def __init__(self, name: str, model: str, options: argparse.Namespace, folder: Path) -> None:
        arguments = ["--one", name, "--model", model, "--pictures", str(options.pictures)]
        arguments += ["--threads", str(options.threads)]
        settings = {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "OMP_NUM_THREADS": str(options.threads)}
        self.name, self.errors = name, folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command(name, options) + arguments,
                env={**os.environ, **settings}, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True,
            )  # fmt: skip

    def ask(self, kind: str, count: int) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([kind, count]), file=self.process.stdin, flush=True)
        line = next((line for line in self.process.stdout if line.startswith("{")), None)
        if line is None:
            sys.exit(f"{self.name} failed:\n{self.errors.read_text()}")
        return json.loads(line)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def command(name: str, options: argparse.Namespace) -> list[str]:
    """How to run this file for one side."""
    script = str(Path(__file__).resolve())
    if name.startswith("ours"):
        return [sys.executable, script]
    if options.peer_python:
        return [options.peer_python, script]
    version = torch.__version__.split("+")[0]
    packages = ["--with", PEER, "--with", f"torch=={version}"]
    packages += ["--with", "onnx", "--with", "onnxslim", "--with", "onnxruntime"]
    # --no-project: the peer's environment is its own, outside of our lock
    return ["uv", "run", "--no-project", "--python", sys.executable, *packages, "python", script]


def compare(model: str, options: argparse.Namespace, folder: Path) -> dict[str, dict]:
    """Print the rows of one network, and return the stages of every side."""
    sides: list[Side] = []
    try:
        for number, name in enumerate(options.sides):
            place = folder / f"{model}-{number}"
            place.mkdir()
            sides.append(Side(name, model, options, place))
            found = sides[-1].ask("single", 3)["found"]  # loads what is loaded lazily, while nobody else works
            print(f"{name}: {found} detections", file=sys.stderr)
        runs: dict[str, list[tuple[dict, dict]]] = {side.name: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                runs[side.name].append((side.ask("single", options.runs), side.ask("folder", 0)))
        stages = {
            side.name: {**side.ask("stages", options.runs)["stages"], "stream": side.ask("stream", 0)["stream"]}
            for side in sides
        }
    finally:
        for side in sides:
            side.end()
    for name, own in runs.items():
        peer = runs.get("ultralytics, ONNX" if name.endswith("ONNX") else "ultralytics", own)
        single = statistics.median(one["clock"] / options.runs for one, _ in own) * 1000
        rate = statistics.median(many["pictures"] / many["clock"] for _, many in own)
        busy = statistics.median(many["busy"] / many["pictures"] for _, many in own) * 1000
        ratios = [
            statistics.median(a[which][key] / b[which][key] for a, b in zip(own, peer, strict=True))
            for which, key in ((0, "clock"), (1, "clock"), (1, "busy"))
        ]
        cells = [f"{single:.1f}", f"{rate:.1f}", f"{busy:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
        print(f"| {model} | {name} | {' | '.join(cells)} |", flush=True)
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with images/train/*.jpg")
    parser.add_argument("--models", nargs="+", default=list(PEER_MODELS), choices=PEER_MODELS)
    parser.add_argument("--stream", type=int, default=200, help="pictures of the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20, help="of the single picture, each time a side has its turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, metavar="SIDE")
    parser.add_argument("--peer-python", help="Python of an environment that has the peer, where uv cannot make one")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    from yolo.core.images import read_image
    from yolo.core.letterbox import letterbox

    print(f"torch {torch.__version__}, {PEER}, Python {platform.python_version()}, {options.threads} threads, ", end="")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.pictures = folder / "pictures"
        options.pictures.mkdir()
        sources = sorted((options.data / "images" / "train").glob("*.jpg"))
        np.save(folder / "canvas.npy", letterbox(read_image(sources[0]), (SIZE, SIZE))[0])
        for number in range(options.stream):
            source = sources[number % len(sources)]
            shutil.copy(source, options.pictures / f"{number:04}_{source.name}")
        print("| | | ms a picture | pictures a second of a folder | ms of processors a picture | ", end="")
        print("time ratio | folder's time ratio | processor ratio |\n" + "|---" * 8 + "|", flush=True)
        stages = {model: compare(model, options, folder) for model in options.models}
    print(f"\n| ms of a single picture | | {' | '.join(STAGES)} | all | outside the network |")
    print("|---" * (len(STAGES) + 4) + "|")
    for model, sides in stages.items():
        for name, spent in sides.items():
            times = [spent[stage] * 1000 for stage in STAGES]
            outside = sum(times) - spent["network"] * 1000
            print(f"| {model} | {name} | {' | '.join(f'{t:.2f}' for t in (*times, sum(times), outside))} |")
    print("\n| ms a picture of the folder | | all | network | outside the network |\n" + "|---" * 5 + "|")
    for model, sides in stages.items():
        for name, spent in sides.items():
            times = [spent["stream"][key] * 1000 for key in ("all", "network")]
            print(f"| {model} | {name} | {times[0]:.2f} | {times[1]:.2f} | {times[0] - times[1]:.2f} |")
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
