"""The same on the device to be tested, and the comparison."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from yolo.core.boxes.nms import non_max_suppression
from yolo.core.decode import decode
from yolo.core.errors import UsageError
from yolo.core.losses import DetectionLoss
from yolo.core.models.network import Network
from yolo.core.outputs import BranchOutput
from yolo.core.selftest.known import device_name, numbered
from yolo.core.selftest.reference import (
    Context,
    Reference,
    candidates,
    fixed_network,
    leaves,
    maps,
    reference,
    terms,
    through,
    trained,
    with_maps,
)
from yolo.core.selftest.result import PRECISIONS, Check, SelfTest

_TYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_SCALE = 256.0  # of the loss: under 16-mixed small gradients would vanish without one

# Bounds are multiples of the roundoff of the format: 2^-8 for bfloat16, 2^-11 for float16, and for float32 on a device
# that may multiply in TF32. On a CPU, rounding alone comes to at most a quarter of each. In float32, sums in another
# order come to much less than 2^-17, which stands in for its roundoff.
_ROUNDOFF = {"32-true": 2.0**-17, "tf32": 2.0**-11, "16-mixed": 2.0**-11, "bf16-mixed": 2.0**-8}
_FACTORS = {"forward": 24.0, "backward": 64.0, "outputs": 32.0, "loss": 16.0, "gradient": 80.0}
_FLOAT32 = 2.0**-12  # for decoding and losses, which are computed in float32 whatever the precision


def self_test(device: torch.device | str, precision: str = "32-true", *, channels_last: bool = False) -> SelfTest:
    """Compare a device with float32 on the CPU. Takes about a second; random generators are left as they are.

    Args:
        device: that is there, see :func:`yolo.core.device.pick_device`.
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        channels_last: memory layout of images and convolutions.

    Returns:
        All comparisons. What the device fails with is among them: nothing but a wrong argument is raised.

    Raises:
        UsageError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the self-test knows the precisions {', '.join(PRECISIONS)}, not {precision!r}")
    chosen = numbered(torch.device(device))
    start = time.monotonic()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        checks = tuple(_Run(reference(), chosen, precision, channels_last).checks())
    return SelfTest(str(chosen), device_name(chosen), precision, channels_last, checks, time.monotonic() - start)


@contextmanager
def under_test(device: torch.device, precision: str) -> Iterator[Context]:
    """Surround what is computed on the tested device, and nothing else; gives the context of a forward pass."""
    kind = _TYPES.get(precision)
    yield lambda: nullcontext() if kind is None else torch.autocast(device.type, kind, cache_enabled=False)


