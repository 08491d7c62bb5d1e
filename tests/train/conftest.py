"""Data small enough for many short trainings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings
from yolo.data.synthetic import ensure_synthetic
from yolo.training.metrics import Detected, Evaluation, Evaluator, Protocol
from yolo.training.metrics.analysis import Analysis
from yolo.training.metrics.flat import Detections, Truth


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four validation pictures of 64 pixels, in both layouts."""
    return ensure_synthetic(tmp_path_factory.mktemp("tiny") / "data", train=8, val=4, image_size=64)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer list of two heads that trains several times as fast as the smallest published network."""
    path = tmp_path_factory.mktemp("network") / "small.yaml"
    path.write_text(
        "name: small\n"
        "class_width: {per_class: 2, at_most: 128}\n"
        "backbone:\n"
        "  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}\n"
        "  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}}\n"
        "  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B3}\n"
        "  - AConv: {args: {out_channels: 16}, tags: B4}\n"
        "detection:\n"
        "  - MultiheadDetection: {source: [B3, B4], tags: Main}\n"
    )
    return path


@pytest.fixture(scope="session")
def short_training(tiny_data: Path) -> Callable[..., list[str]]:
    """Options of a training of one epoch that takes seconds and is quiet: a network, a folder, and others by key."""

    def options(network: Path, root: Path, **more: object) -> list[str]:
        settings = {
            "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
            "data.close_mosaic_epochs": 0, "model.model_config": network, "model.warmup_epochs": 0, "ema.tau": 3,
            "trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.limit_val_batches": 0,
            "progress.enabled": "false", "summary.enabled": "false", "record.enabled": "false",
            "trainer.logger.init_args.save_dir": root,
        }  # fmt: skip
        return [f"--{key}={value}" for key, value in {**settings, **more}.items()]

    return options


Box = tuple[float, float, float, float]
Picture = tuple[Sequence[tuple[int, Box]], Sequence[tuple[int, float, Box]]]


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., Evaluation]:
    """Evaluate written-down pictures: for each its objects (label, box) and its detections (label, score, box)."""

    def evaluate(names: Sequence[str], pictures: Sequence[Picture], *, confidence: float = 0.25) -> Evaluation:
        truth = [entry for objects, _ in pictures for entry in objects]
        boxes = np.array([box for _, box in truth], np.float32).reshape(-1, 4)
        evaluator = Evaluator(
            LabelTable(
                class_names=tuple(names),
                category_ids=tuple(range(1, len(names) + 1)),
                paths=PackedStrings.pack([f"/nowhere/{index}.jpg" for index in range(len(pictures))]),
                sizes=np.full((len(pictures), 2), 640, np.int32),
                offsets=np.cumsum([0, *(len(objects) for objects, _ in pictures)], dtype=np.int64),
                boxes=boxes,
                labels=np.array([label for label, _ in truth], np.int64),
                crowd=np.zeros(len(truth), bool),
                area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
                image_ids=np.arange(len(pictures)),
            )
        )
        for index, (_, found) in enumerate(pictures):
            entry = Detected(
                np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
                np.array([score for _, score, _ in found], np.float32),
                np.array([label for label, _, _ in found], np.int64),
            )
            evaluator.update([index], [entry])
        return evaluator.compute(Protocol(0.001, 0.65, 300, (640, 480)), operating_confidence=confidence)

    return evaluate


@pytest.fixture(scope="session")
def scene() -> Callable[..., Analysis]:
    """A function from rows to an analysis.

    Objects are ``(image, x1, y1, x2, y2, label)``, with a seventh value that is true for a crowd; detections are
    ``(image, x1, y1, x2, y2, label, score)``. Both in any order of images.
    """

    def make(
        objects: Sequence[Sequence[float]], found: Sequence[Sequence[float]], *, classes: int = 3, images: int = 1,
        confidence: float = 0.0,
    ) -> Analysis:  # fmt: skip
        objects, found = sorted(objects, key=lambda row: row[0]), sorted(found, key=lambda row: row[0])
        true = np.array([(*row, 0)[:7] for row in objects], float).reshape(-1, 7)
        seen = np.array(found, float).reshape(-1, 7)
        truth = Truth(
            image=true[:, 0].astype(np.int64), boxes=true[:, 1:5], labels=true[:, 5].astype(np.int64),
            crowd=true[:, 6] > 0, area=(true[:, 3] - true[:, 1]) * (true[:, 4] - true[:, 2]), images=images,
            class_names=tuple(f"class {i}" for i in range(classes)),
        )  # fmt: skip
        labels = seen[:, 5].astype(np.int64)
        return Analysis(Detections(seen[:, 0].astype(np.int64), seen[:, 1:5], seen[:, 6], labels), truth, confidence)

    return make


@pytest.fixture(scope="session")
def random_scene(scene: Callable[..., Analysis]) -> Callable[..., Analysis]:
    """A function from a seed to an analysis with crowds; in every other case with equal scores and equal overlaps."""

    def make(seed: int, *, images: int = 6, classes: int = 3, confidence: float = 0.0) -> Analysis:
        rng = np.random.default_rng(seed)
        coarse = seed % 2 == 1

        def box() -> list[float]:
            corner, size = rng.uniform(0, 60, 2), rng.uniform(8, 60, 2)
            values = np.concatenate([corner, corner + size])
            return (values // 8 * 8 + [0, 0, 8, 8] if coarse else values).tolist()

        objects, found = [], []
        for image in range(images):
            for _ in range(rng.integers(0, 7)):
                true, label = box(), int(rng.integers(classes))
                objects.append((image, *true, label, rng.random() < 0.15))
                for _ in range(rng.integers(0, 5)):
                    moved = np.array(true) + (rng.integers(-1, 2, 4) * 8 if coarse else rng.normal(0, 5, 4))
                    moved[2:] = np.maximum(moved[2:], moved[:2] + 4)
                    taken = label if rng.random() < 0.7 else int(rng.integers(classes))
                    score = rng.integers(0, 8) / 8 if coarse else rng.random()
                    found.append((image, *moved.tolist(), taken, float(score)))
            found += [(image, *box(), int(rng.integers(classes)), float(rng.random())) for _ in range(3)]
        return scene(objects, found, classes=classes, images=images, confidence=confidence)

    return make


@pytest.fixture(scope="session")
def small_checkpoint(small_network: Path, synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of that network, not trained, which says that it was trained on the synthetic data at 96 pixels."""
    import torch

    from yolo.core.models import build_model
    from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
    from yolo.data.shapes import SHAPES

    torch.manual_seed(1)
    network = build_model(small_network, len(SHAPES), image_size=(96, 96))
    settings = {"root": str(synthetic_data), "format": "coco", "image_size": [96, 96]}
    bundle = ModelBundle(
        network.spec.to_dict(),
        network.state_dict(),
        class_names=tuple(SHAPES),
        image_size=(96, 96),
        extra={"weights": "ema", "data": settings, "epoch": 2},
    )
    path = tmp_path_factory.mktemp("small") / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save({BUNDLE_KEY: bundle.to_dict()}, path)
    return path
