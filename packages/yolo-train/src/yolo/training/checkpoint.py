"""What a checkpoint holds besides Lightning's own state."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

import yaml
from torch import Tensor

from yolo.core.preprocessing import PREPROCESSING
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.data.encryption.keys import hide_keys
from yolo.data.labels import LabelTable
from yolo.training.module import YOLOModule
from yolo.training.saved_config import ConfigCallback

_DISTRIBUTIONS = ("yolo-core", "yolo-data", "yolo-train", "torch", "torchvision", "lightning", "numpy", "opencv-python")
# A fingerprint reads all labels, a checkpoint is written every epoch, and labels never change.
_fingerprints: WeakKeyDictionary[LabelTable, str] = WeakKeyDictionary()


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
            "versions": versions(),
            "preprocess": PREPROCESSING,
            "dataset": dataset_facts(module),
            "config": _config_text(module),
            "data": _settings(module.data.config),
            "model": _settings(module.config),
            "epoch": int(checkpoint.get("epoch", 0)),
            "step": int(checkpoint.get("global_step", 0)),
            "metrics": module.metrics_of_epoch(),
        },
    )
    checkpoint[BUNDLE_KEY] = bundle.to_dict()


def versions() -> dict[str, str]:
    """Return what a run depends on: Python, our packages, and the libraries that its numbers come from."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree on the path, or OpenCV under its headless name
            continue
    return found


def dataset_facts(module: YOLOModule) -> dict[str, dict[str, Any]]:
    """Return per split that is in use: a fingerprint of the labels, and the numbers of images and objects.

    Two splits have one fingerprint when names, sizes, boxes and classes of all images are the same, whatever folder
    they lie in.
    """
    used = ("train", "val") if module.trainer.limit_val_batches else ("train",)
    tables = {split: module.data.labels(split) for split in used}
    return {
        split: {"fingerprint": _fingerprint(table), "images": len(table), "objects": len(table.labels)}
        for split, table in tables.items()
    }


def averaged_state(checkpoint: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the averaged weights of a checkpoint, None when it was trained without EMA."""
    if BUNDLE_KEY not in checkpoint:
        return None
    bundle = ModelBundle.from_dict(checkpoint[BUNDLE_KEY])
    return dict(bundle.state_dict) if bundle.extra.get("weights") == "ema" else None


def _fingerprint(table: LabelTable) -> str:
    if table not in _fingerprints:
        _fingerprints[table] = table.fingerprint()
    return _fingerprints[table]


def _config_text(module: YOLOModule) -> str | None:
    """Return the resolved configuration as YAML, None for a training that was set up in Python."""
    callbacks = getattr(module.trainer, "callbacks", [])
    return next((callback.text for callback in callbacks if isinstance(callback, ConfigCallback)), None)


def _settings(config: Any) -> Any:
    """Return settings as plain data, without encryption keys."""
    return yaml.safe_load(hide_keys(yaml.safe_dump(_plain(config))))


def _plain(value: Any) -> Any:
    """Return settings as plain data: a checkpoint holds nothing else, or it would not load again."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in value]
    return value if value is None or type(value) in (bool, int, float, str) else str(value)
