"""What is measured: a checkpoint, or a file that was exported from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo.core.decode import Decoded, decode
from yolo.core.device import pick_device
from yolo.core.errors import UsageError
from yolo.core.exported import ExportedFile, open_exported
from yolo.core.models.counts import count
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.weights.load import load_bundle

Predict = Callable[[Tensor], Decoded]
"""From uint8 ``[B, 3, H, W]`` letterboxed RGB pictures to boxes in pixels of the canvas, and probabilities."""

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A detector that is ready to predict.

    Attributes:
        path: the file, or a folder for formats that are one.
        format: ``checkpoint``, or the name of the export backend.
        predict: as the file was trained.
        deploy: makes the detector whose speed counts: layers fused, no auxiliary branch.
        class_names: one per class.
        names_known: False where the names are only numbers, since the file has none.
        image_size: (width, height), pixels.
        fixed_size: whether it takes no other size.
        weights: ``ema``, ``raw``, or ``exported``.
        device: where it runs; pictures are moved there.
        device_name: for people.
        threads: that it computes with; None where the runtime decides.
        parameters: of the detector as it is deployed; None where the file does not tell.
        extra: what else a checkpoint says about itself.
    """

    path: Path
    format: str
    predict: Predict
    deploy: Callable[[], Predict]
    class_names: tuple[str, ...]
    names_known: bool
    image_size: tuple[int, int]
    fixed_size: bool
    weights: str
    device: torch.device
    device_name: str
    threads: int | None
    parameters: int | None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size on disk, of all files of a folder."""
        files = self.path.rglob("*") if self.path.is_dir() else (self.path,)
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def stem(self) -> str:
        """The first part of the names of its results."""
        return self.path.name if self.path.is_dir() else self.path.stem


def open_subject(path: str | Path, *, device: str = "auto") -> Subject:
    """Load a checkpoint, plain weights, or an exported file through the runtime of the backend that owns its suffix.

    Args:
        path: the file, or the folder of a SavedModel.
        device: of :func:`yolo.core.device.pick_device`; exported files run where their runtime runs.

    Raises:
        UsageError: it is not there, or nothing that is installed reads it.
        YoloError: it is damaged, or needs other preprocessing than there is here.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"--checkpoint {path} does not exist")
    if path.is_dir() and (path / "checkpoints").is_dir():
        raise UsageError(f"--checkpoint {path} is the folder of a run: give {path / 'checkpoints' / 'best.ckpt'}")
    if path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return _open_checkpoint(path, pick_device(device))
    exported = open_exported(path, device=device)
    return _open_checkpoint(path, pick_device(device)) if exported is None else _of_file(exported)


def _open_checkpoint(path: Path, device: torch.device) -> Subject:
    bundle = load_bundle(path)
    network = bundle.build(name=str(path)).to(device)
    deployed = fuse(network)
    return Subject(
        path=path,
        format="checkpoint",
        predict=predict_with(network),
        deploy=lambda: predict_with(deployed),
        class_names=bundle.class_names,
        names_known=bool(bundle.extra.get("class_names_known", True)),
        image_size=bundle.image_size,
        fixed_size=False,
        weights=str(bundle.extra.get("weights", "raw")),
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        parameters=count(deployed, image_size=bundle.image_size).parameters,
        extra=bundle.extra,
    )


def _of_file(file: ExportedFile) -> Subject:
    def predict(images: Tensor) -> Decoded:
        return file(images.cpu().numpy())

    return Subject(
        path=file.path,
        format=file.format,
        predict=predict,
        deploy=lambda: predict,
        class_names=file.class_names,
        names_known=file.names_known,
        image_size=file.image_size,
        fixed_size=file.step is None,
        weights="exported",
        device=torch.device("cpu"),
        device_name=file.device_name,
        threads=file.threads,
        parameters=file.parameters,
        extra={key: file.metadata[key] for key in ("architecture", "checkpoint_sha256") if key in file.metadata},
    )


def predict_with(network: Network) -> Predict:
    """Return the prediction of a network on the device of its weights."""

    @torch.inference_mode()
    def predict(images: Tensor) -> Decoded:
        return decode(network(images.float() / 255).main)

    return predict
