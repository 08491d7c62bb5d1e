"""Another activation: not the same function any more, so only for those who fine-tune afterwards."""

from __future__ import annotations

import copy

from torch import nn

from yolo.core.models.network import Network
from yolo.export.backends.base import ExportError


def with_hard_swish(network: Network) -> Network:
    """Return a copy with Hardswish (MobileNetV3, arXiv:1905.02244) in the place of every SiLU.

    Raises:
        ExportError: the network has no SiLU.
    """
    changed = copy.deepcopy(network)
    count = 0
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.SiLU):
                setattr(parent, name, nn.Hardswish())
                count += 1
    if not count:
        raise ExportError(f"--activation hard-swish: {network.spec.name} has no SiLU to replace; leave it out")
    return changed
