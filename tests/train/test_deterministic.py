"""One seed, one training: every loss, every metric and every weight, however the images are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from yolo.data.loader import build_loader
from yolo.training.run_facts import hash_of_network
from yolo.training.trainer_cli import YOLOCLI, run_fit


@dataclass
class Course:
    """What a training went through."""

    losses: list[tuple[float, ...]] = field(default_factory=list)
    found: list[dict[int, list[float]]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    weights: str = ""
    workers: set[int] = field(default_factory=set)
    batches: list[int] = field(default_factory=list)


class Recorder(Callback):
    def __init__(self, course: Course) -> None:
        self.course = course

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        terms = [float(trainer.callback_metrics[f"train/{name}_step"]) for name in ("loss", "box", "cls", "dfl")]
        self.course.losses.append((float(outputs["loss"]), *terms))
        self.course.batches.append(int(batch.images.sum()))

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            found = {index: one.scores.tolist() for index, one in pl_module.detections.items()}
            self.course.found.append(found)

    def on_validation_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            self.course.metrics.append(pl_module.metrics_of_epoch())

    def on_train_end(self, trainer, pl_module) -> None:
        self.course.workers = {trainer.train_dataloader.num_workers, trainer.val_dataloaders.num_workers}
        self.course.weights = hash_of_network(pl_module.model)


EVERYTHING = {
    "data.mosaic_prob": 0.7, "data.mosaic_9_prob": 0.3, "data.mixup_prob": 0.5, "data.cutmix_prob": 0.5,
    "data.degrees": 10, "data.shear": 3, "data.perspective": 0.0005, "data.flip_lr": 0.5, "data.flip_ud": 0.5,
    "data.hsv_h": 0.1, "data.close_mosaic_epochs": 1, "data.bbox_mosaic.prob": 0.2, "seed_everything": 5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, any number of workers, and afterwards none that is left over."""
    monkeypatch.setattr("yolo.data.workers._cores", lambda: 99)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    gc.collect()


def train(data: Path, root: Path, **more: Any) -> Course:
    """Run ``yolo fit`` and record it."""
    course = Course()

    class RecordingCLI(YOLOCLI):
        def _instantiate_trainer(self, *args):
            trainer = super()._instantiate_trainer(*args)
            trainer.callbacks.append(Recorder(course))
            return trainer

    settings = {
        **EVERYTHING, "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "model.warmup_epochs": 1, "ema.tau": 3, "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu", "record.images": 0, "trainer.logger.init_args.save_dir": root, **more,
    }  # fmt: skip
    assert run_fit([f"--{key}={value}" for key, value in settings.items()], RecordingCLI) == 0
    return course


@pytest.fixture(scope="module")
def course(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A training without workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = train(tiny_data, tmp_path_factory.mktemp("first"))
    torch.set_num_threads(threads)
    assert len(made.losses) == 8 and len(made.metrics) == 2 and made.metrics[0] and made.workers == {0}
    assert len(set(made.batches)) == 8 and all(len(found) == 4 and found[0] for found in made.found)
    return made


def same(first: Course, second: Course) -> None:
    assert second.batches == first.batches
    assert second.losses == first.losses, "bit for bit"
    assert second.found == first.found and second.metrics == first.metrics
    assert second.weights == first.weights


@pytest.mark.parametrize(
    ("workers", "context", "persistent"),
    [
        (0, None, True),
        (2, "fork", True),
        pytest.param(3, "fork", False, marks=pytest.mark.slow),
        pytest.param(2, "spawn", True, marks=pytest.mark.slow),
        pytest.param(1, "spawn", False, marks=pytest.mark.slow),
    ],
)
def test_workers_change_nothing(
    workers: int, context: str | None, persistent: bool, course: Course, tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def build(*args, **kwargs):
        loader = build_loader(*args, context=context, **kwargs)
        vars(loader)["persistent_workers"] = persistent and workers > 0
        return loader

    monkeypatch.setattr("yolo.training.datamodule.build_loader", build)
    again = train(tiny_data, tmp_path, **{"data.num_workers": workers})
    assert again.workers == {min(workers, count) for count in (4, 2)}, "no more workers than batches"
    same(course, again)


def test_another_seed_is_another_training(course: Course, tiny_data: Path, tmp_path: Path) -> None:
    other = train(tiny_data, tmp_path, **{"seed_everything": 6, "trainer.max_epochs": 1, "data.close_mosaic_epochs": 0})
    assert not set(other.batches) & set(course.batches)
    assert not set(other.losses) & set(course.losses)


def test_lightnings_deterministic_mode_trains_and_validates_alike(tiny_data: Path, tmp_path: Path) -> None:
    more = {"trainer.deterministic": "true", "trainer.max_epochs": 1, "trainer.limit_train_batches": 2}
    try:
        first, second = (train(tiny_data, tmp_path / name, **more) for name in ("first", "second"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(first.losses) == 2 and first.metrics[0]
    same(first, second)
