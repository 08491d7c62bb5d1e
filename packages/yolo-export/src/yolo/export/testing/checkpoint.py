"""A checkpoint to export in tests: not trained, but with everything in it that an export can get wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from yolo.core.models.build import build_model
from yolo.core.models.network import Network
from yolo.core.nn.anchor_head import AnchorDetection
from yolo.core.nn.head import Detection, MultiheadDetection
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.export.samples import draw_samples

# With torch's default weights a picture fades away in SiLU after a few layers; with much more, rounding errors explode.
GAIN = 2.25
MOST_GAIN = 30.0


def write_random_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: str = "v9-t",
    class_names: Sequence[str] = ("circle", "square", "Dreieck ▲"),
    image_size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> Path:
    """Write a checkpoint with random but calm weights.

    Every statistic of batch normalisation matters, and boxes and scores vary with the picture and from place to place:
    otherwise a wrong file would hardly differ. They are calm at sizes of about 64 to 128 pixels; far above, rounding
    errors grow.

    Args:
        path: the ``.ckpt`` to write.
        model: a published name or a YAML file.
        class_names: one per class.
        image_size: (width, height), pixels.
        seed: of the weights; torch's own generator is left as it was.

    Returns:
        The path.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(model, len(class_names), image_size=image_size)
        _calm(network)
    bundle = ModelBundle(
        architecture=network.spec.to_dict(),
        state_dict=network.state_dict(),
        class_names=tuple(class_names),
        image_size=image_size,
    )
    target = Path(path)
    torch.save({BUNDLE_KEY: bundle.to_dict()}, target)
    return target


@torch.no_grad()
def _calm(network: Network) -> None:
    pictures = np.stack([sample.image for seed in range(2) for sample in draw_samples((64, 64), seed=seed)])
    images = torch.from_numpy(pictures)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(GAIN)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.weight.uniform_(0.8, 1.2)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.7, 1.3)
    network.eval()
    heads = network.layer(network.plan.main)
    assert isinstance(heads, MultiheadDetection)
    _spread(network, [last for head in heads.heads for last in _last_layers(head)], images)


def _last_layers(head: nn.Module) -> list[nn.Conv2d]:
    if isinstance(head, AnchorDetection):
        return [head.head_conv]
    assert isinstance(head, Detection)
    return [last for branch in (head.class_conv, head.anchor_conv) if isinstance(last := branch[2], nn.Conv2d)]


def _spread(network: Network, layers: list[nn.Conv2d], images: torch.Tensor) -> None:
    """Scale the last layers so that logits vary from place to place about as much as trained ones do."""
    logits: dict[nn.Module, torch.Tensor] = {}

    def keep(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        logits[layer] = output

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    network(images, aux=False)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        assert layer.bias is not None
        layer.weight.mul_(min(1 / float(logits[layer].std(dim=(0, 2, 3)).mean()), MOST_GAIN))
        layer.bias.uniform_(-1, 1)
