"""Exported files, run by the runtime that the export backend of their suffix names. Knows no backend by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.boxes.convert import cxcywh_to_xyxy
from yolo.core.decode import Decoded
from yolo.core.errors import UsageError, YoloError
from yolo.core.plugins import ExportBackendSpec, registry
from yolo.core.preprocessing import PREPROCESSING

_PACKAGES = {".onnx": "yolo-export[onnx]", ".tflite": "yolo-export[litert]", "/": "yolo-export[tflite]"}
"""What reads the formats of the specification, for those who have not installed it; ``/`` is a SavedModel folder."""


class ExportedFile:
    """A detector that was exported to a file, or to a folder for formats that are one.

    Args:
        path: it exists.
        spec: the backend that reads it.

    Attributes:
        path: as given.
        format: name of the backend.
        class_names: one per class.
        names_known: False where the names are only numbers, since the file has none.
        image_size: (width, height) that it takes, pixels.
        step: None where it takes that size only, else any size whose sides are multiples of this.
        metadata: what the file says about itself.
        device_name: where it runs, for people.
        threads: that it computes with; None where the runtime decides.
        parameters: None where the file does not tell.

    Raises:
        MissingRequirementError: the backend needs something that is not installed.
        YoloError: the file cannot be used, or wants pictures in another way than all of ours do.
    """

    def __init__(self, path: Path, spec: ExportBackendSpec) -> None:
        self.path, self.format = path, spec.name
        self._runtime: Any = registry("export_backends").load_runtime(spec.name)(path)
        self.metadata: Mapping[str, Any] = getattr(self._runtime, "metadata", None) or {}
        _check_preprocessing(path, self.metadata)
        width, height = self._runtime.image_size
        self.image_size = int(width), int(height)
        any_size = bool(getattr(self._runtime, "dynamic_size", False))
        self.step: int | None = int(getattr(self._runtime, "stride", 32)) if any_size else None
        self.class_names = tuple(map(str, self._runtime.class_names)) or self._count_classes()
        self.names_known = self.class_names != tuple(str(number) for number in range(len(self.class_names)))
        self.device_name = str(getattr(self._runtime, "device", "cpu"))
        self.threads: int | None = getattr(self._runtime, "threads", None)

    @property
    def parameters(self) -> int | None:
        """Numbers in its weights; None where the file does not tell."""
        told: int | None = getattr(self._runtime, "parameters", None)
        return told

    def __call__(self, images: NDArray[np.uint8]) -> Decoded:
        """Detect on letterboxed pictures.

        Args:
            images: uint8 ``[B, 3, H, W]`` RGB, of a size that the file takes.

        Returns:
            Boxes xyxy in pixels of the canvas, and scores, float32.

        Raises:
            YoloError: the file's output is not of the documented form.
        """
        planes = torch.from_numpy(images).contiguous().float().div_(255).numpy()  # in a quarter of NumPy's time
        output = self._runtime.predict(planes)
        rows = 4 + len(self._runtime.class_names)
        if output.ndim != 3 or len(output) != len(images) or (rows > 4 and output.shape[1] != rows):
            raise YoloError(
                f"{self.path}: the output has the shape {list(output.shape)}, not [{len(images)}, 4 + classes, anchors]"
                f"{f' with {rows - 4} classes' if rows > 4 else ''}"
            )
        joined = torch.from_numpy(np.ascontiguousarray(output)).transpose(1, 2)
        return Decoded(cxcywh_to_xyxy(joined[..., :4]), joined[..., 4:])

    def _count_classes(self) -> tuple[str, ...]:
        """Names for a file that has none, and does not say how many classes it has."""
        width, height = self.image_size
        return tuple(map(str, range(self(np.zeros((1, 3, height, width), np.uint8)).scores.shape[2])))


def open_exported(path: str | os.PathLike[str], *, device: str | torch.device = "auto") -> ExportedFile | None:
    """Load an exported file; None where it looks like none.

    Args:
        path: a file, or a folder of a format that is one.
        device: anything but ``auto`` and ``cpu`` is refused, since the runtime decides.

    Raises:
        UsageError: no installed backend reads it, or a device was asked for.
        MissingRequirementError: the backend needs something that is not installed.
        YoloError: the file cannot be used.
    """
    path = Path(path)
    spec = find_backend(path)
    if spec is None:
        kind = "/" if path.is_dir() else path.suffix.lower()
        if kind not in _PACKAGES:
            return None
        raise UsageError(_nobody_reads(path, kind))
    if str(device) not in ("auto", "cpu"):
        raise UsageError(f"device {device}: {path} runs where its runtime '{spec.name}' runs; leave the device out")
    return ExportedFile(path, spec)


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
    text = f"{path}: no export backend that is installed reads {what}"
    if "onnx" in backends:  # yolo-export is there
        return f"{text}, only {', '.join(sorted(readable))}: take the checkpoint, or one of these"
    return f"{text}: pip install '{_PACKAGES[kind]}'"


def _check_preprocessing(path: Path, metadata: Mapping[str, Any]) -> None:
    stated = metadata.get("preprocessing")
    if not isinstance(stated, Mapping):
        return
    wanted: dict[str, Any] = {key: PREPROCESSING[key] for key in ("resize", "color", "divide_by")}
    fill = stated.get("letterbox")
    found = dict(stated) | ({"fill": fill["fill"]} if isinstance(fill, Mapping) and "fill" in fill else {})
    for key, value in (wanted | {"fill": PREPROCESSING["letterbox"]["fill"]}).items():
        if key in found and found[key] != value:
            raise YoloError(f"{path} wants preprocessing with {key} {found[key]!r}; only {value!r} can be given to it")
