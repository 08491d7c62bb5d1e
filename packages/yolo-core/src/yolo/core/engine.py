"""What turns letterboxed pictures into boxes and scores: a network, or a file that an export backend wrote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.core.decode import Decoded, decode
from yolo.core.device import pick_device
from yolo.core.errors import UsageError
from yolo.core.exported import ExportedFile, open_exported
from yolo.core.image_size import DEFAULT_SIZE, check_image_size
from yolo.core.models.fuse import fuse
from yolo.core.models.network import Network
from yolo.core.weights.bundle import ModelBundle
from yolo.core.weights.load import load_bundle

_BATCH_ON_CPU = 1  # a larger one is no faster there, and takes more memory
_BATCH_ELSEWHERE = 8


class Engine(Protocol):
    """Runs a detector.

    Attributes:
        name: of the network or the file, for people.
        class_names: one per class.
        image_size: (width, height) of the canvases, pixels.
        device: where it runs.
        batch_size: pictures that a call should get; it may get fewer or more.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    device: torch.device
    batch_size: int

    def __call__(self, canvases: NDArray[np.uint8]) -> Decoded:
        """Detect on letterboxed pictures.

        Args:
            canvases: uint8 ``[B, H, W, 3]`` RGB.

        Returns:
            Boxes xyxy in pixels of the canvas, and scores, float32.
        """


class NetworkEngine:
    """A network in torch; see :class:`Engine`. It runs a fused copy, the network itself is not changed.

    Args:
        network: of any mode and device.
        class_names: one per class; default: their numbers.
        image_size: side or (width, height) of the canvases, pixels.
        device: where to run it.

    Raises:
        UsageError: a size that the network cannot take, or a device that is not there.
    """

    def __init__(
        self,
        network: Network,
        *,
        class_names: Sequence[str] | None = None,
        image_size: int | str | Sequence[int] = DEFAULT_SIZE,
        device: str | torch.device = "auto",
    ) -> None:
        self.device = pick_device(device)
        self.image_size = check_image_size(image_size, stride=max(network.strides))
        self.class_names = tuple(map(str, range(network.num_classes)) if class_names is None else class_names)
        self.name = network.spec.name
        self.batch_size = _BATCH_ON_CPU if self.device.type == "cpu" else _BATCH_ELSEWHERE
        self._network = fuse(network).to(self.device)

    @torch.inference_mode()
    def __call__(self, canvases: NDArray[np.uint8]) -> Decoded:
        """Detect; see :meth:`Engine.__call__`."""
        pixels = torch.from_numpy(canvases).to(self.device).permute(0, 3, 1, 2)
        # Channels last, said aloud: of a batch of one, torch may not see it, and convolutions take half as long again.
        images = torch.empty(pixels.shape, device=self.device, memory_format=torch.channels_last)
        images.copy_(pixels).div_(255)
        decoded = decode(self._network(images).main)
        return Decoded(decoded.boxes.float(), decoded.scores.float())


class FileEngine:
    """An exported file; see :class:`Engine`.

    Args:
        file: as it was opened.
        image_size: wanted; most files take only their own.

    Raises:
        UsageError: a size is wanted that the file does not take.
    """

    def __init__(self, file: ExportedFile, *, image_size: int | str | Sequence[int] | None = None) -> None:
        self._file = file
        self.name = file.path.name
        self.device = torch.device("cpu")
        self.class_names, self.image_size = file.class_names, file.image_size
        self.batch_size = 1
        if image_size is not None and file.step is not None:
            self.image_size = check_image_size(image_size, stride=file.step)
        elif image_size is not None and check_image_size(image_size, stride=1) != file.image_size:
            width, height = file.image_size
            raise UsageError(f"{str(file.path)!r} takes pictures of {width}x{height}; another size cannot be chosen")

    def __call__(self, canvases: NDArray[np.uint8]) -> Decoded:
        """Detect; see :meth:`Engine.__call__`."""
        return self._file(canvases.transpose(0, 3, 1, 2))


def open_engine(
    model: str | os.PathLike[str] | ModelBundle | Network,
    *,
    image_size: int | str | Sequence[int] | None = None,
    device: str | torch.device = "auto",
    architecture: str | Path | None = None,
) -> Engine:
    """Return what runs a model.

    Args:
        model: a checkpoint or plain weights, an exported file, what was read from one, or a network.
        image_size: of the canvases; default: the model's own, else 640.
        device: for networks; exported files choose for themselves.
        architecture: for a file of plain weights, the network they belong to: a published name or a YAML file.

    Raises:
        UsageError: a wrong argument.
        WeightsError: a checkpoint that cannot be used.
        YoloError: an exported file that cannot be loaded.
    """
    if isinstance(model, Network):
        size = DEFAULT_SIZE if image_size is None else image_size
        return NetworkEngine(model, image_size=size, device=device)
    if not isinstance(model, ModelBundle) and (file := open_exported(model, device=device)) is not None:
        return FileEngine(file, image_size=image_size)
    known = model if isinstance(model, ModelBundle) else load_bundle(model, model=architecture)
    return NetworkEngine(
        known.build(name="the checkpoint" if isinstance(model, ModelBundle) else str(model)),
        class_names=known.class_names,
        image_size=known.image_size if image_size is None else image_size,
        device=device,
    )
