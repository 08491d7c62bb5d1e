"""The file that a training leaves when numbers cease to be finite: a batch and the weights that it met."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo.core.errors import YoloError
from yolo.core.losses import DetectionLoss
from yolo.core.losses.config import LossConfig
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle, bundle_in
from yolo.core.weights.file import WeightsWarning, read_weight_file, untrusted
from yolo.data.types import Batch
from yolo.training.atomic_io import AtomicCheckpointIO
from yolo.training.examine import Examination, examine

_KEY = "replay"
_FORMAT = 1
_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_BATCH = {  # type and number of dimensions of each tensor
    "images": (torch.uint8, 4),
    "boxes": (torch.float32, 2),
    "labels": (torch.int64, 1),
    "image_index": (torch.int64, 1),
    "ids": (torch.int64, 1),
    "source_sizes": (torch.int64, 2),
    "matrices": (torch.float64, 3),
}


@dataclass(frozen=True)
class Circumstances:
    """What else it takes to do a step again, and to tell which one it was.

    Attributes:
        reason: ``loss`` or ``gradient``: what was not finite.
        epoch: counted from 1.
        batch: in the epoch, counted from 1.
        step: optimiser step, counted from 1.
        precision: Lightning's name of it, such as ``16-mixed``.
        factor: what the loss per sample was multiplied with before it was differentiated.
        device: where it happened.
        files: the (first) picture of each sample.
        held_norms: norm layers that were in evaluation mode.
    """

    reason: str = "loss"
    epoch: int = 0
    batch: int = 0
    step: int = 0
    precision: str = "32-true"
    factor: float = 1.0
    device: str = "cpu"
    files: tuple[str, ...] = ()
    held_norms: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch} (optimiser step {self.step})"


@dataclass(frozen=True, eq=False)
class Replay:
    """A batch, the weights that it met, and the settings of the loss.

    Attributes:
        batch: on the CPU.
        model: the weights that were trained, not their averages.
        loss: settings of the loss.
        circumstances: when and how.
    """

    batch: Batch
    model: ModelBundle
    loss: LossConfig
    circumstances: Circumstances

    def save(self, path: Path) -> None:
        """Write the file, atomically; it holds tensors and plain data only."""
        facts = asdict(self.circumstances)
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}
        content = {
            _KEY: {
                "format": _FORMAT,
                "batch": vars(self.batch.to("cpu")),
                "loss": {item.name: getattr(self.loss, item.name) for item in fields(LossConfig)},
                "circumstances": facts,
            },
            BUNDLE_KEY: self.model.to_dict(),
        }
        AtomicCheckpointIO().save_checkpoint(content, path)

    @classmethod
    def load(cls, path: str | Path) -> Replay:
        """Read a file; nothing in it is executed.

        Raises:
            YoloError: it is no such file, damaged, or from a newer version.
        """
        name = str(path)
        content = read_weight_file(path)
        stored = content.get(_KEY)
        if not isinstance(stored, Mapping) or not isinstance(stored.get("format"), int):
            raise YoloError(f"{name!r} holds no batch to run again; 'yolo fit' writes such files into nonfinite/")
        if stored["format"] > _FORMAT:
            raise YoloError(f"{name!r} is from a newer version; update yolo-train")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightsWarning)  # that they may not be finite is what the file is about
            model = bundle_in(content, name=name)
        if model is None:
            raise YoloError(f"{name!r}: the weights are missing")
        with untrusted(name):
            return cls(
                _batch(stored.get("batch"), name),
                model,
                LossConfig(**_known(LossConfig, stored.get("loss"))),
                _circumstances(stored.get("circumstances")),
            )

    def run(self, device: torch.device, *, precision: str | None = None) -> Examination:
        """Do the step again, as it was, and look at every module.

        Args:
            device: where to run.
            precision: another one than it was.

        Raises:
            YoloError: weights, boxes and network do not fit each other.
        """
        facts = self.circumstances
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightsWarning)
            network = self.model.build(name="the replay file").to(device).train()
        for name, module in network.named_modules():
            module.training = module.training and name not in facts.held_norms
        network.train_auxiliary = self.loss.aux_loss_weight > 0
        dtype = _MIXED.get(facts.precision if precision is None else precision)

        def context() -> AbstractContextManager[Any]:
            return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)

        batch = self.batch.to(device)
        return examine(network, batch, DetectionLoss(self.loss), factor=facts.factor, precision=context)


def _batch(stored: Any, name: str) -> Batch:
    tensors: dict[str, Tensor] = {}
    for key, (dtype, dimensions) in _BATCH.items():
        value = stored.get(key) if isinstance(stored, Mapping) else None
        if not isinstance(value, Tensor) or value.dtype != dtype or value.ndim != dimensions:
            raise YoloError(f"{name!r}: 'replay.batch.{key}' is missing or damaged")
        tensors[key] = value.clone()
    boxes, images = len(tensors["boxes"]), len(tensors["images"])
    whole = tensors["boxes"].shape[1] == 4 and tensors["images"].shape[1] == 3 and images > 0
    if not whole or any(len(tensors[key]) != boxes for key in ("labels", "image_index")):
        raise YoloError(f"{name!r}: images and boxes of its batch do not belong together")
    return Batch(**tensors)


def _circumstances(stored: Any) -> Circumstances:
    """Take over what has the type it should have; none of it is needed."""
    known = _known(Circumstances, stored)
    for item in fields(Circumstances):
        if isinstance(known.get(item.name), list):
            known[item.name] = tuple(map(str, known[item.name]))
        if item.name in known and not isinstance(known[item.name], type(item.default)):
            del known[item.name]
    return Circumstances(**known)


def _known(kind: Any, stored: Any) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    return {key: value for key, value in stored.items() if key in names} if isinstance(stored, Mapping) else {}
