"""The averages are what is validated and saved, and the training weights are what is trained."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from yolo.core import load_model
from yolo.core.weights.bundle import read_checkpoint
from yolo.training.callbacks import EMACallback, YOLOCheckpoint
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule


class Probe(Callback):
    """Copies weights around the events that matter."""

    def __init__(self) -> None:
        self.during_validation: torch.Tensor | None = None
        self.after_steps: list[torch.Tensor] = []

    @staticmethod
    def weight(module) -> torch.Tensor:
        return module.model.state_dict()["0.conv.weight"].clone()

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.after_steps.append(self.weight(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, *args) -> None:
        self.during_validation = self.weight(pl_module)


def fit(root: Path, data: Path, *callbacks: Callback, epochs: int = 1, ckpt: Path | None = None, **options) -> Trainer:
    module = YOLOModule(model_config="v9-t", learning_rate=0.02, warmup_epochs=0.0)
    source = YOLODataModule(root=str(data), image_size=64, batch_size=2, num_workers=0, close_mosaic_epochs=0)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=root, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=list(callbacks), limit_val_batches=1,
        limit_train_batches=3, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=source, ckpt_path=ckpt)
    return trainer


def test_averages_follow_the_formula_and_are_validated_saved_and_put_away_again(
    tmp_path: Path, tiny_data: Path
) -> None:
    ema, probe = EMACallback(decay=0.9, tau=2.0), Probe()
    torch.manual_seed(0)
    trainer = fit(tmp_path, tiny_data, ema, probe, YOLOCheckpoint(dirpath=tmp_path, save_last=True))
    torch.manual_seed(0)
    start = Probe.weight(_fresh(tiny_data))
    average = start
    for update, weight in enumerate(probe.after_steps, start=1):
        factor = 0.9 * (1 - math.exp(-update / 2.0))
        average = factor * average + (1 - factor) * weight
    torch.testing.assert_close(ema.average["0.conv.weight"], average)
    torch.testing.assert_close(probe.during_validation, average)
    trained = probe.after_steps[-1]
    assert not torch.equal(trained, average)
    torch.testing.assert_close(Probe.weight(trainer.lightning_module), trained)

    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(checkpoint["state_dict"]["model.0.conv.weight"], trained)
    torch.testing.assert_close(read_checkpoint(tmp_path / "last.ckpt").state_dict["0.conv.weight"], average)
    torch.testing.assert_close(load_model(tmp_path / "last.ckpt").state_dict()["0.conv.weight"], average)


def _fresh(data: Path) -> YOLOModule:
    module = YOLOModule(model_config="v9-t")
    from yolo.core.models import build_model

    module.model = build_model("v9-t", len(YOLODataModule(root=str(data)).class_names), image_size=(64, 64))
    return module


def test_a_checkpoint_holds_network_weights_only_and_not_four_copies(tmp_path: Path, tiny_data: Path) -> None:
    fit(tmp_path, tiny_data, EMACallback(), YOLOCheckpoint(dirpath=tmp_path, save_last=True))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(key.startswith("model.") for key in checkpoint["state_dict"])
    network = load_model(tmp_path / "last.ckpt")
    assert set(network.state_dict()) == {key.removeprefix("model.") for key in checkpoint["state_dict"]}
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    # Training weights, averages, and one momentum per parameter.
    assert (tmp_path / "last.ckpt").stat().st_size < 3.5 * size


def test_without_ema_the_weights_are_stored_once(tmp_path: Path, tiny_data: Path) -> None:
    fit(tmp_path, tiny_data, YOLOCheckpoint(dirpath=tmp_path, save_last=True))
    network = load_model(tmp_path / "last.ckpt")
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert (tmp_path / "last.ckpt").stat().st_size < 2.5 * size
    assert read_checkpoint(tmp_path / "last.ckpt").extra["weights"] == "raw"


def test_resume_restores_averages_and_counter_and_works_without_the_callback(tmp_path: Path, tiny_data: Path) -> None:
    first = EMACallback(decay=0.9, tau=2.0)
    fit(tmp_path, tiny_data, first, YOLOCheckpoint(dirpath=tmp_path, save_last=True))
    second, seen = EMACallback(decay=0.9, tau=2.0), {}

    class Start(Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            seen.update({name: value.clone() for name, value in second.average.items()}, updates=second.updates)

    fit(tmp_path, tiny_data, second, Start(), epochs=2, ckpt=tmp_path / "last.ckpt")
    assert seen.pop("updates") == first.updates == 3
    assert second.updates == 6
    for name, value in seen.items():
        torch.testing.assert_close(value, first.average[name])
    trainer = fit(tmp_path, tiny_data, epochs=2, ckpt=tmp_path / "last.ckpt")
    assert trainer.global_step == 6


def test_one_update_per_optimiser_step_under_accumulation(tmp_path: Path, tiny_data: Path) -> None:
    ema = EMACallback()
    fit(tmp_path, tiny_data, ema, accumulate_grad_batches=3)
    assert ema.updates == 1


def test_disabled_there_are_no_averages(tmp_path: Path, tiny_data: Path) -> None:
    ema = EMACallback(enabled=False)
    fit(tmp_path, tiny_data, ema)
    assert ema.average is None


def test_an_exception_in_validation_leaves_the_training_weights(tmp_path: Path, tiny_data: Path) -> None:
    class Fail(Callback):
        def on_validation_batch_end(self, *args) -> None:
            raise RuntimeError("stop")

    probe, ema = Probe(), EMACallback(decay=0.9, tau=2.0)
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path, tiny_data, ema, probe, Fail(), num_sanity_val_steps=0)
    assert ema._raw == {}
