"""A run that is stopped and goes on is the run that was never stopped, to the last bit, wherever it was stopped."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger

from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.callbacks import (
    EMACallback,
    InterruptCallback,
    RunRecord,
    Stopped,
    YOLOCheckpoint,
    YOLOEarlyStopping,
)
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule

Fit = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("yolo.training.callbacks.record.draw_curves", lambda *_: None)  # half of the time
    yield
    torch.set_num_threads(before)


class StopAt(Callback):
    """Asks for a stop in the middle of a hook, the n-th time it is called."""

    def __init__(self, place: str) -> None:
        self.hook, _, count = place.partition(":")
        self.left = int(count)

    def _count(self, trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.left -= 1
            if self.left == 0:
                next(c for c in trainer.callbacks if isinstance(c, InterruptCallback)).stop()

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        return own(self, "_count") if name == own(self, "__dict__").get("hook") else own(self, name)


class Noise(Callback):
    """Makes the weights depend on every process-wide random generator, and logs a score that goes up and down."""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        layer = pl_module.model.state_dict()["0.conv.weight"]
        pl_module.log("val/score", torch.sin(1e4 * layer.sum()))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        for parameter in pl_module.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= 1 + 0.1 * (torch.rand(()) + np.random.rand() + random.random())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that outlive a test."""
    return {"whole": tmp_path_factory.mktemp("whole")}


