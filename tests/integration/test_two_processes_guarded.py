"""Freezing and the guard against numbers that are not finite, in two processes that have to agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = '''
import json, os, sys
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import Callback
from yolo.training.trainer_cli import make_cli

broken = os.environ["MODE"] == "broken"  # not an argument: the second process is started with those of sys.argv


class Watch(Callback):
    """Breaks the loss of one batch of the second process, and writes how far apart the processes are."""

    def __init__(self):
        self.batches, self.apart, self.first = 0, [], None

    def on_fit_start(self, trainer, pl_module):
        original = pl_module.compute_loss

        def loss(*args):
            found = original(*args)
            bad = broken and self.batches == 1 and trainer.global_rank == 1
            return replace(found, total=found.total + float("inf")) if bad else found  # its gradient is finite

        pl_module.compute_loss = loss

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.batches += 1
        mine = torch.cat([p.detach().flatten() for p in pl_module.model.parameters()])
        both = [torch.empty_like(mine) for _ in range(2)]
        torch.distributed.all_gather(both, mine)
        self.apart.append(float((both[0] - both[1]).abs().max()))
        layer = pl_module.model.get_parameter("0.conv.weight").detach().clone()
        self.first = [*(self.first or []), float(layer.sum())]


watch = Watch()
cli = make_cli(sys.argv[1:])
cli.trainer.callbacks.insert(0, watch)
cli.trainer.fit(cli.model, datamodule=cli.datamodule)
if cli.trainer.is_global_zero:
    Path("out.json").write_text(json.dumps({"apart": watch.apart, "first": watch.first}))
'''


def fit(folder: Path, data: Path, mode: str, **more: object) -> subprocess.CompletedProcess[str]:
    options = {
        "data.root": data, "data.image_size": 96, "data.batch_size": 4, "data.num_workers": 0, "data.mosaic_prob": 0,
        "model.model_config": "v9-t", "model.warmup_epochs": 0, "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu", "trainer.devices": 2, "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0, "trainer.limit_val_batches": 0, "record.enabled": "false", **more,
    }  # fmt: skip
    (folder / "fit.py").write_text(SCRIPT)
    arguments = [f"--{key}={value}" for key, value in options.items()]
    return subprocess.run(
        [sys.executable, "fit.py", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MODE": mode},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


def test_released_layers_are_averaged_over_processes(synthetic_data: Path, tmp_path: Path) -> None:
    """DDP averages the gradients of what trains when it is made; layers that are released later have to join."""
    run = fit(tmp_path, synthetic_data, "sound", **{"model.freeze_backbone": "true", "model.freeze_until_epoch": 1})
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["apart"] == [0.0] * 4
    assert found["first"][0] == found["first"][1] != found["first"][2] != found["first"][3]


def test_all_processes_leave_out_a_step_that_one_cannot_make(synthetic_data: Path, tmp_path: Path) -> None:
    run = fit(tmp_path, synthetic_data, "broken", **{"guard.action": "skip"})
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["apart"] == [0.0] * 4
    assert found["first"][0] == found["first"][1] != found["first"][2]
    written = list((tmp_path / "runs" / "yolo" / "version_0" / "nonfinite").iterdir())
    assert [path.name for path in written] == ["epoch-1-step-2-rank-1.pt"]


def test_all_processes_stop(synthetic_data: Path, tmp_path: Path) -> None:
    run = fit(tmp_path, synthetic_data, "broken")
    assert run.returncode != 0
    assert "epoch 1, batch 2 (optimiser step 2): the loss is not finite" in run.stderr
    assert "epoch-1-step-2-rank-1.pt" in run.stderr
