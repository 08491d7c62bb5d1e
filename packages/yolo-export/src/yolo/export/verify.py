"""The parity gate: does an exported file detect what the checkpoint detects?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.convert import xyxy_to_cxcywh
from yolo.core.decode import decode
from yolo.core.models.network import Network
from yolo.export.matching import CONFIDENCE, Matches, detect, match, thresholds
from yolo.export.parity import Difference, ParityError, ParityReport, Tolerances
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import ParitySample

#: float32 files of networks of up to ``SMALL`` parameters (v9-t, v9-s), and of larger ones.
TIGHT = Tolerances(boxes=1e-3, scores=1e-5)
WIDE = Tolerances(boxes=2e-2, scores=5e-4)
SMALL = 10_000_000
#: Files of fewer bits.
LOOSE = {
    "float16": Tolerances(boxes=1.0, scores=1e-2, unmatched=0.02, everywhere=False),
    "int8": Tolerances(boxes=4.0, scores=0.1, unmatched=0.1, everywhere=False),
}

#: Where rounding grows on the way through a network, detections of a float32 file may be this many times as far off as
#: float32 PyTorch is from float64 anywhere on that picture; other predictions, of which the worst of thousands counts,
#: this many times ...
ROUNDING, ROUNDING_ANYWHERE = 4, 20
#: ... but no further than this.
LIMIT, LIMIT_ANYWHERE = Tolerances(boxes=0.5, scores=5e-3), Tolerances(boxes=5.0, scores=5e-2)
#: Detections that are compared at least.
LEAST = 10
#: Of the second output with finished detections, from those of the first output of the same file.
NMS_BOXES, NMS_SCORES = 1e-2, 1e-6


def tolerances_for(network: Network, precision: str = "float32") -> Tolerances:
    """Return what rounding may explain: it grows with the depth of a network, and with fewer bits.

    Args:
        network: that was exported.
        precision: of the file: ``float32``, ``float16`` or ``int8``.
    """
    if precision in LOOSE:
        return LOOSE[precision]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return TIGHT if parameters <= SMALL else WIDE


def check_parity(
    network: Network,
    runtime: Runtime,
    samples: Sequence[ParitySample],
    tolerances: Tolerances,
    *,
    source: str = "pictures drawn by code",
) -> ParityReport:
    """Compare a file with the network that it was made from.

    Every input goes through alone; where the file takes any batch, those of one size also go through in one call.
    Detections are matched and compared; of a float32 file, every other number of the output is, too.

    Args:
        network: as trained: neither fused nor decoded by the code that made the file. It may be on any device.
        runtime: the file, loaded again.
        samples: at least one, of the file's size.
        tolerances: what counts as equal. On an input where float32 PyTorch itself is further from its float64 result,
            a multiple of that distance counts as equal too, within limits.
        source: where the samples came from, for people.

    Raises:
        ParityError: the output has another shape, the network itself gives infinite or undefined numbers, or the second
            output of the file is not what the first one says.
    """
    expected = [predict_reference(network, sample.image[None]) for sample in samples]
    for sample, output in zip(samples, expected, strict=True):
        if not np.isfinite(output).all():
            raise ParityError(f"the checkpoint itself gives infinite or undefined numbers on '{sample.name}'")
    confidences = thresholds([output[0] for output in expected], least=LEAST)
    exact = _Exact(network)
    differences = []
    for name, which, found in _outputs(runtime, samples):
        _require_shape(found, expected[which])
        sample, wanted = samples[which], expected[which]
        difference = _compare(name, wanted[0], found[0], confidences[which], tolerances, tolerances)
        if tolerances.everywhere and (difference.off or not difference.fits_anywhere):
            allowed = exact.allow(sample, wanted, tolerances)
            difference = _compare(name, wanted[0], found[0], confidences[which], *allowed)
        differences.append(replace(difference, together=name != sample.name))
    if getattr(runtime, "has_nms", False):
        _check_nms(runtime, samples)
    return ParityReport(tolerances=tolerances, differences=tuple(differences), source=source)


def _outputs(runtime: Runtime, samples: Sequence[ParitySample]) -> list[tuple[str, int, NDArray[np.floating]]]:
    """Name, number of the sample and output ``[1, 4 + classes, A]`` of every call."""
    found: list[tuple[str, int, NDArray[np.floating]]] = [
        (sample.name, index, runtime.predict(sample.image[None])) for index, sample in enumerate(samples)
    ]
    if not runtime.dynamic_batch:
        return found
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        shapes.setdefault(sample.image.shape, []).append(index)
    for group in shapes.values():
        together = runtime.predict(np.stack([samples[index].image for index in group]))
        if len(together) != len(group):
            raise ParityError(f"the file returns {len(together)} results for {len(group)} images")
        for index, output in zip(group, together, strict=True):
            found.append((f"{samples[index].name}, one of a batch of {len(group)}", index, output[None]))
    return found


def _compare(
    name: str,
    expected: NDArray[np.floating],
    found: NDArray[np.floating],
    confidence: float,
    allowed: Tolerances,
    anywhere: Tolerances,
) -> Difference:
    matches: Matches = match(expected, found, confidence=confidence, boxes=allowed.boxes, scores=allowed.scores)
    off = (matches.boxes > allowed.boxes) | (matches.scores > allowed.scores)
    all_boxes, all_scores = _distance(found, expected)
    return Difference(
        sample=name,
        confidence=confidence,
        detections=matches.wanted,
        extra=int(off[matches.wanted :].sum()),
        off=int(off.sum()),
        compared=len(off),
        boxes=float(matches.boxes.max(initial=0)),
        scores=float(matches.scores.max(initial=0)),
        mean_boxes=float(matches.boxes.mean()) if len(off) else 0.0,
        mean_scores=float(matches.scores.mean()) if len(off) else 0.0,
        all_boxes=all_boxes,
        all_scores=all_scores,
        allowed=allowed,
        allowed_anywhere=anywhere,
    )


class _Exact:
    """What rounding explains, measured with the network in float64, which is made when it is first needed."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._double: Network | None = None

    def allow(
        self, sample: ParitySample, expected: NDArray[np.floating], usual: Tolerances
    ) -> tuple[Tolerances, Tolerances]:
        """Return what is allowed for detections and for any prediction, given float32 PyTorch's own output."""
        if self._double is None:
            self._double = copy.deepcopy(self._network).cpu().double()
        exact = predict_reference(self._double, sample.image[None].astype(np.float64))
        boxes, scores = _distance(expected[0], exact[0])

        def times(factor: int, limit: Tolerances) -> Tolerances:
            return Tolerances(
                boxes=max(usual.boxes, min(factor * boxes, limit.boxes)),
                scores=max(usual.scores, min(factor * scores, limit.scores)),
            )

        return times(ROUNDING, LIMIT), times(ROUNDING_ANYWHERE, LIMIT_ANYWHERE)