class _Run:
    def __init__(self, wanted: Reference, device: torch.device, precision: str, channels_last: bool) -> None:
        self.wanted, self.device, self.precision, self.channels_last = wanted, device, precision, channels_last
        roundoff = _ROUNDOFF["tf32" if precision == "32-true" and device.type != "cpu" else precision]
        self.allowed = {name: factor * roundoff for name, factor in _FACTORS.items()}
        self.part, self.at = "forward", ""

    def checks(self) -> Iterator[Check]:
        for compare in (self.layers, self.loss, self.decoding, self.suppression, self.step):
            try:
                yield from compare()
            except Exception as error:  # whatever drivers and kernels fail with is an answer
                said = (str(error).strip().splitlines() or [""])[0][:200]
                yield Check(self.part, self.at, 0.0, 0.0, problem=f"{type(error).__name__}: {said}")

    def network(self) -> Network:
        network = fixed_network().to(self.device)
        if self.channels_last:
            for parameter in network.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return network

    def layers(self) -> Iterator[Check]:
        """Every layer for itself, forwards and backwards."""
        self.part, self.at = "forward", "the first layer"
        network = self.network()
        for layer in self.wanted.layers:
            self.part, self.at = "forward", f"layer {layer.name} ({layer.kind})"
            with under_test(self.device, self.precision) as precision:
                inputs = leaves(layer.inputs, self.device)
                outputs, found = through(network.get_submodule(layer.name), inputs, layer.towards, precision)
            pairs = [(f"output {n}", *pair) for n, pair in enumerate(zip(outputs, layer.outputs, strict=True))]
            yield self.compared(pairs, self.allowed["forward"])
            self.part = "backward"
            gradients = [(f"gradient of {name}", found[name], value) for name, value in layer.gradients.items()]
            yield self.compared(gradients, self.allowed["backward"])

    def loss(self) -> Iterator[Check]:
        """The loss of the CPU's outputs, and its slope at them."""
        self.part, self.at = "loss", "fixed predictions"
        outputs = self.wanted.outputs
        with under_test(self.device, self.precision) as precision:
            here = [value.detach().to(self.device).requires_grad_() for value in maps(outputs)]
            with precision():
                loss = DetectionLoss()(with_maps(outputs, here), *self.targets())
            slopes = torch.autograd.grad(loss.total, here)
        yield self.compared(self.terms(terms(loss)), _FLOAT32)
        pairs = [(f"slope {n}", *pair) for n, pair in enumerate(zip(slopes, self.wanted.slopes, strict=True))]
        yield self.compared(pairs, _FLOAT32)

    def decoding(self) -> Iterator[Check]:
        """Boxes and scores of the CPU's outputs."""
        self.part, self.at = "decode", "fixed predictions"
        with torch.no_grad():
            right = decode(self.wanted.outputs.main)
            with under_test(self.device, self.precision) as precision, precision():
                found = decode(_moved(self.wanted.outputs.main, self.device))
        yield self.compared([("boxes", found.boxes, right.boxes), ("scores", found.scores, right.scores)], _FLOAT32)

    def suppression(self) -> Iterator[Check]:
        """Of fixed boxes: no rounding is involved, so the same ones have to stay, in the same order."""
        self.part, self.at = "nms", "fixed boxes"
        boxes, scores = candidates()
        right = non_max_suppression(boxes, scores, confidence=0.1, iou=0.6, max_detections=100)
        with under_test(self.device, self.precision) as precision, precision():
            here = boxes.to(self.device), scores.to(self.device)
            found = non_max_suppression(*here, confidence=0.1, iou=0.6, max_detections=100)
        for image, (one, other) in enumerate(zip(found, right, strict=True)):
            kept, expected = (list(zip(d.anchors.tolist(), d.labels.tolist(), strict=True)) for d in (one, other))
            wrong = len(set(kept) ^ set(expected))
            problem = f"{len(kept)} detections, of which {wrong} are wrong or missing" if kept != expected else ""
            yield Check(self.part, f"{self.at}, image {image}", 0.0, 0.0, problem=problem)

    def step(self) -> Iterator[Check]:
        """All of it in one go, as in training; here rounding adds up, and the bounds are wide."""
        self.part, self.at = "step", "the whole network"
        network = self.network()
        images = self.wanted.images.to(self.device)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with under_test(self.device, self.precision) as precision:
            with precision():
                output = network(images)
                loss = DetectionLoss()(output, *self.targets())
            # Not from its own loss: a rounded prediction may be assigned otherwise, and the slope jumps.
            slopes = [slope.to(value) * _SCALE for slope, value in zip(self.wanted.slopes, maps(output), strict=True)]
            gradients = torch.autograd.grad(maps(output), trained(network), slopes)
        pairs = enumerate(zip(maps(output), maps(self.wanted.outputs), strict=True))
        yield self.compared([(f"output {n}", *pair) for n, pair in pairs], self.allowed["outputs"])
        yield self.compared(self.terms(terms(loss)), self.allowed["loss"])
        pair = _joined(gradients) / _SCALE, _joined(self.wanted.gradients)
        # As a whole: it has layers of all sizes in it, so that the largest difference says little.
        yield self.compared([("gradient", *pair)], self.allowed["gradient"], largest_counts=False)

    def targets(self) -> tuple[Tensor, Tensor, Tensor]:
        boxes, labels, image = self.wanted.targets
        return boxes.to(self.device), labels.to(self.device), image.to(self.device)

    def terms(self, found: Sequence[Tensor]) -> list[tuple[str, Tensor, Tensor]]:
        return list(zip(("box loss", "class loss", "distance loss"), found, self.wanted.terms, strict=True))

    def compared(
        self, pairs: Sequence[tuple[str, Tensor, Tensor]], allowed: float, *, largest_counts: bool = True
    ) -> Check:
        """The worst of some pairs of tensors."""
        worst = Check(self.part, f"{self.at}, {pairs[0][0]}", 0.0, allowed)
        for name, found, right in pairs:
            if found.shape != right.shape:
                problem = f"shape {tuple(found.shape)} instead of {tuple(right.shape)}"
                return Check(self.part, f"{self.at}, {name}", 0.0, allowed, problem=problem)
            error, largest = _error(found.detach().to("cpu").double(), right.detach().double(), largest_counts)
            if error > worst.error:
                worst = Check(self.part, f"{self.at}, {name}", error, allowed, largest)
        return worst


def _error(found: Tensor, right: Tensor, largest_counts: bool) -> tuple[float, float]:
    """Error relative to the size of the numbers, and largest difference.

    Where the largest counts, one number that is off by eight sizes weighs as much as all of them off by one.
    """
    if not bool(found.isfinite().all()):
        return float("inf"), float("inf")
    if not right.numel():
        return 0.0, 0.0
    difference = found - right
    size = max(float(right.square().mean().sqrt()), 1e-12)
    largest = float(difference.abs().max())
    error = float(difference.square().mean().sqrt())
    return (max(error, largest / 8) if largest_counts else error) / size, largest


def _moved(branch: BranchOutput, device: torch.device) -> BranchOutput:
    cls, dist = (tuple(value.to(device) for value in part) for part in (branch.cls, branch.dist))
    return BranchOutput(cls, dist, branch.strides, branch.anchors)


def _joined(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.detach().to("cpu").float().flatten() for value in values])
