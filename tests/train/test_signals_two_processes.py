"""Two processes stop at the same step, whichever of them is asked to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

YOLO = Path(sys.executable).with_name("yolo")
PROBE = """
import os, signal
from lightning.pytorch import Callback


class Probe(Callback):
    def __init__(self, hook: str, count: int, rank: int):
        def act(trainer, *_, **__):
            if trainer.global_rank == rank:
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
        self.left = count
        setattr(self, hook, act)
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize(
    ("hook", "count", "rank", "steps"), [("on_after_backward", 2, 1, 1), ("on_validation_batch_start", 1, 0, 2)]
)
def test_one_is_asked_and_both_stop(
    hook: str, count: int, rank: int, steps: int, tiny_data: Path, small_network: Path, tmp_path: Path
) -> None:
    options = {
        "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 1, "data.num_workers": 0,
        "data.close_mosaic_epochs": 1, "model.model_config": small_network, "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu", "trainer.devices": 2, "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0, "trainer.accumulate_grad_batches": 2, "record.images": 0,
    }  # fmt: skip
    (tmp_path / "probe_of_two.py").write_text(PROBE)
    (tmp_path / "probe.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: probe_of_two.Probe\n      init_args: "
        f"{{hook: {hook}, count: {count}, rank: {rank}}}\n"
    )

    def fit(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [YOLO, "fit", *(f"--{key}={value}" for key, value in options.items()), *more],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def weights(root: str) -> dict[str, torch.Tensor]:
        path = tmp_path / root / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
        return {**torch.load(path, weights_only=True)["state_dict"]}

    whole = fit("--trainer.logger.init_args.save_dir=whole")
    assert whole.returncode == 0, whole.stderr
    first = fit("--config=probe.yaml")
    assert first.returncode == 143, first.stderr
    assert f"Stopped by SIGTERM in epoch 1 after {steps} steps; saved. To go on: yolo fit --config" in first.stderr
    second = fit("--ckpt_path=runs/yolo/version_0/checkpoints/last.ckpt")
    assert second.returncode == 0, second.stderr
    wanted, got = weights("whole"), weights("runs")
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())
