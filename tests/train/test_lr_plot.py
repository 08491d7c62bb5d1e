"""``yolo lr-plot``: what is printed and drawn is what ``yolo fit`` does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.training.schedule_preview import run_preview
from yolo.training.trainer_cli import make_cli, run_fit


class Watch(Callback):
    """Notes what each optimiser step used, and what was in the gradients."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []
        self.momenta: list[float] = []
        self.norms: list[float] = []
        self.gradients: list[float] = []

    def on_train_start(self, trainer, pl_module) -> None:
        def after_a_step(*_) -> None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self.norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            self.gradients.append(float(gradients[0].flatten()[0]))

        trainer.optimizers[0].register_step_post_hook(after_a_step)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
        self.momenta.append(optimizer.param_groups[-1].get("momentum", 0.0))


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.close_mosaic_epochs": 0, "model.model_config": "v9-t", "model.warmup_epochs": 1,
        "trainer.max_epochs": 4, "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 0,
        "trainer.limit_val_batches": 0, "trainer.accumulate_grad_batches": 3, "record.images": 0,
        "trainer.logger.init_args.save_dir": root, "trainer.enable_progress_bar": "false",
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


def rows(printed: str) -> dict[str, list[float]]:
    """The table: step, epoch, rate, bias rate, momentum by what the row is."""
    lines = printed.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.split()[:2] == ["Step", "Epoch"]) + 1 : -1]
    split = [line.rsplit(maxsplit=5) for line in table]
    return {name.strip(): [float(n.replace(",", "")) for n in numbers if n != "-"] for name, *numbers in split}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["cosine", "linear", "step", "one_cycle"])
def test_the_numbers_of_every_schedule(
    name: str, optimizer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "lr.png"
    args = ["--config", "default", f"--model.lr_scheduler={name}", f"--model.optimizer={optimizer}", "-o", str(output)]
    assert run_preview([*args, "--steps-per-epoch", "50", "--trainer.max_epochs=40"]) == 0
    printed = capsys.readouterr().out
    table = rows(printed)
    assert f"{name}, {optimizer}, learning rate 0.01: 2,000 optimiser steps in 40 epochs" in printed
    assert table["first step"] == [0, 0, 0, *([0.1, 0.8] if optimizer == "sgd" else [0])]
    assert table["warm-up done"][:2] == [150, 3] and table["last step"][:2] == [1999, 39.98]
    assert ("50 %" in table) and table["50 %"][0] == 1000
    with Image.open(output) as picture:
        assert picture.format == "PNG" and picture.width == 900


def test_it_is_what_fit_does_with_accumulation(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight images in batches of two: four batches, which accumulation over three makes two steps of."""
    cli = make_cli(options(tiny_data, tmp_path))
    watch = Watch()
    cli.trainer.callbacks.append(watch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert len(watch.rates) == 8
    capsys.readouterr()
    assert run_preview([*options(tiny_data, tmp_path), "--output", str(tmp_path / "lr.svg")]) == 0
    printed = capsys.readouterr().out
    assert "2 steps an epoch (8 images, batch size 2, accumulation over 3 batches), 2 of warm-up" in printed
    for step, _, rate, bias, momentum in rows(printed).values():
        used = watch.rates[int(step)]
        assert (used["weight"], used["bias"]) == (pytest.approx(rate, rel=1e-5), pytest.approx(bias, rel=1e-5))
        assert watch.momenta[int(step)] == pytest.approx(momentum, rel=1e-3)


def test_a_longer_run_is_shown_as_it_will_go_on(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_fit(options(tiny_data, tmp_path, **{"trainer.max_epochs": 2})) == 0
    last = tmp_path / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    more = [*options(tiny_data, tmp_path, **{"trainer.max_epochs": 6}), f"--ckpt_path={last}"]
    capsys.readouterr()
    assert run_preview([*more, "-o", str(tmp_path / "lr.png")]) == 0
    table = rows(capsys.readouterr().out)
    assert table["resumed"][:2] == [4, 2] and table["last step"][0] == 11
    cli = make_cli(more)
    watch = Watch()
    cli.trainer.callbacks.append(watch)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(last))
    assert len(watch.rates) == 8
    assert watch.rates[0]["weight"] == pytest.approx(table["resumed"][2])
    assert [rates["weight"] for rates in watch.rates] == pytest.approx([0.0001] * 8)


def test_accumulation_keeps_the_scale_of_one_batch_and_gradients_are_clipped(tiny_data: Path, tmp_path: Path) -> None:
    for limit in (None, 0.5):
        more = {"trainer.max_epochs": 1, "trainer.accumulate_grad_batches": 2}
        more |= {} if limit is None else {"trainer.gradient_clip_val": limit}
        cli = make_cli([*options(tiny_data, tmp_path, **more), "--ema.enabled=false"])
        watch = Watch()
        cli.trainer.callbacks.append(watch)
        module = cli.model
        # The gradient of batch i is 1, 2, 3, 4 in every element of one kernel.
        module.training_step = lambda _, i, m=module: next(m.model.parameters()).sum() * (i + 1)
        cli.trainer.fit(module, datamodule=cli.datamodule)
        if limit is None:
            assert watch.gradients == pytest.approx([1.5, 3.5]), "the mean over the batches of a step"
        else:
            assert watch.norms == pytest.approx([limit, limit], rel=1e-4)


def test_wrong_options_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--config", "default", "--steps-per-epoch=5"]
    with pytest.raises(UsageError, match=r"lr\.gif: the name has to end with \.png"):
        run_preview([*base, "-o", str(tmp_path / "lr.gif")])
    with pytest.raises(UsageError, match="Did you mean 'cosine'"):
        run_preview([*base, "--model.lr_scheduler=cosin", "-o", str(tmp_path / "lr.png")])
    with pytest.raises(UsageError, match="steps-per-epoch 0"):
        run_preview([*base, "--steps-per-epoch=0", "-o", str(tmp_path / "lr.png")])
    assert main(["lr-plot", "--config", "default", f"--data.root={tmp_path / 'nowhere'}"]) == 2
    assert "--steps-per-epoch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_wants_to_see_a_training_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four GPUs, a logger and callbacks of the configuration are not asked for: nothing is trained."""
    config = tmp_path / "run.yaml"
    config.write_text(
        "trainer: {accelerator: gpu, devices: 4, strategy: ddp, max_epochs: 5, precision: 16-mixed,\n"
        "  callbacks: [{class_path: lightning.pytorch.callbacks.DeviceStatsMonitor}]}\n"
        "data: {format: synthetic, batch_size: 8}\n"
    )
    output = tmp_path / "lr.png"
    args = ["lr-plot", "--config", str(config), f"--data.root={tmp_path / 'drawn'}", "--output", str(output)]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "4 processes" in printed and output.is_file()
    assert not (tmp_path / "runs").exists()
