"""From settings to an optimiser."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from yolo.training.config import OptimizerConfig
from yolo.training.optim.groups import split_parameters


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Build SGD with Nesterov momentum or AdamW over three groups named ``bias``, ``norm`` and ``weight``.

    Args:
        model: the network; frozen parameters are left out.
        config: rate, momentum, decay.
    """
    parameters = split_parameters(model)
    groups: list[dict[str, Any]] = [
        {"name": "bias", "params": parameters.biases, "weight_decay": 0.0},
        {"name": "norm", "params": parameters.norms, "weight_decay": 0.0},
        {"name": "weight", "params": parameters.weights, "weight_decay": config.weight_decay},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.learning_rate, betas=(config.adamw_betas[0], config.adamw_betas[1]))
    return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
