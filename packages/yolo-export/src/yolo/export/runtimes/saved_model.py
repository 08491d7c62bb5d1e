"""Running a TensorFlow SavedModel in a converter process: TensorFlow never comes into this one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.export.backends.base import ExportError
from yolo.export.converter.environment import converter_python
from yolo.export.converter.process import SavedModelProcess
from yolo.export.runtimes.base import in_batches, require_images

METADATA_PATH = Path("assets.extra", "metadata.json")


class SavedModelRuntime:
    """A SavedModel detector; see :class:`yolo.export.runtimes.base.Runtime`. The process ends with this object.

    Args:
        path: the folder.

    Attributes:
        class_names: from ``assets.extra/metadata.json``, else none are known.
        image_size: (width, height), from the input's shape.
        dynamic_batch: whether the first axis of the input is open.
        metadata: what the folder says about itself.

    Raises:
        ExportError: it is no SavedModel of a detector, or there is no TensorFlow to run it with.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "saved_model.pb").is_file():
            raise ExportError(f"{str(self.path)!r} is no SavedModel: there is no saved_model.pb in it")
        self.metadata = _read_metadata(self.path / METADATA_PATH)
        self._process = SavedModelProcess(self.path, python=converter_python())
        shape = self._process.shape
        if len(shape) != 4 or shape[3] != 3 or not shape[1] or not shape[2]:
            self._process.close()
            raise ExportError(f"{str(self.path)!r} takes {shape}, not pictures [batch, H, W, 3] of a fixed size")
        self.image_size = shape[2], shape[1]
        self._batch = shape[0]
        self.dynamic_batch = self._batch is None
        names = self.metadata.get("class_names")
        self.class_names = tuple(map(str, names)) if isinstance(names, list) else ()

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict; see :meth:`yolo.export.runtimes.base.Runtime.predict`."""
        require_images(images, self.path, self.image_size)
        return in_batches(self._run, images, self._batch)

    def close(self) -> None:
        """End the process; nothing can be predicted then."""
        self._process.close()

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._process.predict(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise ExportError(f"{str(path)!r} is damaged: {error}") from error
    return found if isinstance(found, dict) else {}
