"""The options of `yolo ray fit`, and the check of all that `yolo fit` would refuse, before Ray is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolo.core.errors import UsageError
from yolo.data.encryption.keys import mask_keys
from yolo.training.trainer_cli import YOLOCLI, answer_old_options, make_cli

# What the names of Lightning's registry mean, as arguments of DistributedDataParallel.
STRATEGIES: dict[str, dict[str, Any]] = {
    "auto": {},
    "ddp": {},
    "ddp_find_unused_parameters_false": {"find_unused_parameters": False},
    "ddp_find_unused_parameters_true": {"find_unused_parameters": True},
}


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where and how to train.

    Args:
        num_workers: processes that train together.
        address: ``local`` for a Ray of our own, ``auto`` or ``host:port`` for a running cluster.
        cpus_per_worker: cores that Ray reserves for each.
        gpus_per_worker: GPUs that Ray reserves for each; 0 trains on the CPU.
        storage: folder or URI where Ray keeps metrics and checkpoints; None for ``runs/ray`` in the working folder.
        max_failures: how often lost workers are started again.
        start_timeout: seconds to wait for nodes and workers.
    """

    num_workers: int
    address: str = "local"
    cpus_per_worker: int = 1
    gpus_per_worker: int = 0
    storage: str | None = None
    max_failures: int = 0
    start_timeout: float = 300.0

    @property
    def storage_path(self) -> str:
        """Where Ray keeps what is reported: an absolute folder, or a URI as it was given."""
        given = self.storage or "runs/ray"
        return given if "://" in given else str(Path(given).expanduser().absolute())


class _Check(YOLOCLI):
    """Parses the options and builds model and data of them; a trainer may want devices that this machine lacks."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build none."""


def check(options: RayOptions, args: Sequence[str]) -> None:
    """Find mistakes here, where their message is the first thing that one sees.

    Args:
        options: of Ray.
        args: for ``yolo fit``.

    Raises:
        UsageError: an option or a configuration key is wrong, or means something that Ray decides.
    """
    if options.address.startswith("ray://"):
        raise UsageError("--address ray://...: run the command on a node of the cluster, with --address auto")
    if any(mask_keys(arg) != arg for arg in args):
        raise UsageError(
            "an encryption key must not travel through Ray: set YOLO_ENCRYPTION_KEY in the environment of every node "
            "(where 'ray start' is called), or name a configuration file that holds it"
        )
    for alone in ("--dry-run", "--find-lr"):
        if any(arg.partition("=")[0].startswith(alone) for arg in args):
            raise UsageError(f"{alone} needs no cluster: yolo fit {alone} ... does it in one process")
    wanted = options.num_workers * options.gpus_per_worker
    if options.address == "local" and wanted > (there := torch.cuda.device_count()):
        raise UsageError(
            f"--use-gpu: {options.num_workers} workers with {options.gpus_per_worker} each need {wanted} GPUs, and "
            f"this machine has {there}; --address joins a cluster"
        )
    answer_old_options(args)
    trainer = make_cli(args, _Check).config.trainer
    if trainer.strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise UsageError(f"--trainer.strategy: under Ray it is one of {known}")
    if trainer.accelerator not in ("auto", "gpu" if options.gpus_per_worker else "cpu"):
        advice = "leave --use-gpu out" if options.gpus_per_worker else "workers get GPUs with --use-gpu"
        raise UsageError(f"--trainer.accelerator {trainer.accelerator}: {advice}")
    for name, free in (("devices", ("auto", 1, "1")), ("num_nodes", (1,))):
        if trainer[name] not in free:
            raise UsageError(f"--trainer.{name} {trainer[name]}: under Ray --num-workers says how many processes train")
