"""The loader inside Lightning's fit loop: epochs reach the workers, and a stopped run goes on where it was."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo.data.config import DataConfig
from yolo.data.formats import load_labels
from yolo.data.labels import LabelTable
from yolo.data.loader import build_loader
from yolo.data.synthetic import ensure_synthetic
from yolo.data.types import Batch

pl = pytest.importorskip("lightning.pytorch")

EPOCHS = 3
Seen = tuple[int, int, list[int], float]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    root = ensure_synthetic(tmp_path_factory.mktemp("data") / "shapes", train=7, val=1, image_size=64)
    return load_labels(DataConfig(root=str(root)), "train")


class Recorder(pl.LightningModule):  # type: ignore[misc, name-defined]  # behind importorskip
    """Notes what it is fed: epoch, batch number, which images, and their mean."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Seen] = []
        self.stop_at = stop_at

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        if self.global_step == self.stop_at:
            raise KeyboardInterrupt
        mean = float(batch.images.float().mean())
        self.seen.append((self.current_epoch, number, batch.ids.tolist(), mean))
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Recorder, table: LabelTable, folder: Path, *, workers: int, every: int, ckpt: Path | None) -> None:
    config = DataConfig(image_size=32, batch_size=2, num_workers=workers, close_mosaic_epochs=1)
    saver = pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=every, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        callbacks=[saver],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module.loader = lambda: build_loader(  # type: ignore[attr-defined]  # a plain attribute
        config, table, training=True, max_epochs=EPOCHS, epoch=trainer.current_epoch
    )
    module.train_dataloader = lambda: module.loader()  # type: ignore[method-assign, attr-defined]
    with contextlib.suppress(SystemExit):  # how Lightning answers an interrupt
        trainer.fit(module, ckpt_path=None if ckpt is None else str(ckpt))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("workers", "stop"), [(0, 6), (0, 4), (2, 6)])
def test_a_stopped_run_sees_what_an_unbroken_one_sees(
    table: LabelTable, tmp_path: Path, workers: int, stop: int
) -> None:
    whole = Recorder()
    fit(whole, table, tmp_path / "whole", workers=0, every=1000, ckpt=None)
    assert [(epoch, number) for epoch, number, _, _ in whole.seen] == [(e, b) for e in range(EPOCHS) for b in range(4)]

    first, second = Recorder(stop_at=stop), Recorder()
    fit(first, table, tmp_path / "part", workers=workers, every=stop, ckpt=None)
    (checkpoint,) = (tmp_path / "part").glob("*.ckpt")
    fit(second, table, tmp_path / "rest", workers=workers, every=1000, ckpt=checkpoint)
    assert first.seen == whole.seen[:stop]
    assert [seen[2:] for seen in second.seen] == [seen[2:] for seen in whole.seen[stop:]]
    assert [seen[:2] for seen in second.seen] == [seen[:2] for seen in whole.seen[stop:]]
