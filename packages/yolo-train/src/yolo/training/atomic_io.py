"""Writing checkpoints so that a kill leaves the old file or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from yolo.core.errors import YoloError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target and rename.

    Lightning's own way goes through the system's temporary folder; where that is another file system, its last step is
    a copy, which a kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint to a local path.

        Raises:
            YoloError: it cannot be written there, or the disk is full.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # or the new name could outlive a power cut, and the content not
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else error.__context__  # torch hides it behind one of its own
            if not isinstance(reason, OSError):
                raise
            raise YoloError(f"{target} could not be written ({reason.strerror or reason})") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
