"""Training augmentations: bases for third parties, the built-in ones, and the pipeline that runs them.

Only the bases are imported here, so that a plugin's module stays light.
"""

from __future__ import annotations

from yolo.data.augment.base import (
    Augmentation,
    BatchAugmentation,
    ColourAugmentation,
    Context,
    Drawn,
    MixAugmentation,
)

__all__ = ["Augmentation", "BatchAugmentation", "ColourAugmentation", "Context", "Drawn", "MixAugmentation"]
