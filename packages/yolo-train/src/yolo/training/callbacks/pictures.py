"""Pictures of a training: what the network is shown, and what it makes of the validation images."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from yolo.core.errors import UsageError
from yolo.core.results import Detections
from yolo.data.config import DataConfig
from yolo.data.sampler import mixing_epochs
from yolo.data.types import Batch
from yolo.training.module import YOLOModule
from yolo.training.runs import run_folder, writes_files
from yolo.training.showcase import batch_sheet, pairs_sheet, spread, truth_of, write_jpeg

_BATCH = "train_batch"
_BATCH_WITHOUT_MIXES = "train_batch_without_mosaic"
_PREDICTIONS = "predictions"


class TrainingPictures(Callback):
    """Draws training batches with their boxes, and predictions beside the truth, into the run folder and for loggers.

    The first batch of the training becomes ``train_batch.jpg``, the first without mosaics (``close_mosaic_epochs``)
    ``train_batch_without_mosaic.jpg``; predictions become ``metrics/epoch_<N>/predictions.jpg``. TensorBoard and W&B
    get the same pictures; loggers that take none are passed over. Of encrypted images nothing is drawn.

    Args:
        enabled: false draws nothing.
        every_n_epochs: draw predictions in the first validation after so many epochs; 0 draws none.
        images: validation images, spread over the split.
        batch_images: images of a training batch, at most.
    """

    def __init__(self, enabled: bool = True, every_n_epochs: int = 10, images: int = 6, batch_images: int = 16) -> None:
        for name, value, least in (("every_n_epochs", every_n_epochs, 0), ("images", images, 1),
                                   ("batch_images", batch_images, 1)):  # fmt: skip
            if value < least:
                raise UsageError(f"pictures.{name} is {value}; it has to be at least {least}")
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self.images = images
        self.batch_images = batch_images
        self._drawn: list[str] = []
        self._last = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:  # fmt: skip
        """Draw the first batch, and the first one without mixes."""
        if not (self.enabled and writes_files(trainer) and isinstance(pl_module, YOLOModule)):
            return
        name = _name_of_batch(trainer, pl_module.data.config)
        if name is None or name in self._drawn or pl_module.data.images.confidential:
            return
        self._drawn.append(name)
        sheet = batch_sheet(batch, pl_module.data.class_names, count=self.batch_images)
        write_jpeg(run_folder(trainer) / f"{name}.jpg", sheet)
        _send(trainer, name, sheet)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw predictions, when it is time."""
        if not (self.enabled and writes_files(trainer) and isinstance(pl_module, YOLOModule)):
            return
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or not self._is_time(epoch) or pl_module.data.images.confidential:
            return
        found, table = pl_module.detections, pl_module.data.labels("val")
        if not found:
            return
        self._last = epoch
        indices = sorted(found)
        chosen = [indices[at] for at in spread(len(indices), self.images)]
        guesses = []
        for index in chosen:
            one = found[index]
            guess = Detections(one.boxes, one.scores, one.labels, table.class_names, size=table.size(index))
            guesses.append(guess.select(one.scores > pl_module.operating_confidence))
        pictures = [pl_module.data.images.read(table.path(index)) for index in chosen]
        truths = [truth_of(table, index) for index in chosen]
        title = f"prediction, score above {pl_module.operating_confidence:g}"
        sheet = pairs_sheet(pictures, truths, guesses, title=title)
        write_jpeg(run_folder(trainer) / "metrics" / f"epoch_{epoch}" / f"{_PREDICTIONS}.jpg", sheet)
        _send(trainer, _PREDICTIONS, sheet)

    def _is_time(self, epoch: int) -> bool:
        """Whether a multiple of ``every_n_epochs`` lies behind the last drawing: not every epoch need be validated."""
        return self.every_n_epochs > 0 and epoch // self.every_n_epochs > self._last // self.every_n_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return what was drawn, so that a resumed run does not draw it again."""
        return {"drawn": self._drawn, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was drawn."""
        self._drawn, self._last = list(state_dict["drawn"]), int(state_dict["last"])


def _name_of_batch(trainer: Trainer, config: DataConfig) -> str | None:
    """What the batches of the present epoch are called, None where they are like those before."""
    epoch = trainer.current_epoch
    if epoch == 0:
        return _BATCH
    mixed = max(config.mosaic_prob, config.cutmix_prob, config.bbox_mosaic.prob) > 0
    closes = mixing_epochs(trainer.max_epochs, config.close_mosaic_epochs)
    return _BATCH_WITHOUT_MIXES if mixed and epoch == closes else None


def _send(trainer: Trainer, name: str, picture: NDArray[np.uint8]) -> None:
    """Give a picture to every logger that can take one, at the step that metrics are logged at."""
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)  # W&B, and others that follow Lightning's own way
        if callable(log_image):
            log_image(key=f"pictures/{name}", images=[picture], step=step)
            continue
        add_image = getattr(getattr(logger, "experiment", None), "add_image", None)  # TensorBoard
        if callable(add_image):
            add_image(f"pictures/{name}", picture, step, dataformats="HWC")
