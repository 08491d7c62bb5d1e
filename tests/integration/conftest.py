"""Starting several processes of a training, never for longer than a test may take."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# `yolo fit` with a callback that writes down what every process ends with.
FIT = """
import hashlib, json, os, sys, time
from pathlib import Path

import torch
from lightning.pytorch import Callback

if int(os.environ.get("LOCAL_RANK", 0)):
    time.sleep(float(os.environ.get("LATE", 0)))
from yolo.training.runs import run_folder
from yolo.training.trainer_cli import make_cli


def digest(tensors):
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(tensor.detach().contiguous().numpy().tobytes())
    return hashed.hexdigest()


class Watch(Callback):
    def on_fit_end(self, trainer, pl_module):
        facts = {
            "folder": str(run_folder(trainer)),
            "parameters": digest(pl_module.model.parameters()),
            "average": digest((pl_module.averaged_state() or {}).values()),
            "evaluation": pl_module.evaluation.as_dict() if pl_module.evaluation else None,
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        Path(os.environ["FACTS"], f"rank-{trainer.global_rank}.json").write_text(json.dumps(facts))


cli = make_cli(sys.argv[1:])
cli.trainer.callbacks.append(Watch())
cli.model.resume_from = cli.config.ckpt_path
cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


Launch = Callable[..., list[Ended]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Run commands at the same time in one folder; a list of (command, environment). All are gone afterwards."""

    def run(
        commands: Sequence[tuple[Sequence[object], Mapping[str, str]]], *, folder: Path, seconds: float = 150
    ) -> list[Ended]:
        folder.mkdir(parents=True, exist_ok=True)
        processes = []
        clean = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
        for number, (command, environment) in enumerate(commands):
            logs = [(tmp_path / f"{folder.name}-{number}.{kind}") for kind in ("out", "err")]
            with logs[0].open("w") as out, logs[1].open("w") as err:
                process = subprocess.Popen(
                    [*map(str, command)],
                    cwd=folder,
                    env={**clean, "OMP_NUM_THREADS": "1", **environment},
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            processes.append((process, logs))
        end = time.monotonic() + seconds
        try:
            for process, _ in processes:
                process.wait(max(0.1, end - time.monotonic()))
        finally:
            for process, _ in processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        return [Ended(process.returncode, *(log.read_text() for log in logs)) for process, logs in processes]

    return run


@pytest.fixture
def fitted(launch: Launch, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Train in a folder as options say and return what every process ended with, by rank."""

    def run(name: str, options: Mapping[str, object], **environment: str) -> list[dict[str, Any]]:
        script, facts = tmp_path / "fit.py", tmp_path / f"facts-{name}"
        script.write_text(FIT)
        facts.mkdir()
        arguments = [f"--{key}={value}" for key, value in options.items()]
        [ended] = launch(
            [([sys.executable, script, *arguments], {"FACTS": str(facts), **environment})], folder=tmp_path / name
        )
        assert ended.code == 0, ended.out + ended.err
        return [json.loads(path.read_text()) for path in sorted(facts.iterdir())]

    return run


@pytest.fixture
def free_port() -> int:
    """A port of the loopback device that nobody listened on a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
