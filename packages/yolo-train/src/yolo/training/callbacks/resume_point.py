"""What a run needs to go on exactly where it stopped, and what Lightning does not keep."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from yolo.training.epoch_means import add_running_values, log_running_values, running_values
from yolo.training.position import Position, enter_loops, leave_epoch, settle_loops
from yolo.training.random_state import random_state, set_random_state

logger = logging.getLogger(__name__)


class ResumePoint(Callback):
    """Keeps the place within an epoch, the means logged so far, the last metrics, and the random state.

    Every training has one (:meth:`YOLOModule.configure_callbacks`); it comes before all other callbacks. A checkpoint
    may be written whenever no optimiser step is half done, and by any callback.
    """

    def __init__(self) -> None:
        self._validated = False
        self._before_validation: dict[str, Any] | None = None
        self._restored: dict[str, Any] | None = None
        self._position: Position | None = None
        self._pending_sums: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come first: what the others read has to be there."""
        # A new list, for the present one is being walked through.
        others = [callback for callback in getattr(trainer, "callbacks", []) if callback is not self]
        trainer.callbacks = [self, *others]  # type: ignore[attr-defined]  # set in its constructor

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the state of an earlier process."""
        saved, position = self._restored, self._position
        self._restored = self._position = None
        if position is not None:
            enter_loops(trainer, position)
        if saved is None:
            return
        ranks = saved["ranks"]
        own = ranks[trainer.global_rank] if len(ranks) == trainer.world_size else None
        if own is not None:
            set_random_state(own["random"])
        trainer.callback_metrics.update(saved["metrics"])
        if position is None or position.batch == 0:
            return
        self._validated = saved["validated"]
        self._pending_sums = own["sums"] if own is not None else {}
        restore = getattr(pl_module, "restore_metrics", None)
        if restore is not None and saved["validation"]:  # of this epoch, be it batches ago
            restore(saved["validation"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A batch makes the last validation one of the past."""
        self._validated = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the means of an interrupted epoch."""
        if self._pending_sums:
            add_running_values(trainer, self._pending_sums)
            self._pending_sums = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the random state: a run that is stopped in a validation does it again."""
        if not trainer.sanity_checking:
            self._before_validation = random_state()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on it need not be done again."""
        if not trainer.sanity_checking:
            self._validated, self._before_validation = True, None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means of an epoch of which this process has seen nothing but the end."""
        leave_epoch(trainer)
        if self._pending_sums:
            log_running_values(trainer, pl_module, self._pending_sums)
            self._pending_sums = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write what this process knows, and what the others do."""
        own = {
            "random": self._before_validation or random_state(),
            "sums": {**running_values(trainer), **self._pending_sums},
        }
        ranks: list[Any] = [own]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            torch.distributed.all_gather_object(ranks, _on_cpu(own))
        metrics = getattr(pl_module, "metrics_of_epoch", dict)
        checkpoint["resume"] = {
            "batches": int(trainer.num_training_batches),
            "validated": self._validated,
            "metrics": {name: value.detach().clone() for name, value in trainer.callback_metrics.items()},
            "validation": dict(metrics()),
            "ranks": ranks,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Settle where the run goes on, before Lightning reads it."""
        saved = checkpoint.get("resume")
        self._restored = saved
        count = getattr(getattr(trainer, "datamodule", None), "batches_per_epoch", None)
        self._position = settle_loops(
            checkpoint,
            validated=bool(saved and saved["validated"]),
            batches=count() if count is not None else None,
            saved_batches=saved["batches"] if saved else None,
            accumulate=trainer.accumulate_grad_batches,
        )
        self._tell(trainer)

    @rank_zero_only
    def _tell(self, trainer: Trainer) -> None:
        position = self._position
        assert position is not None
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= position.epoch:
            logger.info(
                "This run is complete: %d of %d epochs; --trainer.max_epochs can be raised.",
                position.epoch,
                trainer.max_epochs,
            )
        elif position.batch:
            logger.info("Going on in epoch %d after batch %d.", position.epoch + 1, position.batch)
        else:
            logger.info("Going on with epoch %d.", position.epoch + 1)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
