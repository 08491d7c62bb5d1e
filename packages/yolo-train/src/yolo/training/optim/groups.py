"""Which parameters decay and which do not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterGroups:
    """Trainable parameters by the way they are updated.

    Attributes:
        biases: every bias, norm biases included: no decay, own warm-up of the rate.
        norms: scales of norm layers, implicit vectors and other vectors: no decay.
        weights: convolution and linear kernels: weight decay.
    """

    biases: list[nn.Parameter]
    norms: list[nn.Parameter]
    weights: list[nn.Parameter]


def split_parameters(model: nn.Module, *, frozen: Collection[str] = ()) -> ParameterGroups:
    """Sort the trainable parameters of a model into the three groups.

    Args:
        model: the network; parameters without a gradient are left out.
        frozen: names of parameters without a gradient that are sorted in all the same, because they may get one.

    The rule looks at shape and name, not at layer types, so that it holds for any block: a parameter called
    ``bias`` is a bias, any other vector or scalar is a norm's, and the rest are kernels. Implicit vectors (YOLOR,
    arXiv:2105.04206) are stored as ``[1, C, 1, 1]``, which a kernel may look like, so their name decides.
    """
    groups = ParameterGroups([], [], [])
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and name not in frozen:
            continue
        kind = name.rsplit(".", 1)[-1]
        if kind == "bias":
            groups.biases.append(parameter)
        elif parameter.ndim <= 1 or kind == "implicit":
            groups.norms.append(parameter)
        else:
            groups.weights.append(parameter)
    return groups
