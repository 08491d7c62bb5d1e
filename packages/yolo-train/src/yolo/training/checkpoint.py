"""What a checkpoint holds besides Lightning's own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from yolo.core.models.bundle import BUNDLE_KEY, ModelBundle
from yolo.training.module import YOLOModule


def add_bundle(checkpoint: dict[str, Any], module: YOLOModule) -> None:
    """Put the bundle into a Lightning checkpoint.

    ``state_dict`` holds the training weights for a resume; the bundle holds the weights to use, which are the EMA's
    when there is one. Without EMA both are the same storage and are written once.
    """
    average = module.averaged_state()
    bundle = ModelBundle(
        architecture=module.model.spec.to_dict(),
        state_dict=module.model.state_dict() if average is None else dict(average),
        class_names=module.data.class_names,
        image_size=module.data.image_size,
        extra={
            "weights": "raw" if average is None else "ema",
            "data": _plain(vars(module.data.config)),
            "model": _plain(vars(module.config)),
            "epoch": int(checkpoint.get("epoch", 0)),
            "metrics": module.metrics_of_epoch(),
        },
    )
    checkpoint[BUNDLE_KEY] = bundle.to_dict()


def averaged_state(checkpoint: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the averaged weights of a checkpoint, None when it was trained without EMA."""
    if BUNDLE_KEY not in checkpoint:
        return None
    bundle = ModelBundle.from_dict(checkpoint[BUNDLE_KEY])
    return dict(bundle.state_dict) if bundle.extra.get("weights") == "ema" else None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
