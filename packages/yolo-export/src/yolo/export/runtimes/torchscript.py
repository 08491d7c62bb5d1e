"""Running an exported TorchScript file with torch on the CPU."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError
from yolo.export.backends.torchscript import METADATA_FILE
from yolo.export.runtimes.base import in_batches, require_images


class TorchScriptRuntime:
    """A TorchScript detector; see :class:`yolo.export.runtimes.base.Runtime`.

    Args:
        path: a file of ours: another one does not say what its input is.

    Raises:
        ExportError: the file is not there, or was not written by this package.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ExportError(f"{str(self.path)!r} does not exist")
        found = {METADATA_FILE: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says on every call that it would rather compile
                # torch.jit has no types
                loaded = torch.jit.load(str(self.path), "cpu", found)  # type: ignore[no-untyped-call]
                self._module = loaded.eval()
        except RuntimeError as error:
            raise ExportError(f"{str(self.path)!r} cannot be loaded as TorchScript: {_first_line(error)}") from error
        try:
            self.metadata: dict[str, Any] = json.loads(found[METADATA_FILE])
            width, height = self.metadata["image_size"]
            self.class_names = tuple(map(str, self.metadata["class_names"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"{str(self.path)!r} was not written by 'yolo export': it does not say its size"
            ) from error
        self.image_size = int(width), int(height)
        self.dynamic_batch = bool(self.metadata.get("dynamic_batch"))
        self.dynamic_size = bool(self.metadata.get("dynamic_size"))
        self.stride = max(self.metadata.get("strides", [32]))

    @property
    def threads(self) -> int:
        """That torch computes with."""
        return torch.get_num_threads()

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return sum(parameter.numel() for parameter in self._module.parameters())

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        require_images(images, self.path, self.image_size, step=self.stride if self.dynamic_size else None)
        return in_batches(self._run, images, None if self.dynamic_batch else 1)

    @torch.inference_mode()
    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._module(torch.from_numpy(images)).numpy()
        return output


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
