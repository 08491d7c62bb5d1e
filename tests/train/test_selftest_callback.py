"""A training looks at its device before it uses it for the first time, and not again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo.core.selftest import is_known, run
from yolo.training.callbacks import DeviceSelfTest, SelfTestError
from yolo.training.callbacks import selftest as callback
from yolo.training.trainer_cli import make_cli


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """What is tested from here on: device, precision, layout."""
    calls: list[tuple[str, str, bool]] = []
    real = callback.self_test

    def noted(device: Any, precision: str, *, channels_last: bool) -> Any:
        calls.append((str(device), precision, channels_last))
        return real(device, precision, channels_last=channels_last)

    monkeypatch.setattr(callback, "self_test", noted)
    return calls


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break convolutions on the tested device."""
    real = run.under_test

    @contextmanager
    def broken(*args: Any) -> Iterator[Any]:
        with pytest.MonkeyPatch.context() as patch, real(*args) as context:
            forward = nn.Conv2d.forward
            patch.setattr(nn.Conv2d, "forward", lambda self, x: forward(self, x).flip(-1))
            yield context

    monkeypatch.setattr(run, "under_test", broken)


def options(data: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": data, "data.image_size": 64, "data.batch_size": 4, "data.num_workers": 0,
        "data.close_mosaic_epochs": 0, "model.model_config": "v9-t", "model.channels_last": "false",
        "trainer.max_steps": 1, "trainer.limit_val_batches": 0, "trainer.accelerator": "cpu",
        "trainer.precision": "bf16-mixed", "trainer.enable_checkpointing": "false", "progress.enabled": "false",
        "summary.enabled": "false", "record.enabled": "false", "trainer.logger.init_args.save_dir": root,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in {**settings, **more}.items()]


def fit(data: Path, root: Path, **more: object) -> Any:
    cli = make_cli(options(data, root, **more))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli


def test_the_first_use_is_tested_and_the_second_is_not(
    tiny_data: Path, tmp_path: Path, tested: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yolo")
    fit(tiny_data, tmp_path)
    assert tested == [("cpu", "bf16-mixed", False)]
    assert "Self-test: cpu" in caplog.text
    assert is_known("cpu", "bf16-mixed")
    caplog.clear()
    fit(tiny_data, tmp_path)
    assert len(tested) == 1
    assert "Self-test" not in caplog.text


def test_the_layout_counts(tiny_data: Path, tmp_path: Path, tested: list[Any]) -> None:
    fit(tiny_data, tmp_path, **{"model.channels_last": "true"})
    assert tested == [("cpu", "bf16-mixed", True)]


@pytest.mark.parametrize("more", [{"trainer.precision": "32-true"}, {"selftest.enabled": "false"}])
def test_nothing_is_tested_without_need_or_wish(
    more: dict[str, str], tiny_data: Path, tmp_path: Path, tested: list[Any], home: Path
) -> None:
    fit(tiny_data, tmp_path, **more)
    assert tested == []
    assert not home.exists()


@pytest.mark.usefixtures("faulty")
def test_a_device_that_computes_wrongly_ends_the_training_before_it_starts(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SelfTestError) as caught:
        fit(tiny_data, tmp_path)
    text = str(caught.value)
    assert text.startswith("The self-test failed: cpu (")
    assert "forward of layer 0 (Conv), output 0: largest difference" in text
    assert "--trainer.precision 32-true" in text
    assert "--selftest.action warn" in text
    assert "\n" not in text
    assert not is_known("cpu", "bf16-mixed"), "only a pass is remembered"


@pytest.mark.usefixtures("faulty")
def test_or_is_warned_about(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cli = fit(tiny_data, tmp_path, **{"selftest.action": "warn"})
    assert cli.trainer.global_step == 1
    assert caplog.text.count("The self-test failed: cpu") == 1


def test_the_weights_are_those_of_a_run_without_it(tiny_data: Path, tmp_path: Path, tested: list[Any]) -> None:
    with_it, without = (
        fit(tiny_data, tmp_path / name, **{"selftest.enabled": name}).model.model.state_dict()
        for name in ("true", "false")
    )
    assert len(tested) == 1
    assert all(torch.equal(with_it[name], value) for name, value in without.items())


SCRIPT = """
import os, sys
from lightning.pytorch import Trainer
from yolo.core.selftest import run
from yolo.training.trainer_cli import make_cli

if os.environ.get("LOCAL_RANK") == "1":  # the device of one of the two is broken
    real = run.non_max_suppression
    run.reference()
    calls = []

    def wrong(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs)[:: -1 if len(calls) == 2 else 1]

    run.non_max_suppression = wrong
cli = make_cli(sys.argv[1:])
try:
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
except Exception as error:
    print(f"rank {cli.trainer.global_rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(3)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_all_processes_stop_when_the_device_of_one_fails(tiny_data: Path, tmp_path: Path, home: Path) -> None:
    (tmp_path / "fit.py").write_text(SCRIPT)
    more = {"trainer.devices": 2, "trainer.strategy": "ddp"}
    done = subprocess.run(
        [sys.executable, "fit.py", *options(tiny_data, tmp_path, **more)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "YOLO_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "rank 0: SelfTestError: The self-test failed: cpu" in done.stderr
    assert "nms of fixed boxes" in done.stderr
    assert json.loads(next((home / "self-test").iterdir()).read_text())["precision"] == "bf16-mixed"


def test_it_is_set_by_name() -> None:
    cli = make_cli(["--trainer.logger=false", "--trainer.accelerator=cpu", "--selftest.action=warn"])
    (found,) = [c for c in cli.trainer.callbacks if isinstance(c, DeviceSelfTest)]
    assert (found.enabled, found.action) == (True, "warn")
