"""A training that is asked to stop saves first, says how to go on, and ends with the code of the signal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from yolo.core.errors import UsageError
from yolo.training.callbacks import InterruptCallback, Stopped
from yolo.training.trainer_cli import make_cli, run_fit

YOLO = Path(sys.executable).with_name("yolo")
PROBE = '''
import os, signal, time
from lightning.pytorch import Callback


class Probe(Callback):
    """Sends a signal from within a hook, or says where the training is and waits."""

    def __init__(self, hook: str, count: int = 1, signal: str = "", group: bool = False, wait: float = 0.0):
        def act(*_, **__):
            self.left -= 1
            if self.left == 0 and signal:
                number = getattr(__import__("signal"), signal)
                os.killpg(0, number) if group else os.kill(os.getpid(), number)
            elif self.left <= 0 and wait:
                print("waiting", flush=True)
                time.sleep(wait)
        self.left = count
        setattr(self, hook, act)
'''


@pytest.fixture
def options(tiny_data: Path, small_network: Path, tmp_path: Path) -> list[str]:
    """Options of a training of two epochs of three batches."""
    settings = {
        "data.root": tiny_data, "data.image_size": 64, "data.batch_size": 3, "data.num_workers": 0,
        "data.close_mosaic_epochs": 1, "model.model_config": small_network, "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu", "trainer.num_sanity_val_steps": 0, "record.images": 0,
        "trainer.default_root_dir": tmp_path,
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make an option that adds a probe, importable here and in the processes started from here."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "stop_probe.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]))

    def write(hook: str, **more: object) -> str:
        path = tmp_path / "probe.yaml"
        arguments = "".join(f", {key}: {value}" for key, value in more.items())
        entry = f"{{class_path: stop_probe.Probe, init_args: {{hook: {hook}{arguments}}}}}"
        path.write_text(f"trainer:\n  callbacks:\n    - {entry}\n")
        return f"--config={path}"

    yield write
    sys.modules.pop("stop_probe", None)


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def weights(root: Path) -> dict[str, torch.Tensor]:
    state = torch.load(root / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    return state["state_dict"]


def start(options: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [YOLO, "fit", *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    killer = threading.Timer(120, process.kill)
    killer.start()
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            break
    else:
        assert process.stderr is not None
        pytest.fail(process.stderr.read())
    killer.cancel()


@pytest.mark.parametrize(
    ("name", "hook", "count"),
    [
        ("SIGTERM", "on_train_batch_start", 2),
        ("SIGUSR1", "on_validation_batch_start", 1),
        ("SIGINT", "on_after_backward", 2),
    ],
)
def test_a_signal_saves_first(
    name: str, hook: str, count: int, options: list[str], probe: Callable[..., str], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert run_fit([*options, probe(hook, count=count, signal=name)]) == 128 + getattr(signal, name)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("yolo")][-1]
    last = tmp_path / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    steps = 3 if "validation" in hook else 2
    assert said == (
        f"Stopped by {name} in epoch 1 after {steps} steps; saved. "
        f"To go on: yolo fit --config {last.parents[1] / 'config.yaml'} --ckpt_path {last}"
    )
    assert torch.load(last, weights_only=True)["global_step"] == steps
    assert not list(last.parent.glob(".*"))


def test_a_group_of_processes_is_told_to_end_and_the_printed_command_goes_on(
    options: list[str], probe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As a scheduler does it: loader workers get the signal, too, and must not die before the training has saved."""
    workers = ["--data.num_workers=2", "--data.prefetch_factor=1"]
    assert run_fit([*options, "--trainer.default_root_dir", str(tmp_path / "whole")]) == 0
    first = start([*options, *workers, probe("on_train_batch_end", count=1, signal="SIGTERM", group="true")], tmp_path)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 143, err
    assert "SIGTERM: stopping when this step is saved" in err
    (command,) = re.findall(r"To go on: (yolo fit .*)", err)
    (tmp_path / "probe.yaml").unlink()
    config = tmp_path / "runs" / "yolo" / "version_0" / "config.yaml"
    config.write_text(config.read_text().replace("signal: SIGTERM", "signal: ''"))  # or it would stop once more
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", logger="yolo.training")
    assert run_fit(shlex.split(command)[2:]) == 0
    assert "Going on in epoch 1 after batch 1." in caplog.messages
    wanted = weights(tmp_path / "whole")
    got = weights(tmp_path)
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())
    assert not (tmp_path / "runs" / "yolo" / "version_1").exists()


