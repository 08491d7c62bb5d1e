"""What every worker runs: `yolo fit`, with Ray's strategy in the place of Lightning's launcher."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray.train.torch
import torch
from lightning.pytorch import Callback, Trainer
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

from yolo.core.errors import YoloError
from yolo.training.messages import set_up_messages
from yolo.training.trainer_cli import YOLOCLI, run_fit
from yolo_ray.options import STRATEGIES
from yolo_ray.report import ReportToRay, original, reported


class RayCLI(YOLOCLI):
    """Builds a trainer that joins the processes that Ray has started; what is recorded of the run knows no Ray."""

    pointer: Path | None = None  # of this process; LightningCLI leaves no room for an argument

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        plugins = config.get("plugins") or []
        listed = plugins if isinstance(plugins, list) else [plugins]
        config["strategy"] = RayDDPStrategy(**STRATEGIES[config["strategy"]])
        config["plugins"] = [*listed, RayLightningEnvironment()]
        config["accelerator"] = "gpu" if ray.train.torch.get_device().type == "cuda" else "cpu"
        config["devices"] = "auto"
        config["callbacks"] = [*(config.get("callbacks") or []), ReportToRay(self.pointer)]
        return super()._instantiate_trainer(config, callbacks)


def work(settings: dict[str, Any]) -> None:
    """Train as one of several workers.

    Args:
        settings: ``args`` for ``yolo fit``, the working ``folder``, and the file ``pointer`` of :class:`ReportToRay`.

    Raises:
        YoloError: what `yolo fit` says, with the worker and its node in front.
    """
    try:
        _enter(settings["folder"])
        set_up_messages()
        RayCLI.pointer = Path(settings["pointer"]) if settings["pointer"] else None
        code = run_fit([*settings["args"], *_resume(RayCLI.pointer)], RayCLI)
    except YoloError as error:
        said = type(error)(f"{_who()}: {error}") if type(error).__init__ is Exception.__init__ else None
        raise said or YoloError(f"{_who()}: {error}") from error
    except SystemExit as error:
        # 0 is of a process that leaves it to the first one of its machine to say what is wrong.
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    if code:
        raise YoloError(f"{_who()} ended with the code {code}; what it printed says why")


def _who() -> str:
    return f"worker {ray.train.get_context().get_world_rank()} on {socket.gethostname()}"


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise YoloError(
            f"there is no folder {folder} here: start from one that all nodes share ({error.strerror})"
        ) from error


def _resume(pointer: Path | None) -> Sequence[str]:
    """After a failure, go on from the last checkpoint: that of the run folder, or Ray's copy where not all see it."""
    path = original(pointer)
    if not _all(path is not None):
        path = reported()
    if path is None:
        return []
    if ray.train.get_context().get_world_rank() == 0:
        print(f"Workers were lost: going on from {path}", flush=True)
    return [f"--ckpt_path={path}"]


def _all(mine: bool) -> bool:
    votes: list[Any] = [None] * ray.train.get_context().get_world_size()
    torch.distributed.all_gather_object(votes, mine)
    return all(votes)
