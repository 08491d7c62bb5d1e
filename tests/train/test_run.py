"""What a training leaves behind, and what it must not do."""

import csv
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer

from yolo.core.errors import UsageError
from yolo.core.models import build_model
from yolo.core.models.spec import load_spec
from yolo.core.weights.bundle import read_checkpoint
from yolo.training.callbacks import EvalDashboardCallback, RunRecord
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule
from yolo.training.pretrained import start_from
from yolo.training.trainer_cli import make_cli


def test_the_run_folder_holds_everything(trained_run: Path) -> None:
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "curves.png", "predictions.jpg"):
        assert (trained_run / name).stat().st_size > 1000, name
    with (trained_run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 31)]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert [bool(row["mAP"]) for row in rows] == [epoch % 15 == 14 for epoch in range(30)]


def test_the_saved_configuration_is_resolved_and_starts_again(trained_run: Path) -> None:
    saved = trained_run / "config.yaml"
    content = yaml.safe_load(saved.read_text())
    assert content["model"]["model_config"] == "v9-t"
    assert content["data"]["image_size"] == 96
    assert content["ema"] == {"decay": 0.9999, "tau": 20.0, "enabled": True}
    cli = make_cli([f"--config={saved}"])
    assert cli.model.config.warmup_epochs == 0
    assert cli.trainer.max_epochs == 30


def test_the_checkpoint_tells_what_prediction_needs(trained_run: Path) -> None:
    bundle = read_checkpoint(trained_run / "checkpoints" / "best.ckpt")
    assert bundle.class_names == ("circle", "square", "triangle", "star")
    assert bundle.image_size == (96, 96)
    assert bundle.extra["weights"] == "ema"
    assert bundle.extra["model"]["model_config"] == "v9-t"


def trainer(root: Path, *callbacks: Callback, **options) -> Trainer:
    settings = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, **options}
    return Trainer(
        accelerator="cpu", default_root_dir=root, logger=False, enable_progress_bar=False, callbacks=list(callbacks),
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, **settings,
    )  # fmt: skip


def data(root: Path, **options) -> YOLODataModule:
    return YOLODataModule(**{"root": str(root), "image_size": 64, "batch_size": 2, "num_workers": 0, **options})


def test_the_sanity_check_counts_as_no_validation(tmp_path: Path, tiny_data: Path) -> None:
    dashboard, record, seen = EvalDashboardCallback(), RunRecord(images=0), []

    class Watch(Callback):
        def on_sanity_check_end(self, trainer, pl_module) -> None:
            seen.append((pl_module.evaluation, list(dashboard.history), list(record.rows)))

    trainer(tmp_path, dashboard, record, Watch(), num_sanity_val_steps=1).fit(
        YOLOModule(model_config="v9-t"), data(tiny_data)
    )
    assert seen == [(None, [], [])]
    assert len(dashboard.history) == len(record.rows) == 1


def test_what_is_differentiated_is_the_total_times_the_batch(tiny_data: Path, tmp_path: Path) -> None:
    module, seen = YOLOModule(model_config="v9-t", warmup_epochs=0.0), {}

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            seen.update(loss=float(outputs["loss"]), logged=float(trainer.callback_metrics["train/loss"]))

    trainer(tmp_path, Watch(), num_sanity_val_steps=0).fit(module, data(tiny_data))
    assert seen["loss"] == pytest.approx(2 * seen["logged"], rel=1e-5)


def test_a_wrong_number_of_classes_is_an_error(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.num_classes is 7, but the data has 4 classes"):
        trainer(tmp_path).fit(YOLOModule(model_config="v9-t", num_classes=7), data(tiny_data))


def test_biases_of_loaded_weights_stay(tmp_path: Path) -> None:
    source = build_model("v9-t", 4)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.fill_(0.125)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    loaded = start_from(str(tmp_path / "w.pt"), load_spec("v9-t"), num_classes=4, image_size=(320, 320))
    wanted = source.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in loaded.state_dict().items())


def test_class_layers_start_fresh_for_other_classes_and_keep_their_width(tmp_path: Path) -> None:
    torch.save(build_model("v9-t", 80).state_dict(), tmp_path / "w.pt")
    network = start_from(str(tmp_path / "w.pt"), load_spec("v9-t"), num_classes=3, image_size=(320, 320))
    weights = network.state_dict()
    assert weights["22.heads.0.class_conv.0.conv.weight"].shape[0] == 80
    assert weights["22.heads.0.class_conv.2.weight"].shape[0] == 3
    expected = torch.log(torch.tensor(5 / 3 / (320 / 8) ** 2))
    torch.testing.assert_close(weights["22.heads.0.class_conv.2.bias"], expected.expand(3))


def test_batches_without_boxes_train(tmp_path: Path) -> None:
    """A whole data set without a box is refused (test_check_before_fit.py); a batch without one is usual."""
    from yolo.data.synthetic import ensure_synthetic

    root = ensure_synthetic(tmp_path / "data", train=3, val=1, image_size=64)
    for label in sorted((root / "labels" / "train").iterdir())[1:]:
        label.write_text("")
    fitted = trainer(tmp_path, num_sanity_val_steps=0, limit_train_batches=3)
    alone = {"batch_size": 1, "mosaic_prob": 0.0}
    fitted.fit(YOLOModule(model_config="v9-t"), data(root, format="yolo", **alone))
    assert fitted.global_step == 3
    assert torch.isfinite(fitted.callback_metrics["train/loss"])


def test_training_without_validation_data(tmp_path: Path) -> None:
    from yolo.data.synthetic import ensure_synthetic
    from yolo.training.trainer_cli import run_fit

    root = ensure_synthetic(tmp_path / "data", train=2, val=1, image_size=64)
    (root / "annotations" / "instances_val.json").unlink()
    options = {
        "data.root": root, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "trainer.max_epochs": 1, "trainer.limit_val_batches": 0,
        "trainer.accelerator": "cpu", "trainer.logger.init_args.save_dir": tmp_path,
    }  # fmt: skip
    assert run_fit([f"--{key}={value}" for key, value in options.items()]) == 0
    assert [p.name for p in (tmp_path / "yolo" / "version_0" / "checkpoints").iterdir()] == ["last.ckpt"]


def test_logger_true_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli = make_cli(["--trainer.logger=true", "--trainer.accelerator=cpu"])
    assert Path(cli.trainer.logger.log_dir) == Path("runs/yolo/version_0")


def test_an_epoch_that_was_not_validated_claims_no_metrics(trained_run: Path) -> None:
    bundle = read_checkpoint(trained_run / "checkpoints" / "last.ckpt")
    assert bundle.extra["epoch"] == 29
    assert set(bundle.extra["metrics"]) >= {"val/mAP", "val/precision"}
