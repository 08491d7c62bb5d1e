"""``yolo tune batch-size``: real steps are measured, and nothing is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from yolo.cli.main import main
from yolo.data.config import DataConfig
from yolo.training.callbacks import EMACallback
from yolo.training.module import YOLOModule
from yolo.training.tuning import steps
from yolo.training.tuning.samples import drawn_samples, filled_batch, real_samples
from yolo.training.tuning.settings import Pictures
from yolo.training.tuning.steps import StepJob, measure_steps


def everything_in(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


@pytest.fixture
def job() -> StepJob:
    return StepJob(
        model={"model_config": "v9-t"},
        data=DataConfig(root="nowhere", format="yolo", image_size=64, batch_size=3),
        trainer={"accelerator": "cpu", "devices": 1},
        class_names=("a", "b"),
        samples=tuple(drawn_samples((64, 64), boxes=3, classes=2, count=4)),
        seconds=0.001,
    )


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """The trainers that were made; and this process keeps its log."""
    made: list[Trainer] = []

    def make(**arguments: object) -> Trainer:
        made.append(Trainer(**arguments))
        return made[-1]

    monkeypatch.setattr(steps, "Trainer", make)
    monkeypatch.setattr(steps, "_be_quiet", lambda: None)
    return made


def test_steps_are_those_of_a_training(
    job: StepJob, trainers: list[Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before: dict[str, torch.Tensor] = {}
    build = YOLOModule._build

    def kept(module: YOLOModule) -> None:
        build(module)
        before.update({name: value.clone() for name, value in module.model.state_dict().items()})

    monkeypatch.setattr(YOLOModule, "_build", kept)
    figures = measure_steps(replace(job, trainer={**job.trainer, "precision": "bf16-mixed", "gradient_clip_val": 10.0}))
    (trainer,) = trainers
    assert (trainer.precision, trainer.gradient_clip_val) == ("bf16-mixed", 10.0)
    assert figures.rate is not None and figures.rate.median > 0 and figures.device == "cpu"
    # The first batch is not measured, and on a CPU every other one is.
    assert trainer.global_step == figures.rate.count + 1
    module = trainer.lightning_module
    after = module.model.state_dict()
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    assert len(moved) > 0.8 * len(after)
    average = next(callback for callback in trainer.callbacks if isinstance(callback, EMACallback))
    assert average.updates == trainer.global_step
    assert figures.memory is None or figures.memory > 100_000_000
    assert everything_in(tmp_path) == []


def test_what_does_not_fit_is_no_error(job: StepJob, trainers: list[Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(YOLOModule, "training_step", too_much)
    assert measure_steps(job).rate is None


def test_batches_of_any_size_from_a_few_samples(synthetic_data: Path) -> None:
    pictures = Pictures.open(DataConfig(root=str(synthetic_data), format="yolo", image_size=64, batch_size=8))
    samples = real_samples(pictures.config, pictures.table, pictures.images, count=6)
    crowds = [len(sample.targets) for sample in samples]
    assert crowds == sorted(crowds, reverse=True) and crowds[0] > 0
    assert all(sample.image.shape == (64, 64, 3) for sample in samples)
    assert filled_batch(samples, 4, 1).ids.tolist() == [samples[at].index for at in (4, 5, 0, 1)]
    batch = filled_batch(samples, 20)
    assert batch.images.shape == (20, 3, 64, 64) and batch.ids[6:12].tolist() == batch.ids[:6].tolist()
    assert len(batch.boxes) == sum(crowds) * 3 + sum(crowds[:2])


def test_the_command(synthetic_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything_in(synthetic_data)
    args = [f"--data.root={synthetic_data}", "--data.image_size=64", "--data.batch_size=2", "--data.cache_images=disk"]
    args += [f"--data.cache_dir={tmp_path}"]
    args += ["--model.model_config=v9-t", "--trainer.accelerator=cpu", "--trainer.accumulate_grad_batches=2"]
    assert main(["tune", "batch-size", *args, "--seconds=0.01", "--largest=2", "--json=figures.json"]) == 0
    printed = capsys.readouterr()
    assert "v9-t at 64x64, 32-true, 16 samples of" in printed.out
    assert "Steps of 4 images" in printed.out and "There is no image cache yet" in printed.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [trial["batch"] for trial in figures["trials"]] == [1, 2]
    assert all(trial["rate"]["median"] > 0 and trial["rate"]["count"] >= 1 for trial in figures["trials"])
    advice = figures["advice"]
    assert advice["batch"] * advice["accumulate"] == 4
    assert (
        f"--data.batch_size {advice['batch']} --trainer.accumulate_grad_batches {advice['accumulate']}" in printed.out
    )
    assert everything_in(tmp_path) == [str(tmp_path / "figures.json")]
    assert everything_in(synthetic_data) == before


def test_noise_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [f"--data.root={tmp_path / 'nowhere'}", "--data.image_size=64", "--model.model_config=v9-t"]
    args += ["--trainer.accelerator=cpu", "--seconds=0.01", "--largest=1", "--effective=6"]
    assert main(["tune", "batch-size", *args, "--boxes=5"]) == 0
    assert "--data.batch_size 1 --trainer.accumulate_grad_batches 6" in capsys.readouterr().out
    assert main(["tune", "batch-size", *args]) != 0
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--seconds=0"], "--seconds 0: it has to be above 0"),
        (["--largest=-3"], "--largest -3"),
        (["--ckpt_path=last.ckpt"], "--ckpt_path: nothing is resumed here"),
        (["--trainer.accelerator=gpu"], "a batch of 1 image does not work"),
    ],
)
def test_mistakes_are_one_line(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "gpu" in options[0] and torch.cuda.is_available():
        pytest.skip("there is one here")
    args = ["--data.root=nowhere", "--data.image_size=64", "--model.model_config=v9-t", "--boxes=2", *options]
    assert main(["tune", "batch-size", *args]) in (1, 2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and text in lines[0]
