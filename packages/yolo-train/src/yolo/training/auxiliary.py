"""How much the auxiliary branch counts in a training, and for how long it is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo.core.errors import UsageError
from yolo.core.models import Network
from yolo.training.config import ModelConfig
from yolo.training.freezing import Freezing


@dataclass(frozen=True)
class Auxiliary:
    """The course of the auxiliary branch's share in the loss; where it is 0, the branch is not computed.

    The parameters of a branch that is not computed get no gradient: like frozen ones they keep their places in the
    optimiser, which neither moves nor decays them, so that a run may be resumed with the branch as well as without.

    Attributes:
        parameters: names of those that nothing else needs.
        weight: share at the start.
        anneal_epochs: epochs over which it falls to 0; 0: it stays.
    """

    parameters: frozenset[str] = frozenset()
    weight: float = 0.0
    anneal_epochs: int = 0

    @property
    def annealed(self) -> bool:
        """Whether the share changes."""
        return self.weight > 0 and self.anneal_epochs > 0 and bool(self.parameters)

    def weight_at(self, epochs: float) -> float:
        """The share after some epochs, with fractions, counted from the start of the training."""
        return self.weight * max(0.0, 1 - epochs / self.anneal_epochs) if self.anneal_epochs else self.weight

    def computed_in(self, epoch: float) -> bool:
        """Whether the branch is computed in an epoch, counted from 0."""
        return self.weight_at(epoch) > 0

    def set(self, network: Network, *, computed: bool) -> bool:
        """Let a network compute the branch in training, or not; true when parameters lost their gradient.

        Once it is left out, it stays so: what is frozen now may be meant to stay frozen.
        """
        network.train_auxiliary = computed
        changed = False
        if not computed:
            for name in self.parameters:
                parameter = network.get_parameter(name)
                changed = changed or parameter.requires_grad
                parameter.requires_grad_(False)
                parameter.grad = None
        return changed


def plan_auxiliary(network: Network, config: ModelConfig, freezing: Freezing) -> Auxiliary:
    """Find what belongs to the auxiliary branch alone; nothing is changed.

    Args:
        network: as it will be trained, with its gradients as they are built.
        config: share and epochs.
        freezing: what else is not trained.

    Raises:
        UsageError: nothing would be left to train.
    """
    plan = network.plan
    if plan.aux is None:
        return Auxiliary()
    only = set(plan.needed(plan.main, plan.aux)) - set(plan.needed(plan.main))
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    own = frozenset(name for name in trainable if int(name.split(".", 1)[0]) in only)
    found = Auxiliary(own, config.aux_loss_weight, config.aux_anneal_epochs)
    last_frozen = freezing.until_epoch - 1 if freezing.until_epoch else math.inf
    if freezing and freezing.parameters | own == trainable and not found.computed_in(last_frozen):
        raise UsageError(
            "model.freeze_backbone and model.freeze_layers leave the auxiliary branch to train, and "
            "model.aux_loss_weight or model.aux_anneal_epochs leave it out; leave something to train"
        )
    return found
