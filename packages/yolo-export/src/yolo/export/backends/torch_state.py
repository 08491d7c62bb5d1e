"""A state dict to deploy: the fused weights with their layer list, and nothing of the training."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch

from yolo.core.errors import UsageError
from yolo.core.models.fuse import fuse
from yolo.core.weights.bundle import BUNDLE_KEY
from yolo.export.backends.base import ExportError, ExportOptions, ExportRequest


class TorchStateBackend:
    """Writes a file that everything takes which takes a checkpoint; ``torch.load(..., weights_only=True)`` reads it."""

    options: ClassVar[frozenset[str]] = frozenset({"dynamic_batch", "dynamic_size"})

    def check(self, options: ExportOptions) -> None:
        """Refuse what the layer list in the file would not say."""
        if options.activation is not None:
            raise UsageError("--activation means nothing for the format 'torch': its file is the network as trained")

    def write(self, request: ExportRequest) -> Mapping[str, Any]:
        """Fuse and save; see :class:`yolo.export.backends.base.Backend`."""
        if request.model is None:
            raise ExportError("the format 'torch' needs the model that is exported")
        fused = fuse(request.model.build())
        state = {name: tensor.float().contiguous() for name, tensor in fused.state_dict().items()}
        extra = {"weights": "exported", "class_names_known": request.model.extra.get("class_names_known", True)}
        size = request.metadata.image_size
        model = replace(request.model, state_dict=state, image_size=size, extra=extra)
        content = io.BytesIO()  # not the file itself: torch has words of its own for a full disk
        torch.save({BUNDLE_KEY: model.to_dict()}, content)
        request.path.write_bytes(content.getbuffer())
        return {
            "dynamic_batch": True,
            "dynamic_size": True,
            "precision": "float32",
            "tensors_stored": len(state),
            "versions": {"torch": str(torch.__version__)},
        }