def test_a_second_signal_ends_at_once(options: list[str], probe: Callable[..., str], tmp_path: Path) -> None:
    process = start([*options, probe("on_train_batch_start", count=2, wait=100)], tmp_path)
    wait_for(process, "waiting")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # the same one, as it reaches a process and its group
    time.sleep(1.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    assert "once more to stop at once" in err


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_sanity_check_start"])
def test_before_the_first_step_there_is_nothing_to_save(
    hook: str, options: list[str], probe: Callable[..., str], tmp_path: Path
) -> None:
    run = [*options, "--trainer.num_sanity_val_steps=1", probe(hook, signal="SIGTERM")]
    assert run_fit(run) == 143
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_kill_costs_the_steps_since_the_last_periodic_file(
    options: list[str], probe: Callable[..., str], tmp_path: Path
) -> None:
    assert run_fit([*options, "--trainer.default_root_dir", str(tmp_path / "whole")]) == 0
    run = [*options, "--interrupt.every_n_train_steps=1"]
    process = start([*run, probe("on_train_batch_start", count=6, wait=100)], tmp_path)
    wait_for(process, "waiting")
    process.kill()
    process.communicate(timeout=20)
    last = tmp_path / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 5
    assert run_fit([*run, f"--ckpt_path={last}"]) == 0
    wanted, got = weights(tmp_path / "whole"), weights(tmp_path)
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def test_without_checkpoints_it_says_that_nothing_is_saved(
    options: list[str], probe: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    run = [*options, "--trainer.enable_checkpointing=false", probe("on_train_batch_start", signal="SIGTERM")]
    assert run_fit(run) == 143
    assert "nothing is saved, for this run keeps no checkpoints" in caplog.messages[-1]


def test_it_can_be_switched_off_and_signals_be_chosen(options: list[str], probe: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match=r"interrupt\.signals names SIGNOPE, which is no signal"):
        InterruptCallback(signals=["SIGNOPE"])
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        run = [*options, "--trainer.max_epochs=1", "--interrupt.signals=[SIGTERM]"]
        assert run_fit([*run, probe("on_train_batch_start", signal="SIGUSR1")]) == 0
        assert run_fit([*run[:-1], "--interrupt.enabled=false", probe("on_train_batch_start", signal="SIGUSR1")]) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1] * 2


def test_in_another_thread_there_are_no_signals_but_a_stop(options: list[str], tmp_path: Path) -> None:
    cli = make_cli(options)
    (interrupt,) = [c for c in cli.trainer.callbacks if isinstance(c, InterruptCallback)]
    interrupt.stop()
    caught: list[BaseException] = []

    def fit() -> None:
        try:
            with interrupt.listening(cli.trainer):
                cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        except Stopped as stopped:
            caught.append(stopped)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join(60)
    assert [stopped.code for stopped in caught] == [143]
    assert (tmp_path / "runs" / "yolo" / "version_0" / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Surroundings of a job of one task; returns the file in which a stand-in for ``scontrol`` notes its arguments."""
    known = {"JOB_ID": 7, "NTASKS": 1, "NTASKS_PER_NODE": 1, "LOCALID": 0, "NODEID": 0, "PROCID": 0,
             "JOB_NAME": "train", "NODELIST": "localhost", "JOB_NODELIST": "localhost", "NNODES": 1}  # fmt: skip
    for key, value in known.items():
        monkeypatch.setenv(f"SLURM_{key}", str(value))
    notes = tmp_path / "notes"
    (tmp_path / "modules" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    (tmp_path / "modules" / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'modules'}{os.pathsep}{os.environ['PATH']}")
    return notes


def test_under_slurm_the_signal_means_the_same(
    options: list[str], probe: Callable[..., str], slurm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert run_fit([*options, probe("on_after_backward", count=2, signal="SIGUSR1")]) == 138
    assert not slurm.exists()
    assert not list(tmp_path.glob("hpc_ckpt*"))
    assert "auto-requeueing" not in caplog.text


def test_lightnings_requeue_can_have_the_signal(
    options: list[str], probe: Callable[..., str], slurm: Path, tmp_path: Path
) -> None:
    run = [*options, "--trainer.max_epochs=1", "--interrupt.signals=[SIGTERM]"]
    assert run_fit([*run, probe("on_train_batch_end", count=2, signal="SIGUSR1")]) == 0  # until SLURM ends it
    assert slurm.read_text() == "requeue 7\n"
    assert (tmp_path / "hpc_ckpt_1.ckpt").is_file()
