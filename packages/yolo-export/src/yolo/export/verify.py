"""The parity gate: does an exported file predict what the checkpoint predicts?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.convert import xyxy_to_cxcywh
from yolo.core.decode import decode
from yolo.core.models.network import Network
from yolo.export.backends.base import ExportError
from yolo.export.runtimes.base import Runtime
from yolo.export.samples import ParitySample


class ParityError(ExportError):
    """A file that does not predict what its checkpoint predicts."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The largest difference of any number of the output.

    Attributes:
        boxes: pixels of the input, of centre, width and height.
        scores: of probabilities.
    """

    boxes: float
    scores: float


#: Networks of up to ``SMALL`` parameters (v9-t, v9-s), and larger ones.
TIGHT = Tolerances(boxes=1e-3, scores=1e-5)
WIDE = Tolerances(boxes=2e-2, scores=5e-4)
SMALL = 10_000_000

#: On inputs that make rounding grow, a file may be this many times as far off as float32 PyTorch is from float64 ...
ROUNDING = 4
#: ... but no further than this.
LIMIT = Tolerances(boxes=0.5, scores=5e-3)


def tolerances_for(network: Network) -> Tolerances:
    """Return what the rounding of float32 may explain: it grows with the depth of a network."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return TIGHT if parameters <= SMALL else WIDE


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest differences on one input.

    Attributes:
        sample: name of the input, with the batch where there were several images in one call.
        boxes: pixels.
        scores: of probabilities.
        allowed: for this input; more than usual where PyTorch's own rounding is more than usual.
    """

    sample: str
    boxes: float
    scores: float
    allowed: Tolerances

    @property
    def passed(self) -> bool:
        """Whether both differences are allowed."""
        return self.boxes <= self.allowed.boxes and self.scores <= self.allowed.scores


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What the gate found.

    Attributes:
        tolerances: what is usually allowed.
        differences: one per input and kind of call.
    """

    tolerances: Tolerances
    differences: tuple[Difference, ...]

    @property
    def boxes(self) -> float:
        """The largest difference of boxes, pixels."""
        return max(difference.boxes for difference in self.differences)

    @property
    def scores(self) -> float:
        """The largest difference of scores."""
        return max(difference.scores for difference in self.differences)

    @property
    def passed(self) -> bool:
        """Whether every input passed."""
        return all(difference.passed for difference in self.differences)

    def worst(self, name: str) -> Difference:
        """Return the input that is nearest to, or furthest over, what it is allowed; ``name``: boxes or scores."""
        return max(self.differences, key=lambda found: getattr(found, name) - getattr(found.allowed, name))

    def require(self, what: str) -> None:
        """Raise unless passed; ``what`` names the file.

        Raises:
            ParityError: names the output that is off and the input on which it is worst.
        """
        for name, unit in (("boxes", " px"), ("scores", "")):
            worst = self.worst(name)
            found, allowed = getattr(worst, name), getattr(worst.allowed, name)
            if found > allowed:
                raise ParityError(
                    f"{what} does not predict what the checkpoint predicts: {name} differ by {found:.3g}{unit} on "
                    f"'{worst.sample}' (allowed: {allowed:.3g}{unit}); the file was not kept"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a manifest."""
        return {
            "passed": self.passed,
            "tolerances": asdict(self.tolerances),
            "largest": {"boxes": self.boxes, "scores": self.scores},
            "inputs": [asdict(difference) for difference in self.differences],
        }


def check_parity(
    network: Network, runtime: Runtime, samples: Sequence[ParitySample], tolerances: Tolerances
) -> ParityReport:
    """Compare a file with the network that it was made from, number by number.

    Every input goes through alone; where the file takes any batch, all of them also go through in one call.

    Args:
        network: as trained: neither fused nor decoded by the code that made the file.
        runtime: the file, loaded again.
        samples: at least one, of the file's size.
        tolerances: what counts as equal. On an input where float32 PyTorch itself is further from its float64 result,
            a multiple of that distance counts as equal too, within limits.

    Raises:
        ParityError: the output has another shape, or the network itself gives infinite or undefined numbers.
    """
    expected = [predict_reference(network, sample.image[None]) for sample in samples]
    for sample, output in zip(samples, expected, strict=True):
        if not np.isfinite(output).all():
            raise ParityError(f"the checkpoint itself gives infinite or undefined numbers on '{sample.name}'")
    outputs = [(sample.name, runtime.predict(sample.image[None])) for sample in samples]
    if runtime.dynamic_batch:
        together = runtime.predict(np.stack([sample.image for sample in samples]))
        if len(together) != len(samples):
            raise ParityError(f"the file returns {len(together)} results for {len(samples)} images")
        outputs += [
            (f"{sample.name}, one of a batch of {len(samples)}", output[None])
            for sample, output in zip(samples, together, strict=True)
        ]
    exact = _Exact(network)
    differences = []
    for index, (name, found) in enumerate(outputs):
        which = index % len(samples)
        boxes, scores = _distance(found, expected[which])
        allowed = tolerances
        if boxes > tolerances.boxes or scores > tolerances.scores:
            allowed = exact.allow(samples[which], expected[which], tolerances)
        differences.append(Difference(sample=name, boxes=boxes, scores=scores, allowed=allowed))
    return ParityReport(tolerances=tolerances, differences=tuple(differences))


class _Exact:
    """What rounding explains, measured with the network in float64, which is made when it is first needed."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._double: Network | None = None

    def allow(self, sample: ParitySample, expected: NDArray[np.floating], tolerances: Tolerances) -> Tolerances:
        """Return the tolerances for one input, given float32 PyTorch's own output for it."""
        if self._double is None:
            self._double = copy.deepcopy(self._network).double()
        boxes, scores = _distance(expected, predict_reference(self._double, sample.image[None].astype(np.float64)))
        return Tolerances(
            boxes=max(tolerances.boxes, min(ROUNDING * boxes, LIMIT.boxes)),
            scores=max(tolerances.scores, min(ROUNDING * scores, LIMIT.scores)),
        )


@torch.inference_mode()
def predict_reference(network: Network, images: NDArray[np.floating]) -> NDArray[np.floating]:
    """Predict with PyTorch in the layout of exported files: ``[B, 4 + classes, A]``, in the type of the network."""
    decoded = decode(network(torch.from_numpy(images), aux=False).main)
    joined = torch.cat((xyxy_to_cxcywh(decoded.boxes), decoded.scores), dim=2)
    output: NDArray[np.floating] = joined.transpose(1, 2).contiguous().numpy()
    return output


def _distance(found: NDArray[np.floating], expected: NDArray[np.floating]) -> tuple[float, float]:
    """The largest difference of boxes, pixels, and of scores."""
    if found.shape != expected.shape:
        raise ParityError(f"the file's output has the shape {list(found.shape)}, not {list(expected.shape)}")
    # An undefined number is a difference, and the largest one.
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf, posinf=np.inf)
    return float(difference[:, :4].max()), float(difference[:, 4:].max())
