"""What goes wrong in one process or in all of them ends the whole training, soon, and says why once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

YOLO = Path(sys.executable).with_name("yolo")


def options(data: Path, **more: object) -> list[str]:
    found = {
        "data.root": data, "data.format": "yolo", "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.mosaic_prob": 0, "model.model_config": "v9-t", "model.warmup_epochs": 0, "trainer.max_epochs": 3,
        "trainer.accelerator": "cpu", "trainer.devices": 2, "trainer.strategy": "ddp",
        "trainer.num_sanity_val_steps": 0, **more,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in found.items()]


def running(pattern: str) -> list[int]:
    """Processes with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if pattern.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_bad_data_is_one_line_and_the_right_code(
    synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    """Both processes would meet the same mistake."""
    import shutil

    root = tmp_path / "bad"
    shutil.copytree(synthetic_data, root)
    (root / "labels" / "train" / "train_00003.txt").write_text("0 0.5 0.5 wide 0.2\n")
    [ended] = launch([([YOLO, "fit", *options(root)], {})], folder=tmp_path / "run")
    lines = [line for line in ended.err.splitlines() if "train_00003" in line]
    assert ended.code == 1
    assert len(lines) == 1 and lines[0].startswith("Error: "), ended.err
    assert "Traceback" not in ended.err
    assert not running(str(root))


def test_a_wrong_option_is_one_line_under_a_foreign_launcher(
    synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    """Every process of a machine parses the options; all but the first end quietly."""
    ended = launch(
        [([YOLO, "fit", *options(synthetic_data), "--model.nonsense=1"], {"LOCAL_RANK": rank}) for rank in "01"],
        folder=tmp_path / "run",
    )
    assert [process.code for process in ended] == [2, 0]
    assert "nonsense" in ended[0].err
    assert not ended[1].err.strip()


@pytest.mark.slow
def test_a_picture_that_one_process_cannot_read_ends_both(
    synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    """The other waits for its gradient, and learns that it is gone."""
    import shutil

    root = tmp_path / "damaged"
    shutil.copytree(synthetic_data, root)
    victim = root / "images" / "train" / "train_00003.jpg"
    victim.write_bytes(victim.read_bytes()[:400])
    [ended] = launch([([YOLO, "fit", *options(root)], {})], folder=tmp_path / "run", seconds=120)
    assert ended.code in (1, -9)  # of its own, or ended by Lightning when it saw that the other was gone
    assert sum("train_00003" in line for line in ended.err.splitlines()) == 1, ended.err
    assert "Traceback" not in ended.err
    assert not running(str(root))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_leaves_no_other(
    rank: int, synthetic_data: Path, tmp_path: Path, launch: Callable[..., Any]
) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, signal, sys\n"
        "from lightning.pytorch import Callback\n"
        "from yolo.training.trainer_cli import make_cli\n"
        "class Die(Callback):\n"
        "    def on_train_batch_start(self, trainer, *_):\n"
        f"        if trainer.global_step == 2 and trainer.global_rank == {rank}:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli = make_cli(sys.argv[1:])\n"
        "cli.trainer.callbacks.append(Die())\n"
        "cli.trainer.fit(cli.model, datamodule=cli.datamodule)\n"
    )
    [ended] = launch([([sys.executable, script, *options(synthetic_data)], {})], folder=tmp_path / "run", seconds=120)
    assert ended.code != 0
    assert not running(str(script))
