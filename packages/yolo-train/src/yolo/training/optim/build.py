"""From settings to an optimiser."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from yolo.core.errors import UsageError
from yolo.training.config import OptimizerConfig
from yolo.training.optim.groups import split_parameters

_log = logging.getLogger("yolo.training")


def build_optimizer(model: nn.Module, config: OptimizerConfig, *, frozen: Collection[str] = ()) -> Optimizer:
    """Build SGD with Nesterov momentum or AdamW (arXiv:1711.05101) over three groups ``bias``, ``norm`` and ``weight``.

    Frozen parameters have their places in the groups from the start. Without a gradient an optimiser passes them over:
    no step, no decay, no momentum. Once they have one they train like the others, at the rate of their group, and a
    checkpoint from before fits the optimiser of after.

    Args:
        model: the network; parameters that the network itself keeps fixed are left out.
        config: rate, momentum, decay.
        frozen: names of the parameters that are frozen now.
    """
    parameters = split_parameters(model, frozen=frozen)
    found = {"bias": parameters.biases, "norm": parameters.norms, "weight": parameters.weights}
    groups: list[dict[str, Any]] = [
        {"name": name, "params": params, "weight_decay": _decay(name, config)}
        for name, params in found.items()
        if params
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.learning_rate, betas=_betas(config))
    return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def check_optimizer(checkpoint: Mapping[str, Any], config: OptimizerConfig) -> None:
    """Compare the kind of optimiser of a run to be resumed.

    Args:
        checkpoint: its content.
        config: of the run that resumes it.

    Raises:
        UsageError: it is another one, whose state is of no use.
    """
    states = checkpoint.get("optimizer_states") or []
    groups = states[0].get("param_groups") if states else None
    used = ("adamw" if "betas" in groups[0] else "sgd") if groups else config.optimizer
    if used != config.optimizer:
        raise UsageError(
            f"--ckpt_path is a run with {used}, but model.optimizer is {config.optimizer}: resume it with its own "
            "optimiser, or start a new run from its weights with --model.weight_path"
        )


def settle_groups(optimizer: Optimizer, config: OptimizerConfig) -> None:
    """Set decay and betas of every group to those of the configuration, and say what changes.

    A checkpoint brings those of its run along; rate and momentum are the schedule's business.
    """
    changes = {}
    for group in optimizer.param_groups:
        wanted: dict[str, Any] = {"weight_decay": _decay(str(group.get("name", "")), config)}
        if "betas" in group:
            wanted["betas"] = _betas(config)
        for key, value in wanted.items():
            if group[key] != value:
                changes[key] = f"{key} {group[key]} -> {value}"
                group[key] = value
    if changes:
        _tell(", ".join(changes.values()))


def _decay(group: str, config: OptimizerConfig) -> float:
    return config.weight_decay if group == "weight" else 0.0


def _betas(config: OptimizerConfig) -> tuple[float, float]:
    return config.adamw_betas[0], config.adamw_betas[1]


@rank_zero_only
def _tell(changes: str) -> None:
    _log.warning("Resumed with other settings of the optimiser: %s.", changes)
