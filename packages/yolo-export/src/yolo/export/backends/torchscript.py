"""TorchScript: the traced network in one file, for programs with libtorch and without our code."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from yolo.export.backends.base import ExportRequest
from yolo.export.version import __version__

#: The entry of the archive with what the file says about itself.
METADATA_FILE = "metadata.json"


class TorchScriptBackend:
    """Writes a module from float32 ``[batch, 3, H, W]`` to float32 ``[batch, 4 + classes, anchors]``."""

    options: ClassVar[frozenset[str]] = frozenset({"dynamic_batch", "dynamic_size"})

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Trace and save; see :class:`yolo.export.backends.base.Backend`."""
        width, height = request.module.image_size
        options = request.options
        facts = {
            "dynamic_batch": options.dynamic_batch,
            "dynamic_size": options.dynamic_size,
            "precision": "float32",
        }
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch says on every call that it would rather compile
            example = torch.zeros(1, 3, height, width)
            # torch.jit has no types
            traced = torch.jit.trace(request.module, example, check_trace=False)  # type: ignore[no-untyped-call]
            text = json.dumps({**request.metadata.to_dict(), **facts}, ensure_ascii=False)
            content = io.BytesIO()  # not the file itself: on a full disk torch would end the process
            torch.jit.save(traced, content, _extra_files={METADATA_FILE: text.encode()})
        request.path.write_bytes(content.getbuffer())
        return {**facts, "versions": {"torch": str(torch.__version__), "yolo-export": __version__}}
