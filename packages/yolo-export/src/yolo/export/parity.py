"""What a comparison of an exported file with its checkpoint found, and whether that is near enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yolo.export.backends.base import ExportError


class ParityError(ExportError):
    """A file that does not predict what its checkpoint predicts."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The largest difference that counts as equal.

    Attributes:
        boxes: pixels of the input, of centre, width and height.
        scores: of probabilities.
        unmatched: share of all detections that may be further off.
        everywhere: whether predictions that are no detections count too.
    """

    boxes: float
    scores: float
    unmatched: float = 0.0
    everywhere: bool = True


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What was found on one input.

    Attributes:
        sample: name of the input, with the batch where there were several images in one call.
        confidence: of the detections that were compared.
        detections: of the checkpoint.
        extra: of the file, beyond those that are near one of the checkpoint's.
        off: detections of either side that the other side does not have within what is allowed.
        compared: detections of both sides.
        boxes: pixels, largest difference of a detection.
        scores: of probabilities, likewise.
        mean_boxes: of all detections.
        mean_scores: likewise.
        all_boxes: pixels, largest difference of any prediction.
        all_scores: likewise.
        allowed: for detections; more than usual where PyTorch's own rounding is more than usual.
        allowed_anywhere: for any prediction.
        together: whether it was one of several images in one call.
    """

    sample: str
    confidence: float
    detections: int
    extra: int
    off: int
    compared: int
    boxes: float
    scores: float
    mean_boxes: float
    mean_scores: float
    all_boxes: float
    all_scores: float
    allowed: Tolerances
    allowed_anywhere: Tolerances
    together: bool = False

    @property
    def matched(self) -> int:
        """Detections of the checkpoint that the file has."""
        return self.detections - (self.off - self.extra)

    @property
    def fits_anywhere(self) -> bool:
        """Whether predictions that are no detections are defined numbers and, where they count, near enough."""
        if not (np.isfinite(self.all_boxes) and np.isfinite(self.all_scores)):
            return False
        limit = self.allowed_anywhere
        return not limit.everywhere or (self.all_boxes <= limit.boxes and self.all_scores <= limit.scores)


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What the gate found.

    Attributes:
        tolerances: what is usually allowed.
        differences: one per input and kind of call.
        source: where the pictures came from, for people.
    """

    tolerances: Tolerances
    differences: tuple[Difference, ...]
    source: str = "pictures drawn by code"

    @property
    def boxes(self) -> float:
        """The largest difference of the boxes of detections, pixels."""
        return max(difference.boxes for difference in self.differences)

    @property
    def scores(self) -> float:
        """The largest difference of the scores of detections."""
        return max(difference.scores for difference in self.differences)

    @property
    def off(self) -> int:
        """Detections of either side without a counterpart."""
        return sum(difference.off for difference in self.differences)

    @property
    def compared(self) -> int:
        """Detections of both sides."""
        return sum(difference.compared for difference in self.differences)

    @property
    def passed(self) -> bool:
        """Whether the file is the checkpoint, as far as its numbers can tell."""
        enough = self.off <= self.tolerances.unmatched * self.compared
        return enough and all(difference.fits_anywhere for difference in self.differences)

    def worst(self) -> tuple[Difference, str, float, float]:
        """Return the first output that is off most: the input, ``boxes`` or ``scores``, the difference, the limit."""
        found = []
        for difference in self.differences:
            for prefix, allowed in (("", difference.allowed), ("all_", difference.allowed_anywhere)):
                if prefix and difference.fits_anywhere:
                    continue
                for name in ("boxes", "scores"):
                    value, limit = getattr(difference, prefix + name), getattr(allowed, name)
                    found.append((value / max(limit, 1e-12), name == "boxes", difference, name, value, limit))
        _, _, difference, name, value, limit = max(found, key=lambda entry: entry[:2])
        return difference, name, value, limit

    def require(self, what: str, *, where: str | None = None) -> None:
        """Raise unless passed.

        Args:
            what: names the file.
            where: what is known about the layer that is to blame.

        Raises:
            ParityError: names the output that is off and the input on which it is worst.
        """
        if self.passed:
            return
        worst, name, value, limit = self.worst()
        unit = " px" if name == "boxes" else ""
        count = f"; {self.off} of {self.compared} detections are off" if self.off else ""
        raise ParityError(
            f"{what} does not predict what the checkpoint predicts: {name} differ by {value:.3g}{unit} on "
            f"'{worst.sample}' (allowed: {limit:.3g}{unit}){count}{f'; {where}' if where else ''}; "
            "the file was not kept"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a manifest."""
        return {
            "checked": True,
            "passed": self.passed,
            "pictures": self.source,
            "tolerances": asdict(self.tolerances),
            "largest": {"boxes": self.boxes, "scores": self.scores},
            "detections": {"compared": self.compared, "off": self.off},
            "inputs": [asdict(difference) for difference in self.differences],
        }