@torch.inference_mode()
def predict_reference(network: Network, images: NDArray[np.floating]) -> NDArray[np.floating]:
    """Predict with PyTorch in the layout of exported files: ``[B, 4 + classes, A]``, in the type of the network.

    It runs where the network is, on CUDA without TF32, which keeps only ten bits.
    """
    device = next(network.parameters()).device
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()
    with exact:
        decoded = decode(network(torch.from_numpy(images).to(device), aux=False).main)
    joined = torch.cat((xyxy_to_cxcywh(decoded.boxes), decoded.scores), dim=2)
    output: NDArray[np.floating] = joined.transpose(1, 2).contiguous().cpu().numpy()
    return output


def _require_shape(found: NDArray[np.floating], expected: NDArray[np.floating]) -> None:
    if found.shape != expected.shape:
        raise ParityError(f"the file's output has the shape {list(found.shape)}, not {list(expected.shape)}")


def _distance(found: NDArray[np.floating], expected: NDArray[np.floating]) -> tuple[float, float]:
    """The largest difference of boxes, pixels, and of scores of ``[4 + classes, A]``."""
    # An undefined number is a difference, and the largest one.
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf, posinf=np.inf)
    return float(difference[:4].max()), float(difference[4:].max())


def _check_nms(runtime: Any, samples: Sequence[ParitySample]) -> None:
    """Compare the finished detections of a file with what our suppression makes of its first output."""
    for sample in samples:
        image = sample.image[None]
        wanted, rows = detect(runtime.predict(image)[0], CONFIDENCE), runtime.detect(image)
        ours = np.column_stack([wanted.boxes.numpy(), wanted.scores.numpy(), wanted.labels.numpy()])
        same = rows.shape == ours.shape and bool((np.diff(rows[:, 4]) <= 0).all())
        if same and len(rows):  # in any order where scores are equal
            difference = np.abs(rows[:, None] - ours[None])
            near = (difference[..., :4].max(2) <= NMS_BOXES) & (difference[..., 4] <= NMS_SCORES)
            near &= difference[..., 5] == 0
            same = bool(near.any(axis=0).all() and near.any(axis=1).all())
        if not same:
            raise ParityError(
                f"the output 'detections' of the file has {len(rows)} rows on '{sample.name}', and they are not the "
                f"{len(ours)} detections that are made of its output0"
            )
