"""Exported files, run by the runtime that the export backend of their suffix names. Knows no backend by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolo.core.boxes.convert import cxcywh_to_xyxy
from yolo.core.decode import Decoded
from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.preprocessing import PREPROCESSING
from yolo.training.validation.subject import Predict, Subject

_PACKAGES = {".onnx": "yolo-export[onnx]", ".tflite": "yolo-export[litert]", "/": "yolo-export[tflite]"}
"""What reads the formats of the specification, for those who have not installed it; ``/`` is a SavedModel folder."""


def open_exported(path: Path, *, device: str = "auto") -> Subject | None:
    """Load an exported file; None where it looks like none.

    Args:
        path: a file or folder that exists.
        device: anything but ``auto`` and ``cpu`` is refused, since the runtime decides.

    Raises:
        UsageError: no installed backend reads it, or a device was asked for.
        MissingRequirementError: the backend needs something that is not installed.
        YoloError: the file cannot be used.
    """
    spec = find_backend(path)
    if spec is None:
        kind = "/" if path.is_dir() else path.suffix.lower()
        if kind not in _PACKAGES:
            return None
        raise UsageError(_nobody_reads(path, kind))
    if device not in ("auto", "cpu"):
        raise UsageError(f"--device {device}: {path} runs where its runtime '{spec.name}' runs; leave --device out")
    runtime = registry("export_backends").load_runtime(spec.name)(path)
    metadata = getattr(runtime, "metadata", None) or {}
    _check_preprocessing(path, metadata)
    predict = _predict_with(runtime, path)
    names = tuple(runtime.class_names) or _count_classes(predict, runtime.image_size)
    return Subject(
        path=path,
        format=spec.name,
        predict=predict,
        deploy=lambda: predict,
        class_names=names,
        names_known=names != tuple(str(number) for number in range(len(names))),
        image_size=runtime.image_size,
        fixed_size=True,
        weights="exported",
        device=torch.device("cpu"),
        device_name=str(getattr(runtime, "device", "cpu")),
        threads=getattr(runtime, "threads", None),
        parameters=getattr(runtime, "parameters", None),
        extra={key: metadata[key] for key in ("architecture", "checkpoint_sha256") if key in metadata},
    )


def find_backend(path: Path) -> ExportBackendSpec | None:
    """Return the backend that owns the suffix of a file or folder and can load it; of several the longest suffix."""
    name = f"{path.resolve().name}/" if path.is_dir() else path.name
    owners = [
        spec
        for spec in registry("export_backends")
        if isinstance(spec, ExportBackendSpec) and spec.runtime and name.lower().endswith(spec.suffix.lower())
    ]
    return max(owners, key=lambda spec: len(spec.suffix), default=None)


def _nobody_reads(path: Path, kind: str) -> str:
    backends = registry("export_backends")
    readable = {spec.suffix for spec in backends if isinstance(spec, ExportBackendSpec) and spec.runtime}
    what = "folders of this kind" if kind == "/" else f"{kind} files"
    text = f"--checkpoint {path}: no export backend that is installed reads {what}"
    if "onnx" in backends:  # yolo-export is there
        return f"{text}, only {', '.join(sorted(readable))}: measure the checkpoint, or one of these"
    return f"{text}: pip install '{_PACKAGES[kind]}'"


def _check_preprocessing(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a file that says it wants pictures in another way than all of ours do."""
    stated = metadata.get("preprocessing")
    if not isinstance(stated, Mapping):
        return
    wanted: dict[str, Any] = {key: PREPROCESSING[key] for key in ("resize", "color", "divide_by")}
    fill = stated.get("letterbox")
    found = dict(stated) | ({"fill": fill["fill"]} if isinstance(fill, Mapping) and "fill" in fill else {})
    for key, value in (wanted | {"fill": PREPROCESSING["letterbox"]["fill"]}).items():
        if key in found and found[key] != value:
            raise YoloError(
                f"{path} wants preprocessing with {key} {found[key]!r}; only {value!r} can be measured here"
            )


def _predict_with(runtime: Any, path: Path) -> Predict:
    def predict(images: Tensor) -> Decoded:
        output = runtime.predict(images.cpu().numpy().astype(np.float32) / np.float32(255))
        rows = 4 + len(runtime.class_names)
        if output.ndim != 3 or len(output) != len(images) or (rows > 4 and output.shape[1] != rows):
            raise YoloError(
                f"{path}: the output has the shape {list(output.shape)}, not [{len(images)}, 4 + classes, anchors]"
                f"{f' with {rows - 4} classes' if rows > 4 else ''}"
            )
        joined = torch.from_numpy(np.ascontiguousarray(output)).transpose(1, 2)
        return Decoded(cxcywh_to_xyxy(joined[..., :4]), joined[..., 4:])

    return predict


def _count_classes(predict: Predict, size: tuple[int, int]) -> tuple[str, ...]:
    """Names for a file that has none, and does not say how many classes it has."""
    found = predict(torch.zeros(1, 3, size[1], size[0], dtype=torch.uint8))
    return tuple(str(number) for number in range(found.scores.shape[2]))
