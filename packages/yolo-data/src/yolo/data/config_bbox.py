"""The ``data.bbox_mosaic`` section of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from yolo.core.errors import UsageError
from yolo.data.ranges import VIEW_LIMITS, within


@dataclass(frozen=True, kw_only=True)
class BBoxMosaicConfig:
    """Mosaics of whole documents: four crops, each with its own transform, none of them ever cut off.

    Args:
        prob: Probability that a training sample is such a mosaic; it is tried before the other mosaics. 0 is off.
        degrees: Largest rotation of a document, in degrees either way.
        translate: Largest shift of a document, as a fraction of its quadrant; it stops at the quadrant's border.
        scale: Zoom range of a document: the factor is drawn from ``1 - scale`` to ``1 + scale``, and is limited by the
            quadrant.
        shear: Largest shear angle of a document, in degrees either way.
        perspective: Largest perspective coefficient of a document.
        hsv_h: Largest hue shift of a document, as a fraction of the colour circle.
        hsv_s: Largest relative change of a document's saturation.
        hsv_v: Largest relative change of a document's brightness.
        jitter: How far a document may be from the middle of its quadrant: 0 not at all, 1 up to the border.
    """

    prob: float = 0.0
    degrees: float = 20.0
    translate: float = 0.05
    scale: float = 0.15
    shear: float = 2.0
    perspective: float = 0.0
    hsv_h: float = 0.015
    hsv_s: float = 0.4
    hsv_v: float = 0.3
    jitter: float = 0.3

    def __post_init__(self) -> None:
        for item in fields(self):
            within(f"data.bbox_mosaic.{item.name}", getattr(self, item.name), 0, VIEW_LIMITS.get(item.name, 1.0))

    @classmethod
    def of(cls, value: object) -> BBoxMosaicConfig:
        """Make one of what a file or a checkpoint holds.

        Args:
            value: a mapping of any of the keys, an object with them as attributes, or None for the defaults.

        Raises:
            UsageError: something else, an unknown key, or a number out of its range.
        """
        if isinstance(value, cls):
            return value
        entries = {} if value is None else value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
        names = [item.name for item in fields(cls)]
        if entries is None:
            raise UsageError(f"data.bbox_mosaic is {value!r}: give a mapping with any of {', '.join(names)}")
        unknown = sorted(str(key) for key in entries if key not in names)
        if unknown:
            raise UsageError(f"data.bbox_mosaic.{unknown[0]} is no option: choose from {', '.join(names)}")
        return cls(**entries)
