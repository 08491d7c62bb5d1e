"""A callback that kills a worker once, for the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class DiesOnce(Callback):
    """Ends the second process in its second epoch as the kernel would, unless a file says that it has done so.

    Args:
        mark: the file.
    """

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Die in the middle of an epoch."""
        if trainer.global_rank == 1 and (trainer.current_epoch, batch_idx) == (1, 1) and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
