"""The network with its decoding for images of any size: what depends on sizes is counted inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from yolo.export.graph.deploy import SIDES, DeployModule


class DynamicDeployModule(DeployModule):
    """As :class:`~yolo.export.graph.deploy.DeployModule`, for images of any multiples of the coarsest stride.

    The middle of a cell is the running sum of ones up to it, less one half, times the stride; so a tracer finds neither
    ranges nor arithmetic on shapes.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Predict; see :meth:`yolo.export.graph.deploy.DeployModule.forward`."""
        branch = self.network(images).main
        anchors = branch.anchors or (None,) * len(branch.strides)
        scales = zip(branch.cls, branch.dist, branch.strides, anchors, strict=True)
        return torch.cat([self._scale(*scale) for scale in scales], dim=2)

    def _scale(self, cls: Tensor, dist: Tensor, stride: int, anchor: tuple[float, float] | None) -> Tensor:
        """Predictions of one map, ``[B, 4 + classes, h * w]``."""
        ones = torch.ones_like(dist[:, :1])
        middles = torch.cat((ones.cumsum(3), ones.cumsum(2)), dim=1).flatten(2) - 0.5
        centers, logits = middles * stride, dist.flatten(2)
        if anchor is None:
            distributions = logits.reshape(logits.shape[0], SIDES, self.bins.numel(), -1).softmax(2)
            sides = (distributions * self.bins).sum(2) * stride
            before, after = sides[:, :2], sides[:, 2:]
            boxes = (centers + (after - before) / 2, before + after)
        else:
            twice = 2 * logits.sigmoid()
            squared = twice[:, 2:] * twice[:, 2:]
            sizes = torch.cat((squared[:, :1] * anchor[0], squared[:, 1:] * anchor[1]), dim=1)
            boxes = (centers + (twice[:, :2] - 1) * stride, sizes)
        return torch.cat((*boxes, cls.flatten(2).sigmoid()), dim=1)
