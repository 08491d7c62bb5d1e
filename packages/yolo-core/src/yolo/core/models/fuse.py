"""The network to deploy: one convolution where training had a convolution, a normalisation, perhaps a second branch.

Source: RepVGG arXiv:2101.03697 section 3.3.
"""

from __future__ import annotations

import copy

from torch import nn

from yolo.core.models.network import Network
from yolo.core.models.plan import make_plan
from yolo.core.nn.conv import Conv, folded
from yolo.core.nn.rep import RepConv, merged


def fuse(network: Network) -> Network:
    """A copy for inference whose outputs are those of the network in evaluation mode.

    The auxiliary branch is left away, RepConv becomes one convolution, and batch normalisation is folded into the
    convolution before it. The copy is in evaluation mode, and its parameter names differ (``0.conv.bias`` appears,
    ``0.bn...`` goes). The network itself does not change.
    """
    plan = make_plan(network.spec.without_auxiliary(), network.num_classes)
    fused = Network(plan, [copy.deepcopy(network.layer(layer.spec.index)) for layer in plan.layers])
    for parent in list(fused.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RepConv):
                setattr(parent, name, _one_convolution(merged(child), child.act))
            elif isinstance(child, Conv):
                setattr(parent, name, _one_convolution(folded(child), child.act))
    return fused.eval()


def _one_convolution(conv: nn.Conv2d, act: nn.Module) -> Conv:
    block = Conv.__new__(Conv)
    nn.Module.__init__(block)
    block.conv, block.bn, block.act = conv, nn.Identity(), act
    return block