@pytest.fixture
def fit(tiny_data: Path, small_network: Path, tmp_path: Path, places: dict[str, Path]) -> Fit:
    def run(
        *,
        folder: str = "run",
        stop: str = "",
        resume: Path | None = None,
        more: tuple[Callback, ...] = (),
        data: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        ema: bool = True,
        stopping: dict[str, Any] | None = None,
        interrupt: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        pictures = {"root": str(tiny_data), "image_size": 64, "batch_size": 3, "num_workers": 0, "mixup_prob": 0.5}
        source = YOLODataModule(**{**pictures, "close_mosaic_epochs": 1, **(data or {})})
        module = YOLOModule(**{"model_config": str(small_network), "warmup_epochs": 1, **(model or {})})
        module.resume_from = str(resume) if resume else None
        callbacks = [
            *([StopAt(stop)] if stop else []),
            Noise(),
            EMACallback(tau=3, enabled=ema),
            YOLOEarlyStopping(**{"monitor": "val/score", **(stopping or {})}),
            RunRecord(images=0),
            InterruptCallback(**(interrupt or {})),
            *more,
            *(
                []
                if any(isinstance(c, YOLOCheckpoint) for c in more)
                else [YOLOCheckpoint(monitor="val/score", save_last=True)]
            ),
        ]
        version = {"version": int(resume.parents[1].name.partition("_")[2])} if resume else {}
        trainer = Trainer(
            **{"max_epochs": 3, "num_sanity_val_steps": 0, **options},
            accelerator="cpu",
            logger=CSVLogger(places[folder] if folder in places else tmp_path / folder, name="yolo", **version),
            callbacks=callbacks,
            plugins=AtomicCheckpointIO(),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        stopped = False
        try:
            trainer.fit(module, datamodule=source, ckpt_path=resume, weights_only=True)
        except Stopped:
            stopped = True
        return outcome(trainer, module) | {"stopped": stopped}

    return run


def outcome(trainer, module) -> dict[str, Any]:
    """All that two runs are compared by, and where their files are."""
    savers = [c for c in trainer.callbacks if isinstance(c, YOLOCheckpoint)]
    run = Path(trainer.logger.log_dir)
    (stopping,) = [c for c in trainer.callbacks if isinstance(c, YOLOEarlyStopping)]
    (ema,) = [c for c in trainer.callbacks if isinstance(c, EMACallback)]
    return {
        "run": run,
        "steps": trainer.global_step,
        "logged_steps": trainer.fit_loop.epoch_loop._batches_that_stepped,
        "raw": {name: value.clone() for name, value in module.model.state_dict().items()},
        "average": {name: value.clone() for name, value in (ema.average or {}).items()},
        "updates": ema.updates,
        "optimizer": trainer.optimizers[0].state_dict() if trainer.optimizers else {},
        "table": (run / "results.csv").read_text() if (run / "results.csv").exists() else "",
        "best": [(Path(s.best_model_path).name, s.best_model_score) for s in savers],
        "kept": [{Path(name).name: score for name, score in s.best_k_models.items()} for s in savers],
        "stopping": stopping.state_dict(),
    }


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Compare nested values to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if key not in ("run", "stopped"):
                assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    """Results of whole runs, by their settings."""
    return {}


EVERYWHERE = (
    "on_train_batch_start:1",  # in the first step of all
    "on_train_batch_end:2",  # in the middle of an epoch
    "on_train_batch_end:6",  # after the last batch of an epoch, before its validation
    "on_validation_start:2",
    "on_validation_batch_end:3",  # in the middle of a validation
    "on_validation_end:1",
    "on_train_epoch_end:1",  # between two epochs
)


def check(fit: Fit, known: dict[str, Any], stop: str, **more: Any) -> dict[str, Any]:
    """Run without a stop (once for the same settings), and with one, and compare."""
    key = repr(more)
    if key not in known:
        known[key] = fit(folder="whole", **more)
    first = fit(folder="first", stop=stop, **more)
    assert first["stopped"]
    last = first["run"] / "checkpoints" / "last.ckpt"
    second = fit(folder="first", resume=last, **more)
    assert second["run"] == first["run"]
    assert_equal(second, known[key])
    return second


@pytest.mark.parametrize("stop", EVERYWHERE)
def test_stopped_anywhere(stop: str, fit: Fit, known: dict[str, Any]) -> None:
    check(fit, known, stop)


SETTINGS: dict[str, dict[str, Any]] = {
    "several": {
        "accumulate_grad_batches": 2,
        "model": {"optimizer": "adamw", "learning_rate": 0.001},
        "data": {"num_workers": 2, "prefetch_factor": 2},
    },
    "accumulation": {"accumulate_grad_batches": 2},
    "adamw": {"model": {"optimizer": "adamw", "learning_rate": 0.001}},
    "workers": {"data": {"num_workers": 2, "prefetch_factor": 2}},
    "shortened": {"limit_train_batches": 2},
    "validated often": {"val_check_interval": 0.4},
    "validated early": {"val_check_interval": 2},
    "validated within steps": {"val_check_interval": 1, "accumulate_grad_batches": 2},
    "validated seldom": {"check_val_every_n_epoch": 2},
    "not validated": {"limit_val_batches": 0},
    "steps": {"max_epochs": -1, "max_steps": 7},
    "steps shortened": {"max_epochs": -1, "max_steps": 7, "limit_train_batches": 2},
    "plain": {"ema": False},
}


def slow(*values: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


PLACES = (
    ("several", "on_train_batch_end:1"),  # between two batches of a step
    ("several", "on_validation_batch_end:1"),
    slow("accumulation", "on_train_batch_end:1"),
    slow("accumulation", "on_train_batch_end:5"),
    slow("accumulation", "on_validation_batch_end:1"),
    slow("adamw", "on_train_batch_end:4"),
    slow("workers", "on_train_batch_end:4"),
    slow("workers", "on_validation_batch_end:1"),
    slow("shortened", "on_train_batch_end:1"),
    ("shortened", "on_train_batch_end:2"),
    slow("shortened", "on_train_epoch_end:1"),
    slow("validated often", "on_validation_batch_end:3"),
    slow("validated often", "on_validation_end:2"),
    slow("validated often", "on_validation_end:3"),
    ("validated early", "on_train_batch_end:3"),  # the metrics of the epoch are those of a batch ago
    slow("validated within steps", "on_train_batch_end:1"),
    slow("validated within steps", "on_train_batch_end:2"),
    slow("validated within steps", "on_train_batch_end:3"),
    slow("validated within steps", "on_validation_batch_end:1"),
    slow("validated within steps", "on_validation_batch_end:2"),
    ("validated seldom", "on_train_batch_end:3"),  # the end of an epoch is all that is left of it
    slow("validated seldom", "on_validation_end:1"),
    slow("not validated", "on_train_batch_end:3"),
    slow("steps", "on_train_batch_end:3"),
    slow("steps", "on_validation_batch_end:1"),
    ("steps", "on_train_epoch_end:1"),
    slow("plain", "on_validation_batch_end:1"),
)


@pytest.mark.parametrize(("setting", "stop"), PLACES)
def test_stopped_with(setting: str, stop: str, fit: Fit, known: dict[str, Any]) -> None:
    check(fit, known, stop, **SETTINGS[setting])


FILES = (
    slow("always", "at-step=2"),
    ("always", "at-step=3"),  # after the last batch of an epoch, before its validation
    slow("always", "val-step=3"),
    slow("always", "val-step=9"),  # all is done
    slow("always", "last"),
    slow("accumulation", "at-step=3"),
    slow("accumulation", "at-step=4"),
    slow("shortened", "at-step=2"),
    slow("shortened", "val-step=4"),
    ("validated often", "val-step=2"),  # in the middle of an epoch
    slow("validated often", "val-step=3"),
    slow("validated seldom", "at-step=3"),
    ("validated seldom", "val-step=6"),  # the end of an epoch that was validated is all that is left of it
    slow("not validated", "at-step=3"),
    slow("steps", "at-step=3"),
    slow("steps", "val-step=3"),
    ("steps shortened", "val-step=4"),
)


@pytest.mark.parametrize(("setting", "name"), FILES)
def test_killed_after_a_file_was_written(
    setting: str, name: str, fit: Fit, runs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Any file of a run will do; the folder was moved, and whatever was written later is gone."""

    def savers() -> tuple[Callback, ...]:
        every = YOLOCheckpoint(filename="at-{step}", monitor=None, every_n_train_steps=1, save_top_k=-1)
        return every, YOLOCheckpoint(filename="val-{step}", monitor="val/score", save_top_k=-1, save_last=True)

    options = SETTINGS.get(setting, {})
    if setting not in runs:
        runs[setting] = fit(folder="whole", more=savers(), **options)
    moved = tmp_path / "moved" / "yolo" / "version_0"
    shutil.copytree(runs[setting]["run"], moved)
    step = int(name.partition("=")[2] or 9)
    files = moved / "checkpoints"
    for file in files.iterdir():
        if file.stem != name and int(file.stem.partition("=")[2] or 9) > step:
            file.unlink()
    got = fit(folder="moved", resume=files / f"{name}.ckpt", more=savers(), **options)
    assert got["run"] == moved
    assert_equal(got, runs[setting])


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    """Results of whole runs that kept files of every step and validation, by their settings."""
    return {}


def test_stopped_three_times(fit: Fit, known: dict[str, Any]) -> None:
    whole = known.get("{}") or fit(folder="whole")
    last = None
    for stop in ("on_train_batch_end:2", "on_train_batch_end:1", "on_validation_batch_end:1"):
        last = fit(folder="first", stop=stop, resume=last)["run"] / "checkpoints" / "last.ckpt"
    assert_equal(fit(folder="first", resume=last), whole)


def test_averages_can_be_switched_on_and_off(fit: Fit) -> None:
    with_ema = fit(folder="first", stop="on_train_batch_end:4")
    last = with_ema["run"] / "checkpoints" / "last.ckpt"
    without = fit(folder="first", resume=last, stop="on_train_batch_end:1", ema=False)
    assert (without["steps"], without["updates"], without["average"]) == (5, 0, {})
    raw = torch.load(last, weights_only=True)["state_dict"]
    again = fit(folder="first", resume=last, stop="on_train_batch_end:1")
    assert (again["steps"], again["updates"]) == (6, 1)
    # One update from the weights as they were, at the beginning of the ramp.
    share = 1 - 0.9999 * (1 - math.exp(-1 / 3))
    name = "0.conv.weight"
    torch.testing.assert_close(again["average"][name], raw[f"model.{name}"].lerp(again["raw"][name], share))


def test_another_batch_size_goes_on_at_the_same_share_of_the_epoch(fit: Fit) -> None:
    first = fit(folder="first", stop="on_train_batch_end:2", data={"batch_size": 2})  # 2 of 4
    seen: list[int] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.current_epoch == 0:
                seen.extend(batch.ids.tolist())

    last = first["run"] / "checkpoints" / "last.ckpt"
    batches = fit(folder="first", resume=last, data={"batch_size": 1}, more=(Watch(),), max_epochs=1)
    assert batches["steps"] == 2 + 4
    assert len(seen) == len(set(seen)) == 4


def test_no_picture_comes_twice_or_is_left_out(fit: Fit) -> None:
    seen: list[int] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            seen.extend(batch.ids.tolist())

    last = None
    for _ in range(2):
        options = {"data": {"num_workers": 2, "prefetch_factor": 4}, "more": (Watch(),), "max_epochs": 1}
        last = fit(folder="first", resume=last, stop="on_train_batch_end:1", **options)["run"] / "checkpoints/last.ckpt"
    fit(folder="first", resume=last, **options)
    assert sorted(seen) == list(range(8))


def test_a_finished_run_says_that_it_is_complete(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="yolo.training")
    done = fit(folder="first", max_epochs=1)
    again = fit(folder="first", resume=done["run"] / "checkpoints" / "last.ckpt", max_epochs=1)
    assert again["steps"] == 3
    assert "This run is complete: 1 of 1 epochs; --trainer.max_epochs can be raised." in caplog.messages


def test_watching_changes_nothing(fit: Fit) -> None:
    """The same weights without the callbacks that make a run resumable, and with files at every step."""
    every = (YOLOCheckpoint(filename="at-{step}", monitor=None, every_n_train_steps=1, save_top_k=-1),)
    one = fit(folder="a", max_epochs=1)
    other = fit(folder="b", max_epochs=1, more=every, interrupt={"enabled": False})
    assert_equal(one["raw"], other["raw"])
    assert_equal(one["average"], other["average"])


def test_files_by_time_wait_for_the_end_of_a_step(fit: Fit) -> None:
    always = YOLOCheckpoint(filename="at-{step}", monitor=None, train_time_interval=timedelta(0), save_top_k=-1)
    run = fit(folder="first", more=(always,), accumulate_grad_batches=2, max_epochs=1)["run"]
    states = {file.stem: torch.load(file, weights_only=True) for file in (run / "checkpoints").glob("at-*.ckpt")}
    done = {name: state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"] for name, state in states.items()}
    assert {name: progress["processed"] for name, progress in done.items()} == {"at-step=1": 2, "at-step=2": 3}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_time_limit_saves_and_counts_for_each_process(
    accumulate: int, fit: Fit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batches = []

    class Clock(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            batches.append(batch_idx)

    options = {"max_time": {"seconds": 50}, "more": (Clock(),), "accumulate_grad_batches": accumulate}
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, *_: 100.0 * (len(batches) >= 4) + self._offset)
    first = fit(folder="first", **options)
    assert (first["stopped"], first["steps"]) == (True, 4 if accumulate == 1 else 3)  # the fifth batch ends the step
    assert "Stopped by trainer.max_time in epoch 2 after " in caplog.messages[-1]
    batches.clear()
    last = first["run"] / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)["callbacks"]["Timer"]
    assert state["time_elapsed"]["train"] == 100.0
    second = fit(folder="first", resume=last, **{**options, "max_epochs": 2})
    assert (second["stopped"], second["steps"]) == (False, 6 if accumulate == 1 else 4)
