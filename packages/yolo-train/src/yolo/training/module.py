"""The Lightning module: network, loss and evaluation, and nothing of where data comes from."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from yolo.core.errors import YoloError
from yolo.core.losses import DetectionLoss, LossOutput
from yolo.core.models import Network, build_model, load_spec
from yolo.core.outputs import HeadOutput
from yolo.data.types import Batch
from yolo.training.config import ModelConfig
from yolo.training.datamodule import YOLODataModule
from yolo.training.freezing import Freezing, plan_freezing, wrap_again
from yolo.training.metrics import Evaluation, Evaluator, Protocol
from yolo.training.metrics.detect import detect
from yolo.training.optim import build_optimizer, check_optimizer, settle_groups
from yolo.training.pretrained import resumed_spec, start_from, weight_file
from yolo.training.schedulers import TrainingLength, build_schedule

logger = logging.getLogger(__name__)


class YOLOModule(LightningModule):
    """Trains a YOLO detector."""

    model: Network

    def __init__(self, **kwargs: Any) -> None:
        """Take the settings; the network is built in :meth:`setup`, when the classes are known.

        Args:
            **kwargs: fields of :class:`~yolo.training.config.ModelConfig`.
        """
        super().__init__()
        self.config = ModelConfig(**kwargs)
        self.compute_loss = DetectionLoss(self.config)
        self.freezing = Freezing()
        self._frozen = False
        self.resume_from: str | None = None  # Lightning tells setup() nothing of the checkpoint given to fit()
        self.operating_confidence = self.config.nms_conf_threshold
        self.evaluation: Evaluation | None = None
        self._evaluated_epoch = -1
        self._evaluator: Evaluator | None = None

    @property
    def data(self) -> YOLODataModule:
        """The data this module is trained on."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, YOLODataModule):
            raise YoloError("YOLOModule needs a YOLODataModule: trainer.fit(module, datamodule=YOLODataModule(...))")
        return data

    def setup(self, stage: str) -> None:
        """Build the network for the classes and the image size of the data."""
        if hasattr(self, "model"):
            return
        self._build()
        self.freezing = plan_freezing(self.model, self.config)
        # Before DDP looks at the parameters; which epoch it is, is known when the training starts.
        self._frozen = bool(self.freezing)
        self.freezing.set_gradients(self.model, frozen=True)

    def _build(self) -> None:
        data = self.data
        data.check_classes(self.config.num_classes)
        self.resume_from = self.resume_from or (str(self.trainer.ckpt_path) if self.trainer.ckpt_path else None)
        spec = load_spec(self.config.model_config)
        if self.resume_from:
            # A resumed run gets layers and weights from the checkpoint, whatever it once started from.
            spec = resumed_spec(self.resume_from, spec, class_names=data.class_names)
            self.model = build_model(spec, len(data.class_names), image_size=data.image_size)
        elif self.config.weight_path:
            self.model = start_from(
                weight_file(self.config.weight_path, self.config.model_config),
                spec,
                num_classes=len(data.class_names),
                image_size=data.image_size,
                class_names=data.class_names,
                by_name=self.config.transfer_classes,
                force=self.config.force_weights,
                verbose=self.config.verbose_weights,
            )
        else:
            self.model = build_model(spec, len(data.class_names), image_size=data.image_size)

    def train(self, mode: bool = True) -> YOLOModule:
        """Go into training mode, but for the norm layers that are frozen, or out of it."""
        super().train(mode)
        if mode and self._frozen:
            self.freezing.set_norms(self.model, frozen=True)
        return self

    def on_train_start(self) -> None:
        """Settle what a resumed run knows only now: whether layers are still frozen, and its optimiser's groups."""
        for optimizer in self.trainer.optimizers:
            settle_groups(optimizer, self.config)
        if self.freezing.holds_in(self.trainer.current_epoch):
            _tell(self.freezing.table(self.model))
        self._freeze_or_release()

    def on_train_epoch_start(self) -> None:
        """Release the frozen layers when their time has come."""
        self._freeze_or_release()

    def _freeze_or_release(self) -> None:
        if not self.freezing:
            return
        epoch = self.trainer.current_epoch
        self._frozen = self.freezing.holds_in(epoch)
        self.freezing.set_norms(self.model, frozen=self._frozen)
        if self.freezing.set_gradients(self.model, frozen=self._frozen):
            wrap_again(self.trainer.strategy)
            if not self._frozen:
                count = sum(self.model.get_parameter(name).numel() for name in self.freezing.parameters)
                _tell(f"Epoch {epoch + 1}: the {count:,} frozen parameters are trained from here on.")

    def forward(self, images: torch.Tensor) -> HeadOutput:
        """Run the network on float images ``[B, 3, H, W]`` in 0..1."""
        output: HeadOutput = self.model(images)
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return what is differentiated: the loss per sample, times local batch size and number of processes.

        DDP averages gradients over processes; the product undoes that, so that the step does not depend on how a
        batch is spread (the published code's convention).
        """
        output = self(batch.images.float() / 255)
        loss: LossOutput = self.compute_loss(output, batch.boxes, batch.labels, batch.image_index)
        size = len(batch.images)
        terms = {"train/loss": loss.total.detach(), "train/box": loss.box, "train/cls": loss.cls, "train/dfl": loss.dfl}
        self.log_dict(terms, on_step=True, on_epoch=True, batch_size=size)
        return loss.total * size * self.trainer.world_size

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and schedule; the schedule moves once per optimiser step."""
        optimizer = build_optimizer(self.model, self.config, frozen=self.freezing.parameters)
        length = TrainingLength.of(self.trainer, self.data.optimizer_steps_per_epoch())
        schedule = build_schedule(optimizer, self.config, length)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Go one optimiser step on."""
        scheduler.step()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that the run to go on with used the same kind of optimiser."""
        check_optimizer(checkpoint, self.config)

    def protocol(self, *, weights: str) -> Protocol:
        """Return the thresholds of validation."""
        config = self.config
        return Protocol(
            config.nms_val_conf_threshold,
            config.nms_iou_threshold,
            config.nms_max_detections,
            self.data.image_size,
            weights,
        )

    def on_validation_epoch_start(self) -> None:
        """Begin a new evaluation."""
        self._evaluator = Evaluator(self.data.labels("val"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the detections of a batch, in pixels of the original pictures."""
        assert self._evaluator is not None
        self._evaluator.update(batch.ids.tolist(), detect(self.model, batch, self.protocol(weights="")))

    def on_validation_epoch_end(self) -> None:
        """Evaluate, unless this is Lightning's sanity check, which sees only a few images."""
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is None or self.trainer.sanity_checking:
            return
        self._gather(evaluator)
        weights = "ema" if self.averaged_state() is not None else "raw"
        self.evaluation = evaluator.compute(
            self.protocol(weights=weights), operating_confidence=self.operating_confidence
        )
        self._evaluated_epoch = self.trainer.current_epoch
        self.log_dict(self.evaluation.metrics())

    def _gather(self, evaluator: Evaluator) -> None:
        """Give every process the detections of all, so that all come to the same numbers."""
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, evaluator.found)
            for part in parts:
                evaluator.update(list(part), list(part.values()))

    def metrics_of_epoch(self) -> dict[str, float]:
        """Return the validation metrics of the present epoch; none when it was not validated.

        ``trainer.callback_metrics`` keeps the values of earlier epochs.
        """
        fresh = self.evaluation is not None and self._evaluated_epoch == self.trainer.current_epoch
        return self.evaluation.metrics() if fresh and self.evaluation else {}

    def averaged_state(self) -> dict[str, torch.Tensor] | None:
        """Return the averaged weights of the EMA callback, None without one."""
        for callback in getattr(self.trainer, "callbacks", []):
            average = getattr(callback, "average", None)
            if isinstance(average, dict):
                return average
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that prediction, validation and export need: one file is enough on another machine."""
        from yolo.training.checkpoint import add_bundle

        add_bundle(checkpoint, self)


@rank_zero_only
def _tell(text: str) -> None:
    logger.info("%s", text)
