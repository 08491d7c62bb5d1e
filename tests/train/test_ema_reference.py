"""The averages against a few lines of plain Python, in whatever training they are made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from yolo.training.callbacks import EMACallback, YOLOCheckpoint
from yolo.training.callbacks.ema import _Pairs
from yolo.training.datamodule import YOLODataModule
from yolo.training.module import YOLOModule


class Reference(Callback):
    """Averages numbers one by one, in double precision; begins anew where the callback does."""

    def __init__(self, decay: float, tau: float) -> None:
        self.decay, self.tau = decay, tau
        self.average: dict[str, list[float]] = {}
        self.updates = 0
        self._step = 0

    def on_train_start(self, trainer, pl_module) -> None:
        self.average = self.average or numbers(pl_module)
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        self.updates += 1
        factor = self.decay * (1 - math.exp(-self.updates / self.tau))
        for name, values in numbers(pl_module).items():
            old = self.average[name]
            whole = name.endswith("num_batches_tracked")
            self.average[name] = [
                v if whole else factor * o + (1 - factor) * v for o, v in zip(old, values, strict=True)
            ]


def numbers(module: YOLOModule) -> dict[str, list[float]]:
    """A few numbers of every tensor."""
    return {name: value.double().flatten()[:3].tolist() for name, value in module.model.state_dict().items()}


def fit(
    data: Path, network: Path, root: Path, *callbacks: Callback, model: dict[str, Any] | None = None, **options: Any
) -> YOLOModule:
    torch.manual_seed(0)
    trainer = Trainer(
        **{"max_epochs": 2, **options}, accelerator="cpu", default_root_dir=root, logger=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=list(callbacks),
        num_sanity_val_steps=0, limit_val_batches=1,
    )  # fmt: skip
    module = YOLOModule(model_config=str(network), warmup_epochs=0.0, **(model or {}))
    trainer.fit(module, datamodule=YOLODataModule(root=str(data), image_size=64, batch_size=2, num_workers=0))
    return module


@pytest.mark.parametrize(
    ("model", "options", "updates"),
    [
        ({}, {}, 8),
        ({}, {"accumulate_grad_batches": 3}, 4),
        ({"freeze_backbone": True, "freeze_until_epoch": 1}, {}, 8),
        ({"optimizer": "adamw"}, {"gradient_clip_val": 1.0}, 8),
    ],
    ids=["plain", "accumulation", "layers released", "adamw"],
)
def test_averages_are_those_of_the_formula(
    model: dict[str, Any], options: dict[str, Any], updates: int, tiny_data: Path, small_network: Path, tmp_path: Path
) -> None:
    ema, reference = EMACallback(decay=0.9, tau=4.0), Reference(0.9, 4.0)
    fit(tiny_data, small_network, tmp_path, ema, reference, model=model, enable_checkpointing=False, **options)
    assert ema.updates == reference.updates == updates
    for name, wanted in reference.average.items():
        got = ema.average[name].double().flatten()[:3].tolist()
        assert got == pytest.approx(wanted, rel=1e-5, abs=1e-7), name
    assert int(ema.average["0.bn.num_batches_tracked"]) == int(reference.average["0.bn.num_batches_tracked"][0]) > 0


def test_the_ramp_is_the_documented_one() -> None:
    ema = EMACallback()
    factors = []
    for ema.updates in (1, 2000, 20_000, 200_000):
        factors.append(ema.factor())
    assert factors == pytest.approx([0.9999 * (1 - math.exp(-n / 2000)) for n in (1, 2000, 20_000, 200_000)])
    assert factors == pytest.approx([0.0005, 0.632057, 0.999855, 0.9999], abs=1e-6)


def test_a_module_that_was_replaced_is_averaged(tiny_data: Path, small_network: Path, tmp_path: Path) -> None:
    class Replace(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 2:  # in the middle of an epoch
                old = pl_module.model.get_submodule("0").bn
                pl_module.model.get_submodule("0").bn = nn.BatchNorm2d(8).requires_grad_(False)
                assert old is not pl_module.model.get_submodule("0").bn

    ema = EMACallback(decay=0.0)  # the averages are the weights
    module = fit(tiny_data, small_network, tmp_path, ema, Replace(), max_epochs=1, enable_checkpointing=False)
    state = module.model.state_dict()
    assert ema.average.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in ema.average.items())


def test_pairs_hold_as_long_as_the_tensors_do() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    pairs = _Pairs.of(model, {})
    model.load_state_dict(model.state_dict())
    assert pairs.hold()
    model.double()
    assert not pairs.hold()
    pairs = _Pairs.of(model, pairs.averages)
    model[1] = nn.Identity()
    assert not pairs.hold()
    assert _Pairs.of(model, pairs.averages).averages.keys() == {"0.weight", "0.bias"}
    grown = nn.Sequential(nn.Conv2d(1, 3, 1))
    assert _Pairs.of(grown, pairs.averages).averages["0.weight"].shape == (3, 1, 1, 1)


def test_switched_off_nothing_of_it_is_saved(tiny_data: Path, small_network: Path, tmp_path: Path) -> None:
    saver = YOLOCheckpoint(dirpath=tmp_path, save_last=True)
    fit(tiny_data, small_network, tmp_path, EMACallback(enabled=False), saver, max_epochs=1)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["EMACallback"] == {"updates": 0}
