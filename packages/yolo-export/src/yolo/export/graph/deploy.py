"""The network with its decoding as one module of one input and one output, without anything that depends on sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolo.core.boxes.grid import make_grid
from yolo.core.decode import spread_anchors
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.nn.anchor_head import AnchorDetection, without_implicit
from yolo.core.nn.registry import Shape

SIDES = 4


class DeployModule(nn.Module):
    """A fused detector that returns boxes and probabilities, for images of one size.

    Anchors are constants, and every reshape has constant sides but the batch, so that a tracer finds no arithmetic on
    shapes. The sum of DFL's expectation is a product with the bins (Generalized Focal Loss, arXiv:2006.04388, eq. 3).

    Args:
        network: a trained network; it is copied, fused, and stripped of its auxiliary branch.
        image_size: (width, height) in pixels, multiples of the coarsest stride.

    Attributes:
        image_size: (width, height).
        num_anchors: predictions: cells of all scales, times the anchor boxes per cell if the head has some.
    """

    centers: Tensor
    scales: Tensor
    bins: Tensor
    anchors: Tensor

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.network = fuse(network).float().cpu()
        for module in list(self.network.modules()):
            for name, child in module.named_children():
                if isinstance(child, AnchorDetection):
                    setattr(module, name, without_implicit(child))
        self.image_size = image_size
        self.num_classes = network.num_classes
        strides, anchors = network.plan.maps(network.plan.main)
        self.shapes = [(image_size[1] // stride, image_size[0] // stride) for stride in strides]
        self.num_anchors = sum(height * width for height, width in self.shapes)
        grid = make_grid(self.shapes, strides)
        self.register_buffer("centers", grid.centers.t().clone())
        self.register_buffer("scales", grid.strides.clone())
        self.has_anchors = anchors is not None
        if anchors is not None:
            self.register_buffer("anchors", spread_anchors(anchors, self.shapes, grid.strides))
        else:
            self.register_buffer("bins", torch.arange(_bins(network), dtype=torch.float32).view(1, 1, -1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Predict.

        Args:
            images: float32 ``[B, 3, H, W]``, RGB from 0 to 1, of the module's size.

        Returns:
            float32 ``[B, 4 + classes, A]``: centre x, centre y, width, height in pixels, then one probability per
            class; by scale, fine to coarse (in a scale by anchor box, if the head has some), then row by row.
        """
        branch = self.network(images).main
        boxes = self._from_anchors(branch.dist) if self.has_anchors else self._from_distances(branch.dist)
        scores = self._join(branch.cls, self.num_classes).sigmoid()
        return torch.cat((*boxes, scores), dim=1)

    def _from_distances(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Centres and sizes of an anchor-free head, ``[B, 2, A]`` each."""
        logits = self._join(maps, SIDES * self.bins.numel())
        distributions = logits.reshape(-1, SIDES, self.bins.numel(), self.num_anchors).softmax(2)
        sides = (distributions * self.bins).sum(2) * self.scales  # left, top, right, bottom in pixels
        before, after = sides[:, :2], sides[:, 2:]
        return self.centers + (after - before) / 2, before + after

    def _from_anchors(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Centres and sizes from anchor boxes, see :func:`yolo.core.decode.anchor_boxes`."""
        twice = 2 * self._join(maps, SIDES).sigmoid()
        return self.centers + (twice[:, :2] - 1) * self.scales, twice[:, 2:] * twice[:, 2:] * self.anchors

    def _join(self, maps: tuple[Tensor, ...], channels: int) -> Tensor:
        """All maps in one list: ``[B, channels, A]``."""
        flat = [
            scale.reshape(-1, channels, height * width)
            for scale, (height, width) in zip(maps, self.shapes, strict=True)
        ]
        return torch.cat(flat, dim=2)


def _bins(network: Network) -> int:
    scale = network.plan.layers[network.plan.main].output[0]
    assert isinstance(scale, Shape)
    return (scale.channels - network.num_classes) // SIDES
